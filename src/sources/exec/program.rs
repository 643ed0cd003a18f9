//! The program as a child of ours: started, read, started again.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::reader::Reader;
use super::udp::Udp;
use super::{ExecConfig, ExecError};
use crate::sources::arrivals::Arrivals;
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::restart::{RestartDecision, RestartIntensity};
use heartwatch_system::bounded_lines::{BoundedLine, Lines};
use heartwatch_system::clock::Clock;
use heartwatch_system::descendants::Descendants;
use heartwatch_system::log_rate_limit::LogRateLimit;
use heartwatch_system::parent_death::tie_to_this_thread;

/// How long after its end its output is still read: a program that it started may hold the pipe open.
const AFTER_THE_END: Duration = Duration::from_millis(500);
/// For how long lines of its standard error are counted together.
const LOG_PERIOD: Duration = Duration::from_secs(10);
/// Longest line of its standard error in the log, in bytes.
const LOG_LINE_BYTES_MAX: usize = 1_024;

/// How a life of the program ended.
enum End {
    /// By itself, or killed by somebody else.
    Itself { well: bool, how: String },
    /// By us, because it printed one line over and over.
    Stuck { times: u64 },
    /// We end.
    Stopped,
}

pub(super) struct Program {
    config: ExecConfig,
    clock: Clock,
    arrivals: Arrivals,
    stopping: CancellationToken,
    reader: Reader,
    first: Option<Running>,
    intensity: RestartIntensity,
}

/// A process and its pipes. Dropped, it kills the process and what that has started.
struct Running {
    group: Group,
    descendants: Descendants,
    child: Child,
    lines: Lines<ChildStdout>,
    errors: Option<Lines<ChildStderr>>,
}

struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

impl Program {
    /// Starts it for the first time.
    pub(super) fn start(
        config: ExecConfig,
        clock: Clock,
        arrivals: Arrivals,
        stopping: CancellationToken,
    ) -> Result<Self, ExecError> {
        let udp = config.options.udp.as_deref();
        let udp = udp.map(|to| Udp::open(to, config.owner.publisher.clone(), config.owner.host.clone())).transpose()?;
        let first = Some(spawn(&config)?);
        let intensity = RestartIntensity::new(config.limits);
        let reader = Reader::new(config.clone(), udp);
        Ok(Self { config, clock, arrivals, stopping, reader, first, intensity })
    }

