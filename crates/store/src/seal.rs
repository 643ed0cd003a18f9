//! Checksums of rows. SQLite has none of its own: a changed byte in a number or a text is believed.
//!
//! Each row of a sealed table has a checksum over its other columns, which triggers of the writing
//! connection keep: no statement has to think of it. The triggers are temporary, so that the file itself needs
//! no function of ours to be read by another program.

use rusqlite::functions::FunctionFlags;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Transaction};

use super::layout::Layout;

/// Most rows of a table that are named one by one.
const NAMED_ROWS_MAX: usize = 20;
/// Longest row that is shown, in characters.
const ROW_CHARS_MAX: usize = 200;

/// Takes out rows that are not what was written and names them; from then on each write keeps its checksum.
pub(super) fn begin(connection: &mut Connection, layout: &Layout, damage: &mut Vec<String>) -> rusqlite::Result<()> {
    add_function(connection)?;
    for table in layout.sealed {
        let columns = Columns::of(connection, "main", table)?;
        if connection.query_row(&format!("SELECT EXISTS ({})", columns.changed()), [], |row| row.get(0))? {
            let transaction = connection.transaction()?;
            take_out(&transaction, &columns, damage)?;
            transaction.commit()?;
        }
        connection.execute_batch(&columns.triggers())?;
    }
    Ok(())
}

/// Gives the rows of a table their checksums, whatever they have.
pub(super) fn seal_all(transaction: &Transaction<'_>, table: &str) -> rusqlite::Result<()> {
    let columns = Columns::of(transaction, "main", table)?;
    transaction.execute(&format!("UPDATE main.{table} SET checksum = {}", columns.sum("")), [])?;
    Ok(())
}

/// Adds the SQL function that the checksums are made with.
pub(super) fn add_function(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("row_checksum", -1, flags, |row| {
        let mut sum = flate2::Crc::new();
        for column in 0..row.len() {
            let (kind, number, bytes): (u8, i64, &[u8]) = match row.get_raw(column) {
                ValueRef::Null => (0, 0, &[]),
                ValueRef::Integer(number) => (1, number, &[]),
                ValueRef::Real(number) => (2, number.to_bits().cast_signed(), &[]),
                ValueRef::Text(text) => (3, text.len() as i64, text),
                ValueRef::Blob(bytes) => (4, bytes.len() as i64, bytes),
            };
            sum.update(&[kind]);
            sum.update(&number.to_le_bytes());
            sum.update(bytes);
        }
        Ok(i64::from(sum.sum()))
    })
}

/// A sealed table and its columns without the checksum.
struct Columns {
    table: String,
    names: Vec<String>,
}

impl Columns {
    fn of(connection: &Connection, schema: &str, table: &str) -> rusqlite::Result<Self> {
        let names = names(connection, schema, table)?.into_iter().filter(|name| name != "checksum").collect();
        Ok(Self { table: table.to_owned(), names })
    }

    /// What the checksum of a row is to be; `of` stands before each column.
    fn sum(&self, of: &str) -> String {
        let columns: Vec<String> = self.names.iter().map(|name| format!("{of}\"{name}\"")).collect();
        format!("row_checksum({})", columns.join(", "))
    }

    fn changed(&self) -> String {
        format!("SELECT rowid, * FROM main.{} WHERE checksum IS NOT {}", self.table, self.sum(""))
    }

    fn triggers(&self) -> String {
        let (table, sum) = (&self.table, self.sum("NEW."));
        let columns: Vec<String> = self.names.iter().map(|name| format!("\"{name}\"")).collect();
        let columns = columns.join(", ");
        let act = format!("BEGIN UPDATE {table} SET checksum = {sum} WHERE rowid = NEW.rowid; END;");
        format!(
            "CREATE TEMP TRIGGER seal_new_{table} AFTER INSERT ON main.{table} {act}
             CREATE TEMP TRIGGER seal_changed_{table} AFTER UPDATE OF {columns} ON main.{table} {act}"
        )
    }
}

/// The names of a table's columns.
pub(super) fn names(connection: &Connection, schema: &str, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut select = connection.prepare(&format!("PRAGMA {schema}.table_info({table})"))?;
    select.query_map([], |row| row.get(1))?.collect()
}

fn take_out(transaction: &Transaction<'_>, columns: &Columns, damage: &mut Vec<String>) -> rusqlite::Result<()> {
    let table = &columns.table;
    let mut ids = Vec::new();
    {
        let mut select = transaction.prepare(&columns.changed())?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            ids.push(row.get::<_, i64>(0)?);
            if ids.len() <= NAMED_ROWS_MAX {
                let values = (1..=columns.names.len()).map(|column| row.get::<_, Value>(column).map(said));
                let values: Vec<String> = values.collect::<rusqlite::Result<_>>()?;
                let row: String = values.join(", ").chars().take(ROW_CHARS_MAX).collect();
                damage.push(format!("{table}: a row is not what was written and is left out; it reads ({row})"));
            }
        }
    }
    if let Some(more) = ids.len().checked_sub(NAMED_ROWS_MAX).filter(|more| *more > 0) {
        damage.push(format!("{table}: {more} more rows are not what was written and are left out"));
    }
    for id in ids {
        transaction.execute(&format!("DELETE FROM main.{table} WHERE rowid = ?1"), [id])?;
    }
    Ok(())
}

fn said(value: Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => text,
        Value::Blob(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
    }
}
