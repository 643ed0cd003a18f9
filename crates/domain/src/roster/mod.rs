//! Everybody who is watched, as one value: what happens goes in with the time, what is to be done about it comes out.
//!
//! It has no clock, no timer and no channel. Whoever owns it (the watchdog, [`crate::simulation`]) tells
//! it the time with every event, calls [`Roster::look`] when [`Roster::next_due`] has come, carries out its [`Effect`]s, and
//! says when its changes are durable. What one silence means is decided by [`Watch`]; here is
//! what concerns many: who is due, the crowd, hosts, what is told, and what survives a restart.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::beat::{Beat, BeatKind, Way};
use crate::deadline::IdPattern;
use crate::judge::{Judgement, judge_goodbye};
use crate::last_seen::LastSeen;
use crate::maintenance::{Maintenance, Window};
use crate::nodes::NodeBeat;
use crate::process::{ProbeAnswer, ProcessExit, ProcessIdentity};
use crate::publisher::PublisherId;
use crate::self_check::{Reception, SelfChecks};
use crate::time::{Monotonic, Timestamp, describe_duration};
use crate::verdict::{Change, Trigger, Verdict};
use crate::watch::{Transition, Watch, WatchContext, WatchOutcome};

mod config;
mod directory;
mod effect;
mod entry;
mod host_outages;
pub mod mutant;
mod places;
mod promises;
mod record;
mod restart;
mod status;
mod suppression;
mod timers;
mod watched;

pub use self::config::{Expectations, RosterConfig};
pub use self::effect::{Effect, Question, Remark};
pub use self::status::{MaintenanceReply, ObserverState, ObserverStatus, PublisherStatus, Standing, StatusReply};

use self::mutant::{Mutant, is_planted};
use self::promises::Promises;
use self::record::Record;
use self::restart::Restarts;
use self::suppression::{Suppression, Teller};
use self::timers::Due;
use self::watched::Watched;

/// How often the watchdog notes that the monitor itself still runs ([`Roster::tick`]).
pub const TICK: Duration = Duration::from_millis(250);

/// Everybody who is watched. It outlives whoever works on it.
pub struct Roster {
    config: RosterConfig,
    watched: Watched,
    suppression: Suppression,
    record: Record,
    restarts: Restarts,
    effects: VecDeque<Effect>,
    /// The change that is being noted. Whoever worked on it may fail in the middle: then it is noted by the next one.
    under_way: Option<(u32, Transition)>,
    standing_at: Monotonic,
    paused_for: Option<(Duration, Monotonic)>,
    saved_revision: u64,
}

impl Roster {
    /// With everyone whom the configuration expects and whom an earlier run remembered.
    #[must_use]
    pub fn new(
        mut config: RosterConfig,
        remembered: &[Change],
        last_epoch: u64,
        now: Monotonic,
        wall: Timestamp,
    ) -> Self {
        let (windows, scheduled) = (std::mem::take(&mut config.windows), std::mem::take(&mut config.scheduled));
        let (observers, last_seen) = (SelfChecks::new(config.pause_max(), now), config.last_seen.take());
        let heard = last_seen.as_ref().map(|last_seen| last_seen.heard.clone()).unwrap_or_default();
        let mut roster = Self {
            watched: Watched::new(config.home.clone(), observers, config.publishers_max),
            suppression: Suppression::new(config.flapping, Maintenance::new(windows, scheduled)),
            record: Record::new(last_epoch, config.changes_waiting_max),
            restarts: Restarts::new(heard, now),
            effects: VecDeque::new(),
            under_way: None,
            standing_at: now,
            paused_for: None,
            saved_revision: 0,
            config,
        };
        let notified = last_seen.as_ref().map(|last_seen| last_seen.notified.clone()).unwrap_or_default();
        for change in remembered {
            roster.remember(change, &notified, now);
        }
        let expected = roster.config.expected.clone();
        roster.expect(&expected, now, wall);
        roster.recall(last_seen, now, wall);
        roster
    }

