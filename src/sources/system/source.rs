//! This host as the source of a publisher: a look at every interval, a row for each metric.
//!
//! - A metric is a measurement of its own with the field `value`, as an agent's are. The rows of a look have its time.
//! - The first look has no rates and no CPU usage (see [`HostMetrics`]). Whoever wants a single sample wants a whole
//!   one: with [`SystemConfig::once`] the first look is only what the second one is compared with.
//! - What the host does not tell is left out, and said once.

use std::collections::VecDeque;

use sysinfo::MINIMUM_CPU_UPDATE_INTERVAL;

use super::{HostMetrics, SystemError};
use crate::sources::{Next, Source, SourceError, SourceRow};
use heartwatch_domain::metrics::{Metric, MetricSet};
use heartwatch_domain::reading::FieldValue;
use heartwatch_domain::time::Monotonic;
use heartwatch_system::clock::Clock;

/// What is measured of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SystemConfig {
    pub metrics: MetricSet,
    /// One whole sample, and then the end; else no end.
    pub once: bool,
}

/// This host's metrics.
pub(crate) struct SystemSource {
    config: SystemConfig,
    clock: Clock,
    host: HostMetrics,
    /// When the first look was.
    first_look: Option<Monotonic>,
    looks: u64,
    rows: VecDeque<SourceRow>,
    /// Whether the last look's rows are all taken, and nobody was told yet.
    taken: bool,
    ended: bool,
    missing_said: bool,
}

impl SystemSource {
    /// The host, not looked at yet.
    ///
    /// # Errors
    /// When the host cannot be measured at all.
    pub(crate) fn new(config: SystemConfig, clock: Clock) -> Result<Self, SystemError> {
        Ok(Self {
            config,
            clock,
            host: HostMetrics::new()?,
            first_look: None,
            looks: 0,
            rows: VecDeque::new(),
            taken: false,
            ended: false,
            missing_said: false,
        })
    }

    fn look(&mut self) {
        let now = self.clock.monotonic();
        let since_first = self.first_look.map(|first| now.since(first));
        let awaited = self.config.once && since_first.is_some_and(|passed| passed < MINIMUM_CPU_UPDATE_INTERVAL);
        if awaited {
            return;
        }
        let found = self.host.sample(&self.config.metrics, now);
        self.looks += 1;
        self.first_look.get_or_insert(now);
        if self.config.once {
            if since_first.is_none() {
                return;
            }
            self.ended = true;
        }
        // the CPU may be left out where looks follow each other fast
        if since_first.is_some_and(|passed| passed >= MINIMUM_CPU_UPDATE_INTERVAL) {
            self.say_what_is_missing(&found);
        }
        let time = self.clock.wall();
        self.rows.extend(found.into_iter().map(|(metric, value)| SourceRow {
            measurement: Some(metric.as_str().to_owned()),
            time: Some(time),
            fields: vec![("value".to_owned(), FieldValue::Float(value))],
            ..SourceRow::default()
        }));
    }

    fn say_what_is_missing(&mut self, found: &[(Metric, f64)]) {
        let is_missing = |wanted: &Metric| found.iter().all(|(metric, _)| metric != wanted);
        let missing: Vec<_> = self.config.metrics.iter().filter(is_missing).map(Metric::as_str).collect();
        if !missing.is_empty() && !std::mem::replace(&mut self.missing_said, true) {
            tracing::warn!(metrics = missing.join(", "), "this host does not tell some metrics: they are left out");
        }
    }
}

impl Source for SystemSource {
    fn next_row(&mut self) -> Next {
        if self.rows.is_empty() && !std::mem::take(&mut self.taken) && !self.ended {
            self.look();
        }
        match self.rows.pop_front() {
            Some(row) => {
                self.taken = self.rows.is_empty();
                Next::Row(row)
            }
            None if self.ended => Next::End,
            None => Next::NothingYet,
        }
    }

    fn rewind(&mut self) -> Result<bool, SourceError> {
        Ok(false)
    }

    /// Looks so far: one that finds nothing new to tell is one, too.
    fn cursor(&self) -> u64 {
        self.looks
    }

    fn origin(&self) -> String {
        "this host".to_owned()
    }

    /// All metrics, and the look that finds no further one.
    fn rows_at_once_max(&self) -> usize {
        Metric::ALL.len() + 1
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use heartwatch_domain::metrics::LOOK_EVERY_MIN;

    /// The metrics of one look, to what comes after them.
    fn look(source: &mut SystemSource) -> (Vec<String>, Next) {
        let mut found = Vec::new();
        loop {
            match source.next_row() {
                Next::Row(row) => found.push(row.measurement.unwrap()),
                next => return (found, next),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_gives_its_rows_and_then_nothing_until_the_next_one() {
        let clock = Clock::start();
        let mut source = SystemSource::new(SystemConfig::default(), clock).unwrap();
        assert_eq!(look(&mut source), (vec!["memory".to_owned(), "disk".to_owned()], Next::NothingYet));
        tokio::time::advance(Duration::from_secs(1)).await;
        let (found, next) = look(&mut source);
        assert!(found.contains(&"cpu".to_owned()) && found.contains(&"net_in".to_owned()), "{found:?}");
        assert_eq!((next, source.cursor()), (Next::NothingYet, 2));
        assert!(!source.rewind().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_single_sample_is_a_whole_one() {
        let config = SystemConfig { once: true, ..SystemConfig::default() };
        let mut source = SystemSource::new(config, Clock::start()).unwrap();
        assert_eq!(look(&mut source), (vec![], Next::NothingYet));
        tokio::time::advance(LOOK_EVERY_MIN).await;
        assert_eq!(look(&mut source), (vec![], Next::NothingYet), "too soon for the CPU");
        tokio::time::advance(LOOK_EVERY_MIN).await;
        let (found, next) = look(&mut source);
        assert!(found.contains(&"cpu".to_owned()) && found.contains(&"memory".to_owned()), "{found:?}");
        assert_eq!(next, Next::End);
        assert_eq!(look(&mut source), (vec![], Next::End));
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_wanted_is_measured() {
        let metrics = MetricSet::parse(["memory"]).unwrap();
        let mut source = SystemSource::new(SystemConfig { metrics, once: false }, Clock::start()).unwrap();
        for _ in 0..2 {
            assert_eq!(look(&mut source), (vec!["memory".to_owned()], Next::NothingYet));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }
}
