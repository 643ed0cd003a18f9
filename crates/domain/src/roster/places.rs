//! Who is on which host.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::entry::Entry;
use crate::publisher::HostName;

/// The hosts' names, each once, and who is where.
#[derive(Debug, Default)]
pub(super) struct Places {
    names: HashSet<Arc<HostName>>,
    /// The places of those on each host, lowest first. Where no host ever falls silent nobody asks, and it takes no
    /// memory: it is made by the first who does, and again after somebody has moved.
    places: Option<HashMap<HostName, Vec<u32>>>,
}

impl Places {
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
