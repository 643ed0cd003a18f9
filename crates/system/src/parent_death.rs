//! A program that we start never outlives us, even when we are killed with SIGKILL.

#[cfg(target_os = "linux")]
use std::os::unix::process::CommandExt as _;
use std::process::Command;

#[cfg(target_os = "linux")]
use super::descriptors::{put_back, soft_at_start};
#[cfg(target_os = "linux")]
use crate::private_files::umask_for_others;

/// Has the kernel kill the program when the *thread* that started it ends (`PR_SET_PDEATHSIG`,
/// prctl(2)): start it from one that lives as long as we do. Only Linux knows how; elsewhere the
/// program is ended with us in order alone. The files that it makes are as its user's umask has them, not as private as ours.
///
/// It also gets the limit of open files that we were started with, which [`raise`](super::descriptors::raise) changed for us.
pub fn tie_to_this_thread(command: &mut Command) {
    #[cfg(target_os = "linux")]
    {
        let parent = std::process::id();
        let (umask, soft) = (umask_for_others(), soft_at_start());
        let set_up = move || {
            if let Some(umask) = umask {
                rustix::process::umask(umask);
            }
            put_back(soft);
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            // The parent may have died before the call; then nobody would send the signal any more.
            let now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
            if now.is_some_and(|now| u32::try_from(now) == Ok(parent)) {
                Ok(())
            } else {
                Err(std::io::Error::from(rustix::io::Errno::SRCH))
            }
        };
        #[expect(unsafe_code, reason = "pre_exec: the closure makes five system calls and allocates nothing")]
        // SAFETY: between fork and exec only async-signal-safe calls are allowed; umask, prlimit, prctl and getppid are.
        unsafe {
            command.pre_exec(set_up)
        };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = command;
}
