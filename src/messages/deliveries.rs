//! transport → subscriber: what the broker handed us, not yet acknowledged.

use std::sync::Arc;

use actix::Message;
use heartwatch_ports::Delivery;

/// A batch of messages in the order of arrival. Its reply means: all of it is safe on disk or
/// accounted for, acknowledge it. Clones share the batch, so a sender can keep it until then.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Deliveries(pub Arc<Vec<Delivery>>);

/// transport → subscriber: a message that could not even be handed over (its reader panicked on it),
/// to be counted and kept for a person.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct ReportBad {
    /// The message.
    pub delivery: Delivery,
    /// What happened.
    pub reason: String,
}
