//! What comes from the field: devices, programs, files, this host.

mod fixtures;
mod foreign;
mod sensor;
#[path = "../support/mod.rs"]
mod support;
mod system;
