//! runtime → every actor: finish what you hold, then answer; roles → watchdog: who ends with the monitor.

use actix::Message;
use tokio::time::Instant;

use heartwatch_domain::publisher::PublisherId;

/// Asks an actor to hand on all that it holds; its reply means that it has.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Drain {
    /// After this the program ends in any case.
    pub deadline: Instant,
}

/// These publishers end now because the monitor, which has started them, does: their end is no verdict.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct StopWithMonitor(pub Vec<PublisherId>);
