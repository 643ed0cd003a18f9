//! The notices that wait for their targets, and the account of each target, on disk until the end of
//! each notice is known. Calls block for a commit: call them off the actors' threads.
//!
//! Invariants:
//! 1. **Taken is durable.** A change is taken for all its targets in the commit that moves the mark, so
//!    that each is taken once, wherever the program is killed.
//! 2. A notice leaves in one of two ways, delivered or given up, in the commit that counts it:
//!    `taken` = `sent` + `waiting` + `given_up` for every target at any time.
//! 3. Which notices make up a message is written down before its first attempt, so that every attempt,
//!    also after a restart, has the same content and the same id.
//! 4. What is told of one publisher's course is told in the order in which it happened, also where something urgent
//!    goes before the rest: what came before it goes with it.

mod account;
mod schema;
mod selection;
#[cfg(test)]
mod tests;
mod witness;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

pub use self::account::{Account, RECENT_MAX, REPORTED_FAILURES};
use self::schema::LAYOUT;
pub use self::selection::Selection;
use self::selection::select;
use self::witness::{Counts, Witness};
use super::{database, disk};
use heartwatch_domain::notice::Notice;
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::time::Timestamp;
use heartwatch_system::damage_log::DamageLog;

/// Most notices that wait for one target; at the limit the oldest are given up.
pub const WAITING_NOTICES_MAX: u64 = 10_000;
/// Most notices in one message.
pub const MESSAGE_NOTICES_MAX: u64 = 1_000;
/// A number that no message has.
const NO_MESSAGE: i64 = -1;

/// Why the store could not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotificationsError {
    /// The file cannot be opened or is in use by another monitor.
    #[error("cannot open the notifications {path}: {reason}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The disk refused; nothing was changed.
    #[error("the notifications cannot use their file: {reason}")]
    Write {
        /// SQLite's words.
        reason: String,
    },
}

/// A message that is to be sent, the same at every attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// Its number, distinct over all targets and restarts.
    pub number: u64,
    /// What it tells, oldest first.
    pub notices: Vec<Notice>,
}

impl Outgoing {
    /// Whose budget of messages it is taken from.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.notices.iter().any(Notice::is_urgent)
    }
}

/// What waits for a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WaitingNotices {
    /// How many notices.
    pub notices: u64,
    /// How many of them are urgent.
    pub urgent: u64,
    /// Whether the oldest ones make up a message whose attempts have begun.
    pub begun: bool,
}

/// The store; clones share it.
#[derive(Debug, Clone)]
pub struct Notifications {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    last_epoch: u64,
    damage: DamageLog,
    /// None while the disk takes nothing.
    opened: Option<Opened>,
}

#[derive(Debug)]
struct Opened {
    connection: Connection,
    witness: Witness,
    _lock: Option<File>,
}

impl Inner {
    fn ready(&mut self) -> Result<&mut Opened, String> {
        if self.opened.is_none() {
            let database::Opened { connection, lock, mut damage } = database::open(&self.path, &LAYOUT)?;
            let mut witness = Witness::open(&self.path, &mut damage);
            let (noted, last_epoch) = (witness.noted(), self.last_epoch);
            let begin =
                |connection: &mut Connection, damage: &mut Vec<String>| begin(connection, last_epoch, noted, damage);
            let (connection, counts) = database::first_use(&self.path, &LAYOUT, connection, &mut damage, begin)?;
            witness.note(counts);
            self.damage.report_all(&self.path, &damage);
            self.opened = Some(Opened { connection, witness, _lock: lock });
        }
        self.opened.as_mut().ok_or_else(|| "it is not open".to_owned())
    }
}

impl Notifications {
    /// Opens the store. `last_epoch` is the last change that is durable: in a new store, earlier ones
    /// are nobody's business any more. Returns what was damaged, in words.
    ///
    /// # Errors
    /// [`NotificationsError::Open`].
    pub fn open(path: &Path, last_epoch: u64) -> Result<(Self, Vec<String>), NotificationsError> {
        let damage = DamageLog::default();
        let store = Self::open_with(path, last_epoch, damage.clone())?;
        Ok((store, damage.found().newest.into_iter().rev().map(|damage| damage.what).collect()))
    }

