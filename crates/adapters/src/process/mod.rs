//! The processes of this host, as [`ProcessTable`].
//!
//! The state and the CPU time come from sysinfo. Its start time is whole seconds of the wall clock,
//! too coarse to tell two processes with the same PID apart, so on Linux the identity is the start in
//! clock ticks (field 22 of `/proc/PID/stat`, proc(5)) and the boot id.

#[cfg(target_os = "linux")]
mod containers;
#[cfg(target_os = "linux")]
mod exit;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(test, not(target_os = "linux")))]
mod portable;
#[cfg(target_os = "linux")]
mod stat;

use std::time::Duration;

use sysinfo::{Pid, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System};

use heartwatch_domain::process::{ProbeAnswer, ProcessIdentity, ProcessState};
use heartwatch_ports::{BoxFuture, ProcessTable};
use heartwatch_system::clock::Clock;

#[cfg(target_os = "linux")]
use linux::Host;
#[cfg(not(target_os = "linux"))]
use portable::Host;

/// The processes of this host. A look takes well under a millisecond, and may block.
#[derive(Debug, Clone)]
pub struct HostProcesses {
    host: Host,
    clock: Clock,
}

impl HostProcesses {
    /// The processes of this host; answers get their time from the clock.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { host: Host::new(), clock }
    }
}

impl ProcessTable for HostProcesses {
    fn look(&self, identity: &ProcessIdentity) -> ProbeAnswer {
        let (state, cpu_time, host_pid) = self.host.look(identity);
        let user = self
            .host
            .user(host_pid.unwrap_or(identity.pid))
            .filter(|_| !matches!(state, ProcessState::Gone | ProcessState::Replaced { .. }));
        ProbeAnswer { state, cpu_time, looked_at: self.clock.wall(), host_pid, user }
    }

    fn own_identity(&self) -> Option<ProcessIdentity> {
        self.identity(std::process::id())
    }

    fn identity(&self, pid: u32) -> Option<ProcessIdentity> {
        self.host.identity(pid)
    }

    #[cfg(target_os = "linux")]
    fn await_exit(&self, identity: ProcessIdentity) -> BoxFuture<'static, Result<(), String>> {
        let host = self.host.clone();
        Box::pin(async move {
            let search = {
                let (host, identity) = (host.clone(), identity.clone());
                move || host.pid_here(&identity)
            };
            let found = tokio::task::spawn_blocking(search).await;
            let pid = found.map_err(|error| format!("the search for PID {} failed: {error}", identity.pid))??;
            exit::await_exit(pid, move || host.is_still(pid, &identity)).await
        })
    }
}

/// What sysinfo knows of one process.
struct Seen {
    state: ProcessState,
    cpu_time: Duration,
    /// Used where there is no `/proc/PID/stat`.
    #[cfg_attr(target_os = "linux", allow(dead_code, reason = "the Linux part has better sources for both"))]
    name: String,
    #[cfg_attr(target_os = "linux", allow(dead_code, reason = "the Linux part has better sources for both"))]
    start_seconds: u64,
}

/// Looks with sysinfo. None when it finds no such process, which can also mean that it may not look.
fn see(pid: u32) -> Result<Option<Seen>, String> {
    // A fresh table each time: one that is kept would mix what it saw of two processes with one PID.
    let mut system = System::new().map_err(|error| format!("sysinfo cannot look at processes: {error:?}"))?;
    let pid = Pid::from_u32(pid);
    let kind = ProcessRefreshKind::nothing().with_cpu().without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, kind);
    Ok(system.process(pid).map(|process| Seen {
        state: state_of(process.status()),
        cpu_time: Duration::from_millis(process.accumulated_cpu_time()),
        name: process.name().to_string_lossy().into_owned(),
        start_seconds: process.start_time(),
    }))
}

fn state_of(status: ProcessStatus) -> ProcessState {
    match status {
        ProcessStatus::Run | ProcessStatus::Waking => ProcessState::Running,
        ProcessStatus::Idle
        | ProcessStatus::Sleep
        | ProcessStatus::Parked
        | ProcessStatus::LockBlocked
        | ProcessStatus::Wakekill
        | ProcessStatus::UninterruptibleDiskSleep => ProcessState::Sleeping,
        ProcessStatus::Stop | ProcessStatus::Tracing => ProcessState::Stopped,
        ProcessStatus::Zombie => ProcessState::Zombie,
        ProcessStatus::Dead => ProcessState::Gone,
        other => ProcessState::ProbeFailed { reason: format!("unknown process state: {other}") },
    }
}

#[cfg(test)]
mod tests;
