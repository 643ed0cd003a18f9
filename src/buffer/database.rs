//! Opening an SQLite file so that nobody else writes to it and damage is found before it is believed.
//!
//! Invariants:
//! 1. One program at a time has the file open for writing (a lock file beside it, held by the kernel
//!    for as long as the program lives).
//! 2. A file that fails its check is never written to again: it is kept as `NAME.damaged-N`, and what
//!    can be read of it is copied into a new one, row by row ([`super::salvage`]).
//! 3. A crash at any point of that leaves either the damaged file or the complete new one in its place.
//! 4. A file that is not ours, or from a newer version, is an error, and is left alone.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{salvage, write_ahead_log};

/// What the tables of one kind of file are.
#[derive(Debug)]
pub(super) struct Layout {
    /// What the file is called in messages.
    pub(super) what: &'static str,
    /// SQLite's mark for whose file it is.
    pub(super) application_id: i32,
    /// Version of the tables.
    pub(super) version: i32,
    /// The statements that make them.
    pub(super) create: &'static str,
    /// The tables to save from a damaged file; each has an integer primary key.
    pub(super) tables: &'static [&'static str],
}

/// An open file, its lock, and what was found damaged.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) connection: Connection,
    /// Held for as long as the file is open.
    pub(super) lock: Option<File>,
    /// In words; empty when nothing was.
    pub(super) damage: Vec<String>,
}

/// The path with more text at its end: `journal.sqlite` and `-wal`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Takes the lock and opens or makes the file.
pub(super) fn open(path: &Path, layout: &Layout) -> Result<Opened, String> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory)
        .map_err(|error| format!("cannot make the directory {}: {error}", directory.display()))?;
    let lock = take_lock(path)?;
    let (connection, damage) = open_locked(path, layout)?;
    sync_directory(path);
    Ok(Opened { connection, lock: Some(lock), damage })
}

/// Opens the file again, whose lock is held, after an error that may mean damage.
pub(super) fn open_locked(path: &Path, layout: &Layout) -> Result<(Connection, Vec<String>), String> {
    salvage::finish_interrupted(path)?;
    let mut damage = Vec::new();
    damage.extend(write_ahead_log::damage(path));
    let found = match connect(path) {
        Ok(connection) => match find_damage(&connection) {
            Ok(None) => Ok(connection),
            Ok(Some(found)) => Err(found),
            Err(error) => Err(damage_or_error(&error)?),
        },
        Err(error) => Err(damage_or_error(&error)?),
    };
    let mut connection = match found {
        Ok(connection) => connection,
        Err(found) => {
            damage.push(format!("{} is damaged ({found})", path.display()));
            damage.extend(salvage::salvage(path, layout)?);
            connect(path).map_err(|error| error.to_string())?
        }
    };
    make_tables(&mut connection, layout)?;
    Ok((connection, damage))
}

/// A file in memory with the same tables.
pub(super) fn open_in_memory(layout: &Layout) -> Result<Opened, String> {
    let mut connection = Connection::open_in_memory().map_err(|error| error.to_string())?;
    make_tables(&mut connection, layout)?;
    Ok(Opened { connection, lock: None, damage: Vec::new() })
}

/// Opens a file for reading only, also while its owner writes to it.
pub(super) fn open_read_only(path: &Path, layout: &Layout) -> Result<Connection, String> {
    if !path.exists() {
        return Err("there is no such file".to_owned());
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| error.to_string())?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(|error| error.to_string())?;
    check_owner(&connection, layout)?;
    Ok(connection)
}

/// Makes the tables in a new file; refuses a file that is not ours.
pub(super) fn make_tables(connection: &mut Connection, layout: &Layout) -> Result<(), String> {
    check_owner(connection, layout)?;
    let transaction = connection.transaction().map_err(|error| error.to_string())?;
    transaction
        .execute_batch(layout.create)
        .and_then(|()| transaction.pragma_update(None, "application_id", layout.application_id))
        .and_then(|()| transaction.pragma_update(None, "user_version", layout.version))
        .and_then(|()| transaction.commit())
        .map_err(|error| error.to_string())
}

/// Opens without any check, with every commit synced to disk.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT_MAX)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// How long a reader is waited for where SQLite needs the file for itself.
const BUSY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
/// A write-ahead log that grew beyond this is cut back once it is in the file.
const WAL_BYTES_KEPT_MAX: i64 = 64 * 1024 * 1024;

fn check_owner(connection: &Connection, layout: &Layout) -> Result<(), String> {
    let read = |name: &str| {
        connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(|error| error.to_string())
    };
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(|error| error.to_string())?;
    let (application_id, version) = (read("application_id")?, read("user_version")?);
    if application_id != layout.application_id && (application_id != 0 || tables > 0) {
        return Err(format!("the file is an SQLite database, but not {} of heartwatch", layout.what));
    }
    if version > layout.version {
        let (known, what) = (layout.version, layout.what);
        return Err(format!(
            "{what} has version {version}, this heartwatch knows up to {known}: use a newer heartwatch"
        ));
    }
    Ok(())
}

/// What SQLite's check finds first. The full check compares the indexes as well, which decide what is
/// delivered; a file has few large rows, so that reading it is what takes the time either way.
fn find_damage(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    Ok((found != "ok").then_some(found.replace('\n', " ")))
}

/// Whether an SQLite error means that bytes have changed under it.
pub(super) fn means_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn damage_or_error(error: &rusqlite::Error) -> Result<String, String> {
    if means_damage(error) { Ok(error.to_string()) } else { Err(error.to_string()) }
}

fn take_lock(path: &Path) -> Result<File, String> {
    let lock_path = beside(path, ".lock");
    let failed = |error: std::io::Error| format!("cannot lock {}: {error}", lock_path.display());
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(&lock_path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = Read::by_ref(&mut file).take(20).read_to_string(&mut holder);
            return Err(format!("it is in use by process {}: give this one another data directory", holder.trim()));
        }
        Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
    }
    // only to name the holder in the message above; the lock itself is the kernel's
    let _ = file
        .set_len(0)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .and_then(|_| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

/// Makes renames and new files in the directory durable.
pub(super) fn sync_directory(path: &Path) {
    if let Some(directory) = path.parent()
        && let Err(error) = File::open(directory).and_then(|directory| directory.sync_all())
    {
        tracing::debug!(directory = %directory.display(), %error, "the directory cannot be synced");
    }
}