    /// [`Notifications::open`], where damage is said. While the disk takes nothing more, the store is there and
    /// refuses; it opens by itself.
    ///
    /// # Errors
    /// As [`Notifications::open`].
    pub fn open_with(path: &Path, last_epoch: u64, damage: DamageLog) -> Result<Self, NotificationsError> {
        let mut inner = Inner { path: path.to_owned(), last_epoch, damage, opened: None };
        if let Err(reason) = inner.ready() {
            let Some(advice) = disk::waits_for(path, &reason) else {
                return Err(NotificationsError::Open { path: path.to_owned(), reason });
            };
            tracing::error!(advice, "the notifications cannot be opened: nobody is told until they can");
        }
        Ok(Self { inner: Arc::new(Mutex::new(inner)) })
    }

    /// The epoch of the last change that was taken.
    ///
    /// # Errors
    /// [`NotificationsError::Write`].
    pub fn mark(&self) -> Result<u64, NotificationsError> {
        let read = |transaction: &Transaction<'_>| {
            transaction.query_row("SELECT mark FROM progress", [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
        };
        self.transact(read)
    }

    /// Takes notices that no mark counts for their targets.
    ///
    /// # Errors
    /// [`NotificationsError::Write`]: none was taken.
    pub fn take(&self, notices: &[(String, Notice)]) -> Result<(), NotificationsError> {
        self.transact(|transaction| insert(transaction, notices))
    }

    /// Takes what there is to tell between two marks, and moves the mark from the one to the other. When
    /// it no longer stands where it was read, someone else has taken it, and nothing happens.
    ///
    /// # Errors
    /// [`NotificationsError::Write`]: none was taken.
    pub fn take_between(&self, from: u64, to: u64, notices: &[(String, Notice)]) -> Result<(), NotificationsError> {
        self.transact(|transaction| {
            let moved = "UPDATE progress SET mark = ?2 WHERE mark = ?1";
            if transaction.execute(moved, [from.cast_signed(), to.cast_signed()])? > 0 {
                insert(transaction, notices)?;
            }
            Ok(())
        })
    }

    /// What waits for a target besides a message that others go before.
    ///
    /// # Errors
    /// [`NotificationsError::Write`].
    pub fn waiting(&self, target: &str, besides: Option<u64>) -> Result<WaitingNotices, NotificationsError> {
        self.transact(|transaction| {
            let sql = "SELECT count(*), count(message), coalesce(sum(urgent), 0) FROM waiting
                       WHERE target = ?1 AND message IS NOT ?2";
            let besides = besides.map_or(NO_MESSAGE, u64::cast_signed);
            transaction.prepare_cached(sql)?.query_row(params![target, besides], |row| {
                let count = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
                Ok(WaitingNotices { notices: count(0)?, urgent: count(2)?, begun: count(1)? > 0 })
            })
        })
    }

    /// The message to send next, besides one that others go before: the oldest that was begun, or a new one. None
    /// when nothing of that waits.
    ///
    /// # Errors
    /// [`NotificationsError::Write`].
    pub fn begin_message(
        &self,
        target: &str,
        of: Selection,
        besides: Option<u64>,
    ) -> Result<Option<Outgoing>, NotificationsError> {
        let besides = besides.map_or(NO_MESSAGE, u64::cast_signed);
        self.transact(|transaction| {
            let begun = "SELECT message FROM waiting
                         WHERE target = ?1 AND message IS NOT NULL AND message <> ?2 ORDER BY id LIMIT 1";
            let begun: Option<i64> =
                transaction.prepare_cached(begun)?.query_row(params![target, besides], |row| row.get(0)).optional()?;
            let number = match begun {
                Some(number) => number,
                None => {
                    let number: i64 = transaction.query_row(
                        "UPDATE progress SET messages = messages + 1 RETURNING messages",
                        [],
                        |row| row.get(0),
                    )?;
                    select(transaction, target, number, of)?;
                    number
                }
            };
            let notices = transaction
                .prepare_cached("SELECT notice FROM waiting WHERE target = ?1 AND message = ?2 ORDER BY id")?
                .query_map(params![target, number], |row| {
                    let json: String = row.get(0)?;
                    serde_json::from_str(&json).map_err(|error| {
                        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
                    })
                })?
                .collect::<rusqlite::Result<Vec<Notice>>>()?;
            let number = number.cast_unsigned();
            Ok((!notices.is_empty()).then_some(Outgoing { number, notices }))
        })
    }

    /// A message was delivered. Where the others were told that the target fails, `again` is taken for them; the
    /// answer is whether it was.
    ///
    /// # Errors
    /// [`NotificationsError::Write`]: it will be sent again, under the same id.
    pub fn delivered(
        &self,
        target: &str,
        number: u64,
        at: Timestamp,
        again: &[(String, Notice)],
    ) -> Result<bool, NotificationsError> {
        self.transact(|transaction| {
            let message = params![target, number.cast_signed()];
            let urgent = "SELECT coalesce(max(urgent), 0) FROM waiting WHERE target = ?1 AND message = ?2";
            let is_urgent: bool = transaction.prepare_cached(urgent)?.query_row(message, |row| row.get(0))?;
            let gone = transaction
                .prepare_cached("DELETE FROM waiting WHERE target = ?1 AND message = ?2")?
                .execute(message)?;
            let was_reported = account::sent(transaction, target, gone as u64, is_urgent, at)?;
            if was_reported {
                insert(transaction, again)?;
            }
            Ok(was_reported)
        })
    }

    /// An attempt failed. When it is the [`REPORTED_FAILURES`]th in a row, `failing` is taken for the other targets;
    /// the answer is whether it was.
    ///
    /// # Errors
    /// [`NotificationsError::Write`].
    pub fn failed(&self, target: &str, reason: &str, failing: &[(String, Notice)]) -> Result<bool, NotificationsError> {
        self.transact(|transaction| {
            let is_news = account::failed(transaction, target, reason)?;
            if is_news {
                insert(transaction, failing)?;
            }
            Ok(is_news)
        })
    }

    /// A message was refused as it is: what it tells waits for another one, as if it had not been begun.
    ///
    /// # Errors
    /// [`NotificationsError::Write`].
    pub fn take_apart(&self, target: &str, number: u64) -> Result<(), NotificationsError> {
        self.transact(|transaction| {
            transaction
                .prepare_cached("UPDATE waiting SET message = NULL WHERE target = ?1 AND message = ?2")?
                .execute(params![target, number.cast_signed()])
                .map(|_| ())
        })
    }

    /// A message will never be delivered. Unless the others know already that the target fails, `failing` is taken
    /// for them. Returns how many notices that gives up.
    ///
    /// # Errors
    /// [`NotificationsError::Write`].
    pub fn give_up_message(
        &self,
        target: &str,
        number: u64,
        reason: &str,
        failing: &[(String, Notice)],
    ) -> Result<u64, NotificationsError> {
        self.transact(|transaction| {
            let gone = give_up(transaction, target, "message = ?2", number.cast_signed(), reason)?;
            if gone > 0 && account::gave_up_message(transaction, target, reason)? {
                insert(transaction, failing)?;
            }
            Ok(gone)
        })
    }

    /// Gives up what became known before a time; a message that was begun only as a whole. Unless the others know
    /// already that the target fails, `failing` is taken for them. Returns how many notices that were.
    ///
    /// # Errors
    /// [`NotificationsError::Write`].
    pub fn give_up_older(
        &self,
        target: &str,
        than: Timestamp,
        reason: &str,
        failing: &[(String, Notice)],
    ) -> Result<u64, NotificationsError> {
        let old = "known_at < ?2 AND (message IS NULL OR message NOT IN
                   (SELECT message FROM waiting WHERE target = ?1 AND message IS NOT NULL AND known_at >= ?2))";
        self.transact(|transaction| {
            let gone = give_up(transaction, target, old, than.as_nanos(), reason)?;
            if gone > 0 && account::gave_up_message(transaction, target, reason)? {
                insert(transaction, failing)?;
            }
            Ok(gone)
        })
    }

