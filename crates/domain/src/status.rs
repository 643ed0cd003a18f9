//! How the parts of a monitor do, as plain values: what they answer when they are asked.

use serde::{Deserialize, Serialize};

use crate::notice::RuleAlarm;
use crate::process::ProcessIdentity;
use crate::publisher::PublisherId;
use crate::rule::Severity;
use crate::time::Timestamp;

/// The subscriber's counters since it started.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SubscriberStatus {
    /// Messages that came.
    pub messages: u64,
    /// Messages that could not be read.
    pub malformed: u64,
    /// Messages larger than the limit.
    pub oversized: u64,
    /// The last bad ones, newest last, at most 20.
    pub bad_messages: Vec<BadMessage>,
}

/// A message that could not be read, kept so that a person can see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadMessage {
    /// The MQTT topic that it came on.
    pub topic: String,
    /// Its beginning, as text.
    pub excerpt: String,
    /// What is wrong and what would be right.
    pub reason: String,
    /// When it came.
    pub at: Timestamp,
}

/// Most raised alarms in one answer.
pub const RAISED_LISTED_MAX: usize = 200;

/// How all rules stand.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AlarmsReply {
    /// Every rule, in the order of the configuration.
    pub rules: Vec<RuleStatus>,
    /// The raised alarms, oldest first; at most [`RAISED_LISTED_MAX`].
    pub raised: Vec<RuleAlarm>,
    /// Values that the rules hold in memory.
    pub values: usize,
    /// Values and series that were left out, because there were too many.
    pub left_out: u64,
    /// Whether rows wait that the rules have not seen yet.
    pub behind: bool,
    /// Why the rules cannot be looked at; empty when they can.
    pub last_error: String,
}

/// How one rule stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleStatus {
    /// Its name.
    pub rule: String,
    /// What it looks at and when it is raised, in words.
    pub condition: String,
    /// How bad it is.
    pub severity: Severity,
    /// How many series it looks at now.
    pub series: usize,
    /// How many of them breach it, not yet for long enough.
    pub pending: usize,
    /// How many alarms are raised.
    pub raised: usize,
}

/// One attempt to tell a target something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it ended.
    pub at: Timestamp,
    /// Whom.
    pub target: String,
    /// What came of it.
    pub outcome: AttemptOutcome,
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
pub enum AttemptOutcome {
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

/// How the monitor itself does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MonitorStatus {
    /// Its id, under which other monitors can watch it.
    pub id: String,
    /// Whether all of its actors answered when they were last asked.
    pub healthy: bool,
    /// Its actors, in the order in which they were started.
    pub actors: Vec<ActorStatus>,
    /// How often the configured URL was told that it is well.
    #[serde(default)]
    pub pings: u64,
    /// How often that failed.
    #[serde(default)]
    pub pings_failed: u64,
    /// Why there was no ping the last time that one was due; empty when there was.
    #[serde(default)]
    pub ping_error: String,
}

/// How one actor does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorStatus {
    /// Its name; several children share one.
    pub actor: String,
    /// How often it was started again, for whatever reason.
    pub restarts: u64,
    /// How often of these because it no longer answered.
    pub stuck: u64,
    /// Checks in a row that it has not answered by now.
    pub unanswered: u32,
    /// Messages that it has not answered yet, those that it works on with them.
    #[serde(default)]
    pub waiting: u64,
}

/// What the program does, as its supervisor sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChildState {
    /// It runs.
    Running {
        /// Its process id.
        pid: u32,
    },
    /// It ended, and is started again after a wait.
    Waiting,
    /// It ended, and is not started again, as the policy says.
    Ended,
    /// It ended too often within the period: it stays ended.
    GaveUp,
}

/// One end of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildEnd {
    /// The process that ended; none when it could not be started.
    pub pid: Option<u32>,
    /// When the supervisor knew.
    pub at: Timestamp,
    /// Its exit code, where it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// How it ended, in words.
    pub how: String,
}

/// How a publisher's program does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildStatus {
    /// Whose program.
    pub publisher: PublisherId,
    /// What it does.
    pub state: ChildState,
    /// The identity of the running process, once it has been read.
    pub identity: Option<ProcessIdentity>,
    /// How often it was started.
    pub starts: u64,
    /// Its latest end.
    pub last_end: Option<ChildEnd>,
    /// Lines of its output that were longer than the limit and were cut.
    pub lines_cut: u64,
    /// Lines of its output that were not logged, because there were too many.
    pub lines_left_out: u64,
}
