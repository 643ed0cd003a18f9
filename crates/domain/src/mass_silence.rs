//! Many silent at once: that is rather our fault than theirs.
//!
//! When most of those who were well fall silent in the same moment, a switch, a broker or the monitor
//! is the likelier cause. Then verdicts that rest on silence wait for one more deadline; if the crowd
//! is still silent after that, each is judged for itself.

use std::time::Duration;

use crate::time::{Monotonic, describe_duration};

/// Fewer publishers than this are no crowd: two that fall silent together may be chance.
pub const CROWD_MIN: usize = 3;

/// Whether most are silent, and since when.
#[derive(Debug, Clone, Default)]
pub struct MassSilence {
    since: Option<Monotonic>,
    doubt: Option<(String, Monotonic)>,
}

impl MassSilence {
    /// Counts anew: `late` of `well` publishers (those without a bad verdict) are silent for longer than
    /// usual. Doubt lasts for `patience`.
    pub fn counted(&mut self, late: usize, well: usize, patience: Duration, now: Monotonic) {
        if well < CROWD_MIN || late * 2 <= well {
            let was_crowd = self.since.take().is_some();
            // They return one after another: the last ones have a quarter of the patience, half a deadline.
            self.doubt = self.doubt.take().filter(|_| late > 0).and_then(|(reason, ends_at)| {
                let ends_at = if was_crowd { ends_at.min(now + patience / 4) } else { ends_at };
                (now < ends_at).then_some((reason, ends_at))
            });
            return;
        }
        let since = *self.since.get_or_insert(now);
        let ends_at = since + patience;
        self.doubt = (now < ends_at).then(|| {
            let wait = describe_duration(patience);
            (format!("{late} of {well} publishers fell silent at once; judging them after {wait} more"), ends_at)
        });
    }

    /// Why silence is no evidence at the moment; none when it is.
    #[must_use]
    pub fn doubt(&self) -> Option<&str> {
        self.doubt.as_ref().map(|(reason, _)| reason.as_str())
    }

    /// Whether most were silent when they were last counted; it is over only when they are counted again.
    #[must_use]
    pub const fn is_silent(&self) -> bool {
        self.since.is_some() || self.doubt.is_some()
    }

    /// When the present doubt ends at the latest; whoever was held back by it is to be judged then.
    #[must_use]
    pub fn doubt_ends_at(&self) -> Option<Monotonic> {
        self.doubt.as_ref().map(|(_, ends_at)| *ends_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic::START + Duration::from_secs(seconds)
    }

    #[test]
    fn most_silent_at_once_is_doubt_for_one_more_deadline() {
        let patience = Duration::from_secs(5);
        let mut crowd = MassSilence::default();
        crowd.counted(2, 2, patience, at(0));
        assert_eq!(crowd.doubt(), None, "two are no crowd");
        crowd.counted(2, 4, patience, at(1));
        assert_eq!(crowd.doubt(), None, "half is not most");
        crowd.counted(3, 4, patience, at(2));
        assert_eq!(crowd.doubt(), Some("3 of 4 publishers fell silent at once; judging them after 5 s more"));
        assert_eq!(crowd.doubt_ends_at(), Some(at(7)));
        crowd.counted(4, 4, patience, at(6));
        assert!(crowd.doubt().is_some());
        crowd.counted(4, 4, patience, at(7));
        assert_eq!(crowd.doubt(), None, "they had their time");
        assert!(crowd.is_silent());
        crowd.counted(1, 4, patience, at(8));
        crowd.counted(4, 4, patience, at(9));
        assert!(crowd.doubt().is_some(), "a new episode");
        crowd.counted(1, 4, patience, at(10));
        assert_eq!(crowd.doubt_ends_at(), Some(at(10) + patience / 4), "the last one may be about to return");
        crowd.counted(1, 4, patience, at(12));
        assert_eq!((crowd.doubt(), crowd.is_silent()), (None, false));
    }
}
