//! A publisher that faults happen to, one at a time: its process, its network, and how it recovers.

use std::cell::Cell;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;

use super::finding::{Finding, Truth};
use super::record::Mark;
use super::testbed::{START_TIMEOUT, Testbed};
use crate::args::FaultKind;
use crate::prove::proxy::{LinkMode, Proxy};
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::time::Timestamp;
use heartwatch_domain::verdict::Verdict;
use heartwatch_servers::find;
use heartwatch_servers::program::{Launch, Program};

/// Time between two readings of a real publisher.
const READINGS_EVERY: Duration = Duration::from_millis(500);
/// How long a program may take to end once it was told to.
const END_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a right verdict is watched for a change of mind, at most.
const SETTLE_MAX: Duration = Duration::from_millis(600);
/// How many deadlines one is watched, at least, that beats once in each of them.
const SELDOM_BEATS: f64 = 3.1;
/// The longest pause before a fault, so that it falls anywhere between two heartbeats.
const PAUSE_MAX: Duration = Duration::from_millis(700);

/// What makes a container, as far as PIDs go (util-linux).
const UNSHARE: &str = "unshare";
/// How: a PID namespace with a `/proc` of its own, which ends with the process that made it.
const CONTAINER: [&str; 4] = ["--pid", "--fork", "--mount-proc", "--kill-child"];

/// What holds up the writes of another program.
pub(super) const TRACER: &str = "strace";
/// How: whatever has to be on the disk waits for longer than any round lasts.
const DISK_STALLS: [&str; 6] =
    ["-f", "-qq", "-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:delay_enter=600000000"];

/// Whether this user may make a container here.
#[must_use]
pub(super) fn containers_can_be_made() -> bool {
    let mut command = Command::new(UNSHARE);
    command.args(CONTAINER).arg("true").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Which program a subject is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Make {
    /// `heartwatch publish`, as anybody starts it.
    Real,
    /// `heartwatch faulty-publisher`.
    Faulty,
    /// The same in a container, as far as its PID goes.
    Contained,
    /// `heartwatch agent`, heard over a server and Kafka.
    Agent,
}

impl Make {
    /// What the ids of such publishers begin with.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Real => "real",
            Self::Faulty => "faulty",
            Self::Contained => "contained",
            Self::Agent => "agent",
        }
    }
}

/// One publisher under test.
pub(super) struct Subject<'a> {
    stage: &'a Testbed,
    make: Make,
    pub id: PublisherId,
    program: Option<Program>,
    network: Proxy,
    random: fastrand::Rng,
    lives: Cell<u32>,
}

/// What was there before a fault.
struct Before {
    mark: Mark,
    standing: Option<Verdict>,
    at: Timestamp,
}

impl<'a> Subject<'a> {
    /// One that does not run yet, with a network of its own.
    ///
    /// # Errors
    /// When no port is free.
    pub(super) async fn new(
        stage: &'a Testbed,
        make: Make,
        id: PublisherId,
        random: fastrand::Rng,
    ) -> anyhow::Result<Self> {
        let way = match make {
            Make::Agent => stage.server.context("there is no server for agents")?,
            Make::Real | Make::Faulty | Make::Contained => stage.broker,
        };
        let network = Proxy::start(way).await?;
        Ok(Self { stage, make, id, program: None, network, random, lives: Cell::new(0) })
    }

    fn start_program(&mut self) -> anyhow::Result<()> {
        let stage = self.stage;
        let milliseconds = |duration: Duration| format!("{}ms", duration.as_millis());
        let (heartbeat, interval) = (milliseconds(stage.args.heartbeat), milliseconds(READINGS_EVERY));
        let (mqtt, server) = (format!("mqtt://{}", self.network.address()), self.network.address().to_string());
        let (id, itself) = (self.id.as_str(), stage.program.as_os_str());
        let mut arguments: Vec<OsString> = match self.make {
            Make::Real => ["publish", "--csv", "series.csv", "--interval", &interval].map(Into::into).into(),
            Make::Faulty => ["faulty-publisher"].map(Into::into).into(),
            Make::Contained => {
                CONTAINER.map(OsString::from).into_iter().chain([itself.into(), "faulty-publisher".into()]).collect()
            }
            Make::Agent => ["agent", "--name", id, "--server", &server].map(Into::into).into(),
        };
        arguments.extend(["--id", id, "--heartbeat", &heartbeat].map(Into::into));
        if self.make != Make::Agent {
            arguments.extend(["--mqtt", &mqtt].map(Into::into));
        }
        if matches!(self.make, Make::Real | Make::Agent) {
            arguments.extend(["--data-dir", "publishers"].map(Into::into));
        }
        let program = Program::start(Launch {
            program: if self.make == Make::Contained { Path::new(UNSHARE) } else { &stage.program },
            arguments,
            environment: vec![("HEARTWATCH_MQTT_BACKOFF_MAX".into(), "500ms".into())],
            folder: &stage.folder,
            log: &stage.folder.join("publishers.log"),
            takes_commands: matches!(self.make, Make::Faulty | Make::Contained),
        })?;
        self.program = Some(program);
        self.lives.set(self.lives.get() + 1);
        Ok(())
    }

