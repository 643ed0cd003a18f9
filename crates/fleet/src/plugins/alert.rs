//! Says when a metric crosses its threshold, and when it is well below it again: two events, not one a reading.

use std::collections::{BTreeMap, HashSet};

use super::keys::{normal, wrong};
use super::{
    Decisions, Event, Level, Now, Plugin, PluginConfig, PluginError, PluginFailure, SERIES_MAX, Sample, Series, series,
};

/// Keys are metric names, matched as parts of a metric's name: `{"cpu": 80, "memory": 85, "disk": 90}` are the
/// defaults; a key that is given replaces its default, `null` takes it away. `hysteresis` (5): an alert is
/// cleared when the value is that far below the threshold. `disk` is not meant for rates: without a threshold
/// of their own `disk_read` and `disk_write` have none by default.
pub(super) struct ThresholdAlert {
    /// The longest matching name counts.
    thresholds: Vec<(String, f64)>,
    hysteresis: f64,
    raised: HashSet<Series>,
}

/// What the plugin of the existing agents warns of, per cent.
const DEFAULTS: [(&str, f64); 3] = [("cpu", 80.0), ("memory", 85.0), ("disk", 90.0)];
const HYSTERESIS: f64 = 5.0;
/// Rates that would match a default that is meant in per cent.
const RATES: [&str; 4] = ["disk_read", "disk_write", "net_in", "net_out"];

impl ThresholdAlert {
    pub(super) fn new(config: &PluginConfig) -> Result<Self, PluginError> {
        let mut thresholds: BTreeMap<String, f64> =
            DEFAULTS.iter().map(|(metric, threshold)| ((*metric).to_owned(), *threshold)).collect();
        let mut hysteresis = HYSTERESIS;
        // Some configurations put the thresholds into an object of their own.
        let nested = config.get("thresholds").and_then(|nested| nested.as_object());
        let own = config.iter().filter(|(key, _)| *key != "thresholds" || nested.is_none());
        for (key, value) in own.chain(nested.into_iter().flatten()) {
            let number = value.as_f64().filter(|number| number.is_finite());
            match (key.as_str(), number) {
                ("hysteresis", Some(number)) if number >= 0.0 => hysteresis = number,
                ("hysteresis", _) => return Err(wrong(key, value, "a number from 0")),
                (_, Some(number)) => drop(thresholds.insert(normal(key), number)),
                (_, None) if value.is_null() => drop(thresholds.remove(&normal(key))),
                (_, None) => return Err(wrong(key, value, "a number, the threshold")),
            }
        }
        let mut thresholds: Vec<_> = thresholds.into_iter().filter(|(name, _)| !name.is_empty()).collect();
        thresholds.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        Ok(Self { thresholds, hysteresis, raised: HashSet::new() })
    }

    fn threshold(&self, metric: &str) -> Option<f64> {
        let metric = normal(metric);
        let (name, threshold) = self.thresholds.iter().find(|(name, _)| metric.contains(name.as_str()))?;
        // `disk: 90` is per cent of a file system, not 90 MiB a second.
        let is_rate = RATES.contains(&metric.as_str()) && !RATES.contains(&name.as_str());
        (!is_rate).then_some(*threshold)
    }
}

impl Plugin for ThresholdAlert {
    fn run(&mut self, sample: Sample, _: Now) -> Result<Decisions, PluginFailure> {
        let Some(threshold) = self.threshold(&sample.metric) else { return Ok(Decisions::passing(sample)) };
        let key = series(&sample);
        let was_raised = self.raised.contains(&key);
        let kind = match (was_raised, sample.value) {
            (false, value) if value > threshold && self.raised.len() < SERIES_MAX => "raised",
            (true, value) if value <= threshold - self.hysteresis => "cleared",
            _ => return Ok(Decisions::passing(sample)),
        };
        let Sample { metric, value, time, .. } = sample.clone();
        let (level, message) = if kind == "raised" {
            self.raised.insert(key);
            (Level::Warning, format!("{metric} is {value:.1}, above its threshold of {threshold}"))
        } else {
            self.raised.remove(&key);
            let well = threshold - self.hysteresis;
            (Level::Info, format!("{metric} is {value:.1}, at or below {well} again (threshold {threshold})"))
        };
        let plugin = "ThresholdAlertPlugin".to_owned();
        let event =
            Event { plugin, metric, kind: kind.to_owned(), level, message, value, threshold: Some(threshold), time };
        Ok(Decisions { events: vec![event], ..Decisions::passing(sample) })
    }
}