    /// A change of an earlier run, and what had been told last of those of whom that is another verdict.
    fn remember(&mut self, change: &Change, notified: &BTreeMap<PublisherId, Verdict>, now: Monotonic) {
        if change.is_of_monitor() {
            return;
        }
        if change.is_of_host() {
            return self.suppression.outages.remember(change, now);
        }
        let rule = self.config.rules.of(&change.publisher);
        // A process of ours has ended with the run that had started it, and another one takes its place.
        let process = change.process.clone().filter(|_| !self.config.started_by_us.contains(&change.publisher));
        let host = self.watched.places_mut().one(&change.host);
        let watch = Watch::remembered(host, rule, change.to, process, now);
        let Some(index) = self.add(change.publisher.clone(), watch, change.at) else { return };
        let entry = self.watched.entry_mut(index);
        entry.changed(change);
        if is_planted(Mutant::Restart) {
            return;
        }
        // What nobody has kept is taken to have been well: better told once too often than never.
        let untold = if change.to.is_bad() { Verdict::Alive } else { change.to };
        let told = notified.get(&change.publisher).copied();
        entry.last_notified = told.unwrap_or(if change.is_told() { change.to } else { untold });
        self.suppression.remember(index, change, entry, now);
    }

    /// Says that there was a run before, and of whom it has heard last.
    fn recall(&mut self, last_seen: Option<LastSeen>, now: Monotonic, wall: Timestamp) {
        let is_first = last_seen.is_none() && self.record.last_epoch() == 0;
        let ended = last_seen.as_ref().map(|last_seen| (last_seen.at, last_seen.in_order));
        if let Some(LastSeen { at, left_with_monitor, .. }) = last_seen {
            for id in left_with_monitor {
                self.has_left(&id, at, now, wall);
            }
        }
        let monitor = self.config.monitor.as_ref().filter(|_| !is_first);
        let home = &self.config.home.host;
        if let Some(mut change) = monitor.and_then(|monitor| restart::restart_event(monitor, home, ended, wall)) {
            self.record.publish(&mut change, &mut self.effects);
        }
    }

    /// It left with the monitor. Unless that starts it again, it has ended.
    fn has_left(&mut self, id: &PublisherId, at: Timestamp, now: Monotonic, wall: Timestamp) {
        let Some(index) = self.watched.find(id) else { return };
        let watch = &self.watched.entry(index).watch;
        let from = watch.verdict();
        if self.config.started_by_us.contains(id) || from == Verdict::Ended {
            return;
        }
        let (rule, host, process) = (self.config.rules.of(id), watch.host().clone(), watch.process().cloned());
        let host = self.watched.places_mut().one(&host);
        self.watched.entry_mut(index).watch = Watch::remembered(host, rule, Verdict::Ended, process, now);
        self.watched.count_well(index);
        let summary = "ended: it left in order with the monitor, which starts it no more".to_owned();
        let judgement = Judgement { summary, ..judge_goodbye() };
        let transition = Transition { from, judgement, at: now, trigger: Trigger::Goodbye };
        let (suppression, mut teller) = self.teller(now, wall);
        let change = suppression::unmarked(&teller, index, transition, at);
        suppression.note(index, change, &mut teller);
    }

    const fn teller(&mut self, now: Monotonic, wall: Timestamp) -> (&mut Suppression, Teller<'_>) {
        let Self { watched, record, effects, suppression, .. } = self;
        (suppression, Teller { watched, record, effects, now, wall })
    }

    // ---- what happens

    /// Notes signs of life.
    pub fn hear(&mut self, beats: &[Beat], now: Monotonic, wall: Timestamp) {
        self.note_time(now);
        let places = self.watched.prefetch(beats);
        for (beat, place) in beats.iter().zip(places) {
            let is_it = |place: &u32| self.watched.entry(*place).id == beat.publisher;
            let Some(index) = place.filter(is_it).or_else(|| self.index_of(beat)) else { continue };
            if let Some(other) = self.watched.hear_agent(beat) {
                let (agent, other, host) = (beat.publisher.clone(), other.clone(), beat.host.clone());
                self.effects.push_back(Effect::Say(Remark::TwoAgents { agent, other, host }));
            }
            // Of all signs of life only a last will has somebody asked at once.
            let is_will = matches!(beat.kind, BeatKind::LastWill { .. });
            let outcome = self.watched.decide(index, is_will, |watch, around| watch.hear(beat, around));
            if outcome.another {
                self.ask_for_user(index);
            }
            self.follow(index, outcome, now, wall);
            self.await_exit_of(index);
            self.watched.arm_sooner(index);
        }
        self.look_through(now, wall);
    }

