//! A world in which the truth is known, to count the verdicts that are not true.
//!
//! Publishers send with jitter, and now and then only just within their deadline; they end and start
//! again. The monitor hitches, stands still for minutes, loses its broker, is held up by its disk, reads late what came
//! meanwhile, and gets the probe's answers late. Everything is decided by the [`Roster`] of the
//! running monitor, which gets what happens with its time and is asked when it is next due; nothing is random but the seed.
//! Beside this large world, of which each hour counts, there are small ones to which everything happens (`fleet`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use fastrand::Rng;

use crate::arrivals::Phi;
use crate::beat::{Beat, BeatKind, Heartbeat, Way};
use crate::deadline::{DeadlineKind, DeadlineOverride, DeadlineRules, IdPattern};
use crate::process::{ProbeAnswer, ProcessIdentity, ProcessState};
use crate::publisher::{BadName, HostName, Incarnation, PublisherId};
use crate::roster::{Effect, Question, Roster, RosterConfig};
use crate::self_check::{Reception, SelfCheck};
use crate::time::{Monotonic, Timestamp, describe_duration};
use crate::verdict::{Change, Verdict};
use crate::watch::{LocalHost, Watch};

mod fleet;
mod result;
use self::fleet::Fleet;
pub use self::result::SimulationResult;

