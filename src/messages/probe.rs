//! watchdog → process probe: one question about one process.

use actix::Message;

use crate::domain::process::{ProbeAnswer, ProcessIdentity};

/// Asks what has become of a process on this host.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "ProbeAnswer")]
pub struct Probe(pub ProcessIdentity);
