//! A world in which the truth is known, to count the verdicts that are not true.
//!
//! Publishers send with jitter, and now and then only just within their deadline; they end and start
//! again. The monitor hitches, stands still for minutes, loses its broker, is held up by its disk, reads late what came
//! meanwhile, and gets the probe's answers late. Everything is decided by [`Watch`] and [`Observer`],
//! as in the running monitor; nothing is random but the seed. The doubt about a silent crowd
//! ([`crate::domain::crowd`]) is left out: it would only hold verdicts back.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use fastrand::Rng;

use crate::domain::arrivals::Phi;
use crate::domain::beat::{Beat, BeatKind, Heartbeat, Way};
use crate::domain::deadline::{DeadlineKind, DeadlineRule};
use crate::domain::observer::{Observer, Reception};
use crate::domain::process::{ProbeAnswer, ProcessIdentity, ProcessState};
use crate::domain::publisher::{BadName, HostName, Incarnation, PublisherId};
use crate::domain::time::{Monotonic, Timestamp, describe_duration};
use crate::domain::verdict::Verdict;
use crate::domain::watch::{Home, Surroundings, Transition, Watch};

mod result;
pub use self::result::SimulationResult;

/// Lives through at least so many publisher-hours. About 70 million events a million hours.
#[must_use]
pub fn simulate(seed: u64, publisher_hours: u64) -> SimulationResult {
    let pause_max = Duration::from_secs(2);
    World::new(seed, publisher_hours, pause_max).run()
}

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3_600 * SECOND;
/// The time between two ticks of the monitor, and the width of a slot of the calendar.
const SLOT: u64 = SECOND / 4;
/// Slots of the calendar: nothing is planned further ahead than 68 minutes.
const SLOTS: usize = 1 << 14;
/// The same, for reckoning with numbers of slots.
const SLOTS_U64: u64 = SLOTS as u64;
/// Most publishers at once; they share the monitor's standstills.
const PUBLISHERS_MAX: u64 = 10_000;
/// How long a sign of life may wait to be read after a short standstill.
const READ_WITHIN: u64 = SECOND / 5;
/// And after a longer one, when more has gathered.
const READ_WITHIN_LATER: u64 = 3 * SECOND;
/// The closest to its deadline that a sign of life comes: shorter hitches of the monitor are not noticed.
const CLOSEST: u64 = 3 * SECOND / 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// A sign of life that was sent at its planned time.
    Sign,
    /// The publisher's timer in the monitor.
    Look,
    /// The probe answers.
    Answer,
    /// Its process ends, or the next one starts.
    Turn,
}

/// When (nanoseconds), to whom, what; and which of its lives or timers was meant.
type Event = (u64, u32, What, u32);

struct Publisher {
    watch: Watch,
    heartbeat: Beat,
    readings: Beat,
    interval: u64,
    is_adaptive: bool,
    lives: bool,
    life: u32,
    timer: u32,
    armed: Option<u64>,
    last_read: u64,
}

struct World {
    rng: Rng,
    home: Home,
    observer: Observer,
    publishers: Vec<Publisher>,
    calendar: Vec<Vec<Event>>,
    soon: BinaryHeap<Reverse<Event>>,
    slot: u64,
    now: u64,
    end: u64,
    result: SimulationResult,
}

impl World {
    fn new(seed: u64, publisher_hours: u64, pause_max: Duration) -> Self {
        let count = publisher_hours.clamp(1, PUBLISHERS_MAX);
        let hours = publisher_hours.div_ceil(count).max(1);
        let mut rng = Rng::with_seed(seed);
        let home = Home { host: name("here", HostName::parse), boot_id: Some("boot".into()), pid: None };
        let publishers = (0..count).map(|index| Publisher::new(index, &home, &mut rng)).collect();
        let mut observer = Observer::new(pause_max, at(0));
        observer.receives(Reception::Open, "", at(0));
        let result = SimulationResult { seed, publisher_hours: count * hours, ..SimulationResult::default() };
        let calendar = vec![Vec::new(); SLOTS];
        let end = hours * HOUR;
        Self { rng, home, observer, publishers, calendar, soon: BinaryHeap::new(), slot: 0, now: 0, end, result }
    }

