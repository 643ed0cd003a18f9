//! A witness beside the journal: what its file held after its last commit, in a small file of its own.
//!
//! A file whose last commits were cut off cleanly, or that is gone, cannot say so itself. After each commit the
//! accounts that it has changed are noted here, a slot each, without a sync: a kill loses nothing of it, a power
//! failure may leave it behind the journal. It is never ahead: a commit is on disk before it is noted. At the start
//! both are compared; rows that were safe and are not there any more are lost by publisher and number.
//!
//! A kill cannot tear a slot, so that one that is not what was written is damage. Bounded: of more incarnations than there are slots the latest are noted.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use hashbrown::HashMap;

use super::block::Owner;
use super::dirty_incarnations::Incarnations;
use super::incarnation::IncarnationState;
use crate::disk::{beside, sync_directory};
use crate::encoding::{Decoder, put_bytes, put_number};
use crate::slot::{self, SLOT_BYTES, content, slot};
use heartwatch_domain::journal_id::JournalId;
use heartwatch_domain::publisher::{Incarnation, PublisherId};

/// Most incarnations that are noted.
const INCARNATIONS_MAX: usize = 8_191;
/// How many numbers a slot has.
const NUMBERS: usize = 12;
/// Why numbers are lost that the journal had and has no more.
const REASON_GONE: &str = "it was confirmed and safe here; the journal's file has lost it";

/// What was noted.
#[derive(Debug, Default)]
pub(super) struct Testimony {
    /// Which journal it is of; none where there is no witness.
    pub(super) identity: Option<JournalId>,
    /// The last verdict change.
    pub(super) last_epoch: u64,
    accounts: Vec<(Owner, WitnessedAccount)>,
    /// Slots that are not what was written.
    damaged: u64,
}

/// The account of one incarnation as it was after a commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct WitnessedAccount {
    /// Every number up to this one was received, lost or elsewhere.
    through: u64,
    /// The highest number that was known to exist.
    known: u64,
    /// Of the numbers: confirmed by another monitor.
    elsewhere: u64,
    /// Of the numbers.
    received: u64,
    unnumbered: u64,
    conflicts: u64,
    refused: u64,
    stored: u64,
    rejected: u64,
    damaged: u64,
    expired: u64,
    /// Of those stored, here alone.
    here: u64,
}

impl WitnessedAccount {
    fn of(state: &IncarnationState) -> Self {
        let counts = state.tracker.counts();
        let (through, known) = (state.tracker.through(), state.tracker.known());
        Self {
            through,
            known,
            elsewhere: known.saturating_sub(counts.produced),
            received: counts.received,
            unnumbered: state.unnumbered,
            conflicts: state.conflicts,
            refused: state.refused,
            stored: state.stored,
            rejected: state.rejected,
            damaged: state.damaged,
            expired: state.expired,
            here: state.here,
        }
    }

    const fn numbers(&self) -> [u64; NUMBERS] {
        let &Self { through, known, elsewhere, received, unnumbered, conflicts, .. } = self;
        let &Self { refused, stored, rejected, damaged, expired, here, .. } = self;
        [through, known, elsewhere, received, unnumbered, conflicts, refused, stored, rejected, damaged, expired, here]
    }

    const fn from_numbers(numbers: [u64; NUMBERS]) -> Self {
        let [
            through,
            known,
            elsewhere,
            received,
            unnumbered,
            conflicts,
            refused,
            stored,
            rejected,
            damaged,
            expired,
            here,
        ] = numbers;
        Self {
            through,
            known,
            elsewhere,
            received,
            unnumbered,
            conflicts,
            refused,
            stored,
            rejected,
            damaged,
            expired,
            here,
        }
    }
}

impl Testimony {
    /// Reads the witness beside this journal.
    pub(super) fn read(journal: &Path) -> Self {
        let mut bytes = Vec::new();
        let most = (SLOT_BYTES * (INCARNATIONS_MAX + 1)) as u64;
        let read = File::open(path(journal)).and_then(|file| file.take(most).read_to_end(&mut bytes));
        let mut noted = Self::default();
        if read.is_err() {
            return noted;
        }
        for (number, slot) in bytes.chunks(SLOT_BYTES).enumerate() {
            if slot::is_empty(slot) {
                continue;
            }
            let whole = match number {
                0 => header(slot).map(|(identity, epoch)| (noted.identity, noted.last_epoch) = (Some(identity), epoch)),
                _ => account(slot).map(|account| noted.accounts.push(account)),
            };
            noted.damaged += u64::from(whole.is_none());
        }
        noted
    }

