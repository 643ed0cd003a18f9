//! The ledger as it is on disk, without the monitor: also right after it was killed.

use std::collections::HashSet;
use std::path::Path;

use super::block::Index;
use super::dirty_incarnations::Incarnations;
use super::incarnation::IncarnationState;
use super::schema::LAYOUT;
use super::store::{ledger_lines, named_losses};
use super::{JournalError, NamedLoss, recovery, since};
use crate::database;
use heartwatch_domain::ledger::LedgerLine;
use heartwatch_domain::publisher::{Incarnation, PublisherId};
use heartwatch_domain::time::Timestamp;

/// What the ledger says on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// One line an incarnation, ordered.
    pub accounts: Vec<LedgerLine>,
    /// What their `lost` consists of, ordered.
    pub losses: Vec<NamedLoss>,
    /// Since when the accounts know whose the rows without numbers are; none in a file of an earlier version.
    pub since: Option<Timestamp>,
    /// Accounts that were damaged; the next start of the monitor builds them again.
    pub damaged_accounts: u64,
}

/// Reads the ledger of a journal without changing anything, also while a monitor writes to it.
///
/// # Errors
/// [`JournalError::Open`] or [`JournalError::Read`].
pub fn snapshot(path: &Path, has_sink: bool) -> Result<Snapshot, JournalError> {
    let open = |reason: String| JournalError::Open { path: path.to_owned(), reason };
    let failed = |error: rusqlite::Error| JournalError::Read { reason: error.to_string() };
    let connection = database::open_read_only(path, &LAYOUT).map_err(open)?;
    // both tables as of the same commit
    let transaction = connection.unchecked_transaction().map_err(failed)?;
    let mut select =
        transaction.prepare("SELECT publisher, incarnation, state, id FROM incarnations").map_err(failed)?;
    let mut rows = select.query([]).map_err(failed)?;
    let mut incarnations = Incarnations::default();
    let mut damaged_accounts = 0;
    while let Some(row) = rows.next().map_err(failed)? {
        let publisher = row.get_ref(0).map_err(failed)?.as_str().ok().and_then(|text| PublisherId::parse(text).ok());
        let incarnation: i64 = row.get(1).map_err(failed)?;
        let id: i64 = row.get(3).map_err(failed)?;
        let bytes = row.get_ref(2).map_err(failed)?.as_blob().unwrap_or_default();
        let owner = publisher.map(|publisher| (publisher, Incarnation(incarnation.cast_unsigned())));
        match owner.and_then(|owner| IncarnationState::restore(id, &owner, bytes).map(|state| (owner, state))) {
            Some((owner, state)) => drop(incarnations.insert(owner, state)),
            None => damaged_accounts += 1,
        }
    }
    let sql = "SELECT row_index, id FROM blocks WHERE delivered = 0 ORDER BY id";
    let mut waiting = transaction.prepare(sql).map_err(failed)?;
    let mut rows = waiting.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let index = row.get_ref(0).map_err(failed)?.as_blob().ok().and_then(Index::read);
        let id = row.get(1).map_err(failed)?;
        index.iter().for_each(|index| recovery::accept(id, index, false, &mut incarnations, &mut HashSet::new()));
    }
    Ok(Snapshot {
        accounts: ledger_lines(&incarnations, has_sink),
        losses: named_losses(&incarnations),
        since: since::read(&transaction).map_err(failed)?,
        damaged_accounts,
    })
}
