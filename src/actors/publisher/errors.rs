//! What went wrong with a publisher, as metrics that are always there: 0 while nothing is wrong.
//!
//! They travel in heartbeats and not as numbered readings: the ledger counts what the source had to say,
//! and a number that moves would tell the monitor that a source which stands still has moved. A heartbeat
//! may be lost, so what went wrong is told in several, each time with the moment at which it happened:
//! the same point, however often it is written.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use heartwatch_domain::error_metric::{BATCH_SENDING_ERROR, CONNECTIVITY_ERROR, DROPPED_ERROR};
use heartwatch_domain::time::{Monotonic, Timestamp};
use heartwatch_formats::envelope::{ERRORS_MAX, ErrorCount, ErrorNote, check_error_env, check_error_metric};

/// How often a metric is told to be 0.
const QUIET_EVERY: Duration = Duration::from_secs(10);
/// In how many heartbeats each count is told.
const TOLD_TIMES: u32 = 3;
/// Most counts that wait; beyond it the latest of a metric takes further ones up.
const WAITING_MAX: usize = ERRORS_MAX / 2;
/// What a count takes in a heartbeat beside its name: its value, its time, and what stands between them.
const COUNT_OVERHEAD_BYTES: usize = 48;

pub(super) struct Errors {
    env: Option<String>,
    /// Everything that is told to be 0 while it is.
    metrics: Vec<String>,
    waiting: VecDeque<(ErrorCount, u32)>,
    quiet_told: Option<Monotonic>,
    /// What went wrong since 0 was told.
    since_quiet: BTreeSet<String>,
}

impl Errors {
    /// An account of every publisher's own metrics and of these of the source, in all [`WAITING_MAX`] at most.
    pub(super) fn new(of_source: Vec<String>, env: Option<String>) -> Self {
        let mut metrics = [CONNECTIVITY_ERROR, BATCH_SENDING_ERROR, DROPPED_ERROR].map(ToOwned::to_owned).to_vec();
        // One that the monitor refuses would cost the whole heartbeat, and the publisher its life.
        let (tellable, untold): (Vec<_>, Vec<_>) =
            of_source.into_iter().partition(|metric| check_error_metric(metric).is_ok());
        for problem in untold.iter().filter_map(|metric| check_error_metric(metric).err()) {
            tracing::warn!(%problem, "an error metric cannot be told");
        }
        metrics.extend(tellable);
        metrics.truncate(WAITING_MAX);
        let env = env.filter(|env| check_error_env(env).map_err(|problem| tracing::warn!(%problem)).is_ok());
        Self { env, metrics, waiting: VecDeque::new(), quiet_told: None, since_quiet: BTreeSet::new() }
    }

    /// Something went wrong; it is told with the next heartbeats that can be sent.
    pub(super) fn happened(&mut self, metric: &str, value: u64, at: Timestamp) {
        if value == 0 {
            return;
        }
        self.since_quiet.insert(metric.to_owned());
        if self.waiting.len() >= WAITING_MAX
            && let Some((count, told)) = self.waiting.iter_mut().rev().find(|(count, _)| count.measurement == metric)
        {
            count.value += value;
            *told = 0;
            return;
        }
        if self.waiting.len() >= 2 * WAITING_MAX {
            return;
        }
        self.waiting.push_back((ErrorCount { measurement: metric.to_owned(), value, at }, 0));
    }

    /// The source's own errors, which are readings, so that they are not told to be 0 at the same time.
    pub(super) fn were_readings(&mut self, metrics: BTreeSet<String>) {
        self.since_quiet.extend(metrics);
    }

