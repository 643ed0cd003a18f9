//! The queues of a monitor, as `/metrics` shows them.

use heartwatch_ports::{Transport, TransportWaiting};
use heartwatch_store::journal::Journal;
use heartwatch_system::queues::Queues;
use std::sync::Arc;

/// The queues that every monitor has.
pub(super) fn queues(journal: &Journal, transport: &Arc<dyn Transport>) -> Queues {
    let queues = Queues::default();
    let (_, entries_max) = journal.queue_entries();
    let journal = journal.clone();
    queues.add("journal", entries_max, move || Some(journal.queue_entries().0));
    if let Some(TransportWaiting { to_send_max, to_take_max, .. }) = transport.waiting() {
        let (sending, taking) = (transport.clone(), transport.clone());
        queues.add("mqtt to send", to_send_max, move || sending.waiting().map(|waiting| waiting.to_send));
        queues.add("mqtt to take", to_take_max, move || taking.waiting().map(|waiting| waiting.to_take));
    }
    queues
}
