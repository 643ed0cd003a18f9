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

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::database::{self, Layout};
use crate::domain::notice::Notice;
use crate::domain::time::Timestamp;

/// Most notices that wait for one target; at the limit the oldest are given up.
pub const WAITING_NOTICES_MAX: u64 = 10_000;
/// Most notices in one message.
pub const MESSAGE_NOTICES_MAX: u64 = 1_000;

const LAYOUT: Layout = Layout {
    what: "a store of notifications",
    application_id: 0x4857_4e54, // "HWNT"
    version: 1,
    create: "
        CREATE TABLE IF NOT EXISTS progress (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            mark INTEGER NOT NULL,
            messages INTEGER NOT NULL
        ) STRICT;
        CREATE TABLE IF NOT EXISTS accounts (
            id INTEGER PRIMARY KEY,
            target TEXT NOT NULL UNIQUE,
            taken INTEGER NOT NULL DEFAULT 0,
            sent INTEGER NOT NULL DEFAULT 0,
            given_up INTEGER NOT NULL DEFAULT 0,
            messages INTEGER NOT NULL DEFAULT 0,
            failures INTEGER NOT NULL DEFAULT 0,
            last_error TEXT NOT NULL DEFAULT '',
            last_given_up TEXT NOT NULL DEFAULT '',
            last_sent INTEGER,
            recent TEXT NOT NULL DEFAULT '[]'
        ) STRICT;
        CREATE TABLE IF NOT EXISTS waiting (
            id INTEGER PRIMARY KEY,
            target TEXT NOT NULL,
            known_at INTEGER NOT NULL,
            message INTEGER,
            notice TEXT NOT NULL
        ) STRICT;
        CREATE INDEX IF NOT EXISTS waiting_by_target ON waiting (target, id);
    ",
    tables: &["progress", "accounts", "waiting"],
};

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

/// What waits for a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// How many notices.
    pub notices: u64,
    /// Whether the oldest ones make up a message whose attempts have begun.
    pub begun: bool,
}

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
    /// Attempts in a row that failed.
    pub failures: u64,
    /// The last error; empty when the last attempt worked.
    pub last_error: String,
    /// The last reason for giving something up.
    pub last_given_up: String,
    /// When the last message was delivered.
    pub last_sent: Option<Timestamp>,
    /// When the latest messages were delivered, oldest first; at most [`RECENT_MAX`].
    pub recent: Vec<Timestamp>,
}

/// How many times of delivered messages an account remembers.
pub const RECENT_MAX: usize = 120;

/// The store; clones share it.
#[derive(Debug, Clone)]
pub struct Notifications {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    connection: Connection,
    _lock: Option<File>,
}

impl Notifications {
    /// Opens the store. `last_epoch` is the last change that is durable: in a new store, earlier ones
    /// are nobody's business any more. Returns what was damaged, in words.
    ///
    /// # Errors
    /// [`NotificationsError::Open`].
    pub fn open(path: &Path, last_epoch: u64) -> Result<(Self, Vec<String>), NotificationsError> {
        let failed = |reason: String| NotificationsError::Open { path: path.to_owned(), reason };
        let database::Opened { connection, lock, mut damage } = database::open(path, &LAYOUT).map_err(failed)?;
        let begin = |connection: &mut Connection, _: &mut Vec<String>| begin(connection, last_epoch);
        let (connection, ()) = database::first_use(path, &LAYOUT, connection, &mut damage, begin).map_err(failed)?;
        let inner = Arc::new(Mutex::new(Inner { connection, _lock: lock }));
        Ok((Self { inner }, damage))
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
    /// What waits for a target.
    ///
    /// # Errors
    /// [`NotificationsError::Write`].
    pub fn waiting(&self, target: &str) -> Result<Waiting, NotificationsError> {
        self.transact(|transaction| {
            transaction.prepare_cached("SELECT count(*), count(message) FROM waiting WHERE target = ?1")?.query_row(
                [target],
                |row| {
                    let (notices, begun) = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?);
                    Ok(Waiting { notices: notices.cast_unsigned(), begun: begun > 0 })
                },
            )
        })
    }

