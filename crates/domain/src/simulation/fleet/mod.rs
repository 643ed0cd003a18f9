//! A small fleet to which everything happens often: publishers die, fall silent, flap and are spoken for by others; hosts and
//! switches fail, ways go down one by one, the monitor stands still, is held up by its disk and starts again, windows of
//! maintenance open and close, and the probe answers late or never.
//!
//! The truth is known, so each verdict and each notification is held against it. What troubles everybody comes one at a
//! time, so that it is known what has to be said; what troubles single ones goes on beside it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use fastrand::Rng;

use self::member::Member;
use super::SimulationResult;
use crate::beat::{Beat, Way};
use crate::deadline::{DeadlineRules, IdPattern};
use crate::flapping::FlappingLimits;
use crate::maintenance::Window;
use crate::process::{ProbeAnswer, ProcessIdentity, ProcessState};
use crate::publisher::{HostName, PublisherId};
use crate::roster::{Effect, Question, Roster, RosterConfig};
use crate::self_check::{Reception, SelfChecks};
use crate::time::{Monotonic, Timestamp};
use crate::verdict::Change;
use crate::watch::LocalHost;

mod member;
mod truth;

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

/// The fleet, its monitor, and what is true.
pub(super) struct Fleet {
    rng: Rng,
    roster: Roster,
    /// What the monitor's ears could hear, as the roster should see it.
    ears: SelfChecks,
    members: Vec<Member>,
    trouble: Option<(Trouble, Monotonic, Monotonic)>,
    /// Publishers on MQTT that were well when the switch failed are a crowd.
    is_crowd: bool,
    /// Two or more were well on the host that is gone.
    is_whole_host: bool,
    /// When what troubles everybody was over last.
    untroubled_since: Monotonic,
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
        let ears = SelfChecks::new(PAUSE_MAX, Monotonic::START);
        let roster = Roster::new(config(Vec::new()), &[], 0, Monotonic::START, wall(Monotonic::START));
        let mut fleet = Self {
            rng,
            roster,
            ears,
            members,
            trouble: None,
            is_crowd: false,
            is_whole_host: false,
            untroubled_since: Monotonic::START,
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
        if self.now.since(self.untroubled_since) < KNOWN_AFTER * 2 || !self.chance(Duration::from_secs(600)) {
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
        self.untroubled_since = self.now;
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
        self.untroubled_since = self.now;
        let last_seen = Some(self.roster.last_seen(wall(self.now), false));
        let remembered: Vec<Change> = self.journal.values().cloned().collect();
        let config = RosterConfig { last_seen, ..config(self.windows.clone()) };
        self.roster = Roster::new(config, &remembered, self.epoch, self.now, wall(self.now));
        self.ears = SelfChecks::new(PAUSE_MAX, self.now);
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
        while let Some(effect) = self.roster.next_effect() {
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
}

fn config(windows: Vec<Window>) -> RosterConfig {
    let home = LocalHost { host: super::name(HOSTS[0], HostName::parse), boot_id: Some(HOSTS[0].into()), pid: None };
    let rules = DeadlineRules { default: DEADLINE, ..DeadlineRules::default() };
    RosterConfig { rules, windows, flapping: FLAPPING, pause_max: PAUSE_MAX, ..RosterConfig::new(home) }
}

const fn wall(now: Monotonic) -> Timestamp {
    Timestamp::from_nanos(now.as_nanos().cast_signed())
}
