//! Which numbers of one publisher's incarnation are safe, which are lost, and which are missing.
//!
//! Invariants, checked by the property tests in `tests.rs` against a set of plain numbers:
//! 1. A number is exactly one of: received, lost (with a reason), missing, elsewhere (another monitor has confirmed
//!    it: outside this account), or never given out.
//! 2. `produced = received + missing + lost`, always.
//! 3. A number is [`Accepted::New`] at most once, in any order of arrival and with any copies.
//! 4. What [`SequenceTracker::report`] calls safe is received, lost or elsewhere, and nothing else, also when
//!    there are more gaps than fit into the report.

mod saved;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::saved::{BadSavedTracker, SavedTracker};
use crate::reading::Sequence;

/// Most ranges above the first gap, and most named losses, that one incarnation may have.
pub const RANGES_MAX: usize = 1024;

/// Highest sequence number: the largest integer that JSON and every reader of it keep exactly.
pub const SEQUENCE_MAX: Sequence = 1 << 53;

/// Longest reason of a loss, in characters.
const REASON_CHARS_MAX: usize = 200;

/// What became of a number that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It is the first copy: store it.
    New,
    /// It was received before: drop this copy.
    Duplicate,
    /// It would open a gap more than the limit allows: refuse it, its publisher sends it again.
    TooManyGaps,
    /// It is 0 or above [`SEQUENCE_MAX`]: no publisher gives out such a number.
    NotASequence,
}

/// The limit on ranges is reached; nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {ranges_max} separate ranges of sequence numbers")]
pub struct TooManyGaps {
    /// The limit.
    pub ranges_max: usize,
}

/// Numbers that are gone for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostRange {
    /// First number.
    pub first: Sequence,
    /// Last number.
    pub last: Sequence,
    /// How many of them; fewer than the range holds where ranges were merged at the limit.
    pub count: u64,
    /// Why.
    pub reason: String,
}

/// How many numbers are in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SequenceCounts {
    /// Numbers known to exist, but for those that are elsewhere.
    pub produced: u64,
    /// Distinct numbers received.
    pub received: u64,
    /// Known to exist, neither received nor lost.
    pub missing: u64,
    /// Gone for good.
    pub lost: u64,
    /// Copies removed.
    pub duplicates: u64,
}

/// What is confirmed to a publisher: every number up to `highest` that is in no gap is safe or lost.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SafeReport {
    /// Every number up to this one is settled.
    pub through: Sequence,
    /// The highest number that this report speaks of.
    pub highest: Sequence,
    /// The gaps between the two, lowest first.
    pub gaps: Vec<(Sequence, Sequence)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Loss {
    last: Sequence,
    count: u64,
    reason: String,
}

/// The record of one incarnation. "Settled" means received, lost or elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceTracker {
    /// Every number up to this one is settled.
    through: Sequence,
    /// Settled ranges above the first gap, first to last; they neither touch nor overlap.
    above: BTreeMap<Sequence, Sequence>,
    /// How many numbers `above` holds.
    above_count: u64,
    produced: Sequence,
    duplicates: u64,
    /// Lost numbers by their first one; all of them are settled.
    lost: BTreeMap<Sequence, Loss>,
    lost_count: u64,
    /// Numbers that another monitor has confirmed, first to last; all of them are settled.
    elsewhere: BTreeMap<Sequence, Sequence>,
    elsewhere_count: u64,
    ranges_max: usize,
}

impl Default for SequenceTracker {
    fn default() -> Self {
        Self::new(RANGES_MAX)
    }
}

impl SequenceTracker {
    /// An empty record that holds at most `ranges_max` separate ranges.
    #[must_use]
    pub const fn new(ranges_max: usize) -> Self {
        Self {
            through: 0,
            above: BTreeMap::new(),
            above_count: 0,
            produced: 0,
            duplicates: 0,
            lost: BTreeMap::new(),
            lost_count: 0,
            elsewhere: BTreeMap::new(),
            elsewhere_count: 0,
            ranges_max,
        }
    }

    /// Takes note of a number that came. A number that was named lost or elsewhere and comes after all is new.
    pub fn accept(&mut self, sequence: Sequence) -> Accepted {
        if sequence == 0 || sequence > SEQUENCE_MAX {
            return Accepted::NotASequence;
        }
        self.produced = self.produced.max(sequence);
        // the usual case: the next one, with no gap before it
        if sequence == self.through + 1 && self.above.is_empty() {
            self.through = sequence;
            return Accepted::New;
        }
        if self.is_settled(sequence) {
            if let Some(range) = self.elsewhere_of(sequence) {
                return self.take_from_elsewhere(sequence, range);
            }
            if self.find_again(sequence) {
                return Accepted::New;
            }
            self.duplicates += 1;
            return Accepted::Duplicate;
        }
        match self.settle(sequence, sequence) {
            Ok(()) => Accepted::New,
            Err(_) => Accepted::TooManyGaps,
        }
    }

