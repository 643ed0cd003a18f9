//! When to look at whom again: whoever is due in the same quarter of a millisecond is in one chain.
//!
//! A chain goes through an array of two places for each publisher: 8 bytes, where an ordered set took 30 and
//! `tokio_util`'s `DelayQueue` 40 and 16 for a key. Setting a publisher anew looks into no other memory than that of
//! its neighbours. One is touched when it is due, not with every sign of life.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Chain;

use crate::time::Monotonic;

/// So many nanoseconds share a chain, which is due at their end: nobody is looked at too soon, and at most so much
/// later than is right.
const GRAIN_NANOS: u64 = 250_000;

/// What has become due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Place(u32),
    /// The doubt about the crowd.
    Doubt,
}

/// The places that are to be looked at, each at most once, and the doubt about the crowd.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// The first place of each chain, by when it is due in units of [`GRAIN_NANOS`].
    chains: BTreeMap<u64, u32>,
    /// Of each place its neighbours; the last one of a chain and the first one are neighbours, too.
    links: Vec<Link>,
    doubt: Option<Monotonic>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Link {
    before: u32,
    after: u32,
}

impl Timers {
    /// Looks at `place` at `wanted`, and no longer at `before`.
    pub(super) fn set(&mut self, place: u32, before: Option<Monotonic>, wanted: Option<Monotonic>) {
        let (before, wanted) = (before.map(chain_of), wanted.map(chain_of));
        if before == wanted {
            return;
        }
        if let Some(chain) = before {
            self.unlink(place, chain);
        }
        if let Some(chain) = wanted {
            self.link(place, chain);
        }
    }

    /// Looks at the doubt at `wanted`, and at no other time.
    pub(super) const fn set_doubt(&mut self, wanted: Option<Monotonic>) {
        self.doubt = wanted;
    }

    /// When the first of all is due.
    pub(super) fn next_due(&self) -> Option<Monotonic> {
        let chain = self.chains.first_key_value().map(|(chain, _)| due_at(*chain));
        chain.into_iter().chain(self.doubt).min()
    }

    /// What is due by `now`, the first of it.
    pub(super) fn take_due(&mut self, now: Monotonic) -> Option<Due> {
        let first = self.next_due().filter(|first| *first <= now)?;
        if self.doubt == Some(first) {
            self.doubt = None;
            return Some(Due::Doubt);
        }
        let (&chain, &place) = self.chains.first_key_value()?;
        self.unlink(place, chain);
        Some(Due::Place(place))
    }

    fn link(&mut self, place: u32, chain: u64) {
        let at = place as usize;
        if self.links.len() <= at {
            self.links.resize(at + 1, Link::default());
        }
        let (before, after) = match self.chains.entry(chain) {
            Chain::Vacant(empty) => (place, *empty.insert(place)),
            Chain::Occupied(chain) => (self.links[*chain.get() as usize].before, *chain.get()),
        };
        self.links[at] = Link { before, after };
        self.links[before as usize].after = place;
        self.links[after as usize].before = place;
    }

    fn unlink(&mut self, place: u32, chain: u64) {
        let Link { before, after } = self.links[place as usize];
        let Chain::Occupied(mut chain) = self.chains.entry(chain) else { return };
        if after == place {
            chain.remove();
            return;
        }
        if *chain.get() == place {
            chain.insert(after);
        }
        self.links[before as usize].after = after;
        self.links[after as usize].before = before;
    }
}

/// The first one that is not due before `at`.
const fn chain_of(at: Monotonic) -> u64 {
    at.as_nanos().div_ceil(GRAIN_NANOS)
}

const fn due_at(chain: u64) -> Monotonic {
    Monotonic::from_nanos(chain.saturating_mul(GRAIN_NANOS))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic::START + Duration::from_millis(millis)
    }

    #[test]
    fn places_come_in_the_order_of_their_times_and_only_as_they_were_set_last() {
        let mut timers = Timers::default();
        timers.set(1, None, Some(at(300)));
        timers.set(2, None, Some(at(100)));
        timers.set(3, None, Some(at(200)));
        timers.set(2, Some(at(100)), Some(at(400)));
        timers.set(3, Some(at(200)), None);
        timers.set_doubt(Some(at(50)));
        timers.set_doubt(Some(at(350)));
        let mut seen = Vec::new();
        while let Some(due) = timers.next_due() {
            assert_eq!(timers.take_due(Monotonic::from_nanos(due.as_nanos() - 1)), None);
            seen.extend(timers.take_due(due).map(|what| (what, due)));
        }
        assert_eq!(seen, [(Due::Place(1), at(300)), (Due::Doubt, at(350)), (Due::Place(2), at(400))]);
        assert!(timers.chains.is_empty() && timers.doubt.is_none());
    }

    proptest! {
        /// Whatever was set and set again: each place comes once, not before its time and less than a grain after it, and
        /// those of one time in the order in which they were set.
        #[test]
        fn it_is_an_ordered_set(steps in prop::collection::vec((0_u32..40, prop::option::of(0_u64..3_000_000)), 0..300)) {
            let mut timers = Timers::default();
            let mut wanted = [None; 40];
            let mut order = BTreeSet::new();
            for (step, (place, nanos)) in steps.into_iter().enumerate() {
                let at = nanos.map(Monotonic::from_nanos);
                let before = std::mem::replace(&mut wanted[place as usize], at);
                timers.set(place, before, at);
                if before.map(chain_of) != at.map(chain_of) {
                    order.retain(|(_, _, other)| *other != place);
                    order.extend(at.map(|at| (chain_of(at), step, place)));
                }
            }
            for (chain, _, place) in order {
                let (due, at) = (due_at(chain), wanted[place as usize].unwrap());
                prop_assert!(due >= at && due.since(at) < Duration::from_nanos(GRAIN_NANOS));
                prop_assert_eq!(timers.take_due(due), Some(Due::Place(place)));
            }
            prop_assert!(timers.chains.is_empty());
        }
    }
}
