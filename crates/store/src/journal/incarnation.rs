//! The ledger's state of one incarnation, and its form on disk.

use rusqlite::{Transaction, params};
use serde::{Deserialize, Serialize};

use super::block::Owner;
use crate::encoding::{sealed_for, unsealed_for};
use heartwatch_domain::intake::{DeliveryState, GAPS_REPORTED_MAX};
use heartwatch_domain::ledger::LedgerLine;
use heartwatch_domain::ledger::{Account, NamedLoss};
use heartwatch_domain::sequence::{RANGES_MAX, SavedTracker, SequenceTracker};
use heartwatch_domain::time::Timestamp;

/// `received = stored + buffered + rejected + damaged + expired`, where `buffered` is what undelivered blocks hold.
/// Received are the tracker's numbers and `unnumbered`. The state of [`Incarnation::UNNUMBERED`] can have both: a publisher
/// may say that this is its incarnation.
///
/// [`Incarnation::UNNUMBERED`]: heartwatch_domain::publisher::Incarnation::UNNUMBERED
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct IncarnationState {
    /// Its row in the file, so that it is not looked for by its name at every commit; none before its first.
    pub(super) row_id: Option<i64>,
    /// How far that row is behind.
    pub(super) unwritten: Unwritten,
    pub(super) tracker: SequenceTracker,
    /// Rows in blocks that the sink has confirmed.
    pub(super) stored: u64,
    /// Rows that the sink refused for good: each is a dead letter.
    pub(super) rejected: u64,
    /// Rows that were safe and whose bytes the disk has changed since.
    pub(super) damaged: u64,
    /// Rows that came without a number of their own; `conflicts` of them with the number of another reading.
    pub(super) unnumbered: u64,
    pub(super) conflicts: u64,
    /// Rows without a number of their own for which there was no room.
    pub(super) refused: u64,
    /// Rows without a number of their own that were copies of what was here.
    pub(super) copies: u64,
    /// Rows that were stored here alone and have made room.
    pub(super) expired: u64,
    /// Those of the stored rows that are here alone.
    pub(super) here: u64,
    /// Rows without numbers that have series and time of another one, and other fields.
    pub(super) merged: u64,
    /// The time of the earliest row without a number.
    pub(super) earliest: Option<i64>,
    /// `unnumbered` counts those of the blocks up to this one. Numbers tell by themselves whether they were counted.
    pub(super) counted_through: i64,
}

/// What an incarnation's row in the file does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Unwritten {
    #[default]
    Nothing,
    /// Readings that came since, each for the first time. The blocks that hold them wait for the sink and tell the same,
    /// so the row may wait: with many publishers it is what a commit would cost most.
    Readings,
    /// More than that.
    More,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    #[serde(flatten)]
    tracker: SavedTracker,
    stored: u64,
    rejected: u64,
    damaged: u64,
    #[serde(default, skip_serializing_if = "is_none")]
    unnumbered: u64,
    #[serde(default, skip_serializing_if = "is_none")]
    conflicts: u64,
    #[serde(default, skip_serializing_if = "is_none")]
    refused: u64,
    #[serde(default, skip_serializing_if = "is_none")]
    copies: u64,
    #[serde(default, skip_serializing_if = "is_none")]
    expired: u64,
    #[serde(default, skip_serializing_if = "is_none")]
    here: u64,
    #[serde(default, skip_serializing_if = "is_none")]
    merged: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    earliest: Option<i64>,
    #[serde(default, skip_serializing_if = "is_none")]
    counted_through: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives it so")]
const fn is_none(count: &u64) -> bool {
    *count == 0
}

fn name((publisher, incarnation): &Owner) -> Vec<u8> {
    format!("{publisher} {incarnation}").into_bytes()
}

impl IncarnationState {
    /// JSON with a checksum after it, over it and whose it is.
    pub(super) fn save(&self, owner: &Owner) -> Vec<u8> {
        let saved = Saved {
            tracker: self.tracker.save(),
            stored: self.stored,
            rejected: self.rejected,
            damaged: self.damaged,
            unnumbered: self.unnumbered,
            conflicts: self.conflicts,
            refused: self.refused,
            copies: self.copies,
            expired: self.expired,
            here: self.here,
            merged: self.merged,
            earliest: self.earliest,
            counted_through: if self.unnumbered > 0 { self.counted_through.cast_unsigned() } else { 0 },
        };
        sealed_for(serde_json::to_vec(&saved).unwrap_or_default(), &name(owner))
    }

    /// Notes a change that its row in the file does not say.
    pub(super) fn differs(&mut self, by: Unwritten) {
        self.unwritten = self.unwritten.max(by);
    }

    /// Rows without numbers came, the earliest of this time.
    pub(super) fn note_earliest(&mut self, time: Option<i64>) {
        if let Some(time) = time.filter(|time| self.earliest.is_none_or(|earliest| *time < earliest)) {
            self.earliest = Some(time);
            self.differs(Unwritten::More);
        }
    }

    /// Whether only its row in the file can say what it is.
    pub(super) fn has_to_be_written(&self) -> bool {
        self.row_id.is_none() || self.unwritten == Unwritten::More
    }

