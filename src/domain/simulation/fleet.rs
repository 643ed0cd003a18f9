//! A small fleet to which everything happens often: publishers die, fall silent, flap and are spoken for by others; hosts and
//! switches fail, ways go down one by one, the monitor stands still, is held up by its disk and starts again, windows of
//! maintenance open and close, and the probe answers late or never.
//!
//! The truth is known, so each verdict and each notification is held against it. What troubles everybody comes one at a
//! time, so that it is known what has to be said; what troubles single ones goes on beside it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use fastrand::Rng;

use super::SimulationResult;
use crate::domain::beat::{Beat, BeatKind, Heartbeat, Way};
use crate::domain::deadline::{DeadlineRules, IdPattern};
use crate::domain::flapping::FlappingLimits;
use crate::domain::maintenance::Window;
use crate::domain::observer::{Observers, Reception};
use crate::domain::process::{ProbeAnswer, ProcessIdentity, ProcessState};
use crate::domain::publisher::{HostName, Incarnation, PublisherId};
use crate::domain::roster::{Effect, Question, Roster, RosterConfig};
use crate::domain::time::{Monotonic, Timestamp, describe_duration};
use crate::domain::verdict::{Change, Flaps, Trigger, Verdict};
use crate::domain::watch::Home;

/// What passes between two turns of the world.
const TURN: Duration = Duration::from_millis(250);
const INTERVAL: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_secs(50);
/// A gap in the monitor's own running that it notices.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// A silence or a death that lasts for so long, undisturbed, has to be known: a deadline, and a doubt about the crowd.
const KNOWN_AFTER: Duration = Duration::from_secs(170);
/// And told, where nothing suppresses that: flapping ends after so long.
const FLAPPING: FlappingLimits =
    FlappingLimits { changes_max: 6, period: Duration::from_secs(600), steady: Duration::from_secs(300) };
/// Most notifications of one publisher within the period of flapping: those before it flaps, its beginning and its end, and all
/// that once more, because a death ends it early.
const NOTIFICATIONS_MAX: usize = 2 * (FLAPPING.changes_max as usize + 3);
/// How often it is looked whether everybody was told what is so.
const AUDIT_EVERY: Duration = Duration::from_secs(60);
/// Where publishers are: the monitor's own host, and two that it cannot ask.
const HOSTS: [&str; 3] = ["here", "plant-1", "plant-2"];

/// What troubles everybody, one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// Everybody on this host is out of reach.
    HostGone(usize),
    /// Everybody on MQTT is out of reach, and the broker is not.
    SwitchGone,
    /// The connection on this way is lost.
    WayDown(Way),
    /// The monitor's disk takes nothing; what comes waits.
    HeldUp,
    /// The monitor stands still; what comes waits.
    Stall,
}

struct Member {
    id: PublisherId,
    host: usize,
    way: Way,
    life: u32,
    lives: bool,
    cursor: u64,
    sends_at: Monotonic,
    /// Nothing of it arrives until then.
    muted_until: Option<Monotonic>,
    /// It falls silent and comes back, until then.
    flaps_until: Option<Monotonic>,
    /// Somebody else speaks in its name until then.
    rival_until: Option<Monotonic>,
    last_read: Monotonic,
    /// How often it was heard in this life.
    signs: u64,
    /// Since when it is dead or out of reach, or well, as far as it alone goes.
    changed_at: Monotonic,
    /// The last verdict that was told of it.
    told: Option<Verdict>,
    /// When something was told of it within the last period of flapping.
    told_at: VecDeque<Monotonic>,
    /// Said once for each trouble of its.
    blamed: bool,
}

/// The fleet, its monitor, and what is true.
pub(super) struct Fleet {
    rng: Rng,
    roster: Roster,
    /// What the monitor's ears could hear, as the roster should see it.
    ears: Observers,
    members: Vec<Member>,
    trouble: Option<(Trouble, Monotonic, Monotonic)>,
    /// Publishers on MQTT that were well when the switch failed are a crowd.
    is_crowd: bool,
    /// Two or more were well on the host that is gone.
    is_whole_host: bool,
    /// When what troubles everybody was over last.
    calm_since: Monotonic,
    windows: Vec<Window>,
    /// Signs that wait to be read.
    queue: VecDeque<usize>,
    answers: Vec<(Monotonic, PublisherId, ProcessIdentity)>,
    /// The last change of each publisher and each host, as the journal has it.
    journal: BTreeMap<PublisherId, Change>,
    epoch: u64,
    host_told: u32,
    now: Monotonic,
    result: SimulationResult,
}

