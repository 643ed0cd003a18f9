//! How an agent measures, and what of it does not work.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::metrics::MetricSet;

/// How an agent measures, as its live configuration says.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentSettings {
    /// Time between two samples.
    pub interval: Duration,
    /// What is measured.
    pub metrics: MetricSet,
    /// The chain that each reading passes, in this order, by class name or short name.
    pub plugins: Vec<String>,
    /// Each plugin's own configuration, by short name.
    pub plugin_configs: BTreeMap<String, Map<String, Value>>,
}

impl Default for AgentSettings {
    /// Everything every 10 s, through no plugin.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            metrics: MetricSet::default(),
            plugins: Vec::new(),
            plugin_configs: BTreeMap::new(),
        }
    }
}

/// One plugin of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PluginState {
    /// As the configuration names it, or its file's name.
    pub name: String,
    /// `running`, or why it is skipped.
    pub state: String,
    /// Readings at which it failed since it was loaded.
    pub failures: u64,
}
