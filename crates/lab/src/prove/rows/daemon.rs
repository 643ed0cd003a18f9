//! A server of the stage: started, killed, stopped, continued and started again on the same port and files.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;

use crate::prove::program::{Launch, Program};

/// How to start it, and the process while it runs.
pub(super) struct Daemon {
    /// What it is called in messages.
    pub name: String,
    /// Its file.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its variables.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it runs.
    pub folder: PathBuf,
    /// Where its output goes.
    pub log: PathBuf,
    /// The process.
    pub running: Option<Program>,
}

impl Daemon {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        self.start_with(&[])
    }

    /// Starts it once with one of its arguments replaced.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start_in(&mut self, argument: &str, other: &str) -> anyhow::Result<()> {
        let own = self.arguments.clone();
        for word in self.arguments.iter_mut().filter(|word| *word == argument) {
            *word = other.into();
        }
        let started = self.start();
        self.arguments = own;
        started
    }

    /// Starts it with more variables.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start_with(&mut self, more: &[(&str, &str)]) -> anyhow::Result<()> {
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

    /// SIGKILL, and waits for its end.
    pub(super) fn kill(&mut self) {
        // dropped, it is killed and collected
        self.running = None;
    }

    /// SIGTERM, and SIGKILL when it has not ended in time. Answers its exit code when it ended by itself.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub(super) async fn end(&mut self, timeout: Duration) -> anyhow::Result<Option<i32>> {
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
    pub(super) fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        let Some(running) = &mut self.running else { return Ok(()) };
        if running.runs() { running.signal(signal).with_context(|| self.name.clone()) } else { Ok(()) }
    }

    /// Whether it runs; says so when it was started and has ended by itself.
    pub(super) fn ended_by_itself(&mut self) -> bool {
        self.running.as_mut().is_some_and(|running| !running.runs())
    }

    /// The end of its log.
    pub(super) fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}