    /// The monitor's own hearing came or went, on one way.
    pub fn receives(&mut self, way: Way, reception: Reception, reason: &str, at: Monotonic) {
        self.watched.observers_mut().receives(way, reception, reason, at);
        if self.watched.observers().are_many() {
            // Others than before may be the ears for somebody now, who may be late sooner than those had it.
            self.watched.rearm_all();
        }
    }

    /// Notes that the monitor runs, or that it stood still, and tells what has become due.
    pub fn tick(&mut self, now: Monotonic, wall: Timestamp) {
        self.note_time(now);
        self.look_through(now, wall);
    }

    /// What was suppressed may be due to be told; after what has happened, which may have made it untrue.
    fn look_through(&mut self, now: Monotonic, wall: Timestamp) {
        let (suppression, mut teller) = self.teller(now, wall);
        suppression.look_through(&mut teller);
    }

    fn note_time(&mut self, now: Monotonic) {
        if !is_planted(Mutant::Standstill)
            && let Some(gap) = self.watched.observers_mut().tick(now)
        {
            self.paused_for = Some((gap, now));
            self.effects.push_back(Effect::Say(Remark::StoodStill { gap }));
        }
        // Also after the doubt: the next crowd has its own only when this one is seen to be over.
        if self.watched.crowd().is_silent() {
            self.watched.count_the_silent(now);
        }
    }

    /// When something is to be looked at next.
    #[must_use]
    pub fn next_due(&self) -> Option<Monotonic> {
        self.watched.next_due()
    }

    /// The first thing that is due by now is looked at; whether there was one.
    pub fn look(&mut self, now: Monotonic, wall: Timestamp) -> bool {
        let Some(due) = self.watched.take_due(now) else { return false };
        self.note_time(now);
        if let Due::Place(index) = due {
            self.watched.note_promise(index);
            self.watched.count_the_silent_with(index, now);
            let outcome = self.watched.decide(index, true, |watch, around| watch.look(around, now));
            self.watched.arm(index);
            self.follow(index, outcome, now, wall);
        }
        self.look_through(now, wall);
        true
    }

    /// What is known of one publisher.
    #[must_use]
    pub fn watch_of(&self, id: &PublisherId) -> Option<&Watch> {
        self.watched.find(id).map(|index| &self.watched.entry(index).watch)
    }

    /// What was done last has taken so long: what has to be done for everybody is done less often on a slow machine.
    pub fn took(&mut self, elapsed: Duration) {
        self.watched.took(elapsed);
    }

    /// The probe has answered about this process. A publisher that has started again meanwhile has
    /// another one, of which the answer says nothing.
    pub fn answered(
        &mut self,
        publisher: &PublisherId,
        process: &ProcessIdentity,
        answer: &ProbeAnswer,
        now: Monotonic,
        wall: Timestamp,
    ) {
        self.decide(publisher, now, wall, |watch, around| {
            if watch.process() == Some(process) { watch.answered(around, answer, now) } else { None }
        });
    }

    /// The probe has seen as which user a process runs.
    pub fn user_found(&mut self, publisher: &PublisherId, process: &ProcessIdentity, user: u32) {
        if let Some(index) = self.watched.find(publisher) {
            self.watched.entry_mut(index).watch.user_found(process, user);
        }
    }

    /// Somebody had a publisher's process looked at, and it has ended.
    pub fn found_ended(
        &mut self,
        publisher: &PublisherId,
        process: &ProcessIdentity,
        answer: &ProbeAnswer,
        now: Monotonic,
        wall: Timestamp,
    ) {
        self.decide(publisher, now, wall, |watch, around| watch.found_ended(around, process, answer, now));
    }

    /// The kernel reported the end of a publisher's process.
    pub fn exited(
        &mut self,
        publisher: &PublisherId,
        process: &ProcessIdentity,
        answer: &ProbeAnswer,
        now: Monotonic,
        wall: Timestamp,
    ) {
        self.decide(publisher, now, wall, |watch, around| watch.exited(around, process, answer, now));
    }

    /// The parent of a publisher's process told how it ended.
    pub fn parent_told(&mut self, publisher: &PublisherId, exit: ProcessExit, now: Monotonic, wall: Timestamp) {
        self.decide(publisher, now, wall, |watch, around| watch.parent_told(around, exit, now));
    }

