//! Two sessions of ours that are subscribed at the same time: a message comes over both. What came over the new one is
//! noted here by its content, so that it is known when the old one is emptied.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most different contents that are noted. Beyond it a message is taken for another one.
const CONTENTS_MAX: usize = 1 << 16;

/// What came over a session while another one of ours was subscribed as well. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Overlap(Arc<Mutex<Option<Contents>>>);

/// How often a message came, by its content.
type Contents = HashMap<u64, usize>;

/// It is no setting: two configurations are the same whatever came over their connections.
impl PartialEq for Overlap {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Overlap {}

impl Overlap {
    /// Notes what comes over the connection that has it in its configuration.
    #[must_use]
    pub fn noting() -> Self {
        Self(Arc::new(Mutex::new(Some(Contents::new()))))
    }

    /// The other session is over: nothing is noted any more.
    pub fn end(&self) {
        self.contents().take();
    }

    /// A message came.
    pub(super) fn note(&self, content: u64) {
        if let Some(contents) = self.contents().as_mut()
            && (contents.len() < CONTENTS_MAX || contents.contains_key(&content))
        {
            *contents.entry(content).or_default() += 1;
        }
    }

    /// Whether a message of this content came that is not the copy of another one yet.
    #[must_use]
    pub fn take(&self, content: u64) -> bool {
        self.contents().as_mut().is_some_and(|contents| {
            let Some(times) = contents.get_mut(&content).filter(|times| **times > 0) else { return false };
            *times -= 1;
            true
        })
    }

    fn contents(&self) -> MutexGuard<'_, Option<Contents>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_that_came_has_one_copy() {
        let overlap = Overlap::noting();
        for content in [5, 5, 6] {
            overlap.note(content);
        }
        assert_eq!([5, 5, 5, 6, 7].map(|content| overlap.take(content)), [true, true, false, true, false]);
        overlap.note(5);
        overlap.end();
        assert!(!overlap.take(5), "it is over");
        let none = Overlap::default();
        none.note(5);
        assert!(!none.take(5));
    }
}