    /// Gives up what waits for targets that are not among these. Returns their names and how much it was.
    ///
    /// # Errors
    /// [`NotificationsError::Write`].
    pub fn give_up_others(&self, targets: &[String], reason: &str) -> Result<Vec<(String, u64)>, NotificationsError> {
        self.transact(|transaction| {
            let with_waiting: Vec<String> = transaction
                .prepare("SELECT DISTINCT target FROM waiting")?
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            let mut gone = Vec::new();
            for target in with_waiting.into_iter().filter(|target| !targets.contains(target)) {
                let count = give_up(transaction, &target, "?2 = ?2", 0, reason)?;
                gone.push((target, count));
            }
            Ok(gone)
        })
    }

    /// The account of every target that there is or was, ordered by name.
    ///
    /// # Errors
    /// [`NotificationsError::Write`].
    pub fn accounts(&self) -> Result<Vec<Account>, NotificationsError> {
        self.transact(account::all)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A transaction that panicked was rolled back when it was dropped.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn transact<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, NotificationsError> {
        let mut inner = self.lock();
        let path = inner.path.clone();
        let opened = inner.ready().map_err(|reason| NotificationsError::Write {
            reason: disk::waits_for(&path, &reason).unwrap_or(reason),
        })?;
        let act = || {
            let transaction = opened.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = change(&transaction)?;
            let counts = counts(&transaction)?;
            transaction.commit()?;
            opened.witness.note(counts);
            Ok(done)
        };
        act().map_err(|error: rusqlite::Error| NotificationsError::Write { reason: error.to_string() })
    }
}

/// What the witness is told.
fn counts(connection: &Connection) -> rusqlite::Result<Counts> {
    let sql = "SELECT (SELECT coalesce(sum(taken), 0) FROM accounts), (SELECT messages FROM progress)";
    connection.prepare_cached(sql)?.query_row([], |row| {
        let count = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
        Ok(Counts { taken: count(0)?, messages: count(1)? })
    })
}

/// The journal decides how far changes reach: a mark beyond its last one would hide what comes next.
fn begin(
    connection: &Connection,
    last_epoch: u64,
    noted: Counts,
    damage: &mut Vec<String>,
) -> rusqlite::Result<Counts> {
    let last_epoch = last_epoch.cast_signed();
    connection.execute("INSERT OR IGNORE INTO progress (id, mark, messages) VALUES (1, ?1, 0)", [last_epoch])?;
    connection.execute("UPDATE progress SET mark = min(mark, ?1)", [last_epoch])?;
    // each message has a number of its own, also where the file has lost how many there were
    connection.execute(
        "UPDATE progress SET messages = max(messages, ?1, (SELECT coalesce(max(message), 0) FROM waiting))",
        [noted.messages.cast_signed()],
    )?;
    let counts = counts(connection)?;
    if counts.taken < noted.taken {
        let gone = noted.taken - counts.taken;
        damage.push(format!(
            "{gone} notices that were taken are not there any more; those of verdict changes that were not told are taken again"
        ));
    }
    Ok(counts)
}

fn insert(transaction: &Transaction<'_>, notices: &[(String, Notice)]) -> rusqlite::Result<()> {
    for (target, notice) in notices {
        let json =
            serde_json::to_string(notice).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        transaction
            .prepare_cached(
                "INSERT INTO waiting (target, known_at, notice, urgent, course_of, told_with)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                target,
                notice.known_at().as_nanos(),
                json,
                notice.is_urgent(),
                notice.course_of().map_or("", PublisherId::as_str),
                notice.told_with().unwrap_or_default(),
            ])?;
        account::took_one(transaction, target)?;
        let over = "SELECT max(count(*) - ?2, 0) FROM waiting WHERE target = ?1";
        let most = WAITING_NOTICES_MAX.cast_signed();
        let over: i64 = transaction.prepare_cached(over)?.query_row(params![target, most], |row| row.get(0))?;
        if over > 0 {
            let reason = format!("more than {WAITING_NOTICES_MAX} waited");
            let oldest = "id IN (SELECT id FROM waiting WHERE target = ?1 ORDER BY id LIMIT ?2)";
            give_up(transaction, target, oldest, over, &reason)?;
        }
    }
    Ok(())
}

/// Deletes what waits for a target under a condition on `?2`, counted and with the reason.
fn give_up(
    transaction: &Transaction<'_>,
    target: &str,
    condition: &str,
    value: i64,
    reason: &str,
) -> rusqlite::Result<u64> {
    let gone = transaction
        .prepare_cached(&format!("DELETE FROM waiting WHERE target = ?1 AND {condition}"))?
        .execute(params![target, value])?;
    let gone = gone as u64;
    if gone > 0 {
        account::gave_up(transaction, target, gone, reason)?;
    }
    Ok(gone)
}
