//! Whom the monitor watches, when each is to be looked at, and how many are silent at once.
//!
//! A sign of life costs a hash look-up and moves no timer: a timer that fires too early is set again (lazily). The silent are
//! counted without a look at everybody, since there may be a million.

use std::collections::VecDeque;
use std::time::Duration;

use super::directory::Directory;
use super::effect::{Effect, Remark};
use super::entry::Entry;
use super::mutant::{Mutant, is_planted};
use super::places::Places;
use super::promises::Promises;
use super::timers::{Due, Timers};
use crate::agents::Agents;
use crate::beat::Beat;
use crate::mass_silence::MassSilence;
use crate::process::ProcessIdentity;
use crate::publisher::PublisherId;
use crate::self_check::SelfChecks;
use crate::time::{Monotonic, Timestamp};
use crate::verdict::Verdict;
use crate::watch::{LocalHost, Watch, WatchContext, Whereabouts};

/// How often the silent are counted at most while there is a silence to judge: a count of a few is
/// cheap, one of a million takes a millisecond.
fn crowd_every(publishers: usize) -> Duration {
    let micros = u64::try_from(publishers / 4).unwrap_or(u64::MAX);
    Duration::from_micros(micros).clamp(Duration::from_millis(2), Duration::from_millis(200))
}

/// A look at everybody is followed by at least so many times as long without one. Where a million are silent at once, or the
/// machine is slow, it takes longer than the time between two looks is meant to be: one verdict would be given a look.
const REST_AFTER_A_LOOK: u32 = 4;

/// Up to so many are counted in both ways, where assertions are on.
const COUNTED_TWICE_MAX: usize = 200;

/// Everybody, with what is around each of them.
pub(super) struct Watched {
    home: LocalHost,
    publishers_max: usize,
    entries: Vec<Entry>,
    /// For each entry an instant before which it is not late. Beside the entries, because it is read of
    /// everybody when the silent are counted: 8 bytes each instead of the whole entry.
    not_late_before: Vec<Monotonic>,
    by_id: Directory,
    places: Places,
    timers: Timers,
    observers: SelfChecks,
    agents: Agents,
    promises: Promises,
    crowd: MassSilence,
    counted_at: Option<Monotonic>,
    /// How long the last look at everybody took is not known yet.
    has_looked: bool,
    /// How many were heard and have nothing bad said of them.
    well: usize,
    /// How many are not watched, because they were too many.
    unwatched: u64,
}

