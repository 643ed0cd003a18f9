//! One publisher's readings in a time range, made small enough for a plot.
//!
//! It reads through a connection of its own, so that a plot never waits for a commit and no commit for
//! a plot. What one answer may cost is limited by time and rows; what was left out is said.

use std::path::Path;
use std::time::Duration;

use rusqlite::params;

use super::block::Index;
use super::schema::LAYOUT;
use super::{JournalError, line_time};
use crate::database;
use heartwatch_domain::history::{FieldSteps, ReadingsPlot, ReadingsQuery};
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::reading::FieldValue;
use heartwatch_formats::line_protocol::{Rows, decode};
use heartwatch_system::clock::Clock;

/// Most points of a line, whatever is asked for.
const POINTS_MAX: usize = 2_000;
/// Most numeric fields in one answer.
const FIELDS_MAX: usize = 24;
/// Most arrivals that are put in order.
const ARRIVALS_MAX: usize = 1_000_000;
/// How long one answer may read.
const READ_TIME_MAX: Duration = Duration::from_secs(2);
/// A reading that was committed this much later than it was published came out of its publisher's
/// buffer: it is no sign of life at its own time. Commits are noted in whole seconds.
const REPLAY_AFTER_NANOS: i64 = 5_000_000_000;
/// A row may have been committed this much before its own time, where its publisher's clock is ahead.
const CLOCK_AHEAD_SECONDS: i64 = 60;
const NANOS_A_MILLI: f64 = 1e6;

/// Reads and sums up; blocks.
pub(super) fn read(path: &Path, ask: &ReadingsQuery, clock: Clock) -> Result<ReadingsPlot, JournalError> {
    let failed = |reason: String| JournalError::Read { reason };
    let connection = database::open_read_only(path, &LAYOUT).map_err(failed)?;
    let (from, to) = (ask.from.as_nanos(), ask.to.as_nanos().max(ask.from.as_nanos().saturating_add(1)));
    let mut plot = Plot::new(from, to, ask.points_max.clamp(1, POINTS_MAX));
    let started = clock.monotonic();
    // by the time of the commit, because that is what the table has an index on
    let sql = "SELECT committed_at, row_index, lines FROM blocks
               WHERE delivered IN (0, 1, 2) AND committed_at >= ?1
               AND (time_max IS NULL OR time_max >= ?2) AND (time_min IS NULL OR time_min < ?3)";
    let committed_from = from.div_euclid(1_000_000_000).saturating_sub(CLOCK_AHEAD_SECONDS);
    let failed = |error: rusqlite::Error| JournalError::Read { reason: error.to_string() };
    let mut select = connection.prepare(sql).map_err(failed)?;
    let mut rows = select.query(params![committed_from, from, to]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        if clock.monotonic().since(started) > READ_TIME_MAX {
            plot.reply.truncated = true;
            break;
        }
        let committed_at: i64 = row.get(0).map_err(failed)?;
        let index = row.get_ref(1).map_err(failed)?.as_blob().unwrap_or_default();
        let lines = row.get_ref(2).map_err(failed)?.as_blob().unwrap_or_default();
        plot.add_block(&ask.publisher, committed_at.saturating_mul(1_000_000_000), index, lines);
    }
    Ok(plot.finish())
}

#[derive(Clone, Copy)]
struct Step {
    min: f64,
    max: f64,
    sum: f64,
    count: u32,
}

const EMPTY: Step = Step { min: f64::INFINITY, max: f64::NEG_INFINITY, sum: 0.0, count: 0 };

struct Plot {
    from: i64,
    to: i64,
    step: f64,
    fields: Vec<(String, String, Vec<Step>)>,
    arrivals: Vec<i64>,
    reply: ReadingsPlot,
}

impl Plot {
    fn new(from: i64, to: i64, steps: usize) -> Self {
        let step = (to - from) as f64 / steps as f64;
        let reply = ReadingsPlot {
            from_ms: from.div_euclid(1_000_000),
            step_ms: step / NANOS_A_MILLI,
            steps,
            silence_ms: vec![None; steps],
            ..ReadingsPlot::default()
        };
        Self { from, to, step, fields: Vec::new(), arrivals: Vec::new(), reply }
    }

