//! What is in an outbox, without its publisher: also right after it was killed.

use std::path::Path;

use super::{LAYOUT, OutboxError, range_of, unusable};
use crate::database;
use heartwatch_domain::publisher::Incarnation;
use heartwatch_domain::reading::Sequence;

/// What an outbox holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contents {
    /// The latest lives with the last number that each has kept, oldest first.
    pub lives: Vec<(Incarnation, Sequence)>,
    /// Readings that wait for confirmation: life, lowest and highest number, oldest first.
    pub waiting: Vec<(Incarnation, Sequence, Sequence)>,
    /// Ranges given up that the monitor has not been told of.
    pub given_up: u64,
}

/// Looks into an outbox without changing anything, also while its publisher runs.
///
/// # Errors
/// [`OutboxError::Open`] or [`OutboxError::Write`] when it cannot be read.
pub fn contents(path: &Path) -> Result<Contents, OutboxError> {
    let open = |reason: String| OutboxError::Open { path: path.to_owned(), reason };
    let connection = database::open_read_only(path, &LAYOUT).map_err(open)?;
    let read = || -> rusqlite::Result<Contents> {
        let life = |row: &rusqlite::Row<'_>| {
            let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
            Ok((Incarnation(number(0)?), number(1)?))
        };
        let mut lives = connection.prepare("SELECT incarnation, last FROM lives ORDER BY incarnation")?;
        let mut waiting = connection.prepare(
            "SELECT incarnation, min(sequence), max(sequence) FROM readings GROUP BY incarnation ORDER BY incarnation",
        )?;
        let given_up: i64 = connection.query_row("SELECT count(*) FROM given_up", [], |row| row.get(0))?;
        Ok(Contents {
            lives: lives.query_map([], life)?.collect::<rusqlite::Result<_>>()?,
            waiting: waiting.query_map([], range_of)?.collect::<rusqlite::Result<_>>()?,
            given_up: given_up.cast_unsigned(),
        })
    };
    read().map_err(unusable)
}
