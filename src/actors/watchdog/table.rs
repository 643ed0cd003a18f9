//! Everybody that the watchdog watches, with one queue for all their deadlines.
//!
//! A sign of life costs a hash look-up and moves no timer: a timer that fires too early is set again
//! (lazily).

use std::collections::{BTreeSet, VecDeque};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::broadcast;

use crate::domain::agents::Agents;
use crate::domain::beat::{Beat, BeatKind};
use crate::domain::crowd::Crowd;
use crate::domain::deadline::IdPattern;
use crate::domain::maintenance::Maintenance;
use crate::domain::nodes::NodeBeat;
use crate::domain::observer::Observers;
use crate::domain::process::{ProbeAnswer, ProcessExit, ProcessIdentity};
use crate::domain::publisher::PublisherId;
use crate::domain::time::{Monotonic, Timestamp, describe_duration};
use crate::domain::verdict::{Change, Verdict};
use crate::domain::watch::{Outcome, Surroundings, Transition, Watch};
use crate::messages::ask::{AskUnrecorded, ObserverState, ObserverStatus, PublisherStatus};
use crate::messages::beats::Hearing;
use crate::messages::change::{SetDeadlines, Standing};
use crate::messages::maintenance::MaintenanceReply;
use crate::runtime::clock::Clock;
use crate::runtime::line_limit::LineLimit;

use self::calm::{Calm, Draft};
pub use self::config::WatchdogConfig;
use self::directory::Directory;
use self::entry::Entry;
use self::hosts::Hosts;
use self::log::LOG_PERIOD;
use self::promises::Promises;
use self::restart::Restarts;
use self::timers::{Due, Timers};

mod calm;
mod config;
mod directory;
mod ends;
mod entry;
mod hosts;
mod log;
mod promises;
mod restart;
mod silence;
mod status;
mod timers;

/// A question that the actor is to ask about a publisher's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// What has become of it? Asked of the agent on its host, where one is named.
    Look(PublisherId, ProcessIdentity, Option<PublisherId>),
    /// Tell when it ends.
    AwaitExit(PublisherId, ProcessIdentity),
    /// As which user does it run?
    User(PublisherId, ProcessIdentity),
}

/// Everybody that is watched. It outlives the actor that works on it.
pub struct Table {
    config: WatchdogConfig,
    clock: Clock,
    observers: Observers,
    calm: Calm,
    crowd: Crowd,
    crowd_counted_at: Option<Monotonic>,
    questions: VecDeque<Question>,
    entries: Vec<Entry>,
    /// For each entry an instant before which it is not late. Beside the entries, because it is read of
    /// everybody when the silent are counted: 8 bytes each instead of the whole entry.
    not_late_before: Vec<Monotonic>,
    /// How many were heard and have nothing bad said of them.
    well: usize,
    by_id: Directory,
    hosts: Hosts,
    timers: Timers,
    epoch: u64,
    waiting: VecDeque<Change>,
    live: broadcast::Sender<Change>,
    standing_at: Monotonic,
    paused_for: Option<(Duration, Monotonic)>,
    unwatched: u64,
    given_up_changes: u64,
    log: LineLimit,
    agents: Agents,
    restarts: Restarts,
    promises: Promises,
}

/// The agent that can be asked after one publisher; a macro like the next one.
macro_rules! agent_of {
    ($table:ident, $index:expr) => {{
        let Entry { id, watch, .. } = &$table.entries[$index as usize];
        watch.boot().and_then(|boot| $table.agents.of(boot, id))
    }};
}

/// What is around one publisher; a macro, because it borrows some fields while another one is changed.
macro_rules! around {
    ($table:ident, $index:expr, $agent:expr) => {{
        let (agent, heard_on) = ($agent, $table.entries[$index as usize].watch.heard_on());
        Surroundings {
            home: &$table.config.home,
            observer: $table.observers.of(heard_on),
            doubt: $table.crowd.doubt(),
            agent,
            other_agent: agent.and_then(|agent| $table.agents.beside(agent)),
        }
    }};
}

