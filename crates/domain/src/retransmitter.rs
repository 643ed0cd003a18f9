//! The sending half of end-to-end delivery: which readings to send again, and when.
//!
//! The monitor reports, per incarnation, how far its safe record reaches without a gap (`through`),
//! the highest number that is safe, and the gaps between. From these reports and the state of the
//! connection this decides what is sent. It holds ranges of numbers only; the readings themselves are
//! in the outbox on disk. A selective acknowledgement in the manner of TCP's SACK (RFC 2018), with a
//! retransmission timer that doubles (RFC 6298 section 5.5).
//!
//! Invariant: every unconfirmed reading is either in flight (sent over this connection, no report on
//! it yet) or waiting to be sent; so nothing is ever forgotten, whatever the broker does.
//!
//! A report is believed of what was sent. One that calls a number safe that was never sent speaks of a reading that
//! somebody else has sent under it: the own one is sent all the same, and kept beside the other.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::publisher::Incarnation;
use crate::reading::Sequence;
use crate::time::Monotonic;

/// What bounds sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryLimits {
    /// Most readings sent and not yet confirmed. An eighth of them is for new ones only, so that what is new
    /// goes out at once while a backlog drains.
    pub in_flight_max: u64,
    /// Least wait for a report before what is in flight is sent again; doubles while nothing moves.
    pub resend_min: Duration,
    /// Longest such wait.
    pub resend_max: Duration,
}

impl Default for DeliveryLimits {
    fn default() -> Self {
        Self { in_flight_max: 20_000, resend_min: Duration::from_secs(3), resend_max: Duration::from_secs(20) }
    }
}

/// A run of numbers of one incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequenceRange {
    /// Which life numbered them.
    pub incarnation: Incarnation,
    /// First number.
    pub first: Sequence,
    /// Last number.
    pub last: Sequence,
}

impl SequenceRange {
    /// How many numbers.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.last - self.first + 1
    }

    /// A run is never empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }
}

/// The sending half of one publisher's delivery.
#[derive(Debug, Clone)]
pub struct Retransmitter {
    limits: DeliveryLimits,
    connected: bool,
    /// Unconfirmed and to be sent: first number → last number, by incarnation.
    waiting: Runs,
    /// Of those, what this program has never handed to a connection.
    unsent: Runs,
    /// Unconfirmed and sent over this connection.
    in_flight: Runs,
    /// When a report last confirmed anything new.
    last_progress: Monotonic,
    /// The lowest number in flight, and since when it is that: a gap in a stream that moves on.
    lowest: Option<((Incarnation, Sequence), Monotonic)>,
    /// The highest number that the monitor is known to have, by incarnation.
    highest: BTreeMap<Incarnation, Sequence>,
    resend_after: Duration,
}

impl Retransmitter {
    /// Nothing sent yet; `left` is what an earlier life left in the outbox.
    #[must_use]
    pub fn new(limits: DeliveryLimits, left: &[SequenceRange], now: Monotonic) -> Self {
        let mut delivery = Self {
            limits,
            connected: false,
            waiting: BTreeMap::new(),
            unsent: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            last_progress: now,
            lowest: None,
            highest: BTreeMap::new(),
            resend_after: limits.resend_min,
        };
        for run in left {
            insert(&mut delivery.waiting, *run);
            insert(&mut delivery.unsent, *run);
        }
        delivery
    }

    /// The connection is up. Whatever was in flight over the one before may be lost with it.
    pub fn connected(&mut self, now: Monotonic) {
        self.connected = true;
        self.send_all_again();
        self.last_progress = now;
        self.resend_after = self.limits.resend_min;
    }

    /// The connection is gone.
    pub const fn disconnected(&mut self) {
        self.connected = false;
    }

    /// New readings were kept. Returns whether they go out now, ahead of everything that waits;
    /// otherwise they wait their turn.
    pub fn produced(&mut self, run: SequenceRange, now: Monotonic) -> bool {
        let goes_out = self.connected && count(&self.in_flight) + run.len() <= self.limits.in_flight_max;
        if goes_out {
            if self.in_flight.is_empty() {
                self.last_progress = now;
            }
            insert(&mut self.in_flight, run);
        } else {
            insert(&mut self.waiting, run);
            insert(&mut self.unsent, run);
        }
        goes_out
    }