    fn run(mut self) -> SimulationResult {
        for who in 0..u32::try_from(self.publishers.len()).unwrap_or(u32::MAX) {
            let first = self.rng.u64(0..self.publishers[who as usize].interval);
            self.plan(first, who, What::Sign, 1);
            let first = self.rng.u64(0..HOUR);
            self.plan(first, who, What::Turn, 0);
            // Who is never heard has a timer as well.
            self.arm(who, false);
        }
        let mut stall_at = self.rng.u64(0..HOUR);
        let mut cut_at = self.rng.u64(0..4 * HOUR);
        let mut held_up_at = self.rng.u64(0..HOUR / 4);
        let mut deaf_until = None;
        while self.now < self.end {
            if self.now >= stall_at {
                self.stall();
                stall_at = self.now + self.rng.u64(SECOND..HOUR);
            }
            match deaf_until {
                None if self.now >= cut_at => {
                    self.observer.receives(Reception::Lost, "connection refused", at(self.now));
                    self.result.cuts += 1;
                    deaf_until = Some((self.now + self.rng.u64(SECOND..300 * SECOND), SLOT));
                }
                None if self.now >= held_up_at => {
                    self.observer.receives(Reception::HeldUp, "its own disk takes nothing", at(self.now));
                    self.result.hold_ups += 1;
                    let lasts = self.rng.u64(SECOND / 2..60 * SECOND);
                    deaf_until = Some((self.now + lasts, 4 * lasts));
                    // One seldom comes alone.
                    let pause = if self.rng.u32(0..4) > 0 { 6 * lasts } else { self.rng.u64(SECOND..HOUR) };
                    held_up_at = self.now + lasts + pause;
                }
                Some((until, _)) if self.now >= until => {
                    self.observer.receives(Reception::Open, "", at(self.now));
                    deaf_until = None;
                    cut_at = self.now + self.rng.u64(SECOND..4 * HOUR);
                }
                _ => {}
            }
            self.observer.tick(at(self.now));
            self.live_through_slot(deaf_until);
        }
        self.result
    }

    /// The monitor does not run: what was due waits, in the order that the machine likes.
    fn stall(&mut self) {
        self.result.stalls += 1;
        let stall = match self.rng.u32(0..10) {
            0..=6 => self.rng.u64(SECOND / 3..3 * SECOND),
            7..=8 => self.rng.u64(3 * SECOND..30 * SECOND),
            _ => self.rng.u64(30 * SECOND..1_200 * SECOND),
        };
        let woken = self.now + stall;
        let read_within = if stall < 2 * SECOND { READ_WITHIN } else { READ_WITHIN_LATER };
        let mut missed: Vec<Event> = std::mem::take(&mut self.soon).into_iter().map(|Reverse(event)| event).collect();
        while self.slot * SLOT <= woken {
            let slot = (self.slot % SLOTS_U64) as usize;
            missed.append(&mut self.calendar[slot]);
            self.slot += 1;
        }
        self.now = woken;
        for (due, who, what, which) in missed {
            // Timers are noticed at once; what came waits to be read.
            let then = if what == What::Look { woken } else { woken + self.rng.u64(0..read_within) };
            self.soon.push(Reverse((due.max(then), who, what, which)));
        }
    }

