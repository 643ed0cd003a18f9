//! A publisher of the stage: one id, one outbox, a line to the broker, and a file of its own at every start.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;
use tokio::sync::Mutex;

use super::outbox_file::OutboxFile;
use super::truth::{Life, Truth};
use crate::prove::proxy::Proxy;
use heartwatch_domain::publisher::Incarnation;
use heartwatch_servers::program::Program;
use heartwatch_servers::server::Server;
use heartwatch_system::log::KEPT_LOG;

/// Rows of the file of a publisher that works at its interval.
const ROWS: u64 = 12_000;
/// Rows of the file of one that works as fast as it goes.
const ROWS_AT_FULL_SPEED: u64 = 4_000;
/// The smallest outbox: what it may hold when it is to be full.
const OUTBOX_BYTES_SMALL: &str = "256KiB";

/// How a publisher works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// A reading every so often.
    Paced(Duration),
    /// As fast as it goes.
    FullSpeed,
    /// As fast as it goes, for as long as it is left alone.
    Flood,
    /// As fast as it goes, into a small outbox that gives up the oldest or refuses.
    SmallOutbox {
        /// Whether it gives up the oldest.
        gives_up: bool,
    },
    /// One reading, and then only heartbeats.
    Quiet,
}

/// Which data directory a publisher works in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Place {
    /// Its own.
    #[default]
    LocalHost,
    /// Another one.
    Elsewhere,
}

impl Place {
    const fn data_dir(self) -> &'static str {
        match self {
            Self::LocalHost => "kept",
            Self::Elsewhere => "kept-elsewhere",
        }
    }
}

/// One publisher.
pub(super) struct Publisher {
    /// Its id, and the name of its measurement.
    pub id: String,
    /// Its connection to the broker.
    pub line: Proxy,
    pub outbox: PathBuf,
    /// Its outbox while it works elsewhere.
    pub outbox_elsewhere: PathBuf,
    folder: PathBuf,
    /// Its process, one fault at a time.
    pub state: Mutex<State>,
}

/// What changes.
pub(super) struct State {
    daemon: Server,
    starts: u64,
    /// Starts whose trace may still grow.
    open: Option<u64>,
    /// Where it works.
    place: Place,
    /// Whether there is anything of it elsewhere.
    pub was_elsewhere: bool,
    /// What it has produced.
    pub truth: Truth,
}

impl Publisher {
    /// One that has not started yet.
    #[must_use]
    pub(super) fn new(id: &str, program: &Path, folder: &Path, line: Proxy) -> Self {
        let environment = vec![
            ("RUST_LOG".into(), format!("warn,{KEPT_LOG}=trace").into()),
            ("HEARTWATCH_MQTT_BACKOFF_MAX".into(), "400ms".into()),
            ("HEARTWATCH_MQTT_KEEP_ALIVE".into(), "2s".into()),
        ];
        let daemon = Server { environment, ..Server::new(id, program, folder) };
        let truth = Truth::default();
        let state = State { daemon, starts: 0, open: None, place: Place::LocalHost, was_elsewhere: false, truth };
        let outbox = |place: Place| folder.join(place.data_dir()).join("outbox").join(format!("{id}.sqlite"));
        Self {
            id: id.to_owned(),
            line,
            outbox: outbox(Place::LocalHost),
            outbox_elsewhere: outbox(Place::Elsewhere),
            folder: folder.to_owned(),
            state: Mutex::new(state),
        }
    }

    /// Starts it with a new file of rows.
    ///
    /// # Errors
    /// When the file cannot be written or the program cannot be started.
    pub(super) fn start(&self, state: &mut State, mode: Mode) -> anyhow::Result<()> {
        self.start_with(state, mode, &[])
    }

    /// Starts it in another data directory, until it is started again.
    ///
    /// # Errors
    /// When the file cannot be written or the program cannot be started.
    pub(super) fn start_elsewhere(&self, state: &mut State, mode: Mode) -> anyhow::Result<()> {
        state.was_elsewhere = true;
        self.start_in(state, mode, Place::Elsewhere, &[])
    }

    /// Starts it as a program's publisher: each line is a row. The answer comes before its end, which comes by itself.
    ///
    /// # Errors
    /// When the program cannot be written or started.
    pub(super) fn start_program(&self, state: &mut State, lines: &str) -> anyhow::Result<()> {
        state.starts += 1;
        let printed = self.folder.join(format!("{}.lines", self.id));
        std::fs::write(&printed, lines).context("cannot write the lines of a program")?;
        let mut words = self.words(Place::LocalHost);
        words.extend(["--exec".to_owned(), format!("cat {}", printed.display())]);
        let line_protocol = r#"{"format":"line-protocol"}"#;
        words.extend(["--exec-restart", "never", "--schema", line_protocol, "--interval", "0"].map(str::to_owned));
        state.daemon.arguments = words.into_iter().map(Into::into).collect();
        state.daemon.log = self.log(state.starts);
        state.daemon.spawn()
    }

    /// Whether it runs.
    pub(super) fn works(&self, state: &mut State) -> bool {
        state.daemon.running.as_mut().is_some_and(Program::runs)
    }

    /// Waits for the end of a program's publisher. Answers how it failed, where it did.
    pub(super) async fn program_ended(&self, state: &mut State, timeout: Duration) -> Option<String> {
        let running = state.daemon.running.as_mut()?;
        if running.collect(timeout).await.is_err() {
            return Some(format!("{} has not ended within {timeout:?}: {}", self.id, state.daemon.last_words()));
        }
        let failure = self.failure(state);
        state.daemon.running = None;
        failure
    }

