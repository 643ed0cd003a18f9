//! All that is on disk. [`journal`] is the monitor's durable buffer and embedded store,
//! [`outbox`] a publisher's, [`notifications`] what waits to be told.

pub mod backup;
mod database;
mod disk;
mod encoding;
pub mod journal;
#[cfg(test)]
mod kill_tests;
pub mod last_seen;
mod layout;
pub mod maintenance;
pub mod notifications;
pub mod outbox;
mod records;
mod salvage;
mod seal;
mod slot;
pub mod text_file;
mod upgrade;
mod write_ahead_log;
