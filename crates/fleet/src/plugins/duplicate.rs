//! Leaves out a value that is as it was, but for one now and then: silence stays meaningful.

use std::collections::HashMap;
use std::time::Duration;

use super::keys::{Keys, Matching};
use super::{Decisions, Now, Plugin, PluginConfig, PluginError, PluginFailure, SERIES_MAX, Sample, Series, series};
use heartwatch_domain::time::Monotonic;

/// Keys: `tolerance` (0: how far a value may be from the one that was last sent and still count as the same),
/// `keep_alive` (60 seconds: after that an unchanged value is sent all the same; 0 sends none), `metrics`.
pub(super) struct DuplicateFilter {
    tolerance: f64,
    keep_alive: Duration,
    metrics: Matching,
    sent: HashMap<Series, (f64, Monotonic)>,
}

impl DuplicateFilter {
    pub(super) fn new(config: &PluginConfig) -> Result<Self, PluginError> {
        let mut keys = Keys::of(config);
        let tolerance = keys.number("tolerance", 0.0, 0.0, f64::MAX)?;
        let keep_alive = keys.seconds("keep_alive", 60.0)?;
        let metrics = keys.metrics()?;
        keys.end()?;
        Ok(Self { tolerance, keep_alive, metrics, sent: HashMap::new() })
    }
}

impl Plugin for DuplicateFilter {
    fn run(&mut self, sample: Sample, now: Now) -> Result<Decisions, PluginFailure> {
        let key = series(&sample);
        if !self.metrics.has(&sample.metric) || (self.sent.len() >= SERIES_MAX && !self.sent.contains_key(&key)) {
            return Ok(Decisions::passing(sample));
        }
        if let Some((value, at)) = self.sent.get(&key) {
            // Compared with what was sent, not with what came before: a slow drift is sent in the end.
            let same = (sample.value - value).abs() <= self.tolerance;
            let due = !self.keep_alive.is_zero() && now.monotonic.since(*at) >= self.keep_alive;
            if same && !due {
                return Ok(Decisions::nothing());
            }
        }
        self.sent.insert(key, (sample.value, now.monotonic));
        Ok(Decisions::passing(sample))
    }
}
