//! When everybody was heard last, in a small file: a restart of the monitor forgets nobody.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::text_file;
use heartwatch_domain::last_seen::LastSeen;
use heartwatch_ports::KeepLastSeen;
use heartwatch_system::damage_log::DamageLog;

/// Largest file that is read, in bytes: a million publishers with the longest names.
const FILE_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// The file. It is always written whole, beside the old one, and put in its place when it is synced.
#[derive(Debug)]
pub struct LastSeenFile {
    path: PathBuf,
    /// Whether the last word is written: what comes late does not take its place.
    ended: Mutex<bool>,
}

impl LastSeenFile {
    /// The file at this path, and what an earlier run has left in it. One that cannot be read is named and left out.
    #[must_use]
    pub fn open(path: &Path, damage: &DamageLog) -> (Self, Option<LastSeen>) {
        let last_seen = read(path).unwrap_or_else(|reason| {
            damage.report(path, &format!("when publishers were heard last cannot be read: {reason}"));
            None
        });
        (Self { path: path.to_owned(), ended: Mutex::new(false) }, last_seen)
    }
}

fn read(path: &Path) -> Result<Option<LastSeen>, String> {
    let Some(text) = text_file::read(path, FILE_BYTES_MAX)? else { return Ok(None) };
    serde_json::from_slice(&text).map(Some).map_err(|error| error.to_string())
}

impl KeepLastSeen for LastSeenFile {
    fn keep(&self, last_seen: &LastSeen) -> Result<(), String> {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if *ended {
            return Ok(());
        }
        let text = serde_json::to_vec(last_seen).map_err(|error| error.to_string())?;
        text_file::write(&self.path, &text)
            .map_err(|error| format!("cannot write {}: {error}", self.path.display()))?;
        *ended = last_seen.in_order;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use heartwatch_domain::publisher::PublisherId;
    use heartwatch_domain::time::Timestamp;

    #[test]
    fn it_survives_and_nothing_takes_the_place_of_the_last_word() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("last-seen.json");
        let damage = DamageLog::default();
        let (file, before) = LastSeenFile::open(&path, &damage);
        assert_eq!(before, None);
        let light = PublisherId::parse("light").unwrap();
        let seen = |at: i64, in_order| LastSeen {
            at: Timestamp::from_nanos(at * 1_000_000_000),
            in_order,
            heard: BTreeMap::from([(light.clone(), Timestamp::from_nanos(at * 1_000_000_000))]),
            notified: BTreeMap::new(),
            left_with_monitor: vec![light.clone()],
        };
        for (written, stands) in [(seen(1, false), 1), (seen(2, true), 2), (seen(3, false), 2)] {
            file.keep(&written).unwrap();
            let read = LastSeenFile::open(&path, &damage).1.unwrap();
            assert_eq!(read, seen(stands, stands == 2));
        }
        assert_eq!(damage.found().total, 0);
        std::fs::write(&path, "{ not json").unwrap();
        assert_eq!(LastSeenFile::open(&path, &damage).1, None);
        assert_eq!(damage.found().total, 1);
    }
}
