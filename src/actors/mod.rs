//! Floor 4: the actors, one a file. They reach the outside world through ports, and each other through outlets.

pub mod alarms;
pub mod child;
pub mod collector;
pub mod executor;
pub mod influx_writer;
pub mod notifier;
pub mod process_probe;
pub mod publisher;
pub mod registration;
pub mod subscriber;
pub mod watchdog;
pub mod watchman;
