//! How much a value has changed since the reading before, beside the value or in its place.

use std::collections::HashMap;

use super::keys::{Keys, Matching, wrong};
use super::{Decisions, Now, Plugin, PluginConfig, PluginError, PluginFailure, SERIES_MAX, Sample, Series, series};

/// Keys: `metrics`, `replace` (false: the value goes on, too). The change is the metric `<name>_delta`; the first
/// reading has none.
pub(super) struct Delta {
    metrics: Matching,
    replace: bool,
    before: HashMap<Series, f64>,
}

impl Delta {
    pub(super) fn new(config: &PluginConfig) -> Result<Self, PluginError> {
        let mut keys = Keys::of(config);
        let metrics = keys.metrics()?;
        let replace = match keys.get("replace") {
            None => false,
            Some(value) => value.as_bool().ok_or_else(|| wrong("replace", value, "true or false"))?,
        };
        keys.end()?;
        Ok(Self { metrics, replace, before: HashMap::new() })
    }
}

impl Plugin for Delta {
    fn run(&mut self, sample: Sample, _: Now) -> Result<Decisions, PluginFailure> {
        let key = series(&sample);
        if !self.metrics.has(&sample.metric) || (self.before.len() >= SERIES_MAX && !self.before.contains_key(&key)) {
            return Ok(Decisions::passing(sample));
        }
        let before = self.before.insert(key, sample.value);
        let change = before.map(|before| sample.value - before).filter(|change| change.is_finite());
        let change = change.map(|value| Sample { metric: format!("{}_delta", sample.metric), value, ..sample.clone() });
        let itself = (!self.replace).then_some(sample);
        Ok(Decisions { pass: itself.into_iter().chain(change).collect(), ..Decisions::default() })
    }
}