    /// Runs it until it ends and is not started again, or until we end.
    pub(super) async fn run(mut self) {
        let publisher = self.config.owner.publisher.clone();
        loop {
            let running = match self.first.take() {
                Some(running) => Ok(running),
                None => spawn(&self.config),
            };
            let end = match running {
                Ok(running) => self.live(running).await,
                Err(error) => End::Itself { well: false, how: error.to_string() },
            };
            match end {
                End::Stopped => break,
                End::Itself { well, how } if !self.config.options.policy.asks_for_restart(well) => {
                    tracing::info!(%publisher, how, "the program ended and is not started again");
                    break;
                }
                End::Itself { how, .. } => tracing::warn!(%publisher, how, "the program ended, it is started again"),
                End::Stuck { times } => {
                    tracing::warn!(%publisher, times, "the program prints one line over and over, it is started again");
                    let what = format!("the program printed one line {times} times in a row and was started again");
                    let rows = self.reader.defect(what, self.clock.wall());
                    self.arrivals.push(rows);
                }
            }
            let limits = self.config.limits;
            let wait = match self.intensity.ended(self.clock.monotonic()) {
                RestartDecision::After(wait) => wait,
                RestartDecision::GiveUp => {
                    let (restarts_max, period) = (limits.restarts_max, limits.period);
                    tracing::error!(%publisher, restarts_max, ?period, "the program ends too often: it is tried again after a pause");
                    self.intensity = RestartIntensity::new(limits);
                    limits.period
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stopping.cancelled() => break,
            }
        }
        self.arrivals.close();
    }

    /// One life, from its start to its end, and to that of all that it has started.
    async fn live(&mut self, running: Running) -> End {
        let Running { group, descendants, child, lines, errors } = running;
        let mut descendants = descendants;
        let (end, deadline) = self.read(&group, &mut descendants, child, lines, errors).await;
        drop(group);
        let killed = descendants.end(deadline).await;
        if !killed.is_empty() {
            let (publisher, processes) = (&self.config.owner.publisher, killed.join(", "));
            tracing::warn!(%publisher, processes, "processes that the program had left behind were killed");
        }
        end
    }

    /// Reads until it has ended; the answer is how, and until when what it has left behind may run.
    async fn read(
        &mut self,
        group: &Group,
        descendants: &mut Descendants,
        mut child: Child,
        mut lines: Lines<ChildStdout>,
        errors: Option<Lines<ChildStderr>>,
    ) -> (End, Instant) {
        let mut log = Log::new(&self.config, self.clock, errors);
        self.reader.begin();
        let mut open = true;
        let mut ended: Option<(End, Instant)> = None;
        loop {
            let until = ended.as_ref().map(|(_, until)| *until);
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => {
                    let deadline = end(group, descendants, &mut child, self.config.end_timeout).await;
                    return (End::Stopped, deadline);
                }
                line = lines.next(), if open => match line {
                    Ok(Some(line)) => {
                        let rows = self.reader.read(line, self.clock.wall());
                        self.arrivals.push(rows);
                        if let Some(times) = self.reader.stuck() {
                            let deadline = end(group, descendants, &mut child, self.config.end_timeout).await;
                            return (End::Stuck { times }, deadline);
                        }
                    }
                    Ok(None) => open = false,
                    Err(error) => {
                        tracing::warn!(publisher = %self.config.owner.publisher, %error, "the program's output cannot be read");
                        open = false;
                    }
                },
                () = log.next(), if log.is_open() => {}
                status = child.wait(), if ended.is_none() => {
                    let (well, how) = said(status);
                    ended = Some((End::Itself { well, how }, Instant::now() + AFTER_THE_END));
                }
                () = at(until) => open = false,
            }
            // one that has closed its output and runs on is as good as ended only when it has
            if (!open || until.is_some_and(|until| until <= Instant::now()))
                && let Some((end, _)) = ended.take()
            {
                log.rest().await;
                return (end, Instant::now());
            }
        }
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// SIGTERM for it and what it has started, SIGKILL for it and its group when it has not ended in time, which is the answer.
async fn end(group: &Group, descendants: &mut Descendants, child: &mut Child, timeout: Duration) -> Instant {
    let deadline = Instant::now() + timeout;
    descendants.terminate(child.id()).await;
    group.signal(Signal::TERM);
    // a stopped process handles SIGTERM only when it goes on
    group.signal(Signal::CONT);
    if tokio::time::timeout_at(deadline, child.wait()).await.is_err() {
        group.signal(Signal::KILL);
        let _ = child.wait().await;
    }
    deadline
}

fn said(status: std::io::Result<ExitStatus>) -> (bool, String) {
    use std::os::unix::process::ExitStatusExt as _;
    match status {
        Ok(status) => {
            let how = match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit code {code}"),
                (_, Some(signal)) => format!("killed by signal {signal}"),
                _ => "ended".to_owned(),
            };
            (status.success(), how)
        }
        Err(error) => (false, format!("cannot be waited for: {error}")),
    }
}

fn spawn(config: &ExecConfig) -> Result<Running, ExecError> {
    let [program, arguments @ ..] = &config.options.words[..] else { return Err(ExecError::Empty) };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HEARTWATCH_")) {
        command.env_remove(name);
    }
    tie_to_this_thread(command.as_std_mut());
    let descendants = Descendants::mark(&mut command);
    let wrong = |source| ExecError::Start { program: program.clone(), source };
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            descendants.forget();
            return Err(wrong(error));
        }
    };
    let group = Group(child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw));
    let no_pipe = || wrong(std::io::Error::other("its output cannot be read"));
    let lines = Lines::new(child.stdout.take().ok_or_else(no_pipe)?, config.line_bytes_max);
    let errors = child.stderr.take().map(|pipe| Lines::new(pipe, LOG_LINE_BYTES_MAX));
    tracing::info!(publisher = %config.owner.publisher, pid = child.id(), program, "the program is started");
    Ok(Running { group, descendants, child, lines, errors })
}

/// Its standard error, into our log.
struct Log {
    publisher: PublisherId,
    clock: Clock,
    lines: Option<Lines<ChildStderr>>,
    limit: LogRateLimit,
    lines_max: u64,
}

impl Log {
    fn new(config: &ExecConfig, clock: Clock, lines: Option<Lines<ChildStderr>>) -> Self {
        let lines_max = config.log_lines_max;
        let limit = LogRateLimit::new(lines_max, LOG_PERIOD);
        Self { publisher: config.owner.publisher.clone(), clock, lines, limit, lines_max }
    }

    const fn is_open(&self) -> bool {
        self.lines.is_some()
    }

    /// Tells the next line, or how many were not told.
    async fn next(&mut self) {
        let Some(lines) = &mut self.lines else { return };
        let line = tokio::select! {
            biased;
            () = self.clock.sleep_until(self.limit.over_at()) => {
                let left_out = self.limit.left_out(self.clock.monotonic());
                return self.tell_left_out(left_out);
            }
            line = lines.next() => line,
        };
        match line {
            Ok(Some(line)) => self.tell(&line),
            Ok(None) | Err(_) => self.lines = None,
        }
    }

    /// What is left after its end, without waiting for who may hold the pipe.
    async fn rest(&mut self) {
        let all = async {
            while self.is_open() {
                self.next().await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(20), all).await;
        let left_out = self.limit.left_out_at_end();
        self.tell_left_out(left_out);
    }

    fn tell(&mut self, line: &BoundedLine) {
        let text = line.text();
        if text.is_empty() {
            return;
        }
        if self.limit.admits(self.clock.monotonic()) {
            tracing::warn!(publisher = %self.publisher, "its standard error: {text}");
        }
    }

    fn tell_left_out(&self, left_out: Option<u64>) {
        if let Some(lines) = left_out {
            let (publisher, lines_max) = (&self.publisher, self.lines_max);
            tracing::warn!(%publisher, lines, lines_max, "lines of its standard error are not told");
        }
    }
}
