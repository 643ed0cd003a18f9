//! Floor 3: the actors, one a file. They reach the outside world through ports, and each other through outlets.

pub(crate) mod alarms;
pub mod child;
pub(crate) mod collector;
pub(crate) mod executor;
pub mod influx_writer;
pub(crate) mod notifier;
pub(crate) mod process_probe;
pub(crate) mod publisher;
#[cfg(feature = "hosts")]
pub(crate) mod registration;
pub mod self_monitor;
pub mod subscriber;
pub(crate) mod watchdog;
