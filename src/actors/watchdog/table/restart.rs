//! What survives a restart of the monitor: who was heard when, and who left only because the monitor did. The
//! restart itself is one event; it is none of a publisher that goes on.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::*;
use crate::domain::evidence::{Evidence, EvidenceKind};
use crate::domain::judge::judge_goodbye;
use crate::domain::last_seen::LastSeen;
use crate::domain::publisher::NAME_BYTES_MAX;
use crate::domain::verdict::{MONITOR_PREFIX, Trigger};

/// How often it is kept when everybody was heard last, at least.
const KEPT_EVERY: Duration = Duration::from_secs(10);
/// Further time for each publisher, so that a million are written out every quarter of an hour.
const KEPT_EVERY_A_PUBLISHER: Duration = Duration::from_millis(1);

/// What the table knows of the run before this one and tells the one after it.
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
    /// When the run before has heard it last.
    pub(super) fn heard_before(&self, id: &PublisherId) -> Option<Timestamp> {
        self.before.get(id).copied()
    }
}

impl Table {
    /// Takes up what the run before has left, and says that there was one.
    pub(super) fn recall(&mut self, last_seen: Option<LastSeen>, now: Monotonic, wall: Timestamp) {
        self.restarts.kept_at = now;
        let is_first = last_seen.is_none() && self.epoch == 0;
        let ended = last_seen.as_ref().map(|last_seen| (last_seen.at, last_seen.in_order));
        if let Some(last_seen) = last_seen {
            self.restarts.before = last_seen.heard.into_iter().collect();
            for id in last_seen.left_with_monitor {
                self.has_left(&id, last_seen.at, now, wall);
            }
        }
        if !is_first {
            self.say_restart(ended, wall);
        }
    }

    /// It left with the monitor. Unless that starts it again, it has ended.
    fn has_left(&mut self, id: &PublisherId, at: Timestamp, now: Monotonic, wall: Timestamp) {
        let Some(index) = self.by_id.find(id, &self.entries) else { return };
        let entry = &mut self.entries[index as usize];
        let from = entry.watch.verdict();
        if self.config.started_by_us.contains(id) || from == Verdict::Ended {
            return;
        }
        let rule = self.config.rules.of(id);
        let host = self.hosts.one(entry.watch.host());
        entry.watch = Watch::remembered(host, rule, Verdict::Ended, entry.watch.process().cloned(), now);
        let judgement = judge_goodbye();
        let summary = "ended: it left in order with the monitor, which starts it no more".to_owned();
        let draft =
            Draft { from, to: judgement.verdict, at, trigger: Trigger::Goodbye, summary, evidence: judgement.evidence };
        self.count_well(index);
        self.note(index, draft, now, wall);
    }

    /// One event for the restart, as `monitor:ID`.
    fn say_restart(&mut self, ended: Option<(Timestamp, bool)>, wall: Timestamp) {
        let Some(monitor) = &self.config.monitor else { return };
        let name: String = format!("{MONITOR_PREFIX}{monitor}").chars().take(NAME_BYTES_MAX).collect();
        let Ok(publisher) = PublisherId::parse(&name) else { return };
        let before = match ended {
            Some((at, true)) => format!("it ended in order at {at}, {} before", ago(at, wall)),
            Some((at, false)) => {
                format!("it did not end in order; it still ran at {at}, {} before", ago(at, wall))
            }
            None => "when it ended is not known".to_owned(),
        };
        self.epoch += 1;
        let change = Change {
            epoch: self.epoch,
            publisher,
            host: self.config.home.host.clone(),
            from: Verdict::Unknown,
            to: Verdict::Alive,
            at: wall,
            decided_at: wall,
            trigger: Trigger::Start,
            summary: format!("alive: the monitor has started again; {before}"),
            evidence: vec![Evidence::new(EvidenceKind::Observer, before)],
            process: None,
            maintenance: false,
            flapping: None,
            because: None,
        };
        self.publish(change);
    }