    /// Leases of these nodes have ended: everybody who belongs to one is asked after.
    pub fn leases_ended(&mut self, nodes: &[NodeBeat], now: Monotonic, wall: Timestamp) {
        self.note_time(now);
        let agents = nodes.iter().filter_map(|node| node.client_id.as_ref());
        let mut found: BTreeSet<u32> = agents.filter_map(|agent| self.watched.find(agent)).collect();
        for host in nodes.iter().flat_map(NodeBeat::hosts) {
            found.extend(self.watched.on_host(host));
        }
        for index in found {
            let outcome = self.watched.decide(index, true, |watch, around| watch.lease_ended(around, now, wall));
            self.follow(index, outcome, now, wall);
        }
    }

    /// All leases that live, and what each promises.
    pub fn leases_promise(&mut self, promises: &[(NodeBeat, Duration)]) {
        self.watched.set_promises(Promises::new(promises));
    }

    /// New deadlines and newly expected publishers.
    pub fn set_expectations(&mut self, expectations: Expectations, now: Monotonic, wall: Timestamp) {
        let Expectations { rules, expected, inside, scheduled, flapping } = expectations;
        (self.config.rules, self.config.inside) = (rules, inside);
        self.suppression.set_limits(flapping);
        self.suppression.maintenance.schedule(scheduled);
        self.watched.observers_mut().set_pause_max(self.config.pause_max());
        for entry in self.watched.entries_mut() {
            entry.watch.set_deadline(self.config.rules.of(&entry.id));
            entry.watch.set_inside(self.config.inside.contains(&entry.id));
        }
        self.expect(&expected, now, wall);
        self.watched.rearm_all();
    }

    /// These end because the monitor does: that is nobody's verdict, and the next run does not say that they are back.
    pub fn stop_with_monitor(&mut self, publishers: Vec<PublisherId>) {
        self.restarts.leave(publishers);
    }

    /// Opens a window; the answer is what is to be kept on disk, with its number.
    ///
    /// # Errors
    /// In words, when it cannot be.
    pub fn begin_maintenance(&mut self, window: Window, wall: Timestamp) -> Result<(u64, Vec<Window>), String> {
        let (publisher, until, reason) = (window.publisher.to_string(), window.to, window.reason.clone());
        self.effects.push_back(Effect::Say(Remark::MaintenanceBegins { publisher, until, reason }));
        self.suppression.maintenance.begin(window, wall)?;
        Ok(self.windows_to_save(wall))
    }

    /// Ends the windows of a pattern; the answer is how many, and what is to be kept on disk.
    pub fn end_maintenance(&mut self, publisher: &IdPattern, wall: Timestamp) -> (usize, (u64, Vec<Window>)) {
        let ended = self.suppression.maintenance.end(publisher, wall);
        self.effects.push_back(Effect::Say(Remark::MaintenanceEnds { publisher: publisher.to_string(), ended }));
        (ended, self.windows_to_save(wall))
    }

    fn windows_to_save(&mut self, wall: Timestamp) -> (u64, Vec<Window>) {
        self.saved_revision += 1;
        (self.saved_revision, self.suppression.maintenance.windows(wall))
    }

    /// Whoever worked on it starts again: its timers and questions were lost, and it may have failed anywhere.
    pub fn resume(&mut self, now: Monotonic, wall: Timestamp) {
        let (suppression, mut teller) = self.teller(now, wall);
        suppression.take_up(&mut teller);
        // At most once: what fails on it again shall not fail for ever.
        if let Some((index, transition)) = self.under_way.take()
            && self.watched.entry(index).verdict_before() != transition.judgement.verdict
        {
            self.note(index, transition, now, wall);
        }
        self.watched.rearm_all();
        for index in self.watched.indices() {
            self.watched.entry_mut(index).awaits_no_exit();
            self.await_exit_of(index);
        }
    }

    // ---- what comes of it

    /// What is to be done next; each is given out once.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Changes that are not durable yet, oldest first; they stay until [`Roster::recorded`].
    #[must_use]
    pub fn changes_to_record(&self, changes_max: usize) -> Vec<Change> {
        self.record.waiting().take(changes_max).cloned().collect()
    }

    /// Of these, those after an epoch.
    #[must_use]
    pub fn unrecorded(&self, since_epoch: u64, changes_max: usize) -> Vec<Change> {
        self.record.waiting().filter(|change| change.epoch > since_epoch).take(changes_max).cloned().collect()
    }

