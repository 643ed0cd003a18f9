//! Who is told what, and when it is better not to call anyone: flapping, maintenance, a host that is gone (`hosts`).
//!
//! Verdicts are decided as ever; this part stands between a verdict and the word about it. It remembers
//! what was last told of everyone, and makes good at the end of a quiet time what still differs.

use std::collections::{BTreeSet, HashMap};

use super::hosts::HostState;
use super::*;
use crate::domain::evidence::{Evidence, EvidenceKind};
use crate::domain::flapping::Turn;
use crate::domain::maintenance::Window;
use crate::domain::publisher::HostName;
use crate::domain::verdict::{Flaps, Trigger};

/// How often the quiet are looked through.
const CALM_EVERY: Duration = Duration::from_millis(250);

/// A change before it has its number and its marks.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) from: Verdict,
    pub(super) to: Verdict,
    pub(super) at: Timestamp,
    pub(super) trigger: Trigger,
    pub(super) summary: String,
    pub(super) evidence: Vec<Evidence>,
}

impl Draft {
    /// Puts words behind the verdict that the summary begins with.
    fn say(&mut self, words: &str) {
        let why = self.summary.split_once(": ").map_or("", |(_, why)| why);
        let why = if why.is_empty() { String::new() } else { format!("; {why}") };
        self.summary = format!("{}: {words}{why}", self.to);
    }
}

/// Everything that keeps the table calm.
#[derive(Debug, Default)]
pub(super) struct Calm {
    pub(super) maintenance: Maintenance,
    /// Those of whom something untrue was last told, because of maintenance or of their host.
    quiet: BTreeSet<u32>,
    flapping: BTreeSet<u32>,
    pub(super) hosts: HashMap<HostName, HostState>,
    looked_at: Monotonic,
    saved_revision: u64,
}

/// Whether a person who was told `told` has to be told `now`.
fn differs(told: Verdict, now: Verdict) -> bool {
    (told.is_bad() || now.is_bad()) && told != now
}

impl Table {
    /// A change of an earlier run.
    pub(super) fn remember(&mut self, change: &Change, now: Monotonic) {
        if change.is_of_monitor() {
            return;
        }
        if change.is_of_host() {
            let is_gone = change.to.is_bad();
            let state = HostState { is_gone, asked_at: None, back_at: now, change: Some(Box::new(change.clone())) };
            self.calm.hosts.insert(change.host.clone(), state);
            return;
        }
        let rule = self.config.rules.of(&change.publisher);
        // A process of ours has ended with the run that had started it, and another one takes its place.
        let process = change.process.clone().filter(|_| !self.config.started_by_us.contains(&change.publisher));
        let watch = Watch::remembered(self.hosts.one(&change.host), rule, change.to, process, now);
        let Some(index) = self.add(change.publisher.clone(), watch, change.at) else { return };
        let entry = &mut self.entries[index as usize];
        entry.changed(change);
        entry.told = change.to;
        if !change.is_told() && change.to.is_bad() {
            // What was told before it is not known any more: better once too often than never.
            entry.told = Verdict::Alive;
            self.calm.quiet.insert(index);
        }
    }

    /// A verdict has changed: it is told, told with a mark, or held back.
    pub(super) fn note(&mut self, index: u32, mut draft: Draft, now: Monotonic, wall: Timestamp) {
        let limits = self.config.flapping;
        let entry = &mut self.entries[index as usize];
        let mut flapping = None;
        if entry.flapping().is_some() || draft.from.is_bad() != draft.to.is_bad() {
            match entry.steps().changed(limits, draft.from, draft.to, now) {
                Turn::Tell => {}
                Turn::Begin(words) => {
                    draft.say(&words);
                    draft.evidence.push(Evidence::new(EvidenceKind::Flapping, words));
                    self.calm.flapping.insert(index);
                    flapping = Some(Flaps::Begins);
                }
                Turn::Hold => flapping = Some(Flaps::Held),
            }
        }
        let because = self.host_behind(index, &draft, now, wall);
        self.emit(index, draft, flapping, because, wall);
    }

    /// Looks through those who flap and those who are quiet, and tells what has become due.
    pub(super) fn calm_down(&mut self, now: Monotonic) {
        let idle = self.calm.flapping.is_empty() && self.calm.quiet.is_empty();
        if idle || now.since(self.calm.looked_at) < CALM_EVERY {
            return;
        }
        self.calm.looked_at = now;
        let wall = self.clock.wall();
        for index in self.calm.flapping.clone() {
            self.settle(index, now, wall);
        }
        for index in self.calm.quiet.clone() {
            self.end_quiet(index, now, wall);
        }
    }

    fn settle(&mut self, index: u32, now: Monotonic, wall: Timestamp) {
        let limits = self.config.flapping;
        let entry = &mut self.entries[index as usize];
        let verdict = entry.watch.verdict();
        let Some(flapping) = entry.flapping() else { return };
        let Some((stood, held)) = flapping.settle(limits, verdict, now) else { return };
        self.calm.flapping.remove(&index);
        let (summary, evidence) =
            entry.change().map_or_else(Default::default, |last| (last.summary.clone(), last.evidence.clone()));
        let (from, at) = (entry.told, entry.since);
        let mut draft = Draft { from, to: verdict, at, trigger: Trigger::Steady, summary, evidence };
        let words = format!("steady for {} after flapping ({held} changes held back)", describe_duration(stood));
        draft.say(&words);
        draft.evidence.push(Evidence::new(EvidenceKind::Flapping, words));
        self.emit(index, draft, Some(Flaps::Ends), None, wall);
    }