    /// These end because the monitor does: that is nobody's verdict, and the next run does not say that they are back.
    pub fn stop_with_monitor(&mut self, publishers: Vec<PublisherId>) {
        self.restarts.leaving.extend(publishers);
    }

    /// Whether a change of it is only that the monitor ends.
    pub(super) fn only_leaves(&mut self, index: u32, to: Verdict) -> bool {
        if self.restarts.leaving.is_empty() {
            return false;
        }
        let id = &self.entries[index as usize].id;
        let leaves = self.restarts.leaving.contains(id);
        if leaves && to == Verdict::Ended && !self.restarts.left.contains(id) {
            self.restarts.left.push(id.clone());
        }
        leaves
    }

    /// When everybody was heard last, where it is time to keep that.
    pub fn last_seen_due(&mut self, now: Monotonic, wall: Timestamp) -> Option<LastSeen> {
        let publishers = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        let every = KEPT_EVERY.max(KEPT_EVERY_A_PUBLISHER * publishers);
        if now.since(self.restarts.kept_at) < every {
            return None;
        }
        self.restarts.kept_at = now;
        let is_unheard = |id: &PublisherId| {
            let index = self.by_id.find(id, &self.entries);
            index.is_none_or(|index| self.entries[index as usize].watch.last_heard().is_none())
        };
        self.restarts.before =
            std::mem::take(&mut self.restarts.before).into_iter().filter(|(id, _)| is_unheard(id)).collect();
        Some(self.last_seen(wall, false))
    }

    /// When everybody was heard last, as of now.
    #[must_use]
    pub fn last_seen(&self, wall: Timestamp, in_order: bool) -> LastSeen {
        let mut heard: BTreeMap<_, _> = self.restarts.before.iter().map(|(id, at)| (id.clone(), *at)).collect();
        let of_entries = self.entries.iter().filter_map(|entry| Some((entry.id.clone(), entry.watch.last_heard()?.1)));
        heard.extend(of_entries);
        LastSeen { at: wall, in_order, heard, left_with_monitor: self.restarts.left.clone() }
    }
}

