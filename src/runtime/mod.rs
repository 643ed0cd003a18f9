//! Floor 3: how actors live and end. The runtime is a value: no statics, no registry.

pub mod begun;
pub mod broker_counts;
pub mod clock;
pub mod connections;
pub mod damage_log;
pub mod descendants;
pub mod descriptors;
pub mod directory;
#[cfg(test)]
#[path = "../../tests/support/failpoints.rs"]
pub mod failpoints;
pub mod line_limit;
pub mod lines;
pub mod log;
pub mod outlet;
pub mod own_thread;
pub mod parts;
pub mod private_files;
pub mod queues;
pub mod shutdown;
pub mod signals;
pub mod supervisor;
pub mod tied;
pub mod vitals;
