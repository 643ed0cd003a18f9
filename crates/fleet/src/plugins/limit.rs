//! Lets at most one reading of a series through in a while; the others are left out.

use std::collections::HashMap;
use std::time::Duration;

use super::keys::{Keys, Matching};
use super::{Decisions, Now, Plugin, PluginConfig, PluginError, PluginFailure, SERIES_MAX, Sample, Series, series};
use heartwatch_domain::time::Monotonic;

/// Keys: `every` (1 second), `metrics`.
pub(super) struct RateLimit {
    every: Duration,
    metrics: Matching,
    passed: HashMap<Series, Monotonic>,
}

impl RateLimit {
    pub(super) fn new(config: &PluginConfig) -> Result<Self, PluginError> {
        let mut keys = Keys::of(config);
        let (every, metrics) = (keys.seconds("every", 1.0)?, keys.metrics()?);
        keys.end()?;
        Ok(Self { every, metrics, passed: HashMap::new() })
    }
}

impl Plugin for RateLimit {
    fn run(&mut self, sample: Sample, now: Now) -> Result<Decisions, PluginFailure> {
        if !self.metrics.has(&sample.metric) {
            return Ok(Decisions::passing(sample));
        }
        let key = series(&sample);
        let passed = self.passed.get(&key);
        if passed.is_some_and(|passed| now.monotonic.since(*passed) < self.every) {
            return Ok(Decisions::nothing());
        }
        if passed.is_some() || self.passed.len() < SERIES_MAX {
            self.passed.insert(key, now.monotonic);
        }
        Ok(Decisions::passing(sample))
    }
}
