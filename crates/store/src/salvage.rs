//! Saving what is whole of a damaged SQLite file.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{Connection, Transaction};

use super::disk::{beside, sync_directory};
use super::layout::{Layout, connect, expected_schema, make_tables, schema};

/// Consecutive row ids that are tried where rows cannot be read, before the rest is given up.
const PROBES_MAX: u32 = 10_000;

/// Copies what can be read of the damaged file into a new one, which takes its place; the damaged one
/// is kept under another name. Says in words what was saved.
///
/// The new file is complete and synced as `NAME.salvaged` before the damaged one is moved, so that
/// [`finish_interrupted`] can tell after a crash how far it came.
pub(super) fn salvage(path: &Path, layout: &Layout) -> Result<Vec<String>, String> {
    let layout = version_of(path, layout);
    let (in_progress, complete) = (beside(path, ".salvaging"), beside(path, ".salvaged"));
    remove_database(&in_progress);
    let mut damage = Vec::new();
    let mut fresh = connect(&in_progress).map_err(|error| error.to_string())?;
    make_tables(&mut fresh, layout)?;
    match open_damaged(path, &in_progress, &fresh, layout) {
        Ok(damaged) => {
            let transaction = fresh.transaction().map_err(|error| error.to_string())?;
            for table in layout.tables {
                damage.extend(salvage_table(&damaged, &transaction, table)?);
            }
            transaction.commit().map_err(|error| error.to_string())?;
        }
        Err(reason) => damage.push(format!("nothing of it can be read: {reason}")),
    }
    remove_database(&beside(path, ".regrown"));
    fresh.close().map_err(|(_, error)| error.to_string())?;
    rename(&in_progress, &complete)?;
    sync_directory(path);
    let kept_as = put_in_place(path)?;
    damage.push(format!("the damaged file is kept as {}", kept_as.display()));
    Ok(damage)
}

/// The version whose tables the damaged file has: as they are listed in it, or as its header says, or the newest.
fn version_of<'a>(path: &Path, layout: &'a Layout) -> &'a Layout {
    let listed = Connection::open(path).and_then(|connection| schema(&connection)).ok();
    let has_tables_of = |version: &&Layout| listed.is_some() && listed == expected_schema(version).ok();
    let mut header = [0; 64];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    // <https://www.sqlite.org/fileformat2.html#the_database_header>: the user version is at 60
    let said = header.last_chunk::<4>().filter(|_| read.is_ok()).map(|bytes| i32::from_be_bytes(*bytes));
    let said_so = |version: &&Layout| Some(version.version) == said;
    layout.versions().find(has_tables_of).or_else(|| layout.versions().find(said_so)).unwrap_or(layout)
}

/// Ends a salvage that a crash interrupted.
pub(super) fn finish_interrupted(path: &Path) -> Result<(), String> {
    if beside(path, ".salvaged").exists() {
        put_in_place(path)?;
    }
    remove_database(&beside(path, ".salvaging"));
    Ok(())
}

/// Moves the log of a file that is gone aside; says where it is.
pub(super) fn put_log_aside(path: &Path) -> Result<String, String> {
    let (from, to) = (beside(path, "-wal"), beside(&free_name(path)?, "-wal"));
    rename(&from, &to)?;
    sync_directory(path);
    Ok(format!("the log is kept as {}", to.display()))
}

fn free_name(path: &Path) -> Result<PathBuf, String> {
    let is_free = |aside: &PathBuf| !aside.exists() && !beside(aside, "-wal").exists();
    (1..)
        .map(|number| beside(path, &format!(".damaged-{number}")))
        .find(is_free)
        .ok_or_else(|| "no free name for the damaged file".to_owned())
}

/// Moves the damaged file aside and the complete new one into its place. The log goes first: a log
/// left behind would be taken for the new file's own.
fn put_in_place(path: &Path) -> Result<PathBuf, String> {
    let aside = free_name(path)?;
    for suffix in ["-wal", "-shm", ""] {
        let from = beside(path, suffix);
        if from.exists() {
            rename(&from, &beside(&aside, suffix))?;
        }
    }
    sync_directory(path);
    rename(&beside(path, ".salvaged"), path)?;
    sync_directory(path);
    Ok(aside)
}

