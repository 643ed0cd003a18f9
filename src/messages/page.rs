//! web → actors: what only the page asks: values as they come, and a look at a process now.

use actix::Message;
use serde::{Deserialize, Serialize};

use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::time::Timestamp;
use heartwatch_domain::verdict::Verdict;

/// subscriber: the latest values of some publishers.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "Vec<RecentValues>")]
pub struct AskRecent(pub Vec<PublisherId>);

/// The latest values of one publisher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecentValues {
    /// Whose.
    pub publisher: PublisherId,
    /// The fields of its last reading.
    pub fields: Vec<RecentField>,
    /// The first numeric field over its last readings, oldest first: milliseconds since 1970, value.
    pub line: Vec<(i64, f64)>,
}

/// One field of the last reading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecentField {
    /// The name of the field, as it stands in the row.
    pub name: String,
    /// Its value: a number, a boolean, or the beginning of a text.
    pub value: serde_json::Value,
}

/// watchdog: look at a publisher's process now. None: it is not known.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "Option<ProbeReport>")]
pub struct ProbeNow(pub PublisherId);

/// What the look found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// In words.
    pub found: String,
    /// When the probe looked.
    pub looked_at: Timestamp,
    /// The verdict after it.
    pub verdict: Verdict,
}
