//! The publisher's blocking half: reads the source, numbers and stamps what it reads, keeps it in the
//! outbox. Runs on blocking threads, one call at a time.

use std::collections::BTreeSet;

use super::PublisherConfig;
use crate::buffer::outbox::{GivenUpRange, Outbox, OutboxError};
use crate::domain::confirmers::Confirmer;
use crate::domain::delivery::Run;
use crate::domain::error_metric::{self, SENSOR_DEFECT, casting_error};
use crate::domain::publisher::{HostName, Incarnation};
use crate::domain::reading::{FieldValue, Reading, Sequence};
use crate::domain::time::Timestamp;
use crate::formats::{envelope, line_protocol};
use crate::sources::{BadRow, Next, Source, SourceRow};

/// Longest reason in an error metric, in characters.
const DETAIL_CHARS_MAX: usize = 1_000;

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

/// Where the log tells each number that is kept; off unless asked for (`RUST_LOG=heartwatch::kept=trace`).
/// `heartwatch prove --rows` reads it: what was produced, by a witness that is not the outbox.
pub const KEPT_LOG: &str = "heartwatch::kept";

fn say_kept(Incarnation(life): Incarnation, last: Sequence) {
    tracing::trace!(target: KEPT_LOG, life, last, "kept");
}

/// Source and outbox of one publisher.
pub struct Worker {
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
}