    /// The message to send next: the one that was begun, or a new one of the oldest notices, at most
    /// `notices_max` of them. None when nothing waits.
    ///
    /// # Errors
    /// [`NotificationsError::Write`].
    pub fn begin_message(&self, target: &str, notices_max: u64) -> Result<Option<Outgoing>, NotificationsError> {
        self.transact(|transaction| {
            let begun: Option<i64> = transaction
                .prepare_cached("SELECT message FROM waiting WHERE target = ?1 AND message IS NOT NULL LIMIT 1")?
                .query_row([target], |row| row.get(0))
                .optional()?;
            let number = match begun {
                Some(number) => number,
                None => {
                    let number: i64 = transaction.query_row(
                        "UPDATE progress SET messages = messages + 1 RETURNING messages",
                        [],
                        |row| row.get(0),
                    )?;
                    transaction
                        .prepare_cached(
                            "UPDATE waiting SET message = ?2
                             WHERE id IN (SELECT id FROM waiting WHERE target = ?1 ORDER BY id LIMIT ?3)",
                        )?
                        .execute(params![target, number, notices_max.min(MESSAGE_NOTICES_MAX).cast_signed()])?;
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

    /// A message was delivered.
    ///
    /// # Errors
    /// [`NotificationsError::Write`]: it will be sent again, under the same id.
    pub fn delivered(&self, target: &str, number: u64, at: Timestamp) -> Result<(), NotificationsError> {
        self.transact(|transaction| {
            let gone = transaction
                .prepare_cached("DELETE FROM waiting WHERE target = ?1 AND message = ?2")?
                .execute(params![target, number.cast_signed()])?;
            let mut recent = recent(transaction, target)?;
            recent.push(at);
            let over = recent.len().saturating_sub(RECENT_MAX);
            recent.drain(..over);
            let recent: Vec<i64> = recent.iter().map(|at| at.as_nanos()).collect();
            transaction
                .prepare_cached(
                    "UPDATE accounts SET sent = sent + ?2, messages = messages + 1, failures = 0, last_error = '',
                     last_sent = ?3, recent = ?4 WHERE target = ?1",
                )?
                .execute(params![
                    target,
                    i64::try_from(gone).unwrap_or(i64::MAX),
                    at.as_nanos(),
                    serde_json::to_string(&recent).unwrap_or_else(|_| "[]".to_owned())
                ])?;
            Ok(())
        })
    }

    /// An attempt failed.
    ///
    /// # Errors
    /// [`NotificationsError::Write`].
    pub fn failed(&self, target: &str, reason: &str) -> Result<(), NotificationsError> {
        self.transact(|transaction| {
            transaction
                .prepare_cached("UPDATE accounts SET failures = failures + 1, last_error = ?2 WHERE target = ?1")?
                .execute([target, reason])?;
            Ok(())
        })
    }

    /// A message will never be delivered. Returns how many notices that gives up.
    ///
    /// # Errors
    /// [`NotificationsError::Write`].
    pub fn give_up_message(&self, target: &str, number: u64, reason: &str) -> Result<u64, NotificationsError> {
        self.transact(|transaction| give_up(transaction, target, "message = ?2", number.cast_signed(), reason))
    }

    /// Gives up what became known before a time; a message that was begun only as a whole. Returns how
    /// many notices that were.
    ///
    /// # Errors
    /// [`NotificationsError::Write`].
    pub fn give_up_older(&self, target: &str, than: Timestamp, reason: &str) -> Result<u64, NotificationsError> {
        let old = "known_at < ?2 AND (message IS NULL OR message NOT IN
                   (SELECT message FROM waiting WHERE target = ?1 AND message IS NOT NULL AND known_at >= ?2))";
        self.transact(|transaction| give_up(transaction, target, old, than.as_nanos(), reason))
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
        self.transact(|transaction| {
            transaction
                .prepare_cached(
                    "SELECT target, taken, sent, given_up, messages, failures, last_error, last_given_up, last_sent,
                     (SELECT count(*) FROM waiting WHERE waiting.target = accounts.target), recent
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
                    })
                })?
                .collect()
        })
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
        let act = || {
            let transaction = inner.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = change(&transaction)?;
            transaction.commit()?;
            Ok(done)
        };
        act().map_err(|error: rusqlite::Error| NotificationsError::Write { reason: error.to_string() })
    }
}

/// The journal decides how far changes reach: a mark beyond its last one would hide what comes next.
fn begin(connection: &Connection, last_epoch: u64) -> rusqlite::Result<()> {
    let last_epoch = last_epoch.cast_signed();
    connection.execute("INSERT OR IGNORE INTO progress (id, mark, messages) VALUES (1, ?1, 0)", [last_epoch])?;
    connection.execute("UPDATE progress SET mark = min(mark, ?1)", [last_epoch])?;
    Ok(())
}

fn insert(transaction: &Transaction<'_>, notices: &[(String, Notice)]) -> rusqlite::Result<()> {
    for (target, notice) in notices {
        let json =
            serde_json::to_string(notice).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        transaction
            .prepare_cached("INSERT INTO waiting (target, known_at, notice) VALUES (?1, ?2, ?3)")?
            .execute(params![target, notice.known_at().as_nanos(), json])?;
        transaction
            .prepare_cached(
                "INSERT INTO accounts (target, taken) VALUES (?1, 1)
                 ON CONFLICT (target) DO UPDATE SET taken = taken + 1",
            )?
            .execute([target])?;
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
    if gone > 0 {
        transaction
            .prepare_cached("UPDATE accounts SET given_up = given_up + ?2, last_given_up = ?3 WHERE target = ?1")?
            .execute(params![target, i64::try_from(gone).unwrap_or(i64::MAX), reason])?;
    }
    Ok(gone as u64)
}

fn recent(transaction: &Transaction<'_>, target: &str) -> rusqlite::Result<Vec<Timestamp>> {
    let json: Option<String> = transaction
        .prepare_cached("SELECT recent FROM accounts WHERE target = ?1")?
        .query_row([target], |row| row.get(0))
        .optional()?;
    Ok(json.map(|json| times(&json)).unwrap_or_default())
}

fn times(json: &str) -> Vec<Timestamp> {
    let nanos: Vec<i64> = serde_json::from_str(json).unwrap_or_default();
    nanos.into_iter().map(Timestamp::from_nanos).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::notice::GaveUp;
    use crate::domain::publisher::{HostName, PublisherId};

    fn notice(number: i64) -> Notice {
        Notice::GaveUp(GaveUp {
            publisher: PublisherId::parse("light").unwrap(),
            host: HostName::parse("here").unwrap(),
            at: Timestamp::from_nanos(number * 1_000_000),
            summary: number.to_string(),
        })
    }

    fn open(directory: &Path, last_epoch: u64) -> Notifications {
        let (store, damage) = Notifications::open(&directory.join("notifications.sqlite"), last_epoch).unwrap();
        assert_eq!(damage, Vec::<String>::new());
        store
    }

    fn account(store: &Notifications) -> Account {
        store.accounts().unwrap().into_iter().find(|account| account.target == "a").unwrap_or_default()
    }

    #[test]
    fn what_was_taken_is_there_after_a_restart_with_its_message_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path(), 7);
        assert_eq!(store.mark(), Ok(7), "what happened before the first start is not told");
        store.take_between(7, 9, &[("a".into(), notice(1)), ("a".into(), notice(2)), ("b".into(), notice(2))]).unwrap();
        let message = store.begin_message("a", 1).unwrap().unwrap();
        assert_eq!(message.notices, [notice(1)]);
        drop(store);
        let store = open(directory.path(), 12);
        assert_eq!(store.mark(), Ok(9));
        store.take_between(7, 10, &[("a".into(), notice(3))]).unwrap();
        assert_eq!(store.mark(), Ok(9), "taken by someone else already");
        store.take_between(9, 10, &[("a".into(), notice(3))]).unwrap();
        assert_eq!(store.begin_message("a", 100).unwrap(), Some(message.clone()), "the same message again");
        store.delivered("a", message.number, Timestamp::from_nanos(5)).unwrap();
        let digest = store.begin_message("a", 100).unwrap().unwrap();
        assert_eq!(digest.notices, [notice(2), notice(3)]);
        assert_ne!(digest.number, message.number);
        store.failed("a", "no route").unwrap();
        assert_eq!((account(&store).failures, account(&store).last_error.as_str()), (1, "no route"));
        assert_eq!(store.give_up_message("a", digest.number, "refused"), Ok(2));
        let account = account(&store);
        assert_eq!((account.taken, account.sent, account.given_up, account.waiting), (3, 1, 2, 0));
        assert_eq!(account.recent, [Timestamp::from_nanos(5)]);
        assert_eq!(store.give_up_others(&["a".into()], "removed"), Ok(vec![("b".into(), 1)]));
    }

