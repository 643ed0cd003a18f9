//! The rows that were committed since one looked last: how rules follow what comes in.
//!
//! It reads through a connection of its own, so that no commit waits for it. Every block is read once; one
//! call reads for a limited time and goes on at the next.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, params};

use super::JournalError;
use super::block::Index;
use super::schema::LAYOUT;
use crate::database;
use heartwatch_domain::time::Timestamp;
use heartwatch_formats::line_protocol::Rows;
use heartwatch_system::clock::Clock;

/// How long one call may read.
const READ_TIME_MAX: Duration = Duration::from_millis(500);
/// Commits are noted in whole seconds, and a row may be ahead of the clock by as much as this.
const COMMITTED_EARLIER_SECONDS: i64 = 60;

/// A place in the journal. All of it blocks.
#[derive(Debug)]
pub struct Tail {
    path: Arc<PathBuf>,
    connection: Option<Connection>,
    /// The last block that was read; none before the first.
    after: Option<i64>,
}

impl Tail {
    pub(super) const fn new(path: Arc<PathBuf>) -> Self {
        Self { path, connection: None, after: None }
    }

    /// Begins anew: the next call reads everything since its `since` again.
    pub const fn rewind(&mut self) {
        self.after = None;
    }

    /// Hands over every row that was committed since the last call, in the order of the commits; of those that
    /// were committed before `since` at the first one, and where it lags that far behind, only some or none.
    /// The answer is whether that was all: without, the next call goes on.
    ///
    /// # Errors
    /// [`JournalError::Read`]; the next call tries again from the same place.
    pub fn read(&mut self, since: Timestamp, clock: Clock, each: impl FnMut(&[u8])) -> Result<bool, JournalError> {
        let failed = |reason: String| JournalError::Read { reason };
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => database::open_read_only(&self.path, &LAYOUT).map_err(failed)?,
        };
        let all = self.follow(&connection, since, clock, each).map_err(|error| failed(error.to_string()))?;
        self.connection = Some(connection);
        Ok(all)
    }

    fn follow(
        &mut self,
        connection: &Connection,
        since: Timestamp,
        clock: Clock,
        mut each: impl FnMut(&[u8]),
    ) -> rusqlite::Result<bool> {
        let committed_from = since.as_nanos().div_euclid(1_000_000_000).saturating_sub(COMMITTED_EARLIER_SECONDS);
        let after = match self.after {
            Some(after) => after,
            None => first(connection, committed_from)?,
        };
        self.after = Some(after);
        let started = clock.monotonic();
        let sql = "SELECT id, committed_at, row_index, lines FROM blocks WHERE id > ?1 ORDER BY id";
        let mut select = connection.prepare_cached(sql)?;
        let mut rows = select.query(params![after])?;
        while let Some(row) = rows.next()? {
            if clock.monotonic().since(started) > READ_TIME_MAX {
                return Ok(false);
            }
            if row.get::<_, i64>(1)? >= committed_from {
                let index = row.get_ref(2)?.as_blob().unwrap_or_default();
                let lines = row.get_ref(3)?.as_blob().unwrap_or_default();
                // what is damaged says nothing
                for place in Index::read(index).into_iter().flat_map(|index| index.rows) {
                    place.whole(lines).into_iter().flat_map(Rows::of).for_each(&mut each);
                }
            }
            self.after = Some(row.get(0)?);
        }
        Ok(true)
    }
}

/// The block before the first one that was committed since then, found by the index of their times.
fn first(connection: &Connection, committed_from: i64) -> rusqlite::Result<i64> {
    let sql = "SELECT min(id) FROM blocks WHERE delivered IN (0, 1, 2) AND committed_at >= ?1";
    let first: Option<i64> = connection.query_row(sql, params![committed_from], |row| row.get(0))?;
    match first {
        Some(first) => Ok(first - 1),
        None => connection.query_row("SELECT coalesce(max(id), 0) FROM blocks", [], |row| row.get(0)),
    }
}
