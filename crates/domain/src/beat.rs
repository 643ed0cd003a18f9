//! A sign of life from a publisher: what it was, and when it came.

use std::fmt;
use std::time::Duration;

use crate::process::ProcessIdentity;
use crate::publisher::{HostName, Incarnation, PublisherId};
use crate::reading::Sequence;
use crate::time::{Monotonic, Timestamp};

/// What a publisher says of itself in a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Which of its lives speaks.
    pub incarnation: Incarnation,
    /// Its process, where it knows it.
    pub process: Option<ProcessIdentity>,
    /// The last sequence number that it gave out; 0 before the first.
    pub sequence: Sequence,
    /// How far its source has been read, in the source's own unit.
    pub cursor: u64,
    /// Whether its source has nothing to say and it is right that nothing moves.
    pub idle: bool,
    /// It promises a sign of life at least this often.
    pub interval: Duration,
    /// Whether it is its host's agent, which can be asked after other processes there.
    pub is_agent: bool,
    /// For how long its outbox has not finished what it was asked to do, where that is unusual.
    pub outbox_stalled: Option<Duration>,
}

impl Heartbeat {
    /// Of a life that names no process and has nothing to read, with the interval that it promises.
    #[must_use]
    pub const fn idle(incarnation: Incarnation, interval: Duration) -> Self {
        Self {
            incarnation,
            process: None,
            sequence: 0,
            cursor: 0,
            idle: true,
            interval,
            is_agent: false,
            outbox_stalled: None,
        }
    }
}

/// On which way something came. Each can be down while the others are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Way {
    /// The MQTT broker.
    #[default]
    Mqtt,
    /// Kafka.
    Kafka,
}

impl Way {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Mqtt, Self::Kafka];
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Mqtt => "MQTT",
            Self::Kafka => "Kafka",
        })
    }
}

/// The kind of a sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BeatKind {
    /// Readings came.
    Readings {
        /// Which life numbered them; none from a foreign publisher.
        incarnation: Option<Incarnation>,
    },
    /// A heartbeat came.
    Heartbeat(Box<Heartbeat>),
    /// It said goodbye: what follows is silence in order.
    Goodbye {
        /// Which of its lives ended.
        incarnation: Incarnation,
    },
    /// The broker says that its connection was lost. A hint to look, never a verdict.
    LastWill {
        /// Which of its lives had left the will.
        incarnation: Incarnation,
    },
}

/// One sign of life from one publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// Who.
    pub publisher: PublisherId,
    /// Where.
    pub host: HostName,
    /// When it arrived, on the clock that decides.
    pub at: Monotonic,
    /// When it arrived, on the clock that is written down.
    pub wall: Timestamp,
    /// On which way it came.
    pub way: Way,
    /// What it was.
    pub kind: BeatKind,
}