    /// The oldest `count` changes are durable.
    pub fn recorded(&mut self, count: usize) {
        self.record.recorded(count);
    }

    /// The standing verdicts, when it is time to repeat them.
    pub fn standing_due(&mut self, now: Monotonic, wall: Timestamp) -> Option<Vec<Standing>> {
        let entries = self.watched.entries();
        if entries.is_empty() || now.since(self.standing_at) < self.config.standing_every {
            return None;
        }
        self.standing_at = now;
        let hosts = self.suppression.outages.changes().map(|change| Standing::of(change, wall));
        Some(entries.iter().map(|entry| Standing::of_entry(entry, wall)).chain(hosts).collect())
    }

    /// When everybody was heard last, where it is time to keep that.
    pub fn last_seen_due(&mut self, now: Monotonic, wall: Timestamp) -> Option<LastSeen> {
        self.restarts.last_seen_due(&self.watched, now, wall)
    }

    /// When everybody was heard last, as of now.
    #[must_use]
    pub fn last_seen(&self, wall: Timestamp, in_order: bool) -> LastSeen {
        self.restarts.last_seen(&self.watched, wall, in_order)
    }

    /// Whether the monitor trusts its own ears.
    #[must_use]
    pub fn observer_status(&self, now: Monotonic) -> ObserverStatus {
        let suspect = |reason: String| ObserverStatus { state: ObserverState::Suspect, reason };
        if let Some((_, deaf)) = self.watched.observers().deaf() {
            return suspect(deaf.reason().to_owned());
        }
        if let Some(doubt) = self.watched.crowd().doubt() {
            return suspect(doubt.to_owned());
        }
        match self.paused_for {
            Some((gap, at)) if now.since(at) < self.config.rules.default => {
                suspect(format!("the monitor stood still for {}", describe_duration(gap)))
            }
            _ => ObserverStatus::default(),
        }
    }

    /// Everybody, ordered by id.
    #[must_use]
    pub fn status(&self, wall: Timestamp) -> Vec<PublisherStatus> {
        let mut status: Vec<_> = self.watched.indices().map(|index| self.status_at(index, wall)).collect();
        status.sort_by(|a, b| a.id.cmp(&b.id));
        status
    }

    /// One publisher.
    #[must_use]
    pub fn status_of(&self, id: &PublisherId, wall: Timestamp) -> Option<PublisherStatus> {
        self.watched.find(id).map(|index| self.status_at(index, wall))
    }

    fn status_at(&self, index: u32, wall: Timestamp) -> PublisherStatus {
        let entry = self.watched.entry(index);
        let maintenance = self.suppression.maintenance.covers(&entry.id, entry.watch.host(), wall);
        let status = status::status_of(entry, wall);
        let last_seen = status.last_seen.or_else(|| self.restarts.heard_before(&entry.id));
        PublisherStatus { maintenance, last_seen, ..status }
    }

    /// Every window that is open or to come, and whom the open ones cover (at most `covered_max`).
    #[must_use]
    pub fn maintenance(&self, covered_max: usize, wall: Timestamp) -> MaintenanceReply {
        let maintenance = &self.suppression.maintenance;
        let covered = self.watched.entries().iter();
        let covered = covered.filter(|entry| maintenance.covers(&entry.id, entry.watch.host(), wall).is_some());
        let mut covered: Vec<_> = covered.take(covered_max).map(|entry| entry.id.clone()).collect();
        covered.sort();
        let (windows, scheduled) = (maintenance.windows(wall), maintenance.scheduled_open(wall));
        MaintenanceReply { windows, scheduled, covered, ended: 0 }
    }

    /// The process of a publisher that the probe can look at; in words why there is none; none at all
    /// when the publisher is not known.
    #[must_use]
    pub fn process_to_probe(&self, id: &PublisherId) -> Option<Result<(ProcessIdentity, Option<PublisherId>), String>> {
        let index = self.watched.find(id)?;
        let (watch, home) = (&self.watched.entry(index).watch, self.watched.home());
        let Some(process) = watch.process() else {
            return Some(Err("it has not told which process it is: there is nothing to look at".to_owned()));
        };
        if watch.process_here(home).is_some() {
            return Some(Ok((process.clone(), None)));
        }
        if let Some(what) = watch.not_its_own(home) {
            return Some(Err(format!("PID {} is {what}, which is no evidence about it", process.pid)));
        }
        Some(match self.watched.agents().of(&process.boot_id, id) {
            Some(agent) => Ok((process.clone(), Some(agent.clone()))),
            None => Err(format!("PID {} is on {}, which can't be asked from here", process.pid, watch.host())),
        })
    }

