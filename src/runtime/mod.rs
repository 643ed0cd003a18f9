//! Floor 3: how actors live and end. The runtime is a value: no statics, no registry.

pub mod directory;
#[cfg(test)]
#[path = "../../tests/support/failpoints.rs"]
pub mod failpoints;
pub mod outlet;
pub mod parts;
pub mod shutdown;
pub mod supervisor;
pub mod vitals;
