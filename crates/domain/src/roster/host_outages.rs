//! Hosts as a whole: when everybody on one falls silent, that is told once, and not of each publisher.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::effect::Effect;
use super::entry::Entry;
use super::mutant::{Mutant, is_planted};
use super::record::Record;
use super::watched::Watched;
use crate::evidence::{Evidence, EvidenceKind};
use crate::maintenance::{Maintenance, host_id};
use crate::publisher::{HostName, PublisherId};
use crate::time::{Monotonic, Timestamp};
use crate::verdict::{Change, Trigger, Verdict};

/// How often it is asked whether a whole host is silent.
const HOST_EVERY: Duration = Duration::from_millis(200);
/// Further time for each publisher on it: a look at a million takes some milliseconds.
const HOST_EVERY_A_PUBLISHER: Duration = Duration::from_nanos(200);
/// Fewer publishers than this are no host: the one's own change says it all.
const HOST_PUBLISHERS_MIN: usize = 2;
/// Most publishers of a host named in its change.
const HOST_NAMED_MAX: usize = 10;

/// What is known of a host as a whole.
#[derive(Debug, Default)]
struct HostState {
    is_gone: bool,
    /// When it is to be asked again at the earliest whether all are silent.
    ask_again_at: Monotonic,
    back_at: Monotonic,
    change: Option<Box<Change>>,
}

/// The hosts that have fallen silent at some time.
#[derive(Debug, Default)]
pub(super) struct HostOutages(HashMap<HostName, HostState>);

/// What a word about a host needs beside the hosts themselves.
pub(super) struct Context<'a> {
    pub watched: &'a mut Watched,
    pub record: &'a mut Record,
    pub effects: &'a mut VecDeque<Effect>,
    pub maintenance: &'a Maintenance,
    pub now: Monotonic,
    pub wall: Timestamp,
}

impl HostState {
    fn changed(&mut self, change: Change, now: Monotonic) {
        (self.is_gone, self.back_at) = (change.to.is_bad(), now);
        self.change = Some(Box::new(change));
    }
}

impl HostOutages {
    /// A change of a host that an earlier run had made.
    pub(super) fn remember(&mut self, change: &Change, now: Monotonic) {
        self.0.entry(change.host.clone()).or_default().changed(change.clone(), now);
    }

    /// Whether an outage speaks for those on a host: it lasts, or was over for less than the deadline of this one.
    pub(super) fn speaks_for(&self, host: &HostName, deadline: Duration, now: Monotonic) -> bool {
        self.0.get(host).is_some_and(|state| state.is_gone || now.since(state.back_at) < deadline)
    }

    /// The outage that speaks for those on a host at this moment.
    pub(super) fn of(&self, host: &HostName) -> Option<PublisherId> {
        self.0.get(host).filter(|state| state.is_gone).and_then(|_| host_id(host))
    }

    /// The host that a change follows from; its own change is told first.
    pub(super) fn behind(&mut self, index: u32, change: &Change, context: &mut Context<'_>) -> Option<PublisherId> {
        let entry = context.watched.entry(index);
        let host = entry.watch.host().clone();
        if host == context.watched.home().host {
            return None;
        }
        let id = host_id(&host)?;
        let is_gone = self.0.get(&host).is_some_and(|state| state.is_gone);
        if change.to == Verdict::Unreachable {
            return (is_gone || self.goes(&host, &id, change.at, context)).then_some(id);
        }
        if change.to.is_bad() || change.to == Verdict::Unknown {
            return None;
        }
        let followed = entry.because() == Some(&id);
        if is_gone {
            let heard = entry.id.clone();
            self.returns(&host, &id, &heard, context);
        }
        followed.then_some(id)
    }

    /// Whether everyone on a host is silent; says so once.
    fn goes(&mut self, host: &HostName, id: &PublisherId, at: Timestamp, context: &mut Context<'_>) -> bool {
        let now = context.now;
        let state = self.0.entry(host.clone()).or_default();
        if now < state.ask_again_at || is_planted(Mutant::HostLoss) {
            return false;
        }
        let publishers = u32::try_from(context.watched.on_host(host).len()).unwrap_or(u32::MAX);
        state.ask_again_at = now + HOST_EVERY + HOST_EVERY_A_PUBLISHER * publishers;
        let Some((silent, mut named)) = silent_on(host, context.watched, now) else { return false };
        let what = format!("all {silent} publishers on {host} are silent: the host or its network is gone");
        let mut evidence = vec![Evidence::new(EvidenceKind::Host, what.clone())];
        evidence.append(&mut named);
        self.change(host, id, Verdict::Unreachable, at, Trigger::Deadline, &what, evidence, context);
        true
    }

