//! Small facts by name in a file's table `records`: read and written in the transaction of what they belong to.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

/// The statement that makes the table; it is one of the [`super::layout::Layout::sealed`] ones.
macro_rules! table {
    () => {
        "
        CREATE TABLE IF NOT EXISTS records (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            value BLOB NOT NULL,
            checksum INTEGER NOT NULL DEFAULT 0
        ) STRICT;
        "
    };
}
pub(super) use table;

/// The record of this name.
pub(super) fn read(connection: &Connection, name: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    let mut select = connection.prepare_cached("SELECT value FROM records WHERE name = ?1")?;
    select.query_row([name], |row| row.get(0)).optional()
}

/// Every record whose name begins so, by name, which comes without that beginning.
pub(super) fn read_all(connection: &Connection, prefix: &str) -> rusqlite::Result<Vec<(String, Vec<u8>)>> {
    let sql =
        "SELECT substr(name, length(?1) + 1), value FROM records WHERE substr(name, 1, length(?1)) = ?1 ORDER BY name";
    connection.prepare_cached(sql)?.query_map([prefix], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Writes the record of this name.
pub(super) fn write(transaction: &Transaction<'_>, name: &str, value: &[u8]) -> rusqlite::Result<()> {
    let sql = "INSERT INTO records (name, value) VALUES (?1, ?2)
               ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    transaction.prepare_cached(sql)?.execute(params![name, value])?;
    Ok(())
}

/// Removes the record of this name where there is one.
pub(super) fn remove(transaction: &Transaction<'_>, name: &str) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM records WHERE name = ?1")?.execute([name])?;
    Ok(())
}
