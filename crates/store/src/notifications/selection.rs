//! What a new message is made of.

use rusqlite::{Transaction, params};

use super::MESSAGE_NOTICES_MAX;

/// What a new message is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection {
    /// Of what is urgent, or of the rest.
    pub urgent: bool,
    /// So many of the oldest notices of these; others are taken with them: alarms of the same rule, and what came
    /// before in the course of the same publisher.
    pub notices: u64,
    /// Most notices in all, at most [`MESSAGE_NOTICES_MAX`].
    pub notices_max: u64,
}

/// Makes a message of what waits.
pub(super) fn select(transaction: &Transaction<'_>, target: &str, message: i64, of: Selection) -> rusqlite::Result<()> {
    let seeds = "SELECT id, course_of, told_with FROM waiting
                 WHERE target = ?1 AND message IS NULL AND urgent = ?2 ORDER BY id LIMIT ?3";
    let sql = format!(
        "WITH seeds AS MATERIALIZED ({seeds})
         UPDATE waiting SET message = ?5 WHERE id IN (
             SELECT id FROM waiting WHERE target = ?1 AND message IS NULL AND (
                 id IN (SELECT id FROM seeds)
                 OR (told_with <> '' AND told_with IN (SELECT told_with FROM seeds))
                 OR (course_of <> '' AND course_of IN (SELECT course_of FROM seeds)
                     AND id < (SELECT max(id) FROM seeds))
             ) ORDER BY id LIMIT ?4)"
    );
    let notices_max = of.notices_max.min(MESSAGE_NOTICES_MAX).cast_signed();
    let notices = of.notices.cast_signed().min(notices_max);
    transaction.prepare_cached(&sql)?.execute(params![target, of.urgent, notices, notices_max, message])?;
    Ok(())
}