    /// What was taken for a copy is a reading of its own.
    pub const fn take_back_duplicate(&mut self) {
        self.duplicates = self.duplicates.saturating_sub(1);
    }

    /// Takes note that numbers up to `produced` were given out.
    pub fn know_produced(&mut self, produced: Sequence) {
        self.produced = self.produced.max(produced.min(SEQUENCE_MAX));
    }

    /// Names those numbers of the range lost that have not been received; says how many are newly so.
    ///
    /// # Errors
    /// [`TooManyGaps`], with nothing changed.
    pub fn mark_lost(&mut self, first: Sequence, last: Sequence, reason: &str) -> Result<u64, TooManyGaps> {
        let (first, last) = (first.max(1), last.min(SEQUENCE_MAX));
        if first > last {
            return Ok(0);
        }
        let unsettled = self.unsettled(first, last);
        self.settle(first, last)?;
        self.produced = self.produced.max(last);
        let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
        let mut count = 0;
        for (first, last) in unsettled {
            count += last - first + 1;
            self.add_loss(first, last, &reason);
        }
        self.lost_count += count;
        Ok(count)
    }

    /// Those numbers of the range that are neither received nor lost were confirmed by another monitor: they are
    /// outside this account. Says how many are newly so.
    ///
    /// # Errors
    /// [`TooManyGaps`], with nothing changed.
    pub fn mark_elsewhere(&mut self, first: Sequence, last: Sequence) -> Result<u64, TooManyGaps> {
        let (first, last) = (first.max(1), last.min(SEQUENCE_MAX));
        if first > last {
            return Ok(0);
        }
        let unsettled = self.unsettled(first, last);
        if self.elsewhere.len() + unsettled.len() > self.ranges_max {
            return Err(TooManyGaps { ranges_max: self.ranges_max });
        }
        self.settle(first, last)?;
        self.produced = self.produced.max(last);
        let mut count = 0;
        for (mut first, last) in unsettled {
            count += last - first + 1;
            if let Some((&start, &end)) = self.elsewhere.range(..first).next_back()
                && end + 1 == first
            {
                first = start;
            }
            let last = self.elsewhere.remove(&(last + 1)).unwrap_or(last);
            self.elsewhere.insert(first, last);
        }
        self.elsewhere_count += count;
        Ok(count)
    }

    /// Whether the number is received, lost or elsewhere.
    #[must_use]
    pub fn is_settled(&self, sequence: Sequence) -> bool {
        sequence <= self.through || self.above.range(..=sequence).next_back().is_some_and(|(_, &last)| sequence <= last)
    }

    /// Whether the number was received.
    #[must_use]
    pub fn is_received(&self, sequence: Sequence) -> bool {
        sequence > 0
            && self.is_settled(sequence)
            && self.loss_of(sequence).is_none()
            && self.elsewhere_of(sequence).is_none()
    }

    /// The highest number known to exist, wherever it is.
    #[must_use]
    pub const fn known(&self) -> Sequence {
        self.produced
    }

    /// Every number up to this one is received or lost.
    #[must_use]
    pub const fn through(&self) -> Sequence {
        self.through
    }

    /// The highest number that is received or lost.
    #[must_use]
    pub fn highest(&self) -> Sequence {
        self.above.last_key_value().map_or(self.through, |(_, &last)| last)
    }

    /// The lowest gaps below [`SequenceTracker::highest`], at most `gaps_max`.
    #[must_use]
    pub fn gaps(&self, gaps_max: usize) -> Vec<(Sequence, Sequence)> {
        let mut before = self.through;
        let mut gaps = Vec::new();
        for (&first, &last) in self.above.iter().take(gaps_max) {
            gaps.push((before + 1, first - 1));
            before = last;
        }
        gaps
    }

    /// What can be confirmed. Where there are more gaps than `gaps_max`, it ends before the first
    /// one that does not fit, so that nothing missing is ever taken for safe.
    #[must_use]
    pub fn report(&self, gaps_max: usize) -> SafeReport {
        let gaps = self.gaps(gaps_max);
        let highest = match gaps_max.checked_sub(1) {
            None => self.through,
            Some(last_reported) => self.above.values().nth(last_reported).copied().unwrap_or_else(|| self.highest()),
        };
        SafeReport { through: self.through, highest, gaps }
    }

    /// The numbers by state.
    #[must_use]
    pub const fn counts(&self) -> SequenceCounts {
        let settled = self.through + self.above_count;
        SequenceCounts {
            produced: self.produced - self.elsewhere_count,
            received: settled - self.lost_count - self.elsewhere_count,
            missing: self.produced - settled,
            lost: self.lost_count,
            duplicates: self.duplicates,
        }
    }