/// Lives through at least so many publisher-hours. About 70 million events a million hours.
#[must_use]
pub fn simulate(seed: u64, publisher_hours: u64) -> SimulationResult {
    let mut result = World::new(seed, publisher_hours).run();
    for number in 0..(publisher_hours / FLEET_EACH).clamp(1, FLEETS_MAX) {
        result.add(Fleet::new(seed.wrapping_mul(1_000_003).wrapping_add(number)).run(FLEET_HOURS));
    }
    result
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
const PUBLISHERS_MAX: u64 = 1_000;
/// How long a sign of life may wait to be read after a short standstill.
const READ_WITHIN: u64 = SECOND / 5;
/// And after a longer one, when more has gathered.
const READ_WITHIN_LATER: u64 = 3 * SECOND;
/// The closest to its deadline that a sign of life comes: shorter hitches of the monitor are not noticed.
const CLOSEST: u64 = 3 * SECOND / 4;
/// A longer gap in the monitor's own running is a standstill.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// One small fleet for so many publisher-hours of the large world.
const FLEET_EACH: u64 = 5_000;
/// Most of them.
const FLEETS_MAX: u64 = 500;
/// How long each lives.
const FLEET_HOURS: u64 = 24;
/// The intervals of publishers, in seconds.
const INTERVALS: [u64; 3] = [60, 120, 300];
/// How their deadlines are found; an id begins with that.
const KINDS: [&str; 3] = ["fixed", "intervals", "adaptive"];

/// The deadline of those whose ids begin so.
fn rule(kind: &str, seconds: u64) -> DeadlineOverride {
    let interval = Duration::from_secs(seconds);
    let (floor, ceiling) = (interval * 2, interval * 5);
    let publishers = IdPattern::new(format!("{kind}-{seconds}-*"));
    let kind = match kind {
        "fixed" => DeadlineKind::Fixed(interval * 5),
        "intervals" => DeadlineKind::Intervals { count: 5, floor, ceiling, unpromised: ceiling },
        _ => DeadlineKind::Adaptive { phi: Phi::default(), floor, ceiling },
    };
    DeadlineOverride { publishers, kind: Some(kind), grace: None }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// A sign of life that was sent at its planned time.
    Sign,
    /// The probe answers.
    Answer,
    /// Its process ends, or the next one starts.
    Turn,
}

/// When (nanoseconds), to whom, what; and which of its lives was meant.
type Event = (u64, u32, What, u32);

struct Publisher {
    heartbeat: Beat,
    readings: Beat,
    interval: u64,
    is_adaptive: bool,
    lives: bool,
    life: u32,
    last_read: u64,
}

struct World {
    rng: Rng,
    roster: Roster,
    /// What the monitor's ears could hear, as the roster should see it.
    observer: SelfCheck,
    publishers: Vec<Publisher>,
    calendar: Vec<Vec<Event>>,
    soon: BinaryHeap<Reverse<Event>>,
    slot: u64,
    now: u64,
    end: u64,
    result: SimulationResult,
}

impl World {
    fn new(seed: u64, publisher_hours: u64) -> Self {
        let count = publisher_hours.clamp(1, PUBLISHERS_MAX);
        let hours = publisher_hours.div_ceil(count).max(1);
        let mut rng = Rng::with_seed(seed);
        let home = LocalHost { host: name("here", HostName::parse), boot_id: Some("boot".into()), pid: None };
        let publishers: Vec<_> = (0..count).map(|index| Publisher::new(index, &home, &mut rng)).collect();
        let mut observer = SelfCheck::new(PAUSE_MAX, at(0));
        observer.receives(Reception::Open, "", at(0));
        let overrides = KINDS.iter().flat_map(|kind| INTERVALS.map(|seconds| rule(kind, seconds))).collect();
        let rules = DeadlineRules { overrides, ..DeadlineRules::default() };
        let expected = publishers.iter().map(|publisher| publisher.id().clone()).collect();
        let config = RosterConfig { rules, expected, pause_max: PAUSE_MAX, ..RosterConfig::new(home) };
        let mut roster = Roster::new(config, &[], 0, at(0), Timestamp::default());
        roster.receives(Way::Mqtt, Reception::Open, "", at(0));
        let result = SimulationResult { seed, publisher_hours: count * hours, ..SimulationResult::default() };
        let calendar = vec![Vec::new(); SLOTS];
        let end = hours * HOUR;
        Self { rng, roster, observer, publishers, calendar, soon: BinaryHeap::new(), slot: 0, now: 0, end, result }
    }

    fn run(mut self) -> SimulationResult {
        for who in 0..u32::try_from(self.publishers.len()).unwrap_or(u32::MAX) {
            let first = self.rng.u64(0..self.publishers[who as usize].interval);
            self.plan(first, who, What::Sign, 1);
            let first = self.rng.u64(0..HOUR);
            self.plan(first, who, What::Turn, 0);
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
                    self.receives(Reception::Lost, "connection refused");
                    self.result.cuts += 1;
                    deaf_until = Some((self.now + self.rng.u64(SECOND..300 * SECOND), SLOT));
                }
                None if self.now >= held_up_at => {
                    self.receives(Reception::HeldUp, "its own disk takes nothing");
                    self.result.hold_ups += 1;
                    let lasts = self.rng.u64(SECOND / 2..60 * SECOND);
                    deaf_until = Some((self.now + lasts, 4 * lasts));
                    // One seldom comes alone.
                    let pause = if self.rng.u32(0..4) > 0 { 6 * lasts } else { self.rng.u64(SECOND..HOUR) };
                    held_up_at = self.now + lasts + pause;
                }
                Some((until, _)) if self.now >= until => {
                    self.receives(Reception::Open, "");
                    deaf_until = None;
                    cut_at = self.now + self.rng.u64(SECOND..4 * HOUR);
                }
                _ => {}
            }
            self.tick();
            self.live_through_slot(deaf_until);
        }
        self.result
    }

    fn receives(&mut self, reception: Reception, reason: &str) {
        self.observer.receives(reception, reason, at(self.now));
        self.roster.receives(Way::Mqtt, reception, reason, at(self.now));
    }

    /// The monitor runs.
    fn tick(&mut self) {
        self.observer.tick(at(self.now));
        self.roster.tick(at(self.now), wall(self.now));
        self.carry_out();
    }

    /// What the roster wants to be done.
    fn carry_out(&mut self) {
        while let Some(effect) = self.roster.next_effect() {
            match effect {
                Effect::Ask(Question::Look(publisher, process, _)) => {
                    self.result.questions += 1;
                    let then = self.now + self.rng.u64(SECOND / 1_000..SECOND / 30);
                    let life = u32::try_from(process.start_ticks).unwrap_or(u32::MAX);
                    self.plan(then, number_of(&publisher), What::Answer, life);
                }
                Effect::Tell(change) => {
                    self.roster.recorded(1);
                    self.noted(&change);
                }
                // The end of a process is noticed by its deadline alone: the hard case.
                Effect::Ask(_) | Effect::Say(_) => {}
            }
        }
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
            let then = woken + self.rng.u64(0..read_within);
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
        loop {
            let event = self.soon.peek().copied().map(|Reverse(event)| event).filter(|event| event.0 < slot_end);
            let look = self.roster.next_due().map(Monotonic::as_nanos).filter(|due| *due < slot_end);
            if let Some(due) = look.filter(|due| event.is_none_or(|event| *due <= event.0)) {
                self.now = self.now.max(due);
                self.look();
                continue;
            }
            let Some((due, who, what, which)) = event else { break };
            self.soon.pop();
            self.now = self.now.max(due);
            match (what, deaf_until) {
                // What was sent meanwhile comes when the broker is back, or the disk takes it.
                (What::Sign, Some((until, within))) => {
                    let then = until + SLOT + self.rng.u64(0..within);
                    self.plan(then, who, What::Sign, which);
                }
                (What::Sign, None) => self.sign(due, who, which),
                (What::Answer, _) => self.answer(who, which),
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
        let deadline = self.roster.watch_of(publisher.id()).map_or(0, |watch| nanos(watch.deadline()));
        let gap = now.saturating_sub(publisher.last_read);
        self.result.just_in_time += u64::from(gap < deadline && gap >= deadline / 10 * 9);
        publisher.last_read = now;
        let which = self.rng.u32(0..4);
        let beat = if which == 0 { &mut publisher.heartbeat } else { &mut publisher.readings };
        (beat.at, beat.wall) = (at(now), wall(now));
        if let BeatKind::Heartbeat(heartbeat) = &mut beat.kind {
            heartbeat.cursor += u64::from(!heartbeat.idle);
        }
        self.observer.tick(at(now));
        self.roster.hear(std::slice::from_ref(beat), at(now), wall(now));
        let next = publisher.next_gap(&mut self.rng);
        self.carry_out();
        self.plan(sent.max(now.saturating_sub(READ_WITHIN)) + next, who, What::Sign, life);
    }

    fn look(&mut self) {
        self.observer.tick(at(self.now));
        self.roster.look(at(self.now), wall(self.now));
        self.carry_out();
    }

    /// The probe answers about the process of this life.
    fn answer(&mut self, who: u32, life: u32) {
        self.observer.tick(at(self.now));
        let publisher = &self.publishers[who as usize];
        let state = if publisher.lives && publisher.life == life { ProcessState::Sleeping } else { ProcessState::Gone };
        let cpu_time = Some(Duration::from_nanos(self.now / 1_000));
        let answer = ProbeAnswer { state, cpu_time, looked_at: Timestamp::default(), host_pid: None, user: None };
        self.roster.answered(publisher.id(), &process(life), &answer, at(self.now), wall(self.now));
        self.carry_out();
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
            let Some(watch) = self.roster.watch_of(publisher.id()) else { return };
            let was_due = at(now).since(silent_since) > watch.deadline() * 2;
            // One whose heartbeat has not come yet has not said which process it is: it can only be silent, or
            // never started.
            let verdict = watch.verdict();
            let told = match watch.process() {
                Some(_) => verdict == Verdict::Dead,
                None => matches!(verdict, Verdict::Silent | Verdict::NeverStarted),
            };
            if !told && was_due && self.observer.hears() {
                self.result.missed_deaths += 1;
                let hour = describe_duration(Duration::from_nanos(now));
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

    fn noted(&mut self, change: &Change) {
        let who = number_of(&change.publisher);
        let publisher = &self.publishers[who as usize];
        let is_of_the_life_before =
            change.process.as_ref().is_some_and(|process| process.start_ticks != u64::from(publisher.life));
        match change.to {
            Verdict::Alive | Verdict::Unknown | Verdict::Ended => {}
            Verdict::Late => self.result.late += 1,
            _ if !publisher.lives => {}
            // While the first word of this life is still on its way.
            Verdict::Dead if is_of_the_life_before => {}
            verdict => {
                let silent_since = self.observer.counts_from(at(publisher.last_read));
                let deadline = self.roster.watch_of(publisher.id()).map_or(Duration::MAX, Watch::deadline);
                let too_late = at(self.now).since(silent_since) >= deadline;
                if verdict == Verdict::Silent && publisher.is_adaptive && too_late {
                    self.result.too_late += 1;
                    return;
                }
                self.result.false_verdicts += 1;
                self.result.first_false.get_or_insert_with(|| {
                    let hour = describe_duration(Duration::from_nanos(self.now));
                    format!("publisher {who} after {hour}: {}", change.summary)
                });
            }
        }
    }
}

impl Publisher {
    fn new(index: u64, home: &LocalHost, rng: &mut Rng) -> Self {
        let (seconds, kind) = (INTERVALS[rng.usize(0..3)], KINDS[usize::try_from(index % 3).unwrap_or(0)]);
        let interval = Duration::from_secs(seconds);
        let publisher = name(&format!("{kind}-{seconds}-{index}"), PublisherId::parse);
        let heartbeat = Heartbeat {
            is_agent: false,
            outbox_stalled: None,
            incarnation: Incarnation(1),
            process: Some(process(1)),
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
            heartbeat: beat(BeatKind::Heartbeat(Box::new(heartbeat))),
            readings: beat(BeatKind::Readings { incarnation: Some(Incarnation(1)) }),
            interval: nanos(interval),
            is_adaptive: kind == "adaptive",
            lives: true,
            life: 1,
            last_read: 0,
        }
    }

    const fn id(&self) -> &PublisherId {
        &self.heartbeat.publisher
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
            heartbeat.process = Some(process(self.life));
        }
    }
}

/// The process of a publisher's life.
fn process(life: u32) -> ProcessIdentity {
    ProcessIdentity { pid: 812, start_ticks: u64::from(life), boot_id: "boot".into() }
}

/// The number at the end of an id.
fn number_of(publisher: &PublisherId) -> u32 {
    publisher.as_str().rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(u32::MAX)
}

const fn wall(nanos: u64) -> Timestamp {
    Timestamp::from_nanos(nanos.cast_signed())
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
    use crate::roster::mutant::{self, Mutant};

    #[test]
    fn nobody_is_accused_falsely_in_a_million_publisher_hours() {
        let hours = if cfg!(debug_assertions) { 30_000 } else { 1_000_000 };
        let result = simulate(1, hours);
        println!("{result}");
        assert_eq!(result.wrong(), 0, "{result}");
        assert!(result.publisher_hours > hours && result.notifications > 50, "{result:?}");
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
        let result = mutant::with(Mutant::Standstill, || simulate(1, 50_000));
        assert!(result.false_verdicts > 20, "{result:?}");
        assert!(result.first_false.is_some_and(|first| first.contains("silent")));
    }

    /// What is decided about many at once is decided by this value alone: a bug in each part of it is seen.
    #[test]
    fn a_bug_in_any_part_of_the_roster_is_noticed() {
        let fleets = || {
            let mut result = SimulationResult::default();
            (0..3).for_each(|seed| result.add(Fleet::new(seed).run(14)));
            result
        };
        let sound = fleets();
        assert_eq!(sound.wrong(), 0, "{sound}");
        for bug in [Mutant::HostLoss, Mutant::MassSilence, Mutant::Flapping, Mutant::Suppression, Mutant::Restart] {
            let result = mutant::with(bug, fleets);
            println!("{bug:?}: {result}");
            assert!(result.wrong() > 0, "{bug:?} was not noticed: {result}");
        }
    }
}
