//! Times at which the monitor's own disk held up what it hears, taken out of everybody's silence.
//!
//! Were the count begun anew after each, a disk that stands still once a deadline would keep every silence from being judged.

use std::collections::VecDeque;

use crate::time::Monotonic;

/// What has waited during a hold-up is heard within so many times as long: a monitor that gets four fifths of what it can take
/// needs that. Where they come faster, it is further behind than can be known, and the count begins anew after each.
const HEARD_WITHIN: u32 = 4;
/// Most hold-ups that are remembered; of who has been silent for longer than these take, the count begins anew.
const HOLD_UPS_MAX: usize = 256;

/// The hold-ups so far, and the one under way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct HoldUps {
    /// When the one under way began.
    since: Option<Monotonic>,
    /// From when until when silence did not count, oldest first, none over another.
    passed: VecDeque<(Monotonic, Monotonic)>,
    ended_at: Option<Monotonic>,
}

impl HoldUps {
    pub(super) fn begin(&mut self, at: Monotonic) {
        self.since.get_or_insert(at);
    }

    /// The one under way is over. Says before when no silence can be counted any more, because too much was forgotten.
    pub(super) fn end(&mut self, now: Monotonic) -> Monotonic {
        let Some(begun) = self.since.take() else { return Monotonic::START };
        self.ended_at = Some(now);
        let until = now + now.since(begun) * HEARD_WITHIN;
        let begun = self.passed.back().map_or(begun, |(_, before)| begun.max(*before));
        if begun < until {
            self.passed.push_back((begun, until));
        }
        if self.passed.len() <= HOLD_UPS_MAX {
            return Monotonic::START;
        }
        self.passed.pop_front().map_or(Monotonic::START, |(_, until)| until)
    }

    /// From when on a silence counts that began at `from`: never later than from the end of the last one, from when on the
    /// monitor heard.
    pub(super) fn counts_from(&self, from: Monotonic) -> Monotonic {
        let mut counts_from = from;
        for (begun, until) in self.passed.iter().rev().take_while(|(_, until)| *until > from) {
            counts_from = counts_from + until.since(from.max(*begun));
        }
        self.ended_at.map_or(from, |ended_at| counts_from.min(from.max(ended_at)))
    }

    pub(super) fn none_since(&self, then: Monotonic) -> bool {
        self.since.is_none() && self.passed.back().is_none_or(|(_, until)| *until <= then)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic::START + Duration::from_secs(seconds)
    }

    fn held_up(times: &[(u64, u64)]) -> HoldUps {
        let mut hold_ups = HoldUps::default();
        for (begun, ended) in times {
            hold_ups.begin(at(*begun));
            assert_eq!(hold_ups.end(at(*ended)), Monotonic::START);
        }
        hold_ups
    }

    #[test]
    fn each_and_the_time_to_hear_what_has_waited_is_taken_out_of_a_silence() {
        let hold_ups = held_up(&[(10, 11), (30, 32)]);
        assert_eq!(hold_ups.counts_from(at(5)), at(20), "5 s of the first, 10 s of the second");
        assert_eq!(hold_ups.counts_from(at(12)), at(25), "a part of the first");
        assert_eq!(hold_ups.counts_from(at(15)), at(25));
        assert_eq!(hold_ups.counts_from(at(29)), at(32), "from the end of the second, it heard");
        assert_eq!(hold_ups.counts_from(at(33)), at(33));
        assert_eq!(HoldUps::default().counts_from(at(5)), at(5));
        assert!(!hold_ups.none_since(at(39)) && hold_ups.none_since(at(40)));
    }

    #[test]
    fn one_that_follows_at_once_is_not_taken_out_twice() {
        let hold_ups = held_up(&[(10, 12), (13, 15), (40, 42)]);
        assert_eq!(hold_ups.counts_from(at(0)), at(23), "10 s, 3 s of the second, 10 s");
        let within = held_up(&[(10, 20), (21, 22)]);
        assert_eq!((within.counts_from(at(0)), within.passed.len()), (at(22), 1));
    }

    #[test]
    fn one_under_way_moves_nothing_until_it_is_over() {
        let mut hold_ups = HoldUps::default();
        hold_ups.begin(at(10));
        hold_ups.begin(at(11));
        assert_eq!(hold_ups.counts_from(at(5)), at(5));
        assert!(!hold_ups.none_since(at(9)) && !hold_ups.none_since(at(12)));
        hold_ups.end(at(12));
        assert_eq!(hold_ups.counts_from(at(1)), at(11), "since 10, not since 11");
        assert_eq!(hold_ups.end(at(15)), Monotonic::START, "there is none");
        assert_eq!(hold_ups.counts_from(at(1)), at(11));
    }

    #[test]
    fn so_many_that_some_are_forgotten_begin_the_count_anew() {
        let mut hold_ups = HoldUps::default();
        let mut forgotten = Monotonic::START;
        for number in 0..=HOLD_UPS_MAX as u64 {
            hold_ups.begin(at(10 * number));
            forgotten = hold_ups.end(at(10 * number + 1));
        }
        assert_eq!((forgotten, hold_ups.passed.len()), (at(5), HOLD_UPS_MAX));
        let silence = at(2_571).since(hold_ups.counts_from(forgotten));
        assert_eq!(silence, Duration::from_secs(2_571 - 5 - 5 * 256));
    }

    #[test]
    fn it_only_ever_moves_on() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..1_000 {
            let (mut hold_ups, mut now, mut least) = (HoldUps::default(), at(0), Monotonic::START);
            let from = at(random.u64(0..100));
            let mut before = from;
            for _ in 0..random.usize(1..600) {
                now = now + Duration::from_millis(random.u64(0..2_000));
                hold_ups.begin(now);
                now = now + Duration::from_millis(random.u64(0..2_000));
                least = least.max(hold_ups.end(now));
                let counts_from = hold_ups.counts_from(from.max(least));
                assert!(counts_from >= before && counts_from <= now.max(from), "{counts_from:?} after {before:?}");
                before = counts_from;
            }
        }
    }
}
