//! A copy of a data directory, taken while it is in use, and put back.
//!
//! An SQLite file is copied by SQLite itself (its backup API, <https://www.sqlite.org/backup.html>) in one read transaction: the
//! copy is what the file held at one commit. Small files are copied as they are; each is replaced whole by whoever
//! writes it. The witness beside the journal is copied after it: what it knows and the copy does not have was not in the
//! copy, and is named lost when that is put back. A list with a checksum of each file is written last: a copy
//! without it is not whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::database::is_in_use;
use crate::disk::sync_directory;
use crate::text_file;

/// The list of a copy's files.
pub const LIST: &str = "backup.json";
/// Largest list that is read, in bytes.
const LIST_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How much of a file is read at once, in bytes.
const PIECE_BYTES: usize = 1024 * 1024;
/// The form of the list.
const VERSION: u32 = 1;
/// What only its user may read, write and enter.
const OWNER_ONLY: u32 = 0o700;
/// How long a file may be locked by whoever writes to it.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// What an SQLite file begins with (<https://www.sqlite.org/fileformat2.html#magic_header_string>).
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";
/// Ends of names of files that belong to a running process, or that were kept because they are damaged.
const LEFT_OUT: [&str; 4] = [".lock", "-wal", "-shm", "-journal"];
/// Ends of names of files that tell what the file beside them held after its last commit.
const WITNESSES: [&str; 2] = [".witness", ".last"];

/// What a copy holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupList {
    /// The form of this list.
    pub version: u32,
    /// Which heartwatch has made it.
    pub heartwatch: String,
    /// When, in RFC 3339.
    pub made: String,
    /// Each file by its path within the data directory.
    pub files: BTreeMap<String, BackedUpFile>,
}

/// One file of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackedUpFile {
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its content, in hexadecimal.
    pub sha256: String,
}

/// Why there is no copy, or why it is not put back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file cannot be read or written.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// There is something already where the copy should go.
    #[error("{} is not empty: name a new directory", .0.display())]
    NotEmpty(PathBuf),
    /// The data directory is not one, or this is no copy of one.
    #[error("{}: {what}", path.display())]
    NoBackup {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Somebody uses the data directory.
    #[error("{}: {holder}: stop it first (a backup can be made while it runs, and not be put back)", path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// Who.
        holder: String,
    },
}

fn failed(path: &Path) -> impl Fn(io::Error) -> BackupError {
    move |error| BackupError::File { path: path.to_owned(), reason: error.to_string() }
}

/// Copies a data directory to a new one, also while it is in use. `told` hears of each file.
///
/// # Errors
/// [`BackupError`]; what was copied so far stays, without a list.
pub fn backup(
    data_dir: &Path,
    to: &Path,
    (heartwatch, made): (&str, &str),
    told: &mut dyn FnMut(&str, u64),
) -> Result<BackupList, BackupError> {
    let mut names = Vec::new();
    collect(data_dir, Path::new(""), to, &mut names)?;
    if names.is_empty() {
        let what = "there is no data of heartwatch: name the monitor's --data-dir".to_owned();
        return Err(BackupError::NoBackup { path: data_dir.to_owned(), what });
    }
    if fs::read_dir(to).is_ok_and(|mut files| files.next().is_some()) {
        return Err(BackupError::NotEmpty(to.to_owned()));
    }
    // what knows of commits comes after what was committed, and what reads the journal before it
    names.sort_by_key(|name| (is_witness(name), name.ends_with("journal.sqlite"), name.clone()));
    let mut files = BTreeMap::new();
    for name in names {
        let (from, copy) = (data_dir.join(&name), to.join(&name));
        let folder = copy.parent().unwrap_or(to);
        fs::DirBuilder::new().recursive(true).mode(OWNER_ONLY).create(folder).map_err(failed(folder))?;
        match copy_one(&from, &copy) {
            // what was there a moment ago may have been delivered and removed since
            Err(_) if !from.exists() => continue,
            copied => copied?,
        }
        let file = describe(&copy)?;
        told(&name, file.bytes);
        files.insert(name, file);
    }
    let list = BackupList { version: VERSION, heartwatch: heartwatch.to_owned(), made: made.to_owned(), files };
    let path = to.join(LIST);
    let text = serde_json::to_vec_pretty(&list).map_err(|error| failed(&path)(io::Error::other(error)))?;
    text_file::write(&path, &text).map_err(failed(&path))?;
    Ok(list)
}