    /// Compares what was noted with what is there, and puts right what only the witness knows; `changed` is told whose
    /// accounts that were.
    pub(super) fn compare(
        &self,
        identity: JournalId,
        incarnations: &mut Incarnations,
        changed: &mut HashSet<Owner>,
        damage: &mut Vec<String>,
    ) {
        if self.damaged > 0 {
            let (slots, known) = (self.damaged, self.accounts.len());
            damage.push(format!(
                "the witness beside the journal is damaged: {slots} of its notes are not what was written, {known} are"
            ));
        }
        if self.identity != Some(identity) {
            return;
        }
        for (owner, noted) in &self.accounts {
            let state = incarnations.entry(owner.clone()).or_default();
            let before = WitnessedAccount::of(state);
            let (restored, lost) = restore(state, noted);
            if before != WitnessedAccount::of(state) {
                changed.insert(owner.clone());
            }
            let (publisher, incarnation) = owner;
            if lost > 0 {
                damage.push(format!(
                    "{lost} rows of {publisher} (incarnation {incarnation}) that were safe here are not there any more"
                ));
            }
            if restored > 0 {
                damage.push(format!(
                    "the account of {publisher} (incarnation {incarnation}) had lost {restored} rows; it has them again from the witness"
                ));
            }
            let received = state.tracker.counts().received;
            if lost == 0 && received < noted.received {
                damage.push(format!(
                    "{} readings of {publisher} (incarnation {incarnation}) that were safe here are missing; it is asked for them",
                    noted.received - received
                ));
            }
        }
    }
}

/// Answers how many rows of the account are known again and how many are lost.
fn restore(state: &mut IncarnationState, noted: &WitnessedAccount) -> (u64, u64) {
    state.tracker.know_produced(noted.known);
    state.conflicts = state.conflicts.max(noted.conflicts);
    state.refused = state.refused.max(noted.refused);
    let behind = |noted: u64, here: u64| noted.saturating_sub(here);
    // what another monitor has confirmed came before what this one has: the oldest
    let mut elsewhere = behind(noted.elsewhere, WitnessedAccount::of(state).elsewhere);
    for (first, last) in state.tracker.unsettled(1, noted.through) {
        if elsewhere == 0 {
            break;
        }
        let last = last.min(first.saturating_add(elsewhere - 1));
        elsewhere -= state.tracker.mark_elsewhere(first, last).unwrap_or_default();
    }
    // what was in the sink, or was accounted for already, is not lost now; rows go to the sink in their order, so that
    // those that wait here, once more where only the mark of their delivery is gone, were in it before any that is missing
    let in_sink_or_waiting = state.stored.saturating_sub(state.here).saturating_add(state.buffered());
    let mut known_by = [
        behind(noted.stored.saturating_sub(noted.here), in_sink_or_waiting),
        behind(noted.rejected, state.rejected),
        behind(noted.damaged, state.damaged),
        behind(noted.expired, state.expired),
    ];
    let is_known_in_part = known_by.iter().any(|left| *left > 0);
    let mut restored = [0; 4];
    let mut take = || {
        let found = known_by.iter().position(|left| *left > 0)?;
        known_by[found] -= 1;
        restored[found] += 1;
        Some(())
    };
    // Where some of the missing numbers are in the sink, or were lost before, nobody knows which ones: the rest of them is
    // lost by its count.
    let mut lost = 0;
    if is_known_in_part {
        for (first, last) in state.tracker.unsettled(1, noted.through) {
            for sequence in first..=last {
                state.tracker.accept(sequence);
                lost += u64::from(take().is_none());
            }
        }
    }
    let unnumbered = behind(noted.unnumbered, state.unnumbered);
    for _ in 0..unnumbered {
        lost += u64::from(take().is_none());
    }
    state.unnumbered += unnumbered;
    let [stored, rejected, damaged, expired] = restored;
    state.stored += stored;
    state.rejected += rejected;
    state.damaged += damaged + lost;
    state.expired += expired;
    lost += state.tracker.mark_lost(1, noted.through, REASON_GONE).unwrap_or_default();
    (restored.iter().sum(), lost)
}

/// The witness while the journal is open. One that cannot be written is said once and done without.
#[derive(Debug, Default)]
pub(super) struct Witness {
    file: Option<File>,
    slots: HashMap<Owner, usize>,
    /// Whose each slot is, the header's aside.
    owners: Vec<Owner>,
    /// The slot to give away next where there is no free one.
    oldest: usize,
    identity: Option<JournalId>,
    last_epoch: u64,
}

