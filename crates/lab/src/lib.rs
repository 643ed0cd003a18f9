//! The laboratory: it starts whole monitors, publishers and real servers as programs, breaks them, and measures them. It knows
//! the product by its command line, its page and its files only.

pub mod args;
pub mod bench;
#[cfg(all(feature = "hosts", feature = "kafka"))]
pub mod cluster;
#[cfg(not(all(feature = "hosts", feature = "kafka")))]
#[path = "without_cluster.rs"]
pub mod cluster;
mod cpu_steal;
pub mod prove;