/// Reads a copy's list and compares each file with it.
///
/// # Errors
/// [`BackupError::NoBackup`] with the first file that is not what was written.
pub fn verify(from: &Path) -> Result<BackupList, BackupError> {
    let wrong = |what: String| BackupError::NoBackup { path: from.to_owned(), what };
    let text = text_file::read(&from.join(LIST), LIST_BYTES_MAX).map_err(|error| wrong(format!("{LIST}: {error}")))?;
    let text = text.ok_or_else(|| wrong(format!("this is no whole backup: it has no {LIST}")))?;
    let list: BackupList =
        serde_json::from_slice(&text).map_err(|error| wrong(format!("{LIST} cannot be read: {error}")))?;
    if list.version > VERSION {
        return Err(wrong(format!("it was made by heartwatch {}: use that or a newer one", list.heartwatch)));
    }
    for (name, noted) in &list.files {
        let is_inside = Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if !is_inside {
            return Err(wrong(format!("{LIST} names '{name}', which is not inside")));
        }
        let path = from.join(name);
        if !path.is_file() {
            return Err(wrong(format!("{name} is missing")));
        }
        if describe(&path)? != *noted {
            return Err(wrong(format!("{name} is not what was written: its checksum is another one")));
        }
    }
    Ok(list)
}

/// Puts a copy back as the data directory. What is there is moved aside first; its witnesses stay, so that rows which were
/// safe after the copy was made are named lost. Answers where it was moved to.
///
/// # Errors
/// [`BackupError`]; nothing is changed unless the copy is whole and nobody uses the data directory.
pub fn restore(from: &Path, data_dir: &Path, suffix: &str) -> Result<(BackupList, Option<PathBuf>), BackupError> {
    let list = verify(from)?;
    if let Some(holder) = holder(data_dir) {
        return Err(BackupError::InUse { path: data_dir.to_owned(), holder });
    }
    let had_something = fs::read_dir(data_dir).is_ok_and(|mut files| files.next().is_some());
    let aside = had_something.then(|| PathBuf::from(format!("{}.{suffix}", data_dir.display())));
    if let Some(aside) = &aside {
        fs::rename(data_dir, aside).map_err(failed(data_dir))?;
    }
    for name in list.files.keys() {
        let (copy, path) = (from.join(name), data_dir.join(name));
        let folder = path.parent().unwrap_or(data_dir);
        fs::DirBuilder::new().recursive(true).mode(OWNER_ONLY).create(folder).map_err(failed(folder))?;
        let newer =
            aside.as_ref().filter(|_| is_witness(name)).map(|aside| aside.join(name)).filter(|path| path.is_file());
        copy_plain(newer.as_ref().unwrap_or(&copy), &path)?;
    }
    sync_directory(&data_dir.join(LIST));
    Ok((list, aside))
}

/// Who uses a file of this directory: the monitor its journal, a publisher its outbox.
fn holder(data_dir: &Path) -> Option<String> {
    fs::read_dir(data_dir).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        match path.to_str()?.strip_suffix(".lock") {
            _ if path.is_dir() => holder(&path),
            Some(locked) => is_in_use(Path::new(locked)),
            None => None,
        }
    })
}

fn is_witness(name: &str) -> bool {
    WITNESSES.iter().any(|end| name.ends_with(end))
}

/// The names of the files to copy, without those of the copy itself where it goes below.
fn collect(root: &Path, below: &Path, to: &Path, names: &mut Vec<String>) -> Result<(), BackupError> {
    let folder = root.join(below);
    for entry in fs::read_dir(&folder).map_err(failed(&folder))? {
        let entry = entry.map_err(failed(&folder))?;
        let (name, kind) = (entry.file_name(), entry.file_type().map_err(failed(&folder))?);
        let path = below.join(&name);
        if kind.is_dir() && std::path::absolute(entry.path()).ok() != std::path::absolute(to).ok() {
            collect(root, &path, to, names)?;
        } else if kind.is_file() {
            let shown = path.to_string_lossy().into_owned();
            let is_damaged = name.to_string_lossy().contains(".damaged-");
            if !is_damaged && !LEFT_OUT.iter().any(|end| shown.ends_with(end)) {
                names.push(shown);
            }
        }
    }
    Ok(())
}

fn copy_one(from: &Path, to: &Path) -> Result<(), BackupError> {
    let mut magic = [0; SQLITE_MAGIC.len()];
    let is_sqlite = File::open(from).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == SQLITE_MAGIC;
    if is_sqlite { copy_database(from, to) } else { copy_plain(from, to) }
}

fn copy_plain(from: &Path, to: &Path) -> Result<(), BackupError> {
    fs::copy(from, to).map_err(failed(from))?;
    // with the rights of the original; a copy without a name that survives a power failure is none
    File::open(to).and_then(|file| file.sync_all()).map_err(failed(to))?;
    sync_directory(to);
    Ok(())
}

