//! web and console → actors: questions whose replies are snapshots.

use actix::Message;
use serde::{Deserialize, Serialize};

use crate::domain::ledger::{Account, NamedLoss};
use crate::domain::publisher::{Incarnation, PublisherId};
pub use crate::domain::roster::{ObserverState, ObserverStatus, PublisherStatus};
use crate::domain::time::Timestamp;
use crate::domain::verdict::Change;

/// watchdog: every publisher with its verdict, as it stands.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "StatusReply")]
pub struct AskStatus;

/// watchdog: one publisher, for an explanation.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Option<PublisherStatus>")]
pub struct AskPublisher(pub PublisherId);

/// watchdog: whether the monitor trusts its own ears.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "ObserverStatus")]
pub struct AskObserver;

/// The watchdog's answer to [`AskStatus`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StatusReply {
    /// Whether the monitor trusts itself, and why not.
    pub observer: ObserverStatus,
    /// Every publisher, ordered by id.
    pub publishers: Vec<PublisherStatus>,
}

/// influx writer: the account of every row and the state of the sinks.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "LedgerReply")]
pub struct AskLedger;

/// The account of one incarnation of one publisher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerLine {
    /// Whose account.
    pub publisher: PublisherId,
    /// Which of its lives.
    pub incarnation: Incarnation,
    /// The account.
    #[serde(flatten)]
    pub account: Account,
    /// Those of the stored rows that are on the monitor's own disk alone.
    #[serde(default)]
    pub stored_here: u64,
    /// Rows that share series and time with another one and have other fields: in InfluxDB they are one point with it.
    #[serde(default)]
    pub merged: u64,
    /// The time of the earliest row without a number that the account knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unnumbered_from: Option<Timestamp>,
}

impl LedgerLine {
    /// An account all of whose rows have numbers and points of their own, and are in a sink.
    #[must_use]
    pub const fn new(publisher: PublisherId, incarnation: Incarnation, account: Account) -> Self {
        Self { publisher, incarnation, account, stored_here: 0, merged: 0, unnumbered_from: None }
    }
}

/// One place where rows end up, and what waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SinkStatus {
    /// `influxdb` or `embedded`.
    pub name: String,
    /// `ok`, `retrying`, `misconfigured`.
    pub state: String,
    /// Rows on disk that wait for it.
    pub buffered_rows: u64,
    /// Their bytes.
    pub buffered_bytes: u64,
    /// The last error in words; empty when there is none.
    #[serde(default)]
    pub last_error: String,
    /// Rows that the sink refused for good and that are kept as dead letters.
    #[serde(default)]
    pub dead_letters: u64,
    /// Rows that came with a time that another one of their series has, and were moved by nanoseconds, since the program started.
    #[serde(default)]
    pub moved_rows: u64,
    /// Rows that it has confirmed since the program started.
    #[serde(default)]
    pub rows_stored: u64,
    /// Requests to it since the program started.
    #[serde(default)]
    pub writes: u64,
    /// Milliseconds that these took together.
    #[serde(default)]
    pub write_ms: u64,
    /// Requests that it could not take and that were made again.
    #[serde(default)]
    pub retries: u64,
    /// How often it could not be reached for a while, since the program started.
    #[serde(default)]
    pub absences: u64,
}

/// Most named losses in one answer.
pub const LOSSES_MAX: usize = 1_000;

/// The writer's answer to [`AskLedger`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LedgerReply {
    /// One line an incarnation, ordered by publisher and incarnation.
    pub accounts: Vec<LedgerLine>,
    /// What their `lost` consists of, ordered by publisher, incarnation and number; at most [`LOSSES_MAX`].
    #[serde(default)]
    pub losses: Vec<NamedLoss>,
    /// How many more of them there are.
    #[serde(default)]
    pub losses_left_out: u64,
    /// Since when this ledger knows whose the rows without numbers are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The sinks.
    pub sinks: Vec<SinkStatus>,
}

/// watchdog: verdict changes after an epoch that were told to whoever listened and are not in the journal yet, oldest first.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<Change>")]
pub struct AskUnrecorded {
    /// Only changes with a larger epoch.
    pub since_epoch: u64,
    /// Most changes to return.
    pub changes_max: usize,
}

/// subscriber: what it has counted and the last message that it could not read.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "SubscriberStatus")]
pub struct AskSubscriber;

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
    /// Its topic.
    pub topic: String,
    /// Its beginning, as text.
    pub excerpt: String,
    /// What is wrong and what would be right.
    pub reason: String,
    /// When it came.
    pub at: Timestamp,
}
