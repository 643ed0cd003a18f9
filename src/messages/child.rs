//! roles and web → child: what has become of a publisher's program, and a signal for it.

use actix::Message;

use crate::domain::process::{ProcessExit, ProcessIdentity};
use crate::domain::publisher::PublisherId;
use crate::domain::time::Timestamp;

/// Asks how the program does.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "ChildStatus")]
pub struct AskChild;

/// What the program does, as its supervisor sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChildState {
    /// It runs.
    Running {
        /// Its process id.
        pid: u32,
    },
    /// It ended, and is started again after a wait.
    Waiting,
    /// It ended, and is not started again, as the policy says.
    Ended,
    /// It ended too often within the period: it stays ended.
    GaveUp,
}

/// One end of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildEnd {
    /// The process that ended; none when it could not be started.
    pub pid: Option<u32>,
    /// When the supervisor knew.
    pub at: Timestamp,
    /// Its exit code, where it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// How it ended, in words.
    pub how: String,
}

/// The answer to [`AskChild`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildStatus {
    /// Whose program.
    pub publisher: PublisherId,
    /// What it does.
    pub state: ChildState,
    /// The identity of the running process, once it has been read.
    pub identity: Option<ProcessIdentity>,
    /// How often it was started.
    pub starts: u64,
    /// Its latest end.
    pub last_end: Option<ChildEnd>,
    /// Lines of its output that were longer than the limit and were cut.
    pub lines_cut: u64,
    /// Lines of its output that were not logged, because there were too many.
    pub lines_left_out: u64,
}

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
