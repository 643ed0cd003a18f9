//! A publisher of the stage: one id, one outbox, a line to the broker, and a file of its own at every start.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;
use tokio::sync::Mutex;

use super::daemon::Daemon;
use super::truth::Truth;
use crate::actors::publisher::KEPT_LOG;
use crate::roles::prove::proxy::Proxy;

/// Rows of the file of a publisher that works at its interval.
const ROWS: u64 = 12_000;
/// Rows of the file of one that works as fast as it goes.
const ROWS_AT_FULL_SPEED: u64 = 4_000;
/// The smallest outbox: what it may hold when it is to be full.
const OUTBOX_BYTES_SMALL: &str = "256KiB";

/// How a publisher works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A reading every so often.
    Paced(Duration),
    /// As fast as it goes.
    FullSpeed,
    /// As fast as it goes, into a small outbox that gives up the oldest or refuses.
    SmallOutbox {
        /// Whether it gives up the oldest.
        gives_up: bool,
    },
    /// One reading, and then only heartbeats.
    Quiet,
}

/// One publisher.
pub struct Publisher {
    /// Its id, and the name of its measurement.
    pub id: String,
    /// Its connection to the broker.
    pub line: Proxy,
    /// Its outbox.
    pub outbox: PathBuf,
    folder: PathBuf,
    /// Its process, one fault at a time.
    pub state: Mutex<State>,
}

/// What changes.
pub struct State {
    daemon: Daemon,
    starts: u64,
    /// Starts whose trace may still grow.
    open: Option<u64>,
    /// What it has produced.
    pub truth: Truth,
}

impl Publisher {
    /// One that has not started yet.
    #[must_use]
    pub fn new(id: &str, program: &Path, folder: &Path, line: Proxy) -> Self {
        let daemon = Daemon {
            name: id.to_owned(),
            program: program.to_owned(),
            arguments: Vec::new(),
            environment: vec![
                ("RUST_LOG".into(), format!("warn,{KEPT_LOG}=trace").into()),
                ("HEARTWATCH_MQTT_BACKOFF_MAX".into(), "400ms".into()),
                ("HEARTWATCH_MQTT_KEEP_ALIVE".into(), "2s".into()),
            ],
            folder: folder.to_owned(),
            log: folder.join(format!("{id}.log")),
            running: None,
        };
        let state = State { daemon, starts: 0, open: None, truth: Truth::default() };
        let outbox = folder.join("data").join("outbox").join(format!("{id}.sqlite"));
        Self { id: id.to_owned(), line, outbox, folder: folder.to_owned(), state: Mutex::new(state) }
    }

    /// Starts it with a new file of rows.
    ///
    /// # Errors
    /// When the file cannot be written or the program cannot be started.
    pub fn start(&self, state: &mut State, mode: Mode) -> anyhow::Result<()> {
        self.start_with(state, mode, &[])
    }

    /// Starts it with a new file of rows and more variables.
    ///
    /// # Errors
    /// When the file cannot be written or the program cannot be started.
    pub fn start_with(&self, state: &mut State, mode: Mode, more: &[(&str, &str)]) -> anyhow::Result<()> {
        state.starts += 1;
        let start = state.starts;
        let rows = match mode {
            Mode::Paced(_) => ROWS,
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
        let mqtt = format!("mqtt://{}", self.line.address());
        let mut words: Vec<String> = ["publish", "--id", &self.id, "--mqtt", &mqtt, "--csv"].map(str::to_owned).into();
        words.push(csv.display().to_string());
        words.extend(["--time-column", "none", "--heartbeat", "150ms", "--data-dir", "data"].map(str::to_owned));
        let interval = match mode {
            Mode::Paced(interval) => format!("{}ms", interval.as_millis()),
            Mode::FullSpeed | Mode::SmallOutbox { .. } => "0".to_owned(),
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
    ///
    /// # Errors
    /// When its outbox cannot be read.
    pub fn kill(&self, state: &mut State) -> anyhow::Result<()> {
        state.daemon.kill();
        self.note_end(state)
    }

    /// SIGTERM, and SIGKILL when it has not ended in time.
    ///
    /// # Errors
    /// When it cannot be signalled, or its outbox cannot be read.
    pub async fn end(&self, state: &mut State, timeout: Duration) -> anyhow::Result<()> {
        state.daemon.end(timeout).await?;
        self.note_end(state)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn signal(&self, state: &mut State, signal: Signal) -> anyhow::Result<()> {
        state.daemon.signal(signal)
    }

    /// How it failed, when it has ended by itself with an error.
    pub fn failure(&self, state: &mut State) -> Option<String> {
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

    /// Reads what it has produced so far, also while it runs.
    ///
    /// # Errors
    /// When its outbox cannot be read.
    pub fn look(&self, state: &mut State) -> anyhow::Result<()> {
        if let Some(start) = state.open {
            state.truth.read_trace(start, &self.log(start));
        }
        state.truth.look_into(&self.outbox)
    }

    fn note_end(&self, state: &mut State) -> anyhow::Result<()> {
        self.look(state)?;
        state.open = None;
        Ok(())
    }

    fn log(&self, start: u64) -> PathBuf {
        self.folder.join("publishers").join(format!("{}-{start}.log", self.id))
    }
}
