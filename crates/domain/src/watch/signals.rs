//! Signs of life: what each of them says of the publisher, and which of them are none.

use std::sync::Arc;
use std::time::Duration;

use super::{Ending, Position, Transition, Watch, WatchContext, WatchOutcome, Whereabouts};
use crate::beat::{Beat, BeatKind, Heartbeat};
use crate::judge::{judge_goes_on, judge_goodbye, judge_heard, judge_heard_after_restart, judge_moving, judge_stuck};
use crate::process::AskedFor;
use crate::publisher::Incarnation;
use crate::time::Monotonic;
use crate::verdict::{Trigger, Verdict};

impl Watch {
    /// A sign of life came.
    pub fn hear(&mut self, beat: &Beat, around: WatchContext<'_>) -> WatchOutcome {
        let life_before = self.incarnation();
        let mut was = None;
        if !self.is_its_own(beat, around) {
            let another = self.trouble.as_ref().is_some_and(|trouble| trouble.rival.is_some());
            return WatchOutcome { change: self.judge_rival(beat.at), another, ..WatchOutcome::default() };
        }
        match &beat.kind {
            BeatKind::Goodbye { incarnation } => return self.hear_goodbye(beat, *incarnation, around),
            BeatKind::LastWill { incarnation } => return self.hear_last_will(beat, *incarnation, around),
            BeatKind::Readings { incarnation } => {
                let unheard = self.is_unheard(beat.at);
                if let Some(position) = self.position.as_mut().filter(|_| unheard) {
                    position.since = beat.at;
                }
                if incarnation.is_some() && *incarnation != life_before {
                    // Which process this life is in, only a heartbeat tells: the known one is of another.
                    was = self.process.is_some().then(|| Box::new(self.whereabouts()));
                    (self.process, self.position) = (None, None);
                    if let Some(trouble) = &mut self.trouble {
                        trouble.cpu = None;
                    }
                }
                if let Some(incarnation) = incarnation {
                    self.set_incarnation(*incarnation);
                }
            }
            BeatKind::Heartbeat(heartbeat) => {
                was = self.hear_heartbeat(heartbeat, beat.at);
            }
        }
        if *self.host != beat.host {
            was.get_or_insert_with(|| Box::new(self.whereabouts()));
            self.host = Arc::new(beat.host.clone());
        }
        let silent_before = self.last_heard.map(|(at, _)| beat.at.since(at));
        self.fit_deadline(beat.at, life_before, around.observer);
        self.heard_over(beat.way);
        self.last_heard = Some((self.last_heard.map_or(beat.at, |(at, _)| at.max(beat.at)), beat.wall));
        self.ended = false;
        if let Some(trouble) = &mut self.trouble {
            (trouble.ending, trouble.last_will, trouble.lease_ended, trouble.resumed_at) = (None, None, None, None);
            if was.is_some() || (self.has_incarnation && Some(self.incarnation) != life_before) {
                trouble.rival = None;
            }
        }
        let is_same_life = life_before.is_some() && life_before == self.incarnation();
        let change = if self.verdict == Verdict::Conflict {
            self.judge_conflict(beat.at)
        } else {
            self.judge_position(beat, silent_before, is_same_life)
        };
        WatchOutcome { change, ask: None, was, another: false }
    }

    /// Whether nothing was heard of it for longer than is usual. What it did meanwhile is not known: for how long its source has
    /// stood is counted anew.
    fn is_unheard(&self, at: Monotonic) -> bool {
        self.last_heard.is_some_and(|(heard, _)| at >= heard + self.late_after())
    }

    fn hear_heartbeat(&mut self, heartbeat: &Heartbeat, at: Monotonic) -> Option<Box<Whereabouts>> {
        // A heartbeat of the same life that names no process takes none away.
        let is_named = heartbeat.process.is_some() || self.incarnation() != Some(heartbeat.incarnation);
        self.set_incarnation(heartbeat.incarnation);
        let interval = heartbeat.interval.into();
        if self.interval != Some(interval) {
            self.promises(interval);
        }
        let mut was = None;
        if is_named && heartbeat.process != self.process {
            was = Some(Box::new(self.whereabouts()));
            self.process.clone_from(&heartbeat.process);
            self.position = None;
            if let Some(trouble) = &mut self.trouble {
                // An answer on its way is about the process before.
                (trouble.cpu, trouble.asked, trouble.user) = (None, None, None);
            }
        }
        if let Some(stalled) = heartbeat.outbox_stalled {
            self.trouble().outbox_stalled = Some((stalled, at));
        } else if let Some(trouble) = &mut self.trouble {
            trouble.outbox_stalled = None;
        }
        let Heartbeat { sequence, cursor, idle, .. } = *heartbeat;
        let unheard = self.is_unheard(at);
        let moved = self.position.is_none_or(|before| (before.sequence, before.cursor) != (sequence, cursor));
        let since = match self.position {
            Some(before) if !moved && !idle && !unheard => before.since,
            _ => at,
        };
        self.position = Some(Position { sequence, cursor, since });
        was
    }

