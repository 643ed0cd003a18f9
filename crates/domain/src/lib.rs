//! What heartwatch knows about publishers, rows and verdicts, as pure values and functions.
//!
//! Nothing in here reads a clock, a file or a socket: every function takes `now`, so a week of
//! heartbeats runs in a test in a second.

pub mod agent_settings;
pub mod agents;
pub mod arrivals;
pub mod backtest;
pub mod beat;
pub mod boot;
pub mod command;
pub mod confirmers;
pub mod connections;
pub mod damage;
pub mod deadline;
pub mod error_metric;
pub mod evidence;
pub mod flapping;
pub mod history;
pub mod intake;
pub mod journal_id;
pub mod judge;
pub mod last_seen;
pub mod ledger;
pub mod maintenance;
pub mod marks;
pub mod mass_silence;
pub mod metrics;
pub mod nodes;
pub mod notice;
pub mod pattern;
pub mod process;
pub mod publisher;
pub mod reading;
pub mod restart;
pub mod retransmitter;
pub mod roster;
pub mod rule;
pub mod self_check;
pub mod sequence;
pub mod simulation;
pub mod status;
pub mod tally;
pub mod time;
pub mod verdict;
pub mod watch;