impl Fleet {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let count = rng.usize(14..40);
        let members = (0..count).map(|number| Member::new(number, &mut rng)).collect();
        let ears = Observers::new(PAUSE_MAX, Monotonic::START);
        let roster = Roster::new(config(Vec::new()), &[], 0, Monotonic::START, wall(Monotonic::START));
        let mut fleet = Self {
            rng,
            roster,
            ears,
            members,
            trouble: None,
            is_crowd: false,
            is_whole_host: false,
            calm_since: Monotonic::START,
            windows: Vec::new(),
            queue: VecDeque::new(),
            answers: Vec::new(),
            journal: BTreeMap::new(),
            epoch: 0,
            host_told: 0,
            now: Monotonic::START,
            result: SimulationResult::default(),
        };
        fleet.connect();
        fleet
    }

    /// Lives through so many hours.
    pub(super) fn run(mut self, hours: u64) -> SimulationResult {
        let end = Monotonic::START + Duration::from_secs(3_600 * hours);
        let mut audit_at = Monotonic::START + AUDIT_EVERY;
        while self.now < end {
            self.now = self.now + TURN;
            self.begin_and_end_trouble();
            self.trouble_single_ones();
            let stands = matches!(self.trouble, Some((Trouble::Stall, ..)));
            self.send(stands);
            if stands {
                continue;
            }
            self.tick();
            self.answer();
            self.look();
            if self.now >= audit_at {
                audit_at = self.now + AUDIT_EVERY;
                self.audit();
            }
        }
        self.result.publisher_hours = hours * self.members.len() as u64;
        self.result
    }

    // ---- what happens

    fn chance(&mut self, once_in: Duration) -> bool {
        let turns = u64::try_from(once_in.as_millis() / TURN.as_millis()).unwrap_or(u64::MAX);
        self.rng.u64(0..turns.max(1)) == 0
    }

    fn lasting(&mut self, from_seconds: u64, to_seconds: u64) -> Duration {
        Duration::from_secs(self.rng.u64(from_seconds..to_seconds))
    }

    fn begin_and_end_trouble(&mut self) {
        if let Some((trouble, _, until)) = self.trouble {
            if self.now >= until {
                self.end_trouble(trouble);
            }
            return;
        }
        // Not before everybody has been heard again, and what the last one led to has been told.
        if self.now.since(self.calm_since) < KNOWN_AFTER * 2 || !self.chance(Duration::from_secs(600)) {
            return;
        }
        let trouble = match self.rng.u32(0..7) {
            0 => Trouble::HostGone(self.rng.usize(1..HOSTS.len())),
            1 => Trouble::SwitchGone,
            2 => Trouble::WayDown(Way::Mqtt),
            3 => Trouble::WayDown(Way::Kafka),
            4 => Trouble::HeldUp,
            5 => Trouble::Stall,
            _ => return self.restart(),
        };
        let lasts = match trouble {
            Trouble::Stall => self.lasting(1, 200),
            Trouble::HeldUp => self.lasting(1, 60),
            _ => self.lasting(5, 400),
        };
        self.trouble = Some((trouble, self.now, self.now + lasts));
        match trouble {
            Trouble::HostGone(host) => {
                (self.result.host_losses, self.host_told) = (self.result.host_losses + 1, 0);
                let well = |member: &&Member| member.host == host && member.is_untroubled();
                self.is_whole_host = self.members.iter().filter(well).count() >= 2;
            }
            Trouble::SwitchGone => {
                self.result.mass_silences += 1;
                self.is_crowd = self.would_be_a_crowd();
            }
            Trouble::WayDown(way) => {
                self.result.cuts += 1;
                self.receives(way, Reception::Lost, "connection refused");
            }
            Trouble::HeldUp => {
                self.result.hold_ups += 1;
                self.receives(Way::Mqtt, Reception::HeldUp, "its own disk takes nothing");
                self.receives(Way::Kafka, Reception::HeldUp, "its own disk takes nothing");
            }
            Trouble::Stall => self.result.stalls += 1,
        }
    }

    fn end_trouble(&mut self, trouble: Trouble) {
        if let (Trouble::HostGone(host), Some((_, since, _))) = (trouble, self.trouble) {
            self.audit_host(host, since);
        }
        self.trouble = None;
        self.calm_since = self.now;
        match trouble {
            Trouble::WayDown(way) => self.receives(way, Reception::Open, ""),
            Trouble::HeldUp => {
                self.receives(Way::Mqtt, Reception::Open, "");
                self.receives(Way::Kafka, Reception::Open, "");
            }
            Trouble::HostGone(_) | Trouble::SwitchGone | Trouble::Stall => {}
        }
    }

    /// The monitor is killed and starts again: it knows what its journal and its files have kept.
    fn restart(&mut self) {
        self.result.restarts += 1;
        self.calm_since = self.now;
        let last_seen = Some(self.roster.last_seen(wall(self.now), false));
        let remembered: Vec<Change> = self.journal.values().cloned().collect();
        let config = RosterConfig { last_seen, ..config(self.windows.clone()) };
        self.roster = Roster::new(config, &remembered, self.epoch, self.now, wall(self.now));
        self.ears = Observers::new(PAUSE_MAX, self.now);
        self.answers.clear();
        self.queue.clear();
        // How often somebody has fallen and risen is counted anew.
        self.members.iter_mut().for_each(|member| member.told_at.clear());
        self.connect();
        self.carry_out();
    }

    fn connect(&mut self) {
        self.receives(Way::Mqtt, Reception::Open, "");
        self.receives(Way::Kafka, Reception::Open, "");
    }

    fn receives(&mut self, way: Way, reception: Reception, reason: &str) {
        self.ears.receives(way, reception, reason, self.now);
        self.roster.receives(way, reception, reason, self.now);
    }

    fn trouble_single_ones(&mut self) {
        let each = Duration::from_secs(3_600) / u32::try_from(self.members.len()).unwrap_or(1);
        if self.chance(each) {
            let who = self.rng.usize(..self.members.len());
            self.trouble_one(who);
        }
        if self.chance(Duration::from_secs(1_800)) {
            self.open_a_window();
        }
        for member in &mut self.members {
            if member.muted_until.is_some_and(|until| self.now >= until) {
                member.muted_until = None;
                member.is_changed(self.now);
            }
            if member.flaps_until.is_some_and(|until| self.now >= until) {
                member.flaps_until = None;
                member.is_changed(self.now);
            }
            if member.rival_until.is_some_and(|until| self.now >= until) {
                member.rival_until = None;
                member.is_changed(self.now);
            }
        }
    }

    fn trouble_one(&mut self, who: usize) {
        let (lasts, of) = (self.lasting(5, 900), self.rng.u32(0..6));
        let (flaps, speaks) = (self.lasting(900, 1_500), self.lasting(2, 300));
        let now = self.now;
        let Some(member) = self.members.get_mut(who) else { return };
        match of {
            _ if !member.lives => {
                member.lives = true;
                member.life += 1;
                (member.sends_at, member.signs) = (now, 0);
            }
            0 | 1 => {
                member.lives = false;
                self.result.deaths += 1;
            }
            2 | 3 if member.is_untroubled() => member.muted_until = Some(now + lasts),
            4 if member.is_untroubled() => {
                member.flaps_until = Some(now + flaps);
                self.result.flaps += 1;
            }
            _ if member.is_untroubled() => {
                member.rival_until = Some(now + speaks);
                self.result.rivals += 1;
            }
            _ => return,
        }
        member.is_changed(now);
    }

    fn open_a_window(&mut self) {
        let pattern = match self.rng.u32(0..3) {
            0 => format!("host:{}", HOSTS[self.rng.usize(1..HOSTS.len())]),
            1 => format!("p{}*", self.rng.u32(1..4)),
            _ => format!("p{}", self.rng.usize(..self.members.len())),
        };
        let (from, lasts) = (wall(self.now), self.lasting(60, 1_800));
        let window = Window { publisher: IdPattern::new(pattern), from, to: from + lasts, reason: String::new() };
        self.windows.retain(|open| open.to > from && open.publisher != window.publisher);
        self.windows.push(window.clone());
        self.result.windows += 1;
        // There are never so many of them.
        let _ = self.roster.begin_maintenance(window, from);
    }

    fn send(&mut self, stands: bool) {
        for who in 0..self.members.len() {
            let trouble = self.trouble.map(|(trouble, ..)| trouble);
            let (now, gap) = (self.now, INTERVAL.mul_f64(0.7 + 0.6 * self.rng.f64()));
            let Some(member) = self.members.get_mut(who).filter(|member| member.lives) else { continue };
            if now < member.sends_at {
                continue;
            }
            member.sends_at = now + gap;
            if member.flaps_until.is_some() {
                // After a few signs it is silent for longer than its deadline.
                let silent = self.rng.u32(0..4) == 0;
                member.sends_at = now + if silent { DEADLINE + Duration::from_secs(12) } else { gap };
            }
            let reaches = match trouble {
                Some(Trouble::HostGone(host)) => member.host != host,
                Some(Trouble::SwitchGone) => member.way != Way::Mqtt,
                Some(Trouble::WayDown(way)) => member.way != way,
                Some(Trouble::HeldUp | Trouble::Stall) | None => true,
            };
            if member.muted_until.is_some() || !reaches {
                continue;
            }
            match trouble {
                Some(Trouble::HeldUp | Trouble::Stall) if self.queue.len() < 10_000 => self.queue.push_back(who),
                _ => self.hear(who),
            }
        }
        let waits = stands || matches!(self.trouble, Some((Trouble::HeldUp, ..)));
        if !waits {
            while let Some(who) = self.queue.pop_front() {
                if self.members.get(who).is_some_and(|member| member.lives) {
                    self.hear(who);
                }
            }
        }
    }

    fn hear(&mut self, who: usize) {
        self.result.signs_of_life += 1;
        let now = self.now;
        let Some(member) = self.members.get_mut(who) else { return };
        (member.cursor, member.signs) = (member.cursor + 1, member.signs + 1);
        member.last_read = now;
        let beats: Vec<Beat> =
            [Some(member.beat(member.life, now)), member.rival_beat(now)].into_iter().flatten().collect();
        self.ears.tick(now);
        self.roster.hear(&beats, now, wall(now));
        self.carry_out();
    }

    fn tick(&mut self) {
        self.ears.tick(self.now);
        self.roster.tick(self.now, wall(self.now));
        self.carry_out();
    }

    fn look(&mut self) {
        while self.roster.next_due().is_some_and(|due| due <= self.now) {
            self.roster.look(self.now, wall(self.now));
            self.carry_out();
        }
    }

    fn answer(&mut self) {
        let now = self.now;
        let (due, later) = std::mem::take(&mut self.answers).into_iter().partition(|(at, ..)| *at <= now);
        self.answers = later;
        for (_, publisher, process) in due {
            let Some(member) = self.members.iter().find(|member| member.id == publisher) else { continue };
            let is_it = u64::from(member.life) == process.start_ticks && member.lives;
            let state = if is_it { ProcessState::Sleeping } else { ProcessState::Gone };
            let cpu_time = Some(Duration::from_nanos(now.as_nanos() / 1_000));
            let looked_at = wall(now);
            let answer = ProbeAnswer { state, cpu_time, looked_at, host_pid: None, user: None };
            self.roster.answered(&publisher, &process, &answer, now, looked_at);
            self.carry_out();
        }
    }

    fn carry_out(&mut self) {
        for effect in self.roster.take_effects() {
            match effect {
                Effect::Ask(Question::Look(publisher, process, _)) => {
                    self.result.questions += 1;
                    // One of fifty never comes, and one of ten late.
                    let late = match self.rng.u32(0..50) {
                        0 => continue,
                        1..6 => Duration::from_secs(self.rng.u64(1..20)),
                        _ => Duration::ZERO,
                    };
                    self.answers.push((self.now + late, publisher, process));
                }
                Effect::Tell(change) => {
                    self.roster.recorded(1);
                    self.epoch = change.epoch;
                    self.told(&change);
                    self.journal.insert(change.publisher.clone(), *change);
                }
                Effect::Ask(_) | Effect::Say(_) => {}
            }
        }
    }

    // ---- what is true

    /// For how long a member has been silent, as far as the monitor could hear.
    fn silence(&self, member: &Member) -> Duration {
        let heard_on = self.roster.watch_of(&member.id).and_then(crate::domain::watch::Watch::heard_on);
        self.now.since(self.ears.of(heard_on).counts_from(member.last_read))
    }

    fn is_covered(&self, member: &Member) -> bool {
        let (now, host) = (wall(self.now), HOSTS.get(member.host).copied().unwrap_or_default());
        let host = PublisherId::parse(&format!("host:{host}")).ok();
        self.windows.iter().any(|window| {
            window.to > now
                && (window.publisher.matches(&member.id)
                    || host.as_ref().is_some_and(|host| window.publisher.matches(host)))
        })
    }

    /// Whether everybody was told that its whole host is silent, now or until a moment ago.
    fn host_speaks_for(&self, member: &Member) -> bool {
        let host = HOSTS.get(member.host).and_then(|host| PublisherId::parse(&format!("host:{host}")).ok());
        let change = host.and_then(|host| self.journal.get(&host));
        change.is_some_and(|change| change.to.is_bad() || wall(self.now) < change.decided_at + DEADLINE * 2)
    }

    fn would_be_a_crowd(&self) -> bool {
        let is_well = |member: &&Member| {
            let verdict = self.roster.watch_of(&member.id).map(crate::domain::watch::Watch::verdict);
            member.lives && member.is_untroubled() && matches!(verdict, Some(Verdict::Alive | Verdict::Late))
        };
        let well: Vec<_> = self.members.iter().filter(is_well).collect();
        let silent: Vec<_> = well.iter().filter(|member| member.way == Way::Mqtt).collect();
        let here = silent.iter().filter(|member| member.host == 0).count();
        // Some may die or be muted before it is counted.
        silent.len() >= 6 && here >= 2 && silent.len() * 2 > self.members.len() + 2
    }

    /// Why a verdict is wrong; none when it is not.
    fn objection(&self, change: &Change) -> Option<&'static str> {
        let member = self.members.iter().find(|member| member.id == change.publisher)?;
        let of_this_life = change.process.as_ref().is_none_or(|process| process.start_ticks == u64::from(member.life));
        // What stands since before is said again at the end of what had suppressed it: it may be that nothing can be heard just now.
        let is_again = matches!(change.trigger, Trigger::Steady | Trigger::MaintenanceEnd);
        let silence = if is_again { self.now.since(member.last_read) } else { self.silence(member) };
        // The first sign of a new life is not believed: only its second one is.
        let is_new = member.signs < 2;
        let in_time = member.lives && !is_new && silence < DEADLINE;
        let rival_is_over = member.rival_until.is_none() && self.now.since(member.changed_at) > DEADLINE;
        match change.to {
            Verdict::Alive | Verdict::Late | Verdict::Unknown | Verdict::Ended => None,
            Verdict::Dead => (member.lives && of_this_life).then_some("it lives"),
            Verdict::Conflict => rival_is_over.then_some("nobody else speaks"),
            _ if member.rival_until.is_some() => None,
            _ if in_time => Some("it was heard in time"),
            _ => match self.trouble {
                Some((Trouble::SwitchGone, since, _))
                    if self.is_crowd && member.is_crowded(since) && self.now.since(since) < DEADLINE * 2 =>
                {
                    Some("everybody fell silent at once")
                }
                _ => None,
            },
        }
    }

    // ---- what is said

    fn told(&mut self, change: &Change) {
        if change.is_of_host() {
            let is_gone = |host: usize| HOSTS.get(host).is_some_and(|host| change.host.as_str() == *host);
            if matches!(self.trouble, Some((Trouble::HostGone(host), ..)) if is_gone(host)) {
                self.host_told += u32::from(change.to.is_bad());
            }
            return;
        }
        let objection = self.objection(change);
        if let Some(why) = objection {
            self.result.false_verdicts += 1;
            self.result.first_false.get_or_insert_with(|| at_time(self.now, change, why));
        }
        let Some(who) = self.members.iter().position(|member| member.id == change.publisher) else { return };
        if !change.is_told() {
            return;
        }
        let is_covered = self.members.get(who).is_some_and(|member| self.is_covered(member));
        let host_is_gone = self.is_whole_host
            && matches!((self.trouble, self.members.get(who)), (Some((Trouble::HostGone(host), ..)), Some(member)) if member.host == host);
        let before_it = self.journal.get(&change.publisher).map(|last| last.to);
        let now = self.now;
        let Some(member) = self.members.get_mut(who) else { return };
        let before = member.told.replace(change.to);
        let counts = change.to.is_bad() || before.is_some_and(Verdict::is_bad);
        if !counts {
            return;
        }
        self.result.notifications += 1;
        let wrong = match change.to {
            _ if is_covered => Some("it is in maintenance"),
            Verdict::Unreachable if host_is_gone && member.is_untroubled() => Some("its whole host is gone"),
            _ => objection,
        };
        member.told_at.push_back(now);
        member.told_at.retain(|at| now.since(*at) < FLAPPING.period);
        // The end of a flap says once more what it was before; and what has come again may be told again.
        let is_again =
            matches!(change.trigger, Trigger::Steady | Trigger::MaintenanceEnd) || before_it == Some(change.to);
        let doubled =
            change.to.is_bad() && before == Some(change.to) && is_again && change.flapping != Some(Flaps::Ends);
        let floods = member.told_at.len() > NOTIFICATIONS_MAX;
        if let Some(why) = wrong {
            self.result.false_notifications += 1;
            self.result.first_false.get_or_insert_with(|| at_time(now, change, why));
        } else if doubled || floods {
            self.result.doubled_notifications += 1;
            self.result.first_false.get_or_insert_with(|| at_time(now, change, "it was told before"));
        }
    }

    /// Everybody who has been dead, out of reach or well for long enough has to be known and told as that.
    fn audit(&mut self) {
        if self.trouble.is_some() || self.now.since(self.calm_since) < KNOWN_AFTER {
            return;
        }
        for who in 0..self.members.len() {
            let Some(member) = self.members.get(who) else { continue };
            let lasts = self.now.since(member.changed_at);
            let is_simple = member.flaps_until.is_none() && member.rival_until.is_none();
            if !is_simple || lasts < KNOWN_AFTER || member.blamed || self.host_speaks_for(member) {
                continue;
            }
            let Some(verdict) = self.roster.watch_of(&member.id).map(crate::domain::watch::Watch::verdict) else {
                continue;
            };
            let is_bad = !member.lives || member.muted_until.is_some();
            let window_over = self.windows.iter().all(|window| window.to <= wall(self.now) || !self.is_covered(member));
            let is_told = member.told.is_some_and(Verdict::is_bad) == is_bad;
            // Until a flap has ended its last word is held back.
            let may_be_held = lasts < KNOWN_AFTER + FLAPPING.period + FLAPPING.steady;
            let words = |what: &str| {
                let hour = describe_duration(Duration::from_nanos(self.now.as_nanos()));
                format!("{} after {hour}: {verdict} for {}, {what}", member.id, describe_duration(lasts))
            };
            let missed = if verdict.is_bad() != is_bad {
                self.result.missed_deaths += 1;
                words(if is_bad { "and nobody heard it" } else { "and it was heard" })
            } else if !is_told && window_over && !self.is_covered(member) && !may_be_held {
                self.result.missed_notifications += 1;
                words("and people were told something else")
            } else {
                continue;
            };
            self.result.first_missed.get_or_insert(missed);
            if let Some(member) = self.members.get_mut(who) {
                member.blamed = true;
            }
        }
    }

    /// A host that was gone for long enough is told once, where there were two that could be missed.
    fn audit_host(&mut self, host: usize, since: Monotonic) {
        if self.now.since(since) < DEADLINE * 2 {
            return;
        }
        let there = self.members.iter().filter(|member| member.host == host);
        let missed = there.clone().filter(|member| member.is_untroubled() && member.changed_at < since && member.lives);
        let is_clear = there.clone().all(|member| member.is_untroubled() && member.changed_at < since);
        match self.host_told {
            0 if missed.count() >= 2 && is_clear => {
                self.result.missed_notifications += 1;
                let host = HOSTS.get(host).copied().unwrap_or_default();
                self.result.first_missed.get_or_insert_with(|| format!("nobody was told that {host} is gone"));
            }
            0 | 1 => {}
            _ => self.result.doubled_notifications += 1,
        }
    }
}

