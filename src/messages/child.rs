//! roles and web → child: what has become of a publisher's program, and a signal for it.

use actix::Message;
use heartwatch_domain::status::ChildStatus;

use heartwatch_domain::process::ProcessExit;
use heartwatch_domain::publisher::PublisherId;

/// Asks how the program does.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "ChildStatus")]
pub struct AskChild;

/// A signal that makes sense for a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildSignal {
    /// SIGTERM: end in order.
    Terminate,
    /// SIGKILL: end at once.
    Kill,
    /// SIGSTOP: stand still.
    Stop,
    /// SIGCONT: go on.
    Continue,
    /// SIGHUP: read the configuration again.
    HangUp,
}

/// Sends a signal to the program; answers with the PID that got it, or none when it does not run.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Option<u32>")]
pub struct Signal(pub ChildSignal);

/// Ends the program in order and starts it again, whatever the policy says; starts it where it does not
/// run. Answers with the PID that ends, or that was started; none when the actor itself is ending.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Option<u32>")]
pub struct Restart;

/// child → watchdog: how a publisher's process ended, which only its parent knows.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct ChildEnded {
    /// Whose process.
    pub publisher: PublisherId,
    /// How it ended.
    pub exit: ProcessExit,
}
