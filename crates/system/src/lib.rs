//! What the parts need of the machine that they run on: time, threads, processes, files that nobody else reads, and the
//! limits of all of them. Nothing in here knows actors, protocols or publishers' data.

pub mod bounded_lines;
pub mod broker_counts;
pub mod clock;
pub mod connections;
pub mod damage_log;
pub mod dedicated_thread;
pub mod descendants;
pub mod descriptors;
pub mod host;
pub mod log;
pub mod log_rate_limit;
pub mod parent_death;
pub mod poll_once;
pub mod private_files;
pub mod queues;
pub mod rustls_provider;
pub mod signals;
