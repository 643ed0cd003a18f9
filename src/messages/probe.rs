//! watchdog → process probe: questions about one process.

use actix::Message;

use crate::domain::process::{ProbeAnswer, ProcessIdentity};

/// Asks what has become of a process on this host.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "ProbeAnswer")]
pub struct Probe(pub ProcessIdentity);

/// Asks to be told when a process on this host ends. The reply comes then, with what the probe saw of
/// it right after; or at once, in words, when its end cannot be waited for.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "Result<ProbeAnswer, String>")]
pub struct AwaitExit(pub ProcessIdentity);
