//! Hosts as a whole: when everybody on one falls silent, that is told once, and not of each publisher.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::calm::Draft;
use super::silence::{is_late, is_well};
use super::*;
use crate::domain::evidence::{Evidence, EvidenceKind};
use crate::domain::maintenance::host_id;
use crate::domain::publisher::HostName;
use crate::domain::verdict::Trigger;

/// How often it is asked whether a whole host is silent.
const HOST_EVERY: Duration = Duration::from_millis(200);
/// Fewer publishers than this are no host: the one's own change says it all.
const HOST_PUBLISHERS_MIN: usize = 2;
/// Most publishers of a host named in its change.
const HOST_NAMED_MAX: usize = 10;

/// What is known of a host as a whole.
#[derive(Debug, Default)]
pub(super) struct HostState {
    pub(super) is_gone: bool,
    pub(super) asked_at: Option<Monotonic>,
    pub(super) back_at: Monotonic,
    pub(super) change: Option<Box<Change>>,
}

/// The hosts' names, each once, and who is where.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    names: HashSet<Arc<HostName>>,
    /// The places of those on each host, lowest first. Where no host ever falls silent nobody asks, and it takes no
    /// memory: it is made by the first who does, and again after somebody has moved.
    places: Option<HashMap<HostName, Vec<u32>>>,
}

impl Hosts {
    /// The one copy of this name.
    pub(super) fn one(&mut self, name: &HostName) -> Arc<HostName> {
        if let Some(known) = self.names.get(name) {
            return Arc::clone(known);
        }
        let new = Arc::new(name.clone());
        self.names.insert(Arc::clone(&new));
        new
    }

    /// The one at `place` is new, the last of all.
    pub(super) fn added(&mut self, place: u32, host: &HostName) {
        if let Some(places) = &mut self.places {
            places.entry(host.clone()).or_default().push(place);
        }
    }

    /// Somebody is on another host from now on.
    pub(super) fn moved(&mut self) {
        self.places = None;
    }

    /// The places of those on a host, lowest first.
    pub(super) fn places_on(&mut self, host: &HostName, entries: &[Entry]) -> &[u32] {
        let places = self.places.get_or_insert_with(|| {
            let mut places: HashMap<HostName, Vec<u32>> = HashMap::new();
            let mut all = 0..;
            // each name is there once, so that neighbours on one host are known without a look at it
            for neighbours in entries.chunk_by(|one, next| std::ptr::eq(one.watch.host(), next.watch.host())) {
                let Some(host) = neighbours.first().map(|entry| entry.watch.host()) else { continue };
                let there = all.by_ref().take(neighbours.len());
                match places.get_mut(host) {
                    Some(known) => known.extend(there),
                    None => drop(places.insert(host.clone(), there.collect())),
                }
            }
            places
        });
        let places = places.get(host).map_or(&[][..], Vec::as_slice);
        debug_assert!(
            (0..)
                .zip(entries)
                .filter(|(_, entry)| entry.watch.host() == host)
                .map(|(place, _)| place)
                .eq(places.iter().copied()),
            "who is said to be on {host} is there, and nobody else"
        );
        places
    }
}

impl Table {
    /// The host that a change follows from; its own change is told first.
    pub(super) fn host_behind(
        &mut self,
        index: u32,
        draft: &Draft,
        now: Monotonic,
        wall: Timestamp,
    ) -> Option<PublisherId> {
        let entry = &self.entries[index as usize];
        let host = entry.watch.host().clone();
        if host == self.config.home.host {
            return None;
        }
        let id = host_id(&host)?;
        let is_gone = self.calm.hosts.get(&host).is_some_and(|state| state.is_gone);
        if draft.to == Verdict::Unreachable {
            return (is_gone || self.host_goes(&host, &id, draft.at, now, wall)).then_some(id);
        }
        if draft.to.is_bad() || draft.to == Verdict::Unknown {
            return None;
        }
        let followed = entry.because() == Some(&id);
        if is_gone {
            let heard = entry.id.clone();
            self.host_returns(&host, &id, &heard, now, wall);
        }
        followed.then_some(id)
    }

    /// Whether everyone on a host is silent; says so once.
    fn host_goes(&mut self, host: &HostName, id: &PublisherId, at: Timestamp, now: Monotonic, wall: Timestamp) -> bool {
        let asked_at = self.calm.hosts.get(host).and_then(|state| state.asked_at);
        if asked_at.is_some_and(|asked| now.since(asked) < HOST_EVERY) {
            return false;
        }
        let began = self.clock.monotonic();
        let silent = self.silent_on(host, now);
        self.calm.hosts.entry(host.clone()).or_default().asked_at = Some(self.rested_after(now, began));
        let Some((silent, mut named)) = silent else { return false };
        let what = format!("all {silent} publishers on {host} are silent: the host or its network is gone");
        let mut evidence = vec![Evidence::new(EvidenceKind::Host, what.clone())];
        evidence.append(&mut named);
        let (from, to) = (self.verdict_of_host(host), Verdict::Unreachable);
        let draft = Draft { from, to, at, trigger: Trigger::Deadline, summary: format!("{to}: {what}"), evidence };
        self.host_changes(host, id, draft, now, wall);
        true
    }

