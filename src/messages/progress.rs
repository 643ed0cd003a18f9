//! supervisor's watch → every actor: do you still handle messages?
//!
//! An actor that exists and does not answer is stuck: it is ended and started again. The answer says
//! that its mailbox moves, and nothing about what it waits for: slow neighbours are no reason to end it.

use actix::Message;
use heartwatch_domain::status::MonitorStatus;

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
