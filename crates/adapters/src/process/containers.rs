//! Processes in PID namespaces below the host's own (containers), found in the host's `/proc`.
//!
//! Such a process names itself by the number that it has in its namespace. The last number in `NSpid:` of its
//! `/proc/PID/status` is that one, and `/proc/PID/ns/pid` names the namespace (proc(5), pid_namespaces(7)). The link may be read by
//! root, and by the same user; where it may not, the start in clock ticks tells it from others, if only one fits.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

use super::stat::{Stat, parse_stat};
use heartwatch_domain::process::ProcessIdentity;

/// Most processes that are remembered with their PID on the host; beyond it all are searched again.
const KNOWN_MAX: usize = 10_000;

/// What became of a search.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It has this PID on the host.
    Here(u32),
    /// Its number in its namespace belongs to a process of this name now.
    Replaced(String),
    /// No process has its number there; the PID that it had on the host, where it was found before.
    Gone(Option<u32>),
}

/// The processes that were found so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Containers {
    known: Arc<Mutex<HashMap<ProcessIdentity, u32>>>,
}

/// A process whose number in its namespace is the right one.
struct Candidate {
    host_pid: u32,
    stat: Stat,
    /// Whether its namespace is the right one; not known where the link may not be read.
    is_there: Option<bool>,
}

impl Containers {
    /// The process of this identity, whose namespace has this number.
    ///
    /// # Errors
    /// Why that cannot be told.
    pub(super) fn find(&self, proc: &Path, process: &ProcessIdentity, namespace: u32) -> Result<Found, String> {
        let known = self.known().get(process).copied();
        let is_it = |host_pid| stat(proc, host_pid).is_ok_and(|stat| stat.start_ticks == process.start_ticks);
        if let Some(host_pid) = known.filter(|host_pid| is_it(*host_pid)) {
            return Ok(Found::Here(host_pid));
        }
        let found = search(proc, process, namespace)?;
        if let Found::Here(host_pid) = found {
            let mut known = self.known();
            if known.len() >= KNOWN_MAX {
                known.clear();
            }
            known.insert(process.clone(), host_pid);
        }
        Ok(if found == Found::Gone(None) { Found::Gone(known) } else { found })
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<ProcessIdentity, u32>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn search(proc: &Path, process: &ProcessIdentity, namespace: u32) -> Result<Found, String> {
    let failed = |path: &Path, error: &io::Error| format!("cannot read {}: {error}", path.display());
    // With `hidepid` others are not there to be found, and nothing can be said of who is not.
    let first = proc.join("1/status");
    std::fs::read(&first).map_err(|error| failed(&first, &error))?;
    let mut candidates = Vec::new();
    for entry in std::fs::read_dir(proc).map_err(|error| failed(proc, &error))? {
        let entry = entry.map_err(|error| failed(proc, &error))?;
        let Some(host_pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        match candidate(&entry.path(), host_pid, process.pid, namespace) {
            Ok(candidate) => candidates.extend(candidate),
            Err(error) if has_ended(&error) => {}
            Err(error) => return Err(failed(&entry.path(), &error)),
        }
    }
    candidates.retain(|candidate| candidate.is_there != Some(false));
    let is_it = |candidate: &&Candidate| candidate.stat.start_ticks == process.start_ticks;
    let certain = candidates.iter().filter(is_it).find(|candidate| candidate.is_there == Some(true));
    let mut perhaps = candidates.iter().filter(is_it);
    match (certain, perhaps.next(), perhaps.next()) {
        (Some(it), _, _) | (None, Some(it), None) => Ok(Found::Here(it.host_pid)),
        (None, Some(_), Some(_)) => Err(format!(
            "two processes may be PID {} of its container: the monitor may not read in which namespace they are (it needs CAP_SYS_PTRACE)",
            process.pid
        )),
        (None, None, _) => {
            let other = candidates.into_iter().find(|candidate| candidate.is_there == Some(true));
            Ok(other.map_or(Found::Gone(None), |other| Found::Replaced(other.stat.name)))
        }
    }
}

fn candidate(directory: &Path, host_pid: u32, pid: u32, namespace: u32) -> io::Result<Option<Candidate>> {
    let status = std::fs::read(directory.join("status"))?;
    if number_in_namespace(&status) != Some(pid) {
        return Ok(None);
    }
    let stat = read_stat(directory)?;
    let is_there = match std::fs::read_link(directory.join("ns/pid")) {
        Ok(link) => Some(link.as_os_str() == format!("pid:[{namespace}]").as_str()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
        Err(error) => return Err(error),
    };
    Ok(Some(Candidate { host_pid, stat, is_there }))
}

/// The last of at least two numbers: with one, it is in the namespace of whoever looks.
fn number_in_namespace(status: &[u8]) -> Option<u32> {
    let status = String::from_utf8_lossy(status);
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    let numbers: Vec<&str> = numbers.split_ascii_whitespace().collect();
    numbers.get(1..)?.last()?.parse().ok()
}

fn stat(proc: &Path, pid: u32) -> io::Result<Stat> {
    read_stat(&proc.join(pid.to_string()))
}

fn read_stat(directory: &Path) -> io::Result<Stat> {
    let bytes = std::fs::read(directory.join("stat"))?;
    parse_stat(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not in the form of proc(5)"))
}

fn has_ended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || Errno::from_io_error(error) == Some(Errno::SRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `/proc` of these processes: PID, NSpid, start, namespace.
    fn proc_of(processes: &[(u32, &str, u64, u32)]) -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        for (pid, numbers, start, namespace) in processes {
            let directory = proc.path().join(pid.to_string());
            std::fs::create_dir_all(directory.join("ns")).unwrap();
            std::fs::write(directory.join("status"), format!("Name:\tx\nNSpid:\t{numbers}\nNSsid:\t1\n")).unwrap();
            let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18";
            std::fs::write(directory.join("stat"), format!("{pid} (p{pid}) {rest} {start} 20")).unwrap();
            std::os::unix::fs::symlink(format!("pid:[{namespace}]"), directory.join("ns/pid")).unwrap();
        }
        proc
    }

    fn first(start_ticks: u64) -> ProcessIdentity {
        ProcessIdentity { pid: 1, start_ticks, boot_id: "b".into() }
    }

    #[test]
    fn it_is_the_one_with_its_number_in_its_namespace_that_started_then() {
        let processes =
            [(1, "1", 5, 0), (812, "812\t1", 70, 7), (813, "813 1", 70, 8), (900, "900 4 1", 90, 9), (4, "4", 70, 0)];
        let proc = proc_of(&processes);
        let containers = Containers::default();
        let find = |start, namespace| containers.find(proc.path(), &first(start), namespace);
        assert_eq!(find(70, 7), Ok(Found::Here(812)));
        assert_eq!(Containers::default().find(proc.path(), &first(70), 8), Ok(Found::Here(813)));
        assert_eq!(find(90, 9), Ok(Found::Here(900)), "a container in a container");
        assert_eq!(find(71, 7), Ok(Found::Replaced("p812".to_owned())));
        assert_eq!(find(5, 7), Ok(Found::Replaced("p812".to_owned())));
        assert_eq!(find(5, 10), Ok(Found::Gone(None)), "the host's own PID 1 is none in a container");
        std::fs::remove_dir_all(proc.path().join("812")).unwrap();
        assert_eq!(find(70, 7), Ok(Found::Gone(Some(812))), "what was found once is looked at again");
        std::fs::remove_dir_all(proc.path().join("1")).unwrap();
        assert!(find(70, 7).unwrap_err().contains("1/status"), "who hides PID 1 may hide it");
    }
}