impl Member {
    fn new(number: usize, rng: &mut Rng) -> Self {
        let (host, way) = match rng.u32(0..10) {
            0..6 => (0, Way::Mqtt),
            6 | 7 => (1, Way::Mqtt),
            8 => (2, Way::Mqtt),
            _ => (2, Way::Kafka),
        };
        Self {
            id: super::name(&format!("p{number}"), PublisherId::parse),
            host,
            way,
            life: 1,
            lives: true,
            cursor: 0,
            sends_at: Monotonic::START + INTERVAL.mul_f64(rng.f64()),
            muted_until: None,
            flaps_until: None,
            rival_until: None,
            last_read: Monotonic::START,
            signs: 0,
            changed_at: Monotonic::START,
            told: None,
            told_at: VecDeque::new(),
            blamed: false,
        }
    }

    const fn is_untroubled(&self) -> bool {
        self.lives && self.muted_until.is_none() && self.flaps_until.is_none() && self.rival_until.is_none()
    }

    /// Whether it fell silent with the others, and for no reason of its own.
    fn is_crowded(&self, since: Monotonic) -> bool {
        self.is_untroubled() && self.way == Way::Mqtt && self.changed_at + KNOWN_AFTER < since
    }

    const fn is_changed(&mut self, now: Monotonic) {
        (self.changed_at, self.blamed) = (now, false);
    }