    #[test]
    fn a_mark_beyond_the_journal_is_taken_back() {
        let directory = tempfile::tempdir().unwrap();
        open(directory.path(), 7).take_between(7, 20, &[]).unwrap();
        assert_eq!(open(directory.path(), 11).mark(), Ok(11));
    }

    #[test]
    fn a_second_monitor_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let _first = open(directory.path(), 0);
        let error = Notifications::open(&directory.path().join("notifications.sqlite"), 0).unwrap_err();
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    }

    #[derive(Debug, Clone)]
    enum Act {
        Take(u8),
        Begin(u64),
        Deliver,
        GiveUp,
        GiveUpOlder(u8),
        Reopen,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            (1_u8..5).prop_map(Act::Take),
            (1_u64..4).prop_map(Act::Begin),
            Just(Act::Deliver),
            Just(Act::GiveUp),
            any::<u8>().prop_map(Act::GiveUpOlder),
            Just(Act::Reopen),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        /// Whatever happens, also over restarts, the account balances, and notices come in order.
        #[test]
        fn the_account_balances(acts in prop::collection::vec(act(), 1..40)) {
            let directory = tempfile::tempdir().unwrap();
            let mut store = open(directory.path(), 0);
            let (mut next, mut told) = (0_i64, Vec::new());
            for act in acts {
                let begun = store.waiting("a").unwrap().begun;
                match act {
                    Act::Take(count) => for _ in 0..count {
                        next += 1;
                        let (from, to) = (next.cast_unsigned() - 1, next.cast_unsigned());
                        store.take_between(from, to, &[("a".into(), notice(next))]).unwrap();
                    },
                    Act::Begin(most) => { store.begin_message("a", most).unwrap(); }
                    Act::Deliver if begun => {
                        let message = store.begin_message("a", 1).unwrap().unwrap();
                        told.extend(message.notices.iter().map(Notice::known_at));
                        store.delivered("a", message.number, Timestamp::from_nanos(next)).unwrap();
                    }
                    Act::GiveUp if begun => {
                        let message = store.begin_message("a", 1).unwrap().unwrap();
                        store.give_up_message("a", message.number, "refused").unwrap();
                    }
                    Act::Deliver | Act::GiveUp => {}
                    Act::GiveUpOlder(than) => {
                        store.give_up_older("a", Timestamp::from_nanos(i64::from(than) * 1_000_000), "too old").unwrap();
                    }
                    Act::Reopen => {
                        drop(store);
                        store = open(directory.path(), next.cast_unsigned());
                        prop_assert_eq!(store.mark(), Ok(next.cast_unsigned()));
                    }
                }
                let account = account(&store);
                prop_assert_eq!(account.taken, next.cast_unsigned());
                prop_assert_eq!(account.taken, account.sent + account.waiting + account.given_up);
                prop_assert_eq!(account.sent, told.len() as u64);
            }
            prop_assert!(told.is_sorted());
        }
    }
}
