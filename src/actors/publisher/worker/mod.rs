//! The publisher's blocking half: reads the source, numbers and stamps what it reads, keeps it in the
//! outbox. Runs on blocking threads, one call at a time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::PublisherConfig;
use super::pulse::Position;
use crate::sources::{BadRow, Next, Source, SourceRow};
use heartwatch_domain::confirmers::Confirmer;
use heartwatch_domain::error_metric::{self, SENSOR_DEFECT, casting_error};
use heartwatch_domain::publisher::{HostName, Incarnation};
use heartwatch_domain::reading::{FieldValue, Reading, Sequence};
use heartwatch_domain::retransmitter::SequenceRange;
use heartwatch_domain::time::Timestamp;
use heartwatch_formats::{envelope, line_protocol};
use heartwatch_store::outbox::{GivenUpRange, Outbox, OutboxError};
use heartwatch_system::log::KEPT_LOG;

/// Longest reason in an error metric, in characters.
const DETAIL_CHARS_MAX: usize = 1_000;

/// What a call to [`Worker::produce`] made.
#[derive(Debug, Default)]
pub(super) struct Produced {
    /// New readings, in order, durable in the outbox.
    pub readings: Vec<Reading>,
    /// What had to be given up to keep them.
    pub given_up: Vec<GivenUpRange>,
    /// The source has come to its end, or the limit is reached.
    pub finished: bool,
    /// The outbox refused; the rows are kept in memory and come with the next call.
    pub refused: Option<OutboxError>,
}

fn say_kept(Incarnation(life): Incarnation, last: Sequence) {
    tracing::trace!(target: KEPT_LOG, life, last, "kept");
}

/// Source and outbox of one publisher.
pub(super) struct Worker {
    source: Box<dyn Source>,
    outbox: Outbox,
    host: HostName,
    incarnation: Incarnation,
    message_bytes_max: usize,
    measurement: String,
    looping: bool,
    readings_left: Option<u64>,
    next_sequence: Sequence,
    last_kept: Sequence,
    last_time: Timestamp,
    /// Read from the source and refused by the outbox: numbered, not yet durable.
    held: Vec<Reading>,
    bad_rows: u64,
    /// Bad rows that not even an error metric can name.
    nameless_rows: u64,
    /// Error metrics that became readings since somebody asked.
    erred: BTreeSet<String>,
    reads_source: Arc<AtomicBool>,
}

impl Worker {
    /// A worker at the start of a new incarnation.
    #[must_use]
    pub(super) fn new(source: Box<dyn Source>, outbox: Outbox, config: &PublisherConfig) -> Self {
        say_kept(outbox.incarnation(), 0);
        Self {
            source,
            outbox,
            host: config.host.clone(),
            incarnation: config.incarnation,
            message_bytes_max: config.message_bytes_max,
            measurement: config.measurement(),
            looping: config.feed.looping,
            readings_left: config.feed.limit,
            next_sequence: 1,
            last_kept: 0,
            last_time: Timestamp::from_nanos(0),
            held: Vec::new(),
            bad_rows: 0,
            nameless_rows: 0,
            erred: BTreeSet::new(),
            reads_source: Arc::default(),
        }
    }

