//! Who is told what, and when it is better not to tell: flapping, maintenance, a host that is gone.
//!
//! Verdicts are decided as ever; this part stands between a verdict and the word about it. It remembers
//! what was last told of everyone, and makes good at the end of a suppression what still differs.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::effect::Effect;
use super::entry::Entry;
use super::host_outages::{Context, HostOutages};
use super::mutant::{Mutant, is_planted};
use super::record::Record;
use super::watched::Watched;
use crate::evidence::{Evidence, EvidenceKind};
use crate::flapping::{Flapping, FlappingLimits, Turn};
use crate::judge::Judgement;
use crate::maintenance::Maintenance;
use crate::publisher::PublisherId;
use crate::time::{Monotonic, Timestamp, describe_duration};
use crate::verdict::{Change, Flaps, Trigger, Verdict};
use crate::watch::Transition;

/// How often those of whom less was told are looked through.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Everything that keeps a change from being told.
#[derive(Debug)]
pub(super) struct Suppression {
    limits: FlappingLimits,
    pub(super) maintenance: Maintenance,
    pub(super) outages: HostOutages,
    /// Those whose last notification is out of date, because a maintenance window or a host outage suppressed it.
    outdated: BTreeSet<u32>,
    flapping: BTreeSet<u32>,
    looked_at: Monotonic,
}

/// What a word about a publisher needs.
pub(super) struct Teller<'a> {
    pub watched: &'a mut Watched,
    pub record: &'a mut Record,
    pub effects: &'a mut VecDeque<Effect>,
    pub now: Monotonic,
    pub wall: Timestamp,
}

/// Whether a person who was told `told` has to be told `now`.
fn differs(told: Verdict, now: Verdict) -> bool {
    (told.is_bad() || now.is_bad()) && told != now
}

/// Puts words behind the verdict that the summary begins with.
fn say(change: &mut Change, words: &str) {
    let why = change.summary.split_once(": ").map_or("", |(_, why)| why);
    let why = if why.is_empty() { String::new() } else { format!("; {why}") };
    change.summary = format!("{}: {words}{why}", change.to);
}

impl Suppression {
    pub(super) fn new(limits: FlappingLimits, maintenance: Maintenance) -> Self {
        Self {
            limits,
            maintenance,
            outages: HostOutages::default(),
            outdated: BTreeSet::new(),
            flapping: BTreeSet::new(),
            looked_at: Monotonic::START,
        }
    }

    pub(super) const fn set_limits(&mut self, limits: FlappingLimits) {
        self.limits = limits;
    }

    /// Takes up where an earlier run has left: what it has not told, and who flapped then.
    pub(super) fn remember(&mut self, index: u32, last: &Change, entry: &mut Entry, now: Monotonic) {
        if matches!(last.flapping, Some(Flaps::Begins | Flaps::Held)) {
            *entry.steps() = Flapping::remembered(now);
            self.flapping.insert(index);
        }
        if differs(entry.last_notified, entry.watch.verdict()) {
            self.outdated.insert(index);
        }
    }

    /// A verdict has changed: it is told, told with a mark, or held back.
    pub(super) fn note(&mut self, index: u32, mut change: Change, teller: &mut Teller<'_>) {
        let (limits, now) = (self.limits, teller.now);
        let entry = teller.watched.entry_mut(index);
        if entry.flapping().is_some() || change.from.is_bad() != change.to.is_bad() {
            match entry.steps().changed(limits, change.from, change.to, now) {
                Turn::Tell => {}
                Turn::Begin(words) => {
                    say(&mut change, &words);
                    change.evidence.push(Evidence::new(EvidenceKind::Flapping, words));
                    self.flapping.insert(index);
                    change.flapping = Some(Flaps::Begins);
                }
                Turn::Hold => change.flapping = Some(Flaps::Held),
            }
        }
        change.because = self.outages.behind(
            index,
            &change,
            &mut Context {
                watched: &mut *teller.watched,
                record: &mut *teller.record,
                effects: &mut *teller.effects,
                maintenance: &self.maintenance,
                now,
                wall: teller.wall,
            },
        );
        self.emit(index, change, teller);
    }

    /// Looks through those who flap and those whose notification is out of date, and tells what has become due.
    pub(super) fn look_through(&mut self, teller: &mut Teller<'_>) {
        let idle = self.flapping.is_empty() && self.outdated.is_empty();
        if idle || teller.now.since(self.looked_at) < LOOK_EVERY {
            return;
        }
        self.looked_at = teller.now;
        if !is_planted(Mutant::Flapping) {
            for index in self.flapping.clone() {
                self.settle(index, teller);
            }
        }
        if !is_planted(Mutant::Suppression) {
            for index in self.outdated.clone() {
                self.bring_up_to_date(index, teller);
            }
        }
    }

