//! A publisher's program as a child process: started, watched, started again, ended in order.
//!
//! **Run this actor on the thread that lives as long as the program** (the main arbiter). A child never
//! outlives us, even when we are killed with SIGKILL, because the kernel kills it
//! (`PR_SET_PDEATHSIG`, prctl(2)): and it does so when the *thread* that started the child ends.
//!
//! A life of the actor owns its process: when the actor panics or is dropped, the process is killed, and
//! the next life starts another.

mod output;

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use actix::fut::{ActorFutureExt as _, WrapFuture as _};
use actix::{Actor, AsyncContext as _, Context, Handler, MessageResult, ResponseFuture};
use rustix::process::{Pid, kill_process, kill_process_group};
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::output::Output;
use crate::messages::child::{AskChild, ChildEnded, ChildSignal, Restart, Signal};
use crate::messages::drain::Drain;
use crate::messages::notice::Announce;
use crate::runtime::outlet::Outlet;
use heartwatch_domain::notice::{GaveUp, Notice};
use heartwatch_domain::process::{ProcessExit, ProcessIdentity};
use heartwatch_domain::publisher::{HostName, PublisherId};
use heartwatch_domain::restart::{RestartDecision, RestartIntensity, RestartLimits, RestartPolicy};
use heartwatch_domain::status::{ChildEnd, ChildState, ChildStatus};
use heartwatch_domain::time::describe_duration;
use heartwatch_ports::ProcessTable;
use heartwatch_system::clock::Clock;
use heartwatch_system::descendants::Descendants;
use heartwatch_system::parent_death::tie_to_this_thread;

/// How long a program may take to end before a restart on demand kills it.
const RESTART_GRACE: Duration = Duration::from_secs(10);

/// What to run, and what to do when it ends.
#[derive(Debug, Clone)]
pub struct ChildConfig {
    /// Whose program it is; its output is logged under this id.
    pub publisher: PublisherId,
    /// The file that is run.
    pub program: PathBuf,
    /// Given to it as they are: no shell reads them.
    pub arguments: Vec<OsString>,
    /// Variables on top of our own environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Which ends ask for a new start.
    pub policy: RestartPolicy,
    /// How often, and after which wait.
    pub limits: RestartLimits,
    /// Longest line of output that is logged whole, in bytes.
    pub output_line_bytes_max: usize,
    /// Most lines of each stream that are logged within 10 s.
    pub output_lines_max: u64,
    /// How long before a drain's deadline SIGKILL is sent, so that the end is known by the deadline.
    pub kill_margin: Duration,
    /// Who is told how a process ended: the watchdog, when there is one.
    pub report: Option<Outlet<ChildEnded>>,
    /// Who is told that it is not started again, and on which host that is: the notifier, when there is one.
    pub gave_up: Option<(HostName, Outlet<Announce>)>,
}

impl ChildConfig {
    /// Runs the program; restarts it when it fails, within the default limits.
    #[must_use]
    pub fn new(publisher: PublisherId, program: impl Into<PathBuf>) -> Self {
        Self {
            publisher,
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            policy: RestartPolicy::default(),
            limits: RestartLimits::default(),
            output_line_bytes_max: 8 * 1024,
            output_lines_max: 1_000,
            kill_margin: Duration::from_millis(250),
            report: None,
            gave_up: None,
        }
    }
}

/// The actor.
pub struct Child {
    config: ChildConfig,
    clock: Clock,
    table: Arc<dyn ProcessTable>,
    intensity: RestartIntensity,
    state: ChildState,
    identity: Option<ProcessIdentity>,
    /// What the running process has started.
    descendants: Option<Descendants>,
    starts: u64,
    last_end: Option<ChildEnd>,
    output: output::Counts,
    /// Drains that wait for the end. While there is one, nothing is started.
    draining: Option<Vec<oneshot::Sender<()>>>,
    /// The process that was told to end so that another takes its place.
    replacing: Option<u32>,
}

impl Child {
    /// A supervisor that starts the program when it is started itself. The table gives the identity of the process.
    #[must_use]
    pub fn new(config: ChildConfig, clock: Clock, table: Arc<dyn ProcessTable>) -> Self {
        let intensity = RestartIntensity::new(config.limits);
        Self {
            config,
            clock,
            table,
            intensity,
            state: ChildState::Waiting,
            identity: None,
            descendants: None,
            starts: 0,
            last_end: None,
            output: output::Counts::default(),
            draining: None,
            replacing: None,
        }
    }

