//! The publisher's blocking half: reads the source, numbers and stamps what it reads, keeps it in the
//! outbox. Runs on blocking threads, one call at a time.

use crate::buffer::outbox::{GivenUpRange, Outbox, OutboxError};
use crate::domain::delivery::Run;
use crate::domain::publisher::Incarnation;
use crate::domain::reading::{FieldValue, Reading, Sequence};
use crate::domain::time::Timestamp;
use crate::formats::{envelope, line_protocol};
use crate::sources::SourceRow;
use crate::sources::csv::CsvSource;

/// What a call to [`Worker::produce`] made.
#[derive(Debug, Default)]
pub struct Produced {
    /// New readings, in order, durable in the outbox.
    pub readings: Vec<Reading>,
    /// What had to be given up to keep them.
    pub given_up: Vec<GivenUpRange>,
    /// The source has come to its end, or the limit is reached.
    pub finished: bool,
    /// The outbox refused; the rows are kept in memory and come with the next call.
    pub refused: Option<OutboxError>,
}

/// Source and outbox of one publisher.
pub struct Worker {
    source: CsvSource,
    outbox: Outbox,
    measurement: String,
    looping: bool,
    readings_left: Option<u64>,
    next_sequence: Sequence,
    last_kept: Sequence,
    last_time: Timestamp,
    /// Read from the source and refused by the outbox: numbered, not yet durable.
    held: Vec<Reading>,
    bad_rows: u64,
}

impl Worker {
    /// A worker at the start of a new incarnation.
    #[must_use]
    pub const fn new(
        source: CsvSource,
        outbox: Outbox,
        measurement: String,
        looping: bool,
        limit: Option<u64>,
    ) -> Self {
        Self {
            source,
            outbox,
            measurement,
            looping,
            readings_left: limit,
            next_sequence: 1,
            last_kept: 0,
            last_time: Timestamp::from_nanos(0),
            held: Vec::new(),
            bad_rows: 0,
        }
    }

    /// Reads up to `rows_max` rows and keeps them; `now` stamps them, each a little later than the one before.
    pub fn produce(&mut self, rows_max: usize, now: Timestamp) -> Produced {
        let mut finished = false;
        if self.held.is_empty() {
            finished = self.read(rows_max, now);
        }
        let (count, kept) = self.keep_what_fits();
        match kept {
            Ok(given_up) => {
                let readings: Vec<_> = self.held.drain(..count).collect();
                self.last_kept = readings.last().map_or(self.last_kept, |reading| reading.sequence);
                let finished = self.held.is_empty() && (finished || self.readings_left == Some(0));
                Produced { finished, readings, given_up, refused: None }
            }
            Err(error) => Produced { refused: Some(error), ..Produced::default() },
        }
    }

    /// Keeps all that is held, or as much of it as a nearly full outbox takes: or a batch that is larger
    /// than the whole outbox would wait for ever.
    fn keep_what_fits(&mut self) -> (usize, Result<Vec<GivenUpRange>, OutboxError>) {
        let mut count = self.held.len();
        loop {
            match self.outbox.keep(&self.held[..count]) {
                Err(OutboxError::Full { .. }) if count > 1 => count /= 2,
                kept => return (count, kept),
            }
        }
    }

    /// The monitor has these safe.
    ///
    /// # Errors
    /// When the outbox cannot write; they will be confirmed again.
    pub fn confirmed(
        &mut self,
        incarnation: Incarnation,
        through: Sequence,
        highest: Sequence,
        gaps: &[(Sequence, Sequence)],
    ) -> Result<(), OutboxError> {
        self.outbox.confirmed(incarnation, through, highest, gaps)
    }

    /// Readings to send again, oldest first.
    ///
    /// # Errors
    /// When the outbox cannot be read.
    pub fn kept(&self, run: Run, readings_max: usize) -> Result<Vec<Reading>, OutboxError> {
        let kept = self.outbox.range(run.incarnation, run.first, run.last, readings_max)?;
        Ok(kept.into_iter().map(|kept| kept.reading).collect())
    }