    /// While it is deaf: until when, and within what time it then hears what has waited.
    fn live_through_slot(&mut self, deaf_until: Option<(u64, u64)>) {
        let slot_end = (self.now / SLOT + 1) * SLOT;
        while self.slot * SLOT < slot_end {
            let slot = (self.slot % SLOTS_U64) as usize;
            let due = std::mem::take(&mut self.calendar[slot]);
            self.soon.extend(due.iter().copied().map(Reverse));
            self.calendar[slot] = due;
            self.calendar[slot].clear();
            self.slot += 1;
        }
        while let Some(Reverse((due, who, what, which))) = self.soon.peek().copied().filter(|next| next.0.0 < slot_end)
        {
            self.soon.pop();
            self.now = self.now.max(due);
            match (what, deaf_until) {
                // What was sent meanwhile comes when the broker is back, or the disk takes it.
                (What::Sign, Some((until, within))) => {
                    let then = until + SLOT + self.rng.u64(0..within);
                    self.plan(then, who, What::Sign, which);
                }
                (What::Sign, None) => self.sign(due, who, which),
                (What::Look, _) => self.look(who, which),
                (What::Answer, _) => self.answer(who),
                (What::Turn, _) => self.turn(who),
            }
        }
        self.now = slot_end;
    }

    fn plan(&mut self, when: u64, who: u32, what: What, which: u32) {
        let event = (when, who, what, which);
        if when / SLOT < self.slot {
            self.soon.push(Reverse(event));
        } else {
            let furthest = self.slot + SLOTS_U64 - 1;
            self.calendar[((when / SLOT).min(furthest) % SLOTS_U64) as usize].push(event);
        }
    }

    fn sign(&mut self, sent: u64, who: u32, life: u32) {
        let now = self.now;
        let publisher = &mut self.publishers[who as usize];
        if !publisher.lives || publisher.life != life {
            return;
        }
        self.result.signs_of_life += 1;
        let deadline = nanos(publisher.watch.deadline());
        let gap = now.saturating_sub(publisher.last_read);
        self.result.just_in_time += u64::from(gap < deadline && gap >= deadline / 10 * 9);
        publisher.last_read = now;
        let (wall, which) = (Timestamp::from_nanos(now.cast_signed()), self.rng.u32(0..4));
        let beat = if which == 0 { &mut publisher.heartbeat } else { &mut publisher.readings };
        (beat.at, beat.wall) = (at(now), wall);
        if let BeatKind::Heartbeat(heartbeat) = &mut beat.kind {
            heartbeat.cursor += u64::from(!heartbeat.idle);
        }
        let around =
            Surroundings { home: &self.home, observer: &self.observer, doubt: None, agent: None, other_agent: None };
        let beat = if which == 0 { &publisher.heartbeat } else { &publisher.readings };
        let outcome = publisher.watch.hear(beat, around);
        let next = publisher.next_gap(&mut self.rng);
        self.noted(who, outcome.change);
        self.arm(who, false);
        self.plan(sent.max(now.saturating_sub(READ_WITHIN)) + next, who, What::Sign, life);
    }

    fn look(&mut self, who: u32, timer: u32) {
        if self.publishers[who as usize].timer != timer {
            return;
        }
        self.observer.tick(at(self.now));
        let around =
            Surroundings { home: &self.home, observer: &self.observer, doubt: None, agent: None, other_agent: None };
        let outcome = self.publishers[who as usize].watch.look(around, at(self.now));
        if outcome.ask.is_some() {
            self.result.questions += 1;
            let then = self.now + self.rng.u64(SECOND / 1_000..SECOND / 30);
            self.plan(then, who, What::Answer, 0);
        }
        self.noted(who, outcome.change);
        self.arm(who, true);
    }

    fn answer(&mut self, who: u32) {
        self.observer.tick(at(self.now));
        let publisher = &mut self.publishers[who as usize];
        // About a process that was replaced meanwhile: the watchdog drops that one.
        let Some(process) = publisher.watch.process() else { return };
        let known = process.start_ticks == u64::from(publisher.life);
        let state = if publisher.lives && known { ProcessState::Sleeping } else { ProcessState::Gone };
        let cpu_time = Some(Duration::from_nanos(self.now / 1_000));
        let answer = ProbeAnswer { state, cpu_time, looked_at: Timestamp::default(), host_pid: None, user: None };
        let around =
            Surroundings { home: &self.home, observer: &self.observer, doubt: None, agent: None, other_agent: None };
        let change = publisher.watch.answered(around, &answer, at(self.now));
        self.noted(who, change);
        self.arm(who, false);
    }