    fn start_program(&mut self, ctx: &mut Context<Self>) {
        if self.draining.is_some() {
            self.state = ChildState::Ended;
            return;
        }
        // A restart on demand may have come before the one that was waited for.
        if self.process().is_some() {
            return;
        }
        self.starts += 1;
        let publisher = &self.config.publisher;
        let mut command = command(&self.config);
        let descendants = Descendants::mark(&mut command);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                descendants.forget();
                let how = format!("{} cannot be started: {error}", self.config.program.display());
                return self.ended(None, Err(how), ctx);
            }
        };
        // Only a child that was waited for has no PID any more.
        let Some(pid) = child.id() else { return self.ended(None, Err("ended at once".to_owned()), ctx) };
        tracing::info!(%publisher, pid, start = self.starts, program = %self.config.program.display(), "child started");
        self.state = ChildState::Running { pid };
        self.descendants = Some(descendants);
        fail::fail_point!("child::started");

        let output = Output {
            publisher: publisher.clone(),
            clock: self.clock,
            line_bytes_max: self.config.output_line_bytes_max,
            lines_max: self.config.output_lines_max,
            counts: self.output.clone(),
        };
        let (has_ended, ended) = oneshot::channel();
        ctx.spawn(output.log(child.stdout.take(), child.stderr.take(), ended).into_actor(self));

        let table = self.table.clone();
        let identify = async move { tokio::task::spawn_blocking(move || table.identity(pid)).await.ok().flatten() };
        ctx.spawn(identify.into_actor(self).map(move |identity, actor, _| {
            if actor.state == (ChildState::Running { pid }) {
                actor.identity = identity;
            }
        }));

        // The process is collected and the state changed in one go, so no signal is ever sent to a PID
        // that has been given to another process.
        let end = async move { child.wait().await };
        ctx.spawn(end.into_actor(self).map(move |status, actor, ctx| {
            let _ = has_ended.send(());
            actor.ended(Some(pid), status.map_err(|error| format!("cannot be waited for: {error}")), ctx);
        }));
    }

    fn ended(&mut self, pid: Option<u32>, status: Result<ExitStatus, String>, ctx: &mut Context<Self>) {
        let publisher = &self.config.publisher;
        let (code, signal) = status.as_ref().map_or((None, None), |status| (status.code(), status.signal()));
        let ended_well = status.as_ref().is_ok_and(ExitStatus::success);
        let how = match (code, signal) {
            (Some(code), _) => format!("exit code {code}"),
            (_, Some(signal)) => format!("killed by signal {signal}"),
            _ => status.err().unwrap_or_default(),
        };
        self.identity = None;
        let at = self.clock.wall();
        self.last_end = Some(ChildEnd { pid, at, code, signal, how: how.clone() });
        if let (Some(pid), Some(report)) = (pid, self.config.report.clone()) {
            let how = signal.map_or_else(|| how.clone(), |signal| format!("signal {signal}"));
            let ended = ChildEnded { publisher: publisher.clone(), exit: ProcessExit { pid, signal, how, at } };
            let tell = async move {
                if let Err(error) = report.deliver(ended).await {
                    tracing::debug!(%error, "nobody was told how a child ended");
                }
            };
            ctx.spawn(tell.into_actor(self));
        }
        let waiting = self.draining.as_mut().map(std::mem::take).unwrap_or_default();
        if let Some(descendants) = self.descendants.take() {
            let id = publisher.clone();
            let sweep = async move {
                let killed = descendants.end(Instant::now()).await;
                if !killed.is_empty() {
                    tracing::warn!(publisher = %id, processes = killed.join(", "), "what the child had left behind was killed");
                }
                answer(waiting);
            };
            ctx.spawn(sweep.into_actor(self));
        } else {
            answer(waiting);
        }
        if self.draining.is_some() {
            tracing::info!(%publisher, pid, how, "child ended");
            self.state = ChildState::Ended;
        } else if pid.is_some() && self.replacing == pid {
            self.replacing = None;
            tracing::info!(%publisher, pid, how, "child ended as it was told to, starting it again");
            self.state = ChildState::Waiting;
            self.start_program(ctx);
        } else if !self.config.policy.asks_for_restart(ended_well) {
            tracing::info!(%publisher, pid, how, "child ended and is not started again");
            self.state = ChildState::Ended;
        } else {
            match self.intensity.ended(self.clock.monotonic()) {
                RestartDecision::After(wait) => {
                    tracing::warn!(%publisher, pid, how, wait_ms = wait.as_millis(), "child ended, restarting");
                    self.state = ChildState::Waiting;
                    ctx.run_later(wait, Self::start_program);
                }
                RestartDecision::GiveUp => {
                    let RestartLimits { restarts_max, period, .. } = self.config.limits;
                    tracing::error!(%publisher, pid, how, restarts_max, ?period, "child ended too often, giving up");
                    self.state = ChildState::GaveUp;
                    self.announce_end(&how, ctx);
                }
            }
        }
    }

    /// Tells that a person has to look after it now.
    fn announce_end(&self, how: &str, ctx: &mut Context<Self>) {
        let Some((host, outlet)) = self.config.gave_up.clone() else { return };
        let (publisher, limits) = (self.config.publisher.clone(), self.config.limits);
        let (restarts_max, period) = (limits.restarts_max, describe_duration(limits.period));
        let summary =
            format!("given up: it ended more than {restarts_max} times within {period} of running, last by {how}");
        let notice = Notice::GaveUp(GaveUp { publisher, host, at: self.clock.wall(), summary });
        let announce = async move {
            if let Err(error) = outlet.deliver(Announce(Arc::new(vec![notice]))).await {
                tracing::error!(%error, "nobody was told that a child is not started again");
            }
        };
        ctx.spawn(announce.into_actor(self));
    }

    /// The running process, to send it a signal.
    fn process(&self) -> Option<Pid> {
        match self.state {
            ChildState::Running { pid } => i32::try_from(pid).ok().and_then(Pid::from_raw),
            _ => None,
        }
    }

    fn signal(&self, signal: rustix::process::Signal) -> Option<u32> {
        let pid = self.process()?;
        if let Err(error) = kill_process(pid, signal) {
            tracing::warn!(publisher = %self.config.publisher, ?pid, ?signal, %error, "child cannot be signalled");
            return None;
        }
        u32::try_from(pid.as_raw_nonzero().get()).ok()
    }

    /// SIGKILL for the child and what it has started in its process group.
    fn kill(&mut self, _: &mut Context<Self>) {
        if let Some(pid) = self.process() {
            tracing::warn!(publisher = %self.config.publisher, ?pid, "child did not end in time, killing it");
            let _ = kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Tells those who wait for the end that it has come.
fn answer(waiting: Vec<oneshot::Sender<()>>) {
    for drain in waiting {
        let _ = drain.send(());
    }
}

/// The program as a command whose process dies with this thread.
fn command(config: &ChildConfig) -> Command {
    let mut command = Command::new(&config.program);
    command
        .args(&config.arguments)
        .envs(config.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own: Ctrl-C in the terminal reaches us alone, and we end the children in order.
        .process_group(0)
        .kill_on_drop(true);
    tie_to_this_thread(command.as_std_mut());
    command
}

impl Actor for Child {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.start_program(ctx);
    }
}

crate::messages::progress::answers_progress!(Child);

impl Handler<AskChild> for Child {
    type Result = MessageResult<AskChild>;

    fn handle(&mut self, _: AskChild, _: &mut Context<Self>) -> Self::Result {
        MessageResult(ChildStatus {
            publisher: self.config.publisher.clone(),
            state: self.state.clone(),
            identity: self.identity.clone(),
            starts: self.starts,
            last_end: self.last_end.clone(),
            lines_cut: self.output.cut.get(),
            lines_left_out: self.output.left_out.get(),
        })
    }
}

impl Handler<Signal> for Child {
    type Result = Option<u32>;

    fn handle(&mut self, Signal(signal): Signal, _: &mut Context<Self>) -> Self::Result {
        use rustix::process::Signal as S;
        self.signal(match signal {
            ChildSignal::Terminate => S::TERM,
            ChildSignal::Kill => S::KILL,
            ChildSignal::Stop => S::STOP,
            ChildSignal::Continue => S::CONT,
            ChildSignal::HangUp => S::HUP,
        })
    }
}

impl Handler<Restart> for Child {
    type Result = Option<u32>;

    /// SIGTERM now, SIGKILL when that has not ended it in time.
    fn handle(&mut self, _: Restart, ctx: &mut Context<Self>) -> Self::Result {
        if self.draining.is_some() {
            return None;
        }
        if self.process().is_none() {
            // Somebody wants it to run: what happened before does not count.
            self.intensity = RestartIntensity::new(self.config.limits);
            self.start_program(ctx);
            return self.process().and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok());
        }
        // A second SIGTERM would mean "at once": somebody who asks twice still wants it in order.
        if self.replacing.is_some() {
            return self.replacing;
        }
        let pid = self.signal(rustix::process::Signal::TERM)?;
        self.signal(rustix::process::Signal::CONT);
        self.replacing = Some(pid);
        ctx.run_later(RESTART_GRACE, move |actor, ctx| {
            if actor.replacing == Some(pid) {
                actor.kill(ctx);
            }
        });
        Some(pid)
    }
}

impl Handler<Drain> for Child {
    type Result = ResponseFuture<()>;

    /// SIGTERM now, SIGKILL shortly before the deadline; the reply comes when the process is collected.
    fn handle(&mut self, Drain { deadline }: Drain, ctx: &mut Context<Self>) -> Self::Result {
        let (done, collected) = oneshot::channel();
        if self.process().is_some() {
            self.draining.get_or_insert_default().push(done);
            self.signal(rustix::process::Signal::TERM);
            // A stopped process handles SIGTERM only when it goes on.
            self.signal(rustix::process::Signal::CONT);
            let kill_at = deadline.checked_sub(self.config.kill_margin).unwrap_or(deadline);
            ctx.spawn(tokio::time::sleep_until(kill_at).into_actor(self).map(|(), actor, ctx| actor.kill(ctx)));
        } else {
            self.draining.get_or_insert_default();
            self.state = ChildState::Ended;
        }
        Box::pin(async move {
            let _ = collected.await;
        })
    }
}
