//! A program's lines → rows: what is behind the pipe, without the pipe.

use super::ExecConfig;
use super::udp::Udp;
use crate::sources::arrivals::Arrival;
use crate::sources::{BadRow, SourceRow};
use heartwatch_domain::error_metric::{SENSOR_DEFECT, casting_error};
use heartwatch_domain::reading::{FieldValue, Reading};
use heartwatch_domain::time::Timestamp;
use heartwatch_formats::sensor_line::SensorLine;
use heartwatch_system::bounded_lines::BoundedLine;

/// Characters of a reason in a row.
const DETAIL_CHARS_MAX: usize = 1_000;

/// Reads the lines of all lives of one program.
pub(super) struct Reader {
    config: ExecConfig,
    udp: Option<Udp>,
    /// Lines of all its lives.
    lines: u64,
    last_time: Timestamp,
    previous: Option<BoundedLine>,
    /// How many times in a row the previous line has come.
    equal: u64,
}

impl Reader {
    pub(super) fn new(config: ExecConfig, udp: Option<Udp>) -> Self {
        Self { config, udp, lines: 0, last_time: Timestamp::from_nanos(0), previous: None, equal: 0 }
    }

    /// Rows of a line; none of an empty one.
    pub(super) fn read(&mut self, line: BoundedLine, now: Timestamp) -> Vec<Arrival> {
        self.lines += 1;
        let schema = &self.config.options.schema;
        let read = match &line {
            BoundedLine::Whole(bytes) if bytes.trim_ascii().is_empty() => return Vec::new(),
            BoundedLine::Whole(bytes) => schema.read(bytes.trim_ascii()),
            BoundedLine::Cut { beginning, bytes_cut } => {
                let bytes = beginning.len() + bytes_cut;
                let most = self.config.line_bytes_max;
                schema.unreadable(&format!("a line of {bytes} bytes: at most {most} are read"))
            }
        };
        if self.previous.as_ref() == Some(&line) {
            self.equal += 1;
        } else {
            (self.previous, self.equal) = (Some(line), 1);
        }
        self.rows(read, now)
    }

    /// After how many equal lines the program is stuck, when it is.
    pub(super) fn stuck(&self) -> Option<u64> {
        self.config.options.stuck_after().filter(|most| self.equal >= *most)
    }

    /// The program is started again: what it printed before says nothing of what comes.
    pub(super) fn begin(&mut self) {
        (self.previous, self.equal) = (None, 0);
    }

    /// A defect that is no line's.
    pub(super) fn defect(&mut self, what: String, now: Timestamp) -> Vec<Arrival> {
        self.rows(SensorLine { defects: vec![what], ..SensorLine::default() }, now)
    }

    fn rows(&mut self, read: SensorLine, now: Timestamp) -> Vec<Arrival> {
        // Two lines of one moment would have the same points in the database.
        let after_last = Timestamp::from_nanos(self.last_time.as_nanos().saturating_add(1));
        self.last_time = now.max(after_last);
        let time = self.last_time;
        let env: Vec<_> = self.config.options.env.iter().map(|env| ("env".to_owned(), env.clone())).collect();
        let line = self.lines;
        let mut rows = Vec::new();
        for sample in read.samples {
            let mut tags = sample.tags;
            tags.extend(
                env.iter().filter(|(key, _)| tags.iter().all(|(known, _)| known != key)).cloned().collect::<Vec<_>>(),
            );
            let (measurement, time) = (sample.measurement, sample.time.unwrap_or(time));
            rows.push(Ok(SourceRow { line, measurement, tags, time: Some(time), fields: sample.fields }));
        }
        for (number, what) in read.defects.into_iter().enumerate() {
            let time = Timestamp::from_nanos(time.as_nanos().saturating_add(i64::try_from(number).unwrap_or(0)));
            self.last_time = time;
            let fields = error_fields(&what);
            let measurement = Some(SENSOR_DEFECT.to_owned());
            rows.push(Ok(SourceRow { line, measurement, tags: env.clone(), time: Some(time), fields }));
        }
        let from = self.config.options.words.first().map_or("", String::as_str);
        for unreadable in read.unreadable {
            rows.push(Err(BadRow {
                from: from.to_owned(),
                line,
                reason: unreadable.reason,
                measurement: unreadable.measurement,
                tags: env.clone(),
                time: Some(time),
            }));
        }
        if let Some(udp) = &mut self.udp {
            let own = &self.config.owner.measurement;
            udp.send(&rows.iter().map(|row| as_reading(row, own, time)).collect::<Vec<_>>());
        }
        rows
    }
}

fn error_fields(detail: &str) -> Vec<(String, FieldValue)> {
    let detail = detail.chars().take(DETAIL_CHARS_MAX).collect();
    vec![("value".to_owned(), FieldValue::Integer(1)), ("detail".to_owned(), FieldValue::Text(detail))]
}

/// What its publisher makes of a row, but for the number.
fn as_reading(row: &Arrival, own: &str, now: Timestamp) -> Reading {
    let (measurement, tags, time, fields) = match row {
        Ok(row) => {
            let measurement = row.measurement.clone().unwrap_or_else(|| own.to_owned());
            (measurement, row.tags.clone(), row.time, row.fields.clone())
        }
        Err(bad) => {
            let measurement = casting_error(bad.measurement.as_deref().unwrap_or(own));
            (measurement, bad.tags.clone(), bad.time, error_fields(&bad.to_string()))
        }
    };
    Reading { sequence: 0, time: time.unwrap_or(now), measurement, tags, fields }
}
