//! The account of each target: how many notices were meant for it, and what became of them.
//!
//! Each change of a count is part of the commit in which the notices themselves come and go.

use rusqlite::{OptionalExtension, Transaction, params};

use heartwatch_domain::time::Timestamp;

/// How many times of delivered messages an account remembers.
pub const RECENT_MAX: usize = 120;

/// So many failed attempts in a row, and the other targets are told of it. One that was given up counts as many.
pub const REPORTED_FAILURES: u64 = 5;

/// The account of one target.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// Whose.
    pub target: String,
    /// Notices that were meant for it.
    pub taken: u64,
    /// Notices that were delivered.
    pub sent: u64,
    /// Notices that wait.
    pub waiting: u64,
    /// Notices that were given up.
    pub given_up: u64,
    /// Messages that were delivered.
    pub messages: u64,
    /// Attempts in a row that failed; at least [`REPORTED_FAILURES`] after a message was given up.
    pub failures: u64,
    /// The last error; empty when the last attempt worked.
    pub last_error: String,
    /// The last reason for giving something up.
    pub last_given_up: String,
    /// When the last message was delivered.
    pub last_sent: Option<Timestamp>,
    /// When the latest messages without anything urgent were delivered, oldest first; at most [`RECENT_MAX`].
    pub recent: Vec<Timestamp>,
    /// The same of those with something urgent.
    pub recent_urgent: Vec<Timestamp>,
}

/// A notice was taken for it.
pub(super) fn took_one(transaction: &Transaction<'_>, target: &str) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO accounts (target, taken) VALUES (?1, 1)
             ON CONFLICT (target) DO UPDATE SET taken = taken + 1",
        )?
        .execute([target])?;
    Ok(())
}

/// A message of so many notices was delivered: nothing is wrong with the target any more. The answer is whether
/// the others were told that there was.
pub(super) fn sent(
    transaction: &Transaction<'_>,
    target: &str,
    notices: u64,
    is_urgent: bool,
    at: Timestamp,
) -> rusqlite::Result<bool> {
    let was_reported = failures(transaction, target)? >= REPORTED_FAILURES;
    let column = if is_urgent { "recent_urgent" } else { "recent" };
    let mut recent = recent(transaction, column, target)?;
    recent.push(at);
    let over = recent.len().saturating_sub(RECENT_MAX);
    recent.drain(..over);
    let recent: Vec<i64> = recent.iter().map(|at| at.as_nanos()).collect();
    transaction
        .prepare_cached(&format!(
            "UPDATE accounts SET sent = sent + ?2, messages = messages + 1, failures = 0, last_error = '',
             last_sent = ?3, {column} = ?4 WHERE target = ?1"
        ))?
        .execute(params![
            target,
            i64::try_from(notices).unwrap_or(i64::MAX),
            at.as_nanos(),
            serde_json::to_string(&recent).unwrap_or_else(|_| "[]".to_owned())
        ])?;
    Ok(was_reported)
}

/// An attempt failed. The answer is whether the others are to be told of it now.
pub(super) fn failed(transaction: &Transaction<'_>, target: &str, reason: &str) -> rusqlite::Result<bool> {
    transaction
        .prepare_cached("UPDATE accounts SET failures = failures + 1, last_error = ?2 WHERE target = ?1")?
        .execute([target, reason])?;
    Ok(failures(transaction, target)? == REPORTED_FAILURES)
}

/// A message was given up because the target did not take it: until the next one is delivered, it fails. The answer
/// is whether the others are to be told of it now.
pub(super) fn gave_up_message(transaction: &Transaction<'_>, target: &str, reason: &str) -> rusqlite::Result<bool> {
    let was_reported = failures(transaction, target)? >= REPORTED_FAILURES;
    transaction
        .prepare_cached("UPDATE accounts SET failures = max(failures, ?3), last_error = ?2 WHERE target = ?1")?
        .execute(params![target, reason, REPORTED_FAILURES.cast_signed()])?;
    Ok(!was_reported)
}

fn failures(transaction: &Transaction<'_>, target: &str) -> rusqlite::Result<u64> {
    let failures: Option<i64> = transaction
        .prepare_cached("SELECT failures FROM accounts WHERE target = ?1")?
        .query_row([target], |row| row.get(0))
        .optional()?;
    Ok(failures.unwrap_or_default().cast_unsigned())
}

/// So many notices were given up.
pub(super) fn gave_up(transaction: &Transaction<'_>, target: &str, notices: u64, reason: &str) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE accounts SET given_up = given_up + ?2, last_given_up = ?3 WHERE target = ?1")?
        .execute(params![target, i64::try_from(notices).unwrap_or(i64::MAX), reason])?;
    Ok(())
}

/// Every account, ordered by the target's name.
pub(super) fn all(transaction: &Transaction<'_>) -> rusqlite::Result<Vec<Account>> {
    transaction
        .prepare_cached(
            "SELECT target, taken, sent, given_up, messages, failures, last_error, last_given_up, last_sent,
             (SELECT count(*) FROM waiting WHERE waiting.target = accounts.target), recent, recent_urgent
             FROM accounts ORDER BY target",
        )?
        .query_map([], |row| {
            let count = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
            Ok(Account {
                target: row.get(0)?,
                taken: count(1)?,
                sent: count(2)?,
                given_up: count(3)?,
                messages: count(4)?,
                failures: count(5)?,
                last_error: row.get(6)?,
                last_given_up: row.get(7)?,
                last_sent: row.get::<_, Option<i64>>(8)?.map(Timestamp::from_nanos),
                waiting: count(9)?,
                recent: times(&row.get::<_, String>(10)?),
                recent_urgent: times(&row.get::<_, String>(11)?),
            })
        })?
        .collect()
}

fn recent(transaction: &Transaction<'_>, column: &str, target: &str) -> rusqlite::Result<Vec<Timestamp>> {
    let json: Option<String> = transaction
        .prepare_cached(&format!("SELECT {column} FROM accounts WHERE target = ?1"))?
        .query_row([target], |row| row.get(0))
        .optional()?;
    Ok(json.map(|json| times(&json)).unwrap_or_default())
}

fn times(json: &str) -> Vec<Timestamp> {
    let nanos: Vec<i64> = serde_json::from_str(json).unwrap_or_default();
    nanos.into_iter().map(Timestamp::from_nanos).collect()
}
