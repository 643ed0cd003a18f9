//! runtime → every actor: finish what you hold, then answer.

use actix::Message;
use tokio::time::Instant;

/// Asks an actor to hand on all that it holds; its reply means that it has.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Drain {
    /// After this the program ends in any case.
    pub deadline: Instant,
}
