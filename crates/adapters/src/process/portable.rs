//! Other systems than Linux: sysinfo alone. The start is whole seconds and stands in for the ticks, so
//! a PID that is used again within one second is not noticed; and a process that we may not look at is
//! taken for gone.

use std::time::Duration;

use crate::process::see;
use heartwatch_domain::process::{ProcessIdentity, ProcessState};

/// Stands for the boot: the start in seconds since 1970 tells processes of two boots apart by itself.
const BOOT_ID: &str = "unknown";

#[derive(Debug, Clone)]
pub(super) struct Host;

impl Host {
    pub(super) fn new() -> Self {
        Self
    }

    pub(super) fn identity(&self, pid: u32) -> Option<ProcessIdentity> {
        let seen = see(pid).ok()??;
        Some(ProcessIdentity { pid, start_ticks: seen.start_seconds, boot_id: BOOT_ID.into() })
    }

    #[cfg_attr(target_os = "linux", allow(dead_code, reason = "the Linux part has its own"))]
    #[expect(clippy::unused_self, reason = "the Linux part looks into its own /proc")]
    pub(super) const fn user(&self, _: u32) -> Option<u32> {
        None
    }

    pub(super) fn look(&self, identity: &ProcessIdentity) -> (ProcessState, Option<Duration>, Option<u32>) {
        match see(identity.pid) {
            Err(reason) => (ProcessState::ProbeFailed { reason }, None, None),
            Ok(None) => (ProcessState::Gone, None, None),
            Ok(Some(seen)) if seen.start_seconds != identity.start_ticks => {
                (ProcessState::Replaced { by: seen.name }, None, None)
            }
            Ok(Some(seen)) => (seen.state, Some(seen.cpu_time), None),
        }
    }
}
