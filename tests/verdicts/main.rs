//! What is said of publishers, and whether it is true: deaths, silence, faults of our own parts, `prove`.

mod events;
mod evidence;
mod leases;
mod prove;
mod reload;
mod self_monitor;
mod supervision;
#[path = "../support/mod.rs"]
mod support;