    /// Reads up to `rows_max` rows and keeps them; `now` stamps them, each a little later than the one before.
    pub(super) fn produce(&mut self, rows_max: usize, now: Timestamp) -> Produced {
        let mut finished = false;
        if self.held.is_empty() {
            self.reads_source.store(true, Ordering::Relaxed);
            finished = self.read(rows_max, now);
            self.reads_source.store(false, Ordering::Relaxed);
        }
        let (count, kept) = self.keep_what_fits();
        match kept {
            Ok(given_up) => {
                let readings: Vec<_> = self.held.drain(..count).collect();
                self.last_kept = readings.last().map_or(self.last_kept, |reading| reading.sequence);
                if !readings.is_empty() {
                    say_kept(self.outbox.incarnation(), self.last_kept);
                }
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

    /// A monitor has these safe.
    ///
    /// # Errors
    /// When the outbox cannot write; they will be confirmed again.
    pub(super) fn confirmed(
        &mut self,
        incarnation: Incarnation,
        safe: &[SequenceRange],
        by: Confirmer,
    ) -> Result<(), OutboxError> {
        self.outbox.confirmed(incarnation, safe, by)
    }

    /// What is held no more, with who has confirmed it.
    #[must_use]
    pub(super) fn confirmed_by(&self, gone: &[SequenceRange]) -> Vec<(SequenceRange, Option<Confirmer>)> {
        gone.iter().flat_map(|run| self.outbox.confirmed_by(*run)).collect()
    }

    /// Readings to send again, oldest first.
    ///
    /// # Errors
    /// When the outbox cannot be read.
    pub(super) fn kept(&self, run: SequenceRange, readings_max: usize) -> Result<Vec<Reading>, OutboxError> {
        let kept = self.outbox.range(run.incarnation, run.first, run.last, readings_max)?;
        // An earlier version kept error metrics with the tags of the row that they tell of.
        Ok(kept.into_iter().map(|kept| with_source_tags(kept.reading)).collect())
    }

    /// Gives up readings that can never be sent, each for its reason.
    ///
    /// # Errors
    /// When the outbox cannot write: they are still there.
    pub(super) fn give_up(
        &mut self,
        incarnation: Incarnation,
        readings: &[(Sequence, String)],
    ) -> Result<Vec<GivenUpRange>, OutboxError> {
        self.outbox.give_up(incarnation, readings)
    }

    /// What earlier lives have left.
    ///
    /// # Errors
    /// When the outbox cannot be read.
    pub(super) fn left_by_earlier_lives(&self) -> Result<Vec<SequenceRange>, OutboxError> {
        let earlier = self.outbox.earlier()?;
        Ok(earlier.into_iter().map(|(incarnation, first, last)| SequenceRange { incarnation, first, last }).collect())
    }

    /// Earlier lives with the last number that each gave out.
    ///
    /// # Errors
    /// When the outbox cannot be read.
    pub(super) fn earlier_lives(&self) -> Result<Vec<(Incarnation, Sequence)>, OutboxError> {
        self.outbox.earlier_lives()
    }

    /// Ranges given up that the monitor has not been told of.
    ///
    /// # Errors
    /// When the outbox cannot be read.
    pub(super) fn given_up(&self) -> Result<Vec<GivenUpRange>, OutboxError> {
        self.outbox.given_up()
    }

    /// The monitor knows of this one.
    ///
    /// # Errors
    /// When the outbox cannot write; it will be told again.
    pub(super) fn given_up_told(&mut self, range: &GivenUpRange) -> Result<(), OutboxError> {
        self.outbox.given_up_told(range)
    }

    /// How far source and outbox are, and what went wrong since the last call.
    pub(super) fn take_position(&mut self) -> Position {
        Position {
            sequence: self.last_kept,
            cursor: self.source.cursor(),
            dropped: self.source.dropped() + self.nameless_rows,
            erred: std::mem::take(&mut self.erred),
        }
    }

    /// Tells from another thread whether the source is being read at this moment.
    pub(super) fn reads_source(&self) -> Arc<AtomicBool> {
        self.reads_source.clone()
    }

    /// Every error metric of its source, and their tag `env`.
    #[must_use]
    pub(super) fn error_metrics(&self) -> (Vec<String>, Option<String>) {
        let mut metrics = self.source.error_metrics();
        if metrics.is_empty() {
            metrics.push(casting_error(&self.measurement));
        }
        (metrics, self.source.env())
    }

    /// Has the source take nothing more from the outside.
    pub(super) fn stop_source(&mut self) {
        self.source.stop();
    }

    /// Reads rows into `held`; returns whether the source has come to its end.
    fn read(&mut self, rows_max: usize, now: Timestamp) -> bool {
        let mut rewound = false;
        // rows that belong together are not torn apart
        let rows_max = rows_max.max(self.source.rows_at_once_max());
        while self.held.len() < rows_max && self.readings_left != Some(0) {
            match self.source.next_row() {
                Next::Row(row) => {
                    rewound = false;
                    self.hold_row(row, now);
                }
                Next::Bad(bad) => self.hold_error(bad, now),
                Next::NothingYet => return false,
                Next::End if !self.looping || rewound => return true,
                Next::End => match self.source.rewind() {
                    Ok(true) => rewound = true,
                    Ok(false) => return true,
                    Err(error) => {
                        self.hold_error(BadRow { reason: error.to_string(), ..BadRow::default() }, now);
                        return true;
                    }
                },
            }
        }
        self.readings_left == Some(0)
    }

    fn hold_row(&mut self, row: SourceRow, now: Timestamp) {
        let (line, own, time) = (row.line, row.measurement.clone(), row.time);
        let reading = self.stamp(row, now);
        if let Err(reason) = self.check(&reading) {
            let from = self.source.origin();
            let bad = BadRow { from, line, reason, measurement: own, tags: reading.tags, time };
            return self.hold_error(bad, now);
        }
        self.next_sequence += 1;
        if reading.measurement == SENSOR_DEFECT {
            self.erred.insert(reading.measurement.clone());
        }
        self.held.push(reading);
        if let Some(left) = &mut self.readings_left {
            *left -= 1;
        }
    }

    /// Checked before it gets a number, so that no number names what nobody can send or store.
    fn check(&self, reading: &Reading) -> Result<(), String> {
        line_protocol::check_reading(reading).map_err(|error| error.to_string())?;
        envelope::check(reading).map_err(|problem| problem.to_string())?;
        error_metric::forbidden(reading).map_or(Ok(()), Err)?;
        self.fits_a_message(reading)
    }

    /// Whether it can be sent at all: a message that no broker takes would hold up all that follow.
    fn fits_a_message(&self, reading: &Reading) -> Result<(), String> {
        if self.message_bytes_max >= envelope::PAYLOAD_BYTES_MAX {
            return Ok(());
        }
        let alone = std::slice::from_ref(reading);
        let messages = envelope::encode_readings(&self.host, self.incarnation, alone, self.message_bytes_max)
            .map_err(|problem| problem.to_string())?;
        let bytes: usize = messages.iter().map(Vec::len).sum();
        if bytes > self.message_bytes_max {
            return Err(format!(
                "it takes {bytes} bytes, a message may have {} (message_bytes_max)",
                self.message_bytes_max
            ));
        }
        Ok(())
    }

    /// A row that can't be used is counted, logged and published as an error metric.
    fn hold_error(&mut self, bad: BadRow, now: Timestamp) {
        let reason = if bad.from.is_empty() { bad.reason } else { bad.to_string() };
        let BadRow { line, measurement, tags, time, .. } = bad;
        self.bad_rows += 1;
        if self.bad_rows.is_power_of_two() {
            tracing::warn!(count = self.bad_rows, "bad row skipped: {reason}");
        }
        let detail = reason.chars().take(DETAIL_CHARS_MAX).collect();
        let fields =
            vec![("value".to_owned(), FieldValue::Integer(1)), ("detail".to_owned(), FieldValue::Text(detail))];
        let of_publisher = Some(casting_error(&self.measurement));
        let of_row = measurement.as_deref().map(casting_error).or_else(|| of_publisher.clone());
        let told = SourceRow { line, measurement: of_row, tags, time, fields: fields.clone() };
        // What is wrong with the row may be wrong with its error as well: its name, its tags, its time.
        let plainly = SourceRow { measurement: of_publisher, fields, ..SourceRow::default() };
        for row in [told, plainly] {
            let mut reading = self.stamp(row, now);
            if self.check(&reading).is_err() {
                reading.fields.truncate(1);
            }
            if self.check(&reading).is_ok() {
                self.next_sequence += 1;
                self.erred.insert(reading.measurement.clone());
                self.held.push(reading);
                return;
            }
        }
        self.nameless_rows += 1;
    }

    /// A row becomes a reading: it gets a number, and a time where it has none.
    fn stamp(&mut self, row: SourceRow, now: Timestamp) -> Reading {
        let SourceRow { measurement, tags, time, fields, .. } = row;
        let measurement = measurement.unwrap_or_else(|| self.measurement.clone());
        let time = time.unwrap_or_else(|| {
            // Two rows of a series with one timestamp would silently become one in InfluxDB.
            let after_last = Timestamp::from_nanos(self.last_time.as_nanos().saturating_add(1));
            self.last_time = now.max(after_last);
            self.last_time
        });
        with_source_tags(Reading { sequence: self.next_sequence, time, measurement, tags, fields })
    }
}

/// A source's own tags `publisher` and `host` under the names under which they are kept.
fn with_source_tags(mut reading: Reading) -> Reading {
    for (key, _) in &mut reading.tags {
        let kept_as = line_protocol::source_tag(key);
        if kept_as != key {
            *key = kept_as.to_owned();
        }
    }
    reading
}

#[cfg(test)]
mod tests;
