//! How many descriptors (files, sockets, pipes) this process may have open, and who gets how many of them.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit as it was when the program began. The system has one a process, and so have we.
static SOFT_AT_START: OnceLock<Option<u64>> = OnceLock::new();

/// Most connections to the page, and the least.
const PAGE_MAX: u64 = 256;
const PAGE_MIN: u64 = 16;
/// What is kept for files, pipes of children, processes that are watched and connections of our own: a quarter, within
/// these bounds.
const OWN_MAX: u64 = 1_024;
const OWN_MIN: u64 = 64;
/// The least for those who publish.
const PUBLISHERS_MIN: u64 = 16;

/// Raises the soft limit to the hard one: what a shell allows by default is 1,024. Returns how many can be open from now on; none
/// where there is no limit.
pub fn raise() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    SOFT_AT_START.get_or_init(|| limit.current);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, files_max = limit.current, "connections beyond so many open files are refused by the system");
        return limit.current;
    }
    limit.maximum
}

/// How many can be open; none where there is no limit.
#[must_use]
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Puts the soft limit back to what it was when the program began, for a program that we start: one that looks after its
/// descriptors with `select`, or walks through all that there may be, cannot stand more. Only system calls, no memory: it
/// is called between fork and exec.
pub(super) fn put_back(soft: Option<Option<u64>>) {
    if let Some(current) = soft {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // a higher limit than it needs harms few programs
        let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
    }
}

/// The soft limit as it was when the program began, when [`raise`] has changed it.
pub(super) fn soft_at_start() -> Option<Option<u64>> {
    SOFT_AT_START.get().copied()
}

/// How many of the descriptors are for connections, so that the rest is there when it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// To the page.
    pub page_connections_max: usize,
    /// To the embedded broker, or of agents.
    pub publisher_connections_max: usize,
}

impl Shares {
    /// Of so many; none where there is no limit.
    #[must_use]
    pub fn of(files_max: Option<u64>) -> Self {
        let count = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let Some(files_max) = files_max else {
            return Self { page_connections_max: count(PAGE_MAX), publisher_connections_max: usize::MAX };
        };
        let own = (files_max / 4).clamp(OWN_MIN, OWN_MAX);
        let page = (files_max / 8).clamp(PAGE_MIN, PAGE_MAX);
        let publishers = files_max.saturating_sub(own + page).max(PUBLISHERS_MIN);
        Self { page_connections_max: count(page), publisher_connections_max: count(publishers) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_and_files_have_their_share_however_few_there_are() {
        let shares = |files_max| {
            let Shares { page_connections_max, publisher_connections_max } = Shares::of(Some(files_max));
            (page_connections_max, publisher_connections_max)
        };
        assert_eq!(shares(1_024), (128, 640));
        assert_eq!(shares(524_288), (256, 523_008));
        assert_eq!(shares(0), (16, 16));
        assert_eq!(Shares::of(None).page_connections_max, 256);
        for files_max in 128..4_096 {
            let (page, publishers) = shares(files_max);
            assert!((page + publishers) as u64 + OWN_MIN <= files_max, "{files_max}");
        }
    }
}