    /// The next readings of the backlog to send, oldest first, at most `readings_max`; they are in
    /// flight from now on. `None` when nothing waits, or there is no room, or no connection.
    pub fn next_waiting(&mut self, readings_max: u64, now: Monotonic) -> Option<SequenceRange> {
        let backlog_max = self.limits.in_flight_max - self.limits.in_flight_max / 8;
        let room = backlog_max.saturating_sub(count(&self.in_flight)).min(readings_max);
        if !self.connected || room == 0 {
            return None;
        }
        let ((incarnation, first), last) = self.waiting.pop_first()?;
        let sent_last = last.min(first + room - 1);
        if sent_last < last {
            self.waiting.insert((incarnation, sent_last + 1), last);
        }
        let run = SequenceRange { incarnation, first, last: sent_last };
        if self.in_flight.is_empty() {
            self.last_progress = now;
        }
        remove(&mut self.unsent, run);
        insert(&mut self.in_flight, run);
        Some(run)
    }

    /// What was to be sent could not be handed to the connection: it waits again.
    pub fn put_back(&mut self, run: SequenceRange) {
        remove(&mut self.in_flight, run);
        insert(&mut self.waiting, run);
        insert(&mut self.unsent, run);
    }

    /// What was to be sent is not in the outbox any more (given up at its limit).
    pub fn forget(&mut self, run: SequenceRange) {
        remove(&mut self.waiting, run);
        remove(&mut self.unsent, run);
        remove(&mut self.in_flight, run);
    }

    /// The monitor reports. Numbers up to `through`, and up to `highest` outside the `gaps`, are safe. Answers which of
    /// them are believed to be: not those that were never sent.
    pub fn reported(
        &mut self,
        incarnation: Incarnation,
        through: Sequence,
        highest: Sequence,
        gaps: &[(Sequence, Sequence)],
        now: Monotonic,
    ) -> Vec<SequenceRange> {
        let before = self.unconfirmed();
        let safe = safe_runs(incarnation, through, highest, gaps);
        let believed: Vec<SequenceRange> = safe.into_iter().flat_map(|run| without(run, &[&self.unsent])).collect();
        for run in &believed {
            self.forget(*run);
        }
        if self.unconfirmed() < before {
            self.last_progress = now;
            self.resend_after = self.limits.resend_min;
        }
        let known = self.highest.entry(incarnation).or_default();
        *known = (*known).max(highest);
        let in_flight = &self.in_flight;
        self.highest.retain(|life, _| *life == incarnation || in_flight.keys().any(|(flying, _)| flying == life));
        believed
    }

    /// To be called now and then. When the monitor has confirmed nothing for too long, everything in
    /// flight is to be sent again; when only the lowest numbers stay away while later ones arrive,
    /// just these. Returns how many readings that are.
    pub fn check_progress(&mut self, now: Monotonic) -> u64 {
        let lowest = self.in_flight.first_key_value().map(|(key, _)| *key);
        let lowest_since = match self.lowest {
            Some((number, since)) if Some(number) == lowest => since,
            _ => now,
        };
        self.lowest = lowest.map(|number| (number, lowest_since));
        if !self.connected || self.in_flight.is_empty() {
            return 0;
        }
        let before = count(&self.waiting);
        if now.since(self.last_progress) >= self.resend_after {
            self.send_all_again();
            self.last_progress = now;
            self.resend_after = (self.resend_after * 2).min(self.limits.resend_max);
        } else if now.since(lowest_since) >= self.resend_after {
            self.send_gaps_again();
        } else {
            return 0;
        }
        self.lowest = None;
        count(&self.waiting) - before
    }

    /// The parts of a range that are neither in flight nor waiting: nobody will ever send these.
    #[must_use]
    pub fn not_held(&self, range: SequenceRange) -> Vec<SequenceRange> {
        without(range, &[&self.waiting, &self.in_flight])
    }

    /// Readings that the monitor has not confirmed.
    #[must_use]
    pub fn unconfirmed(&self) -> u64 {
        count(&self.in_flight) + count(&self.waiting)
    }

    /// Readings that wait to be sent (again).
    #[must_use]
    pub fn backlog(&self) -> u64 {
        count(&self.waiting)
    }

    fn send_gaps_again(&mut self) {
        let gaps: Vec<_> = self.in_flight.iter().map(|((life, first), last)| (*life, *first, *last)).collect();
        for (incarnation, first, last) in gaps {
            let highest = self.highest.get(&incarnation).copied().unwrap_or(0);
            if first < highest {
                let gap = SequenceRange { incarnation, first, last: last.min(highest) };
                remove(&mut self.in_flight, gap);
                insert(&mut self.waiting, gap);
            }
        }
    }

