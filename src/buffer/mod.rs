//! Floor 3: all that is on disk. [`journal`] is the monitor's durable buffer and embedded store,
//! [`outbox`] a publisher's.

mod database;
mod encoding;
pub mod journal;
pub mod outbox;
mod salvage;
mod write_ahead_log;
