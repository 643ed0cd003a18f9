//! The journal's thread: while one group is being committed the next one gathers in the queue.
//!
//! A mark of delivery that is alone has no commit of its own: it waits for the next group, or until somebody
//! asks for it. Who takes a batch for the sink waits for the group that is being committed and for none behind
//! it: while rows flood in, the sink would get too few otherwise.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use super::store::{Store, Write};
use super::{Batch, JournalError, Level, Limits, NamedLoss};
use heartwatch_domain::history::{ChangesQuery, DeadLetterLine, NewestQuery};
use heartwatch_domain::intake::AppendReceipt;
use heartwatch_domain::ledger::LedgerLine;
use heartwatch_domain::verdict::Change;

/// A group takes no more once it holds this many bytes: a larger one would save no more syncs, and batches for the
/// sink are taken between two groups.
const GROUP_BYTES_MAX: usize = 1 << 20;
/// A group takes no more once it holds this many writes.
const GROUP_WRITES_MAX: usize = 4_096;

pub(super) type Reply<T> = oneshot::Sender<Result<T, JournalError>>;

/// What the thread is asked.
pub(super) enum CommitterCommand {
    Write {
        write: Write,
        reply: Reply<AppendReceipt>,
        permit: Option<OwnedSemaphorePermit>,
    },
    /// Somebody waits in the other queue.
    Take,
    Changes {
        ask: ChangesQuery,
        reply: Reply<Vec<Change>>,
    },
    NewestChanges {
        ask: NewestQuery,
        reply: Reply<Vec<Change>>,
    },
    DeadLetters {
        entries_max: usize,
        reply: Reply<Vec<DeadLetterLine>>,
    },
    Accounts {
        reply: Reply<Vec<LedgerLine>>,
    },
    Losses {
        reply: Reply<Vec<NamedLoss>>,
    },
    SplitLanes {
        reply: Reply<()>,
    },
    /// Commit what is put off.
    Flush {
        reply: Reply<()>,
    },
    SetLimits {
        limits: Limits,
        reply: Reply<()>,
    },
    Close {
        reply: oneshot::Sender<()>,
    },
    #[cfg(test)]
    Execute {
        sql: String,
        reply: Reply<()>,
    },
}

/// Who takes a batch for the sink.
pub(super) struct Take {
    pub rows_max: u64,
    pub bytes_max: usize,
    /// Blocks that are on their way already.
    pub besides: Arc<BTreeSet<i64>>,
    pub reply: Reply<Batch>,
}

/// Serves commands until it is told to close or nobody is left to ask.
pub(super) fn run(
    mut store: Store,
    mut commands: mpsc::Receiver<CommitterCommand>,
    mut takes: mpsc::Receiver<Take>,
    level: &watch::Sender<Level>,
) {
    let mut group: Vec<Queued> = Vec::new();
    while let Some(command) = commands.blocking_recv() {
        while let Ok(take) = takes.try_recv() {
            serve(&mut store, take, level);
        }
        let mut next = Some(command);
        let mut bytes = 0;
        let mut other = None;
        while let Some(command) = next.take() {
            match command {
                CommitterCommand::Write { write, reply, permit } => {
                    bytes += write.bytes();
                    group.push((write, reply, permit));
                }
                CommitterCommand::Take => {}
                command => {
                    other = Some(command);
                    break;
                }
            }
            if bytes < GROUP_BYTES_MAX && group.len() < GROUP_WRITES_MAX {
                next = commands.try_recv().ok();
            }
        }
        let is_urgent = group.iter().any(|(write, ..)| !matches!(write, Write::Delivered { .. }));
        let can_wait = other.is_none() && group.len() < GROUP_WRITES_MAX;
        if is_urgent || !can_wait {
            commit(&mut store, &mut group, level);
        }
        match other {
            Some(CommitterCommand::Close { reply }) => {
                commands.close();
                store.checkpoint();
                drop(store);
                let _ = reply.send(());
                return;
            }
            Some(command) => answer(&mut store, command),
            None => {}
        }
    }
    commit(&mut store, &mut group, level);
    store.checkpoint();
}

/// A write, who waits for it, and its place in the queue.
type Queued = (Write, Reply<AppendReceipt>, Option<OwnedSemaphorePermit>);

fn commit(store: &mut Store, group: &mut Vec<Queued>, level: &watch::Sender<Level>) {
    if group.is_empty() {
        return;
    }
    let writes: Vec<&Write> = group.iter().map(|(write, ..)| write).collect();
    let result = store.commit(&writes);
    level.send_replace(store.level());
    // a reply that nobody waits for any more is fine: its content is on disk
    match result {
        Ok(answers) => {
            for ((_, reply, _), answer) in group.drain(..).zip(answers) {
                let _ = reply.send(Ok(answer));
            }
        }
        Err(error) => {
            for (_, reply, _) in group.drain(..) {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }
}

fn serve(store: &mut Store, Take { rows_max, bytes_max, besides, reply }: Take, level: &watch::Sender<Level>) {
    let batch = store.next_batch(rows_max, bytes_max, &besides);
    level.send_replace(store.level());
    let _ = reply.send(batch);
}

fn answer(store: &mut Store, command: CommitterCommand) {
    match command {
        CommitterCommand::Changes { ask, reply } => drop(reply.send(store.changes(&ask))),
        CommitterCommand::NewestChanges { ask, reply } => drop(reply.send(store.newest_changes(&ask))),
        CommitterCommand::DeadLetters { entries_max, reply } => drop(reply.send(store.dead_letters(entries_max))),
        CommitterCommand::Accounts { reply } => drop(reply.send(store.accounts())),
        CommitterCommand::Losses { reply } => drop(reply.send(store.losses())),
        CommitterCommand::SetLimits { limits, reply } => {
            store.set_limits(limits);
            let _ = reply.send(Ok(()));
        }
        CommitterCommand::Flush { reply } => drop(reply.send(Ok(()))),
        CommitterCommand::SplitLanes { reply } => drop(reply.send(store.split_lanes())),
        #[cfg(test)]
        CommitterCommand::Execute { sql, reply } => drop(reply.send(store.execute(&sql))),
        CommitterCommand::Write { .. } | CommitterCommand::Take | CommitterCommand::Close { .. } => {}
    }
}
