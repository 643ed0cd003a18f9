//! Readings from a program of anybody's: one line of its standard output is one sample.
//!
//! The program is our child: it gets no input, none of our own variables (there may be a password in
//! them), and a process group of its own, and it ends with us. When it ends by itself, or prints the
//! same line over and over, it is started again, after a wait that grows. It is never given up: while
//! it is not there nothing comes, so its publisher's position stands still, and the monitor says `hung`.

mod program;
mod reader;
mod udp;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::program::Program;
use crate::sources::arrivals::{Arrivals, ArrivalsSource, ROWS_MAX};
use crate::sources::{Next, Owner, Source, SourceError};
use heartwatch_domain::error_metric::{SENSOR_DEFECT, casting_error};
use heartwatch_domain::restart::{RestartLimits, RestartPolicy};
use heartwatch_formats::sensor_line::Schema;
use heartwatch_system::clock::Clock;

/// How many equal lines in a row make a program stuck, with the sensor of three values: one of them is a counter.
pub(crate) const REPEATS_MAX: u64 = 10;

/// What to run, and what its lines mean: what a person says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOptions {
    /// The program and its arguments. No shell reads them.
    pub words: Vec<String>,
    /// What its lines mean.
    pub schema: Schema,
    /// The tag `env` of every reading.
    pub env: Option<String>,
    /// It is stuck when it has printed the same line so many times in a row; 0 lets it. None:
    /// [`REPEATS_MAX`] with the schema of the three values, else 0, because a value of a real thing may stay the same.
    pub repeats_max: Option<u64>,
    /// Which of its ends ask for a new start. One that is stuck is always started again.
    pub policy: RestartPolicy,
    /// Where its rows go besides, as line protocol over UDP: `host:port`. Nobody says when one is lost.
    pub udp: Option<String>,
}

impl ExecOptions {
    /// The sensor of three values, started again whenever it ends.
    #[must_use]
    pub fn new(words: Vec<String>) -> Self {
        let schema = Schema::default();
        Self { words, schema, env: None, repeats_max: None, policy: RestartPolicy::Always, udp: None }
    }

    /// It as one text that [`split_words`] takes apart again.
    #[must_use]
    pub fn command_line(&self) -> String {
        join_words(&self.words)
    }

    /// After how many equal lines it is stuck; none: never.
    #[must_use]
    pub fn stuck_after(&self) -> Option<u64> {
        let default = if self.schema.columns == Schema::default().columns { REPEATS_MAX } else { 0 };
        Some(self.repeats_max.unwrap_or(default)).filter(|repeats| *repeats > 0)
    }
}

/// Everything that the source needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExecConfig {
    /// What to run.
    pub options: ExecOptions,
    /// For whom: its publisher in the log and as a tag of rows over UDP, the measurement of lines that name none.
    pub owner: Owner,
    /// How soon it is started again.
    pub limits: RestartLimits,
    /// Longest line that is read, in bytes; a longer one cannot be read.
    pub line_bytes_max: usize,
    /// Most rows that wait for the publisher.
    pub rows_max: usize,
    /// Most lines of its standard error in the log within 10 s.
    pub log_lines_max: u64,
    /// How long it may take to end when it is told to.
    pub end_timeout: Duration,
}

impl ExecConfig {
    /// Lines of up to 8 KiB, 20 lines of its standard error every 10 s, 2 s to end.
    #[must_use]
    pub(crate) fn new(options: ExecOptions, owner: Owner) -> Self {
        Self {
            options,
            owner,
            limits: RestartLimits::default(),
            line_bytes_max: 8 * 1024,
            rows_max: ROWS_MAX,
            log_lines_max: 20,
            end_timeout: Duration::from_secs(2),
        }
    }
}

