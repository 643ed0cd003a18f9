//! Whom the monitor starts, expects or reads: `[[publisher]]` and `[[foreign]]`.

use std::path::PathBuf;
use std::time::Duration;

use crate::sources::exec::ExecOptions;
use heartwatch_domain::deadline::DeadlineKind;
use heartwatch_domain::metrics::MetricSet;
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::restart::{RestartLimits, RestartPolicy};
use heartwatch_formats::foreign::Foreign;
use heartwatch_formats::source_time::TimeColumn;
use heartwatch_formats::source_time::TimeFormat;
use heartwatch_store::outbox::FullPolicy;

/// What a feed has where its table says nothing.
pub(in crate::config) const FEED_INTERVAL: Duration = Duration::from_secs(1);
/// What an outbox may hold where nothing else is said: 64 MiB.
pub const OUTBOX_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The smallest outbox: the largest reading fits into it.
pub const OUTBOX_BYTES_MIN: u64 = 256 * 1024;

/// One publisher that is started or expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublisherSettings {
    /// Its id.
    pub id: PublisherId,
    /// Whether it is `never-started` when it is never heard.
    pub expected: bool,
    /// Its own deadline, before any override.
    pub deadline: Option<DeadlineKind>,
    /// Its own grace, before any override.
    pub grace: Option<Duration>,
    /// What the monitor starts for it; none: someone else starts it, we only expect it.
    pub feed: Option<FeedSettings>,
}

/// What a publisher that we start reads, and how it publishes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedSettings {
    /// What it reads.
    pub source: FeedSource,
    /// Time between readings; zero is as fast as it goes. A program has a pace of its own: it prints a line at
    /// least this often, and zero promises nothing.
    pub interval: Duration,
    /// Time between heartbeats; none: see [`Settings::heartbeat_of`].
    pub heartbeat: Option<Duration>,
    /// A process of its own, or inside the monitor.
    pub run: RunAs,
    /// Whether it starts again at the end of the file (`loop`).
    pub looping: bool,
    /// Most readings to publish; none: no end.
    pub limit: Option<u64>,
    /// The column with the time.
    pub time_column: TimeColumn,
    /// How the times are written; none: found by looking at the file.
    pub time_format: Option<TimeFormat>,
    /// The measurement; none: the publisher's id.
    pub measurement: Option<String>,
    /// Most bytes of unconfirmed readings in its outbox.
    pub outbox_bytes_max: u64,
    /// What it does when its outbox is full.
    pub outbox_full: FullPolicy,
    /// What happens when its process ends ([`RunAs::Child`]).
    pub restart: RestartSettings,
}

/// Where the readings of a publisher that we start come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedSource {
    /// A CSV file (`csv`).
    Csv(PathBuf),
    /// What a program prints (`exec`).
    Exec(Box<ExecOptions>),
    /// These metrics of this host (`system`, `metrics`).
    System(MetricSet),
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

/// Whether, how often and after which wait a child is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RestartSettings {
    /// Which ends ask for a new start (`restart`).
    pub policy: RestartPolicy,
    /// How often (`restarts_max` within `restart_period`), after which wait (`restart_backoff_min`, `…_max`).
    pub limits: RestartLimits,
}

/// Devices of one kind that know nothing of heartwatch.
#[derive(Debug, Clone, PartialEq)]
pub struct ForeignSettings {
    /// Their topics and how they are read.
    pub device: Foreign,
    /// Their deadline, after any override.
    pub deadline: Option<DeadlineKind>,
    /// Their grace, after any override.
    pub grace: Option<Duration>,
}