    /// A process ends (one in a hundred), or the next one starts.
    fn turn(&mut self, who: u32) {
        let now = self.now;
        let publisher = &mut self.publishers[who as usize];
        if publisher.lives {
            publisher.lives = self.rng.u32(0..100) > 0;
            self.result.deaths += u64::from(!publisher.lives);
        } else {
            let silent_since = self.observer.counts_from(at(publisher.last_read)).max(self.observer.settled_at());
            // Twice the deadline: at the first look the monitor may have been deaf.
            let was_due = at(now).since(silent_since) > publisher.watch.deadline() * 2;
            // One whose heartbeat has not come yet has not said which process it is: it can only be silent, or
            // never started.
            let verdict = publisher.watch.verdict();
            let told = match publisher.watch.process() {
                Some(_) => verdict == Verdict::Dead,
                None => matches!(verdict, Verdict::Silent | Verdict::NeverStarted),
            };
            if !told && was_due && self.observer.hears() {
                self.result.missed_deaths += 1;
                let (verdict, hour) = (publisher.watch.verdict(), describe_duration(Duration::from_nanos(now)));
                let silence = describe_duration(at(now).since(silent_since));
                self.result.first_missed.get_or_insert_with(|| {
                    format!("publisher {who} is {verdict} after {hour}, {silence} after its last sign of life")
                });
            }
            publisher.begin_life();
            let life = publisher.life;
            self.plan(now, who, What::Sign, life);
        }
        let next = now + self.rng.u64(HOUR / 4..HOUR);
        self.plan(next, who, What::Turn, 0);
    }

    fn arm(&mut self, who: u32, fired: bool) {
        let publisher = &mut self.publishers[who as usize];
        if fired {
            publisher.armed = None;
        }
        let Some(wanted) = publisher.watch.look_again_at(&self.observer).map(Monotonic::as_nanos) else { return };
        if publisher.armed.is_none_or(|armed| wanted < armed) {
            publisher.timer += 1;
            publisher.armed = Some(wanted);
            let timer = publisher.timer;
            self.plan(wanted.max(self.now), who, What::Look, timer);
        }
    }

    fn noted(&mut self, who: u32, change: Option<Box<Transition>>) {
        let Some(change) = change else { return };
        let publisher = &self.publishers[who as usize];
        let known = publisher.watch.process();
        let is_of_the_life_before = known.is_some_and(|process| process.start_ticks != u64::from(publisher.life));
        match change.judgement.verdict {
            Verdict::Alive | Verdict::Unknown | Verdict::Ended => {}
            Verdict::Late => self.result.late += 1,
            _ if !publisher.lives => {}
            // While the first word of this life is still on its way.
            Verdict::Dead if is_of_the_life_before => {}
            verdict => {
                let silent_since = self.observer.counts_from(at(publisher.last_read));
                let too_late = at(self.now).since(silent_since) >= publisher.watch.deadline();
                if verdict == Verdict::Silent && publisher.is_adaptive && too_late {
                    self.result.too_late += 1;
                    return;
                }
                self.result.false_verdicts += 1;
                self.result.first_false.get_or_insert_with(|| {
                    let hour = describe_duration(Duration::from_nanos(self.now));
                    format!("publisher {who} after {hour}: {}", change.judgement.summary)
                });
            }
        }
    }
}

