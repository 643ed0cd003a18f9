//! Floor 3: all that is on disk. [`journal`] is the monitor's durable buffer and embedded store,
//! [`outbox`] a publisher's.

pub mod journal;
pub mod outbox;