    fn step_of(&self, time: i64) -> Option<usize> {
        if time < self.from || time >= self.to {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the steps")]
        let step = ((time - self.from) as f64 / self.step) as usize;
        Some(step.min(self.reply.steps - 1))
    }

    fn add_block(&mut self, publisher: &PublisherId, committed_at: i64, index: &[u8], lines: &[u8]) {
        let Some(index) = Index::read(index) else { return };
        let owners: Vec<bool> = index.owners.iter().map(|(owner, _)| owner == publisher).collect();
        for row in &index.rows {
            match row.whose.owner() {
                Some(owner) if owners.get(owner).copied().unwrap_or(false) => {
                    // a damaged row has no place in a plot
                    for line in row.whole(lines).into_iter().flat_map(Rows::of) {
                        self.add_reading(committed_at, line);
                    }
                }
                Some(_) => {}
                None => {
                    let chunk = lines.get(row.place.clone()).unwrap_or_default();
                    for line in Rows::of(chunk).filter(|line| is_heartbeat_of(line, publisher)) {
                        if let Some(time) = line_time(line)
                            && self.step_of(time).is_some()
                        {
                            self.reply.heartbeats += 1;
                            self.arrived(time);
                        }
                    }
                }
            }
        }
    }

    fn add_reading(&mut self, committed_at: i64, line: &[u8]) {
        let Some(time) = line_time(line) else { return };
        let Some(step) = self.step_of(time) else { return };
        self.reply.readings += 1;
        if committed_at.saturating_sub(time) <= REPLAY_AFTER_NANOS {
            self.arrived(time);
        }
        let Ok(row) = decode(line) else { return };
        for (name, value) in row.fields {
            let value = match value {
                FieldValue::Float(value) => value,
                FieldValue::Integer(value) => value as f64,
                FieldValue::Boolean(value) => f64::from(u8::from(value)),
                FieldValue::Text(_) => continue,
            };
            let known = self.fields.iter().position(|(of, field, _)| *field == name && *of == row.measurement);
            let place = match known {
                Some(place) => place,
                None if self.fields.len() < FIELDS_MAX => {
                    self.fields.push((row.measurement.clone(), name, vec![EMPTY; self.reply.steps]));
                    self.fields.len() - 1
                }
                None => continue,
            };
            if let Some(sum) = self.fields.get_mut(place).and_then(|(_, _, steps)| steps.get_mut(step)) {
                sum.min = sum.min.min(value);
                sum.max = sum.max.max(value);
                sum.sum += value;
                sum.count += 1;
            }
        }
    }

    fn arrived(&mut self, time: i64) {
        if self.arrivals.len() < ARRIVALS_MAX {
            self.arrivals.push(time);
        } else {
            self.reply.truncated = true;
        }
    }

    fn finish(mut self) -> ReadingsPlot {
        self.arrivals.sort_unstable();
        let arrivals = std::mem::take(&mut self.arrivals);
        for pair in arrivals.windows(2) {
            let [before, now] = pair else { continue };
            let silence = (now - before) as f64 / NANOS_A_MILLI;
            if let Some(longest) = self.step_of(*now).and_then(|step| self.reply.silence_ms.get_mut(step)) {
                *longest = Some(longest.map_or(silence, |longest| longest.max(silence)));
            }
        }
        let fields = self.fields.into_iter().map(|(measurement, name, steps)| {
            let of = |value: fn(&Step) -> f64| {
                steps.iter().map(|step| (step.count > 0).then(|| value(step))).collect::<Vec<_>>()
            };
            let mean = of(|step| step.sum / f64::from(step.count));
            FieldSteps { measurement, name, min: of(|step| step.min), max: of(|step| step.max), mean }
        });
        self.reply.fields = fields.collect();
        self.reply
    }
}

/// Whether a row is a heartbeat of this publisher. Ids have no character that is escaped in a tag.
fn is_heartbeat_of(line: &[u8], publisher: &PublisherId) -> bool {
    let Some(rest) = line.strip_prefix(b"heartwatch_heartbeat,") else { return false };
    let tags = rest.split(|&byte| byte == b' ').next().unwrap_or_default();
    tags.split(|&byte| byte == b',').any(|tag| tag.strip_prefix(b"publisher=") == Some(publisher.as_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_keep_the_extremes_and_the_silences() {
        let mut plot = Plot::new(0, 10_000_000_000, 5);
        for (time, value) in [(0_i64, 1.0), (500, 9.0), (1_000, 2.0), (6_000, 4.0)] {
            plot.add_reading(
                time * 1_000_000,
                format!("m,publisher=a x={value},s=\"t\" {}\n", time * 1_000_000).as_bytes(),
            );
        }
        // replayed much later: it is in the line, and no arrival
        plot.add_reading(60_000_000_000, b"m,publisher=a x=5 8000000000\n");
        plot.add_reading(0, b"m,publisher=a x=5 99000000000\n");
        let reply = plot.finish();
        assert_eq!((reply.readings, reply.steps, reply.step_ms), (5, 5, 2_000.0));
        let field = &reply.fields[0];
        assert_eq!((field.min[0], field.max[0], field.mean[0]), (Some(1.0), Some(9.0), Some(4.0)));
        assert_eq!(field.mean, [Some(4.0), None, None, Some(4.0), Some(5.0)]);
        assert_eq!(reply.silence_ms, [Some(500.0), None, None, Some(5_000.0), None]);
    }

    #[test]
    fn only_its_own_heartbeats_count() {
        let id = PublisherId::parse("light-1").unwrap();
        assert!(is_heartbeat_of(b"heartwatch_heartbeat,host=h,publisher=light-1 seq=1i 5", &id));
        assert!(!is_heartbeat_of(b"heartwatch_heartbeat,host=h,publisher=light-10 seq=1i 5", &id));
        assert!(!is_heartbeat_of(b"light,publisher=light-1 seq=1i 5", &id));
    }
}
