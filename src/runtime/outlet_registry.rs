//! Those that come and go while others look for them by a publisher's id.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use heartwatch_domain::publisher::PublisherId;

/// The way to each one that is there at the moment. Clones share it.
pub struct OutletRegistry<T>(Arc<Mutex<BTreeMap<PublisherId, T>>>);

impl<T> Clone for OutletRegistry<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for OutletRegistry<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> OutletRegistry<T> {
    /// Somebody has come.
    pub fn insert(&self, id: PublisherId, way: T) {
        self.known().insert(id, way);
    }

    /// Somebody has gone.
    pub fn remove(&self, id: &PublisherId) {
        self.known().remove(id);
    }

    /// The way to somebody.
    #[must_use]
    pub fn find(&self, id: &PublisherId) -> Option<T> {
        self.known().get(id).cloned()
    }

    /// The ways to all of them, ordered by id.
    #[must_use]
    pub fn all(&self) -> Vec<T> {
        self.known().values().cloned().collect()
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<PublisherId, T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
