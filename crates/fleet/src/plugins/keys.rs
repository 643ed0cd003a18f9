//! Reading a plugin's configuration: each key once, with its limits; a key that is left over is an error.

use std::time::Duration;

use serde_json::Value;

use super::{PluginConfig, PluginError};

/// A configuration that is being read.
pub(super) struct Keys<'a> {
    config: &'a PluginConfig,
    read: Vec<&'static str>,
}

impl<'a> Keys<'a> {
    pub(super) const fn of(config: &'a PluginConfig) -> Self {
        Self { config, read: Vec::new() }
    }

    /// The value of a key, where it is there.
    pub(super) fn get(&mut self, key: &'static str) -> Option<&'a Value> {
        self.read.push(key);
        self.config.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn number(
        &mut self,
        key: &'static str,
        default: f64,
        least: f64,
        most: f64,
    ) -> Result<f64, PluginError> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let number = value.as_f64().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| wrong(key, value, &format!("a number from {least} to {most}")))
    }

    /// Seconds, as everywhere in these documents.
    pub(super) fn seconds(&mut self, key: &'static str, default: f64) -> Result<Duration, PluginError> {
        self.number(key, default, 0.0, 31_536_000.0).map(Duration::from_secs_f64)
    }

    /// A list of texts to be found in metric names; none given means every metric.
    pub(super) fn metrics(&mut self) -> Result<Matching, PluginError> {
        let Some(value) = self.get("metrics") else { return Ok(Matching(Vec::new())) };
        let wrong = || wrong("metrics", value, "a list of texts that a metric's name contains");
        let texts = value.as_array().ok_or_else(wrong)?;
        let texts = texts.iter().map(|text| text.as_str().map(normal)).collect::<Option<Vec<_>>>();
        texts.map(Matching).ok_or_else(wrong)
    }

    /// Nothing else may be there: a key that is spelled wrong would be silently without effect.
    pub(super) fn end(self) -> Result<(), PluginError> {
        let unknown = self.config.keys().find(|key| !self.read.contains(&key.as_str()));
        match unknown {
            Some(key) => {
                let reason = format!("is not known; known are {}", self.read.join(", "));
                Err(PluginError::Config { key: key.chars().take(80).collect(), reason })
            }
            None => Ok(()),
        }
    }
}

/// Which metrics a plugin is for.
pub(super) struct Matching(Vec<String>);

impl Matching {
    pub(super) fn has(&self, metric: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|text| normal(metric).contains(text))
    }
}

/// `disk read`, `disk_read` and `Disk_Read` are one name.
pub(super) fn normal(metric: &str) -> String {
    metric.to_lowercase().replace(' ', "_")
}

pub(super) fn wrong(key: &str, value: &Value, right: &str) -> PluginError {
    let value: String = value.to_string().chars().take(80).collect();
    PluginError::Config { key: key.to_owned(), reason: format!("is {value}; it should be {right}") }
}