    fn program(&mut self) -> anyhow::Result<&mut Program> {
        self.program.as_mut().with_context(|| format!("{} does not run", self.id))
    }

    /// Has it run, connected and be `alive`.
    ///
    /// # Errors
    /// When it cannot be started, or the monitor does not say so.
    pub(super) async fn be_alive(&mut self) -> anyhow::Result<()> {
        self.network.set(LinkMode::Open);
        if !self.program.as_mut().is_some_and(Program::runs) {
            self.start_program()?;
        }
        let heard = self.stage.record.wait_standing(&self.id, Verdict::Alive, START_TIMEOUT).await;
        anyhow::ensure!(heard, "{} runs and is not alive within {START_TIMEOUT:?}", self.id);
        Ok(())
    }

    /// Freezes or opens its network.
    pub(super) fn line(&self, line: LinkMode) {
        self.network.set(line);
    }

    fn before(&self) -> Before {
        let record = &self.stage.record;
        Before { mark: record.mark(&self.id), standing: record.standing(&self.id), at: self.stage.clock.wall() }
    }

    fn judge(&self, fault: FaultKind, truth: Truth, before: &Before) -> Finding {
        let said = self.stage.record.since(&self.id, before.mark);
        Finding::of(fault, &self.id, truth, before.at, before.standing, &said)
    }

    /// Waits for the right verdict and watches it for a while.
    async fn await_verdict(&mut self, fault: FaultKind, truth: Truth, before: &Before) -> Finding {
        let record = &self.stage.record;
        if record.wait(&self.id, before.mark, truth.verdict(), self.stage.patience()).await {
            let settle = SETTLE_MAX.mul_f64(self.random.f64());
            tokio::time::sleep(settle).await;
        }
        self.judge(fault, truth, before)
    }

    /// What came since is judged as a recovery: nothing but `alive` may come, after what stood before.
    async fn await_recovery(&mut self, fault: FaultKind, before: &Before) -> Finding {
        let patience = self.stage.patience() + START_TIMEOUT;
        self.stage.record.wait(&self.id, before.mark, Verdict::Alive, patience).await;
        let mut finding = self.judge(fault, Truth::Alive, before);
        // How fast it recovers is up to its own backoff, not to the monitor.
        finding.latency = None;
        finding
    }

    /// One round: whole, fault, verdict, recovery, verdict.
    ///
    /// # Errors
    /// When the fault could not be injected.
    pub(super) async fn go_through(&mut self, fault: FaultKind) -> anyhow::Result<Vec<Finding>> {
        self.be_alive().await?;
        tokio::time::sleep(PAUSE_MAX.mul_f64(self.random.f64())).await;
        match fault {
            FaultKind::Kill | FaultKind::ContainerKill => self.killed(fault, true).await,
            FaultKind::Zombie => self.killed(fault, false).await,
            FaultKind::Stop => self.stopped().await,
            FaultKind::Goodbye => self.says_goodbye().await,
            FaultKind::FalseGoodbye => self.is_said_goodbye().await,
            FaultKind::Impostor => self.is_played().await,
            FaultKind::MainThreadEnded => self.loses_its_main_thread().await,
            FaultKind::TwoSpeakers => self.is_doubled().await,
            FaultKind::SeldomBeats => self.beats_seldom().await,
            FaultKind::OutboxStall => self.disk_stalls().await,
            FaultKind::NetworkCut => self.cut_off().await,
            FaultKind::ExitSilently => self.exits_silently().await,
            FaultKind::PidReuse => self.pid_is_reused().await,
            FaultKind::WedgedBeating => self.told(fault, "wedge", "unwedge").await,
            FaultKind::WedgedSilent => self.told(fault, "freeze", "thaw").await,
            _ => self.left_alone(fault).await,
        }
    }

    async fn left_alone(&mut self, fault: FaultKind) -> anyhow::Result<Vec<Finding>> {
        let before = self.before();
        tokio::time::sleep(self.stage.args.deadline.mul_f64(1.0 + self.random.f64())).await;
        Ok(vec![self.judge(fault, Truth::Alive, &before)])
    }

