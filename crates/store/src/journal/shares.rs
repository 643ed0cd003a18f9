//! Each publisher's share of the journal's room: what a flood of others cannot take.
//!
//! At the limit the oldest rows that are stored here alone make room. They are looked through once a round, oldest first;
//! rows of a publisher that holds no more than its share stay, and the rows around them go. With a sink, what waits for it is
//! never dropped: a publisher that holds more than its share is refused first, so that the others find room.
//!
//! Invariant, attacked by `tests/shares.rs`: while rows of a publisher that holds more than its share are here, none
//! of a publisher with less is dropped or refused.

use std::collections::HashSet;

use hashbrown::HashMap;

use heartwatch_domain::publisher::PublisherId;

/// Half of the room is shared equally by who stores here alone.
const STORED_SHARED_PARTS: u64 = 2;
/// An eighth of it by those whose rows wait for a sink: it is kept free for them, and of no use to others.
pub(super) const WAITING_SHARED_PARTS: u64 = 8;
/// Rounds begin anew when a sixteenth of the room was made since the last one began.
const ROUND_PARTS: u64 = 16;

/// Bytes of blocks, about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Held {
    /// Of rows that wait for the sink.
    pub(super) waiting: u64,
    /// Of rows that are stored here alone.
    pub(super) here: u64,
}

/// What every publisher of the ledger holds.
#[derive(Debug, Default)]
pub(super) struct Shares {
    held: HashMap<PublisherId, Held>,
    round: Round,
}

/// How far the blocks were looked through for rows that can make room.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Round {
    /// When the last one was committed, and its id.
    after: (i64, i64),
    /// Bytes of room made.
    freed: u64,
    /// Whose rows were left.
    kept: HashSet<PublisherId>,
}

impl Default for Round {
    fn default() -> Self {
        Self { after: (i64::MIN, i64::MIN), freed: 0, kept: HashSet::new() }
    }
}

/// What a commit changes in it.
#[derive(Debug)]
pub(super) struct NewShares {
    /// Bytes more or fewer, waiting and here.
    held: HashMap<PublisherId, (i64, i64)>,
    /// What it adds to the round, or a new one.
    round: Round,
    is_new_round: bool,
}

impl Shares {
    /// It is in the ledger and has a share.
    pub(super) fn note(&mut self, publisher: &PublisherId, held: Held) {
        let known = self.held.entry_ref(publisher).or_default();
        known.waiting += held.waiting;
        known.here += held.here;
    }

    /// A commit that has changed nothing yet.
    pub(super) fn unchanged(&self) -> NewShares {
        let round = Round { after: self.round.after, freed: self.round.freed, kept: HashSet::new() };
        NewShares { held: HashMap::new(), round, is_new_round: false }
    }

    /// Takes over what a commit has changed.
    pub(super) fn adopt(&mut self, new: NewShares) {
        for (publisher, (waiting, here)) in new.held {
            let held = self.held.entry(publisher).or_default();
            held.waiting = held.waiting.saturating_add_signed(waiting);
            held.here = held.here.saturating_add_signed(here);
        }
        let mut round = new.round;
        if !new.is_new_round {
            let kept = std::mem::take(&mut self.round.kept);
            if round.kept.is_empty() {
                round.kept = kept;
            } else {
                round.kept.extend(kept);
            }
        }
        self.round = round;
    }

    /// The bytes that are each publisher's own of what is stored here alone.
    pub(super) fn of_stored(&self, bytes_max: u64) -> u64 {
        bytes_max / STORED_SHARED_PARTS / (self.held.len() as u64).max(1)
    }

    /// The bytes that are each publisher's own of what waits for the sink.
    pub(super) fn of_waiting(&self, bytes_max: u64) -> u64 {
        bytes_max / WAITING_SHARED_PARTS / (self.held.len() as u64).max(1)
    }

    /// Bytes that are kept free for those that hold less than their share.
    pub(super) fn kept_free(&self, bytes_max: u64) -> u64 {
        let share = self.of_waiting(bytes_max);
        self.held.values().map(|held| share.saturating_sub(held.waiting)).sum()
    }

    /// What a publisher holds when the commit is true.
    pub(super) fn held(&self, new: &NewShares, publisher: &PublisherId) -> Held {
        let known = self.held.get(publisher).copied().unwrap_or_default();
        let (waiting, here) = new.held.get(publisher).copied().unwrap_or_default();
        Held { waiting: known.waiting.saturating_add_signed(waiting), here: known.here.saturating_add_signed(here) }
    }

    /// How many bytes of what is stored here alone a publisher can spare: nothing where older rows of it were left
    /// in this round.
    pub(super) fn spare(&self, new: &NewShares, publisher: &PublisherId, share: u64) -> u64 {
        let was_kept = !new.is_new_round && self.round.kept.contains(publisher);
        if was_kept || new.round.kept.contains(publisher) {
            return 0;
        }
        self.held(new, publisher).here.saturating_sub(share)
    }

    /// Whether rows that were left have to be looked at again: somebody holds more than its share now.
    pub(super) fn round_is_over(&self, new: &NewShares, bytes_max: u64) -> bool {
        let share = self.of_stored(bytes_max);
        let before = self.round.kept.iter().filter(|_| !new.is_new_round);
        new.round.freed >= bytes_max / ROUND_PARTS
            && before.chain(&new.round.kept).any(|publisher| self.held(new, publisher).here > share)
    }
}

impl NewShares {
    /// So many bytes of a publisher more or fewer.
    pub(super) fn change(&mut self, publisher: &PublisherId, waiting: i64, here: i64) {
        let held = self.held.entry_ref(publisher).or_default();
        *held = (held.0 + waiting, held.1 + here);
    }

    /// The block that was looked at last.
    pub(super) const fn after(&self) -> (i64, i64) {
        self.round.after
    }

    /// A block was looked at, and so many bytes of it have made room.
    pub(super) fn looked_at(&mut self, block: (i64, i64), freed: u64) {
        self.round.after = block;
        self.round.freed += freed;
    }

    /// Rows of it were left.
    pub(super) fn keep(&mut self, publisher: &PublisherId) {
        if !self.round.kept.contains(publisher) {
            self.round.kept.insert(publisher.clone());
        }
    }

    /// Begins with the oldest block again.
    pub(super) fn begin_round(&mut self) {
        (self.round, self.is_new_round) = (Round::default(), true);
    }

    /// Whether the next block is the oldest one.
    pub(super) fn is_at_the_oldest(&self) -> bool {
        self.round.after == Round::default().after
    }
}
