//! One kind of SQLite file: its tables, a connection to it, and why a file is not one. Below whoever opens, saves, seals and
//! upgrades such files.

use std::path::Path;

use rusqlite::{Connection, ErrorCode};

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
    /// Those of them that have a column `checksum` over the others of the row.
    pub(super) sealed: &'static [&'static str],
    /// What the tables were in earlier versions. A later version may have more tables and more columns.
    pub(super) earlier: &'static [Self],
}

impl Layout {
    /// This one and the earlier ones.
    pub(super) fn versions(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.earlier)
    }
}

/// The tables and indexes as the file lists them, with the page that each begins on.
pub(super) fn schema(connection: &Connection) -> rusqlite::Result<Vec<(String, i64, Option<String>)>> {
    let mut select = connection.prepare("SELECT name, rootpage, sql FROM sqlite_schema ORDER BY rootpage")?;
    select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
}

/// What [`schema`] is in a whole file: the same statements always give the same pages.
pub(super) fn expected_schema(layout: &Layout) -> rusqlite::Result<Vec<(String, i64, Option<String>)>> {
    let fresh = Connection::open_in_memory()?;
    fresh.execute_batch(layout.create)?;
    schema(&fresh)
}

/// Makes the tables in a new file.
pub(super) fn make_tables(connection: &mut Connection, layout: &Layout) -> Result<(), Refusal> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(layout.create)?;
    transaction.pragma_update(None, "application_id", layout.application_id)?;
    transaction.pragma_update(None, "user_version", layout.version)?;
    transaction.commit()?;
    Ok(())
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
pub(super) const BUSY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// A write-ahead log that grew beyond this is cut back once it is in the file.
const WAL_BYTES_KEPT_MAX: i64 = 64 * 1024 * 1024;

/// Why a file cannot be used as it is.
pub(super) enum Refusal {
    /// Bytes have changed or are gone: salvage it.
    Damaged(String),
    /// Anything else, in words.
    Other(String),
}

impl From<rusqlite::Error> for Refusal {
    /// A file cut short and a bad sector are input/output errors to SQLite; a value of a type that was
    /// never written is one that has changed.
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ffi::{SQLITE_IOERR_DATA, SQLITE_IOERR_READ, SQLITE_IOERR_SHORT_READ};
        let extended = error.sqlite_error().map_or(0, |error| error.extended_code);
        let not_as_written = matches!(
            error,
            rusqlite::Error::Utf8Error(..)
                | rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
        );
        let damaged = not_as_written
            || matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
            || [SQLITE_IOERR_DATA, SQLITE_IOERR_READ, SQLITE_IOERR_SHORT_READ].contains(&extended);
        if damaged { Self::Damaged(error.to_string()) } else { Self::Other(error.to_string()) }
    }
}

impl From<Refusal> for String {
    fn from(refusal: Refusal) -> Self {
        let (Refusal::Damaged(reason) | Refusal::Other(reason)) = refusal;
        reason
    }
}
