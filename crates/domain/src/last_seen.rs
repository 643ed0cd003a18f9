//! What a monitor knows of its publishers beyond their verdicts, and what survives its end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::publisher::PublisherId;
use crate::time::Timestamp;
use crate::verdict::Verdict;

/// When everybody was heard last, as of one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastSeen {
    /// When that was so.
    pub at: Timestamp,
    /// Whether the monitor ended in order at that instant: nothing was heard after it.
    pub in_order: bool,
    /// Who was heard, and when last.
    pub heard: BTreeMap<PublisherId, Timestamp>,
    /// The last verdicts that people were notified of, where they were not told of the last change.
    #[serde(default)]
    pub notified: BTreeMap<PublisherId, Verdict>,
    /// Who said goodbye because the monitor that had started it ended. It is nobody's verdict.
    pub left_with_monitor: Vec<PublisherId>,
}