    /// Alive, or beating without advancing.
    fn judge_position(
        &mut self,
        beat: &Beat,
        silent_before: Option<Duration>,
        is_same_life: bool,
    ) -> Option<Box<Transition>> {
        let beats = matches!(beat.kind, BeatKind::Heartbeat(_));
        if let Some(position) = self.position.filter(|_| beats) {
            let still_for = || beat.at.since(position.since);
            let stuck_after = self.stuck_after();
            let stuck_at = (position.since + stuck_after).max(self.grace_until());
            if beat.at >= stuck_at {
                if self.verdict == Verdict::Hung {
                    return None;
                }
                let stalled = self.outbox_stalled_for(beat.at);
                let judgement = judge_stuck(position.cursor, still_for(), stuck_after.get(), stalled);
                return Some(self.change(judgement, stuck_at, Trigger::Heartbeat));
            }
            let was_stuck = self.verdict == Verdict::Hung && silent_before.is_some_and(|gap| gap < self.deadline());
            if was_stuck {
                let judgement = judge_moving(still_for().max(self.deadline()));
                return Some(self.change(judgement, beat.at, Trigger::Heartbeat));
            }
        }
        let judgement = match (self.verdict, silent_before) {
            (Verdict::Alive, _) => return None,
            (Verdict::Ended, Some(since)) if is_same_life => judge_goes_on(since),
            (_, None) if self.heard_before => judge_heard_after_restart(),
            _ => judge_heard(silent_before),
        };
        Some(self.change(judgement, beat.at, Trigger::Heartbeat))
    }

    /// For how long its outbox has stood, by its last heartbeat.
    pub(super) fn outbox_stalled_for(&self, now: Monotonic) -> Option<Duration> {
        let (stalled, at) = self.trouble.as_ref()?.outbox_stalled?;
        Some(stalled + now.since(at))
    }

    fn hear_goodbye(&mut self, beat: &Beat, incarnation: Incarnation, around: WatchContext<'_>) -> WatchOutcome {
        if self.incarnation().is_some_and(|known| incarnation < known) {
            return WatchOutcome::default();
        }
        let life_before = self.incarnation();
        let has_ended = self.trouble.as_ref().is_some_and(|trouble| trouble.ending.is_some());
        if life_before.is_some_and(|known| incarnation > known) && !has_ended && !self.has_ceased(around, beat.at) {
            // Nobody was heard in the life that it ends, and the one who is known goes on.
            return WatchOutcome::default();
        }
        let ending = Ending { said_goodbye: true, ..Ending::of(beat.at) };
        if self.another_speaks(beat.at) {
            // The id passes to whoever speaks beside it, with their next sign of life; if none comes, this one has ended.
            self.trouble().ending = Some(ending);
            return WatchOutcome::default();
        }
        self.set_incarnation(incarnation);
        self.last_heard = Some((beat.at, beat.wall));
        // The same goodbye may come again, and again: what was heard since the first one counts all the same.
        if !std::mem::replace(&mut self.ended, true) || self.incarnation() != life_before {
            let trouble = self.trouble();
            (trouble.asked, trouble.ending) = (None, Some(ending));
        }
        let change = (self.verdict != Verdict::Ended).then(|| self.change(judge_goodbye(), beat.at, Trigger::Goodbye));
        WatchOutcome { change, ..WatchOutcome::default() }
    }

    /// A hint that makes us look at once, never a verdict by itself: last wills can be stale or late.
    fn hear_last_will(&mut self, beat: &Beat, incarnation: Incarnation, around: WatchContext<'_>) -> WatchOutcome {
        if self.ended || self.incarnation().is_some_and(|known| incarnation != known) {
            return WatchOutcome::default();
        }
        self.trouble().last_will = Some(beat.wall);
        match self.process_to_ask(around).cloned() {
            Some(process) => self.ask(AskedFor::LastWill, process, beat.at),
            None => WatchOutcome::default(),
        }
    }
}
