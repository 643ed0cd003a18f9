//! A server: started, killed, stopped, continued and started again on the same port and files.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;

use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::program::{Launch, Program};

/// How long one may take to listen, on a machine that has other things to do.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// How often one that does not listen yet is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How to start it, and the process while it runs.
#[derive(Debug)]
pub struct Server {
    /// What it is called in messages.
    pub name: String,
    /// Its file.
    pub program: PathBuf,
    /// Given to it as they are, at every start.
    pub arguments: Vec<OsString>,
    /// Its variables.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it runs.
    pub folder: PathBuf,
    /// Where its output goes.
    pub log: PathBuf,
    /// Where it listens, once it is ready; none: nobody waits for that.
    pub listens: Option<SocketAddr>,
    /// The process.
    pub running: Option<Program>,
}

impl Server {
    /// One without arguments that is not started yet; what it says goes to `NAME.log` in its folder.
    #[must_use]
    pub fn new(name: &str, program: &Path, folder: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            folder: folder.to_owned(),
            log: folder.join(format!("{name}.log")),
            listens: None,
            running: None,
        }
    }

    /// Starts it, and does not wait for more.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&mut self) -> anyhow::Result<()> {
        self.start_with(&[])
    }

    /// Starts it, and waits until it listens.
    ///
    /// # Errors
    /// When it cannot be started, has ended by itself, or does not listen in time.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.spawn()?;
        self.until_it_listens().await
    }

    /// Waits until it listens.
    ///
    /// # Errors
    /// When it has ended by itself, or does not listen in time, with the last of what it has said.
    pub async fn until_it_listens(&mut self) -> anyhow::Result<()> {
        let Some(address) = self.listens else { return Ok(()) };
        let end = Instant::now() + READY_TIMEOUT;
        while TcpStream::connect(address).await.is_err() {
            if self.ended_by_itself() {
                anyhow::bail!("{} ended by itself: {}", self.name, self.last_words());
            }
            let (name, timeout) = (&self.name, READY_TIMEOUT);
            anyhow::ensure!(Instant::now() < end, "{name} does not listen on {address} after {timeout:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// The address on which it listens.
    ///
    /// # Panics
    /// When it was made without one.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        #[expect(clippy::expect_used, reason = "whoever makes one without an address does not ask for it")]
        self.listens.expect("a server with an address")
    }

    /// Starts it once with one of its arguments replaced.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_in(&mut self, argument: &str, other: &str) -> anyhow::Result<()> {
        let own = self.arguments.clone();
        for word in self.arguments.iter_mut().filter(|word| *word == argument) {
            *word = other.into();
        }
        let started = self.spawn();
        self.arguments = own;
        started
    }

    /// Starts it with more variables.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_with(&mut self, more: &[(&str, &str)]) -> anyhow::Result<()> {
        let more = more.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        self.running = Some(Program::start(Launch {
            program: &self.program,
            arguments: self.arguments.clone(),
            environment: self.environment.iter().cloned().chain(more).collect(),
            folder: &self.folder,
            log: &self.log,
            takes_commands: false,
        })?);
        Ok(())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not run, or has not ended in time.
    pub async fn collect(&mut self, timeout: Duration) -> anyhow::Result<ExitStatus> {
        let running = self.running.as_mut().with_context(|| format!("{} does not run", self.name))?;
        let status = running.collect(timeout).await.with_context(|| self.name.clone())?;
        self.running = None;
        Ok(status)
    }

    /// SIGSTOP, until it stands still: connections stay, nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn stop(&self) -> anyhow::Result<()> {
        self.running.as_ref().with_context(|| format!("{} does not run", self.name))?.stop()
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.running.as_ref().with_context(|| format!("{} does not run", self.name))?.signal(Signal::CONT)
    }

    /// Its PID while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(Program::pid)
    }

    /// SIGKILL, and waits for its end.
    pub fn kill(&mut self) {
        // dropped, it is killed and collected
        self.running = None;
    }

    /// SIGTERM, and SIGKILL when it has not ended in time. Answers its exit code when it ended by itself.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub async fn end(&mut self, timeout: Duration) -> anyhow::Result<Option<i32>> {
        let Some(running) = &mut self.running else { return Ok(None) };
        if running.runs() {
            running.signal(Signal::TERM)?;
        }
        let ended = running.collect(timeout).await.ok();
        self.running = None;
        Ok(ended.and_then(|status| status.code()))
    }

    /// Sends a signal; one that does not run any more is left alone.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        let Some(running) = &mut self.running else { return Ok(()) };
        if running.runs() { running.signal(signal).with_context(|| self.name.clone()) } else { Ok(()) }
    }

    /// Whether it runs; says so when it was started and has ended by itself.
    pub fn ended_by_itself(&mut self) -> bool {
        self.running.as_mut().is_some_and(|running| !running.runs())
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}
