//! Where everything that was found damaged on disk is said: an error line in the log, and kept for whoever asks.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Clock;
use heartwatch_domain::damage::{Damage, DamageFound};

/// Most pieces of damage that are kept; the oldest go first, and stay counted.
const KEPT_MAX: usize = 100;
/// Longest description, in characters.
const CHARS_MAX: usize = 500;

/// The damage found by one program. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct DamageLog {
    clock: Clock,
    found: Arc<Mutex<(u64, VecDeque<Damage>)>>,
}

impl Default for DamageLog {
    fn default() -> Self {
        Self::new(Clock::start())
    }
}

impl DamageLog {
    /// An empty one.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, found: Arc::default() }
    }

    /// Says what is wrong with a file.
    pub fn report(&self, file: &Path, what: &str) {
        let what: String = what.chars().take(CHARS_MAX).collect();
        let file = file.display().to_string();
        tracing::error!(file, damage = what, "damaged on disk");
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let (total, kept) = &mut *found;
        *total += 1;
        kept.push_front(Damage { at: self.clock.wall(), file, what });
        kept.truncate(KEPT_MAX);
    }

    /// Says each of these of a file.
    pub fn report_all(&self, file: &Path, damage: &[String]) {
        damage.iter().for_each(|what| self.report(file, what));
    }

    /// What was found so far.
    #[must_use]
    pub fn found(&self) -> DamageFound {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        DamageFound { total: found.0, newest: found.1.iter().cloned().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_damage_comes_first_and_the_oldest_stays_counted() {
        let log = DamageLog::default();
        let what: Vec<String> = (0..KEPT_MAX + 2).map(|number| format!("row {number}")).collect();
        log.report_all(Path::new("/data/journal.sqlite"), &what);
        let found = log.found();
        assert_eq!((found.total, found.newest.len()), (102, KEPT_MAX));
        assert_eq!((found.newest[0].file.as_str(), found.newest[0].what.as_str()), ("/data/journal.sqlite", "row 101"));
    }
}