    fn send_all_again(&mut self) {
        for ((incarnation, first), last) in std::mem::take(&mut self.in_flight) {
            insert(&mut self.waiting, SequenceRange { incarnation, first, last });
        }
    }
}

/// The runs that a report declares safe.
#[must_use]
pub fn safe_runs(
    incarnation: Incarnation,
    through: Sequence,
    highest: Sequence,
    gaps: &[(Sequence, Sequence)],
) -> Vec<SequenceRange> {
    let mut safe = Vec::new();
    if through >= 1 {
        safe.push(SequenceRange { incarnation, first: 1, last: through });
    }
    // Only the lowest gaps are reported: beyond the last one nothing is known to be safe.
    let mut gaps: Vec<_> = gaps.iter().filter(|(first, last)| first <= last && *first > through).collect();
    gaps.sort_unstable();
    for pair in gaps.windows(2) {
        if pair[0].1 + 1 < pair[1].0 {
            safe.push(SequenceRange { incarnation, first: pair[0].1 + 1, last: pair[1].0 - 1 });
        }
    }
    if gaps.len() < GAPS_REPORTED_MAX
        && let Some(last_gap) = gaps.last()
        && last_gap.1 < highest
    {
        safe.push(SequenceRange { incarnation, first: last_gap.1 + 1, last: highest });
    }
    safe
}

/// Most gaps in one report; a report with so many may have left out higher ones.
pub const GAPS_REPORTED_MAX: usize = 64;

type Runs = BTreeMap<(Incarnation, Sequence), Sequence>;

fn count(runs: &Runs) -> u64 {
    runs.iter().map(|((_, first), last)| last - first + 1).sum()
}

/// The parts of a range that are in none of these.
fn without(range: SequenceRange, taken: &[&Runs]) -> Vec<SequenceRange> {
    let mut rest: Runs = BTreeMap::new();
    insert(&mut rest, range);
    for runs in taken {
        let from = runs.range(..=(range.incarnation, range.first)).next_back();
        let from = from.map_or((range.incarnation, range.first), |(start, _)| *start);
        for (&(incarnation, first), &last) in runs.range(from..=(range.incarnation, range.last)) {
            remove(&mut rest, SequenceRange { incarnation, first, last });
        }
    }
    rest.into_iter().map(|((incarnation, first), last)| SequenceRange { incarnation, first, last }).collect()
}

fn insert(runs: &mut Runs, run: SequenceRange) {
    let SequenceRange { incarnation, mut first, mut last } = run;
    while let Some((&(_, start), &end)) =
        runs.range((incarnation, 0)..=(incarnation, last.saturating_add(1))).next_back()
    {
        if end.saturating_add(1) < first {
            break;
        }
        runs.remove(&(incarnation, start));
        first = first.min(start);
        last = last.max(end);
    }
    runs.insert((incarnation, first), last);
}

