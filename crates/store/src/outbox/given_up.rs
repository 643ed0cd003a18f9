//! Readings that will never be sent: each number is in one range, with its reason, until the monitor has been told.

use rusqlite::{OptionalExtension, Transaction, params};

use super::Size;
use heartwatch_domain::confirmers::Confirmer;
use heartwatch_domain::publisher::Incarnation;
use heartwatch_domain::reading::Sequence;

/// Why readings are given up at the limit.
pub(super) const REASON_FULL: &str = "the publisher's outbox was full";
/// Why after damage.
pub(super) const REASON_DAMAGED: &str = "the publisher's disk changed its bytes";

/// A range of readings that will never be sent: given up at the limit, or damaged on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUpRange {
    /// Which life.
    pub incarnation: Incarnation,
    /// First number.
    pub first: Sequence,
    /// Last number.
    pub last: Sequence,
    /// Why.
    pub reason: String,
    /// Who has confirmed them, where they are not lost for that.
    pub confirmed_by: Option<Confirmer>,
}

impl GivenUpRange {
    /// Numbers that are lost.
    #[must_use]
    pub fn lost(incarnation: Incarnation, first: Sequence, last: Sequence, reason: impl Into<String>) -> Self {
        Self { incarnation, first, last, reason: reason.into(), confirmed_by: None }
    }
}

/// Removes the oldest readings until `over` bytes are free, and names them.
pub(super) fn give_up_oldest(
    transaction: &Transaction<'_>,
    over: u64,
    reason: &str,
) -> rusqlite::Result<(Vec<GivenUpRange>, Size)> {
    let mut ranges: Vec<GivenUpRange> = Vec::new();
    let mut gone = Size::default();
    if over == 0 {
        return Ok((ranges, gone));
    }
    let mut oldest = Vec::new();
    {
        let mut select = transaction.prepare_cached(
            "SELECT id, incarnation, sequence, length(reading) FROM readings ORDER BY incarnation, sequence",
        )?;
        let mut rows = select.query([])?;
        while gone.bytes < over {
            let Some(row) = rows.next()? else { break };
            let (id, incarnation, sequence): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            gone.add(row.get::<_, i64>(3)?.cast_unsigned());
            oldest.push((id, incarnation, sequence));
        }
    }
    for (id, incarnation, sequence) in oldest {
        transaction.prepare_cached("DELETE FROM readings WHERE id = ?1")?.execute([id])?;
        add_given_up(transaction, incarnation, sequence, reason)?;
        let (incarnation, sequence) = (Incarnation(incarnation.cast_unsigned()), sequence.cast_unsigned());
        match ranges.last_mut() {
            Some(range) if range.incarnation == incarnation && range.last + 1 == sequence => range.last = sequence,
            _ => ranges.push(GivenUpRange::lost(incarnation, sequence, sequence, reason)),
        }
    }
    Ok((ranges, gone))
}

/// Removes these readings and names them, each with its reason; one that is not there is left alone.
pub(super) fn give_up_some(
    transaction: &Transaction<'_>,
    incarnation: Incarnation,
    readings: &[(Sequence, String)],
) -> rusqlite::Result<(Vec<GivenUpRange>, Size)> {
    let mut ranges: Vec<GivenUpRange> = Vec::new();
    let mut gone = Size::default();
    let life = incarnation.0.cast_signed();
    for (sequence, reason) in readings {
        let sql = "DELETE FROM readings WHERE incarnation = ?1 AND sequence = ?2 RETURNING length(reading)";
        let bytes: Option<i64> =
            transaction.prepare_cached(sql)?.query_row([life, sequence.cast_signed()], |row| row.get(0)).optional()?;
        let Some(bytes) = bytes else { continue };
        gone.add(bytes.cast_unsigned());
        add_given_up(transaction, life, sequence.cast_signed(), reason)?;
        match ranges.last_mut() {
            Some(range) if range.last + 1 == *sequence && range.reason == *reason => range.last = *sequence,
            _ => ranges.push(GivenUpRange::lost(incarnation, *sequence, *sequence, reason.clone())),
        }
    }
    Ok((ranges, gone))
}

/// Records one number as given up, in the range that it continues where there is one.
pub(super) fn add_given_up(
    transaction: &Transaction<'_>,
    incarnation: i64,
    sequence: i64,
    reason: &str,
) -> rusqlite::Result<()> {
    let id: Option<i64> = transaction
        .prepare_cached("SELECT id FROM given_up WHERE incarnation = ?1 AND last = ?2 - 1 AND reason = ?3")?
        .query_row(params![incarnation, sequence, reason], |row| row.get(0))
        .optional()?;
    match id {
        Some(id) => {
            transaction.prepare_cached("UPDATE given_up SET last = ?2 WHERE id = ?1")?.execute([id, sequence])?
        }
        None => transaction
            .prepare_cached("INSERT INTO given_up (incarnation, first, last, reason) VALUES (?1, ?2, ?2, ?3)")?
            .execute(params![incarnation, sequence, reason])?,
    };
    Ok(())
}
