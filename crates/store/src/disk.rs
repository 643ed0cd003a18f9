//! Files and their directory: names beside one, what makes a rename durable, and a disk that takes nothing more, which is waited for.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Bytes that opening a file needs on its disk, about.
const NEEDED_BYTES: u64 = 1 << 20;
/// Largest files that are named.
const FILES_NAMED_MAX: usize = 3;
/// Entries of a directory that are looked at.
const ENTRIES_MAX: usize = 10_000;
/// What the system and SQLite say of a disk that is full or only to be read, or of a limit on it.
const WORDS: [&str; 6] =
    ["disk is full", "No space left", "quota", "Read-only file system", "readonly database", "File too large"];

/// Whether a file at this path can't be used only because its disk takes nothing more, and what helps then.
pub(super) fn waits_for(path: &Path, reason: &str) -> Option<String> {
    let directory = path.ancestors().skip(1).find(|directory| directory.is_dir()).unwrap_or(Path::new("."));
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    // what is no disk, as /proc, has no blocks
    let disk = rustix::fs::statvfs(directory).ok().filter(|disk| disk.f_blocks > 0);
    let free = disk.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    let is_full = free.is_some_and(|free| free < NEEDED_BYTES);
    if !is_full && !WORDS.iter().any(|words| reason.contains(words)) {
        return None;
    }
    let free = free.map_or_else(|| "an unknown number of".to_owned(), |free| free.to_string());
    let name = path.display();
    let mut advice = format!(
        "{name} cannot be used ({reason}): {free} bytes are free on the disk of {}, about {NEEDED_BYTES} are needed; free some, it goes on by itself",
        directory.display()
    );
    let largest = largest_files(directory);
    if !largest.is_empty() {
        advice.push_str(&format!("; the largest files there: {}", largest.join(", ")));
    }
    Some(advice)
}

fn largest_files(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<(u64, String)> = entries
        .take(ENTRIES_MAX)
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some((metadata.len(), entry.file_name().to_string_lossy().into_owned()))
        })
        .collect();
    files.sort_unstable_by(|a, b| b.cmp(a));
    files.truncate(FILES_NAMED_MAX);
    files.into_iter().filter(|(bytes, _)| *bytes > 0).map(|(bytes, name)| format!("{name} ({bytes} bytes)")).collect()
}

/// The path with more text at its end: `journal.sqlite` and `-wal`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Makes renames and new files in the directory durable.
pub(super) fn sync_directory(path: &Path) {
    if let Some(directory) = path.parent()
        && let Err(error) = File::open(directory).and_then(|directory| directory.sync_all())
    {
        tracing::debug!(directory = %directory.display(), %error, "the directory cannot be synced");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_disk_that_takes_nothing_more_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("large.csv"), [b'x'; 100]).unwrap();
        let path = directory.path().join("journal.sqlite");
        let advice = waits_for(&path, "database or disk is full").unwrap();
        assert!(advice.contains("journal.sqlite") && advice.contains("large.csv (100 bytes)"), "{advice}");
        assert_eq!(waits_for(&path, "it is in use by process 7"), None);
    }
}
