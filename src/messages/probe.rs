//! watchdog → process probe: questions about one process.

use actix::Message;

use heartwatch_domain::process::{ProbeAnswer, ProcessIdentity};
use heartwatch_domain::publisher::PublisherId;

/// Asks what has become of a process: on this host, or on another one by its agent.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "ProbeAnswer")]
pub struct Probe {
    /// Which process.
    pub process: ProcessIdentity,
    /// The agent to ask; none is a look of our own.
    pub agent: Option<PublisherId>,
}

/// Asks to be told when a process on this host ends. The reply comes then, with what the probe saw of
/// it right after; or at once, in words, when its end cannot be waited for.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "Result<ProbeAnswer, String>")]
pub struct AwaitExit(pub ProcessIdentity);
