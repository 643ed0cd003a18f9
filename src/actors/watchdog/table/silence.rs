//! How many are silent at once: counted without a look at everybody, since there may be a million.

use super::*;

/// How often the silent are counted at most while there is a silence to judge: a count of a few is
/// cheap, one of a million takes a millisecond.
fn crowd_every(publishers: usize) -> Duration {
    let micros = u64::try_from(publishers / 4).unwrap_or(u64::MAX);
    Duration::from_micros(micros).clamp(Duration::from_millis(2), Duration::from_millis(200))
}

/// A look at everybody is followed by at least so many times as long without one. Where a million are silent at once, or the
/// machine is slow, it takes longer than the time between two looks is meant to be: one verdict would be given a look.
const REST_AFTER_A_LOOK: u32 = 4;

impl Table {
    /// From when on the time to the next look at everybody counts; `began` is when this one began.
    pub(super) fn rested_after(&self, now: Monotonic, began: Monotonic) -> Monotonic {
        now + self.clock.monotonic().since(began) * REST_AFTER_A_LOOK
    }

    /// Keeps the count of those who are well; after everything that may change a verdict.
    pub(super) fn count_well(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        let is_well = is_well(&entry.watch);
        if std::mem::replace(&mut entry.is_well, is_well) != is_well {
            self.well = if is_well { self.well + 1 } else { self.well - 1 };
        }
    }

    /// Whether a silence stands alone or in a crowd; counted only when there is one to judge.
    pub(super) fn count_the_silent_with(&mut self, index: u32, now: Monotonic) {
        if is_late(&self.observers, &self.entries[index as usize].watch, now) {
            self.count_the_silent(now);
        }
    }

    pub(super) fn count_the_silent(&mut self, now: Monotonic) {
        let every = crowd_every(self.entries.len());
        if let Some(at) = self.crowd_counted_at.filter(|at| now.since(*at) < every) {
            if let Some(ends_at) = self.crowd.doubt_ends_at() {
                // What has changed since may end the doubt: it is counted as soon as it may be.
                self.timers.set_doubt(Some(ends_at.min(at + every)));
            }
            return;
        }
        let began = self.clock.monotonic();
        let (mut late, well, mut patience) = (0, self.well, Duration::ZERO);
        for (entry, not_before) in self.entries.iter().zip(&mut self.not_late_before) {
            if now < *not_before {
                continue;
            }
            *not_before = entry.watch.late_at(self.observers.of(entry.watch.heard_on()));
            if entry.is_well && is_late(&self.observers, &entry.watch, now) {
                late += 1;
                patience = patience.max(entry.watch.deadline());
            }
        }
        debug_assert_eq!((late, well), self.count_one_by_one(now), "what is kept beside the entries is true of them");
        if late * 2 > well && self.one_host_is_silent(now) {
            late = 0;
        }
        self.crowd_counted_at = Some(self.rested_after(now, began));
        // The longest of their deadlines once more, from when the crowd was first seen.
        let doubted = self.crowd.doubt().is_some();
        self.crowd.counted(late, well, patience.saturating_mul(2), now);
        self.timers.set_doubt(self.crowd.doubt_ends_at());
        if doubted && self.crowd.doubt().is_none() {
            self.look_at_the_doubted(now);
        }
    }

    /// The late and the well, from the entries alone: what the shorter way has to come to.
    fn count_one_by_one(&self, now: Monotonic) -> (usize, usize) {
        let well = self.entries.iter().filter(|entry| is_well(&entry.watch));
        let late = well.clone().filter(|entry| is_late(&self.observers, &entry.watch, now));
        (late.count(), well.count())
    }

    /// The doubt is over: whoever was held back by it is judged now, not when the next look is due.
    fn look_at_the_doubted(&mut self, now: Monotonic) {
        for (index, entry) in (0_u32..).zip(&mut self.entries) {
            let is_doubted = entry.watch.verdict() == Verdict::Unknown && !entry.watch.has_ended();
            if is_doubted && entry.armed.is_none_or(|at| at > now) {
                let before = entry.armed.replace(now);
                self.timers.set(index, before, Some(now));
            }
        }
    }
}

/// Whether it was heard, and nothing bad is said of it.
pub(super) const fn is_well(watch: &Watch) -> bool {
    watch.last_heard().is_some() && matches!(watch.verdict(), Verdict::Alive | Verdict::Late | Verdict::Unknown)
}

/// Whether it has been silent for longer than is usual, on a way that is up.
pub(super) fn is_late(observers: &Observers, watch: &Watch, now: Monotonic) -> bool {
    watch.is_late(observers.of(watch.heard_on()), now)
}
