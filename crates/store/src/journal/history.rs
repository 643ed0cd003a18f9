//! Reading the journal's rows from another program or thread, also while a monitor runs.

use std::path::Path;

use rusqlite::{Connection, params};

use super::JournalError;
use super::block::Index;
use super::schema::LAYOUT;
use crate::database;
use crate::encoding::checksum;
use heartwatch_domain::time::Timestamp;
use heartwatch_domain::verdict::Change;

/// Rows as they were committed, a block at a time in the order of their arrival.
#[derive(Debug)]
pub struct HistoryFile {
    connection: Connection,
    from: i64,
    to: i64,
    after: i64,
    through: i64,
    /// Whether blocks are left out that the sink has.
    here_alone: bool,
    /// Rows of all blocks that have a row in the time range.
    pub rows_about: u64,
}

/// Some rows of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryBlock {
    /// In line protocol, one a line; also rows outside the time range, which share a block with others.
    pub lines: Vec<u8>,
    /// How many rows.
    pub rows: u64,
    /// Rows of the block that were damaged on disk and are left out.
    pub damaged_rows: u64,
}

impl HistoryFile {
    /// Opens the journal for reading. Each block is read in a transaction of its own, so that a long
    /// export does not keep the monitor's log from being folded into the file.
    ///
    /// # Errors
    /// [`JournalError::Open`].
    pub fn open(path: &Path, from: Option<Timestamp>, to: Option<Timestamp>) -> Result<Self, JournalError> {
        let failed = |reason: String| JournalError::Open { path: path.to_owned(), reason };
        let connection = database::open_read_only(path, &LAYOUT).map_err(failed)?;
        let (from, to) = (from.map_or(i64::MIN, Timestamp::as_nanos), to.map_or(i64::MAX, Timestamp::as_nanos));
        let sql = "SELECT coalesce(sum(rows), 0) FROM blocks
                   WHERE (time_max IS NULL OR time_max >= ?1) AND (time_min IS NULL OR time_min < ?2)";
        let rows: i64 = connection
            .query_row(sql, [from, to], |row| row.get(0))
            .map_err(|error| JournalError::Read { reason: error.to_string() })?;
        let rows_about = rows.cast_unsigned();
        Ok(Self { connection, from, to, after: i64::MIN, through: i64::MAX, here_alone: false, rows_about })
    }

    /// Only rows that no sink has.
    #[must_use]
    pub fn here_alone(self) -> Self {
        Self { here_alone: true, ..self }
    }

    /// The next block with a row in the time range (`from` included, `to` not); none at the end.
    ///
    /// # Errors
    /// [`JournalError::Read`].
    pub fn next_block(&mut self) -> Result<Option<HistoryBlock>, JournalError> {
        let failed = |error: rusqlite::Error| JournalError::Read { reason: error.to_string() };
        let mut select = self
            .connection
            .prepare_cached(
                "SELECT id, rows, row_index, lines, lines_checksum FROM blocks WHERE id > ?1 AND id <= ?4
                 AND (time_max IS NULL OR time_max >= ?2) AND (time_min IS NULL OR time_min < ?3)
                 AND (delivered <> 1 OR NOT ?5)
                 ORDER BY id LIMIT 1",
            )
            .map_err(failed)?;
        let mut rows =
            select.query(params![self.after, self.from, self.to, self.through, self.here_alone]).map_err(failed)?;
        let Some(row) = rows.next().map_err(failed)? else { return Ok(None) };
        self.after = row.get(0).map_err(failed)?;
        let count: i64 = row.get(1).map_err(failed)?;
        let index: Vec<u8> = row.get(2).map_err(failed)?;
        let lines: Vec<u8> = row.get(3).map_err(failed)?;
        let count = count.cast_unsigned();
        let is_sum_right = row.get::<_, i64>(4).map_err(failed)? == i64::from(checksum(&lines));
        match Index::read(&index) {
            Some(index) if !index.all_whole(&lines) => {
                let (lines, rows) =
                    index.repaired(&lines).0.finish().map_or((Vec::new(), 0), |block| (block.lines, block.rows));
                Ok(Some(HistoryBlock { lines, rows, damaged_rows: count.saturating_sub(rows) }))
            }
            None if !is_sum_right => Ok(Some(HistoryBlock { lines: Vec::new(), rows: 0, damaged_rows: count })),
            _ => Ok(Some(HistoryBlock { lines, rows: count, damaged_rows: 0 })),
        }
    }

    /// Reads the same blocks again from the first one, and none that came since.
    pub const fn rewind(&mut self) {
        self.through = self.after;
        self.after = i64::MIN;
    }
}

/// The verdict changes in a journal, oldest first, also while its monitor runs.
///
/// # Errors
/// [`JournalError::Open`] and [`JournalError::Read`]. A change that cannot be read is left out.
pub fn recorded_changes(path: &Path) -> Result<Vec<Change>, JournalError> {
    let failed = |reason: String| JournalError::Open { path: path.to_owned(), reason };
    let connection = database::open_read_only(path, &LAYOUT).map_err(failed)?;
    let failed = |error: rusqlite::Error| JournalError::Read { reason: error.to_string() };
    let mut select = connection.prepare("SELECT json FROM changes ORDER BY epoch").map_err(failed)?;
    let rows = select.query_map([], |row| row.get::<_, String>(0)).map_err(failed)?;
    Ok(rows.filter_map(|json| serde_json::from_str(&json.ok()?).ok()).collect())
}