    /// What earlier lives have left.
    ///
    /// # Errors
    /// When the outbox cannot be read.
    pub fn left_by_earlier_lives(&self) -> Result<Vec<Run>, OutboxError> {
        let earlier = self.outbox.earlier()?;
        Ok(earlier.into_iter().map(|(incarnation, first, last)| Run { incarnation, first, last }).collect())
    }

    /// Ranges given up that the monitor has not been told of.
    ///
    /// # Errors
    /// When the outbox cannot be read.
    pub fn given_up(&self) -> Result<Vec<GivenUpRange>, OutboxError> {
        self.outbox.given_up()
    }

    /// The monitor knows of this one.
    ///
    /// # Errors
    /// When the outbox cannot write; it will be told again.
    pub fn given_up_told(&mut self, range: &GivenUpRange) -> Result<(), OutboxError> {
        self.outbox.given_up_told(range)
    }

    /// How far the source has been read.
    #[must_use]
    pub const fn cursor(&self) -> u64 {
        self.source.cursor()
    }

    /// The last number given out to a reading that is kept. One that is only held does not count: it is gone
    /// with this process, and a number that was told would be missed for ever.
    #[must_use]
    pub const fn last_sequence(&self) -> Sequence {
        self.last_kept
    }

    /// Reads rows into `held`; returns whether the source has come to its end.
    fn read(&mut self, rows_max: usize, now: Timestamp) -> bool {
        let mut rewound = false;
        while self.held.len() < rows_max && self.readings_left != Some(0) {
            match self.source.next() {
                Some(Ok(row)) => {
                    rewound = false;
                    self.hold_row(row, now);
                }
                Some(Err(bad)) => self.hold_error(&bad.to_string(), now),
                None if !self.looping || rewound => return true,
                None => match self.source.rewind() {
                    Ok(()) => rewound = true,
                    Err(error) => {
                        self.hold_error(&error.to_string(), now);
                        return true;
                    }
                },
            }
        }
        self.readings_left == Some(0)
    }

    fn hold_row(&mut self, row: SourceRow, now: Timestamp) {
        let measurement = self.measurement.clone();
        let reading = self.stamp(measurement, row.fields, now);
        // Checked before it gets a number, so that no number names what nobody can store.
        let storable = line_protocol::check_reading(&reading).map_err(|error| error.to_string());
        let sendable = envelope::check(&reading).map_err(|problem| problem.to_string());
        if let Err(reason) = storable.and(sendable) {
            let place = format!("{}:{}", self.source.path().display(), row.line);
            return self.hold_error(&format!("{place}: {reason}"), now);
        }
        self.next_sequence += 1;
        self.held.push(reading);
        if let Some(left) = &mut self.readings_left {
            *left -= 1;
        }
    }

    /// A row that can't be used is counted, logged and published as an error metric.
    fn hold_error(&mut self, reason: &str, now: Timestamp) {
        self.bad_rows += 1;
        if self.bad_rows.is_power_of_two() {
            tracing::warn!(count = self.bad_rows, "bad row skipped: {reason}");
        }
        let detail = reason.chars().take(1_000).collect();
        let fields =
            vec![("value".to_owned(), FieldValue::Integer(1)), ("detail".to_owned(), FieldValue::Text(detail))];
        let reading = self.stamp(format!("sensor.error.{}", self.measurement), fields, now);
        if line_protocol::check_reading(&reading).is_ok() {
            self.next_sequence += 1;
            self.held.push(reading);
        }
    }

    fn stamp(&mut self, measurement: String, fields: Vec<(String, FieldValue)>, now: Timestamp) -> Reading {
        // Two rows of a series with one timestamp would silently become one in InfluxDB.
        let after_last = Timestamp::from_nanos(self.last_time.as_nanos().saturating_add(1));
        self.last_time = now.max(after_last);
        Reading { sequence: self.next_sequence, time: self.last_time, measurement, tags: Vec::new(), fields }
    }
}