/// Opens the damaged file to read from. Where its first page is damaged, which says where the tables
/// begin, a copy of it is opened whose first page is that of the fresh file.
fn open_damaged(path: &Path, fresh_path: &Path, fresh: &Connection, layout: &Layout) -> Result<Connection, String> {
    let text = |error: rusqlite::Error| error.to_string();
    let expected = expected_schema(layout).map_err(text)?;
    let damaged = Connection::open(path).map_err(text)?;
    if schema(&damaged).is_ok_and(|schema| schema == expected) {
        return Ok(damaged);
    }
    drop(damaged);
    let regrown = beside(path, ".regrown");
    remove_database(&regrown);
    let io = |error: std::io::Error| format!("{}: {error}", regrown.display());
    fresh.pragma_update_and_check(None, "wal_checkpoint", "TRUNCATE", |_| Ok(())).map_err(text)?;
    let page_bytes: u64 =
        fresh.pragma_query_value(None, "page_size", |row| row.get::<_, i64>(0)).map_err(text)?.cast_unsigned();
    let mut first_page = Vec::new();
    File::open(fresh_path).and_then(|file| file.take(page_bytes).read_to_end(&mut first_page)).map_err(io)?;
    for suffix in ["", "-wal"] {
        if beside(path, suffix).exists() {
            fs::copy(beside(path, suffix), beside(&regrown, suffix)).map_err(io)?;
        }
    }
    let mut file = File::options().write(true).open(&regrown).map_err(io)?;
    let pages = u32::try_from(file.metadata().map_err(io)?.len() / page_bytes).unwrap_or(u32::MAX);
    // <https://www.sqlite.org/fileformat2.html#the_database_header>: the size in pages at 28 counts only
    // where the change counter at 24 equals the one at 92
    if let Some(size) = first_page.get_mut(28..32) {
        size.copy_from_slice(&pages.to_be_bytes());
    }
    file.write_all(&first_page).map_err(io)?;
    drop(file);
    let damaged = Connection::open(&regrown).map_err(text)?;
    schema(&damaged).map_err(text)?;
    Ok(damaged)
}

/// Copies a table by ascending row id, trying one id after another where rows cannot be read.
fn salvage_table(damaged: &Connection, fresh: &Transaction<'_>, table: &str) -> Result<Option<String>, String> {
    let mut saved = 0_u64;
    let mut unreadable: Vec<(i64, i64)> = Vec::new();
    let mut failures = 0_u32;
    let mut after = i64::MIN;
    let mut reason = String::new();
    let sql = format!("SELECT rowid AS salvaged_rowid, * FROM {table} WHERE rowid > ?1 ORDER BY rowid");
    while failures < PROBES_MAX {
        let copied = copy_rows(damaged, fresh, table, &sql, &mut after, &mut saved, &mut failures);
        match copied {
            Ok(()) => break,
            Err(Failure::Fresh(error)) => return Err(error),
            Err(Failure::Damaged(error)) => {
                reason = error;
                failures += 1;
                // before the first row that was read nothing is known of the ids: they begin at 1
                let next = after.max(0) + 1;
                match unreadable.last_mut() {
                    Some((_, last)) if *last + 1 >= next => *last = next,
                    _ => unreadable.push((next, next)),
                }
                after = next;
            }
        }
    }
    if unreadable.is_empty() {
        return Ok(None);
    }
    let ranges: Vec<String> = unreadable.iter().take(10).map(|(first, last)| format!("{first}..={last}")).collect();
    let more = if unreadable.len() > 10 || failures >= PROBES_MAX { " and beyond" } else { "" };
    let ranges = ranges.join(", ");
    Ok(Some(format!("{table}: {saved} rows saved, not readable among ids {ranges}{more} ({reason})")))
}

enum Failure {
    Damaged(String),
    Fresh(String),
}

