//! The maintenance windows that were opened by command, in a small file: they survive a restart.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::domain::maintenance::Window;
use crate::ports::KeepMaintenance;

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
    pub fn open(path: &Path) -> (Self, Vec<Window>) {
        let windows = match read(path) {
            Ok(windows) => windows,
            Err(reason) => {
                tracing::error!(path = %path.display(), reason, "the maintenance windows cannot be read: none is open");
                Vec::new()
            }
        };
        (Self { path: path.to_owned(), written_revision: Mutex::new(0) }, windows)
    }
}

fn read(path: &Path) -> Result<Vec<Window>, String> {
    let size = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.to_string()),
    };
    if size > FILE_BYTES_MAX {
        return Err(format!("it has more than {FILE_BYTES_MAX} bytes"));
    }
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}

impl KeepMaintenance for MaintenanceFile {
    fn keep(&self, revision: u64, windows: &[Window]) -> Result<(), String> {
        let mut written = self.written_revision.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if revision <= *written {
            return Ok(());
        }
        let failed = |error: std::io::Error| format!("cannot write {}: {error}", self.path.display());
        let text = serde_json::to_vec_pretty(windows).map_err(|error| error.to_string())?;
        let beside = self.path.with_extension("json.new");
        let mut file = std::fs::File::create(&beside).map_err(failed)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&beside, &self.path).map_err(failed)?;
        if let Some(directory) = self.path.parent() {
            let _ = std::fs::File::open(directory).and_then(|directory| directory.sync_all());
        }
        *written = revision;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::deadline::IdPattern;
    use crate::domain::time::Timestamp;

    #[test]
    fn windows_survive_and_an_older_list_never_replaces_a_newer_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("maintenance.json");
        let (file, windows) = MaintenanceFile::open(&path);
        assert_eq!(windows, []);
        let window = Window {
            publisher: IdPattern::new("light-*"),
            from: Timestamp::from_nanos(0),
            to: Timestamp::from_nanos(1_000_000_000),
            reason: "new disk".to_owned(),
        };
        file.keep(2, std::slice::from_ref(&window)).unwrap();
        file.keep(1, &[]).unwrap();
        assert_eq!(MaintenanceFile::open(&path).1, [window]);
        std::fs::write(&path, "{ not json").unwrap();
        assert_eq!(MaintenanceFile::open(&path).1, [], "a damaged file opens no window");
    }
}