    /// Tells what still differs from what was told, once neither a window nor the host speaks for it.
    fn end_quiet(&mut self, index: u32, now: Monotonic, wall: Timestamp) {
        let entry = &self.entries[index as usize];
        let Some(change) = entry.change() else { return };
        let host = self.calm.hosts.get(entry.watch.host()).filter(|_| change.because.is_some());
        let host_speaks = host.is_some_and(|host| host.is_gone || now.since(host.back_at) < entry.watch.deadline());
        let flaps = entry.flaps();
        let covered = self.calm.maintenance.covers(&entry.id, entry.watch.host(), wall).is_some();
        if host_speaks || flaps || covered {
            return;
        }
        self.calm.quiet.remove(&index);
        let verdict = entry.watch.verdict();
        if !differs(entry.told, verdict) {
            return;
        }
        let (trigger, words) = if change.maintenance {
            (Trigger::MaintenanceEnd, "so at the end of its maintenance".to_owned())
        } else if change.flapping.is_some() {
            (Trigger::Steady, "so after flapping".to_owned())
        } else {
            (Trigger::Deadline, format!("its host {} is heard again, it is not", entry.watch.host()))
        };
        let (summary, mut evidence) = match change.to == verdict {
            true => (change.summary.clone(), change.evidence.clone()),
            false => (String::new(), Vec::new()),
        };
        evidence.retain(|fact| fact.kind != EvidenceKind::Maintenance);
        evidence.push(Evidence::new(EvidenceKind::Maintenance, words.clone()));
        let mut draft = Draft { from: entry.told, to: verdict, at: entry.since, trigger, summary, evidence };
        draft.say(&words);
        self.emit(index, draft, None, None, wall);
    }

    fn emit(
        &mut self,
        index: u32,
        mut draft: Draft,
        flapping: Option<Flaps>,
        because: Option<PublisherId>,
        wall: Timestamp,
    ) {
        self.epoch += 1;
        let entry = &mut self.entries[index as usize];
        let open = self.calm.maintenance.covers(&entry.id, entry.watch.host(), wall);
        if let Some(open) = &open {
            let reason = if open.reason.is_empty() { String::new() } else { format!(": {}", open.reason) };
            let words = format!("in maintenance until {}{reason}", open.until);
            draft.evidence.push(Evidence::new(EvidenceKind::Maintenance, words));
        }
        let change = Change {
            epoch: self.epoch,
            publisher: entry.id.clone(),
            host: entry.watch.host().clone(),
            from: draft.from,
            to: draft.to,
            at: draft.at,
            decided_at: wall,
            trigger: draft.trigger,
            summary: draft.summary,
            evidence: draft.evidence,
            process: entry.watch.process().cloned(),
            maintenance: open.is_some(),
            flapping,
            because,
        };
        entry.changed(&change);
        if change.is_told() {
            entry.told = change.to;
        }
        if differs(entry.told, change.to) {
            self.calm.quiet.insert(index)
        } else {
            self.calm.quiet.remove(&index)
        };
        self.publish(change);
    }

    /// Opens a window; the answer is what is to be kept on disk, with its number.
    ///
    /// # Errors
    /// In words, when it cannot be.
    pub fn begin_maintenance(&mut self, window: Window, wall: Timestamp) -> Result<(u64, Vec<Window>), String> {
        tracing::info!(publisher = %window.publisher, until = %window.to, reason = window.reason, "maintenance begins");
        self.calm.maintenance.begin(window, wall)?;
        Ok(self.windows_to_save(wall))
    }

    /// Ends the windows of a pattern; the answer is how many, and what is to be kept on disk.
    pub fn end_maintenance(&mut self, publisher: &IdPattern, wall: Timestamp) -> (usize, (u64, Vec<Window>)) {
        let ended = self.calm.maintenance.end(publisher, wall);
        tracing::info!(%publisher, ended, "maintenance ends");
        (ended, self.windows_to_save(wall))
    }

    fn windows_to_save(&mut self, wall: Timestamp) -> (u64, Vec<Window>) {
        self.calm.saved_revision += 1;
        (self.calm.saved_revision, self.calm.maintenance.windows(wall))
    }

    /// Every window that is open or to come, and whom the open ones cover (at most `covered_max`).
    #[must_use]
    pub fn maintenance(&self, covered_max: usize, wall: Timestamp) -> MaintenanceReply {
        let maintenance = &self.calm.maintenance;
        let covered = |entry: &&Entry| maintenance.covers(&entry.id, entry.watch.host(), wall).is_some();
        let mut covered: Vec<_> =
            self.entries.iter().filter(covered).take(covered_max).map(|entry| entry.id.clone()).collect();
        covered.sort();
        let (windows, scheduled) = (maintenance.windows(wall), maintenance.scheduled_open(wall));
        MaintenanceReply { windows, scheduled, covered, ended: 0 }
    }
}