fn ago(at: Timestamp, now: Timestamp) -> String {
    let nanos = u64::try_from(now.as_nanos().saturating_sub(at.as_nanos())).unwrap_or(0);
    describe_duration(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::beat::{Heartbeat, Way};
    use crate::domain::publisher::{HostName, Incarnation};
    use crate::domain::watch::Home;

    const SECOND: i64 = 1_000_000_000;

    fn id(name: &str) -> PublisherId {
        PublisherId::parse(name).unwrap()
    }

    fn home() -> Home {
        Home { host: HostName::parse("here").unwrap(), boot_id: None, pid: None }
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

    fn table(last_seen: Option<LastSeen>, remembered: &[Change]) -> Table {
        let config = WatchdogConfig {
            started_by_us: [id("child")].into(),
            monitor: Some(id("plant")),
            last_seen,
            ..WatchdogConfig::new(home())
        };
        let last_epoch = remembered.iter().map(|change| change.epoch).max().unwrap_or_default();
        Table::new(config, Clock::start(), remembered, last_epoch, broadcast::channel(16).0)
    }

    fn beat(table: &mut Table, publisher: &str, kind: BeatKind) {
        let (at, wall) = (table.clock.monotonic(), table.clock.wall());
        let beat = Beat { publisher: id(publisher), host: home().host, at, wall, way: Way::default(), kind };
        table.hear(&[beat], at, wall);
    }

    fn heartbeat() -> BeatKind {
        BeatKind::Heartbeat(Box::new(Heartbeat::idle(Incarnation(2), Duration::from_secs(1))))
    }

    fn said(table: &Table) -> Vec<(String, Verdict, String)> {
        let changes = table.changes_to_hand_on(usize::MAX).into_iter();
        changes.map(|change| (change.publisher.to_string(), change.to, change.summary)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_known_stays_known_and_a_restart_is_one_event() {
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
            left_with_monitor: vec![id("child"), id("former")],
        };
        let mut table = table(Some(last_seen), &remembered);
        let changes = said(&table);
        assert_eq!(changes.len(), 2, "{changes:?}");
        assert_eq!((changes[0].0.as_str(), changes[0].1), ("former", Verdict::Ended));
        assert_eq!((changes[1].0.as_str(), changes[1].1), ("monitor:plant", Verdict::Alive));
        assert!(changes[1].2.contains("it ended in order at 1970-01-01T00:01:40.000Z"), "{changes:?}");
        let status = |table: &Table, name: &str| table.status_of(&id(name)).unwrap();
        for (name, seconds, verdict, pid) in [
            ("light", 99, Verdict::Alive, Some(812)),
            ("child", 98, Verdict::Alive, None),
            ("former", 97, Verdict::Ended, Some(812)),
            ("done", 5, Verdict::Ended, Some(812)),
        ] {
            let status = status(&table, name);
            assert_eq!((status.last_seen, status.verdict, status.pid), (Some(at(seconds)), verdict, pid), "{name}");
        }
        table.handed_on(2);
        for name in ["light", "child", "done", "fresh"] {
            beat(&mut table, name, heartbeat());
        }
        let changes = said(&table);
        let words: Vec<_> = changes.iter().map(|(name, _, summary)| (name.as_str(), summary.as_str())).collect();
        let expected = [
            ("done", "alive: heard again after a restart of the monitor"),
            ("fresh", "alive: heard for the first time"),
        ];
        assert_eq!(words, expected, "who was alive goes on as before");
        let kept = table.last_seen(at(200), false);
        assert!(kept.heard[&id("light")] > at(1_000) && kept.heard[&id("former")] == at(97), "{kept:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_start_is_no_restart_and_a_kill_is_told_from_an_end() {
        assert_eq!(said(&table(None, &[])), []);
        let killed = LastSeen { at: at(100), in_order: false, heard: BTreeMap::new(), left_with_monitor: Vec::new() };
        let changes = said(&table(Some(killed), &[]));
        assert!(
            changes[0].2.contains("it did not end in order; it still ran at 1970-01-01T00:01:40.000Z"),
            "{changes:?}"
        );
        let changes = said(&table(None, &[change(7, "light", Verdict::Alive)]));
        assert!(changes[0].2.contains("when it ended is not known"), "{changes:?}");
        assert_eq!(table(None, &[change(7, "light", Verdict::Alive)]).changes_to_hand_on(1)[0].epoch, 8);
        let told = Arc::new(table(None, &[change(7, "light", Verdict::Alive)]).changes_to_hand_on(1));
        assert!(told[0].is_of_monitor() && table(None, &told).entries.is_empty(), "it is nobody who is watched");
    }

    #[tokio::test(start_paused = true)]
    async fn who_ends_because_the_monitor_does_has_no_verdict_of_its_own() {
        let mut table = table(None, &[]);
        for name in ["child", "light"] {
            beat(&mut table, name, heartbeat());
        }
        table.handed_on(2);
        table.stop_with_monitor(vec![id("child")]);
        for name in ["child", "light"] {
            beat(&mut table, name, BeatKind::Goodbye { incarnation: Incarnation(2) });
        }
        let changes = said(&table);
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert_eq!((changes[0].0.as_str(), changes[0].1), ("light", Verdict::Ended));
        assert_eq!(table.last_seen(at(1), true).left_with_monitor, [id("child")]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_heard_when_is_kept_every_now_and_then() {
        let mut table = table(None, &[]);
        beat(&mut table, "light", heartbeat());
        let now = |seconds| Monotonic::START + Duration::from_secs(seconds);
        assert_eq!(table.last_seen_due(now(9), at(9)), None);
        assert!(table.last_seen_due(now(11), at(11)).is_some_and(|kept| kept.heard.contains_key(&id("light"))));
        assert_eq!(table.last_seen_due(now(12), at(12)), None);
    }
}