    fn returns(&mut self, host: &HostName, id: &PublisherId, heard: &PublisherId, context: &mut Context<'_>) {
        let what = format!("{host} is heard again: {heard} came first");
        let evidence = vec![Evidence::new(EvidenceKind::Host, what.clone())];
        self.change(host, id, Verdict::Alive, context.wall, Trigger::Heartbeat, &what, evidence, context);
    }

    #[expect(clippy::too_many_arguments, reason = "a change has as many parts")]
    fn change(
        &mut self,
        host: &HostName,
        id: &PublisherId,
        to: Verdict,
        at: Timestamp,
        trigger: Trigger,
        what: &str,
        evidence: Vec<Evidence>,
        context: &mut Context<'_>,
    ) {
        let state = self.0.entry(host.clone()).or_default();
        let mut change = Change {
            epoch: 0,
            publisher: id.clone(),
            host: host.clone(),
            from: state.change.as_deref().map_or(Verdict::Alive, |change| change.to),
            to,
            at,
            decided_at: context.wall,
            trigger,
            summary: format!("{to}: {what}"),
            evidence,
            process: None,
            maintenance: context.maintenance.covers(id, host, context.wall).is_some(),
            flapping: None,
            because: None,
        };
        context.record.publish(&mut change, context.effects);
        state.changed(change, context.now);
    }

    /// Notes a published change that a failed watchdog had not noted here.
    pub(super) fn take_up(&mut self, change: &Change, now: Monotonic) {
        let state = self.0.entry(change.host.clone()).or_default();
        if state.change.as_ref().is_none_or(|known| known.epoch < change.epoch) {
            state.changed(change.clone(), now);
        }
    }

    /// The last change of each host that was ever gone.
    pub(super) fn changes(&self) -> impl Iterator<Item = &Change> {
        self.0.values().filter_map(|state| state.change.as_deref())
    }
}

/// How many are silent on a host, and what is known of some of them; none when one of them is not.
fn silent_on(host: &HostName, watched: &mut Watched, now: Monotonic) -> Option<(usize, Vec<Evidence>)> {
    let (mut silent, mut named) = (0_usize, Vec::new());
    for place in watched.on_host(host).to_vec() {
        let Entry { id, watch, .. } = watched.entry(place);
        if watch.has_ended() || matches!(watch.verdict(), Verdict::Dead | Verdict::NeverStarted) {
            continue;
        }
        if !watched.is_late(watch, now) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::beat::{Beat, BeatKind, Heartbeat, Way};
    use crate::publisher::Incarnation;
    use crate::roster::{Roster, RosterConfig};
    use crate::watch::LocalHost;

    #[test]
    fn who_is_on_a_host_is_known_of_new_ones_and_of_those_who_moved() {
        let (now, wall) = (Monotonic::START, Timestamp::default());
        let host = |name: &str| HostName::parse(name).unwrap();
        let config = RosterConfig::new(LocalHost { host: host("here"), boot_id: None, pid: None });
        let mut roster = Roster::new(config, &[], 0, now, wall);
        let hear = |roster: &mut Roster, number: u32, on: &str| {
            let beat = Beat {
                publisher: PublisherId::parse(&format!("publisher-{number}")).unwrap(),
                host: host(on),
                at: now,
                wall,
                way: Way::Mqtt,
                kind: BeatKind::Heartbeat(Box::new(Heartbeat::idle(Incarnation(1), Duration::from_secs(5)))),
            };
            roster.hear(&[beat], now, wall);
        };
        let on = |roster: &mut Roster, name: &str| roster.watched.on_host(&host(name)).to_vec();
        for number in 0..3 {
            hear(&mut roster, number, "one");
        }
        assert_eq!(on(&mut roster, "one"), [0, 1, 2]);
        hear(&mut roster, 3, "one");
        hear(&mut roster, 4, "two");
        assert_eq!((on(&mut roster, "one"), on(&mut roster, "two")), (vec![0, 1, 2, 3], vec![4]), "new ones");
        hear(&mut roster, 1, "two");
        assert_eq!((on(&mut roster, "one"), on(&mut roster, "two")), (vec![0, 2, 3], vec![1, 4]), "one has moved");
        assert_eq!(on(&mut roster, "three"), Vec::<u32>::new());
    }
}
