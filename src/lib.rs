//! heartwatch watches programs that publish data: every silence explained, every row accounted for.
//!
//! The rooms and who may import whom are in `ARCHITECTURE.md`; `tests/architecture.rs` checks it.

pub mod actors;
pub mod adapters;
pub mod config;
pub mod console;
pub mod messages;
pub mod plugins;
pub mod roles;
pub mod runtime;
pub mod sources;
pub mod web;
#[cfg(feature = "hosts")]
pub mod wire;
