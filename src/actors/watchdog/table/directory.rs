//! From an id to its place among the entries.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::Entry;
use crate::domain::publisher::PublisherId;

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
