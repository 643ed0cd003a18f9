//! What a process has used so far, from `/proc` (proc(5)): Linux only.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use super::programs::whole;
use heartwatch_servers::server::Server;

fn read(pid: u32, file: &str) -> anyhow::Result<String> {
    let path = Path::new("/proc").join(pid.to_string()).join(file);
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}: Linux only", path.display()))
}

/// User and system time in seconds (fields 14 and 15 of `stat`).
///
/// # Errors
/// When it has ended, or this is not Linux.
pub(super) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = read(pid, "stat")?;
    let (_, after_name) = stat.rsplit_once(')').context("no name in /proc/PID/stat")?;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut next =
        || -> anyhow::Result<u64> { Ok(fields.next().context("too few fields in /proc/PID/stat")?.parse()?) };
    Ok(whole(next()? + next()?) / whole(rustix::param::clock_ticks_per_second()))
}

/// CPU time of the thread that asks. What others on the host of a virtual machine got is not in it where the kernel knows of it.
pub(super) fn cpu_time_of_this_thread() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// CPU seconds in which nothing ran on this core, or on any when none is named (fields 4 and 5 of its line in
/// `/proc/stat`).
///
/// # Errors
/// When this is not Linux, or there is no such core.
pub(super) fn idle_seconds(core: Option<usize>) -> anyhow::Result<f64> {
    let name = core.map_or_else(|| "cpu".to_owned(), |core| format!("cpu{core}"));
    let stat = std::fs::read_to_string("/proc/stat").context("cannot read /proc/stat: Linux only")?;
    let fields =
        stat.lines().map(str::split_whitespace).find_map(|mut fields| (fields.next()? == name).then_some(fields));
    let mut fields = fields.with_context(|| format!("no {name} in /proc/stat"))?.skip(3);
    let mut next = || -> anyhow::Result<u64> { Ok(fields.next().context("too few fields in /proc/stat")?.parse()?) };
    Ok(whole(next()? + next()?) / whole(rustix::param::clock_ticks_per_second()))
}

/// How many cores [`idle_seconds`] is about when none is named.
///
/// # Errors
/// When this is not Linux.
pub(super) fn cores_of_machine() -> anyhow::Result<usize> {
    let stat = std::fs::read_to_string("/proc/stat").context("cannot read /proc/stat: Linux only")?;
    // one line for all of them together, and one for each
    Ok(stat.lines().filter(|line| line.starts_with("cpu")).count().saturating_sub(1))
}

/// Memory in use, in bytes (`VmRSS` of `status`).
///
/// # Errors
/// When it has ended, or this is not Linux.
pub(super) fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    memory(pid, "VmRSS:")
}

/// The most memory that was ever in use, in bytes (`VmHWM` of `status`).
///
/// # Errors
/// When it has ended, or this is not Linux.
pub(super) fn resident_bytes_max(pid: u32) -> anyhow::Result<u64> {
    memory(pid, "VmHWM:")
}

fn memory(pid: u32, name: &str) -> anyhow::Result<u64> {
    let status = read(pid, "status")?;
    let found = status.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes = found.with_context(|| format!("no {name} in /proc/PID/status"))?;
    let kibibytes: u64 = kibibytes.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024)
}

/// CPU seconds of some processes up to now.
pub(super) struct Used<const N: usize> {
    pids: [u32; N],
    before: [f64; N],
}

impl<const N: usize> Used<N> {
    /// Up to now.
    ///
    /// # Errors
    /// When one has ended.
    pub(super) fn now(pids: [u32; N]) -> anyhow::Result<Self> {
        let mut before = [0.0; N];
        for (before, pid) in before.iter_mut().zip(pids) {
            *before = cpu_seconds(pid)?;
        }
        Ok(Self { pids, before })
    }

    /// What each has used since, for a million rows.
    ///
    /// # Errors
    /// When one has ended.
    pub(super) fn since(&self, rows: u64) -> anyhow::Result<[f64; N]> {
        let mut spent = [0.0; N];
        for ((spent, pid), before) in spent.iter_mut().zip(self.pids).zip(self.before) {
            *spent = (cpu_seconds(pid)? - before) * 1e6 / whole(rows);
        }
        Ok(spent)
    }
}

/// The PID of a program that runs.
///
/// # Errors
/// When it has ended.
pub(super) fn pid_of(server: &Server) -> anyhow::Result<u32> {
    server.pid().context("a program has ended")
}
