//! Taking over a whole file of an earlier version.
//!
//! It is copied into a new one, so that its pages are those that a new file of this version has: that is what tells
//! a whole file from a damaged one ([`super::layout::expected_schema`]).
//!
//! 1. `NAME.upgrading` is filled and synced.
//! 2. It becomes `NAME.upgraded`.
//! 3. The old file's log is removed: all of it is in the copy.
//! 4. `NAME.upgraded` becomes `NAME`.
//!
//! A crash before step 2 leaves the old file; one after it is finished by the next start.

use std::fs::{self, File};
use std::path::Path;

use rusqlite::Connection;

use super::disk::{beside, sync_directory};
use super::layout::{Layout, Refusal, make_tables};
use super::salvage::{remove_database, rename};
use super::seal;

/// Copies the file, which is whole and of an earlier version, and puts the copy in its place.
pub(super) fn upgrade(path: &Path, layout: &Layout) -> Result<(), Refusal> {
    let (in_progress, complete) = (beside(path, ".upgrading"), beside(path, ".upgraded"));
    remove_database(&in_progress);
    let copied = copy(path, &in_progress, layout);
    if copied.is_err() {
        remove_database(&in_progress);
    }
    copied?;
    let io = |error: std::io::Error| Refusal::Other(format!("{}: {error}", in_progress.display()));
    File::open(&in_progress).and_then(|file| file.sync_all()).map_err(io)?;
    rename(&in_progress, &complete).map_err(Refusal::Other)?;
    sync_directory(path);
    finish_interrupted(path).map_err(Refusal::Other)?;
    tracing::info!(path = %path.display(), version = layout.version, "the file was taken over into a new version");
    Ok(())
}

/// Ends an upgrade that a crash interrupted.
pub(super) fn finish_interrupted(path: &Path) -> Result<(), String> {
    remove_database(&beside(path, ".upgrading"));
    let complete = beside(path, ".upgraded");
    if !complete.exists() {
        return Ok(());
    }
    for suffix in ["-wal", "-shm"] {
        let log = beside(path, suffix);
        if log.exists() {
            fs::remove_file(&log).map_err(|error| format!("cannot remove {}: {error}", log.display()))?;
        }
    }
    sync_directory(path);
    rename(&complete, path)?;
    sync_directory(path);
    Ok(())
}

fn copy(path: &Path, to: &Path, layout: &Layout) -> Result<(), Refusal> {
    let mut fresh = Connection::open(to)?;
    // nobody but us knows of this file before it is synced and complete
    fresh.pragma_update_and_check(None, "journal_mode", "OFF", |_| Ok(()))?;
    fresh.pragma_update(None, "synchronous", "OFF")?;
    make_tables(&mut fresh, layout)?;
    seal::add_function(&fresh)?;
    let name = path.to_str().ok_or_else(|| Refusal::Other(format!("{} is no text in UTF-8", path.display())))?;
    fresh.execute("ATTACH ?1 AS earlier", [name])?;
    let transaction = fresh.transaction()?;
    for table in layout.tables {
        let known = seal::names(&transaction, "main", table)?;
        let columns = seal::names(&transaction, "earlier", table)?.into_iter().filter(|name| known.contains(name));
        let columns: Vec<String> = columns.map(|name| format!("\"{name}\"")).collect();
        if !columns.is_empty() {
            let columns = columns.join(", ");
            let sql =
                format!("INSERT INTO main.{table} ({columns}) SELECT {columns} FROM earlier.{table} ORDER BY rowid");
            transaction.execute(&sql, [])?;
        }
    }
    // the ids that AUTOINCREMENT has given out, also those of rows that are gone
    let counts = "SELECT EXISTS (SELECT 1 FROM earlier.sqlite_schema WHERE name = 'sqlite_sequence')";
    if transaction.query_row(counts, [], |row| row.get(0))? {
        transaction.execute_batch(
            "DELETE FROM main.sqlite_sequence;
             INSERT INTO main.sqlite_sequence (name, seq) SELECT name, seq FROM earlier.sqlite_sequence;",
        )?;
    }
    for table in layout.sealed {
        seal::seal_all(&transaction, table)?;
    }
    transaction.commit()?;
    fresh.close().map_err(|(_, error)| error)?;
    Ok(())
}
