//! web and console → actors: questions whose replies are snapshots.

use std::time::Duration;

use actix::Message;
use serde::{Deserialize, Serialize};

use crate::domain::ledger::{Account, NamedLoss};
use crate::domain::maintenance::Open;
use crate::domain::publisher::{HostName, Incarnation, PublisherId};
use crate::domain::time::Timestamp;
use crate::domain::verdict::{Change, Verdict};

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

/// One publisher as the watchdog sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct PublisherStatus {
    /// Its id.
    pub id: PublisherId,
    /// Its host.
    pub host: HostName,
    /// Its process id, where known.
    pub pid: Option<u32>,
    /// The verdict.
    pub verdict: Verdict,
    /// Since when.
    pub since: Timestamp,
    /// When it was last heard.
    pub last_seen: Option<Timestamp>,
    /// Its deadline as it stands.
    pub deadline: Duration,
    /// How it is found: `fixed`, `intervals` or `adaptive`.
    pub deadline_kind: &'static str,
    /// What it rests on, in words; none when it is fixed.
    pub deadline_basis: Option<String>,
    /// The interval that it promises, once known.
    pub interval: Option<Duration>,
    /// The change that led to the verdict; none before the first.
    pub change: Option<Change>,
    /// Why it has its verdict, as of now; empty before the first.
    pub summary: String,
    /// The maintenance window that it is in.
    pub maintenance: Option<Open>,
    /// Whether it flaps: its changes are held back until it is steady.
    pub flapping: bool,
    /// The host whose loss speaks for its verdict (`host:NAME`).
    pub because: Option<PublisherId>,
}

/// The watchdog's answer to [`AskStatus`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StatusReply {
    /// Whether the monitor trusts itself, and why not.
    pub observer: ObserverStatus,
    /// Every publisher, ordered by id.
    pub publishers: Vec<PublisherStatus>,
}

/// Whether the monitor trusts its own ears.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ObserverStatus {
    /// `ok` or `suspect`.
    pub state: ObserverState,
    /// Why, in words; empty when ok.
    pub reason: String,
}

/// The observer's state in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObserverState {
    /// It hears; its verdicts can be trusted.
    #[default]
    Ok,
    /// It may have missed something; verdicts that rest on silence wait.
    Suspect,
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

/// influx writer: past verdict changes after an epoch, oldest first, at most `changes_max`.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Vec<Change>")]
pub struct AskChanges {
    /// Only changes with a larger epoch.
    pub since_epoch: u64,
    /// Only this publisher's, when given.
    pub publisher: Option<PublisherId>,
    /// Most changes to return.
    pub changes_max: usize,
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
