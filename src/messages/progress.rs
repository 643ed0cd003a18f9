//! supervisor's watch → every actor: do you still handle messages?
//!
//! An actor that exists and does not answer is stuck: it is ended and started again. The answer says
//! that its mailbox moves, and nothing about what it waits for: slow neighbours are no reason to end it.

use actix::Message;
use serde::{Deserialize, Serialize};

/// A question that costs nothing to answer.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct AskProgress;

/// Lets an actor answer [`AskProgress`]: every actor that the supervisor starts does. Where a test makes the failpoint named
/// after it return, it handles nothing any more from then on.
macro_rules! answers_progress {
    ($actor:ty) => {
        impl actix::Handler<$crate::messages::progress::AskProgress> for $actor {
            type Result = ();
            fn handle(&mut self, _: $crate::messages::progress::AskProgress, _context: &mut Self::Context) {
                fail::fail_point!(concat!(stringify!($actor), "::progress"), |_| {
                    let for_ever = actix::fut::wrap_future::<_, Self>(std::future::pending::<()>());
                    actix::AsyncContext::wait(_context, for_ever);
                });
            }
        }
    };
}
pub(crate) use answers_progress;

/// Asks the watchman how the monitor itself does.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "MonitorStatus")]
pub struct AskMonitor;

/// How the monitor itself does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MonitorStatus {
    /// Its id, under which other monitors can watch it.
    pub id: String,
    /// Whether all of its actors answered when they were last asked.
    pub healthy: bool,
    /// Its actors, in the order in which they were started.
    pub actors: Vec<ActorStatus>,
    /// How often the configured URL was told that it is well.
    #[serde(default)]
    pub pings: u64,
    /// How often that failed.
    #[serde(default)]
    pub pings_failed: u64,
    /// Why there was no ping the last time that one was due; empty when there was.
    #[serde(default)]
    pub ping_error: String,
}

/// How one actor does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorStatus {
    /// Its name; several children share one.
    pub actor: String,
    /// How often it was started again, for whatever reason.
    pub restarts: u64,
    /// How often of these because it no longer answered.
    pub stuck: u64,
    /// Checks in a row that it has not answered by now.
    pub unanswered: u32,
    /// Messages that it has not answered yet, those that it works on with them.
    #[serde(default)]
    pub waiting: u64,
}
