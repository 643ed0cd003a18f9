//! The account of every row: for each publisher, produced = stored + buffered + missing + lost + expired.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::publisher::{Incarnation, PublisherId};
use crate::reading::Sequence;
use crate::time::Timestamp;

/// The account of one publisher, in rows (readings; heartbeats and verdicts are not counted).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Account {
    /// Rows that are known to exist: the highest sequence number that the publisher is known to have given out, and
    /// rows that came without a number of their own.
    pub produced: u64,
    /// Distinct rows that reached the monitor's disk.
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
    /// Rows that were stored in the monitor's own store alone, and have made room there for newer ones.
    pub expired: u64,
    /// Readings that came with a number that another one had; both are kept.
    pub conflicts: u64,
}

impl Account {
    /// The sum of two accounts: a publisher's incarnations, or the whole fleet.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            produced: self.produced.saturating_add(other.produced),
            received: self.received.saturating_add(other.received),
            stored: self.stored.saturating_add(other.stored),
            buffered: self.buffered.saturating_add(other.buffered),
            duplicates: self.duplicates.saturating_add(other.duplicates),
            missing: self.missing.saturating_add(other.missing),
            lost: self.lost.saturating_add(other.lost),
            expired: self.expired.saturating_add(other.expired),
            conflicts: self.conflicts.saturating_add(other.conflicts),
        }
    }

    /// Every count under its public name, in the order in which they are shown.
    #[must_use]
    pub const fn counts(self) -> [(&'static str, u64); 9] {
        let Self { produced, received, stored, buffered, duplicates, missing, lost, expired, conflicts } = self;
        [
            ("produced", produced),
            ("received", received),
            ("stored", stored),
            ("buffered", buffered),
            ("duplicates", duplicates),
            ("missing", missing),
            ("lost", lost),
            ("expired", expired),
            ("conflicts", conflicts),
        ]
    }

    /// Whether every row that was produced is accounted for.
    #[must_use]
    pub const fn balances(self) -> bool {
        let here = self.stored.saturating_add(self.buffered);
        let gone = self.lost.saturating_add(self.expired);
        self.produced == here.saturating_add(gone).saturating_add(self.missing)
    }
}

/// Readings that are gone for good, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedLoss {
    /// Whose they were.
    pub publisher: PublisherId,
    /// Which of its lives.
    pub incarnation: Incarnation,
    /// First number.
    pub first: Sequence,
    /// Last number.
    pub last: Sequence,
    /// How many of this range; fewer than it holds where only their count is known.
    pub count: u64,
    /// Why.
    pub reason: String,
}

/// One publisher in a reconciliation: what the ledger says is in the store, against what was counted there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconciled {
    /// Whose rows.
    pub publisher: String,
    /// Rows that the ledger calls stored, read after the count.
    pub stored: u64,
    /// Rows that the ledger calls buffered, read after the count: some of them may be in the store already.
    pub buffered: u64,
    /// Rows counted in the store.
    pub counted: u64,
    /// Rows too many (or, negative, too few) beyond what can be on its way; 0 when both agree.
    pub difference: i64,
    /// Whether they agree to the row, with nothing on its way.
    pub exact: bool,
}

/// Compares a count of the store with the accounts that were read before and after it. What was called
/// stored before has to be there; beyond what was called stored or buffered after nothing can be. With
/// nothing on its way that is equality.
#[must_use]
pub fn reconcile(
    before: &BTreeMap<String, Account>,
    counted: &BTreeMap<String, u64>,
    after: &BTreeMap<String, Account>,
) -> Vec<Reconciled> {
    let publishers: BTreeSet<&String> = before.keys().chain(counted.keys()).chain(after.keys()).collect();
    let compare = |publisher: &String| {
        let counted = counted.get(publisher).copied().unwrap_or(0);
        let least = before.get(publisher).map_or(0, |account| account.stored);
        let Account { stored, buffered, .. } = after.get(publisher).copied().unwrap_or_default();
        // an account that was put right after damage may have gone back in between
        let most = stored.saturating_add(buffered);
        let least = least.min(most);
        let expected = counted.clamp(least, most);
        let difference = i64::try_from(counted).unwrap_or(i64::MAX) - i64::try_from(expected).unwrap_or(i64::MAX);
        let exact = counted == stored && buffered == 0 && least == stored;
        Reconciled { publisher: publisher.clone(), stored, buffered, counted, difference, exact }
    };
    publishers.into_iter().map(compare).collect()
}

/// The account of one incarnation of one publisher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerLine {
    /// Whose account.
    pub publisher: PublisherId,
    /// Which of its lives.
    pub incarnation: Incarnation,
    #[serde(flatten)]
    /// What became of every row of it.
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

/// The account of every row, and the state of the sinks.
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
    /// The databases that rows go to, each with its queue.
    pub sinks: Vec<SinkStatus>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(stored: u64, buffered: u64) -> BTreeMap<String, Account> {
        BTreeMap::from([("light".to_owned(), Account { stored, buffered, ..Account::default() })])
    }

    #[test]
    fn sums_stop_at_the_largest_number_and_balance_with_what_has_expired() {
        let huge = Account { produced: u64::MAX, stored: u64::MAX - 1, expired: 1, conflicts: 3, ..Account::default() };
        assert!(huge.balances());
        assert!(!Account { expired: 0, ..huge }.balances());
        let both = huge.plus(huge);
        assert_eq!((both.produced, both.stored, both.expired, both.conflicts), (u64::MAX, u64::MAX, 2, 6));
        assert!(both.balances());
        let counted = BTreeMap::from([("light".to_owned(), u64::MAX)]);
        assert!(!reconcile(&one(1, 0), &counted, &one(u64::MAX, 9)).is_empty());
        let old: Account = serde_json::from_str(r#"{"produced":2,"received":2,"stored":2,"buffered":0}"#).unwrap();
        assert!(old.balances(), "an account that an earlier version wrote");
    }

    #[test]
    fn what_is_on_its_way_may_be_counted_or_not_and_nothing_else() {
        let outcome = |before, counted, after| {
            let counted = BTreeMap::from([("light".to_owned(), counted)]);
            let reconciled = reconcile(&before, &counted, &after).remove(0);
            (reconciled.difference, reconciled.exact)
        };
        assert_eq!(outcome(one(10, 0), 10, one(10, 0)), (0, true));
        assert_eq!(outcome(one(10, 0), 9, one(10, 0)), (-1, false), "one is not there");
        assert_eq!(outcome(one(10, 0), 11, one(10, 0)), (1, false), "one too many");
        assert_eq!(outcome(one(10, 5), 12, one(14, 3)), (0, false), "on its way");
        assert_eq!(outcome(one(10, 5), 18, one(14, 3)), (1, false));
        assert_eq!(outcome(BTreeMap::new(), 2, BTreeMap::new()), (2, false), "unknown to the ledger");
        assert_eq!(outcome(one(2, 0), 0, one(2, 0)), (-2, false));
    }
}
