//! transport → subscriber: what the broker handed us, not yet acknowledged.

use std::sync::Arc;

use actix::Message;

use crate::domain::time::{Monotonic, Timestamp};
use crate::messages::beats::Way;
use crate::messages::marks::SourceMark;
use crate::ports::Receipt;

/// One MQTT message as it came, before anything in it is believed.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The topic, as text from outside.
    pub topic: String,
    /// The payload, as bytes from outside.
    pub payload: Vec<u8>,
    /// Whether the broker had kept it from before our subscription.
    pub retained: bool,
    /// When it arrived, on the clock that decides.
    pub at: Monotonic,
    /// When it arrived, on the clock that is written down.
    pub wall: Timestamp,
    /// On which way it came.
    pub way: Way,
    /// How it is known when it comes again; none where it has no such mark.
    pub mark: Option<SourceMark>,
    /// What to hand back to the transport when its content is safe on disk.
    pub receipt: Receipt,
}

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
