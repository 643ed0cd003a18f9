//! The end of a process as an event: a pidfd (pidfd_open(2)) becomes readable when its process ends,
//! also for a process of another user, and at once for a zombie.

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

fn was_not_there(pid: u32) -> String {
    format!("PID {pid} was gone, or another process, before its end could be waited for")
}

/// Resolves when the process has ended, which it has not yet. `is_still_it` tells whether the PID is still this process,
/// asked after the pidfd is open: from then on no other process can take its place.
pub(super) async fn await_exit(pid: u32, is_still_it: impl FnOnce() -> bool) -> Result<(), String> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| format!("{pid} is no process id"))?;
    let pidfd = match pidfd_open(raw, PidfdFlags::NONBLOCK) {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH) => return Err(was_not_there(pid)),
        Err(error) => return Err(format!("pidfd_open({pid}): {error}")),
    };
    if !is_still_it() {
        return Err(was_not_there(pid));
    }
    #[expect(unsafe_code, reason = "tokio asks for a promise that an OwnedFd keeps by itself")]
    // SAFETY: the OwnedFd stays the same open descriptor until the AsyncFd that owns it is dropped.
    let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
    let pidfd = pidfd.map_err(|error| format!("pidfd of {pid}: {error}"))?;
    pidfd.readable().await.map(|_| ()).map_err(|error| format!("pidfd of {pid}: {error}"))
}
