//! Processes as `/proc` lists them, held by pidfds so that a signal never reaches another that got the PID.

use std::fmt;
use std::io::Read as _;
use std::os::fd::OwnedFd;

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, getpid, pidfd_open, pidfd_send_signal,
    set_child_subreaper, waitid, waitpid,
};

/// Most of an environment that is read, in bytes; the kernel gives a process a quarter of its stack (2 MiB) by default.
const ENVIRONMENT_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// A process as the system lists it.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) pid: u32,
    pub(super) parent: u32,
    pub(super) is_zombie: bool,
    /// With the PID, what makes it this process.
    pub(super) start_ticks: u64,
    pub(super) name: String,
}

impl Row {
    fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // the name stands in brackets and may contain any character
        let (before, after) = stat.rsplit_once(')')?;
        let name = before.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = after.split_ascii_whitespace().collect();
        let is_zombie = matches!(*fields.first()?, "Z" | "X" | "x");
        Some(Self {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            is_zombie,
            start_ticks: fields.get(19)?.parse().ok()?,
            name,
        })
    }
}

/// A process that can be signalled.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    start_ticks: u64,
    name: String,
    handle: OwnedFd,
}

impl Process {
    /// The process of a row; none when it has ended since.
    pub(super) fn open(row: &Row) -> Option<Self> {
        let handle = pidfd_open(raw(row.pid)?, PidfdFlags::empty()).ok()?;
        // looked at again after the handle was made: then the handle is of this process
        let now = Row::of(row.pid).filter(|now| now.start_ticks == row.start_ticks)?;
        Some(Self { pid: row.pid, start_ticks: row.start_ticks, name: now.name, handle })
    }

    pub(super) const fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has not ended.
    pub(super) fn runs(&self) -> bool {
        Row::of(self.pid).is_some_and(|now| now.start_ticks == self.start_ticks && !now.is_zombie)
    }

    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
        // a stopped process handles SIGTERM only when it goes on
        self.signal(Signal::CONT);
    }

    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        // An error: it has ended, or it has become another user's, which is said when it is left over.
        let _ = pidfd_send_signal(&self.handle, signal);
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.pid, self.name)
    }
}

pub(super) fn become_subreaper() -> std::io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Whether a child of ours has ended and was not waited for.
pub(super) fn has_zombie() -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::All, look).is_ok_and(|found| found.is_some())
}

pub(super) fn processes() -> Vec<Row> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(Row::of).collect()
}

/// Whether the process was started with a variable whose value is wanted. Other users' environments cannot be read.
pub(super) fn has_variable(pid: u32, name: &str, wanted: impl Fn(&str) -> bool) -> bool {
    let mut environment = Vec::new();
    let file = std::fs::File::open(format!("/proc/{pid}/environ"));
    if file.and_then(|file| file.take(ENVIRONMENT_BYTES_MAX).read_to_end(&mut environment)).is_err() {
        return false;
    }
    let value = |variable: &[u8]| {
        let (found, value) = std::str::from_utf8(variable).ok()?.split_once('=')?;
        (found == name).then(|| wanted(value))
    };
    environment.split(|byte| *byte == 0).filter_map(value).any(|is_wanted| is_wanted)
}

/// Takes the end of a child that nobody else waits for.
pub(super) fn collect(pid: u32) {
    if let Some(pid) = raw(pid) {
        let _ = waitpid(Some(pid), WaitOptions::NOHANG);
    }
}

fn raw(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}
