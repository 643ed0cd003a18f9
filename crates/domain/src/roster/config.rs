//! What bounds and steers the roster.

use std::collections::HashSet;
use std::time::Duration;

use crate::deadline::DeadlineRules;
use crate::flapping::FlappingLimits;
use crate::last_seen::LastSeen;
use crate::maintenance::{Scheduled, Window};
use crate::publisher::PublisherId;
use crate::watch::LocalHost;

/// Shorter gaps between two ticks are ordinary on a busy machine.
const PAUSE_LEAST: Duration = Duration::from_millis(500);

/// What bounds and steers the roster.
#[derive(Debug, Clone)]
pub struct RosterConfig {
    /// Which deadline each publisher has.
    pub rules: DeadlineRules,
    /// Publishers that are expected to be heard.
    pub expected: Vec<PublisherId>,
    /// Publishers that run in the monitor's own process: for others that process is no evidence.
    pub inside: Vec<PublisherId>,
    /// Publishers that the monitor starts itself: a process that an earlier run had started is none of them any more.
    pub started_by_us: HashSet<PublisherId>,
    /// The monitor's own id, to say that it has started again; none where nobody is to be told.
    pub monitor: Option<PublisherId>,
    /// What an earlier run has left of when everybody was heard.
    pub last_seen: Option<LastSeen>,
    /// Maintenance windows of the configuration.
    pub scheduled: Vec<Scheduled>,
    /// Maintenance windows that an earlier run was told of.
    pub windows: Vec<Window>,
    /// When a publisher is flapping.
    pub flapping: FlappingLimits,
    /// Our host and boot.
    pub home: LocalHost,
    /// A gap in our own running longer than this, or than half of the shortest deadline, restarts the
    /// count of everyone's silence.
    pub pause_max: Duration,
    /// How often standing verdicts are repeated.
    pub standing_every: Duration,
    /// Most publishers watched; further ones are counted and not watched.
    pub publishers_max: usize,
    /// Most changes that wait to be recorded; at the limit the oldest are counted and given up.
    pub changes_waiting_max: usize,
}

impl RosterConfig {
    /// The defaults for a monitor on this host.
    #[must_use]
    pub fn new(home: LocalHost) -> Self {
        Self {
            rules: DeadlineRules::default(),
            expected: Vec::new(),
            inside: Vec::new(),
            started_by_us: HashSet::new(),
            monitor: None,
            last_seen: None,
            scheduled: Vec::new(),
            windows: Vec::new(),
            flapping: FlappingLimits::default(),
            home,
            pause_max: Duration::from_secs(2),
            standing_every: Duration::from_secs(10),
            publishers_max: 1_000_000,
            changes_waiting_max: 1_000_000,
        }
    }

    /// Half a deadline: a publisher that beats several times within it is silent for less than all of it,
    /// however the pause falls.
    pub(super) fn pause_max(&self) -> Duration {
        self.pause_max.min((self.rules.shortest() / 2).max(PAUSE_LEAST))
    }
}

/// What a new configuration says of deadlines and of whom to expect.
#[derive(Debug, Clone)]
pub struct Expectations {
    /// Which deadline each publisher has.
    pub rules: DeadlineRules,
    /// Publishers that are expected to be heard.
    pub expected: Vec<PublisherId>,
    /// Publishers that run in the monitor's own process: for others that process is no evidence.
    pub inside: Vec<PublisherId>,
    /// Maintenance windows of the configuration.
    pub scheduled: Vec<Scheduled>,
    /// When a publisher is flapping.
    pub flapping: FlappingLimits,
}