impl Watched {
    pub(super) fn new(home: LocalHost, observers: SelfChecks, publishers_max: usize) -> Self {
        Self {
            home,
            publishers_max,
            entries: Vec::new(),
            not_late_before: Vec::new(),
            by_id: Directory::default(),
            places: Places::default(),
            timers: Timers::default(),
            observers,
            agents: Agents::default(),
            promises: Promises::default(),
            crowd: MassSilence::default(),
            counted_at: None,
            has_looked: false,
            well: 0,
            unwatched: 0,
        }
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn entries_mut(&mut self) -> &mut [Entry] {
        &mut self.entries
    }

    pub(super) fn entry(&self, index: u32) -> &Entry {
        &self.entries[index as usize]
    }

    pub(super) fn entry_mut(&mut self, index: u32) -> &mut Entry {
        &mut self.entries[index as usize]
    }

    /// Every place.
    pub(super) fn indices(&self) -> impl Iterator<Item = u32> + use<> {
        (0..).take(self.entries.len())
    }

    pub(super) fn find(&self, id: &PublisherId) -> Option<u32> {
        self.by_id.find(id, &self.entries)
    }

    pub(super) const fn home(&self) -> &LocalHost {
        &self.home
    }

    pub(super) const fn observers(&self) -> &SelfChecks {
        &self.observers
    }

    pub(super) const fn observers_mut(&mut self) -> &mut SelfChecks {
        &mut self.observers
    }

    pub(super) const fn agents(&self) -> &Agents {
        &self.agents
    }

    pub(super) const fn crowd(&self) -> &MassSilence {
        &self.crowd
    }

    pub(super) const fn places_mut(&mut self) -> &mut Places {
        &mut self.places
    }

    /// Where those of these beats most likely are. One step after another for all of them, in place of all steps for one after
    /// another: so the looks of one step into memory, which no cache holds, do not wait for each other.
    pub(super) fn prefetch(&self, beats: &[Beat]) -> Vec<Option<u32>> {
        let hashes: Vec<u64> = beats.iter().map(|beat| self.by_id.hash(&beat.publisher)).collect();
        let places: Vec<Option<u32>> = hashes.iter().map(|hash| self.by_id.guess(*hash)).collect();
        for place in places.iter().flatten() {
            self.entry(*place).prefetch();
        }
        places
    }

    /// A sign of life may be an agent's. Another agent that speaks for the same boot, when this one is new there.
    pub(super) fn hear_agent(&mut self, beat: &Beat) -> Option<&PublisherId> {
        self.agents.hear(beat)
    }

    /// Has one watch decide, with what is around it; with the agent that could be asked after its process only where `asks`.
    pub(super) fn decide<T>(
        &mut self,
        index: u32,
        asks: bool,
        decide: impl FnOnce(&mut Watch, WatchContext<'_>) -> T,
    ) -> T {
        let Entry { id, watch, .. } = &mut self.entries[index as usize];
        let boot = watch.boot().filter(|_| asks);
        let agent = boot.and_then(|boot| self.agents.of(boot, id));
        let around = WatchContext {
            home: &self.home,
            observer: self.observers.of(watch.heard_on()),
            doubt: self.crowd.doubt(),
            agent,
            other_agent: agent.and_then(|agent| self.agents.beside(agent)),
        };
        decide(watch, around)
    }

    /// The agent to ask after this process of a publisher; none where we look ourselves, or nobody can.
    pub(super) fn agent_to_ask(&self, index: u32, process: &ProcessIdentity) -> Option<PublisherId> {
        let Entry { id, watch, .. } = self.entry(index);
        let here = watch.process_here(&self.home).is_some();
        self.agents.of(&process.boot_id, id).filter(|_| !here).cloned()
    }

    /// One more; none, and said, where there are too many.
    pub(super) fn add(
        &mut self,
        id: PublisherId,
        watch: Watch,
        since: Timestamp,
        effects: &mut VecDeque<Effect>,
    ) -> Option<u32> {
        let index = u32::try_from(self.entries.len()).ok();
        let Some(index) = index.filter(|_| self.entries.len() < self.publishers_max) else {
            self.unwatched += 1;
            if self.unwatched.is_power_of_two() {
                let (publishers_max, count) = (self.publishers_max, self.unwatched);
                effects.push_back(Effect::Say(Remark::NotWatched { publisher: id, publishers_max, count }));
            }
            return None;
        };
        self.places.added(index, watch.host());
        self.entries.push(Entry::new(id, watch, since));
        self.by_id.insert(index, &self.entries);
        self.not_late_before.push(Monotonic::START);
        self.count_well(index);
        self.arm(index);
        Some(index)
    }

    /// Its host or process is another one from now on.
    pub(super) fn moved(&mut self, index: u32, was: &Whereabouts) {
        let entry = &mut self.entries[index as usize];
        entry.moved(was);
        if *was.host != *entry.watch.host() {
            self.places.moved();
        }
    }

    /// The places of those on a host, lowest first.
    pub(super) fn on_host(&mut self, host: &crate::publisher::HostName) -> &[u32] {
        self.places.places_on(host, &self.entries)
    }

    /// All leases that live, and what each promises, are known anew.
    pub(super) fn set_promises(&mut self, promises: Promises) {
        self.promises = promises;
        for index in self.indices() {
            if self.note_promise(index) {
                self.arm_sooner(index);
            }
        }
    }

    /// Whether something is promised for the one at this place; it is judged by that from now on.
    pub(super) fn note_promise(&mut self, index: u32) -> bool {
        if self.promises.is_empty() {
            return false;
        }
        let entry = &mut self.entries[index as usize];
        let promised = self.promises.of(entry);
        promised.into_iter().for_each(|every| entry.watch.promised_elsewhere(every));
        promised.is_some()
    }

    // ---- when each is to be looked at

    pub(super) fn next_due(&self) -> Option<Monotonic> {
        self.timers.next_due()
    }

    /// What is due by `now`, the first of it. Its timer is to be set again.
    pub(super) fn take_due(&mut self, now: Monotonic) -> Option<Due> {
        let due = self.timers.take_due(now)?;
        match due {
            Due::Place(index) => self.entries[index as usize].armed = None,
            Due::Doubt => self.counted_at = None,
        }
        Some(due)
    }

    pub(super) fn arm(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        let observer = self.observers.of(entry.watch.heard_on());
        self.not_late_before[index as usize] = entry.watch.late_at(observer);
        let wanted = entry.watch.look_again_at(observer);
        let before = std::mem::replace(&mut entry.armed, wanted);
        self.timers.set(index, before, wanted);
    }

    /// Sets its timer anew when that is to be sooner; a timer that fires too early is set again then.
    pub(super) fn arm_sooner(&mut self, index: u32) {
        let entry = self.entry(index);
        let wanted = entry.watch.look_again_at(self.observers.of(entry.watch.heard_on()));
        if wanted.is_some_and(|wanted| entry.armed.is_none_or(|armed| wanted < armed)) {
            self.arm(index);
        }
    }

    /// Sets every timer anew.
    pub(super) fn rearm_all(&mut self) {
        for index in self.indices() {
            self.arm(index);
        }
    }

    // ---- how many are silent at once

    /// What was done last took so long: a look at everybody, where there was one.
    pub(super) fn took(&mut self, elapsed: Duration) {
        if std::mem::take(&mut self.has_looked) {
            self.counted_at = self.counted_at.map(|at| at + elapsed * REST_AFTER_A_LOOK);
        }
    }

    /// Keeps the count of those who are well; after everything that may change a verdict.
    pub(super) fn count_well(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        let is_well = is_well(&entry.watch);
        if std::mem::replace(&mut entry.is_well, is_well) != is_well {
            self.well = if is_well { self.well + 1 } else { self.well - 1 };
        }
    }

    /// Whether it has been silent for longer than is usual, on a way that is up.
    pub(super) fn is_late(&self, watch: &Watch, now: Monotonic) -> bool {
        is_late(&self.observers, watch, now)
    }

    /// Whether a silence stands alone or in a crowd; counted only when there is one to judge.
    pub(super) fn count_the_silent_with(&mut self, index: u32, now: Monotonic) {
        if self.is_late(&self.entry(index).watch, now) {
            self.count_the_silent(now);
        }
    }

    pub(super) fn count_the_silent(&mut self, now: Monotonic) {
        let every = crowd_every(self.entries.len());
        if let Some(at) = self.counted_at.filter(|at| now.since(*at) < every) {
            if let Some(ends_at) = self.crowd.doubt_ends_at() {
                // What has changed since may end the doubt: it is counted as soon as it may be.
                self.timers.set_doubt(Some(ends_at.min(at + every)));
            }
            return;
        }
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
        debug_assert!(
            self.entries.len() > COUNTED_TWICE_MAX || (late, well) == self.count_one_by_one(now),
            "what is kept beside the entries is true of them"
        );
        if is_planted(Mutant::MassSilence) || (late * 2 > well && self.one_host_is_silent(now)) {
            late = 0;
        }
        (self.counted_at, self.has_looked) = (Some(now), true);
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
        let late = well.clone().filter(|entry| self.is_late(&entry.watch, now));
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

    /// Whether those who are silent are all of one other host, while others are heard: that is the host's
    /// fault, not ours.
    fn one_host_is_silent(&self, now: Monotonic) -> bool {
        let mut silent_host = None;
        let mut others_heard = false;
        let well = |entry: &&Entry| is_well(&entry.watch);
        for entry in self.entries.iter().filter(well) {
            if self.is_late(&entry.watch, now) {
                let host = entry.watch.host();
                if *host == self.home.host || silent_host.is_some_and(|known| known != host) {
                    return false;
                }
                silent_host = Some(host);
            }
        }
        for entry in self.entries.iter().filter(well) {
            if !self.is_late(&entry.watch, now) {
                if Some(entry.watch.host()) == silent_host {
                    return false;
                }
                others_heard |= entry.watch.last_heard().is_some();
            }
        }
        others_heard
    }
}

/// Whether it was heard, and nothing bad is said of it.
const fn is_well(watch: &Watch) -> bool {
    watch.last_heard().is_some() && matches!(watch.verdict(), Verdict::Alive | Verdict::Late | Verdict::Unknown)
}

fn is_late(observers: &SelfChecks, watch: &Watch, now: Monotonic) -> bool {
    watch.is_late(observers.of(watch.heard_on()), now)
}
