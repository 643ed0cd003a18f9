//! Floor 1: the edges of the actor graph, one file an edge. Data flows one way; an answer is the
//! reply to a message, never a message back.

pub mod agent;
pub mod alarms;
pub mod ask;
pub mod beats;
pub mod change;
pub mod child;
pub mod deliveries;
pub mod drain;
pub mod intake;
pub mod maintenance;
pub mod notice;
pub mod page;
pub mod probe;
pub mod progress;
