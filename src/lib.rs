//! heartwatch watches programs that publish data: every silence explained, every row accounted for.
//!
//! The rooms and who may import whom are in `ARCHITECTURE.md`; `tests/documents/architecture.rs` checks it.

pub mod actors;
pub mod config;
pub mod messages;
pub mod roles;
pub mod runtime;
pub mod sources;
mod web;
