//! Opening an SQLite file so that nobody else writes to it and damage is found before it is believed.
//!
//! Invariants:
//! 1. One program at a time has the file open for writing (a lock file beside it, held by the kernel
//!    for as long as the program lives).
//! 2. A file that fails its check is never written to again: it is kept as `NAME.damaged-N`, and what
//!    can be read of it is copied into a new one, row by row ([`super::salvage`]).
//! 3. A crash at any point of that leaves either the damaged file or the complete new one in its place.
//! 4. A file that is not ours, or from a newer version, is an error, and is left alone.
//! 5. A file of an earlier version is copied whole into one of this version, which takes its place
//!    ([`super::upgrade`]); that is no damage.
//! 6. Rows of the tables that are [`Layout::sealed`] have a checksum each ([`super::seal`]): one that is not
//!    what was written is taken out and named.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::disk::{beside, sync_directory};
use super::layout::{BUSY_TIMEOUT, Layout, Refusal, connect, expected_schema, make_tables, schema};
use super::{salvage, seal, upgrade, write_ahead_log};

/// An open file, its lock, and what was found damaged.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) connection: Connection,
    /// Held for as long as the file is open.
    pub(super) lock: Option<File>,
    /// In words; empty when nothing was.
    pub(super) damage: Vec<String>,
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

/// Uses a freshly opened file; where it turns out to be damaged after all, salvages it and tries once more.
pub(super) fn first_use<T>(
    path: &Path,
    layout: &Layout,
    connection: Connection,
    damage: &mut Vec<String>,
    mut first_use: impl FnMut(&mut Connection, &mut Vec<String>) -> rusqlite::Result<T>,
) -> Result<(Connection, T), String> {
    let mut connection = connection;
    let known = damage.len();
    let found = match first_use(&mut connection, damage).map_err(Refusal::from) {
        Ok(used) => return Ok((connection, used)),
        Err(Refusal::Damaged(found)) => found,
        Err(Refusal::Other(reason)) => return Err(reason),
    };
    drop(connection);
    // what it had found was rolled back, and is found again
    damage.truncate(known);
    damage.push(format!("{} is damaged ({found})", path.display()));
    damage.extend(salvage::salvage(path, layout)?);
    let mut connection = open_checked(path, layout, damage)?;
    let used = first_use(&mut connection, damage).map_err(|error| error.to_string())?;
    Ok((connection, used))
}

/// Opens the file again, whose lock is held, after an error that may mean damage.
pub(super) fn open_locked(path: &Path, layout: &Layout) -> Result<(Connection, Vec<String>), String> {
    salvage::finish_interrupted(path)?;
    upgrade::finish_interrupted(path)?;
    let mut damage = Vec::new();
    damage.extend(write_ahead_log::damage(path));
    if write_ahead_log::is_orphaned(path) {
        damage.push(format!("{} is gone or empty, and its log is not", path.display()));
        damage.push(salvage::put_log_aside(path)?);
    }
    let found = match open_checked(path, layout, &mut damage) {
        Ok(connection) => {
            if !damage.is_empty() {
                // what the log has dropped is not to be found, and said, again
                let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            }
            return Ok((connection, damage));
        }
        Err(Refusal::Damaged(found)) => found,
        Err(Refusal::Other(reason)) => return Err(reason),
    };
    damage.push(format!("{} is damaged ({found})", path.display()));
    damage.extend(salvage::salvage(path, layout)?);
    match open_checked(path, layout, &mut damage) {
        Ok(connection) => Ok((connection, damage)),
        Err(Refusal::Damaged(reason) | Refusal::Other(reason)) => Err(reason),
    }
}

