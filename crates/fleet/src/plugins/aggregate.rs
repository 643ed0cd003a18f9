//! Puts the readings of a window together: least, mean and most, in place of each one.

use std::collections::BTreeMap;
use std::time::Duration;

use super::keys::{Keys, Matching};
use super::{Decisions, Now, Plugin, PluginConfig, PluginError, PluginFailure, SERIES_MAX, Sample, Series, series};
use heartwatch_domain::time::{Monotonic, Timestamp};

/// Keys: `window` (60 seconds), `metrics`. What goes on has the tag `aggregate` = `min`, `avg` or `max`, and the
/// time of the window's last reading. A window ends with the first reading behind it, or with the plugin.
pub(super) struct Aggregate {
    window: Duration,
    metrics: Matching,
    open: BTreeMap<Series, Window>,
}

struct Window {
    began: Monotonic,
    last: Timestamp,
    least: f64,
    most: f64,
    sum: f64,
    count: f64,
}

impl Aggregate {
    pub(super) fn new(config: &PluginConfig) -> Result<Self, PluginError> {
        let mut keys = Keys::of(config);
        let (window, metrics) = (keys.seconds("window", 60.0)?, keys.metrics()?);
        keys.end()?;
        Ok(Self { window, metrics, open: BTreeMap::new() })
    }
}

impl Window {
    const fn begin(sample: &Sample, now: Monotonic) -> Self {
        let value = sample.value;
        Self { began: now, last: sample.time, least: value, most: value, sum: value, count: 1.0 }
    }

    fn add(&mut self, sample: &Sample) {
        self.last = sample.time;
        self.least = self.least.min(sample.value);
        self.most = self.most.max(sample.value);
        self.sum += sample.value;
        self.count += 1.0;
    }

    fn close(&self, (metric, tags): &Series) -> impl Iterator<Item = Sample> {
        // A sum of huge values may overflow; the mean of what lies between least and most does not.
        let mean = (self.sum / self.count).clamp(self.least, self.most);
        [("min", self.least), ("avg", mean), ("max", self.most)].into_iter().map(move |(kind, value)| {
            let mut tags = tags.clone();
            tags.push(("aggregate".to_owned(), kind.to_owned()));
            Sample { metric: metric.clone(), value, tags, time: self.last }
        })
    }
}

impl Plugin for Aggregate {
    fn run(&mut self, sample: Sample, now: Now) -> Result<Decisions, PluginFailure> {
        let key = series(&sample);
        if !self.metrics.has(&sample.metric) || (self.open.len() >= SERIES_MAX && !self.open.contains_key(&key)) {
            return Ok(Decisions::passing(sample));
        }
        let Some(window) = self.open.get_mut(&key) else {
            self.open.insert(key, Window::begin(&sample, now.monotonic));
            return Ok(Decisions::nothing());
        };
        if now.monotonic.since(window.began) < self.window {
            window.add(&sample);
            return Ok(Decisions::nothing());
        }
        let pass = window.close(&key).collect();
        *window = Window::begin(&sample, now.monotonic);
        Ok(Decisions { pass, ..Decisions::default() })
    }

    fn finalize(&mut self, _: Now) -> Decisions {
        let open = std::mem::take(&mut self.open);
        let pass = open.iter().flat_map(|(key, window)| window.close(key)).collect();
        Decisions { pass, ..Decisions::default() }
    }
}