    // ---- how

    fn decide(
        &mut self,
        publisher: &PublisherId,
        now: Monotonic,
        wall: Timestamp,
        decide: impl FnOnce(&mut Watch, WatchContext<'_>) -> Option<Box<Transition>>,
    ) {
        self.note_time(now);
        let Some(index) = self.watched.find(publisher) else { return };
        self.watched.count_the_silent_with(index, now);
        let change = self.watched.decide(index, true, decide);
        self.follow(index, WatchOutcome { change, ..WatchOutcome::default() }, now, wall);
        // A doubt is looked at again sooner than a verdict.
        self.watched.arm_sooner(index);
        self.look_through(now, wall);
    }

    fn follow(&mut self, index: u32, outcome: WatchOutcome, now: Monotonic, wall: Timestamp) {
        if let Some(was) = outcome.was {
            self.watched.moved(index, &was);
        }
        self.watched.count_well(index);
        if let Some(process) = outcome.ask {
            let (id, agent) = (self.watched.entry(index).id.clone(), self.watched.agent_to_ask(index, &process));
            self.effects.push_back(Effect::Ask(Question::Look(id, process, agent)));
        }
        let Some(transition) = outcome.change.map(|change| *change) else { return };
        self.under_way = Some((index, transition.clone()));
        fail::fail_point!("roster::decided");
        self.note(index, transition, now, wall);
        self.under_way = None;
    }

    /// A verdict has changed.
    fn note(&mut self, index: u32, transition: Transition, now: Monotonic, wall: Timestamp) {
        if self.restarts.only_leaves(&self.watched.entry(index).id, transition.judgement.verdict) {
            return;
        }
        let (suppression, mut teller) = self.teller(now, wall);
        let at = wall.earlier_by(now.since(transition.at));
        let change = suppression::unmarked(&teller, index, transition, at);
        suppression.note(index, change, &mut teller);
    }

    /// Has the end of a publisher's process on our host waited for, once a process.
    fn await_exit_of(&mut self, index: u32) {
        let entry = self.watched.entry(index);
        let Some(process) = entry.watch.process_here(self.watched.home()) else { return };
        let question = (process.pid, process.start_ticks);
        let entry = self.watched.entry_mut(index);
        if entry.awaits_exit_of(question)
            && let Some(process) = entry.watch.process()
        {
            self.effects.push_back(Effect::Ask(Question::AwaitExit(entry.id.clone(), process.clone())));
            self.effects.push_back(Effect::Ask(Question::User(entry.id.clone(), process.clone())));
        }
    }

    fn ask_for_user(&mut self, index: u32) {
        let process = self.watched.decide(index, false, |watch, around| watch.user_to_ask(around.home));
        if let Some(process) = process {
            let id = self.watched.entry(index).id.clone();
            self.effects.push_back(Effect::Ask(Question::User(id, process)));
        }
    }

    fn expect(&mut self, expected: &[PublisherId], now: Monotonic, wall: Timestamp) {
        for id in expected {
            if self.watched.find(id).is_none() {
                let (rule, host) = (self.config.rules.of(id), self.watched.places_mut().one(&self.config.home.host));
                self.add(id.clone(), Watch::expected(host, rule, now), wall);
            }
        }
    }

    fn index_of(&mut self, beat: &Beat) -> Option<u32> {
        if let Some(index) = self.watched.find(&beat.publisher) {
            return Some(index);
        }
        let (rule, host) = (self.config.rules.of(&beat.publisher), self.watched.places_mut().one(&beat.host));
        self.add(beat.publisher.clone(), Watch::expected(host, rule, beat.at), beat.wall)
    }

    fn add(&mut self, id: PublisherId, mut watch: Watch, since: Timestamp) -> Option<u32> {
        watch.set_inside(self.config.inside.contains(&id));
        self.watched.add(id, watch, since, &mut self.effects)
    }
}
