//! The maintenance windows that were opened by command, in a small file: they survive a restart.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::text_file;
use heartwatch_domain::maintenance::Window;
use heartwatch_ports::KeepMaintenance;
use heartwatch_system::damage_log::DamageLog;

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The file. It is always written whole, beside the old one, and put in its place when it is synced.
#[derive(Debug)]
pub struct MaintenanceFile {
    path: PathBuf,
    written_revision: Mutex<u64>,
}

impl MaintenanceFile {
    /// The file at this path, and what is in it. One that cannot be read is named and left out: the
    /// monitor is better awake than quiet.
    #[must_use]
    pub fn open(path: &Path, damage: &DamageLog) -> (Self, Vec<Window>) {
        let windows = read(path).unwrap_or_else(|reason| {
            damage.report(path, &format!("the maintenance windows cannot be read, none is open: {reason}"));
            Vec::new()
        });
        (Self { path: path.to_owned(), written_revision: Mutex::new(0) }, windows)
    }
}

fn read(path: &Path) -> Result<Vec<Window>, String> {
    let Some(text) = text_file::read(path, FILE_BYTES_MAX)? else { return Ok(Vec::new()) };
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}

impl KeepMaintenance for MaintenanceFile {
    fn keep(&self, revision: u64, windows: &[Window]) -> Result<(), String> {
        let mut written = self.written_revision.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if revision <= *written {
            return Ok(());
        }
        let text = serde_json::to_vec_pretty(windows).map_err(|error| error.to_string())?;
        text_file::write(&self.path, &text)
            .map_err(|error| format!("cannot write {}: {error}", self.path.display()))?;
        *written = revision;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heartwatch_domain::deadline::IdPattern;
    use heartwatch_domain::time::Timestamp;

    #[test]
    fn windows_survive_and_an_older_list_never_replaces_a_newer_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("maintenance.json");
        let damage = DamageLog::default();
        let (file, windows) = MaintenanceFile::open(&path, &damage);
        assert_eq!(windows, []);
        let window = Window {
            publisher: IdPattern::new("light-*"),
            from: Timestamp::from_nanos(0),
            to: Timestamp::from_nanos(1_000_000_000),
            reason: "new disk".to_owned(),
        };
        file.keep(2, std::slice::from_ref(&window)).unwrap();
        file.keep(1, &[]).unwrap();
        assert_eq!(MaintenanceFile::open(&path, &damage).1, [window]);
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, whole.replace("new disk", "old disk")).unwrap();
        assert_eq!(MaintenanceFile::open(&path, &damage).1, [], "a window that was never opened");
        std::fs::write(&path, "{ not json").unwrap();
        assert_eq!(MaintenanceFile::open(&path, &damage).1, [], "a damaged file opens no window");
        assert_eq!(damage.found().total, 2);
    }
}