    /// What a heartbeat tells, in about so many bytes at most; with `quiet` also what is 0, where that is due.
    pub(super) fn tell(&mut self, now: Monotonic, at: Timestamp, bytes_max: usize, quiet: bool) -> ErrorNote {
        let mut counts = Vec::new();
        let mut bytes = 0;
        let mut fits = |measurement: &str| {
            bytes += measurement.len() + COUNT_OVERHEAD_BYTES;
            bytes <= bytes_max
        };
        for (count, told) in self.waiting.iter_mut().take(ERRORS_MAX - self.metrics.len()) {
            if !fits(&count.measurement) {
                break;
            }
            counts.push(count.clone());
            *told += 1;
        }
        self.waiting.retain(|(_, told)| *told < TOLD_TIMES);
        if quiet && self.quiet_told.is_none_or(|told| now.since(told) >= QUIET_EVERY) {
            self.quiet_told = Some(now);
            let wrong = std::mem::take(&mut self.since_quiet);
            let quiet = self.metrics.iter().filter(|metric| !wrong.contains(*metric) && fits(metric));
            counts.extend(quiet.map(|metric| ErrorCount { measurement: metric.clone(), value: 0, at }));
        }
        ErrorNote { env: self.env.clone(), counts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(errors: &mut Errors, second: u64) -> Vec<(String, u64, i64)> {
        let now = Monotonic::from_nanos(second * 1_000_000_000);
        let note = errors.tell(now, Timestamp::from_nanos(i64::try_from(second).unwrap()), 100_000, true);
        note.counts.into_iter().map(|count| (count.measurement, count.value, count.at.as_nanos())).collect()
    }

    #[test]
    fn every_metric_is_there_and_what_went_wrong_is_told_with_its_own_time() {
        let mut errors = Errors::new(vec!["sensor.error.light".to_owned()], Some("test".to_owned()));
        let first = told(&mut errors, 1);
        assert_eq!(first.len(), 4, "{first:?}");
        assert!(first.iter().all(|(_, value, at)| (*value, *at) == (0, 1)));
        errors.happened(CONNECTIVITY_ERROR, 1, Timestamp::from_nanos(5));
        errors.were_readings(["sensor.error.light".to_owned()].into());
        let lost = (CONNECTIVITY_ERROR.to_owned(), 1, 5);
        for second in [6, 7, 8] {
            assert_eq!(told(&mut errors, second), std::slice::from_ref(&lost));
        }
        let quiet: Vec<_> = told(&mut errors, 12).into_iter().map(|(metric, ..)| metric).collect();
        assert_eq!(quiet, [BATCH_SENDING_ERROR, DROPPED_ERROR], "the others were not quiet since the last time");
        assert_eq!(told(&mut errors, 23).len(), 4);
    }

    #[test]
    fn a_heartbeat_with_errors_of_any_names_is_one_that_the_monitor_takes_and_that_fits() {
        let long: Vec<String> = (0..60).map(|number| format!("{number}{}", "m".repeat(200))).collect();
        let refused = ["x".repeat(300), "heartwatch_own".to_owned(), "a\nb".to_owned()];
        let mut errors = Errors::new([long.as_slice(), &refused].concat(), Some("e".repeat(300)));
        errors.happened(CONNECTIVITY_ERROR, 1, Timestamp::from_nanos(5));
        let note = errors.tell(Monotonic::from_nanos(1), Timestamp::from_nanos(1), 2_048, true);
        assert!(note.env.is_none() && note.counts[0].measurement == CONNECTIVITY_ERROR && note.counts.len() > 5);
        assert!(note.counts.iter().all(|count| check_error_metric(&count.measurement).is_ok()));
        let bytes: usize = note.counts.iter().map(|count| count.measurement.len()).sum();
        assert!(bytes < 2_048, "{bytes}");
    }

    #[test]
    fn a_long_outage_takes_bounded_room_and_every_count_is_told() {
        let mut errors = Errors::new(Vec::new(), None);
        for number in 0..1_000 {
            errors.happened(CONNECTIVITY_ERROR, 1, Timestamp::from_nanos(number));
        }
        let mut sums = std::collections::BTreeMap::new();
        for second in 1..20 {
            for (metric, value, at) in told(&mut errors, second) {
                if metric == CONNECTIVITY_ERROR && value > 0 {
                    sums.insert(at, value);
                }
            }
        }
        assert_eq!(sums.values().sum::<u64>(), 1_000);
        assert!(sums.len() <= ERRORS_MAX);
    }
}
