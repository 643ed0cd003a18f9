//! Who else speaks under the same id: another life of the publisher, or another process in the same life.
//!
//! One word of somebody else decides nothing: anybody can say anything of anyone. The id passes to whoever goes on speaking,
//! once the one known so far has ceased to or has ended. No clock of theirs decides: that a life has the larger number says
//! only that its readings are not those of a life before.

use std::time::Duration;

use super::{LocalHost, Transition, Watch, WatchContext};
use crate::beat::{Beat, BeatKind, Way};
use crate::judge::{judge_conflict, judge_conflict_over, judge_other_user};
use crate::process::ProcessIdentity;
use crate::publisher::{HostName, Incarnation};
use crate::time::Monotonic;
use crate::verdict::{Trigger, Verdict};

/// Signs within less than this may be one burst of what was on its way.
const GOES_ON_LEAST: Duration = Duration::from_millis(250);

/// Somebody else who speaks under this id.
#[derive(Debug, Clone)]
pub(super) struct Rival {
    incarnation: Incarnation,
    process: Option<ProcessIdentity>,
    host: HostName,
    way: Way,
    /// The number of the user that its process runs as, and whether it was asked for that.
    user: Option<u32>,
    user_asked: bool,
    /// Its first sign of life without a long silence after it, and its last.
    first: Monotonic,
    last: Monotonic,
}

impl Rival {
    fn is(&self, incarnation: Incarnation, process: Option<&ProcessIdentity>) -> bool {
        let other_process = process.is_some() && self.process.is_some() && process != self.process.as_ref();
        self.incarnation == incarnation && !other_process
    }

    fn is_of_another_user(&self, user: Option<u32>) -> bool {
        self.user.zip(user).is_some_and(|(its, known)| its != known)
    }

    fn goes_on(&self) -> bool {
        self.last.since(self.first) >= GOES_ON_LEAST
    }
}

/// Who speaks, in words.
fn said(
    host: &HostName,
    process: Option<&ProcessIdentity>,
    incarnation: Incarnation,
    way: Way,
    user: Option<u32>,
) -> String {
    let process = process.map_or_else(|| "an unnamed process".to_owned(), |of| format!("PID {}", of.pid));
    let user = user.map_or_else(String::new, |user| format!(" of the user {user}"));
    format!("{process}{user} on {host} (incarnation {incarnation}, over {way})")
}

impl Watch {
    /// Whether this is a sign of life of the publisher. It is none when it is a reading of an earlier life (a replayed
    /// backlog), when the life that it is from has just ended (it was on its way), or when somebody else speaks here while
    /// the one who is known goes on.
    pub(super) fn is_its_own(&mut self, beat: &Beat, around: WatchContext<'_>) -> bool {
        let (speaks, process) = match &beat.kind {
            BeatKind::Readings { incarnation } => (*incarnation, None),
            BeatKind::Heartbeat(heartbeat) => (Some(heartbeat.incarnation), heartbeat.process.as_ref()),
            BeatKind::Goodbye { .. } | BeatKind::LastWill { .. } => return true,
        };
        let (Some(speaks), Some(known)) = (speaks, self.incarnation()) else { return true };
        let names_another = process.is_some() && self.process.is_some() && process != self.process.as_ref();
        // Who beats says with a heartbeat who it is; who never does is only heard in its readings.
        if speaks < known && self.interval.is_some() && matches!(beat.kind, BeatKind::Readings { .. }) {
            return false;
        }
        if let Some(ending) = self.trouble.as_ref().and_then(|trouble| trouble.ending) {
            // After an end the next life may begin at once, and after a death another process of the same one.
            // Whose user is known passes its life on to no process of another one.
            let is_asked = self.trouble.as_ref().is_some_and(|trouble| trouble.user.is_some());
            let passes_on = speaks == known && names_another && !self.ended && !ending.said_goodbye;
            if speaks > known || (passes_on && !is_asked) {
                return true;
            }
            if speaks == known && !passes_on {
                return self.refutes(ending, beat.at);
            }
        }
        if speaks == known && !names_another {
            return true;
        }
        self.hear_rival(beat, speaks, process, around)
    }

    /// Whether it has been silent for longer than is usual, grace or not.
    pub(super) fn has_ceased(&self, around: WatchContext<'_>, now: Monotonic) -> bool {
        now.since(self.silent_since(around.observer)) >= self.late_after().get()
    }

    /// Whether signs of a life that has ended go on, so that it has not.
    fn refutes(&mut self, mut ending: super::Ending, at: Monotonic) -> bool {
        let apart = self.deadline() + self.interval().unwrap_or_default();
        let goes_on = ending.goes_on(at, self.late_after().get(), apart);
        self.trouble().ending = Some(ending);
        goes_on
    }

