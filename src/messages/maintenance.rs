//! page → watchdog: maintenance windows.

use std::time::Duration;

use actix::Message;
use heartwatch_domain::deadline::IdPattern;
use heartwatch_domain::roster::MaintenanceReply;

/// Opens a window from now on, or ends the ones of a pattern. The reply comes when it is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "Result<MaintenanceReply, String>")]
pub enum ChangeMaintenance {
    /// Opens one; a window of the same pattern is replaced.
    Begin {
        /// For whom.
        publisher: IdPattern,
        /// For how long.
        lasts: Duration,
        /// Why.
        reason: String,
    },
    /// Ends those that a command opened for exactly this pattern.
    End {
        /// For whom.
        publisher: IdPattern,
    },
}

/// Which windows there are.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "MaintenanceReply")]
pub struct AskMaintenance;
