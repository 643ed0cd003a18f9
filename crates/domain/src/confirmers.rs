//! Which monitor has confirmed which readings of one life of a publisher. A monitor that asks for numbers which the
//! publisher has no more is told who has them: what another one confirmed is outside its account, and what it had
//! confirmed itself is lost there.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::journal_id::JournalId;
use crate::reading::Sequence;

/// Most ranges of one life: so often its publisher may change between monitors. Beyond it the lowest are forgotten.
pub const RANGES_MAX: usize = 64;

/// Who has confirmed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Confirmer {
    /// The monitor with this journal.
    Journal(JournalId),
    /// One that does not say which: an earlier version, or a server whose protocol confirms nothing.
    Unnamed,
}

impl Confirmer {
    /// Whoever confirms, as it says.
    #[must_use]
    pub fn of(journal: Option<JournalId>) -> Self {
        journal.map_or(Self::Unnamed, Self::Journal)
    }
}

impl fmt::Display for Confirmer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journal(id) => id.fmt(f),
            Self::Unnamed => f.write_str("unnamed"),
        }
    }
}

/// A later version may name confirmers in other ways: none of them is a journal that we know.
impl FromStr for Confirmer {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::of(text.parse().ok()))
    }
}

/// Numbers of one life, and who has confirmed them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confirmers {
    /// First number → last one and who; they do not overlap, and neighbours are of different confirmers.
    ranges: BTreeMap<Sequence, (Sequence, Confirmer)>,
}

/// As it is kept: first, last, who.
#[derive(Serialize, Deserialize)]
struct Saved(Vec<(Sequence, Sequence, String)>);

impl Confirmers {
    /// Numbers from `first` to `last` were confirmed and are held no more. What lies between two ranges of the same
    /// confirmer was settled with it as well.
    pub fn note(&mut self, mut first: Sequence, mut last: Sequence, by: Confirmer) {
        if first > last {
            return;
        }
        let overlapping: Vec<_> = (self.ranges.range(..=last).rev())
            .take_while(|(_, (end, _))| *end >= first)
            .map(|(&start, &(end, of))| (start, end, of))
            .collect();
        for (start, end, of) in overlapping {
            self.ranges.remove(&start);
            if start < first {
                self.ranges.insert(start, (first - 1, of));
            }
            if end > last {
                self.ranges.insert(last + 1, (end, of));
            }
        }
        if let Some((&start, &(_, of))) = self.ranges.range(..first).next_back()
            && of == by
        {
            self.ranges.remove(&start);
            first = start;
        }
        if let Some((&start, &(end, of))) = self.ranges.range(last..).next()
            && of == by
        {
            self.ranges.remove(&start);
            last = end;
        }
        self.ranges.insert(first, (last, by));
        while self.ranges.len() > RANGES_MAX {
            self.ranges.pop_first();
        }
    }

    /// A range in pieces, each with who has confirmed it; none where nobody is known.
    #[must_use]
    pub fn split(&self, first: Sequence, last: Sequence) -> Vec<(Sequence, Sequence, Option<Confirmer>)> {
        let mut pieces = Vec::new();
        let mut next = first;
        let from = self.ranges.range(..=first).next_back().map_or(first, |(&start, _)| start);
        if from <= last {
            for (&start, &(end, by)) in self.ranges.range(from..=last) {
                let (begin, end) = (start.max(next), end.min(last));
                if begin > end {
                    continue;
                }
                if next < begin {
                    pieces.push((next, begin - 1, None));
                }
                pieces.push((begin, end, Some(by)));
                next = end + 1;
            }
        }
        if next <= last {
            pieces.push((next, last, None));
        }
        pieces
    }

    /// The form for the disk.
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        let ranges = self.ranges.iter().map(|(&first, (last, by))| (first, *last, by.to_string())).collect();
        serde_json::to_vec(&Saved(ranges)).unwrap_or_default()
    }

    /// From the form on disk; none when it cannot have been written by [`Confirmers::save`].
    #[must_use]
    pub fn restore(bytes: &[u8]) -> Option<Self> {
        let Saved(saved) = serde_json::from_slice(bytes).ok()?;
        let (mut confirmers, mut before) = (Self::default(), 0);
        for (first, last, by) in saved {
            if first <= before || last < first || confirmers.ranges.len() >= RANGES_MAX {
                return None;
            }
            before = last;
            let Ok(by) = by.parse();
            confirmers.ranges.insert(first, (last, by));
        }
        Some(confirmers)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn journal(bits: u128) -> Confirmer {
        Confirmer::Journal(JournalId::from_bits(bits))
    }

    #[test]
    fn who_has_confirmed_a_number_is_known_also_after_a_restart() {
        let mut confirmers = Confirmers::default();
        confirmers.note(1, 3_000, journal(1));
        confirmers.note(3_500, 4_000, journal(1));
        confirmers.note(4_001, 4_010, Confirmer::Unnamed);
        // What had stayed behind came to another monitor.
        confirmers.note(3_100, 3_200, journal(2));
        let pieces = [
            (1, 3_099, Some(journal(1))),
            (3_100, 3_200, Some(journal(2))),
            (3_201, 4_000, Some(journal(1))),
            (4_001, 4_010, Some(Confirmer::Unnamed)),
            (4_011, 5_000, None),
        ];
        assert_eq!(confirmers.split(1, 5_000), pieces);
        assert_eq!(confirmers.split(3_150, 3_150), [(3_150, 3_150, Some(journal(2)))]);
        assert_eq!(confirmers.split(9_000, 9_001), [(9_000, 9_001, None)]);
        assert_eq!(Confirmers::restore(&confirmers.save()), Some(confirmers));
        for wrong in ["", "{}", r#"[[2,1,"unnamed"]]"#, r#"[[1,5,"unnamed"],[5,6,"unnamed"]]"#] {
            assert_eq!(Confirmers::restore(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn of_many_changes_the_latest_are_known() {
        let mut confirmers = Confirmers::default();
        for number in 1..=1_000_u64 {
            confirmers.note(number, number, journal(u128::from(number % 2)));
        }
        assert_eq!(confirmers.split(1_000, 1_000), [(1_000, 1_000, Some(journal(0)))]);
        assert_eq!(confirmers.split(1, 1), [(1, 1, None)]);
        assert_eq!(confirmers.ranges.len(), RANGES_MAX);
    }

    proptest! {
        /// The one who confirmed a number last is said, or one who had confirmed some on both sides of it, or nobody.
        #[test]
        fn nobody_is_said_to_have_what_he_has_not(notes in prop::collection::vec((1..60_u64, 0..9_u64, 0..3_u128), 0..30)) {
            let mut confirmers = Confirmers::default();
            let mut plain = BTreeMap::new();
            for &(first, more, by) in &notes {
                confirmers.note(first, first + more, journal(by));
                plain.extend((first..=first + more).map(|number| (number, journal(by))));
            }
            let pieces = confirmers.split(1, 80);
            let mut next = 1;
            for (first, last, by) in pieces {
                prop_assert_eq!(first, next);
                for number in first..=last {
                    match (plain.get(&number), by) {
                        (Some(who), by) => prop_assert_eq!(Some(*who), by),
                        (None, None) => {}
                        (None, Some(by)) => {
                            let below = notes.iter().any(|(first, _, of)| *first < number && journal(*of) == by);
                            let above = notes.iter().any(|(first, _, of)| *first > number && journal(*of) == by);
                            prop_assert!(below && above);
                        }
                    }
                }
                next = last + 1;
            }
            prop_assert_eq!(next, 81);
        }
    }
}