    /// The named losses, lowest first.
    pub fn losses(&self) -> impl Iterator<Item = LostRange> + '_ {
        self.lost.iter().map(|(&first, loss)| LostRange {
            first,
            last: loss.last,
            count: loss.count,
            reason: loss.reason.clone(),
        })
    }

    /// Makes a whole range settled.
    fn settle(&mut self, first: Sequence, last: Sequence) -> Result<(), TooManyGaps> {
        let first = first.max(self.through + 1);
        if first > last {
            return Ok(());
        }
        let touching: Vec<(Sequence, Sequence)> = self
            .above
            .range(..=last + 1)
            .rev()
            .take_while(|&(_, &end)| end + 1 >= first)
            .map(|(&start, &end)| (start, end))
            .collect();
        let reaches_through = first == self.through + 1;
        if touching.is_empty() && !reaches_through && self.above.len() >= self.ranges_max {
            return Err(TooManyGaps { ranges_max: self.ranges_max });
        }
        let (mut joined_first, mut joined_last) = (first, last);
        for (start, end) in touching {
            self.above.remove(&start);
            self.above_count -= end - start + 1;
            joined_first = joined_first.min(start);
            joined_last = joined_last.max(end);
        }
        if reaches_through {
            self.through = joined_last;
        } else {
            self.above.insert(joined_first, joined_last);
            self.above_count += joined_last - joined_first + 1;
        }
        Ok(())
    }

    /// The parts of a range that are neither received nor lost.
    #[must_use]
    pub fn unsettled(&self, first: Sequence, last: Sequence) -> Vec<(Sequence, Sequence)> {
        let mut parts = Vec::new();
        let mut next = first.max(self.through + 1);
        let start = self.above.range(..=next).next_back().map_or(next, |(&start, _)| start);
        if start <= last {
            for (&range_first, &range_last) in self.above.range(start..=last) {
                if range_first > next {
                    parts.push((next, range_first - 1));
                }
                next = next.max(range_last + 1);
            }
        }
        if next <= last {
            parts.push((next, last));
        }
        parts
    }

    /// The first number of the loss that this number is in.
    fn loss_of(&self, sequence: Sequence) -> Option<Sequence> {
        self.lost.range(..=sequence).next_back().filter(|(_, loss)| sequence <= loss.last).map(|(&first, _)| first)
    }

    fn elsewhere_of(&self, sequence: Sequence) -> Option<(Sequence, Sequence)> {
        let range = self.elsewhere.range(..=sequence).next_back().filter(|(_, last)| sequence <= **last);
        range.map(|(&first, &last)| (first, last))
    }

    /// A number that another monitor had confirmed came here after all.
    fn take_from_elsewhere(&mut self, sequence: Sequence, (first, last): (Sequence, Sequence)) -> Accepted {
        if first < sequence && sequence < last && self.elsewhere.len() >= self.ranges_max {
            return Accepted::TooManyGaps;
        }
        self.elsewhere.remove(&first);
        if first < sequence {
            self.elsewhere.insert(first, sequence - 1);
        }
        if sequence < last {
            self.elsewhere.insert(sequence + 1, last);
        }
        self.elsewhere_count -= 1;
        Accepted::New
    }

    /// A lost number came after all. In a merged range nobody knows which ones are lost, so there it stays a copy.
    fn find_again(&mut self, sequence: Sequence) -> bool {
        let Some(first) = self.loss_of(sequence) else { return false };
        let Some(loss) = self.lost.remove(&first) else { return false };
        if loss.count != loss.last - first + 1 {
            self.lost.insert(first, loss);
            return false;
        }
        self.lost_count -= 1;
        if sequence > first {
            let count = sequence - first;
            self.lost.insert(first, Loss { last: sequence - 1, count, reason: loss.reason.clone() });
        }
        if sequence < loss.last {
            let count = loss.last - sequence;
            self.lost.insert(sequence + 1, Loss { last: loss.last, count, reason: loss.reason });
        }
        self.merge_losses_at_limit();
        true
    }

    fn add_loss(&mut self, first: Sequence, last: Sequence, reason: &str) {
        let count = last - first + 1;
        if let Some((_, before)) = self.lost.range_mut(..first).next_back() {
            // a merged range ends with a lost number, so that a gap which begins in it ends in it
            let within_merged = last < before.last;
            if within_merged || before.last + 1 == first && before.reason == reason {
                before.last = before.last.max(last);
                before.count += count;
                return;
            }
        }
        self.lost.insert(first, Loss { last, count, reason: reason.to_owned() });
        self.merge_losses_at_limit();
    }

    /// Past the limit the two oldest losses become one with both reasons: the count stays exact.
    fn merge_losses_at_limit(&mut self) {
        while self.lost.len() > self.ranges_max.max(1) {
            let (Some((first, lower)), Some((_, upper))) = (self.lost.pop_first(), self.lost.pop_first()) else {
                return;
            };
            let reason = if lower.reason.contains(&upper.reason) {
                lower.reason
            } else {
                format!("{}; {}", lower.reason, upper.reason).chars().take(REASON_CHARS_MAX).collect()
            };
            self.lost.insert(first, Loss { last: upper.last, count: lower.count + upper.count, reason });
        }
    }
}