fn copy_database(from: &Path, to: &Path) -> Result<(), BackupError> {
    let refused = |error: rusqlite::Error| BackupError::File { path: from.to_owned(), reason: error.to_string() };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(from, flags).map_err(refused)?;
    source.busy_timeout(BUSY_TIMEOUT).map_err(refused)?;
    let mut copy = Connection::open(to).map_err(refused)?;
    // all pages in one step: one read transaction, which a writer does not disturb
    Backup::new(&source, &mut copy).and_then(|backup| backup.step(-1)).map_err(refused)?;
    let found: String = copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(refused)?;
    if found != "ok" {
        return Err(BackupError::File { path: from.to_owned(), reason: format!("the file is damaged: {found}") });
    }
    drop(copy);
    let rights = fs::metadata(from).map_err(failed(from))?.permissions().mode();
    fs::set_permissions(to, fs::Permissions::from_mode(rights)).map_err(failed(to))?;
    File::open(to).and_then(|file| file.sync_all()).map_err(failed(to))?;
    sync_directory(to);
    Ok(())
}

fn describe(path: &Path) -> Result<BackedUpFile, BackupError> {
    let mut file = File::open(path).map_err(failed(path))?;
    let (mut hash, mut bytes, mut piece) = (Sha256::new(), 0, vec![0; PIECE_BYTES]);
    loop {
        let read = file.read(&mut piece).map_err(failed(path))?;
        let Some(piece) = piece.get(..read).filter(|piece| !piece.is_empty()) else { break };
        hash.update(piece);
        bytes += read as u64;
    }
    let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(BackedUpFile { bytes, sha256 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(data: &Path, to: &Path) -> Result<BackupList, BackupError> {
        backup(data, to, ("0", "2026-11-30T00:00:00Z"), &mut |_, _| {})
    }

    #[test]
    fn a_copy_is_what_was_there_at_one_commit_while_somebody_writes_and_comes_back() {
        let place = tempfile::tempdir().unwrap();
        let (data, copy) = (place.path().join("data"), place.path().join("copy"));
        fs::create_dir_all(data.join("outbox")).unwrap();
        let writer = Connection::open(data.join("outbox/a.sqlite")).unwrap();
        writer.execute_batch("PRAGMA journal_mode = WAL; PRAGMA user_version = 7; CREATE TABLE t (n INTEGER)").unwrap();
        writer.execute("INSERT INTO t VALUES (1)", []).unwrap();
        fs::write(data.join("alarms.json"), "{}").unwrap();
        fs::write(data.join("journal.sqlite.lock"), "1").unwrap();
        writer.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (2)").unwrap();
        let list = made(&data, &copy).unwrap();
        writer.execute_batch("COMMIT").unwrap();
        assert_eq!(list.files.keys().collect::<Vec<_>>(), ["alarms.json", "outbox/a.sqlite"]);
        assert!(matches!(made(&data, &copy), Err(BackupError::NotEmpty(_))));

        drop(writer);
        let (_, aside) = restore(&copy, &data, "before").unwrap();
        assert!(aside.unwrap().join("alarms.json").is_file());
        let back = Connection::open(data.join("outbox/a.sqlite")).unwrap();
        let rows: i64 = back.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        let version: i64 = back.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!((rows, version), (1, 7));
    }

    #[test]
    fn a_copy_that_is_not_whole_is_refused_and_changes_nothing() {
        let place = tempfile::tempdir().unwrap();
        let (data, copy) = (place.path().join("data"), place.path().join("copy"));
        fs::create_dir_all(&data).unwrap();
        assert!(matches!(made(&data, &copy), Err(BackupError::NoBackup { .. })));
        fs::write(data.join("alarms.json"), "{}").unwrap();
        made(&data, &copy).unwrap();
        fs::write(data.join("alarms.json"), "newer").unwrap();
        let refused = |says: &str| {
            let error = restore(&copy, &data, "before").unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
            assert_eq!(fs::read_to_string(data.join("alarms.json")).unwrap(), "newer");
        };
        fs::write(copy.join("alarms.json"), "[]").unwrap();
        refused("its checksum is another one");
        fs::remove_file(copy.join("alarms.json")).unwrap();
        refused("is missing");
        let list = r#"{"version":1,"heartwatch":"0","made":"","files":{"../x":{"bytes":0,"sha256":""}}}"#;
        fs::write(copy.join(LIST), list).unwrap();
        refused("not inside");
        fs::write(copy.join(LIST), list.replace("\"version\":1", "\"version\":9")).unwrap();
        refused("a newer one");
        fs::remove_file(copy.join(LIST)).unwrap();
        refused("no whole backup");
    }
}
