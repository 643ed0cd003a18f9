//! How full the bounded queues are. Whoever makes one adds it; `/metrics` shows them all.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

/// The queues of one program. Clones are handles to the same ones.
#[derive(Clone, Default)]
pub struct Queues {
    entries: Arc<Mutex<Vec<Entry>>>,
}

struct Entry {
    queue: &'static str,
    entries_max: u64,
    /// None when the queue is gone.
    depth: Box<dyn Fn() -> Option<u64> + Send>,
}

/// One queue at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Its name.
    pub queue: &'static str,
    /// What waits in it.
    pub entries: u64,
    /// How much may wait in it.
    pub entries_max: u64,
}

impl Queues {
    /// Adds a queue that says itself how full it is, until it answers that it is gone.
    pub fn add(&self, queue: &'static str, entries_max: u64, depth: impl Fn() -> Option<u64> + Send + 'static) {
        self.entries().push(Entry { queue, entries_max, depth: Box::new(depth) });
    }

    /// Adds a channel, for as long as somebody can send to it; it is not kept open.
    pub fn add_channel<T: Send + 'static>(&self, queue: &'static str, sender: &mpsc::Sender<T>) {
        let entries_max = sender.max_capacity() as u64;
        let sender = sender.downgrade();
        self.add(queue, entries_max, move || {
            sender.upgrade().map(|sender| (sender.max_capacity() - sender.capacity()) as u64)
        });
    }

    /// Every queue at this moment; those that are gone are forgotten.
    #[must_use]
    pub fn depths(&self) -> Vec<Depth> {
        let mut depths = Vec::new();
        self.entries().retain(|entry| {
            let depth = (entry.depth)();
            let Entry { queue, entries_max, .. } = *entry;
            depths.extend(depth.map(|entries| Depth { queue, entries, entries_max }));
            depth.is_some()
        });
        depths
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.depths()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_says_how_full_it_is_until_it_is_gone() {
        let queues = Queues::default();
        let (sender, _end) = mpsc::channel(3);
        queues.add_channel("letters", &sender);
        sender.try_send("a").unwrap();
        sender.try_send("b").unwrap();
        assert_eq!(queues.depths(), [Depth { queue: "letters", entries: 2, entries_max: 3 }]);
        drop(sender);
        assert_eq!(queues.depths(), []);
    }
}