impl Table {
    /// A table with everyone whom the configuration expects and whom an earlier run remembered.
    /// Changes are also sent to `live`, for whoever listens at the moment.
    #[must_use]
    pub fn new(
        config: WatchdogConfig,
        clock: Clock,
        remembered: &[Change],
        last_epoch: u64,
        live: broadcast::Sender<Change>,
    ) -> Self {
        let now = clock.monotonic();
        let mut table = Self {
            observers: Observers::new(config.pause_max(), now),
            clock,
            calm: Calm::default(),
            crowd: Crowd::default(),
            crowd_counted_at: None,
            questions: VecDeque::new(),
            entries: Vec::new(),
            not_late_before: Vec::new(),
            well: 0,
            by_id: Directory::default(),
            hosts: Hosts::default(),
            timers: Timers::new(clock),
            epoch: last_epoch,
            waiting: VecDeque::new(),
            live,
            standing_at: now,
            paused_for: None,
            unwatched: 0,
            given_up_changes: 0,
            log: LineLimit::new(config.log_lines_max, LOG_PERIOD),
            agents: Agents::default(),
            restarts: Restarts::default(),
            promises: Promises::default(),
            config,
        };
        table.calm.maintenance =
            Maintenance::new(std::mem::take(&mut table.config.windows), std::mem::take(&mut table.config.scheduled));
        for change in remembered {
            table.remember(change, now);
        }
        let expected = std::mem::take(&mut table.config.expected);
        table.expect(&expected, now, clock.wall());
        table.config.expected = expected;
        let last_seen = table.config.last_seen.take();
        table.recall(last_seen, now, clock.wall());
        table
    }

    /// Notes signs of life.
    pub fn hear(&mut self, beats: &[Beat], now: Monotonic, wall: Timestamp) {
        self.tick(now);
        // One step after another for all of them, in place of all steps for one after another: so the looks of one step
        // into memory, which no cache holds, do not wait for each other.
        let hashes: Vec<u64> = beats.iter().map(|beat| self.by_id.hash(&beat.publisher)).collect();
        let places: Vec<Option<u32>> = hashes.iter().map(|hash| self.by_id.guess(*hash)).collect();
        for place in places.iter().flatten() {
            self.entries[*place as usize].touch();
        }
        for (beat, place) in beats.iter().zip(&places) {
            let is_it = |place: &u32| self.entries[*place as usize].id == beat.publisher;
            let Some(index) = place.filter(is_it).or_else(|| self.index_of(beat)) else { continue };
            if let Some(other) = self.agents.hear(beat) {
                let agent = &beat.publisher;
                tracing::warn!(%agent, %other, host = %beat.host, "two agents speak for one boot: one of them may not be what it says");
            }
            // Of all signs of life only a last will has somebody asked at once.
            let is_will = matches!(beat.kind, BeatKind::LastWill { .. });
            let around = around!(self, index, if is_will { agent_of!(self, index) } else { None });
            let outcome = self.entries[index as usize].watch.hear(beat, around);
            if outcome.another {
                self.ask_for_user(index);
            }
            self.follow(index, outcome, now, wall);
            self.await_exit_of(index);
            self.arm_sooner(index);
        }
    }

    /// The monitor's own hearing came or went.
    pub fn hearing(&mut self, hearing: &Hearing) {
        self.observers.receives(hearing.way, hearing.reception, &hearing.reason, hearing.at);
        if self.observers.are_many() {
            // Others than before may be the ears for somebody now, who may be late sooner than those had it.
            self.rearm_all();
        }
    }

    /// Notes that the monitor runs, or that it stood still.
    pub fn tick(&mut self, now: Monotonic) {
        if let Some(gap) = self.observers.tick(now) {
            self.paused_for = Some((gap, now));
            let paused_ms = gap.as_millis();
            tracing::warn!(paused_ms, "the monitor itself stood still; silence counts from now");
        }
        // Also after the doubt: the next crowd has its own only when this one is seen to be over.
        if self.crowd.is_silent() {
            self.count_the_silent(now);
        }
        self.calm_down(now);
        self.log_left_out(now);
    }

