//! What this program keeps on disk is for its own user: directories 0700, files 0600, whatever the umask was.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::Mode;

/// Who else may do anything with a file: its group and all others.
const OTHERS: u32 = 0o077;
/// What we keep in a data directory beside databases. A directory with anything else in it is not closed: it may be
/// everybody's, like `/tmp`.
const OURS: [&str; 6] = ["outbox", "mqtt-", "received.log", "maintenance.json", "alarms.json", "console"];

/// The umask that we were started with. A static, because the mask itself is one of the process.
static STARTED_WITH: OnceLock<Mode> = OnceLock::new();

/// Makes every file and directory that this process creates from now on its user's alone.
pub fn create_private_files() {
    let before = rustix::process::umask(Mode::from_raw_mode(OTHERS));
    STARTED_WITH.get_or_init(|| before);
}

/// The umask for programs that are not ours; none where it was not changed.
pub(super) fn umask_for_others() -> Option<Mode> {
    STARTED_WITH.get().copied()
}

/// Makes the data directory, or closes one of ours that others could enter. The answer is what a person should know.
///
/// # Errors
/// When it is not there and cannot be made.
pub fn private_directory(path: &Path) -> io::Result<Vec<String>> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let mut notes = Vec::new();
    let found = std::fs::metadata(path)?;
    let is_owner = found.uid() == rustix::process::geteuid().as_raw();
    let holds_ours_only = std::fs::read_dir(path)?.flatten().all(|entry| is_ours(&entry.file_name()));
    if found.mode() & OTHERS != 0 {
        let shown = path.display();
        let mode = found.mode() & 0o777;
        if is_owner && holds_ours_only {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
            notes.push(format!("others could enter {shown} (mode {mode:04o}): it is 0700 now"));
        } else {
            notes.push(format!(
                "others can enter {shown} (mode {mode:04o}), which also holds what is not ours: our files in it are 0600; \
                 a directory of its own would be better"
            ));
        }
    }
    let folders = [path.to_owned(), path.join("outbox")];
    let closed = folders.iter().flat_map(|folder| close_files(folder)).count();
    if closed > 0 {
        notes.push(format!("others could read {closed} files in {}: they are 0600 now", path.display()));
    }
    Ok(notes)
}

/// Whether a name in a data directory is one that we give.
fn is_ours(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.contains(".sqlite") || OURS.iter().any(|ours| name.starts_with(ours))
}

/// Files of an earlier version, or of a start with a wide umask.
fn close_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter(|entry| {
        // not followed: a link points to what may be somebody else's
        is_ours(&entry.file_name()) && entry.metadata().is_ok_and(|file| file.is_file() && file.mode() & OTHERS != 0)
    });
    let close = |path: &PathBuf| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).is_ok();
    files.map(|entry| entry.path()).filter(close).collect()
}

/// What is wrong with who may read a file with a secret, in words; none where its owner and group alone may.
#[must_use]
pub fn readable_by_everybody(path: &Path) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.mode() & 0o777;
    (mode & 0o007 != 0).then(|| {
        let path = path.display();
        format!("everybody on this machine can read the secret in {path} (mode {mode:04o}): chmod 600 {path}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_data_directory_is_made_or_closed_and_what_is_not_ours_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let new = folder.path().join("a/b");
        assert_eq!(private_directory(&new).unwrap(), Vec::<String>::new());
        assert_eq!(mode(&new), 0o700);

        for file in ["journal.sqlite", "outbox/light-1.sqlite"] {
            let file = new.join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "x").unwrap();
            set_mode(&file, 0o644);
        }
        set_mode(&new, 0o755);
        let notes = private_directory(&new).unwrap();
        assert!(notes[0].contains("0755") && notes[1].contains("2 files"), "{notes:?}");
        assert_eq!((mode(&new), mode(&new.join("outbox/light-1.sqlite"))), (0o700, 0o600));

        let shared = folder.path().join("shared");
        std::fs::create_dir(&shared).unwrap();
        for file in ["letter", "journal.sqlite"] {
            std::fs::write(shared.join(file), "x").unwrap();
            set_mode(&shared.join(file), 0o644);
        }
        set_mode(&shared, 0o777);
        let notes = private_directory(&shared).unwrap();
        assert!(notes[0].contains("not ours"), "{notes:?}");
        let modes = [&shared, &shared.join("letter"), &shared.join("journal.sqlite")].map(|path| mode(path));
        assert_eq!(modes, [0o777, 0o644, 0o600]);
    }

    #[test]
    fn a_secret_that_everybody_can_read_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        set_mode(file.path(), 0o640);
        assert_eq!(readable_by_everybody(file.path()), None);
        set_mode(file.path(), 0o644);
        assert!(readable_by_everybody(file.path()).unwrap().contains("chmod 600"));
    }
}
