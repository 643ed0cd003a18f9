//! Whom the monitor starts, expects or reads: `[[publisher]]` and `[[foreign]]`.

use std::time::Duration;

use crate::actors::publisher::Feed;
use heartwatch_domain::deadline::DeadlineKind;
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::restart::{RestartLimits, RestartPolicy};
use heartwatch_formats::foreign::Foreign;

/// One publisher that is started or expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublisherEntry {
    /// Who it is, in its topics and its rows.
    pub id: PublisherId,
    /// Whether it is `never-started` when it is never heard.
    pub expected: bool,
    /// Its own deadline, before any override.
    pub deadline: Option<DeadlineKind>,
    /// Its own grace, before any override.
    pub grace: Option<Duration>,
    /// What the monitor starts for it; none: someone else starts it, we only expect it.
    pub managed: Option<Managed>,
}

/// A publisher that the monitor starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Managed {
    /// What it reads, and how it publishes that.
    pub feed: Feed,
    /// Time between heartbeats; none: see [`super::Settings::heartbeat_of`].
    pub heartbeat: Option<Duration>,
    /// A process of its own, or inside the monitor.
    pub run: RunAs,
    /// Which ends of its process ask for a new start (`restart`).
    pub restart: RestartPolicy,
    /// How often (`restarts_max` within `restart_period`), after which wait (`restart_backoff_min`, `…_max`).
    pub restart_limits: RestartLimits,
}

impl Managed {
    /// A process of its own with this feed, and the usual restarts.
    #[must_use]
    pub fn new(feed: Feed) -> Self {
        Self {
            feed,
            heartbeat: None,
            run: RunAs::Child,
            restart: RestartPolicy::default(),
            restart_limits: RestartLimits::default(),
        }
    }
}

/// How a configured publisher runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RunAs {
    /// As a process of its own, tied to ours.
    #[default]
    Child,
    /// As an actor in the monitor's process.
    InProcess,
}

/// Devices of one kind that know nothing of heartwatch.
#[derive(Debug, Clone, PartialEq)]
pub struct ForeignEntry {
    /// Their topics and how they are read.
    pub device: Foreign,
    /// Their deadline, after any override.
    pub deadline: Option<DeadlineKind>,
    /// Their grace, after any override.
    pub grace: Option<Duration>,
}
