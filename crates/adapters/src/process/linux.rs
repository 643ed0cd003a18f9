//! Linux: what sysinfo sees, made certain with `/proc` and `kill(pid, 0)`.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::containers::{Containers, Found};
use super::stat::{Stat, parse_stat};
use crate::process::see;
use heartwatch_domain::boot::BootId;
use heartwatch_domain::process::{ProcessIdentity, ProcessState};

/// Most threads of a process that are looked at.
const THREADS_MAX: usize = 1_024;
/// The host's own PID namespace (`PROC_PID_INIT_INO` in the kernel's include/linux/proc_ns.h).
const HOST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// This host, as seen through a `/proc`.
#[derive(Debug, Clone)]
pub(super) struct Host {
    proc: PathBuf,
    boot_id: Result<BootId, String>,
    containers: Containers,
}

impl Host {
    pub(super) fn new() -> Self {
        Self::with_proc("/proc")
    }

    /// With another place for `/proc`, so that a test can take entries away.
    pub(super) fn with_proc(proc: impl Into<PathBuf>) -> Self {
        let path = "/proc/sys/kernel/random/boot_id";
        let boot_id =
            std::fs::read_to_string(path).map(|text| format!("{}{}", text.trim(), container()).as_str().into());
        let boot_id = boot_id.map_err(|error| format!("cannot read {path}: {error}"));
        Self { proc: proc.into(), boot_id, containers: Containers::default() }
    }

    pub(super) fn identity(&self, pid: u32) -> Option<ProcessIdentity> {
        let boot_id = self.boot_id.clone().ok()?;
        let start_ticks = self.stat(pid).ok()?.start_ticks;
        Some(ProcessIdentity { pid, start_ticks, boot_id })
    }

    /// The PID that this process has here, in our PID namespace or in one below it.
    ///
    /// # Errors
    /// Why it has none, or none that can be told.
    pub(super) fn pid_here(&self, identity: &ProcessIdentity) -> Result<u32, String> {
        let Some(namespace) = self.container_of(identity)? else { return Ok(identity.pid) };
        match self.containers.find(&self.proc, identity, namespace)? {
            Found::Here(host_pid) => Ok(host_pid),
            Found::Replaced(_) | Found::Gone(_) => Err(format!("PID {} of its container is gone", identity.pid)),
        }
    }

    /// Whether this PID of ours is still that process.
    pub(super) fn is_still(&self, pid: u32, identity: &ProcessIdentity) -> bool {
        self.stat(pid).is_ok_and(|stat| stat.start_ticks == identity.start_ticks)
            && (pid != identity.pid || self.identity(pid).as_ref() == Some(identity))
    }

    /// The number of its PID namespace, where that is one below ours.
    fn container_of(&self, identity: &ProcessIdentity) -> Result<Option<u32>, String> {
        Ok(identity.boot_id.namespace_below(self.boot_id.as_ref().map_err(Clone::clone)?))
    }

    /// The number of the user that a process runs as: the real one in `Uid:` of `/proc/PID/status`.
    pub(super) fn user(&self, pid: u32) -> Option<u32> {
        let status = std::fs::read(self.proc.join(pid.to_string()).join("status")).ok()?;
        let status = String::from_utf8_lossy(&status);
        let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        users.split_ascii_whitespace().next()?.parse().ok()
    }

    /// What it does, the CPU time that it has used, and its PID here where that is another one than it says.
    pub(super) fn look(&self, identity: &ProcessIdentity) -> (ProcessState, Option<Duration>, Option<u32>) {
        let failed = |reason: String| (ProcessState::ProbeFailed { reason }, None, None);
        let namespace = match self.container_of(identity) {
            Ok(namespace) => namespace,
            Err(reason) => return failed(reason),
        };
        let Some(namespace) = namespace else {
            if self.boot_id.as_ref() != Ok(&identity.boot_id) {
                // What has this PID now is another process, if any.
                return (self.replaced(identity.pid), None, None);
            }
            let (state, cpu_time) = self.look_at(identity);
            return (state, cpu_time, None);
        };
        match self.containers.find(&self.proc, identity, namespace) {
            Ok(Found::Here(host_pid)) => {
                let here = ProcessIdentity { pid: host_pid, ..identity.clone() };
                let (state, cpu_time) = self.look_at(&here);
                (state, cpu_time, Some(host_pid))
            }
            Ok(Found::Replaced(by)) => (ProcessState::Replaced { by }, None, None),
            Ok(Found::Gone(host_pid)) => (ProcessState::Gone, None, host_pid),
            Err(reason) => failed(reason),
        }
    }

    /// What is to be said of a process of another boot.
    fn replaced(&self, pid: u32) -> ProcessState {
        match self.stat(pid) {
            Ok(stat) => ProcessState::Replaced { by: stat.name },
            Err(error) => self.without_stat(pid, &error),
        }
    }