    /// SIGKILL; collected at once as by a good parent, or not before the verdict.
    async fn killed(&mut self, fault: FaultKind, collected: bool) -> anyhow::Result<Vec<Finding>> {
        let before = self.before();
        let mut program = self.program.take().context("it does not run")?;
        self.kill_program(&program)?;
        if collected {
            program.collect(END_TIMEOUT).await?;
        }
        let finding = self.await_verdict(fault, Truth::Dead, &before).await;
        drop(program);
        self.restarted(fault, finding).await
    }

    async fn restarted(&mut self, fault: FaultKind, finding: Finding) -> anyhow::Result<Vec<Finding>> {
        let before = self.before();
        self.start_program()?;
        Ok(vec![finding, self.await_recovery(fault, &before).await])
    }

    async fn stopped(&mut self) -> anyhow::Result<Vec<Finding>> {
        let before = self.before();
        self.program()?.signal(Signal::STOP)?;
        let finding = self.await_verdict(FaultKind::Stop, Truth::Stopped, &before).await;
        // Past the deadline too it stays what it is.
        tokio::time::sleep(self.stage.args.deadline.mul_f64(self.random.f64() * 1.5)).await;
        let finding = Finding { latency: finding.latency, ..self.judge(FaultKind::Stop, Truth::Stopped, &before) };
        let before = self.before();
        self.program()?.signal(Signal::CONT)?;
        Ok(vec![finding, self.await_recovery(FaultKind::Stop, &before).await])
    }

    async fn says_goodbye(&mut self) -> anyhow::Result<Vec<Finding>> {
        let before = self.before();
        let mut program = self.program.take().context("it does not run")?;
        program.signal(Signal::TERM)?;
        let ended = program.collect(END_TIMEOUT).await?;
        anyhow::ensure!(ended.success(), "{} ended with {ended} on SIGTERM", self.id);
        let finding = self.await_verdict(FaultKind::Goodbye, Truth::Ended, &before).await;
        self.restarted(FaultKind::Goodbye, finding).await
    }

    /// A goodbye comes in its name: what it goes on to send refutes that, and then its death is told.
    async fn is_said_goodbye(&mut self) -> anyhow::Result<Vec<Finding>> {
        self.program()?.command("goodbye")?;
        let believed = self.wait_standing(Verdict::Ended).await;
        anyhow::ensure!(believed, "the goodbye in the name of {} did not reach the monitor", self.id);
        let before = self.before();
        let refuted = self.await_recovery(FaultKind::FalseGoodbye, &before).await;
        let killed = self.killed(FaultKind::FalseGoodbye, true).await?;
        Ok(std::iter::once(refuted).chain(killed).collect())
    }

    /// Somebody else says a word in its name: that changes nothing, and its death is told like any other.
    async fn is_played(&mut self) -> anyhow::Result<Vec<Finding>> {
        let before = self.before();
        self.program()?.command("impostor")?;
        tokio::time::sleep(self.stage.args.deadline.mul_f64(1.0 + self.random.f64())).await;
        let unmoved = self.judge(FaultKind::Impostor, Truth::Alive, &before);
        let killed = self.killed(FaultKind::Impostor, true).await?;
        Ok(std::iter::once(unmoved).chain(killed).collect())
    }

    /// Somebody else speaks beside it, for a while.
    async fn is_doubled(&mut self) -> anyhow::Result<Vec<Finding>> {
        let before = self.before();
        self.program()?.command("double")?;
        let finding = self.await_verdict(FaultKind::TwoSpeakers, Truth::Conflict, &before).await;
        tokio::time::sleep(self.stage.args.deadline.mul_f64(self.random.f64())).await;
        let finding =
            Finding { latency: finding.latency, ..self.judge(FaultKind::TwoSpeakers, Truth::Conflict, &before) };
        let before = self.before();
        self.program()?.command("single")?;
        Ok(vec![finding, self.await_recovery(FaultKind::TwoSpeakers, &before).await])
    }

    /// It promises to beat as seldom as its deadline is long, and keeps that: it is alive all the time, and its death is told
    /// like any other.
    async fn beats_seldom(&mut self) -> anyhow::Result<Vec<Finding>> {
        let before = self.before();
        let deadline = self.stage.args.deadline;
        self.program()?.command(&format!("seldom {}", deadline.as_millis()))?;
        tokio::time::sleep(deadline.mul_f64(SELDOM_BEATS + self.random.f64())).await;
        let alive = self.judge(FaultKind::SeldomBeats, Truth::Alive, &before);
        let killed = self.killed(FaultKind::SeldomBeats, true).await?;
        Ok(std::iter::once(alive).chain(killed).collect())
    }