impl Publisher {
    fn new(index: u64, home: &Home, rng: &mut Rng) -> Self {
        let seconds = [60, 120, 300][rng.usize(0..3)];
        let interval = Duration::from_secs(seconds);
        let (floor, ceiling) = (interval * 2, interval * 5);
        let kind = match index % 3 {
            0 => DeadlineKind::Fixed(interval * 5),
            1 => DeadlineKind::Intervals { count: 5, floor, ceiling, unpromised: ceiling },
            _ => DeadlineKind::Adaptive { phi: Phi::default(), floor, ceiling },
        };
        let publisher = name(&format!("p{index}"), PublisherId::parse);
        let process = ProcessIdentity { pid: 812, start_ticks: 1, boot_id: "boot".into() };
        let heartbeat = Heartbeat {
            is_agent: false,
            outbox_stalled: None,
            incarnation: Incarnation(1),
            process: Some(process),
            sequence: 0,
            cursor: 0,
            idle: rng.u32(0..10) == 0,
            interval,
        };
        let beat = |kind| Beat {
            publisher: publisher.clone(),
            host: home.host.clone(),
            at: Monotonic::START,
            wall: Timestamp::default(),
            way: Way::Mqtt,
            kind,
        };
        Self {
            watch: Watch::expected(home.host.clone(), DeadlineRule { kind, grace: Duration::ZERO }, Monotonic::START),
            heartbeat: beat(BeatKind::Heartbeat(Box::new(heartbeat))),
            readings: beat(BeatKind::Readings { incarnation: Some(Incarnation(1)) }),
            interval: nanos(interval),
            is_adaptive: matches!(kind, DeadlineKind::Adaptive { .. }),
            lives: true,
            life: 1,
            timer: 0,
            armed: None,
            last_read: 0,
        }
    }

    /// Mostly its interval with jitter, one in a hundred as late as it may be.
    fn next_gap(&self, rng: &mut Rng) -> u64 {
        let interval = self.interval;
        if rng.u32(0..100) == 0 {
            let latest = interval * 5 - CLOSEST;
            // Half of those come within the last hundredth.
            return if rng.bool() { rng.u64(latest / 100 * 99..latest) } else { rng.u64(interval..latest) };
        }
        rng.u64(interval / 10 * 7..interval / 10 * 13)
    }

    fn begin_life(&mut self) {
        self.life += 1;
        self.lives = true;
        let incarnation = Incarnation(u64::from(self.life));
        self.readings.kind = BeatKind::Readings { incarnation: Some(incarnation) };
        if let BeatKind::Heartbeat(heartbeat) = &mut self.heartbeat.kind {
            heartbeat.incarnation = incarnation;
            if let Some(process) = &mut heartbeat.process {
                process.start_ticks = u64::from(self.life);
            }
        }
    }
}

fn at(nanos: u64) -> Monotonic {
    Monotonic::from_nanos(nanos)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[expect(clippy::expect_used, reason = "only called with names of letters and digits")]
fn name<T>(text: &str, parse: fn(&str) -> Result<T, BadName>) -> T {
    parse(text).expect("a name of letters and digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_accused_falsely_in_a_million_publisher_hours() {
        let hours = if cfg!(debug_assertions) { 30_000 } else { 1_000_000 };
        let result = simulate(1, hours);
        println!("{result}");
        assert_eq!((result.false_verdicts, result.missed_deaths), (0, 0), "{result}");
        assert_eq!(result.publisher_hours, hours);
        assert!(result.signs_of_life > 20 * hours && result.just_in_time > hours / 10, "{result:?}");
        assert!(result.deaths > hours / 200 && result.stalls > 2 && result.hold_ups > 10, "{result:?}");
        assert!(result.questions > result.deaths, "{result:?}");
    }

    #[test]
    fn the_same_seed_is_the_same_world() {
        let results = [simulate(7, 2_000), simulate(7, 2_000), simulate(8, 2_000)];
        assert_eq!(results[0], results[1]);
        assert_ne!(results[0].signs_of_life, results[2].signs_of_life);
    }

    /// So that the nought above means something.
    #[test]
    fn a_monitor_that_does_not_notice_its_own_standstills_accuses_falsely() {
        let result = World::new(1, 50_000, Duration::MAX).run();
        assert!(result.false_verdicts > 20, "{result:?}");
        assert!(result.first_false.is_some_and(|first| first.contains("silent")));
    }
}