fn copy_rows(
    damaged: &Connection,
    fresh: &Transaction<'_>,
    table: &str,
    sql: &str,
    after: &mut i64,
    saved: &mut u64,
    failures: &mut u32,
) -> Result<(), Failure> {
    let broken = |error: rusqlite::Error| Failure::Damaged(error.to_string());
    let unwritten = |error: rusqlite::Error| Failure::Fresh(error.to_string());
    let mut select = damaged.prepare_cached(sql).map_err(broken)?;
    let columns = fresh.prepare_cached(&format!("SELECT * FROM {table}")).map_err(unwritten)?;
    let names: Vec<String> = columns.column_names().map(|name| format!("\"{name}\"")).collect();
    let places: Vec<String> = (1..=names.len()).map(|number| format!("?{number}")).collect();
    let insert = format!("INSERT OR IGNORE INTO {table} ({}) VALUES ({})", names.join(","), places.join(","));
    let mut insert = fresh.prepare_cached(&insert).map_err(unwritten)?;
    let mut rows = select.query([*after]).map_err(broken)?;
    while let Some(row) = rows.next().map_err(broken)? {
        let rowid: i64 = row.get(0).map_err(broken)?;
        if rowid <= *after {
            // a page that names one above it: followed, the same rows would come for ever
            return Err(Failure::Damaged("its pages lead back to where they came from".to_owned()));
        }
        let values: Vec<Value> =
            (1..=names.len()).map(|column| row.get(column)).collect::<Result<_, _>>().map_err(broken)?;
        *after = rowid;
        match insert.execute(rusqlite::params_from_iter(values)) {
            Ok(changed) => *saved += changed as u64,
            // a value that the table does not allow was damaged; a full disk is no reason to lose the rest
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => {}
            Err(error) => return Err(unwritten(error)),
        }
        *failures = 0;
    }
    Ok(())
}

pub(super) fn remove_database(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(beside(path, suffix));
    }
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<(), String> {
    fs::rename(from, to).map_err(|error| format!("cannot rename {} to {}: {error}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout {
        what: "a test",
        application_id: 7,
        version: 1,
        create: "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, v BLOB NOT NULL) STRICT;",
        tables: &["t"],
        sealed: &[],
        earlier: &[],
    };

    /// Found by `prove --rows --seed 1`: a monitor that was started with such a journal salvaged it for ever.
    #[test]
    fn a_table_whose_pages_lead_back_to_themselves_is_salvaged_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.sqlite");
        let mut file = connect(&path).unwrap();
        assert!(make_tables(&mut file, &LAYOUT).is_ok());
        for _ in 0..100 {
            file.execute("INSERT INTO t (v) VALUES (zeroblob(1000))", []).unwrap();
        }
        let root: i64 =
            file.query_row("SELECT rootpage FROM sqlite_schema WHERE name = 't'", [], |row| row.get(0)).unwrap();
        file.pragma_update_and_check(None, "wal_checkpoint", "TRUNCATE", |_| Ok(())).unwrap();
        file.close().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        // <https://www.sqlite.org/fileformat2.html#b_tree_pages>: an inner page; the first four bytes of each of its cells
        // are the page below it. The tenth one is that of the third, and the next is none.
        let page = (usize::try_from(root).unwrap() - 1) * 4096;
        assert_eq!(bytes[page], 5, "the table has an inner page");
        let cell = |bytes: &[u8], number: usize| {
            let place = page + 12 + 2 * number;
            page + usize::from(u16::from_be_bytes([bytes[place], bytes[place + 1]]))
        };
        let (third, tenth, next) = (cell(&bytes, 2), cell(&bytes, 9), cell(&bytes, 10));
        bytes.copy_within(third..third + 4, tenth);
        bytes[next..next + 4].copy_from_slice(&u32::MAX.to_be_bytes());
        fs::write(&path, bytes).unwrap();

        let damage = salvage(&path, &LAYOUT).unwrap();
        assert!(damage[0].contains("not readable"), "{damage:?}");
        let saved: i64 = connect(&path).unwrap().query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        assert!((80..100).contains(&saved), "{saved} rows: {damage:?}");
    }
}
