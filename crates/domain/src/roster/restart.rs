//! What survives a restart of the monitor: who was heard when, and who left only because the monitor did. The
//! restart itself is one event; it is none of a publisher that goes on.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::watched::Watched;
use crate::evidence::{Evidence, EvidenceKind};
use crate::last_seen::LastSeen;
use crate::publisher::{HostName, NAME_BYTES_MAX, PublisherId};
use crate::time::{Monotonic, Timestamp, describe_duration};
use crate::verdict::{Change, MONITOR_PREFIX, Trigger, Verdict};

/// How often it is kept when everybody was heard last, at least.
const KEPT_EVERY: Duration = Duration::from_secs(10);
/// Further time for each publisher, so that a million are written out every quarter of an hour.
const KEPT_EVERY_A_PUBLISHER: Duration = Duration::from_millis(1);

/// What is known of the run before this one, and what the one after it is told.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    /// When those were heard last that this run has not heard yet.
    before: HashMap<PublisherId, Timestamp>,
    /// Publishers of the monitor's own, which it ends because it ends itself.
    leaving: HashSet<PublisherId>,
    /// Those of them that have said goodbye.
    left: Vec<PublisherId>,
    kept_at: Monotonic,
}

impl Restarts {
    /// Takes up when the run before has heard whom.
    pub(super) fn new(heard: BTreeMap<PublisherId, Timestamp>, now: Monotonic) -> Self {
        Self { before: heard.into_iter().collect(), kept_at: now, ..Self::default() }
    }

    /// When the run before has heard it last.
    pub(super) fn heard_before(&self, id: &PublisherId) -> Option<Timestamp> {
        self.before.get(id).copied()
    }

    /// These end because the monitor does: that is nobody's verdict, and the next run does not say that they are back.
    pub(super) fn leave(&mut self, publishers: Vec<PublisherId>) {
        self.leaving.extend(publishers);
    }

    /// Whether a change of it is only that the monitor ends.
    pub(super) fn only_leaves(&mut self, id: &PublisherId, to: Verdict) -> bool {
        if self.leaving.is_empty() {
            return false;
        }
        let leaves = self.leaving.contains(id);
        if leaves && to == Verdict::Ended && !self.left.contains(id) {
            self.left.push(id.clone());
        }
        leaves
    }

    /// When everybody was heard last, where it is time to keep that.
    pub(super) fn last_seen_due(&mut self, watched: &Watched, now: Monotonic, wall: Timestamp) -> Option<LastSeen> {
        let publishers = u32::try_from(watched.entries().len()).unwrap_or(u32::MAX);
        let every = KEPT_EVERY.max(KEPT_EVERY_A_PUBLISHER * publishers);
        if now.since(self.kept_at) < every {
            return None;
        }
        self.kept_at = now;
        let is_unheard = |id: &PublisherId| {
            let index = watched.find(id);
            index.is_none_or(|index| watched.entry(index).watch.last_heard().is_none())
        };
        self.before.retain(|id, _| is_unheard(id));
        Some(self.last_seen(watched, wall, false))
    }

    /// When everybody was heard last, as of now.
    pub(super) fn last_seen(&self, watched: &Watched, wall: Timestamp, in_order: bool) -> LastSeen {
        let untold = watched.entries().iter().filter(|entry| entry.is_untold());
        let notified = untold.map(|entry| (entry.id.clone(), entry.last_notified)).collect();
        let mut heard: BTreeMap<_, _> = self.before.iter().map(|(id, at)| (id.clone(), *at)).collect();
        let entries = watched.entries().iter();
        heard.extend(entries.filter_map(|entry| Some((entry.id.clone(), entry.watch.last_heard()?.1))));
        LastSeen { at: wall, in_order, heard, notified, left_with_monitor: self.left.clone() }
    }
}

