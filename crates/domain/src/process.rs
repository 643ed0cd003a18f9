//! A process: how one is told from another with the same PID, and what a probe can find out about it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::boot::BootId;
use crate::time::Timestamp;

/// What identifies a process for as long as its host runs, and after: the PID alone is used again.
///
/// `boot_id` is `/proc/sys/kernel/random/boot_id`, `start_ticks` field 22 of `/proc/PID/stat`
/// (proc(5)). Wall-clock creation times are never compared: they jitter in containers.
///
/// A PID counts within its PID namespace (pid_namespaces(7)): a container on this very host, in the same
/// boot, has a PID 1 of its own. Outside the host's own namespace `boot_id` therefore is `BOOT/NAMESPACE`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// The process id on its host.
    pub pid: u32,
    /// Clock ticks after boot at which it started.
    pub start_ticks: u64,
    /// The boot that the ticks count from, with the PID namespace in a container.
    pub boot_id: BootId,
}

/// What the probe saw when it looked at a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessState {
    /// It is running or ready to run.
    Running,
    /// It waits for something, as most programs do most of the time.
    Sleeping,
    /// Stopped by a signal (SIGSTOP) or by a tracer.
    Stopped,
    /// It ended and its parent has not collected it: it counts as dead.
    Zombie,
    /// No process has this PID.
    Gone,
    /// The PID belongs to another process now (other start ticks), or the host has rebooted since.
    Replaced {
        /// The name of the program that has the PID now, where it could be read.
        by: String,
    },
    /// It exists and we may not look at it.
    NotPermitted,
    /// It is on another host, and the agent there does not answer.
    Unreachable {
        /// Which agent was asked, and what came of it.
        reason: String,
    },
    /// The probe could not look: its own failure, which says nothing about the process.
    ProbeFailed {
        /// What went wrong.
        reason: String,
    },
}

/// The probe's answer, as a fact with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeAnswer {
    /// What was seen.
    pub state: ProcessState,
    /// CPU time that the process has used in all, where it could be read.
    pub cpu_time: Option<Duration>,
    /// When the probe looked.
    pub looked_at: Timestamp,
    /// The PID that it has on the host, where it names itself by that of a container.
    pub host_pid: Option<u32>,
    /// The number of the user that it runs as, where that can be told.
    pub user: Option<u32>,
}

impl ProbeAnswer {
    /// The process in words: its PID, and that on the host where it is another one.
    #[must_use]
    pub fn pid_words(&self, pid: u32) -> String {
        match self.host_pid {
            Some(host_pid) => format!("PID {pid} of its container (PID {host_pid} on the host)"),
            None => format!("PID {pid}"),
        }
    }

    /// Whether the process has ended, whatever its PID stands for now.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        matches!(self.state, ProcessState::Gone | ProcessState::Zombie | ProcessState::Replaced { .. })
    }

    /// What was seen of the process with this PID, as a sentence for a person.
    #[must_use]
    pub fn describe(&self, pid: u32) -> String {
        let used =
            self.cpu_time.map_or_else(String::new, |used| format!(", {:.2} s of CPU time used", used.as_secs_f64()));
        let it = self.pid_words(pid);
        match &self.state {
            ProcessState::Running => format!("{it} is running{used}"),
            ProcessState::Sleeping => format!("{it} is there and waits for something{used}"),
            ProcessState::Stopped => format!("{it} is stopped by a signal or a debugger{used}"),
            ProcessState::Zombie => format!("{it} has ended and its parent has not collected it"),
            ProcessState::Gone => format!("{it} is gone"),
            ProcessState::Replaced { by } if by.is_empty() => format!("{it} belongs to another process now"),
            ProcessState::Replaced { by } => format!("{it} belongs to another process now ({by})"),
            ProcessState::NotPermitted => format!("{it} exists, and looking at it is not permitted"),
            ProcessState::Unreachable { reason } => format!("{it} is on another host, and {reason}"),
            ProcessState::ProbeFailed { reason } => format!("the probe could not look at {it}: {reason}"),
        }
    }
}

/// How a process ended, as its parent saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessExit {
    /// Which process.
    pub pid: u32,
    /// The signal that ended it, where one did.
    pub signal: Option<i32>,
    /// In words: `exit code 3`, `signal 9`.
    pub how: String,
    /// When its parent knew.
    pub at: Timestamp,
}

/// What a question after a process is asked for; it decides what its answer can mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedFor {
    /// Its interval has passed: direct evidence counts, and its CPU time is noted for later.
    Lateness,
    /// Its deadline has passed: a verdict is due.
    Deadline,
    /// The broker published its last will: direct evidence counts.
    LastWill,
    /// The lease of its host's agent ended: direct evidence counts.
    Lease,
    /// The kernel reported the end of the process.
    Exit,
}