fn open_checked(path: &Path, layout: &Layout, damage: &mut Vec<String>) -> Result<Connection, Refusal> {
    let mut connection = connect(path)?;
    // the full check compares the indexes as well, which decide what is delivered; a file has few, large
    // rows, so that reading it is what takes the time either way
    let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(Refusal::Damaged(found.replace('\n', " ")));
    }
    match check_owner(&connection, layout)? {
        None => make_tables(&mut connection, layout)?,
        Some(version) if version < layout.version => {
            let earlier = layout.earlier.iter().find(|earlier| earlier.version == version);
            let expected = earlier.map(expected_schema).transpose()?;
            if expected != Some(schema(&connection)?) {
                return Err(Refusal::Damaged("its list of tables is not what was written".to_owned()));
            }
            drop(connection);
            upgrade::upgrade(path, layout)?;
            return open_checked(path, layout, damage);
        }
        Some(_) => {}
    }
    if schema(&connection)? != expected_schema(layout)? {
        return Err(Refusal::Damaged("its list of tables is not what was written".to_owned()));
    }
    seal::begin(&mut connection, layout, damage)?;
    Ok(connection)
}

/// A file in memory with the same tables.
pub(super) fn open_in_memory(layout: &Layout) -> Result<Opened, String> {
    let mut connection = Connection::open_in_memory().map_err(|error| error.to_string())?;
    make_tables(&mut connection, layout)?;
    seal::begin(&mut connection, layout, &mut Vec::new()).map_err(|error| error.to_string())?;
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

/// Opens a file, whose lock is held, for a look only where its disk takes nothing more: nothing is written, not even
/// beside it.
pub(super) fn open_without_writing(path: &Path, layout: &Layout) -> Result<Connection, String> {
    let look = || -> Result<Connection, Refusal> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        // the index of the log is in memory then
        connection.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
        check_owner(&connection, layout)?;
        Ok(connection)
    };
    look().map_err(String::from)
}

/// The version of the file's tables; none where it has no tables yet. A file that has exactly our tables is ours,
/// whatever its marks say: then they are what has changed.
fn check_owner(connection: &Connection, layout: &Layout) -> Result<Option<i32>, Refusal> {
    let read = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let found = schema(connection)?;
    let (application_id, version) = (read("application_id")?, read("user_version")?);
    let (known, what) = (layout.version, layout.what);
    if application_id == layout.application_id && (1..=known).contains(&version) {
        return Ok(Some(version));
    }
    if found.is_empty() && application_id == 0 {
        return Ok(None);
    }
    for layout in layout.versions() {
        if found == expected_schema(layout)? {
            return Err(Refusal::Damaged("the marks of whose file it is are not what was written".to_owned()));
        }
    }
    if application_id != layout.application_id {
        return Err(Refusal::Other(format!("the file is an SQLite database, but not {what} of heartwatch")));
    }
    if version > known {
        let text = format!("{what} has version {version}, this heartwatch knows up to {known}: use a newer heartwatch");
        return Err(Refusal::Other(text));
    }
    Err(Refusal::Damaged("its version is not what was written".to_owned()))
}

/// How often a lock is tried, and after what time again.
const LOCK_ATTEMPTS_MAX: u32 = 20;
const LOCK_RETRY: std::time::Duration = std::time::Duration::from_millis(10);

/// Who uses a file, in words; none where nobody does. No lock is kept.
pub(super) fn is_in_use(path: &Path) -> Option<String> {
    if !beside(path, ".lock").exists() {
        return None;
    }
    take_lock(path).err()
}

fn take_lock(path: &Path) -> Result<File, String> {
    let lock_path = beside(path, ".lock");
    let failed = |error: std::io::Error| format!("cannot lock {}: {error}", lock_path.display());
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(&lock_path).map_err(failed)?;
    match try_lock(&file) {
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

/// Takes the lock, or says that another one has it. A process that is being started shares the descriptors of the one that
/// starts it until it runs its own program: what that one has just closed is locked for as long.
fn try_lock(file: &File) -> Result<(), fs::TryLockError> {
    for _ in 1..LOCK_ATTEMPTS_MAX {
        match file.try_lock() {
            Err(fs::TryLockError::WouldBlock) => wait_a_moment(),
            answer => return answer,
        }
    }
    file.try_lock()
}

#[expect(clippy::disallowed_methods, reason = "opening a file blocks in any case, and this happens at a start only")]
fn wait_a_moment() {
    std::thread::sleep(LOCK_RETRY);
}
