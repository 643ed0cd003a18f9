//! watchdog → influx writer: verdict changes, to be made durable, and the standing verdicts.

use std::sync::Arc;

use actix::Message;

use crate::domain::publisher::{HostName, PublisherId};
use crate::domain::time::Timestamp;
use crate::domain::verdict::{Change, Verdict};

/// A standing verdict, written every 10 s so that a query always has an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Whose.
    pub publisher: PublisherId,
    /// Where.
    pub host: HostName,
    /// The verdict.
    pub verdict: Verdict,
    /// The epoch of the change that led to it.
    pub epoch: u64,
    /// When it is repeated.
    pub at: Timestamp,
}

/// Verdict changes in the order of their epochs. The reply comes after the commit.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct RecordChanges(pub Arc<Vec<Change>>);

/// The verdicts as they stand.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct RecordStanding(pub Arc<Vec<Standing>>);

/// roles → watchdog: the deadlines and the expected publishers of a new configuration.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct SetDeadlines {
    /// Which deadline each publisher has.
    pub rules: crate::domain::deadline::DeadlineRules,
    /// Publishers that are expected to be heard.
    pub expected: Vec<PublisherId>,
    /// Publishers that run in the monitor's own process: for others that process is no evidence.
    pub inside: Vec<PublisherId>,
    /// Maintenance windows of the configuration.
    pub scheduled: Vec<crate::domain::maintenance::Scheduled>,
    /// When a publisher is flapping.
    pub flapping: crate::domain::flapping::FlappingLimits,
}