    /// Writes it into the file, whose last block this is.
    pub(super) fn write(
        &mut self,
        transaction: &Transaction<'_>,
        owner: &Owner,
        last_block: i64,
    ) -> rusqlite::Result<()> {
        self.counted_through = last_block;
        let state = self.save(owner);
        self.unwritten = Unwritten::Nothing;
        if let Some(id) = self.row_id {
            let mut update = transaction.prepare_cached("UPDATE incarnations SET state = ?2 WHERE id = ?1")?;
            if update.execute(params![id, state])? > 0 {
                return Ok(());
            }
        }
        let sql = "INSERT INTO incarnations (publisher, incarnation, state) VALUES (?1, ?2, ?3)
                   ON CONFLICT (publisher, incarnation) DO UPDATE SET state = excluded.state RETURNING id";
        let (publisher, incarnation) = (owner.0.as_str(), owner.1.0.cast_signed());
        let mut upsert = transaction.prepare_cached(sql)?;
        self.row_id = Some(upsert.query_row(params![publisher, incarnation, state], |row| row.get(0))?);
        Ok(())
    }

    /// None when it was damaged.
    pub(super) fn restore(row_id: i64, owner: &Owner, bytes: &[u8]) -> Option<Self> {
        let saved: Saved = serde_json::from_slice(unsealed_for(bytes, &name(owner))?).ok()?;
        let tracker = SequenceTracker::restore(&saved.tracker, RANGES_MAX).ok()?;
        Some(Self {
            row_id: Some(row_id),
            unwritten: Unwritten::Nothing,
            tracker,
            stored: saved.stored,
            rejected: saved.rejected,
            damaged: saved.damaged,
            unnumbered: saved.unnumbered,
            conflicts: saved.conflicts,
            refused: saved.refused,
            copies: saved.copies,
            expired: saved.expired,
            here: saved.here,
            merged: saved.merged,
            earliest: saved.earliest,
            counted_through: saved.counted_through.cast_signed(),
        })
    }

    /// Rows that came, as the numbers and counts say.
    pub(super) const fn received(&self) -> u64 {
        self.tracker.counts().received.saturating_add(self.unnumbered)
    }

    /// Rows that are neither here nor in the sink any more.
    const fn gone(&self) -> u64 {
        self.rejected.saturating_add(self.damaged).saturating_add(self.expired)
    }

    /// Rows that wait for the sink, as the numbers say.
    pub(super) const fn buffered(&self) -> u64 {
        self.received().saturating_sub(self.stored.saturating_add(self.gone()))
    }

    /// The line of the ledger. Without a sink, what is here is stored.
    pub(super) fn ledger_line(&self, owner: &Owner, has_sink: bool) -> LedgerLine {
        let counts = self.tracker.counts();
        let buffered = if has_sink { self.buffered() } else { 0 };
        let received = self.received();
        let account = Account {
            produced: counts.produced.saturating_add(self.unnumbered).saturating_add(self.refused),
            received,
            stored: received.saturating_sub(self.gone().saturating_add(buffered)),
            buffered,
            duplicates: counts.duplicates.saturating_add(self.copies),
            missing: counts.missing,
            lost: [counts.lost, self.rejected, self.damaged, self.refused].into_iter().fold(0, u64::saturating_add),
            expired: self.expired,
            conflicts: self.conflicts,
        };
        let in_a_sink = self.stored.saturating_sub(self.here);
        LedgerLine {
            stored_here: if has_sink { self.here } else { account.stored.saturating_sub(in_a_sink) },
            merged: self.merged,
            unnumbered_from: self.earliest.map(Timestamp::from_nanos),
            ..LedgerLine::new(owner.0.clone(), owner.1, account)
        }
    }

    /// What its `lost` consists of.
    pub(super) fn losses(&self, owner: &Owner) -> Vec<NamedLoss> {
        let named = |first, last, count, reason| NamedLoss {
            publisher: owner.0.clone(),
            incarnation: owner.1,
            first,
            last,
            count,
            reason,
        };
        let tracked = self.tracker.losses().map(|loss| named(loss.first, loss.last, loss.count, loss.reason));
        let summed = [
            (self.rejected, "refused by the sink: see the dead letters"),
            (self.damaged, "the disk changed its bytes"),
            (self.refused, "the journal had reached its limit, and nobody sends it again"),
        ];
        let highest = self.tracker.highest().saturating_add(self.unnumbered).saturating_add(self.refused);
        let summed = summed.into_iter().filter(|(count, _)| *count > 0);
        tracked.chain(summed.map(|(count, reason)| named(1, highest, count, reason.to_owned()))).collect()
    }

    /// What is confirmed to the publisher.
    pub(super) fn delivery_state(&self, owner: &Owner, refused: u64) -> DeliveryState {
        let report = self.tracker.report(GAPS_REPORTED_MAX);
        DeliveryState {
            publisher: owner.0.clone(),
            incarnation: owner.1,
            through: report.through,
            highest: report.highest,
            gaps: report.gaps,
            produced: self.tracker.known(),
            refused,
            journal: None,
        }
    }
}