    /// Looks at the process with this PID here.
    fn look_at(&self, identity: &ProcessIdentity) -> (ProcessState, Option<Duration>) {
        let failed = |reason: String| (ProcessState::ProbeFailed { reason }, None);
        // sysinfo first, the identity after it: when the process is still ours afterwards, it was
        // ours all the time, and what sysinfo saw was of no other.
        let seen = match see(identity.pid) {
            Ok(seen) => seen,
            Err(reason) => return failed(reason),
        };
        match self.stat(identity.pid) {
            Ok(stat) if stat.start_ticks != identity.start_ticks => (ProcessState::Replaced { by: stat.name }, None),
            Ok(_) => match seen {
                Some(seen) => {
                    let state = match seen.state {
                        ProcessState::Zombie => self.without_leader(identity.pid).unwrap_or(ProcessState::Zombie),
                        state => state,
                    };
                    (state, Some(self.cpu_time(identity.pid).unwrap_or(seen.cpu_time)))
                }
                None => failed("sysinfo does not see a process that /proc shows".to_owned()),
            },
            Err(error) => (self.without_stat(identity.pid, &error), None),
        }
    }

    /// What the other threads do of a process whose first one has ended: it is a zombie in its own `stat`, and lives as long as
    /// one of them does. None when none is left.
    fn without_leader(&self, pid: u32) -> Option<ProcessState> {
        let threads = std::fs::read_dir(self.proc.join(pid.to_string()).join("task")).ok()?;
        let mut state = None;
        for thread in threads.take(THREADS_MAX) {
            // A thread may end between the list and the look at it.
            let Ok(bytes) = std::fs::read(thread.ok()?.path().join("stat")) else { continue };
            match parse_stat(&bytes)?.state {
                'Z' | 'X' | 'x' => {}
                'R' => return Some(ProcessState::Running),
                'T' | 't' => _ = state.get_or_insert(ProcessState::Stopped),
                _ => state = Some(ProcessState::Sleeping),
            }
        }
        state
    }

    /// The state of a process whose `stat` can't be read. With `hidepid` a process of another user is
    /// missing in `/proc` like one that is gone; only `kill` tells the two apart.
    fn without_stat(&self, pid: u32, error: &io::Error) -> ProcessState {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        match raw.map(test_kill_process) {
            None | Some(Err(Errno::SRCH)) => ProcessState::Gone,
            Some(Ok(()) | Err(Errno::PERM)) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => ProcessState::NotPermitted,
                // It ended between the two looks at it, or /proc itself is in trouble.
                _ => ProcessState::ProbeFailed {
                    reason: format!("cannot read {}/{pid}/stat: {error}", self.proc.display()),
                },
            },
            Some(Err(errno)) => ProcessState::ProbeFailed { reason: format!("kill({pid}, 0): {errno}") },
        }
    }

    /// CPU time of all threads, to the nanosecond: the first number of `/proc/PID/task/TID/schedstat`
    /// (Documentation/scheduler/sched-stats.rst). The clock ticks of `stat` are too coarse to tell a
    /// program that beats once a second from one that hangs. What ended threads had used is not in it,
    /// so it may shrink; none where the kernel does not count.
    fn cpu_time(&self, pid: u32) -> Option<Duration> {
        let threads = std::fs::read_dir(self.proc.join(pid.to_string()).join("task")).ok()?;
        let mut nanos = 0_u64;
        for thread in threads.take(THREADS_MAX) {
            let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat"));
            // A thread may end between the list and the look at it.
            let Ok(text) = text else { continue };
            nanos = nanos.saturating_add(text.split_ascii_whitespace().next()?.parse().ok()?);
        }
        Some(Duration::from_nanos(nanos))
    }

    fn stat(&self, pid: u32) -> io::Result<Stat> {
        let bytes = std::fs::read(self.proc.join(pid.to_string()).join("stat"))?;
        parse_stat(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not in the form of proc(5)"))
    }
}

/// `/NAMESPACE` when this program is in a PID namespace that is not the host's; nothing where that cannot be told.
fn container() -> String {
    match std::fs::read_link("/proc/self/ns/pid") {
        Ok(own) if own.as_os_str() != HOST_PID_NAMESPACE => {
            let own = own.to_string_lossy();
            format!("/{}", own.trim_start_matches("pid:[").trim_end_matches(']'))
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_may_look_like_fields() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987654 20 21";
        for name in ["sleep", "a) S 1 (b", "with space", ")", ""] {
            let line = format!("42 ({name}) {rest}\n");
            let stat = parse_stat(line.as_bytes()).unwrap();
            assert_eq!(stat, Stat { name: name.to_owned(), state: 'S', start_ticks: 987_654 });
        }
        for broken in ["", "42", "42 (x", "42 (x) S 1 2 3", "42 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x"] {
            assert_eq!(parse_stat(broken.as_bytes()), None, "{broken}");
        }
    }
}
