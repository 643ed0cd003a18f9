//! The auditor's own reading of an outbox. It gives up on no file: what it cannot know it says.
//!
//! What the program makes of a damaged file is what is examined here, so none of its code reads it: a copy is opened
//! with SQLite alone, and each table is read from both of its ends up to what cannot be read. Only where not even that
//! is possible does the program's own salvage work on the copy.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Row};

use heartwatch_domain::publisher::Incarnation;
use heartwatch_domain::reading::Sequence;
use heartwatch_store::outbox::{FullPolicy, Outbox, OutboxConfig};

/// How long a publisher that writes is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What an outbox holds, as far as it can be read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct OutboxFile {
    /// Lives, with the last number that each has kept.
    pub lives: BTreeMap<Incarnation, Sequence>,
    /// Readings that wait for confirmation: how many of each life.
    pub waiting: BTreeMap<Incarnation, u64>,
    /// Ranges given up that the monitor has not been told of.
    pub given_up: u64,
    /// What could not be read, in words; empty when everything could.
    pub unreadable: Vec<String>,
}

impl OutboxFile {
    /// Reads it where it is, while its publisher runs.
    ///
    /// # Errors
    /// When it is not there, or as it should not be at this moment.
    pub(super) fn in_use(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // all tables as of the same commit
        let transaction = connection.unchecked_transaction()?;
        let read = Self::read(&transaction);
        match read.unreadable.first() {
            None => Ok(read),
            Some(reason) => Err(rusqlite::Error::InvalidParameterName(reason.clone())),
        }
    }

    /// Reads the file of a publisher that does not run, from a copy in `aside`: the file itself stays as it was found.
    pub(super) fn left(path: &Path, aside: &Path) -> Self {
        if !path.exists() {
            return Self::default();
        }
        let unreadable = |reason: String| Self { unreadable: vec![reason], ..Self::default() };
        let copy = match copy(path, aside) {
            Ok(copy) => copy,
            Err(error) => return unreadable(format!("it cannot be copied to {}: {error}", aside.display())),
        };
        let read = Connection::open(&copy).map_or_else(|error| unreadable(error.to_string()), |file| Self::read(&file));
        if read.unreadable.is_empty() || !read.lives.is_empty() {
            return read;
        }
        // not one life of it can be read: what the program itself saves of it, on a copy again
        let salvaged = self::copy(path, aside).map_err(|error| error.to_string()).and_then(|copy| {
            let config =
                OutboxConfig { path: Some(copy.clone()), bytes_max: u64::MAX, full_policy: FullPolicy::RefuseNew };
            Outbox::open(config, 0).map_err(|error| error.to_string())?;
            Connection::open(&copy).map_err(|error| error.to_string())
        });
        match salvaged {
            Ok(file) => Self { unreadable: read.unreadable, ..Self::read(&file) },
            Err(reason) => unreadable(reason),
        }
    }

    fn read(file: &Connection) -> Self {
        let mut read = Self::default();
        let number = |row: &Row<'_>, column| row.get::<_, i64>(column).map(i64::cast_unsigned);
        let unreadable = &mut read.unreadable;
        let lives = rows(file, "lives", "incarnation, last", unreadable, |row| Ok((number(row, 1)?, number(row, 2)?)));
        read.lives = lives.into_iter().map(|(life, last)| (Incarnation(life), last)).collect();
        for life in rows(file, "readings", "incarnation", unreadable, |row| number(row, 1)) {
            *read.waiting.entry(Incarnation(life)).or_default() += 1;
        }
        read.given_up = rows(file, "given_up", "first", unreadable, |row| number(row, 1)).len() as u64;
        read
    }
}