    /// The next thing that is due is done: `Ready` when something was, `Pending` when nothing is due.
    pub fn poll_due(&mut self, task: &mut Context<'_>, now: Monotonic, wall: Timestamp) -> Poll<()> {
        let Poll::Ready(due) = self.timers.poll_due(task, now) else { return Poll::Pending };
        let Due::Place(index) = due else {
            self.crowd_counted_at = None;
            self.tick(now);
            return Poll::Ready(());
        };
        self.entries[index as usize].armed = None;
        self.tick(now);
        self.note_promise(index);
        self.count_the_silent_with(index, now);
        let around = around!(self, index, agent_of!(self, index));
        let outcome = self.entries[index as usize].watch.look(around, now);
        self.arm(index);
        self.follow(index, outcome, now, wall);
        Poll::Ready(())
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

    fn ask_for_user(&mut self, index: u32) {
        let Entry { id, watch, .. } = &mut self.entries[index as usize];
        if let Some(process) = watch.user_to_ask(&self.config.home) {
            self.questions.push_back(Question::User(id.clone(), process));
        }
    }

    /// The probe has seen as which user a process runs.
    pub fn user_found(&mut self, publisher: &PublisherId, process: &ProcessIdentity, user: u32) {
        if let Some(index) = self.by_id.find(publisher, &self.entries) {
            self.entries[index as usize].watch.user_found(process, user);
        }
    }

    /// Leases of these nodes have ended: everybody who belongs to one is asked after.
    pub fn leases_ended(&mut self, nodes: &[NodeBeat], now: Monotonic, wall: Timestamp) {
        self.tick(now);
        let agents = nodes.iter().filter_map(|node| node.client_id.as_ref());
        let mut found: BTreeSet<u32> = agents.filter_map(|agent| self.by_id.find(agent, &self.entries)).collect();
        for host in nodes.iter().flat_map(NodeBeat::hosts) {
            found.extend(self.hosts.places_on(host, &self.entries));
        }
        for index in found {
            let around = around!(self, index, agent_of!(self, index));
            let outcome = self.entries[index as usize].watch.lease_ended(around, now, wall);
            self.follow(index, outcome, now, wall);
        }
    }

    /// The questions to ask; each is given out once.
    pub fn take_questions(&mut self) -> Vec<Question> {
        self.questions.drain(..).collect()
    }

    fn decide(
        &mut self,
        publisher: &PublisherId,
        now: Monotonic,
        wall: Timestamp,
        decide: impl FnOnce(&mut Watch, Surroundings<'_>) -> Option<Box<Transition>>,
    ) {
        self.tick(now);
        let Some(index) = self.by_id.find(publisher, &self.entries) else { return };
        self.count_the_silent_with(index, now);
        let around = around!(self, index, agent_of!(self, index));
        let change = decide(&mut self.entries[index as usize].watch, around);
        self.follow(index, Outcome { change, ..Outcome::default() }, now, wall);
        // A doubt is looked at again sooner than a verdict.
        self.arm_sooner(index);
    }

    fn follow(&mut self, index: u32, outcome: Outcome, now: Monotonic, wall: Timestamp) {
        if let Some(was) = outcome.was {
            let entry = &mut self.entries[index as usize];
            entry.moved(&was);
            if *was.host != *entry.watch.host() {
                self.hosts.moved();
            }
        }
        self.count_well(index);
        if let Some(process) = outcome.ask {
            let Entry { id, watch, .. } = &self.entries[index as usize];
            let here = watch.process_here(&self.config.home).is_some();
            let agent = self.agents.of(&process.boot_id, id).filter(|_| !here).cloned();
            self.questions.push_back(Question::Look(id.clone(), process, agent));
        }
        if let Some(transition) = outcome.change {
            self.record(index, &transition, now, wall);
        }
    }

    /// Has the end of a publisher's process on our host waited for, once a process.
    fn await_exit_of(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        let Some(process) = entry.watch.process_here(&self.config.home) else { return };
        let question = (process.pid, process.start_ticks);
        if entry.awaits_exit_of(question)
            && let Some(process) = entry.watch.process()
        {
            self.questions.push_back(Question::AwaitExit(entry.id.clone(), process.clone()));
            self.questions.push_back(Question::User(entry.id.clone(), process.clone()));
        }
    }

    /// New deadlines and newly expected publishers.
    pub fn set_deadlines(&mut self, deadlines: SetDeadlines, now: Monotonic, wall: Timestamp) {
        self.config.rules = deadlines.rules;
        self.config.flapping = deadlines.flapping;
        self.config.inside = deadlines.inside;
        self.calm.maintenance.schedule(deadlines.scheduled);
        self.observers.set_pause_max(self.config.pause_max());
        for entry in &mut self.entries {
            entry.watch.set_deadline(self.config.rules.of(&entry.id));
            entry.watch.set_inside(self.config.inside.contains(&entry.id));
        }
        self.expect(&deadlines.expected, now, wall);
        self.rearm_all();
    }

    /// Sets every timer anew.
    pub fn rearm_all(&mut self) {
        for index in 0..self.entries.len() {
            if let Ok(index) = u32::try_from(index) {
                self.arm(index);
            }
        }
    }

    /// Questions that were asked by a former life of the actor are asked again.
    pub fn ask_again(&mut self) {
        for index in 0..self.entries.len() {
            if let Ok(index) = u32::try_from(index) {
                self.entries[index as usize].awaits_no_exit();
                self.await_exit_of(index);
            }
        }
    }

    /// Changes that are not durable yet, oldest first; they stay until [`Table::handed_on`].
    #[must_use]
    pub fn changes_to_hand_on(&self, changes_max: usize) -> Vec<Change> {
        self.waiting.iter().take(changes_max).cloned().collect()
    }

    /// Of these, those after an epoch.
    #[must_use]
    pub fn unrecorded(&self, AskUnrecorded { since_epoch, changes_max }: AskUnrecorded) -> Vec<Change> {
        self.waiting.iter().filter(|change| change.epoch > since_epoch).take(changes_max).cloned().collect()
    }

    /// The oldest `count` changes are durable.
    pub fn handed_on(&mut self, count: usize) {
        self.waiting.drain(..count.min(self.waiting.len()));
    }

    /// The standing verdicts, when it is time to repeat them.
    pub fn standing_due(&mut self, now: Monotonic, wall: Timestamp) -> Option<Vec<Standing>> {
        if self.entries.is_empty() || now.since(self.standing_at) < self.config.standing_every {
            return None;
        }
        self.standing_at = now;
        let standing = |entry: &Entry| Standing {
            publisher: entry.id.clone(),
            host: entry.watch.host().clone(),
            verdict: entry.watch.verdict(),
            epoch: entry.epoch(),
            at: wall,
        };
        Some(self.entries.iter().map(standing).chain(self.standing_hosts(wall)).collect())
    }

    fn expect(&mut self, expected: &[PublisherId], now: Monotonic, wall: Timestamp) {
        for id in expected {
            if self.by_id.find(id, &self.entries).is_none() {
                let rule = self.config.rules.of(id);
                let watch = Watch::expected(self.hosts.one(&self.config.home.host), rule, now);
                self.add(id.clone(), watch, wall);
            }
        }
    }

    fn index_of(&mut self, beat: &Beat) -> Option<u32> {
        if let Some(index) = self.by_id.find(&beat.publisher, &self.entries) {
            return Some(index);
        }
        let rule = self.config.rules.of(&beat.publisher);
        let watch = Watch::expected(self.hosts.one(&beat.host), rule, beat.at);
        self.add(beat.publisher.clone(), watch, beat.wall)
    }

    fn add(&mut self, id: PublisherId, mut watch: Watch, since: Timestamp) -> Option<u32> {
        let index = u32::try_from(self.entries.len()).ok();
        let Some(index) = index.filter(|_| self.entries.len() < self.config.publishers_max) else {
            self.unwatched += 1;
            if self.unwatched.is_power_of_two() {
                let publishers_max = self.config.publishers_max;
                tracing::error!(publisher = %id, publishers_max, count = self.unwatched, "too many publishers: not watched");
            }
            return None;
        };
        watch.set_inside(self.config.inside.contains(&id));
        self.hosts.added(index, watch.host());
        self.entries.push(Entry::new(id, watch, since));
        self.by_id.insert(index, &self.entries);
        self.not_late_before.push(Monotonic::START);
        self.count_well(index);
        self.arm(index);
        Some(index)
    }

    fn arm(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        let observer = self.observers.of(entry.watch.heard_on());
        self.not_late_before[index as usize] = entry.watch.late_at(observer);
        let wanted = entry.watch.look_again_at(observer);
        let before = std::mem::replace(&mut entry.armed, wanted);
        self.timers.set(index, before, wanted);
    }

    /// Sets its timer anew when that is to be sooner; a timer that fires too early is set again then.
    fn arm_sooner(&mut self, index: u32) {
        let entry = &self.entries[index as usize];
        let wanted = entry.watch.look_again_at(self.observers.of(entry.watch.heard_on()));
        if wanted.is_some_and(|wanted| entry.armed.is_none_or(|armed| wanted < armed)) {
            self.arm(index);
        }
    }

    fn record(&mut self, index: u32, transition: &Transition, now: Monotonic, wall: Timestamp) {
        if self.only_leaves(index, transition.judgement.verdict) {
            return;
        }
        let at = wall.earlier_by(now.since(transition.at));
        let draft = Draft {
            from: transition.from,
            to: transition.judgement.verdict,
            at,
            trigger: transition.trigger,
            summary: transition.judgement.summary.clone(),
            evidence: transition.judgement.evidence.clone(),
        };
        self.note(index, draft, now, wall);
    }

    /// Hands a change on to whoever listens now, and to the journal.
    fn publish(&mut self, change: Change) {
        self.log(&change);
        if self.waiting.len() >= self.config.changes_waiting_max {
            self.waiting.pop_front();
            self.given_up_changes += 1;
            if self.given_up_changes.is_power_of_two() {
                tracing::error!(
                    count = self.given_up_changes,
                    "too many verdict changes wait: the oldest were given up"
                );
            }
        }
        // Nobody listening is ordinary.
        let _ = self.live.send(change.clone());
        self.waiting.push_back(change);
    }
}