/// Why a program can't be a source.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// There is nothing to run.
    #[error("there is no program to run: name one, like './sensor'")]
    Empty,
    /// It can't be started.
    #[error("cannot start {program}: {source}")]
    Start {
        program: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// Its lines can't be read so.
    #[error("the schema {0}")]
    Schema(String),
    /// Rows can't be sent there.
    #[error("cannot send rows to {address} over UDP: {source}")]
    Udp {
        /// Where to.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
}

/// A program that runs; it ends when this is dropped.
pub(crate) struct ExecSource {
    rows: ArrivalsSource,
    arrivals: Arrivals,
    stop: CancellationToken,
    task: JoinHandle<()>,
    error_metrics: Vec<String>,
    env: Option<String>,
}

impl ExecSource {
    /// Starts the program, tied to this thread. Needs tokio's runtime.
    ///
    /// # Errors
    /// [`ExecError`]: when it can't be started at all. What ends later is started again.
    pub(crate) fn start(config: &ExecConfig, clock: Clock) -> Result<Self, ExecError> {
        config.options.schema.check().map_err(ExecError::Schema)?;
        let program = config.options.words.first().ok_or(ExecError::Empty)?;
        let arrivals = Arrivals::new(program.clone(), config.rows_max);
        arrivals.expect_every(Some(config.owner.interval).filter(|every| !every.is_zero()));
        let stop = CancellationToken::new();
        let program = Program::start(config.clone(), clock, arrivals.clone(), stop.clone())?;
        let task = tokio::spawn(program.run());
        let rows = ArrivalsSource::new(arrivals.clone());
        let ExecOptions { schema, env, .. } = &config.options;
        let mut error_metrics: Vec<String> =
            schema.columns.iter().map(|column| casting_error(&column.measurement)).collect();
        error_metrics.push(SENSOR_DEFECT.to_owned());
        error_metrics.sort();
        error_metrics.dedup();
        Ok(Self { rows, arrivals, stop, task, error_metrics, env: env.clone() })
    }

    /// Tells when rows come.
    #[must_use]
    pub(crate) fn arrivals(&self) -> Arrivals {
        self.arrivals.clone()
    }
}

impl Drop for ExecSource {
    fn drop(&mut self) {
        // what the task owns kills the program with its group
        self.task.abort();
    }
}

impl Source for ExecSource {
    fn next_row(&mut self) -> Next {
        self.rows.next_row()
    }

    fn rewind(&mut self) -> Result<bool, SourceError> {
        Ok(false)
    }

    fn cursor(&self) -> u64 {
        self.rows.cursor()
    }

    fn origin(&self) -> String {
        self.rows.origin()
    }

    fn error_metrics(&self) -> Vec<String> {
        self.error_metrics.clone()
    }

    fn env(&self) -> Option<String> {
        self.env.clone()
    }

    fn dropped(&self) -> u64 {
        self.rows.dropped()
    }

    fn stop(&mut self) {
        self.stop.cancel();
    }
}

/// A command as a person writes it, taken apart as a shell would; quotes and backslashes are understood,
/// nothing else of a shell is.
///
/// # Errors
/// What would be right.
pub(crate) fn split_words(text: &str) -> Result<Vec<String>, String> {
    match shlex::split(text) {
        Some(words) if words.first().is_some_and(|program| !program.is_empty()) => Ok(words),
        Some(_) => Err("names no program: write one, like './sensor --seed 7'".to_owned()),
        None => Err(format!("'{text}' has a quote that is not closed, or ends with a backslash")),
    }
}

/// What [`split_words`] takes apart into these words.
#[must_use]
pub(crate) fn join_words(words: &[String]) -> String {
    // a NUL, the only thing that it refuses, can be in no argument of a program
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "))
}

/// The program, when it is a path that begins at `directory` and not a name to be found in `PATH`.
#[must_use]
pub(crate) fn program_at(directory: &Path, program: &str) -> Option<PathBuf> {
    program.contains('/').then(|| directory.join(program))
}

#[cfg(test)]
mod tests;