    /// Whether it takes the place of the one who is known.
    fn hear_rival(
        &mut self,
        beat: &Beat,
        incarnation: Incarnation,
        process: Option<&ProcessIdentity>,
        around: WatchContext<'_>,
    ) -> bool {
        let at = beat.at;
        let apart = self.deadline() + self.interval().unwrap_or_default();
        let late_after = self.late_after().get();
        let has_ended = self.trouble.as_ref().is_some_and(|trouble| trouble.ending.is_some());
        let ceased = has_ended || self.has_ceased(around, at);
        let (known, user) = (self.incarnation(), self.trouble.as_ref().and_then(|trouble| trouble.user));
        let new = || {
            let (process, host, way) = (process.cloned(), beat.host.clone(), beat.way);
            Box::new(Rival { incarnation, process, host, way, user: None, user_asked: false, first: at, last: at })
        };
        let slot = &mut self.trouble().rival;
        let rival = slot.get_or_insert_with(new);
        let is_it = rival.is(incarnation, process);
        if !is_it && at.since(rival.last) <= late_after {
            // Of several the one that goes on stays.
            return false;
        }
        if !is_it || at.since(rival.last) > apart {
            *rival = new();
        }
        (rival.last, rival.way) = (rival.last.max(at), beat.way);
        if rival.process.is_none() {
            rival.process = process.cloned();
        }
        let is_of_another = known == Some(incarnation) && rival.is_of_another_user(user);
        let takes_over = ceased && rival.goes_on() && !is_of_another;
        if takes_over {
            *slot = None;
        }
        takes_over
    }

    /// The process of somebody else in the same life, whose user is to be asked for; once.
    pub fn user_to_ask(&mut self, home: &LocalHost) -> Option<ProcessIdentity> {
        let known = self.incarnation();
        let rival = self.trouble.as_mut()?.rival.as_mut()?;
        if rival.user_asked || Some(rival.incarnation) != known {
            return None;
        }
        let ours = home.boot_id.as_ref()?;
        let is_here =
            |process: &&ProcessIdentity| process.boot_id == *ours || process.boot_id.namespace_below(ours).is_some();
        let process = rival.process.as_ref().filter(is_here)?.clone();
        rival.user_asked = true;
        Some(process)
    }

    /// The probe has seen as which user this process runs.
    pub fn user_found(&mut self, process: &ProcessIdentity, user: u32) {
        if self.process.as_ref() == Some(process) {
            self.trouble().user = Some(user);
        } else if let Some(rival) = self.trouble.as_mut().and_then(|trouble| trouble.rival.as_mut())
            && rival.process.as_ref() == Some(process)
        {
            rival.user = Some(user);
        }
    }

    /// Two speak, and each has gone on for longer than makes it late since the other one began: no end of one, and no burst of
    /// what was on its way, looks like that.
    pub(super) fn judge_rival(&mut self, at: Monotonic) -> Option<Box<Transition>> {
        let late_after = self.late_after().get();
        let rival = self.trouble.as_ref()?.rival.as_ref()?;
        let (heard, _) = self.last_heard?;
        let both_since = rival.first + late_after;
        let both_go_on = heard >= both_since && rival.last >= both_since && at.since(heard) < late_after;
        let user = self.trouble.as_ref().and_then(|trouble| trouble.user);
        let is_of_another = Some(rival.incarnation) == self.incarnation() && rival.is_of_another_user(user);
        if self.verdict == Verdict::Conflict || self.ended {
            return None;
        }
        let known = said(self.host(), self.process.as_ref(), self.incarnation, self.way, user);
        let other = said(&rival.host, rival.process.as_ref(), rival.incarnation, rival.way, rival.user);
        let judgement = match () {
            // one life is one program's, and that does not change its user with its PID
            () if is_of_another && rival.goes_on() => judge_other_user(&known, &other),
            () if both_go_on => judge_conflict(&known, &other),
            () => return None,
        };
        Some(self.change(judgement, at, Trigger::Heartbeat))
    }

    /// While two speak, what one of them says makes it neither alive nor hung. It is over when the other one has said nothing
    /// for a deadline.
    pub(super) fn judge_conflict(&mut self, at: Monotonic) -> Option<Box<Transition>> {
        let rival = self.trouble.as_ref().and_then(|trouble| trouble.rival.as_ref());
        if rival.is_some_and(|rival| at.since(rival.last) < self.deadline()) {
            return None;
        }
        let known = said(self.host(), self.process.as_ref(), self.incarnation, self.way, None);
        Some(self.change(judge_conflict_over(&known), at, Trigger::Heartbeat))
    }

    /// Whether somebody else was heard later than the one who is known, and within a deadline.
    pub(super) fn another_is_heard(&self, now: Monotonic) -> bool {
        let Some(rival) = self.trouble.as_ref().and_then(|trouble| trouble.rival.as_ref()) else { return false };
        self.last_heard.is_none_or(|(heard, _)| rival.last > heard) && now.since(rival.last) < self.deadline()
    }

    /// Whether somebody else has just been heard, so that the id passes to them with their next sign of life.
    pub(super) fn another_speaks(&self, now: Monotonic) -> bool {
        let rival = self.trouble.as_ref().and_then(|trouble| trouble.rival.as_ref());
        rival.is_some_and(|rival| now.since(rival.last) < self.late_after().get())
    }
}
