//! The chain that each reading of an agent passes, in the order of its configuration.
//!
//! A plugin decides and does nothing: it says which readings go on, which events there are and what is to be
//! logged. Whoever runs the chain carries that out. A plugin that does not exist or has a wrong configuration
//! is named and skipped; one that fails at a reading is counted, and the reading goes on as it was.

mod aggregate;
mod alert;
mod chain;
mod delta;
mod duplicate;
mod keys;
mod limit;
mod logger;
mod rename;
#[cfg(feature = "scripts")]
mod script;

use std::fmt;

use serde_json::{Map, Value};

use heartwatch_domain::time::{Monotonic, Timestamp};

pub use chain::{Chain, ChainReport};
#[cfg(feature = "scripts")]
pub use script::ScriptLimits;

/// One metric's value on its way through the chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The metric's name: the measurement that it becomes.
    pub metric: String,
    /// Its value, finite.
    pub value: f64,
    /// Tags beyond those of every reading.
    pub tags: Vec<(String, String)>,
    /// When it was measured.
    pub time: Timestamp,
}

/// How loud something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// For whoever looks.
    Info,
    /// Somebody should look.
    Warning,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Info => "info",
            Self::Warning => "warning",
        })
    }
}

/// Something that happened: a row of the measurement `agent_event`, and a log line.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Which plugin says so.
    pub plugin: String,
    /// About which metric.
    pub metric: String,
    /// What: `raised`, `cleared`, or a script's own word.
    pub kind: String,
    /// How loud.
    pub level: Level,
    /// For a person.
    pub message: String,
    /// The value that it is about.
    pub value: f64,
    /// The limit that it crossed, where there is one.
    pub threshold: Option<f64>,
    /// When.
    pub time: Timestamp,
}

/// What a plugin, or a whole chain, makes of a reading.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decisions {
    /// What goes on: nothing, the reading, or others in its place.
    pub pass: Vec<Sample>,
    /// What happened.
    pub events: Vec<Event>,
    /// What is to be logged, and how loud.
    pub lines: Vec<(Level, String)>,
}

impl Decisions {
    /// The reading goes on.
    #[must_use]
    pub fn passing(sample: Sample) -> Self {
        Self { pass: vec![sample], ..Self::default() }
    }

    /// Nothing goes on.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }
}

/// The time at a decision, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The clock that decides.
    pub monotonic: Monotonic,
    /// The clock that is written down.
    pub wall: Timestamp,
}

/// A plugin failed at a reading; the reading goes on without it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PluginFailure(pub String);

/// One step of the chain. Built anew when its configuration changes.
pub trait Plugin: Send {
    /// What becomes of a reading.
    ///
    /// # Errors
    /// [`PluginFailure`] when the plugin itself is broken: a script can be.
    fn run(&mut self, sample: Sample, now: Now) -> Result<Decisions, PluginFailure>;

    /// It ends, or is replaced: what it holds back goes on now.
    fn finalize(&mut self, _now: Now) -> Decisions {
        Decisions::nothing()
    }
}

/// Its own part of `plugin_configs`.
pub type PluginConfig = Map<String, Value>;

/// Why a plugin cannot run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PluginError {
    /// No plugin of that name, ours or the user's.
    #[error("there is no plugin '{0}'; there are {1}")]
    Unknown(String, String),
    /// A key of its configuration.
    #[error("its configuration: key '{key}' {reason}")]
    Config {
        /// What the plugin does not know.
        key: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// The user's script.
    #[error("its script: {0}")]
    Script(String),
}

/// The plugins that there always are: short class name, and the name of the module that existing
/// configurations put before it (`plugins.duplicate_filter.DuplicateFilterPlugin`).
const BUILT_IN: [(&str, &str); 7] = [
    ("DuplicateFilterPlugin", "duplicate_filter"),
    ("ThresholdAlertPlugin", "threshold_alert"),
    ("LoggerPlugin", "logger"),
    ("RateLimitPlugin", "rate_limit"),
    ("AggregatePlugin", "aggregate"),
    ("RenamePlugin", "rename"),
    ("DeltaPlugin", "delta"),
];

/// The short name of one of ours: by class name, with its module before it, or by module name alone.
fn built_in(name: &str) -> Option<&'static str> {
    let found = BUILT_IN.iter().find(|(class, module)| {
        name == *class
            || name == *module
            || name == format!("plugins.{module}.{class}")
            || name == format!("plugins.{module}")
    });
    found.map(|(class, _)| *class)
}

fn build(class: &str, config: &PluginConfig) -> Result<Box<dyn Plugin>, PluginError> {
    Ok(match class {
        "DuplicateFilterPlugin" => Box::new(duplicate::DuplicateFilter::new(config)?),
        "ThresholdAlertPlugin" => Box::new(alert::ThresholdAlert::new(config)?),
        "LoggerPlugin" => Box::new(logger::Logger::new(config)?),
        "RateLimitPlugin" => Box::new(limit::RateLimit::new(config)?),
        "AggregatePlugin" => Box::new(aggregate::Aggregate::new(config)?),
        "RenamePlugin" => Box::new(rename::Rename::new(config)?),
        "DeltaPlugin" => Box::new(delta::Delta::new(config)?),
        other => return Err(PluginError::Unknown(other.to_owned(), String::new())),
    })
}

/// The series that a sample belongs to: its metric and its tags.
type Series = (String, Vec<(String, String)>);

fn series(sample: &Sample) -> Series {
    (sample.metric.clone(), sample.tags.clone())
}

/// Most series that a plugin remembers; further ones pass it untouched.
const SERIES_MAX: usize = 10_000;

#[cfg(test)]
mod tests;
