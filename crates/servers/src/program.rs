//! Programs that are started: real processes, ended with whoever started them in any way that he ends.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use heartwatch_system::parent_death::tie_to_this_thread;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tokio::time::Instant;

/// How often a program that should have ended is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A program to start.
pub struct Launch<'a> {
    /// Its file.
    pub program: &'a Path,
    /// Given to it as they are: no shell reads them.
    pub arguments: Vec<OsString>,
    /// What it gets beside our environment, of which every `HEARTWATCH_…` is left out.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it runs.
    pub folder: &'a Path,
    /// What it says goes to the end of this file.
    pub log: &'a Path,
    /// Whether it takes commands on its standard input.
    pub takes_commands: bool,
}

/// A program that runs, or has ended and is not collected yet. Dropped, it is killed and collected.
#[derive(Debug)]
pub struct Program {
    child: Child,
}

impl Program {
    /// Starts it. The kernel kills it when this thread ends: start it from one that lives as long as it is needed.
    ///
    /// # Errors
    /// When it cannot be started or its log cannot be written.
    pub fn start(launch: Launch<'_>) -> anyhow::Result<Self> {
        let Launch { program, arguments, environment, folder, log, takes_commands } = launch;
        let log_file = File::options().create(true).append(true).open(log);
        let log_file = log_file.with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HEARTWATCH_") {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .envs(environment)
            .current_dir(folder)
            .stdin(if takes_commands { Stdio::piped() } else { Stdio::null() })
            .stdout(log_file.try_clone()?)
            .stderr(log_file)
            .process_group(0);
        tie_to_this_thread(&mut command);
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { child })
    }

    /// Its PID.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal. It is not collected before that, so the PID is still its own.
    ///
    /// # Errors
    /// When it has been collected, or the system refuses.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("cannot signal PID {}", self.child.id()))
    }

    /// SIGSTOP, until it stands still: kill(2) returns before each of its threads has stopped.
    ///
    /// # Errors
    /// When it has ended.
    pub fn stop(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)?;
        let status = waitpid(Some(Pid::from_child(&self.child)), WaitOptions::UNTRACED)?;
        anyhow::ensure!(status.is_some_and(|(_, status)| status.stopped()), "PID {} has ended", self.pid());
        Ok(())
    }

    /// Sends a signal to the one process that it has started.
    ///
    /// # Errors
    /// When it has none, or the system refuses.
    pub fn signal_child(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.with_context(|| format!("cannot see the children of PID {pid}"))?;
        let child = children.split_whitespace().next().and_then(|child| child.parse().ok());
        let child = child.and_then(Pid::from_raw).with_context(|| format!("PID {pid} has no child"))?;
        kill_process(child, signal).with_context(|| format!("cannot signal the child of PID {pid}"))
    }

    /// Writes it a command, one line.
    ///
    /// # Errors
    /// When it does not read any more.
    pub fn command(&mut self, line: &str) -> anyhow::Result<()> {
        let stdin = self.child.stdin.as_mut().context("it takes no commands")?;
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).context("it reads no commands any more")
    }

    /// Whether it still runs; one that has ended is collected by the question.
    #[must_use]
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The exit code of one that has ended by itself and is collected; none while it runs, or when a signal
    /// ended it.
    #[must_use]
    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.try_wait().ok().flatten().and_then(|status| status.code())
    }

    /// Waits for its end and collects it.
    ///
    /// # Errors
    /// When it has not ended in time.
    pub async fn collect(&mut self, timeout: Duration) -> anyhow::Result<ExitStatus> {
        let end = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            anyhow::ensure!(Instant::now() < end, "PID {} has not ended within {timeout:?}", self.child.id());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both do nothing when it has been collected.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
