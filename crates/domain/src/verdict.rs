//! The verdicts and a change from one to another: the names, levels and JSON that scripts rely on.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::evidence::Evidence;
use crate::process::ProcessIdentity;
use crate::publisher::{HostName, PublisherId};
use crate::time::Timestamp;

/// What heartwatch says about a publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Heard within its interval, or its grace.
    Alive,
    /// Said goodbye and left in order.
    Ended,
    /// Past its interval, before its deadline.
    Late,
    /// Past its deadline; its process runs and works, but nothing reaches us.
    Silent,
    /// Past its deadline; its process exists and makes no progress.
    Hung,
    /// Its process is stopped (SIGSTOP, traced).
    Stopped,
    /// Its host can't be asked.
    Unreachable,
    /// Its process is gone, a zombie, or its PID now belongs to another.
    Dead,
    /// Expected by the configuration, never heard.
    NeverStarted,
    /// The monitor doubts itself: no verdict on anyone.
    Unknown,
    /// Two speak under its id, and both go on.
    Conflict,
}

impl Verdict {
    /// Every verdict, in the order of `interface.md`.
    pub const ALL: [Self; 11] = [
        Self::Alive,
        Self::Late,
        Self::Silent,
        Self::Conflict,
        Self::Hung,
        Self::Stopped,
        Self::Unreachable,
        Self::Dead,
        Self::NeverStarted,
        Self::Ended,
        Self::Unknown,
    ];

    /// How bad it is, for graphs and sorting: 0 fine to 5 gone, -1 no verdict.
    #[must_use]
    pub const fn level(self) -> i64 {
        match self {
            Self::Alive | Self::Ended => 0,
            Self::Late => 1,
            Self::Silent | Self::Conflict => 2,
            Self::Hung | Self::Stopped => 3,
            Self::Unreachable => 4,
            Self::Dead | Self::NeverStarted => 5,
            Self::Unknown => -1,
        }
    }

    /// Whether something is wrong with the publisher: `silent` and worse. `late` is an ordinary day, and
    /// `unknown` speaks of us.
    #[must_use]
    pub const fn is_bad(self) -> bool {
        self.level() >= 2
    }

    /// A number of its own for each verdict, for alarms that can only compare numbers: a level may
    /// stand for two of them. A number never changes its meaning.
    #[must_use]
    pub const fn code(self) -> i64 {
        match self {
            Self::Unknown => -1,
            Self::Alive => 0,
            Self::Late => 1,
            Self::Silent => 2,
            Self::Hung => 3,
            Self::Stopped => 4,
            Self::Unreachable => 5,
            Self::Dead => 6,
            Self::NeverStarted => 7,
            Self::Ended => 8,
            // 9 and 10 are kept for jobs that failed or are overdue.
            Self::Conflict => 11,
        }
    }

    /// The name in JSON, on the page and in InfluxDB.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Late => "late",
            Self::Silent => "silent",
            Self::Hung => "hung",
            Self::Stopped => "stopped",
            Self::Unreachable => "unreachable",
            Self::Dead => "dead",
            Self::NeverStarted => "never-started",
            Self::Ended => "ended",
            Self::Unknown => "unknown",
            Self::Conflict => "conflict",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What made the monitor decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// A deadline passed.
    Deadline,
    /// The broker published the publisher's last will.
    LastWill,
    /// The kernel reported the end of its process.
    ProcessExit,
    /// Something was heard from it.
    Heartbeat,
    /// It said goodbye.
    Goodbye,
    /// Its host's lease ended.
    Lease,
    /// A later look of the probe.
    Probe,
    /// It had stood for long enough after flapping.
    Steady,
    /// It outlasted a maintenance window.
    MaintenanceEnd,
    /// The monitor has started again.
    Start,
}

impl Trigger {
    /// The name in JSON and in InfluxDB.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::LastWill => "last-will",
            Self::ProcessExit => "process-exit",
            Self::Heartbeat => "heartbeat",
            Self::Goodbye => "goodbye",
            Self::Lease => "lease",
            Self::Probe => "probe",
            Self::Steady => "steady",
            Self::MaintenanceEnd => "maintenance-end",
            Self::Start => "start",
        }
    }
}

/// What the publisher of a change is called that is about the monitor itself; its id follows.
pub const MONITOR_PREFIX: &str = "monitor:";

/// A verdict change: a durable fact. `at` is when it became true, `decided_at` when we knew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Counts every change of this monitor, over restarts.
    pub epoch: u64,
    /// Whose verdict changed.
    pub publisher: PublisherId,
    /// The host that it runs on.
    pub host: HostName,
    /// The verdict before.
    pub from: Verdict,
    /// The verdict from now on.
    pub to: Verdict,
    /// When it became true; for a deadline: the deadline itself.
    pub at: Timestamp,
    /// When the monitor decided.
    pub decided_at: Timestamp,
    /// What made the monitor decide.
    pub trigger: Trigger,
    /// One line that a person understands.
    pub summary: String,
    /// The facts that it rests on.
    pub evidence: Vec<Evidence>,
    /// The process that it speaks of, where one is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub process: Option<ProcessIdentity>,
    /// Made while a maintenance window covered it: recorded and shown, not told.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub maintenance: bool,
    /// Its part in a flapping; the changes in between are recorded and shown, not told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub flapping: Option<Flaps>,
    /// It follows from another change that is told in its place: `host:NAME`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub because: Option<PublisherId>,
}

/// The part that a change has in a flapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flaps {
    /// It states that the publisher flaps.
    Begins,
    /// One of the changes in between.
    Held,
    /// It states that the publisher is steady again.
    Ends,
}

impl Change {
    /// Whether people are to be told of it: not in maintenance, not while it flaps, and not when it
    /// follows from another one.
    #[must_use]
    pub const fn is_told(&self) -> bool {
        !self.maintenance && self.because.is_none() && !matches!(self.flapping, Some(Flaps::Held))
    }

    /// Whether it is about the monitor that recorded it: its publisher is `monitor:ID`.
    #[must_use]
    pub fn is_of_monitor(&self) -> bool {
        matches!(self.trigger, Trigger::Start) && self.publisher.as_str().starts_with(MONITOR_PREFIX)
    }

    /// Whether it is about a host as a whole: its publisher is `host:NAME`.
    #[must_use]
    pub fn is_of_host(&self) -> bool {
        self.publisher.as_str().strip_prefix("host:") == Some(self.host.as_str())
    }
}
