//! Floor 1: what a publisher reads.

use std::fmt;
use std::time::Duration;

use crate::sources::arrivals::{Arrivals, ArrivalsSource};
use crate::sources::csv::{CsvConfig, CsvError, CsvSource};
use crate::sources::exec::{ExecConfig, ExecError, ExecOptions, ExecSource};
use crate::sources::system::{SystemConfig, SystemError, SystemSource};
use heartwatch_domain::metrics::MetricSet;
use heartwatch_domain::publisher::{HostName, PublisherId};
use heartwatch_domain::reading::FieldValue;
use heartwatch_domain::time::Timestamp;
use heartwatch_system::clock::Clock;

pub(crate) mod arrivals;
pub mod csv;
pub(crate) mod exec;
pub(crate) mod system;

/// One row of a source: what was measured, without a number, which its publisher gives it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SourceRow {
    /// The line in the file, or of the program, that it began on; 0 where there are no lines.
    pub line: u64,
    /// Its own measurement; none is the publisher's.
    pub measurement: Option<String>,
    /// Tags beyond those that every reading gets.
    pub tags: Vec<(String, String)>,
    /// When it was measured, where the source knows it; none is when its publisher read it.
    pub time: Option<Timestamp>,
    /// At least one field.
    pub fields: Vec<(String, FieldValue)>,
}

/// A row that can't be used. It is skipped: the rows behind it are read.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
#[error("{from}:{line}: {reason}")]
pub struct BadRow {
    /// The file or the program that it came from.
    pub from: String,
    /// The line that the row began on, from 1; 0 where nothing can be read at all.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
    /// What it would have been a reading of; none is the publisher's own measurement.
    pub measurement: Option<String>,
    /// Tags of its error metric.
    pub tags: Vec<(String, String)>,
    /// When it came, where the source knows it.
    pub time: Option<Timestamp>,
}

/// What a source has next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// What was measured at one moment.
    Row(SourceRow),
    /// A row that can't be used.
    Bad(BadRow),
    /// Nothing at the moment: rows come at the source's own pace.
    NothingYet,
    /// Nothing any more, unless it can be rewound.
    End,
}

/// Something that a publisher reads, a row at a time. Its calls may block: they are made on a blocking thread.
pub trait Source: Send {
    /// What comes next.
    fn next_row(&mut self) -> Next;

    /// Goes back to the first row; false when there is no way back.
    ///
    /// # Errors
    /// When it can no longer be read.
    fn rewind(&mut self) -> Result<bool, SourceError>;

    /// How far it has been read, in its own unit. A heartbeat tells it, and one that stands still while
    /// there should be rows is what `hung` is decided by: it moves only when the source has really moved on.
    fn cursor(&self) -> u64;

    /// Where rows come from, for a person: a file, a program.
    fn origin(&self) -> String;

    /// Every error metric that its rows can cause, beside that of its publisher's own measurement.
    fn error_metrics(&self) -> Vec<String> {
        Vec::new()
    }

    /// The tag `env` of its error metrics.
    fn env(&self) -> Option<String> {
        None
    }

    /// Most rows that belong together: they are read in one go, at one tick of its publisher's interval.
    fn rows_at_once_max(&self) -> usize {
        1
    }

    /// Rows that found no place since the start, and were dropped.
    fn dropped(&self) -> u64 {
        0
    }

    /// Reads no more from the outside; what has come already can still be read.
    fn stop(&mut self) {}
}

/// Why a source can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A CSV file.
    #[error(transparent)]
    Csv(#[from] CsvError),
    /// A program.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// This host's metrics.
    #[error(transparent)]
    System(#[from] SystemError),
}

/// What to read; opened anew for each life of its publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceConfig {
    /// A CSV file, a row at every interval.
    Csv(CsvConfig),
    /// A program of anybody's, whose lines are read as it prints them.
    Exec(Box<ExecOptions>),
    /// These metrics of this host, a look at every interval.
    System(MetricSet),
    /// What another task pushes, as it comes.
    Arrivals(Arrivals),
}

/// For whom a source is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    /// Whose readings they are.
    pub publisher: PublisherId,
    /// On which host.
    pub host: HostName,
    /// The publisher's own measurement.
    pub measurement: String,
    /// Time between two readings. Of a program: it prints a line at least this often; zero promises nothing.
    pub interval: Duration,
    /// Whether it starts again at the end.
    pub looping: bool,
}

impl SourceConfig {
    /// Opens it. Blocks on the disk. A program is started, and tied to this thread: call it on one that lives
    /// as long as we do, within tokio.
    ///
    /// # Errors
    /// [`SourceError`], which names the file.
    pub(crate) fn open(&self, owner: &Owner, clock: Clock) -> Result<Opened, SourceError> {
        Ok(match self {
            Self::Csv(config) => Opened { source: Box::new(CsvSource::open(config)?), arrivals: None },
            Self::Exec(options) => {
                let source = ExecSource::start(&ExecConfig::new(options.as_ref().clone(), owner.clone()), clock)?;
                let arrivals = Some(source.arrivals());
                Opened { source: Box::new(source), arrivals }
            }
            Self::System(metrics) => {
                let config = SystemConfig { metrics: metrics.clone(), once: !owner.looping };
                Opened { source: Box::new(SystemSource::new(config, clock)?), arrivals: None }
            }
            Self::Arrivals(arrivals) => {
                let source = Box::new(ArrivalsSource::new(arrivals.clone()));
                Opened { source, arrivals: Some(arrivals.clone()) }
            }
        })
    }
}

impl fmt::Display for SourceConfig {
    /// A file, a program's command line, or which metrics: for a person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Csv(csv) => csv.path.display().fmt(f),
            Self::Exec(options) => f.write_str(&options.command_line()),
            Self::System(metrics) => write!(f, "this host's {}", metrics.names().join(", ")),
            Self::Arrivals(_) => f.write_str("what is pushed"),
        }
    }
}

impl From<CsvConfig> for SourceConfig {
    fn from(config: CsvConfig) -> Self {
        Self::Csv(config)
    }
}

/// A source that is open.
pub struct Opened {
    /// To be read on a blocking thread.
    pub source: Box<dyn Source>,
    /// Tells when rows come, for a source with a pace of its own; the others are read at an interval.
    pub arrivals: Option<Arrivals>,
}
