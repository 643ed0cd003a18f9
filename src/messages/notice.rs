//! watchdog and child → notifier: something may have to be told; roles → notifier: to whom.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix::Message;
use heartwatch_domain::status::{Attempt, TargetStatus};

use heartwatch_domain::notice::{Notice, NoticeFilter};
use heartwatch_ports::Notify;

/// Verdict changes up to this epoch are durable: look at those that you have not seen yet. It says
/// "look", not "this changed", so that one that is lost or comes late loses nothing.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct ChangesRecorded {
    /// The highest epoch that is durable.
    pub through_epoch: u64,
}

/// Notices that are in no journal, all of one instant. The reply comes when they are on disk.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Announce(pub Arc<Vec<Notice>>);

/// Who is told from now on. What waits for a target that is no longer there is given up, and said.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct SetTargets(pub Arc<Vec<Target>>);

/// Someone who is told, and how.
#[derive(Clone)]
pub struct Target {
    /// Its name in the configuration, the logs and the accounts; distinct.
    pub name: String,
    /// What it is told.
    pub filter: NoticeFilter,
    /// Most messages a minute, and as many with something urgent; the last of each is a digest when more waits.
    pub per_minute_max: usize,
    /// A notice that could not be delivered for so long is given up.
    pub age_max: Duration,
    /// Wait after the first failed attempt; doubles with each further one.
    pub backoff_min: Duration,
    /// Longest wait after a failed attempt.
    pub backoff_max: Duration,
    /// How it is reached.
    pub way: Arc<dyn Notify>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({}, {})", self.name, self.way.kind())
    }
}

/// Asks the notifier for the account of every target.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<TargetStatus>")]
pub struct AskNotifications;

/// Asks the notifier for its last attempts, newest first, at most so many.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<Attempt>")]
pub struct AskAttempts(pub usize);