/// The rows of a table: all of them, or those before the first and behind the last place that cannot be read.
fn rows<T>(
    file: &Connection,
    table: &str,
    columns: &str,
    unreadable: &mut Vec<String>,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Vec<T> {
    let mut found = BTreeMap::new();
    for order in ["ASC", "DESC"] {
        let mut from_one_end = || -> rusqlite::Result<()> {
            let sql = format!("SELECT rowid, {columns} FROM {table} NOT INDEXED ORDER BY rowid {order}");
            let mut select = file.prepare(&sql)?;
            let mut rows = select.query([])?;
            let mut last = None;
            while let Some(row) = rows.next()? {
                let id = row.get::<_, i64>(0)?;
                let in_order = last.is_none_or(|last| if order == "ASC" { last < id } else { last > id });
                if !in_order {
                    // damaged pages may lead back to where they came from, and the same rows would come for ever
                    return Err(rusqlite::Error::IntegralValueOutOfRange(0, id));
                }
                last = Some(id);
                found.insert(id, read(row)?);
            }
            Ok(())
        };
        match from_one_end() {
            Ok(()) => return found.into_values().collect(),
            Err(error) if order == "ASC" => unreadable.push(format!("{table}: {error}")),
            Err(_) => {}
        }
    }
    found.into_values().collect()
}

/// Copies a database with its log, and without what its program had in memory of the log.
fn copy(path: &Path, aside: &Path) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(aside)?;
    let copy = aside.join(path.file_name().unwrap_or_default());
    let beside = |path: &Path, suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    for suffix in ["", "-wal", "-shm", ".last"] {
        let (from, to) = (beside(path, suffix), beside(&copy, suffix));
        if suffix != "-shm" && from.exists() {
            std::fs::copy(from, to)?;
        } else if to.exists() {
            std::fs::remove_file(to)?;
        }
    }
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use heartwatch_domain::reading::{FieldValue, Reading};
    use heartwatch_domain::time::Timestamp;

    fn outbox(path: &Path, now_micros: u64, readings: u64) -> Incarnation {
        let config =
            OutboxConfig { path: Some(path.to_owned()), bytes_max: 1 << 30, full_policy: FullPolicy::RefuseNew };
        let (mut outbox, incarnation) = Outbox::open(config, now_micros).unwrap();
        let readings: Vec<_> = (1..=readings)
            .map(|sequence| Reading {
                sequence,
                time: Timestamp::from_nanos(i64::try_from(sequence).unwrap()),
                measurement: "m".to_owned(),
                tags: Vec::new(),
                fields: vec![("text".to_owned(), FieldValue::Text("x".repeat(300)))],
            })
            .collect();
        outbox.keep(&readings).unwrap();
        incarnation
    }

    #[test]
    fn an_outbox_is_read_from_outside_and_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("o.sqlite");
        let aside = directory.path().join("aside");
        assert_eq!(OutboxFile::left(&path, &aside), OutboxFile::default(), "one that is not there holds nothing");
        let first = outbox(&path, 1_000, 50);
        let second = outbox(&path, 2_000, 7);
        let found = OutboxFile::in_use(&path).unwrap();
        assert_eq!(found.lives, BTreeMap::from([(first, 50), (second, 7)]));
        assert_eq!(found.waiting, BTreeMap::from([(first, 50), (second, 7)]));
        let before = std::fs::read(&path).unwrap();
        assert_eq!(OutboxFile::left(&path, &aside), found);
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    /// Found by seed 20261129: a publisher that was killed before it had salvaged its file left one that ended the run.
    #[test]
    fn whatever_is_damaged_there_is_an_answer_and_what_it_says_is_true() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("o.sqlite");
        let aside = directory.path().join("aside");
        let first = outbox(&path, 1_000, 200);
        let second = outbox(&path, 2_000, 20);
        let whole = std::fs::read(&path).unwrap();
        let (mut unreadable, mut known) = (0, 0);
        for at in (0..whole.len()).step_by(97) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            std::fs::write(&path, &damaged).unwrap();
            let found = OutboxFile::left(&path, &aside);
            unreadable += u32::from(!found.unreadable.is_empty());
            known += u32::from(found.lives.get(&first) == Some(&200) && found.lives.get(&second) == Some(&20));
        }
        for tenth in 0..10 {
            std::fs::write(&path, &whole[..whole.len() * tenth / 10]).unwrap();
            let _ = OutboxFile::left(&path, &aside);
        }
        let tried = u32::try_from(whole.len().div_ceil(97)).unwrap();
        assert!(unreadable > 0 && known > tried * 9 / 10, "{known} of {tried} known, {unreadable} unreadable");
    }
}
