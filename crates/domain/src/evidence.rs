//! A fact that a verdict rests on, with its kind for programs and its text for people.

use serde::{Deserialize, Serialize};

/// Where a fact comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// What was heard from the publisher, or how long nothing was.
    Silence,
    /// What its deadline rests on, where it is not fixed.
    Deadline,
    /// The configuration expects it.
    Expected,
    /// What the probe saw of its process.
    Process,
    /// Its own goodbye.
    Goodbye,
    /// The broker's last will for it.
    LastWill,
    /// The lease of its host's agent in etcd.
    Lease,
    /// The state of the monitor and its connection.
    SelfCheck,
    /// Which host it runs on.
    Host,
    /// How its process ended, as its parent saw it.
    Exit,
    /// Whether it makes progress: CPU time used, or the cursor of its source.
    Progress,
    /// How often its verdict has changed lately.
    Flapping,
    /// A maintenance window.
    Maintenance,
    /// Who speaks under its id, one fact each.
    Speaker,
    /// Another verdict that the facts exclude.
    RuledOut,
}

/// One fact, in the `evidence` list of a verdict change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Where it comes from.
    pub kind: EvidenceKind,
    /// What it says, in words.
    pub detail: String,
}

impl Evidence {
    /// A fact of this kind.
    pub fn new(kind: EvidenceKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}