    fn host(&self) -> HostName {
        super::name(HOSTS.get(self.host).copied().unwrap_or_default(), HostName::parse)
    }

    fn beat(&self, life: u32, now: Monotonic) -> Beat {
        let boot = HOSTS.get(self.host).copied().unwrap_or_default();
        let process = ProcessIdentity { pid: 812, start_ticks: u64::from(life), boot_id: boot.into() };
        let heartbeat = Heartbeat {
            process: Some(process),
            sequence: self.cursor,
            cursor: self.cursor,
            idle: false,
            ..Heartbeat::idle(Incarnation(u64::from(life)), INTERVAL)
        };
        let kind = BeatKind::Heartbeat(Box::new(heartbeat));
        Beat { publisher: self.id.clone(), host: self.host(), at: now, wall: wall(now), way: self.way, kind }
    }

    /// What somebody else says in its name, as a later life.
    fn rival_beat(&self, now: Monotonic) -> Option<Beat> {
        self.rival_until.map(|_| self.beat(1_000_000, now))
    }
}

fn config(windows: Vec<Window>) -> RosterConfig {
    let home = Home { host: super::name(HOSTS[0], HostName::parse), boot_id: Some(HOSTS[0].into()), pid: None };
    let rules = DeadlineRules { default: DEADLINE, ..DeadlineRules::default() };
    RosterConfig { rules, windows, flapping: FLAPPING, pause_max: PAUSE_MAX, ..RosterConfig::new(home) }
}

fn at_time(now: Monotonic, change: &Change, why: &str) -> String {
    let hour = describe_duration(Duration::from_nanos(now.as_nanos()));
    format!("{} after {hour}: {}, but {why}", change.publisher, change.summary)
}

const fn wall(now: Monotonic) -> Timestamp {
    Timestamp::from_nanos(now.as_nanos().cast_signed())
}