impl Witness {
    /// Notes everything anew.
    pub(super) fn begin(journal: &Path, identity: JournalId, last_epoch: u64, incarnations: &Incarnations) -> Self {
        let mut all: Vec<_> = incarnations.iter().collect();
        all.sort_unstable_by_key(|((_, incarnation), _)| std::cmp::Reverse(*incarnation));
        all.truncate(INCARNATIONS_MAX);
        let mut witness = Self { identity: Some(identity), last_epoch, ..Self::default() };
        let mut bytes = slot_of_header(identity, last_epoch);
        for (owner, state) in all {
            witness.slots.insert(owner.clone(), witness.owners.len());
            witness.owners.push(owner.clone());
            bytes.extend(slot_of(owner, state));
        }
        let (new, path) = (beside(&path(journal), ".new"), path(journal));
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            Ok(file)
        });
        sync_directory(&path);
        match written {
            Ok(file) => witness.file = Some(file),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "what the journal holds cannot be noted beside it");
            }
        }
        witness
    }

    /// Notes what a commit has changed.
    pub(super) fn note<'a>(
        &mut self,
        changed: impl Iterator<Item = (&'a Owner, &'a IncarnationState)>,
        last_epoch: Option<u64>,
    ) {
        let Some(file) = &self.file else { return };
        let mut slots: Vec<(usize, Vec<u8>)> = Vec::new();
        if let (Some(epoch), Some(identity)) = (last_epoch.filter(|epoch| *epoch > self.last_epoch), self.identity) {
            self.last_epoch = epoch;
            slots.push((0, slot_of_header(identity, epoch)));
        }
        for (owner, state) in changed {
            let number = match self.slots.get(owner) {
                Some(number) => *number,
                None => {
                    let number = if self.owners.len() < INCARNATIONS_MAX {
                        self.owners.push(owner.clone());
                        self.owners.len() - 1
                    } else {
                        self.oldest = (self.oldest + 1) % INCARNATIONS_MAX;
                        if let Some(replaced) = self.owners.get_mut(self.oldest) {
                            self.slots.remove(replaced);
                            *replaced = owner.clone();
                        }
                        self.oldest
                    };
                    self.slots.insert(owner.clone(), number);
                    number
                }
            };
            slots.push((number + 1, slot_of(owner, state)));
        }
        slots.sort_unstable_by_key(|(number, _)| *number);
        if let Err(error) = write_runs(file, &slots) {
            tracing::warn!(%error, "what the journal holds cannot be noted beside it any more");
            self.file = None;
        }
    }
}

/// Writes neighbours at once.
fn write_runs(file: &File, slots: &[(usize, Vec<u8>)]) -> std::io::Result<()> {
    for run in slots.chunk_by(|(one, _), (next, _)| one + 1 == *next) {
        let Some((first, _)) = run.first() else { continue };
        let bytes: Vec<u8> = run.iter().flat_map(|(_, bytes)| bytes).copied().collect();
        file.write_all_at(&bytes, (first * SLOT_BYTES) as u64)?;
    }
    Ok(())
}

fn path(journal: &Path) -> std::path::PathBuf {
    beside(journal, ".witness")
}

fn slot_of_header(identity: JournalId, last_epoch: u64) -> Vec<u8> {
    let mut bytes = identity.to_bits().to_be_bytes().to_vec();
    put_number(&mut bytes, last_epoch);
    slot(bytes)
}

fn header(slot: &[u8]) -> Option<(JournalId, u64)> {
    let mut from = Decoder(content(slot)?);
    Some((JournalId::from_bits(u128::from_be_bytes(from.array()?)), from.number()?))
}

fn slot_of((publisher, incarnation): &Owner, state: &IncarnationState) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SLOT_BYTES);
    put_bytes(&mut bytes, publisher.as_str().as_bytes());
    put_number(&mut bytes, incarnation.0);
    WitnessedAccount::of(state).numbers().into_iter().for_each(|number| put_number(&mut bytes, number));
    slot(bytes)
}

fn account(slot: &[u8]) -> Option<(Owner, WitnessedAccount)> {
    let mut from = Decoder(content(slot)?);
    let publisher = PublisherId::parse(&from.text()?).ok()?;
    let incarnation = Incarnation(from.number()?);
    let mut numbers = [0; NUMBERS];
    for number in &mut numbers {
        *number = from.number()?;
    }
    Some(((publisher, incarnation), WitnessedAccount::from_numbers(numbers)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by `prove --rows --seed 1`: rows were called stored that no sink ever had.
    #[test]
    fn what_waits_here_again_is_what_the_sink_had_and_not_what_is_missing() {
        let mut state = IncarnationState { stored: 14, ..IncarnationState::default() };
        for sequence in 1..=24 {
            state.tracker.accept(sequence);
        }
        assert_eq!(state.buffered(), 10);
        let noted =
            WitnessedAccount { through: 44, known: 44, received: 44, stored: 34, ..WitnessedAccount::default() };
        // 1 to 34 were in the sink, of which 15 to 24 wait here once more; the journal alone had the last ten
        assert_eq!(restore(&mut state, &noted), (10, 10));
        assert_eq!(
            (state.stored, state.damaged, state.buffered()),
            (24, 10, 10),
            "which of 25 to 44 it were nobody knows"
        );
        assert_eq!(state.tracker.losses().count(), 0);
    }
}
