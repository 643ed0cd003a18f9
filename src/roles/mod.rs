//! Floor 6: what the program can be. A role is one straight function that wires parts; they all wire
//! the same ones.

pub mod agent;
#[cfg(feature = "kafka")]
pub mod analysis;
#[cfg(not(feature = "kafka"))]
#[path = "without_kafka.rs"]
pub mod analysis;
pub mod ask;
pub mod assemble;
pub mod backtest;
pub mod bench;
pub mod check;
pub mod cli;
#[cfg(all(feature = "hosts", feature = "kafka"))]
pub mod cluster;
#[cfg(not(all(feature = "hosts", feature = "kafka")))]
#[path = "without_cluster.rs"]
pub mod cluster;
pub mod connection;
pub mod consequences;
pub mod demo;
pub mod export;
pub mod feeds;
pub mod kafka_intake;
pub mod manual;
pub mod nodes;
pub mod pipeline;
pub mod prompt;
pub mod prove;
pub mod publish;
mod queues;
pub mod reconcile;
pub mod reload;
pub mod run;
#[cfg(feature = "hosts")]
pub mod server;
#[cfg(not(feature = "hosts"))]
#[path = "without_hosts.rs"]
pub mod server;
mod session;
pub mod start;
mod stolen;
mod takeover;
pub mod top;