    /// How many are silent on a host, and what is known of some of them; none when one of them is not.
    fn silent_on(&mut self, host: &HostName, now: Monotonic) -> Option<(usize, Vec<Evidence>)> {
        let (mut silent, mut named) = (0_usize, Vec::new());
        for place in self.hosts.places_on(host, &self.entries) {
            let Entry { id, watch, .. } = &self.entries[*place as usize];
            if watch.has_ended() || matches!(watch.verdict(), Verdict::Dead | Verdict::NeverStarted) {
                continue;
            }
            if !is_late(&self.observers, watch, now) {
                return None;
            }
            silent += 1;
            if named.len() < HOST_NAMED_MAX {
                let heard = watch.last_heard().map_or_else(|| "never".to_owned(), |(_, wall)| wall.time_of_day());
                named.push(Evidence::new(EvidenceKind::Silence, format!("{id}: last heard at {heard}")));
            }
        }
        (silent >= HOST_PUBLISHERS_MIN).then_some((silent, named))
    }

    fn host_returns(
        &mut self,
        host: &HostName,
        id: &PublisherId,
        heard: &PublisherId,
        now: Monotonic,
        wall: Timestamp,
    ) {
        let what = format!("{host} is heard again: {heard} came first");
        let evidence = vec![Evidence::new(EvidenceKind::Host, what.clone())];
        let (from, to) = (self.verdict_of_host(host), Verdict::Alive);
        let draft =
            Draft { from, to, at: wall, trigger: Trigger::Heartbeat, summary: format!("{to}: {what}"), evidence };
        self.host_changes(host, id, draft, now, wall);
    }

    fn verdict_of_host(&self, host: &HostName) -> Verdict {
        let change = self.calm.hosts.get(host).and_then(|state| state.change.as_deref());
        change.map_or(Verdict::Alive, |change| change.to)
    }

    fn host_changes(&mut self, host: &HostName, id: &PublisherId, draft: Draft, now: Monotonic, wall: Timestamp) {
        self.epoch += 1;
        let maintenance = self.calm.maintenance.covers(id, host, wall).is_some();
        let state = self.calm.hosts.entry(host.clone()).or_default();
        let change = Change {
            epoch: self.epoch,
            publisher: id.clone(),
            host: host.clone(),
            from: draft.from,
            to: draft.to,
            at: draft.at,
            decided_at: wall,
            trigger: draft.trigger,
            summary: draft.summary,
            evidence: draft.evidence,
            process: None,
            maintenance,
            flapping: None,
            because: None,
        };
        (state.is_gone, state.back_at) = (draft.to.is_bad(), now);
        state.change = Some(Box::new(change.clone()));
        self.publish(change);
    }

    /// Whether those who are silent are all of one other host, while others are heard: that is the host's
    /// fault, not ours.
    pub(super) fn one_host_is_silent(&self, now: Monotonic) -> bool {
        let mut silent_host = None;
        let mut others_heard = false;
        let well = |entry: &&Entry| is_well(&entry.watch);
        for entry in self.entries.iter().filter(well) {
            if is_late(&self.observers, &entry.watch, now) {
                let host = entry.watch.host();
                if *host == self.config.home.host || silent_host.is_some_and(|known| known != host) {
                    return false;
                }
                silent_host = Some(host);
            }
        }
        for entry in self.entries.iter().filter(well) {
            if !is_late(&self.observers, &entry.watch, now) {
                if Some(entry.watch.host()) == silent_host {
                    return false;
                }
                others_heard |= entry.watch.last_heard().is_some();
            }
        }
        others_heard
    }

    /// The standing verdicts of hosts that were ever gone.
    pub(super) fn standing_hosts(&self, at: Timestamp) -> impl Iterator<Item = Standing> {
        self.calm.hosts.values().filter_map(move |state| {
            let change = state.change.as_deref()?;
            let (publisher, host) = (change.publisher.clone(), change.host.clone());
            Some(Standing { publisher, host, verdict: change.to, epoch: change.epoch, at })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::beat::{Heartbeat, Way};
    use crate::domain::publisher::Incarnation;
    use crate::domain::watch::Home;

    #[tokio::test(start_paused = true)]
    async fn who_is_on_a_host_is_known_of_new_ones_and_of_those_who_moved() {
        let clock = Clock::start();
        let host = |name: &str| HostName::parse(name).unwrap();
        let config = WatchdogConfig::new(Home { host: host("here"), boot_id: None, pid: None });
        let mut table = Table::new(config, clock, &[], 0, broadcast::channel(1).0);
        let hear = |table: &mut Table, number: u32, on: &str| {
            let beat = Beat {
                publisher: PublisherId::parse(&format!("publisher-{number}")).unwrap(),
                host: host(on),
                at: clock.monotonic(),
                wall: clock.wall(),
                way: Way::Mqtt,
                kind: BeatKind::Heartbeat(Box::new(Heartbeat::idle(Incarnation(1), Duration::from_secs(5)))),
            };
            table.hear(&[beat], clock.monotonic(), clock.wall());
        };
        let on = |table: &mut Table, name: &str| table.hosts.places_on(&host(name), &table.entries).to_vec();
        for number in 0..3 {
            hear(&mut table, number, "one");
        }
        assert_eq!(on(&mut table, "one"), [0, 1, 2]);
        hear(&mut table, 3, "one");
        hear(&mut table, 4, "two");
        assert_eq!((on(&mut table, "one"), on(&mut table, "two")), (vec![0, 1, 2, 3], vec![4]), "new ones");
        hear(&mut table, 1, "two");
        assert_eq!((on(&mut table, "one"), on(&mut table, "two")), (vec![0, 2, 3], vec![1, 4]), "one has moved");
        assert_eq!(on(&mut table, "three"), Vec::<u32>::new());
    }
}
