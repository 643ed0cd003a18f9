//! page → watchdog: maintenance windows.

use std::time::Duration;

use actix::Message;
use serde::{Deserialize, Serialize};

use crate::domain::deadline::IdPattern;
use crate::domain::maintenance::Window;
use crate::domain::publisher::PublisherId;

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

/// The windows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MaintenanceReply {
    /// Those that a command opened.
    pub windows: Vec<Window>,
    /// Those of the configuration that are open now.
    pub scheduled: Vec<Window>,
    /// Whom the open ones cover, at most 100 of them.
    pub covered: Vec<PublisherId>,
    /// How many the command ended.
    #[serde(default)]
    pub ended: usize,
}