    fn words(&self, place: Place) -> Vec<String> {
        let mqtt = format!("mqtt://{}", self.line.address());
        ["publish", "--id", &self.id, "--mqtt", &mqtt, "--heartbeat", "150ms", "--data-dir", place.data_dir()]
            .map(str::to_owned)
            .into()
    }

    /// Starts it with a new file of rows and more variables.
    ///
    /// # Errors
    /// When the file cannot be written or the program cannot be started.
    pub(super) fn start_with(&self, state: &mut State, mode: Mode, more: &[(&str, &str)]) -> anyhow::Result<()> {
        self.start_in(state, mode, Place::LocalHost, more)
    }

    fn start_in(&self, state: &mut State, mode: Mode, place: Place, more: &[(&str, &str)]) -> anyhow::Result<()> {
        state.starts += 1;
        state.place = place;
        let start = state.starts;
        let rows = match mode {
            Mode::Paced(_) | Mode::Flood => ROWS,
            Mode::FullSpeed | Mode::SmallOutbox { .. } => ROWS_AT_FULL_SPEED,
            Mode::Quiet => 1,
        };
        let csv = self.folder.join(format!("{}.csv", self.id));
        let mut text = String::from("life,row\n");
        for row in 1..=rows {
            let _ = writeln!(text, "{start},{row}");
        }
        // the life before may still have the old file open: a new one takes its place
        let part = csv.with_extension("part");
        std::fs::write(&part, text).and_then(|()| std::fs::rename(&part, &csv)).context("cannot write rows")?;
        let mut words = self.words(place);
        words.extend(["--csv".to_owned(), csv.display().to_string()]);
        words.extend(["--time-column", "none"].map(str::to_owned));
        let interval = match mode {
            Mode::Paced(interval) => format!("{}ms", interval.as_millis()),
            Mode::FullSpeed | Mode::Flood | Mode::SmallOutbox { .. } => "0".to_owned(),
            Mode::Quiet => "1h".to_owned(),
        };
        words.extend(["--interval".to_owned(), interval]);
        if let Mode::SmallOutbox { gives_up } = mode {
            let policy = if gives_up { "give-up-oldest" } else { "refuse-new" };
            words.extend(["--outbox-bytes-max", OUTBOX_BYTES_SMALL, "--outbox-full", policy].map(str::to_owned));
        }
        if mode != Mode::Quiet {
            words.push("--once".to_owned());
        }
        state.daemon.arguments = words.into_iter().map(Into::into).collect();
        state.daemon.log = self.log(start);
        state.open = Some(start);
        state.daemon.start_with(more)
    }

    /// SIGKILL; then what it has produced is known.
    pub(super) fn kill(&self, state: &mut State) {
        state.daemon.kill();
        self.note_end(state);
    }

    /// SIGTERM, and SIGKILL when it has not ended in time.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub(super) async fn end(&self, state: &mut State, timeout: Duration) -> anyhow::Result<()> {
        state.daemon.end(timeout).await?;
        self.note_end(state);
        Ok(())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub(super) fn signal(&self, state: &mut State, signal: Signal) -> anyhow::Result<()> {
        state.daemon.signal(signal)
    }

    /// How it failed, when it has ended by itself with an error.
    pub(super) fn failure(&self, state: &mut State) -> Option<String> {
        let running = state.daemon.running.as_mut()?;
        if running.runs() {
            return None;
        }
        // a file that has come to its end ends with 0
        let code = running.exit_code();
        (code != Some(0)).then(|| {
            format!("{} (start {}) ended by itself with {code:?}: {}", self.id, state.starts, state.daemon.last_words())
        })
    }

    /// What its outbox holds, while it runs.
    ///
    /// # Errors
    /// When it cannot be read at this moment.
    pub(super) fn outbox_in_use(&self) -> rusqlite::Result<OutboxFile> {
        OutboxFile::in_use(&self.outbox)
    }

    /// What its outbox elsewhere holds.
    pub(super) fn left_elsewhere(&self) -> OutboxFile {
        OutboxFile::left(&self.outbox_elsewhere, &self.folder.join("aside"))
    }

    /// What its outbox holds when it does not run.
    pub(super) fn left(&self) -> OutboxFile {
        OutboxFile::left(&self.outbox, &self.folder.join("aside"))
    }

    /// Reads what it has produced so far, while it runs.
    pub(super) fn look(&self, state: &mut State) {
        let Some(start) = state.open else { return };
        state.truth.read_trace(start, &self.log(start));
        // what cannot be read now is known at its end
        let outbox = if state.place == Place::LocalHost { &self.outbox } else { &self.outbox_elsewhere };
        if let Ok(found) = OutboxFile::in_use(outbox) {
            state.truth.note_outbox(start, &found);
        }
    }

    /// The life that it is in, as far as it has been looked at.
    pub(super) fn current(&self, state: &State) -> Option<(Incarnation, Life)> {
        // not the largest one: a life whose clock was ahead is larger
        let mut lives = state.truth.lives.iter().rev();
        lives.find(|(_, life)| Some(life.start) == state.open).map(|(incarnation, life)| (*incarnation, *life))
    }

    fn note_end(&self, state: &mut State) {
        let Some(start) = state.open.take() else { return };
        state.truth.read_trace(start, &self.log(start));
        let found = if state.place == Place::LocalHost { self.left() } else { self.left_elsewhere() };
        state.truth.note_outbox(start, &found);
    }

    fn log(&self, start: u64) -> PathBuf {
        self.folder.join("publishers").join(format!("{}-{start}.log", self.id))
    }
}
