//! The journal's identity, in its file.

use rusqlite::Connection;

use crate::records;
use heartwatch_domain::journal_id::JournalId;

const NAME: &str = "identity";

/// Reads it; a file that has none gets the one that is known from elsewhere, or a new one.
pub(super) fn load(connection: &mut Connection, otherwise: Option<JournalId>) -> rusqlite::Result<JournalId> {
    let kept = records::read(connection, NAME)?.and_then(|bytes| bytes.try_into().ok());
    if let Some(bits) = kept {
        return Ok(JournalId::from_bits(u128::from_be_bytes(bits)));
    }
    let made = otherwise.unwrap_or_else(|| JournalId::from_bits(fastrand::u128(..)));
    let transaction = connection.transaction()?;
    records::write(&transaction, NAME, &made.to_bits().to_be_bytes())?;
    transaction.commit()?;
    Ok(made)
}