impl Worker {
    /// A worker at the start of a new incarnation.
    #[must_use]
    pub fn new(source: Box<dyn Source>, outbox: Outbox, config: &PublisherConfig) -> Self {
        say_kept(outbox.incarnation(), 0);
        Self {
            source,
            outbox,
            host: config.host.clone(),
            incarnation: config.incarnation,
            message_bytes_max: config.message_bytes_max,
            measurement: config.measurement.clone(),
            looping: config.looping,
            readings_left: config.limit,
            next_sequence: 1,
            last_kept: 0,
            last_time: Timestamp::from_nanos(0),
            held: Vec::new(),
            bad_rows: 0,
            nameless_rows: 0,
            erred: BTreeSet::new(),
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
    pub fn confirmed(&mut self, incarnation: Incarnation, safe: &[Run], by: Confirmer) -> Result<(), OutboxError> {
        self.outbox.confirmed(incarnation, safe, by)
    }

    /// What is held no more, with who has confirmed it.
    #[must_use]
    pub fn confirmed_by(&self, gone: &[Run]) -> Vec<(Run, Option<Confirmer>)> {
        gone.iter().flat_map(|run| self.outbox.confirmed_by(*run)).collect()
    }

    /// Readings to send again, oldest first.
    ///
    /// # Errors
    /// When the outbox cannot be read.
    pub fn kept(&self, run: Run, readings_max: usize) -> Result<Vec<Reading>, OutboxError> {
        let kept = self.outbox.range(run.incarnation, run.first, run.last, readings_max)?;
        // An earlier version kept error metrics with the tags of the row that they tell of.
        Ok(kept.into_iter().map(|kept| with_source_tags(kept.reading)).collect())
    }

    /// Gives up readings that can never be sent, each for its reason.
    ///
    /// # Errors
    /// When the outbox cannot write: they are still there.
    pub fn give_up(
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
    pub fn left_by_earlier_lives(&self) -> Result<Vec<Run>, OutboxError> {
        let earlier = self.outbox.earlier()?;
        Ok(earlier.into_iter().map(|(incarnation, first, last)| Run { incarnation, first, last }).collect())
    }

    /// Earlier lives with the last number that each gave out.
    ///
    /// # Errors
    /// When the outbox cannot be read.
    pub fn earlier_lives(&self) -> Result<Vec<(Incarnation, Sequence)>, OutboxError> {
        self.outbox.earlier_lives()
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
    pub fn cursor(&self) -> u64 {
        self.source.cursor()
    }

    /// Every error metric of its source, and their tag `env`.
    #[must_use]
    pub fn error_metrics(&self) -> (Vec<String>, Option<String>) {
        let mut metrics = self.source.error_metrics();
        if metrics.is_empty() {
            metrics.push(casting_error(&self.measurement));
        }
        (metrics, self.source.env())
    }

    /// Error metrics that became readings since the last call.
    pub fn take_erred(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.erred)
    }

    /// Rows that the source could not keep, and those that nothing can tell of.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.source.dropped() + self.nameless_rows
    }

    /// Has the source take nothing more from the outside.
    pub fn stop_source(&mut self) {
        self.source.stop();
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
        let SourceRow { line, measurement, tags, time, fields } = row;
        let own = measurement.clone();
        let reading = self.stamp(Stamped { measurement, tags, time, fields }, now);
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
        let BadRow { measurement, tags, time, .. } = bad;
        self.bad_rows += 1;
        if self.bad_rows.is_power_of_two() {
            tracing::warn!(count = self.bad_rows, "bad row skipped: {reason}");
        }
        let detail = reason.chars().take(DETAIL_CHARS_MAX).collect();
        let fields =
            vec![("value".to_owned(), FieldValue::Integer(1)), ("detail".to_owned(), FieldValue::Text(detail))];
        let of_publisher = Some(casting_error(&self.measurement));
        let of_row = measurement.as_deref().map(casting_error).or_else(|| of_publisher.clone());
        let told = Stamped { measurement: of_row, tags, time, fields: fields.clone() };
        // What is wrong with the row may be wrong with its error as well: its name, its tags, its time.
        let plainly = Stamped { measurement: of_publisher, tags: Vec::new(), time: None, fields };
        for stamped in [told, plainly] {
            let mut reading = self.stamp(stamped, now);
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

    fn stamp(&mut self, row: Stamped, now: Timestamp) -> Reading {
        let Stamped { measurement, tags, time, fields } = row;
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

/// What becomes a reading with a number and a time.
struct Stamped {
    measurement: Option<String>,
    tags: Vec<(String, String)>,
    time: Option<Timestamp>,
    fields: Vec<(String, FieldValue)>,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::buffer::outbox::{FullPolicy, OutboxConfig};
    use crate::domain::delivery::DeliveryLimits;
    use crate::domain::publisher::PublisherId;
    use crate::formats::envelope::{PAYLOAD_BYTES_MAX, Prefix};
    use crate::runtime::clock::Clock;
    use crate::sources::SourceConfig;
    use crate::sources::arrivals::Arrivals;
    use crate::sources::csv::CsvConfig;

    fn worker(rows: &str, outbox_bytes_max: u64, message_bytes_max: usize, limit: Option<u64>) -> Worker {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), rows).unwrap();
        of_source(CsvConfig::new(file.path()).into(), outbox_bytes_max, message_bytes_max, limit)
    }

    fn of_source(source: SourceConfig, outbox_bytes_max: u64, message_bytes_max: usize, limit: Option<u64>) -> Worker {
        let outbox = OutboxConfig { path: None, bytes_max: outbox_bytes_max, full_policy: FullPolicy::RefuseNew };
        let (outbox, incarnation) = Outbox::open(outbox, 1).unwrap();
        let config = PublisherConfig {
            id: PublisherId::parse("light").unwrap(),
            host: HostName::parse("here").unwrap(),
            prefix: Prefix::default(),
            incarnation,
            measurement: "light".to_owned(),
            source,
            interval: Duration::ZERO,
            heartbeat: Duration::from_secs(1),
            is_agent: false,
            looping: false,
            limit,
            batch_readings_max: 500,
            message_bytes_max,
            delivery: DeliveryLimits::default(),
            confirm_grace: Duration::ZERO,
            outbox: None,
            outbox_bytes_max,
            full_policy: FullPolicy::RefuseNew,
        };
        Worker::new(config.source.open(Clock::start()).unwrap().source, outbox, &config)
    }

    #[test]
    fn a_batch_larger_than_the_outbox_is_kept_piece_by_piece_and_only_what_is_kept_counts_as_produced() {
        let rows: String = (0..300).map(|row| format!("{row}\n")).collect();
        let mut worker = worker(&rows, 10_000, PAYLOAD_BYTES_MAX, None);
        let (mut kept, mut rounds) = (0, 0);
        loop {
            let produced = worker.produce(500, Timestamp::from_nanos(1));
            kept += produced.readings.len() as u64;
            assert_eq!(worker.last_sequence(), kept, "a number that only waits is not told to anyone");
            if produced.finished {
                break;
            }
            if produced.refused.is_some() {
                assert!(kept < 300 && worker.produce(500, Timestamp::from_nanos(1)).refused.is_some());
                rounds += 1;
                let incarnation = worker.incarnation;
                let safe = [Run { incarnation, first: 1, last: kept }];
                worker.confirmed(incarnation, &safe, Confirmer::Unnamed).unwrap();
            }
        }
        assert!(kept == 300 && rounds > 1, "{kept} readings in {rounds} rounds");
    }

    #[test]
    fn a_reading_that_no_message_can_carry_is_a_bad_row_and_holds_up_nothing() {
        let long = "x".repeat(5_000);
        let mut worker = worker(&format!("a\n{long}\nb\n"), 1 << 20, 4_096, Some(2));
        let readings = worker.produce(500, Timestamp::from_nanos(1)).readings;
        let measurements: Vec<_> = readings.iter().map(|reading| reading.measurement.as_str()).collect();
        assert_eq!(measurements, ["light", "sensor.error.light", "light"], "{readings:?}");
        assert!(matches!(&readings[1].fields[1].1, FieldValue::Text(detail) if detail.contains("message_bytes_max")));
    }

    #[test]
    fn a_row_with_tags_of_the_monitors_is_kept_and_no_error_of_a_row_is_worse_than_the_row() {
        let arrivals = Arrivals::new("a program", 100);
        let mut worker = of_source(SourceConfig::Arrivals(arrivals.clone()), 1 << 20, 4_096, None);
        let tag = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let plain = SourceRow {
            measurement: Some("m".to_owned()),
            tags: vec![tag("host", "web1"), tag("publisher", "telegraf"), tag("room", "a")],
            time: None,
            fields: vec![("v".to_owned(), FieldValue::Float(2.0))],
            line: 1,
        };
        let long = "m".repeat(250);
        let worse = [
            SourceRow { tags: vec![tag("host", "web1"), tag("source_host", "web2")], ..plain.clone() },
            SourceRow { tags: vec![tag("room", "a\nb")], ..plain.clone() },
            SourceRow { tags: vec![tag("room", &"r".repeat(1_025))], ..plain.clone() },
            SourceRow { measurement: Some("m\t".to_owned()), ..plain.clone() },
            SourceRow { measurement: Some("m".repeat(300)), ..plain.clone() },
            SourceRow { measurement: Some(long), fields: Vec::new(), ..plain.clone() },
            SourceRow { time: Some(Timestamp::from_nanos(i64::MIN)), ..plain.clone() },
            SourceRow { tags: (0..65).map(|number| tag(&format!("t{number}"), "x")).collect(), ..plain.clone() },
            SourceRow { fields: vec![("v".to_owned(), FieldValue::Text("x".repeat(5_000)))], ..plain.clone() },
        ];
        let bad = worse.len();
        arrivals.push([plain.clone()].into_iter().chain(worse).chain([plain]).map(Ok));
        let readings = worker.produce(100, Timestamp::from_nanos(7)).readings;
        assert_eq!(readings.len(), bad + 2, "each error has a row: {readings:?}");
        let tags: Vec<_> = readings[0].tags.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(tags, ["source_host", "source_publisher", "room"]);
        for (index, reading) in readings.iter().enumerate() {
            assert_eq!(reading.sequence, index as u64 + 1, "no number names what nobody can send");
            assert_eq!(worker.check(reading), Ok(()), "{reading:?}");
            assert_eq!(reading.measurement.starts_with("sensor.error."), (1..=bad).contains(&index), "{reading:?}");
        }
        assert_eq!((worker.dropped(), worker.take_erred().len()), (0, 2));
    }

    #[test]
    fn what_an_earlier_version_kept_with_tags_of_the_monitors_is_sent_as_it_would_be_kept_today() {
        let mut worker = worker("1\n", 1 << 20, PAYLOAD_BYTES_MAX, None);
        let fields = vec![("value".to_owned(), FieldValue::Integer(1))];
        let tags = vec![("host".to_owned(), "web1".to_owned())];
        let poison =
            Reading { sequence: 1, time: Timestamp::from_nanos(5), measurement: "sensor.error.m".into(), tags, fields };
        worker.outbox.keep(std::slice::from_ref(&poison)).unwrap();
        let run = Run { incarnation: worker.incarnation, first: 1, last: 1 };
        let kept = worker.kept(run, 10).unwrap();
        assert!(worker.check(&poison).is_err() && worker.check(&kept[0]).is_ok(), "{kept:?}");
        assert_eq!(kept[0].tags[0].0, "source_host");
        let given_up =
            worker.give_up(run.incarnation, &[(1, "never".to_owned()), (2, "not there".to_owned())]).unwrap();
        assert_eq!((given_up.len(), given_up[0].last), (1, 1));
        assert_eq!(worker.given_up().unwrap(), given_up, "durable until the monitor has been told");
        assert!(worker.kept(run, 10).unwrap().is_empty());
    }

    #[test]
    fn a_row_may_have_its_own_measurement_tags_and_time_and_so_may_its_error() {
        let arrivals = Arrivals::new("a sensor", 10);
        let mut worker = of_source(SourceConfig::Arrivals(arrivals.clone()), 1 << 20, PAYLOAD_BYTES_MAX, None);
        let nothing = worker.produce(10, Timestamp::from_nanos(7));
        assert!(nothing.readings.is_empty() && !nothing.finished, "{nothing:?}");
        let env = vec![("env".to_owned(), "test".to_owned())];
        let own = SourceRow {
            measurement: Some("sensor.cpu_load".to_owned()),
            tags: env,
            time: Some(Timestamp::from_nanos(3)),
            fields: vec![("value".to_owned(), FieldValue::Float(5.0))],
            line: 1,
        };
        let plain = SourceRow { measurement: None, tags: Vec::new(), time: None, ..own.clone() };
        let unusable = SourceRow { fields: vec![("value".to_owned(), FieldValue::Float(f64::NAN))], ..own.clone() };
        let bad = BadRow { from: "a sensor".into(), line: 4, reason: "no number".into(), ..BadRow::default() };
        arrivals.push([Ok(own), Ok(plain), Ok(unusable), Err(bad)]);
        arrivals.close();
        let produced = worker.produce(10, Timestamp::from_nanos(7));
        assert!(produced.finished);
        let shown: Vec<_> = produced
            .readings
            .iter()
            .map(|reading| (reading.measurement.as_str(), reading.time.as_nanos(), reading.tags.len()))
            .collect();
        let expected =
            [("sensor.cpu_load", 3, 1), ("light", 7, 0), ("sensor.error.cpu_load", 3, 1), ("sensor.error.light", 8, 0)];
        assert_eq!(shown, expected);
        let detail = |number: usize| format!("{:?}", produced.readings[number].fields[1].1);
        assert!(detail(2).contains("a sensor:1: "), "{}", detail(2));
        assert!(detail(3).contains("a sensor:4: no number"), "{}", detail(3));
    }
}
