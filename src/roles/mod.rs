//! Floor 5: what the program can be. A role is one straight function that wires parts; they all wire
//! the same ones.

mod agent;
#[cfg(feature = "kafka")]
mod analysis;
#[cfg(not(feature = "kafka"))]
#[path = "without_kafka.rs"]
mod analysis;
mod backtest;
mod backup;
pub mod check;
pub mod cli;
mod client;
mod completions;
mod connection;
mod demo;
mod doctor;
pub mod export;
mod init;
mod kafka_intake;
mod lease_view;
mod managed_publishers;
mod notification_wiring;
pub mod pipeline;
#[cfg(any(feature = "hosts", feature = "kafka"))]
mod prompt;
mod publish;
mod queues;
mod reconcile;
mod reload;
mod run;
#[cfg(feature = "hosts")]
mod server;
#[cfg(not(feature = "hosts"))]
#[path = "without_hosts.rs"]
mod server;
mod session;
pub mod start;
mod takeover;
mod top;
mod user_lines;