    fn settle(&mut self, index: u32, teller: &mut Teller<'_>) {
        let entry = teller.watched.entry_mut(index);
        let verdict = entry.watch.verdict();
        let Some(flapping) = entry.flapping() else { return };
        let Some((stood, held)) = flapping.settle(self.limits, verdict, teller.now) else { return };
        self.flapping.remove(&index);
        let (summary, evidence) =
            entry.change().map_or_else(Default::default, |last| (last.summary.clone(), last.evidence.clone()));
        let words = format!("steady for {} after flapping ({held} changes held back)", describe_duration(stood));
        let mut change = again(teller, index, Trigger::Steady, summary, evidence);
        say(&mut change, &words);
        change.evidence.push(Evidence::new(EvidenceKind::Flapping, words));
        change.flapping = Some(Flaps::Ends);
        change.because = self.outages.of(&change.host).filter(|_| verdict == Verdict::Unreachable);
        self.emit(index, change, teller);
    }

    /// Tells what still differs from what was told, once neither a window nor the host speaks for it.
    fn bring_up_to_date(&mut self, index: u32, teller: &mut Teller<'_>) {
        let entry = teller.watched.entry(index);
        let Some(last) = entry.change() else { return };
        let host = entry.watch.host();
        let host_speaks = (last.because.is_some() || last.to == Verdict::Unreachable)
            && self.outages.speaks_for(host, entry.watch.deadline(), teller.now);
        if host_speaks || entry.flaps() || self.maintenance.covers(&entry.id, host, teller.wall).is_some() {
            return;
        }
        self.outdated.remove(&index);
        let verdict = entry.watch.verdict();
        if !differs(entry.last_notified, verdict) {
            return;
        }
        let (trigger, words) = if last.maintenance {
            (Trigger::MaintenanceEnd, "so at the end of its maintenance".to_owned())
        } else if last.flapping.is_some() {
            (Trigger::Steady, "so after flapping".to_owned())
        } else {
            (Trigger::Deadline, format!("its host {host} is heard again, it is not"))
        };
        let (summary, mut evidence) = match last.to == verdict {
            true => (last.summary.clone(), last.evidence.clone()),
            false => (String::new(), Vec::new()),
        };
        evidence.retain(|fact| fact.kind != EvidenceKind::Maintenance);
        evidence.push(Evidence::new(EvidenceKind::Maintenance, words.clone()));
        let mut change = again(teller, index, trigger, summary, evidence);
        say(&mut change, &words);
        self.emit(index, change, teller);
    }

    fn emit(&mut self, index: u32, mut change: Change, teller: &mut Teller<'_>) {
        let entry = teller.watched.entry_mut(index);
        let open = self.maintenance.covers(&entry.id, entry.watch.host(), teller.wall);
        if let Some(open) = &open {
            let reason = if open.reason.is_empty() { String::new() } else { format!(": {}", open.reason) };
            let words = format!("in maintenance until {}{reason}", open.until);
            change.evidence.push(Evidence::new(EvidenceKind::Maintenance, words));
        }
        change.maintenance = open.is_some();
        teller.record.publish(&mut change, teller.effects);
        fail::fail_point!("roster::published");
        self.published(index, &change, teller.watched.entry_mut(index));
    }

    /// A change of a publisher has its number: what is remembered of the publisher follows.
    fn published(&mut self, index: u32, change: &Change, entry: &mut Entry) {
        entry.changed(change);
        if change.is_told() {
            entry.last_notified = change.to;
        }
        if differs(entry.last_notified, change.to) {
            self.outdated.insert(index)
        } else {
            self.outdated.remove(&index)
        };
    }

    /// Notes on their entries the published changes that a failed watchdog had not noted there.
    pub(super) fn take_up(&mut self, teller: &mut Teller<'_>) {
        let Teller { watched, record, now, .. } = teller;
        for change in record.waiting() {
            if change.is_of_host() {
                self.outages.take_up(change, *now);
            }
            let Some(index) = watched.find(&change.publisher) else { continue };
            let entry = watched.entry_mut(index);
            if entry.epoch() < change.epoch {
                self.published(index, change, entry);
            }
        }
    }
}

/// A verdict that stands is said again, for another reason.
fn again(teller: &Teller<'_>, index: u32, trigger: Trigger, summary: String, evidence: Vec<Evidence>) -> Change {
    let entry = teller.watched.entry(index);
    let to = entry.watch.verdict();
    let judgement = Judgement { verdict: to, summary, evidence };
    let transition = Transition { from: entry.last_notified, judgement, at: teller.now, trigger };
    unmarked(teller, index, transition, entry.since)
}

/// A change without a number and marks, with the time of day at which it became true.
pub(super) fn unmarked(teller: &Teller<'_>, index: u32, transition: Transition, at: Timestamp) -> Change {
    let Transition { from, judgement: Judgement { verdict: to, summary, evidence }, trigger, .. } = transition;
    let entry = teller.watched.entry(index);
    let publisher: PublisherId = entry.id.clone();
    Change {
        epoch: 0,
        publisher,
        host: entry.watch.host().clone(),
        from,
        to,
        at,
        decided_at: teller.wall,
        trigger,
        summary,
        evidence,
        process: entry.watch.process().cloned(),
        maintenance: false,
        flapping: None,
        because: None,
    }
}