/// One event for the restart, as `monitor:ID`. `ended` says when the run before had ended, as far as that is known, and whether
/// in order.
pub(super) fn restart_event(
    monitor: &PublisherId,
    host: &HostName,
    ended: Option<(Timestamp, bool)>,
    wall: Timestamp,
) -> Option<Change> {
    let name: String = format!("{MONITOR_PREFIX}{monitor}").chars().take(NAME_BYTES_MAX).collect();
    let before = match ended {
        Some((at, true)) => format!("it ended in order at {at}, {} before", ago(at, wall)),
        Some((at, false)) => {
            format!("it did not end in order; it still ran at {at}, {} before", ago(at, wall))
        }
        None => "when it ended is not known".to_owned(),
    };
    Some(Change {
        epoch: 0,
        publisher: PublisherId::parse(&name).ok()?,
        host: host.clone(),
        from: Verdict::Unknown,
        to: Verdict::Alive,
        at: wall,
        decided_at: wall,
        trigger: Trigger::Start,
        summary: format!("alive: the monitor has started again; {before}"),
        evidence: vec![Evidence::new(EvidenceKind::SelfCheck, before)],
        process: None,
        maintenance: false,
        flapping: None,
        because: None,
    })
}

fn ago(at: Timestamp, now: Timestamp) -> String {
    let nanos = u64::try_from(now.as_nanos().saturating_sub(at.as_nanos())).unwrap_or(0);
    describe_duration(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::beat::{Beat, BeatKind};
    use crate::beat::{Heartbeat, Way};
    use crate::process::ProcessIdentity;
    use crate::publisher::{HostName, Incarnation};
    use crate::roster::{Roster, RosterConfig};
    use crate::watch::LocalHost;

    const SECOND: i64 = 1_000_000_000;

    fn id(name: &str) -> PublisherId {
        PublisherId::parse(name).unwrap()
    }

    fn home() -> LocalHost {
        LocalHost { host: HostName::parse("here").unwrap(), boot_id: None, pid: None }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_nanos(seconds * SECOND)
    }

    fn change(epoch: u64, publisher: &str, to: Verdict) -> Change {
        Change {
            epoch,
            publisher: id(publisher),
            host: home().host,
            from: Verdict::Unknown,
            to,
            at: at(1),
            decided_at: at(1),
            trigger: Trigger::Heartbeat,
            summary: format!("{to}: because"),
            evidence: Vec::new(),
            process: Some(ProcessIdentity { pid: 812, start_ticks: 1, boot_id: "boot".into() }),
            maintenance: false,
            flapping: None,
            because: None,
        }
    }

    fn roster(last_seen: Option<LastSeen>, remembered: &[Change]) -> Roster {
        let config = RosterConfig {
            started_by_us: [id("child")].into(),
            monitor: Some(id("plant")),
            last_seen,
            ..RosterConfig::new(home())
        };
        let last_epoch = remembered.iter().map(|change| change.epoch).max().unwrap_or_default();
        Roster::new(config, remembered, last_epoch, Monotonic::START, at(1_000))
    }

    fn beat(roster: &mut Roster, publisher: &str, kind: BeatKind) {
        let (at, wall) = (Monotonic::START, at(2_000));
        let beat = Beat { publisher: id(publisher), host: home().host, at, wall, way: Way::default(), kind };
        roster.hear(&[beat], at, wall);
    }

    fn heartbeat() -> BeatKind {
        BeatKind::Heartbeat(Box::new(Heartbeat::idle(Incarnation(2), Duration::from_secs(1))))
    }

    fn said(roster: &Roster) -> Vec<(String, Verdict, String)> {
        let changes = roster.changes_to_record(usize::MAX).into_iter();
        changes.map(|change| (change.publisher.to_string(), change.to, change.summary)).collect()
    }

    #[test]
    fn what_was_known_stays_known_and_a_restart_is_one_event() {
        let remembered = [
            change(1, "light", Verdict::Alive),
            change(2, "child", Verdict::Alive),
            change(3, "former", Verdict::Alive),
            change(4, "done", Verdict::Ended),
        ];
        let last_seen = LastSeen {
            at: at(100),
            in_order: true,
            heard: [("light", 99), ("child", 98), ("former", 97), ("done", 5)]
                .map(|(name, s)| (id(name), at(s)))
                .into(),
            notified: BTreeMap::new(),
            left_with_monitor: vec![id("child"), id("former")],
        };
        let mut roster = roster(Some(last_seen), &remembered);
        let changes = said(&roster);
        assert_eq!(changes.len(), 2, "{changes:?}");
        assert_eq!((changes[0].0.as_str(), changes[0].1), ("former", Verdict::Ended));
        assert_eq!((changes[1].0.as_str(), changes[1].1), ("monitor:plant", Verdict::Alive));
        assert!(changes[1].2.contains("it ended in order at 1970-01-01T00:01:40.000Z"), "{changes:?}");
        let status = |roster: &Roster, name: &str| roster.status_of(&id(name), at(2_000)).unwrap();
        for (name, seconds, verdict, pid) in [
            ("light", 99, Verdict::Alive, Some(812)),
            ("child", 98, Verdict::Alive, None),
            ("former", 97, Verdict::Ended, Some(812)),
            ("done", 5, Verdict::Ended, Some(812)),
        ] {
            let status = status(&roster, name);
            assert_eq!((status.last_seen, status.verdict, status.pid), (Some(at(seconds)), verdict, pid), "{name}");
        }
        roster.recorded(2);
        for name in ["light", "child", "done", "fresh"] {
            beat(&mut roster, name, heartbeat());
        }
        let changes = said(&roster);
        let words: Vec<_> = changes.iter().map(|(name, _, summary)| (name.as_str(), summary.as_str())).collect();
        let expected = [
            ("done", "alive: heard again after a restart of the monitor"),
            ("fresh", "alive: heard for the first time"),
        ];
        assert_eq!(words, expected, "who was alive goes on as before");
        let kept = roster.last_seen(at(200), false);
        assert!(kept.heard[&id("light")] > at(1_000) && kept.heard[&id("former")] == at(97), "{kept:?}");
    }

    #[test]
    fn a_first_start_is_no_restart_and_a_kill_is_told_from_an_end() {
        assert_eq!(said(&roster(None, &[])), []);
        let killed = LastSeen {
            at: at(100),
            in_order: false,
            heard: BTreeMap::new(),
            notified: BTreeMap::new(),
            left_with_monitor: Vec::new(),
        };
        let changes = said(&roster(Some(killed), &[]));
        assert!(
            changes[0].2.contains("it did not end in order; it still ran at 1970-01-01T00:01:40.000Z"),
            "{changes:?}"
        );
        let changes = said(&roster(None, &[change(7, "light", Verdict::Alive)]));
        assert!(changes[0].2.contains("when it ended is not known"), "{changes:?}");
        assert_eq!(roster(None, &[change(7, "light", Verdict::Alive)]).changes_to_record(1)[0].epoch, 8);
        let told = roster(None, &[change(7, "light", Verdict::Alive)]).changes_to_record(1);
        assert!(told[0].is_of_monitor() && roster(None, &told).status(at(1)).is_empty(), "it is nobody who is watched");
    }

    #[test]
    fn who_ends_because_the_monitor_does_has_no_verdict_of_its_own() {
        let mut roster = roster(None, &[]);
        for name in ["child", "light"] {
            beat(&mut roster, name, heartbeat());
        }
        roster.recorded(2);
        roster.stop_with_monitor(vec![id("child")]);
        for name in ["child", "light"] {
            beat(&mut roster, name, BeatKind::Goodbye { incarnation: Incarnation(2) });
        }
        let changes = said(&roster);
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert_eq!((changes[0].0.as_str(), changes[0].1), ("light", Verdict::Ended));
        assert_eq!(roster.last_seen(at(1), true).left_with_monitor, [id("child")]);
    }

    #[test]
    fn who_was_heard_when_is_kept_every_now_and_then() {
        let mut roster = roster(None, &[]);
        beat(&mut roster, "light", heartbeat());
        let now = |seconds| Monotonic::START + Duration::from_secs(seconds);
        assert_eq!(roster.last_seen_due(now(9), at(9)), None);
        assert!(roster.last_seen_due(now(11), at(11)).is_some_and(|kept| kept.heard.contains_key(&id("light"))));
        assert_eq!(roster.last_seen_due(now(12), at(12)), None);
    }
}