    /// None of its writes gets to the disk, and it goes on.
    async fn disk_stalls(&mut self) -> anyhow::Result<Vec<Finding>> {
        let fault = FaultKind::OutboxStall;
        let tracer = find(TRACER).context("strace is not installed")?;
        let pid = self.program()?.pid().to_string();
        let stage = self.stage;
        let mut arguments: Vec<OsString> = DISK_STALLS.map(Into::into).into();
        arguments.extend(["-p", &pid].map(Into::into));
        let log = stage.folder.join("strace.log");
        let before = self.before();
        let stalls = Program::start(Launch {
            program: &tracer,
            arguments,
            environment: Vec::new(),
            folder: &stage.folder,
            log: &log,
            takes_commands: false,
        })?;
        let finding = self.await_verdict(fault, Truth::Hung, &before).await;
        let before = self.before();
        // It lets go of the publisher when it ends in order.
        stalls.signal(Signal::INT)?;
        drop(stalls);
        Ok(vec![finding, self.await_recovery(fault, &before).await])
    }

    async fn cut_off(&mut self) -> anyhow::Result<Vec<Finding>> {
        let before = self.before();
        self.network.set(if self.random.bool() { LinkMode::Cut } else { LinkMode::Frozen });
        let finding = self.await_verdict(FaultKind::NetworkCut, Truth::Silent, &before).await;
        let before = self.before();
        self.network.set(LinkMode::Open);
        Ok(vec![finding, self.await_recovery(FaultKind::NetworkCut, &before).await])
    }

    async fn exits_silently(&mut self) -> anyhow::Result<Vec<Finding>> {
        let before = self.before();
        let mut program = self.program.take().context("it does not run")?;
        program.command("exit")?;
        let ended = program.collect(END_TIMEOUT).await?;
        anyhow::ensure!(ended.success(), "{} ended with {ended}", self.id);
        let finding = self.await_verdict(FaultKind::ExitSilently, Truth::Dead, &before).await;
        self.restarted(FaultKind::ExitSilently, finding).await
    }

    /// Its last words name a process that lives and started at another time.
    async fn pid_is_reused(&mut self) -> anyhow::Result<Vec<Finding>> {
        let before = self.before();
        let (pid, start_ticks) = (self.stage.bystander.pid, self.stage.bystander.start_ticks + 1);
        self.program()?.command(&format!("claim {pid} {start_ticks}"))?;
        let finding = self.await_verdict(FaultKind::PidReuse, Truth::Dead, &before).await;
        self.program = None;
        self.restarted(FaultKind::PidReuse, finding).await
    }

    async fn told(&mut self, fault: FaultKind, to_fail: &str, to_go_on: &str) -> anyhow::Result<Vec<Finding>> {
        let before = self.before();
        self.program()?.command(to_fail)?;
        let finding = self.await_verdict(fault, Truth::Hung, &before).await;
        let before = self.before();
        self.program()?.command(to_go_on)?;
        Ok(vec![finding, self.await_recovery(fault, &before).await])
    }

    /// Its main thread is a zombie; as long as another thread works it is alive, and when that does nothing it is hung. It ends
    /// as it is, because a main thread does not come back.
    async fn loses_its_main_thread(&mut self) -> anyhow::Result<Vec<Finding>> {
        let fault = FaultKind::MainThreadEnded;
        let before = self.before();
        self.program()?.command("end-main")?;
        tokio::time::sleep(self.stage.args.deadline.mul_f64(self.random.f64())).await;
        let alive = self.judge(fault, Truth::Alive, &before);
        let hung = self.told(fault, "freeze", "thaw").await?;
        let killed = self.killed(fault, true).await?;
        Ok(std::iter::once(alive).chain(hung).chain(killed).collect())
    }

    /// What a fault that hits everybody begins with.
    #[must_use]
    pub(super) fn watched(&self) -> Watched {
        Watched(self.before())
    }

    /// What came of it, with this truth.
    #[must_use]
    pub(super) fn judge_since(&self, fault: FaultKind, truth: Truth, since: &Watched) -> Finding {
        self.judge(fault, truth, &since.0)
    }

    /// Waits until this verdict stands, at most the patience of a proof.
    pub(super) async fn wait_standing(&self, verdict: Verdict) -> bool {
        self.stage.record.wait_standing(&self.id, verdict, self.stage.patience()).await
    }

    /// SIGKILL outside of a round; the next one starts it again.
    ///
    /// # Errors
    /// When it does not run.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        let mut program = self.program.take().context("it does not run")?;
        self.kill_program(&program)?;
        program.collect(END_TIMEOUT).await?;
        Ok(())
    }

    /// SIGKILL to the publisher: in a container to the process in it, not to the one that made the container.
    fn kill_program(&self, program: &Program) -> anyhow::Result<()> {
        match self.make {
            Make::Contained => program.signal_child(Signal::KILL),
            Make::Real | Make::Faulty | Make::Agent => program.signal(Signal::KILL),
        }
    }
}

/// Where the record of a publisher stood when a fault that hits everybody began.
pub(super) struct Watched(Before);
