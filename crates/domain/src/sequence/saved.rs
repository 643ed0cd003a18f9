//! A tracker as it is on disk, and back.

use serde::{Deserialize, Serialize};

use super::{Loss, LostRange, SEQUENCE_MAX, SequenceTracker};
use crate::reading::Sequence;

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
    /// Numbers that another monitor has confirmed: first and last of each range.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<(Sequence, Sequence)>,
}

/// A saved tracker contradicts itself: it was damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a saved sequence record contradicts itself: {0}")]
pub struct BadSavedTracker(&'static str);

impl SequenceTracker {
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
            elsewhere: self.elsewhere.iter().map(|(&first, &last)| (first, last)).collect(),
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
        let mut after = 0;
        for &(first, last) in &saved.elsewhere {
            if first <= after || last < first || last > SEQUENCE_MAX {
                return Err(BadSavedTracker("no range of numbers that are elsewhere"));
            }
            tracker.elsewhere.insert(first, last);
            tracker.elsewhere_count += last - first + 1;
            after = last;
        }
        if tracker.lost_count + tracker.elsewhere_count > tracker.through + tracker.above_count {
            return Err(BadSavedTracker("more lost than settled"));
        }
        Ok(tracker)
    }
}
