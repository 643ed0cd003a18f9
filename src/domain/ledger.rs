//! The account of every row: for each publisher, produced = stored + buffered + missing + lost.

use serde::{Deserialize, Serialize};

/// The account of one publisher, in rows (readings; heartbeats and verdicts are not counted).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Account {
    /// Highest sequence number that the publisher is known to have given out, over all incarnations.
    pub produced: u64,
    /// Distinct readings that reached the monitor's disk.
    pub received: u64,
    /// Readings that the final store has confirmed: InfluxDB, or the embedded store without one.
    pub stored: u64,
    /// Readings on the monitor's disk that wait for the final store.
    pub buffered: u64,
    /// Copies that were recognised and removed.
    pub duplicates: u64,
    /// Numbers known to exist that have not reached us yet.
    pub missing: u64,
    /// Readings that are gone for good; each range has its reason in the store.
    pub lost: u64,
}

impl Account {
    /// The sum of two accounts: a publisher's incarnations, or the whole fleet.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            produced: self.produced + other.produced,
            received: self.received + other.received,
            stored: self.stored + other.stored,
            buffered: self.buffered + other.buffered,
            duplicates: self.duplicates + other.duplicates,
            missing: self.missing + other.missing,
            lost: self.lost + other.lost,
        }
    }

    /// Whether every row that was produced is accounted for.
    #[must_use]
    pub const fn balances(self) -> bool {
        self.produced == self.stored + self.buffered + self.missing + self.lost
    }
}
