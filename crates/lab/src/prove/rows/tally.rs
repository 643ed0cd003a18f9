//! What a count comes to, in one round or in all of them.

use serde::Serialize;

/// What came out, over all publishers and lives so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(super) struct Tally {
    /// Readings that publishers kept.
    pub produced: u64,
    /// Of those, the ones that the store has.
    pub stored: u64,
    /// Rows that the store has more than once, counted without the first.
    pub doubled: u64,
    /// Readings that are not in the store and that the ledger calls lost, with the reason.
    pub lost_named: u64,
    /// Readings that are not in the store and of which the ledger does not know.
    pub lost_unnamed: u64,
    /// Rows in the store that nobody is known to have produced.
    pub unexpected: u64,
    /// Readings that the ledger calls lost and that the store has after all: damage took their record only.
    pub found_after_all: u64,
    /// Readings in a commit that a kill interrupted, before the publisher was told that they are kept, and
    /// whose file was damaged right after: they are nowhere, and do not count as produced.
    pub never_kept: u64,
    /// Readings that were stored here, and have made room since; the ledger knows how many.
    pub expired: u64,
    /// Rows in the store of a publisher whose outbox could not be read at its end: they count as produced, and what
    /// else it may have kept is not known.
    pub known_from_store: u64,
    /// Rows that the ledger calls stored beyond those that are in the store.
    pub overstated: u64,
    /// Messages of devices that a broker had confirmed and, killed, has never handed on. They do not count as produced.
    pub gone_with_broker: u64,
    /// Rows of devices that are there once more: the monitor's record of their messages was damaged before its broker knew that
    /// it had them, and sent them again. They do not count as doubled.
    pub again_after_damage: u64,
    /// Readings of a publisher that got lost on their way while somebody else used their number: a confirmation names the
    /// number, and was for the other one.
    pub in_anothers_place: u64,
}

impl Tally {
    /// What has come since an earlier count.
    #[must_use]
    pub(super) const fn since(self, before: Self) -> Self {
        Self {
            produced: self.produced.saturating_sub(before.produced),
            stored: self.stored.saturating_sub(before.stored),
            doubled: self.doubled.saturating_sub(before.doubled),
            lost_named: self.lost_named.saturating_sub(before.lost_named),
            lost_unnamed: self.lost_unnamed.saturating_sub(before.lost_unnamed),
            unexpected: self.unexpected.saturating_sub(before.unexpected),
            found_after_all: self.found_after_all.saturating_sub(before.found_after_all),
            never_kept: self.never_kept.saturating_sub(before.never_kept),
            expired: self.expired.saturating_sub(before.expired),
            known_from_store: self.known_from_store.saturating_sub(before.known_from_store),
            overstated: self.overstated.saturating_sub(before.overstated),
            gone_with_broker: self.gone_with_broker.saturating_sub(before.gone_with_broker),
            again_after_damage: self.again_after_damage.saturating_sub(before.again_after_damage),
            in_anothers_place: self.in_anothers_place.saturating_sub(before.in_anothers_place),
        }
    }

    /// Both together.
    #[must_use]
    pub(super) const fn plus(self, other: Self) -> Self {
        Self {
            produced: self.produced.saturating_add(other.produced),
            stored: self.stored.saturating_add(other.stored),
            doubled: self.doubled.saturating_add(other.doubled),
            lost_named: self.lost_named.saturating_add(other.lost_named),
            lost_unnamed: self.lost_unnamed.saturating_add(other.lost_unnamed),
            unexpected: self.unexpected.saturating_add(other.unexpected),
            found_after_all: self.found_after_all.saturating_add(other.found_after_all),
            never_kept: self.never_kept.saturating_add(other.never_kept),
            expired: self.expired.saturating_add(other.expired),
            known_from_store: self.known_from_store.saturating_add(other.known_from_store),
            overstated: self.overstated.saturating_add(other.overstated),
            gone_with_broker: self.gone_with_broker.saturating_add(other.gone_with_broker),
            again_after_damage: self.again_after_damage.saturating_add(other.again_after_damage),
            in_anothers_place: self.in_anothers_place.saturating_add(other.in_anothers_place),
        }
    }

    /// Whether every row is there once, or named.
    #[must_use]
    pub(super) const fn is_whole(self) -> bool {
        self.doubled == 0 && self.lost_unnamed == 0 && self.unexpected == 0
    }
}