fn remove(runs: &mut Runs, run: SequenceRange) {
    let SequenceRange { incarnation, first, last } = run;
    while let Some((&(_, start), &end)) = runs.range((incarnation, 0)..=(incarnation, last)).next_back() {
        if end < first {
            break;
        }
        runs.remove(&(incarnation, start));
        if start < first {
            runs.insert((incarnation, start), first - 1);
        }
        if end > last {
            runs.insert((incarnation, last + 1), end);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const LIFE: Incarnation = Incarnation(7);

    fn run(first: u64, last: u64) -> SequenceRange {
        SequenceRange { incarnation: LIFE, first, last }
    }

    fn at(millis: u64) -> Monotonic {
        Monotonic::START + Duration::from_millis(millis)
    }

    fn connected(in_flight_max: u64) -> Retransmitter {
        let limits = DeliveryLimits { in_flight_max, ..DeliveryLimits::default() };
        let mut delivery = Retransmitter::new(limits, &[], at(0));
        delivery.connected(at(0));
        delivery
    }

    #[test]
    fn live_goes_first_and_the_backlog_behind_it_in_order() {
        let earlier = SequenceRange { incarnation: Incarnation(3), first: 5, last: 9 };
        let mut delivery = Retransmitter::new(DeliveryLimits::default(), &[earlier], at(0));
        assert!(!delivery.produced(run(1, 2), at(0)), "not connected: it waits");
        assert_eq!(delivery.next_waiting(100, at(0)), None);
        delivery.connected(at(1));
        assert!(delivery.produced(run(3, 3), at(1)), "live goes out at once");
        assert_eq!(delivery.next_waiting(3, at(1)), Some(SequenceRange { last: 7, ..earlier }));
        assert_eq!(delivery.next_waiting(3, at(1)), Some(SequenceRange { first: 8, ..earlier }));
        assert_eq!(delivery.next_waiting(3, at(1)), Some(run(1, 2)));
        assert_eq!((delivery.next_waiting(3, at(1)), delivery.unconfirmed(), delivery.backlog()), (None, 8, 0));
    }

    #[test]
    fn a_full_window_makes_new_readings_wait_and_a_report_makes_room() {
        let mut delivery = connected(2);
        assert!(delivery.produced(run(1, 2), at(0)));
        assert!(!delivery.produced(run(3, 3), at(0)));
        assert_eq!(delivery.next_waiting(10, at(0)), None);
        delivery.reported(LIFE, 1, 1, &[], at(1));
        assert_eq!(delivery.next_waiting(10, at(1)), Some(run(3, 3)));
        delivery.reported(LIFE, 3, 3, &[], at(2));
        assert_eq!(delivery.unconfirmed(), 0);
    }

    /// Found by `prove --rows`: somebody had used number 1 before its publisher was connected.
    #[test]
    fn what_was_never_sent_is_not_believed_to_be_safe() {
        let left = SequenceRange { incarnation: Incarnation(3), first: 1, last: 4 };
        let mut delivery = Retransmitter::new(DeliveryLimits::default(), &[left], at(0));
        delivery.produced(run(1, 5), at(0));
        delivery.connected(at(1));
        assert_eq!(delivery.reported(LIFE, 3, 3, &[], at(1)), []);
        assert_eq!(delivery.next_waiting(3, at(1)), Some(SequenceRange { last: 3, ..left }));
        assert_eq!(delivery.reported(left.incarnation, 4, 4, &[], at(1)), [SequenceRange { last: 3, ..left }]);
        assert_eq!(delivery.next_waiting(3, at(1)), Some(SequenceRange { first: 4, ..left }));
        let sent = delivery.next_waiting(2, at(1)).unwrap();
        delivery.put_back(sent);
        assert_eq!(delivery.reported(LIFE, 5, 5, &[], at(2)), [], "it could not be handed over");
        assert_eq!(delivery.next_waiting(9, at(2)), Some(run(1, 5)));
        // sent is sent, also where the connection broke
        delivery.disconnected();
        delivery.connected(at(3));
        assert_eq!(delivery.reported(LIFE, 5, 5, &[], at(3)), [run(1, 5)]);
    }

    #[test]
    fn new_readings_go_out_at_once_while_a_backlog_fills_the_window() {
        let left = SequenceRange { incarnation: Incarnation(3), first: 1, last: 1_000 };
        let limits = DeliveryLimits { in_flight_max: 80, ..DeliveryLimits::default() };
        let mut delivery = Retransmitter::new(limits, &[left], at(0));
        delivery.connected(at(0));
        assert_eq!(delivery.next_waiting(500, at(0)), Some(SequenceRange { last: 70, ..left }));
        assert_eq!(delivery.next_waiting(500, at(0)), None);
        assert!(delivery.produced(run(1, 10), at(1)), "an eighth is theirs");
        assert!(!delivery.produced(run(11, 11), at(1)));
    }

    #[test]
    fn what_no_report_confirms_is_sent_again_with_waits_that_double() {
        let mut delivery = connected(100);
        delivery.produced(run(1, 10), at(0));
        delivery.reported(LIFE, 4, 8, &[(5, 6)], at(1_000));
        assert_eq!(delivery.unconfirmed(), 4, "5, 6, 9 and 10");
        assert_eq!(delivery.check_progress(at(3_999)), 0);
        assert_eq!(delivery.check_progress(at(4_000)), 4);
        assert_eq!(delivery.next_waiting(10, at(4_000)), Some(run(5, 6)));
        assert_eq!(delivery.next_waiting(10, at(4_000)), Some(run(9, 10)));
        assert_eq!(delivery.check_progress(at(9_999)), 0, "the wait has doubled");
        assert_eq!(delivery.check_progress(at(10_000)), 4);
    }

    #[test]
    fn a_gap_in_a_stream_that_moves_on_is_sent_again() {
        let mut delivery = connected(1_000);
        for second in 0..10 {
            let now = at(second * 1_000);
            delivery.produced(run(second * 10 + 1, second * 10 + 10), now);
            // Number 5 is lost, everything else arrives.
            delivery.reported(LIFE, 4, second * 10 + 8, &[(5, 5)], now);
            let again = delivery.check_progress(now);
            assert_eq!(again, u64::from(second == 3 || second == 7), "second {second}");
            if again > 0 {
                assert_eq!(delivery.next_waiting(100, now), Some(run(5, 5)), "only the gap, not what is on its way");
            }
        }
    }

    #[test]
    fn what_is_neither_in_flight_nor_waiting_will_never_be_sent() {
        let earlier = SequenceRange { incarnation: Incarnation(3), first: 5, last: 9 };
        let mut delivery = Retransmitter::new(DeliveryLimits::default(), &[earlier], at(0));
        delivery.connected(at(0));
        delivery.produced(run(1, 10), at(0));
        delivery.reported(LIFE, 4, 8, &[(5, 6)], at(1));
        assert_eq!(delivery.not_held(run(1, 12)), [run(1, 4), run(7, 8), run(11, 12)]);
        assert_eq!(delivery.not_held(run(5, 6)), []);
        assert_eq!(delivery.not_held(run(6, 7)), [run(7, 7)]);
        let of_earlier = |first, last| SequenceRange { first, last, ..earlier };
        assert_eq!(delivery.not_held(of_earlier(1, 6)), [of_earlier(1, 4)]);
        let of_another = SequenceRange { incarnation: Incarnation(5), first: 1, last: 3 };
        assert_eq!(delivery.not_held(of_another), [of_another]);
    }

    #[test]
    fn beyond_a_full_list_of_gaps_nothing_is_believed_safe() {
        let gaps: Vec<_> = (0..GAPS_REPORTED_MAX as u64).map(|i| (10 * i + 2, 10 * i + 2)).collect();
        let safe = safe_runs(LIFE, 1, 10_000, &gaps);
        assert_eq!(safe.last().unwrap().last, 10 * 63 + 1);
        assert_eq!(safe_runs(LIFE, 0, 5, &[(1, 3)]), [run(4, 5)]);
        assert_eq!(safe_runs(LIFE, 5, 5, &[]), [run(1, 5)]);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Produce(u64),
        Send(u64),
        /// The network takes what is in flight to the monitor, or loses it: by the bits of the number.
        Arrive(u64),
        Report,
        Cut,
        Connect,
        Wait(u64),
    }

    proptest! {
        /// Over a network that loses anything and a connection that breaks at any time: every reading
        /// that is unconfirmed is known, and once the network works all of them arrive.
        #[test]
        fn nothing_is_forgotten(steps in prop::collection::vec(prop_oneof![
            (1_u64..50).prop_map(Step::Produce), (1_u64..30).prop_map(Step::Send), any::<u64>().prop_map(Step::Arrive),
            Just(Step::Report), Just(Step::Cut), Just(Step::Connect), (1_u64..90_000).prop_map(Step::Wait)], 1..120)) {
            let mut delivery = connected(60);
            let (mut now, mut produced) = (0, 0);
            let (mut wire, mut safe) = (Vec::<SequenceRange>::new(), BTreeSet::<u64>::new());
            let steps = steps.into_iter().chain(std::iter::repeat_n(
                [Step::Connect, Step::Send(u64::MAX), Step::Arrive(0), Step::Report, Step::Wait(60_000)], 100).flatten());
            for step in steps {
                match step {
                    Step::Produce(count) => {
                        let new = run(produced + 1, produced + count);
                        produced += count;
                        if delivery.produced(new, at(now)) { wire.push(new); }
                    }
                    Step::Send(readings_max) => wire.extend(delivery.next_waiting(readings_max, at(now))),
                    Step::Arrive(lost) => for (index, sent) in wire.drain(..).enumerate() {
                        if lost >> (index % 64) & 1 == 0 { safe.extend(sent.first..=sent.last); }
                    },
                    Step::Report => {
                        let through = (1..).take_while(|number| safe.contains(number)).last().unwrap_or(0);
                        let highest = safe.last().copied().unwrap_or(0);
                        let gaps: Vec<_> = (through + 1..=highest).filter(|n| !safe.contains(n)).map(|n| (n, n))
                            .take(GAPS_REPORTED_MAX).collect();
                        delivery.reported(LIFE, through, highest, &gaps, at(now));
                    }
                    Step::Cut => { delivery.disconnected(); wire.clear(); }
                    Step::Connect => delivery.connected(at(now)),
                    Step::Wait(millis) => { now += millis; delivery.check_progress(at(now)); }
                }
                prop_assert!(delivery.unconfirmed() >= produced - safe.len() as u64);
                prop_assert!(count(&delivery.in_flight) <= 60);
            }
            prop_assert_eq!(safe.len() as u64, produced);
            prop_assert_eq!(delivery.unconfirmed(), 0);
        }
    }
}
