//! Actors that come and go while others ask for them by a publisher's id.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use actix::Message;

use super::outlet::Outlet;
use crate::domain::publisher::PublisherId;

/// The way to each publisher's actor that is there at the moment. Clones share it.
pub struct Directory<M>(Arc<Mutex<BTreeMap<PublisherId, Outlet<M>>>>)
where
    M: Message + Send,
    M::Result: Send;

impl<M> Clone for Directory<M>
where
    M: Message + Send,
    M::Result: Send,
{
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> Default for Directory<M>
where
    M: Message + Send,
    M::Result: Send,
{
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<M> Directory<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    /// Somebody has come.
    pub fn insert(&self, id: PublisherId, outlet: Outlet<M>) {
        if let Ok(mut known) = self.0.lock() {
            known.insert(id, outlet);
        }
    }

    /// Somebody has gone.
    pub fn remove(&self, id: &PublisherId) {
        if let Ok(mut known) = self.0.lock() {
            known.remove(id);
        }
    }

    /// The way to somebody.
    #[must_use]
    pub fn find(&self, id: &PublisherId) -> Option<Outlet<M>> {
        self.0.lock().ok()?.get(id).cloned()
    }
}
