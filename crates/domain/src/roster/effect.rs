//! What is to be done because of what has happened.

use std::time::Duration;

use crate::process::ProcessIdentity;
use crate::publisher::{HostName, PublisherId};
use crate::time::Timestamp;
use crate::verdict::Change;

/// One thing to do. Each is given out once, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Something is to be asked about a publisher's process.
    Ask(Question),
    /// A verdict has changed: whoever listens now is told. It also waits to be recorded
    /// ([`Roster::changes_to_record`](super::Roster::changes_to_record)).
    Tell(Box<Change>),
    /// A person should read this in the log.
    Say(Remark),
}

/// A question about a publisher's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// What has become of it? Asked of the agent on its host, where one is named.
    Look(PublisherId, ProcessIdentity, Option<PublisherId>),
    /// Tell when it ends.
    AwaitExit(PublisherId, ProcessIdentity),
    /// As which user does it run?
    User(PublisherId, ProcessIdentity),
}

/// What is no verdict, and worth a line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// The monitor itself stood still.
    StoodStill {
        /// For how long.
        gap: Duration,
    },
    /// Two agents speak for one boot: one of them may not be what it says.
    TwoAgents {
        /// The one that is new there.
        agent: PublisherId,
        /// The other one.
        other: PublisherId,
        /// The host that the new one names.
        host: HostName,
    },
    /// Too many publishers: this one is not watched.
    NotWatched {
        /// Who.
        publisher: PublisherId,
        /// The limit.
        publishers_max: usize,
        /// How many are not watched by now.
        count: u64,
    },
    /// Too many changes wait to be recorded: the oldest were given up.
    ChangesGivenUp {
        /// How many by now.
        count: u64,
    },
    /// A command has opened a maintenance window.
    MaintenanceBegins {
        /// For whom.
        publisher: String,
        /// Until when.
        until: Timestamp,
        /// Why.
        reason: String,
    },
    /// A command has ended maintenance windows.
    MaintenanceEnds {
        /// For whom.
        publisher: String,
        /// How many.
        ended: usize,
    },
}
