//! What is in memory of what is on disk. A commit changes it when it is true on disk; after an error nothing of it is
//! believed, and it is read again.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use super::Level;
use super::block::Owner;
use super::copies::Places;
use super::dirty_incarnations::{DirtyIncarnation, DirtyIncarnations, Incarnations};
use super::incarnation::IncarnationState;
use super::marks::Marks;
use super::point_index::PointIndex;
use super::recent_blocks::RecentBlocks;
use super::shares::{Held, Shares};
use super::verdict_row::LastVerdict;
use heartwatch_domain::publisher::{Incarnation, PublisherId};
use heartwatch_domain::time::Timestamp;

/// What is in memory of what is on disk.
#[derive(Debug, Default)]
pub(super) struct MemoryState {
    pub(super) incarnations: Incarnations,
    /// Incarnations with numbers that are missing, by publisher.
    pub(super) missing: HashMap<PublisherId, BTreeSet<Incarnation>>,
    pub(super) verdicts: HashMap<PublisherId, LastVerdict>,
    pub(super) level: Level,
    /// Since when the accounts say which rows are here alone, and whose the rows without numbers are.
    pub(super) since: Timestamp,
    /// Who holds how much of the room.
    pub(super) shares: Shares,
    /// The block that was written last, also where it is gone.
    pub(super) last_block: i64,
    /// The messages without numbers that are here.
    pub(super) marks: Marks,
    /// In which blocks the numbers are.
    pub(super) places: Places,
    /// The points that are taken.
    pub(super) stamps: PointIndex,
    /// What was committed of late and waits for the sink.
    pub(super) fresh: RecentBlocks,
}

impl MemoryState {
    /// Takes over what was read at the start.
    pub(super) fn begin(&mut self, incarnations: Incarnations) {
        for (owner, state) in &incarnations {
            self.note_missing(owner, state);
            self.shares.note(&owner.0, Held::default());
        }
        self.incarnations = incarnations;
    }

    /// Takes over what a commit has changed.
    pub(super) fn adopt(&mut self, touched: DirtyIncarnations) {
        for DirtyIncarnation { owner, state, place, .. } in touched.into_iter() {
            self.note_missing(&owner, &state);
            match place.and_then(|place| self.incarnations.get_index_mut(place)) {
                Some((_, known)) => *known = state,
                None => {
                    self.shares.note(&owner.0, Held::default());
                    self.incarnations.insert(owner, state);
                }
            }
        }
    }

    fn note_missing(&mut self, owner: &Owner, state: &IncarnationState) {
        if state.tracker.counts().missing > 0 {
            self.missing.entry(owner.0.clone()).or_default().insert(owner.1);
        } else if let Some(lives) = self.missing.get_mut(&owner.0) {
            lives.remove(&owner.1);
            if lives.is_empty() {
                self.missing.remove(&owner.0);
            }
        }
    }
}
