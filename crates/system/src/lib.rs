//! What every part needs of the machine and the process that it runs in: time, threads, other processes, files that nobody
//! else reads, limits, the log, and what is counted for a person. Nothing in here knows actors.

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
