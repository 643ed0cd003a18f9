//! Logs each reading that passes.

use super::keys::{Keys, Matching};
use super::{Decisions, Level, Now, Plugin, PluginConfig, PluginError, PluginFailure, Sample};

/// Key: `metrics`.
pub(super) struct Logger {
    metrics: Matching,
}

impl Logger {
    pub(super) fn new(config: &PluginConfig) -> Result<Self, PluginError> {
        let mut keys = Keys::of(config);
        let metrics = keys.metrics()?;
        keys.end()?;
        Ok(Self { metrics })
    }
}

impl Plugin for Logger {
    fn run(&mut self, sample: Sample, _: Now) -> Result<Decisions, PluginFailure> {
        let line = format!("{} = {:.3}", sample.metric, sample.value);
        let lines = if self.metrics.has(&sample.metric) { vec![(Level::Info, line)] } else { Vec::new() };
        Ok(Decisions { lines, ..Decisions::passing(sample) })
    }
}
