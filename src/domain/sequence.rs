//! Which numbers of one publisher's incarnation are safe, which are lost, and which are missing.
//!
//! Invariants, checked by the property tests below against a set of plain numbers:
//! 1. A number is exactly one of: received, lost (with a reason), missing, or never given out.
//! 2. `produced = received + missing + lost`, always.
//! 3. A number is [`Accepted::New`] at most once, in any order of arrival and with any copies.
//! 4. What [`SequenceTracker::report`] calls safe is received or lost, and nothing else, also when
//!    there are more gaps than fit into the report.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::reading::Sequence;

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
    /// Highest number known to exist.
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

/// A tracker as it is written to disk: ranges as differences, so that it stays short.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SavedTracker {
    /// Every number up to this one is settled.
    pub through: Sequence,
    /// By turns: numbers skipped, numbers settled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub above: Vec<u64>,
    /// Highest number known.
    pub produced: Sequence,
    /// Copies removed.
    #[serde(default)]
    pub duplicates: u64,
    /// Named losses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<LostRange>,
}

/// A saved tracker contradicts itself: it was damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a saved sequence record contradicts itself: {0}")]
pub struct BadSavedTracker(&'static str);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Loss {
    last: Sequence,
    count: u64,
    reason: String,
}

/// The record of one incarnation. "Settled" means received or lost.
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
            ranges_max,
        }
    }

    /// Takes note of a number that came. A number that was named lost and comes after all is new.
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

    /// Whether the number is received or lost.
    #[must_use]
    pub fn is_settled(&self, sequence: Sequence) -> bool {
        sequence <= self.through || self.above.range(..=sequence).next_back().is_some_and(|(_, &last)| sequence <= last)
    }

    /// Whether the number was received.
    #[must_use]
    pub fn is_received(&self, sequence: Sequence) -> bool {
        sequence > 0 && self.is_settled(sequence) && self.loss_of(sequence).is_none()
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
            produced: self.produced,
            received: settled - self.lost_count,
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

    /// The form for the disk.
    #[must_use]
    pub fn save(&self) -> SavedTracker {
        let mut above = Vec::with_capacity(self.above.len() * 2);
        let mut before = self.through;
        for (&first, &last) in &self.above {
            above.extend([first - before - 1, last - first + 1]);
            before = last;
        }
        SavedTracker {
            through: self.through,
            above,
            produced: self.produced,
            duplicates: self.duplicates,
            lost: self.losses().collect(),
        }
    }

    /// From the form on disk.
    ///
    /// # Errors
    /// [`BadSavedTracker`] when it cannot have been written by [`SequenceTracker::save`].
    pub fn restore(saved: &SavedTracker, ranges_max: usize) -> Result<Self, BadSavedTracker> {
        let mut tracker = Self::new(ranges_max);
        if saved.through > SEQUENCE_MAX || saved.produced > SEQUENCE_MAX {
            return Err(BadSavedTracker("a number is too large"));
        }
        tracker.through = saved.through;
        tracker.duplicates = saved.duplicates;
        let mut before = saved.through;
        for pair in saved.above.chunks(2) {
            let &[skipped @ (1..), settled @ (1..)] = pair else { return Err(BadSavedTracker("an empty range")) };
            let first = before.checked_add(skipped).and_then(|gap| gap.checked_add(1));
            let last = first.and_then(|first| first.checked_add(settled - 1)).filter(|&last| last <= SEQUENCE_MAX);
            let (Some(first), Some(last)) = (first, last) else {
                return Err(BadSavedTracker("a number is too large"));
            };
            tracker.above.insert(first, last);
            tracker.above_count += settled;
            before = last;
        }
        if saved.produced < before {
            return Err(BadSavedTracker("fewer produced than received"));
        }
        tracker.produced = saved.produced;
        let mut after = 0;
        for range in &saved.lost {
            let LostRange { first, last, count, .. } = *range;
            if first <= after || last < first || last > SEQUENCE_MAX || count == 0 || count > last - first + 1 {
                return Err(BadSavedTracker("a loss that is no range"));
            }
            tracker.lost.insert(first, Loss { last, count, reason: range.reason.clone() });
            tracker.lost_count += count;
            after = last;
        }
        if tracker.lost_count > tracker.through + tracker.above_count {
            return Err(BadSavedTracker("more lost than settled"));
        }
        Ok(tracker)
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
    fn unsettled(&self, first: Sequence, last: Sequence) -> Vec<(Sequence, Sequence)> {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The same record as plain sets of numbers.
    #[derive(Default)]
    struct Model {
        received: BTreeSet<Sequence>,
        lost: BTreeSet<Sequence>,
        produced: Sequence,
        duplicates: u64,
    }

    #[derive(Debug, Clone)]
    enum Step {
        Accept(Sequence),
        Lose(Sequence, Sequence),
        Produced(Sequence),
        SaveAndRestore,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (1..60_u64).prop_map(Step::Accept),
            1 => (0..60_u64, 0..8_u64).prop_map(|(first, more)| Step::Lose(first, first + more)),
            1 => (0..70_u64).prop_map(Step::Produced),
            1 => Just(Step::SaveAndRestore),
        ];
        prop::collection::vec(step, 0..200)
    }

    fn agrees(tracker: &SequenceTracker, model: &Model) {
        let settled: BTreeSet<_> = model.received.union(&model.lost).copied().collect();
        let counts = tracker.counts();
        assert_eq!(counts.produced, model.produced);
        assert_eq!(counts.received, model.received.len() as u64);
        assert_eq!(counts.lost, model.lost.len() as u64);
        assert_eq!(counts.duplicates, model.duplicates);
        assert_eq!(counts.produced, counts.received + counts.missing + counts.lost);
        let through = (1..).take_while(|n| settled.contains(n)).last().unwrap_or(0);
        assert_eq!(tracker.through(), through);
        assert_eq!(tracker.highest(), settled.last().copied().unwrap_or(0));
        for gaps_max in [0, 1, 2, 1000] {
            let report = tracker.report(gaps_max);
            assert!(report.gaps.len() <= gaps_max);
            for number in 1..=report.highest {
                let in_gap = report.gaps.iter().any(|&(first, last)| (first..=last).contains(&number));
                assert_eq!(in_gap, !settled.contains(&number), "number {number} in {report:?}");
            }
        }
        assert_eq!(tracker.report(1000).highest, tracker.highest());
        let named: BTreeSet<_> = tracker.losses().flat_map(|range| range.first..=range.last).collect();
        assert_eq!(named, model.lost);
    }

    proptest! {
        #[test]
        fn any_history_agrees_with_plain_sets(steps in steps()) {
            let mut tracker = SequenceTracker::new(1000);
            let mut model = Model::default();
            for step in steps {
                match step {
                    Step::Accept(number) => {
                        let expected = if model.received.contains(&number) { Accepted::Duplicate } else { Accepted::New };
                        prop_assert_eq!(tracker.accept(number), expected);
                        model.duplicates += u64::from(expected == Accepted::Duplicate);
                        model.lost.remove(&number);
                        model.received.insert(number);
                        model.produced = model.produced.max(number);
                    }
                    Step::Lose(first, last) => {
                        let fresh: Vec<_> = (first.max(1)..=last)
                            .filter(|n| !model.received.contains(n) && !model.lost.contains(n)).collect();
                        prop_assert_eq!(tracker.mark_lost(first, last, &format!("reason {}", first % 3)), Ok(fresh.len() as u64));
                        model.lost.extend(fresh);
                        if last > 0 { model.produced = model.produced.max(last); }
                    }
                    Step::Produced(produced) => {
                        tracker.know_produced(produced);
                        model.produced = model.produced.max(produced);
                    }
                    Step::SaveAndRestore => {
                        let text = serde_json::to_string(&tracker.save()).unwrap();
                        let restored = SequenceTracker::restore(&serde_json::from_str(&text).unwrap(), 1000).unwrap();
                        prop_assert_eq!(&restored, &tracker);
                        tracker = restored;
                    }
                }
                agrees(&tracker, &model);
            }
        }

        #[test]
        fn at_the_limit_the_account_still_balances(steps in steps(), ranges_max in 1..4_usize) {
            let mut tracker = SequenceTracker::new(ranges_max);
            let mut received = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Accept(number) => {
                        let before = tracker.clone();
                        match tracker.accept(number) {
                            Accepted::New => prop_assert!(received.insert(number), "{number} was new twice"),
                            Accepted::Duplicate => {}
                            Accepted::TooManyGaps => {
                                before.above.keys().for_each(|key| assert!(tracker.above.contains_key(key)));
                                prop_assert!(!tracker.is_settled(number));
                            }
                            Accepted::NotASequence => prop_assert!(false),
                        }
                    }
                    Step::Lose(first, last) => { let _ = tracker.mark_lost(first, last, &first.to_string()); }
                    Step::Produced(produced) => tracker.know_produced(produced),
                    Step::SaveAndRestore => prop_assert_eq!(&SequenceTracker::restore(&tracker.save(), ranges_max).unwrap(), &tracker),
                }
                prop_assert!(tracker.above.len() <= ranges_max && tracker.lost.len() <= ranges_max);
                let counts = tracker.counts();
                prop_assert_eq!(counts.received, received.len() as u64);
                prop_assert_eq!(counts.produced, counts.received + counts.missing + counts.lost);
            }
        }

        #[test]
        fn a_damaged_record_is_refused_or_balances(through in any::<u64>(), above in prop::collection::vec(0..9_u64, 0..5), produced in any::<u64>(), first in any::<u64>(), last in any::<u64>(), count in any::<u64>()) {
            let lost = vec![LostRange { first, last, count, reason: String::new() }];
            if let Ok(tracker) = SequenceTracker::restore(&SavedTracker { through, above, produced, duplicates: 0, lost }, 10) {
                let counts = tracker.counts();
                prop_assert_eq!(counts.produced, counts.received + counts.missing + counts.lost);
            }
        }
    }

    #[test]
    fn numbers_that_nobody_gives_out_are_refused() {
        let mut tracker = SequenceTracker::default();
        assert_eq!(tracker.accept(0), Accepted::NotASequence);
        assert_eq!(tracker.accept(u64::MAX), Accepted::NotASequence);
        tracker.know_produced(u64::MAX);
        assert_eq!(tracker.mark_lost(1, u64::MAX, "all of it"), Ok(SEQUENCE_MAX));
        assert_eq!(tracker.counts().missing, 0);
    }
}
