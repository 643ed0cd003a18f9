//! From an id to its place among the entries.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::entry::Entry;
use crate::publisher::PublisherId;

/// From an id to its place among the entries. The ids themselves are only there: one look into memory
/// less for each sign of life, and a hash is never compared with anything else.
#[derive(Debug, Default)]
pub(super) struct Directory {
    places: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Directory {
    pub(super) fn find(&self, id: &PublisherId, entries: &[Entry]) -> Option<u32> {
        let is_it = |&index: &u32| entries[index as usize].id == *id;
        self.places.find(self.hash(id), is_it).copied()
    }

    /// What [`Directory::guess`] wants to know of an id.
    pub(super) fn hash(&self, id: &PublisherId) -> u64 {
        self.hasher.hash_one(id)
    }

    /// Where the one with this hash most likely is: now and then it is the place of another one. Looks at no entry.
    pub(super) fn guess(&self, hash: u64) -> Option<u32> {
        self.places.find(hash, |_| true).copied()
    }

    /// The entry at `index` is new.
    pub(super) fn insert(&mut self, index: u32, entries: &[Entry]) {
        let Self { places, hasher } = self;
        let hash = |&index: &u32| hasher.hash_one(&entries[index as usize].id);
        places.insert_unique(hash(&index), index, hash);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::beat::{Beat, BeatKind, Heartbeat, Way};
    use crate::publisher::{HostName, Incarnation, PublisherId};
    use crate::roster::{Roster, RosterConfig};
    use crate::time::{Monotonic, Timestamp};
    use crate::watch::LocalHost;

    /// Of so many some have hashes that look alike: a guess that was not checked would be heard as another one.
    const PUBLISHERS: i64 = 20_000;

    #[test]
    fn everyone_is_heard_as_himself_in_whatever_order_and_new_ones_among_the_known() {
        let (now, host) = (Monotonic::START, HostName::parse("h").unwrap());
        let config = RosterConfig::new(LocalHost { host: host.clone(), boot_id: None, pid: None });
        let mut roster = Roster::new(config, &[], 0, now, Timestamp::default());
        let id = |number: i64| PublisherId::parse(&format!("publisher-{number}")).unwrap();
        let beat = |number: i64, round: i64| Beat {
            publisher: id(number),
            host: host.clone(),
            at: now,
            wall: Timestamp::from_nanos(number * 10 + round),
            way: Way::Mqtt,
            kind: BeatKind::Heartbeat(Box::new(Heartbeat::idle(Incarnation(1), Duration::from_secs(5)))),
        };
        for (round, known) in [(0, PUBLISHERS / 2), (1, PUBLISHERS)] {
            let scattered = (0..known).map(|turn| turn * 7_919 % known);
            let beats: Vec<Beat> = scattered.chain([3, 3]).map(|number| beat(number, round)).collect();
            for batch in beats.chunks(512) {
                roster.hear(batch, now, Timestamp::default());
            }
            for number in 0..known {
                let seen = roster.status_of(&id(number), Timestamp::default()).and_then(|status| status.last_seen);
                assert_eq!(seen, Some(Timestamp::from_nanos(number * 10 + round)), "{number}");
            }
            assert_eq!(roster.status_of(&id(known), Timestamp::default()).map(|status| status.id), None);
        }
    }
}
