//! Since when the accounts of a journal say which rows are here alone, and whose the rows without numbers are.

use rusqlite::{Connection, Transaction};

use super::schema::{DELIVERED, HERE};
use crate::records;
use heartwatch_domain::time::Timestamp;
use heartwatch_system::clock::Clock;

const NAME: &str = "accounts_since";

/// Since when; none where no version has noted it that knows.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let kept = records::read(connection, NAME)?.and_then(|bytes| bytes.try_into().ok());
    Ok(kept.map(|bytes| Timestamp::from_nanos(i64::from_be_bytes(bytes))))
}

/// Since when, and whether that begins now: an earlier version has written the file, or it is new. Without a sink, what
/// an earlier version called delivered is here alone.
pub(super) fn begin(transaction: &Transaction<'_>, has_sink: bool) -> rusqlite::Result<(Timestamp, bool)> {
    if let Some(since) = read(transaction)? {
        return Ok((since, false));
    }
    let since = Clock::start().wall();
    if !has_sink {
        transaction.execute("UPDATE blocks SET delivered = ?1 WHERE delivered = ?2", [HERE, DELIVERED])?;
    }
    records::write(transaction, NAME, &since.as_nanos().to_be_bytes())?;
    Ok((since, true))
}
