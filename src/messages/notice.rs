//! watchdog and child → notifier: something may have to be told; roles → notifier: to whom.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix::Message;
use serde::{Deserialize, Serialize};

use crate::domain::notice::{Notice, NoticeFilter};
use crate::domain::publisher::PublisherId;
use crate::domain::time::Timestamp;
use crate::ports::Notify;

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

/// One attempt to tell a target something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it ended.
    pub at: Timestamp,
    /// Whom.
    pub target: String,
    /// What came of it.
    pub outcome: Outcome,
    /// About whom; at most the first ten of a digest.
    pub publishers: Vec<PublisherId>,
    /// What, in words: the first notice of a digest.
    pub summary: String,
    /// How many notices the message had; more than 1 for a digest.
    pub notices: usize,
    /// Why not; empty when it was delivered.
    pub reason: String,
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The target has it.
    Delivered,
    /// Not this time: it is tried again.
    Failed,
    /// It will not be tried again.
    GivenUp,
}

/// The account of one target: `taken` = `sent` + `waiting` + `given_up`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TargetStatus {
    /// Its name.
    pub target: String,
    /// `webhook`, `command` or `email`.
    pub way: String,
    /// `ok`; `retrying`: its last attempt failed and something waits; `failed`: its last attempt failed, nothing waits.
    pub state: String,
    /// Notices that were meant for it.
    pub taken: u64,
    /// Notices that were delivered, alone or in a digest.
    pub sent: u64,
    /// Notices that wait: for the next attempt, or for the next minute.
    pub waiting: u64,
    /// Notices that were given up: too old, too many, refused, or for a target that was removed.
    pub given_up: u64,
    /// Messages that were delivered; fewer than `sent` when there were digests.
    pub messages: u64,
    /// The last error in words; empty when the last attempt worked.
    #[serde(default)]
    pub last_error: String,
    /// When the last message was delivered.
    #[serde(default)]
    pub last_sent: Option<Timestamp>,
    /// The last reason for giving something up; empty when nothing was.
    #[serde(default)]
    pub last_given_up: String,
}
