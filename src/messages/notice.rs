//! watchdog and child → notifier: something may have to be told; roles → notifier: to whom.

use std::fmt;
use std::sync::Arc;

use actix::Message;
use heartwatch_domain::status::{Attempt, TargetStatus};

use heartwatch_domain::notice::{Notice, TargetConfig};
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
    /// Who, and what it is told.
    pub config: TargetConfig,
    /// How it is reached.
    pub way: Arc<dyn Notify>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({}, {})", self.config.name, self.way.kind())
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
