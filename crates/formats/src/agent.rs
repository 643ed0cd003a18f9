//! The documents about an agent in etcd: its configuration, its heartbeat and what it reports back.
//!
//! | key | value |
//! |---|---|
//! | `/monitor/config/<node>` | `{"interval": 10, "metrics": ["cpu", …], "plugins": [..], "plugin_configs": {"<Name>": {..}}}`; any part of it may stand alone |
//! | `/monitor/heartbeat/<node>` | `{"status": "alive", "ts": <float seconds>, "hostname": s, "client_id": s}`, with a lease |
//! | `/monitor/status/<node>` | what the agent has made of its configuration |

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use heartwatch_domain::agent_settings::{AgentSettings, PluginState};
use heartwatch_domain::metrics::{MetricSet, NoMetric};
use heartwatch_domain::nodes::NodeBeat;
use heartwatch_domain::publisher::{HostName, PublisherId};
use heartwatch_domain::time::Timestamp;

/// What the key of every heartbeat begins with.
pub const HEARTBEAT_PREFIX: &str = "/monitor/heartbeat/";

/// What the key of every configuration begins with.
pub const CONFIG_PREFIX: &str = "/monitor/config/";

/// Shortest interval between two samples.
pub const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Longest interval between two samples: a day.
pub const INTERVAL_MAX: Duration = Duration::from_secs(86_400);
/// Largest configuration document.
pub const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// Most plugins in a chain.
pub const PLUGINS_MAX: usize = 64;
/// Longest name of a plugin.
const PLUGIN_NAME_BYTES_MAX: usize = 200;

/// Why a configuration document changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadDocument {
    /// It is not JSON, or no object, or too large.
    #[error("{0}; it should be a JSON object such as {{\"interval\": 2, \"metrics\": [\"cpu\", \"memory\"]}}")]
    Shape(String),
    /// A key has a value that cannot be used.
    #[error("key '{key}': {reason}")]
    Key {
        /// Which key.
        key: &'static str,
        /// What is wrong, and what would be right.
        reason: String,
    },
}

/// A document that was understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Understood {
    /// The settings with what the document names in place of what was there.
    pub settings: AgentSettings,
    /// Keys that are not known, and were ignored.
    pub ignored: Vec<String>,
}

/// Puts what a document names in place of what stands in `current`; what it does not name stays.
///
/// # Errors
/// [`BadDocument`]: then nothing of it is used.
pub fn merge(current: &AgentSettings, document: &[u8]) -> Result<Understood, BadDocument> {
    if document.len() > DOCUMENT_BYTES_MAX {
        let bytes = document.len();
        return Err(BadDocument::Shape(format!("it has {bytes} bytes, the limit is {DOCUMENT_BYTES_MAX}")));
    }
    let value: Value =
        serde_json::from_slice(document).map_err(|error| BadDocument::Shape(format!("it is no JSON: {error}")))?;
    let Value::Object(keys) = value else {
        return Err(BadDocument::Shape("it is no object".to_owned()));
    };
    let mut settings = current.clone();
    let mut ignored = Vec::new();
    for (key, value) in keys {
        match key.as_str() {
            "interval" => settings.interval = interval(&value)?,
            "metrics" => settings.metrics = metrics(&value)?,
            "plugins" => settings.plugins = plugins(&value)?,
            "plugin_configs" => settings.plugin_configs = plugin_configs(value)?,
            _ => ignored.push(key.chars().take(PLUGIN_NAME_BYTES_MAX).collect()),
        }
    }
    Ok(Understood { settings, ignored })
}

/// The configuration that an agent says is in force: a document of its own, out of its status. None when the value
/// is no status.
#[must_use]
pub fn in_force(status: &[u8]) -> Option<Vec<u8>> {
    let status: Value = serde_json::from_slice(status).ok()?;
    let config = status.get("config").filter(|config| config.is_object())?;
    serde_json::to_vec(config).ok()
}

/// A configuration document with the keys of other ones in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Completed {
    /// The document, to be written.
    pub document: Vec<u8>,
    /// The same as a value.
    pub keys: Map<String, Value>,
    /// Keys of the new document that are not known here.
    pub ignored: Vec<String>,
}

/// Completes a document with what stands under it: first what is in force at the agent, if it is known, over that what
/// is in etcd, and over that the new document. Keys that are not known here are kept, some other agent may know
/// them. What is wrong below the new document is left out, as an agent does.
///
/// # Errors
/// [`BadDocument`] when the new one is wrong.
pub fn complete(in_force: Option<&[u8]>, stored: Option<&[u8]>, document: &[u8]) -> Result<Completed, BadDocument> {
    let nothing = AgentSettings::default();
    let ignored = merge(&nothing, document)?.ignored;
    let below = [in_force, stored].into_iter().flatten();
    let right = below.filter(|below| merge(&nothing, below).is_ok()).chain([document]);
    let mut keys = Map::new();
    for document in right {
        if let Ok(Value::Object(more)) = serde_json::from_slice(document) {
            keys.extend(more);
        }
    }
    let document = serde_json::to_vec_pretty(&keys).unwrap_or_default();
    // together they may be too large
    merge(&nothing, &document)?;
    Ok(Completed { document, keys, ignored })
}

/// The document that says these settings.
#[must_use]
pub fn document(settings: &AgentSettings) -> Vec<u8> {
    serde_json::to_vec_pretty(&as_json(settings)).unwrap_or_default()
}

/// The settings as JSON, for a document and for answers.
#[must_use]
pub fn as_json(settings: &AgentSettings) -> Value {
    let seconds = settings.interval.as_secs_f64();
    let interval =
        if settings.interval.subsec_nanos() == 0 { json!(settings.interval.as_secs()) } else { json!(seconds) };
    json!({
        "interval": interval,
        "metrics": settings.metrics.names(),
        "plugins": settings.plugins,
        "plugin_configs": settings.plugin_configs,
    })
}

fn interval(value: &Value) -> Result<Duration, BadDocument> {
    let wrong = || {
        let reason = format!(
            "{value} is no number of seconds from {} to {}",
            INTERVAL_MIN.as_secs_f64(),
            INTERVAL_MAX.as_secs()
        );
        BadDocument::Key { key: "interval", reason }
    };
    let seconds = value.as_f64().ok_or_else(wrong)?;
    let interval = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
    if (INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) { Ok(interval) } else { Err(wrong()) }
}

fn metrics(value: &Value) -> Result<MetricSet, BadDocument> {
    let names = texts("metrics", value)?;
    MetricSet::parse(names.iter().copied())
        .map_err(|error: NoMetric| BadDocument::Key { key: "metrics", reason: error.to_string() })
}

fn plugins(value: &Value) -> Result<Vec<String>, BadDocument> {
    let names = texts("plugins", value)?;
    let wrong = |reason: String| BadDocument::Key { key: "plugins", reason };
    if names.len() > PLUGINS_MAX {
        return Err(wrong(format!("it has {} plugins, the limit is {PLUGINS_MAX}", names.len())));
    }
    if let Some(name) = names.iter().find(|name| name.is_empty() || name.len() > PLUGIN_NAME_BYTES_MAX) {
        return Err(wrong(format!("'{}' is no name of a plugin", name.chars().take(60).collect::<String>())));
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

fn texts<'a>(key: &'static str, value: &'a Value) -> Result<Vec<&'a str>, BadDocument> {
    let wrong =
        || BadDocument::Key { key, reason: format!("it should be a list of names, like [\"{}\"]", example(key)) };
    value.as_array().ok_or_else(wrong)?.iter().map(|name| name.as_str().ok_or_else(wrong)).collect()
}

fn example(key: &str) -> &'static str {
    if key == "metrics" { "cpu" } else { "plugins.threshold_alert.ThresholdAlertPlugin" }
}

fn plugin_configs(value: Value) -> Result<BTreeMap<String, Map<String, Value>>, BadDocument> {
    let wrong = |reason: String| BadDocument::Key { key: "plugin_configs", reason };
    let Value::Object(configs) = value else {
        return Err(wrong("it should be an object with the short name of a plugin as each key".to_owned()));
    };
    configs
        .into_iter()
        .map(|(name, config)| match config {
            Value::Object(config) => Ok((name, config)),
            other => Err(wrong(format!("'{name}' should be an object, it is {other}"))),
        })
        .collect()
}

/// The value of a heartbeat's key.
#[must_use]
pub fn heartbeat(hostname: &str, client_id: &str, now: Timestamp) -> Vec<u8> {
    let text = json!({ "status": "alive", "ts": seconds(now), "hostname": hostname, "client_id": client_id });
    serde_json::to_vec(&text).unwrap_or_default()
}

/// The key of a node's configuration.
#[must_use]
pub fn config_key(node: &HostName) -> String {
    format!("{CONFIG_PREFIX}{node}")
}

/// The key of what a node's agent has made of its configuration.
#[must_use]
pub fn status_key(node: &HostName) -> String {
    format!("/monitor/status/{node}")
}

/// Reads a heartbeat's key and value. Writers differ in what they say beside the key: what is missing or cannot be
/// read is left out. None when the key names no node.
#[must_use]
pub fn read_heartbeat(key: &str, value: &[u8]) -> Option<NodeBeat> {
    let node = HostName::parse(key.strip_prefix(HEARTBEAT_PREFIX)?).ok()?;
    let value: Value = serde_json::from_slice(value).unwrap_or_default();
    let host = value.get("hostname").and_then(Value::as_str).and_then(|host| HostName::parse(host).ok());
    let client_id = value.get("client_id").and_then(Value::as_str).and_then(|id| PublisherId::parse(id).ok());
    let at = value.get("ts").and_then(Value::as_f64).and_then(|seconds| {
        let since_epoch = Duration::try_from_secs_f64(seconds).ok()?;
        Some(Timestamp::from_nanos(i64::try_from(since_epoch.as_nanos()).ok()?))
    });
    Some(NodeBeat { node, host, client_id, at })
}

/// How often a node's agent takes a sample, where this is its configuration and names that.
#[must_use]
pub fn read_interval(key: &str, value: &[u8]) -> Option<(HostName, Duration)> {
    let node = HostName::parse(key.strip_prefix(CONFIG_PREFIX)?).ok()?;
    let value: Value = serde_json::from_slice(value.get(..DOCUMENT_BYTES_MAX).unwrap_or(value)).ok()?;
    Some((node, interval(value.get("interval")?).ok()?))
}

/// Unix seconds as a float.
#[must_use]
pub fn seconds(time: Timestamp) -> f64 {
    let micros = (time.as_nanos() / 1_000) as f64;
    micros / 1e6
}

/// What an agent has made of its configuration: the value of its status key.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatusDocument {
    /// When it was written, Unix seconds.
    pub ts: f64,
    /// Which revision of the configuration's key it is about; 0 when there is none.
    pub revision: i64,
    /// Whether that document is in force.
    pub applied: bool,
    /// Why not, or an empty text.
    pub error: String,
    /// Keys of it that are not known.
    pub ignored: Vec<String>,
    /// What is in force.
    pub config: Value,
    /// The chain as it runs: each plugin with its state in words.
    pub plugins: Vec<PluginState>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn merged(document: &str) -> Result<AgentSettings, BadDocument> {
        merge(&AgentSettings::default(), document.as_bytes()).map(|understood| understood.settings)
    }

    #[test]
    fn a_partial_document_changes_only_what_it_names() {
        let before = AgentSettings { plugins: vec!["LoggerPlugin".to_owned()], ..AgentSettings::default() };
        let after = merge(&before, br#"{"interval": 0.5}"#).unwrap();
        assert_eq!(after.settings, AgentSettings { interval: Duration::from_millis(500), ..before.clone() });
        let after = merge(&before, br#"{"metrics": ["cpu", "network"], "colour": 1}"#).unwrap();
        assert_eq!(after.settings.metrics.names(), ["cpu", "net in", "net out"]);
        assert_eq!((after.settings.interval, after.settings.plugins), (before.interval, before.plugins));
        assert_eq!(after.ignored, ["colour"]);
    }

    #[test]
    fn a_partial_document_is_completed_by_what_stands_under_it() {
        let whole = |in_force: Option<&str>, stored: Option<&str>, document: &str| {
            let completed =
                complete(in_force.map(str::as_bytes), stored.map(str::as_bytes), document.as_bytes()).unwrap();
            assert_eq!(serde_json::from_slice::<Value>(&completed.document).unwrap(), json!(completed.keys));
            (json!(completed.keys), completed.ignored)
        };
        let partial = r#"{"interval": 2}"#;
        assert_eq!(whole(None, None, partial).0, json!({"interval": 2}), "nobody knows the rest");
        let (keys, ignored) = whole(None, Some(r#"{"interval": 9, "colour": 1}"#), r#"{"interval": 2, "shape": 0}"#);
        assert_eq!(keys, json!({"interval": 2, "colour": 1, "shape": 0}));
        assert_eq!(ignored, ["shape"]);
        let status = r#"{"config": {"interval": 5, "metrics": ["cpu"]}, "applied": false}"#;
        let in_force = String::from_utf8(in_force(status.as_bytes()).unwrap()).unwrap();
        // what is wrong in etcd was not in force
        for (stored, metrics) in
            [(r#"{"metrics": ["memory"]}"#, "memory"), (r#"{"metrics": ["gpu"]}"#, "cpu"), ("[", "cpu")]
        {
            let (keys, _) = whole(Some(&in_force), Some(stored), partial);
            assert_eq!(keys, json!({"interval": 2, "metrics": [metrics]}), "{stored}");
        }
        assert!(complete(None, Some(partial.as_bytes()), br#"{"interval": 0}"#).is_err());
        for no_status in ["", "[]", r#"{"config": 1}"#] {
            assert_eq!(super::in_force(no_status.as_bytes()), None, "{no_status}");
        }
        let half = format!(r#"{{"x": "{}"}}"#, "x".repeat(DOCUMENT_BYTES_MAX / 2));
        assert!(complete(None, Some(half.as_bytes()), half.replace("\"x\"", "\"y\"").as_bytes()).is_err());
    }

    #[test]
    fn a_wrong_document_says_what_is_wrong() {
        for (document, word) in [
            ("", "no JSON"),
            ("[1]", "no object"),
            (r#"{"interval": "fast"}"#, "interval"),
            (r#"{"interval": 0}"#, "0.1"),
            (r#"{"interval": -5}"#, "interval"),
            (r#"{"interval": 1e300}"#, "interval"),
            (r#"{"interval": 2, "metrics": ["gpu"]}"#, "'gpu'"),
            (r#"{"metrics": "cpu"}"#, "list"),
            (r#"{"plugins": [1]}"#, "plugins"),
            (r#"{"plugin_configs": {"LoggerPlugin": 5}}"#, "LoggerPlugin"),
        ] {
            let error = merged(document).unwrap_err().to_string();
            assert!(error.contains(word), "{document}: {error}");
        }
        assert!(merged(&format!("{{\"x\": \"{}\"}}", "x".repeat(DOCUMENT_BYTES_MAX))).is_err());
        assert_eq!(merged(r#"{"interval": 0.1}"#).unwrap().interval, INTERVAL_MIN);
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let text = r#"{"interval": 2.5, "metrics": ["disk read", "cpu"], "plugins": ["plugins.logger.LoggerPlugin"],
                       "plugin_configs": {"ThresholdAlertPlugin": {"cpu": 70}}}"#;
        let settings = merged(text).unwrap();
        assert_eq!(merged(std::str::from_utf8(&document(&settings)).unwrap()).unwrap(), settings);
        let defaults = String::from_utf8(document(&AgentSettings::default())).unwrap();
        assert!(defaults.contains("\"interval\": 10") && defaults.contains("\"disk read\""), "{defaults}");
    }

    #[test]
    fn heartbeats_of_all_writers_are_read() {
        let beat = |key: &str, value: &str| read_heartbeat(key, value.as_bytes());
        let ours = heartbeat("plant-7", "agent-7", Timestamp::from_nanos(1_500_000_000));
        let ours = read_heartbeat("/monitor/heartbeat/n1", &ours).unwrap();
        assert_eq!((ours.node.as_str(), ours.at), ("n1", Some(Timestamp::from_nanos(1_500_000_000))));
        assert_eq!(ours.host.unwrap().as_str(), "plant-7");
        assert_eq!(ours.client_id.unwrap().as_str(), "agent-7");
        let old = beat("/monitor/heartbeat/master", r#"{"status": "alive", "ts": -1, "client_id": "a b"}"#).unwrap();
        assert_eq!((old.node.as_str(), old.host, old.client_id, old.at), ("master", None, None, None));
        assert!(beat("/monitor/heartbeat/n1", "").is_some(), "that the key is there is what counts");
        assert_eq!(beat("/monitor/heartbeat/a/b", "{}"), None);
        assert_eq!(beat("/monitor/config/n1", "{}"), None);
    }

    #[test]
    fn a_configuration_promises_its_interval() {
        let read = |key: &str, value: &str| {
            read_interval(key, value.as_bytes()).map(|(node, interval)| (node.to_string(), interval.as_millis()))
        };
        let n1 = |millis| Some(("n1".to_owned(), millis));
        assert_eq!(read("/monitor/config/n1", r#"{"interval": 60}"#), n1(60_000));
        assert_eq!(read("/monitor/config/n1", r#"{"metrics": ["cpu"], "interval": 0.5}"#), n1(500));
        for none in [r#"{"interval": "60"}"#, r#"{"interval": -1}"#, r#"{"interval": 1e99}"#, "{}", "[]", "", "60"] {
            assert_eq!(read("/monitor/config/n1", none), None, "{none}");
        }
        assert_eq!(read("/monitor/heartbeat/n1", r#"{"interval": 60}"#), None);
    }

    proptest! {
        #[test]
        fn no_document_breaks_it(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = merge(&AgentSettings::default(), &bytes);
        }

        #[test]
        fn every_interval_in_force_is_within_the_limits(seconds in any::<f64>()) {
            let document = json!({ "interval": seconds }).to_string();
            if let Ok(settings) = merged(&document) {
                prop_assert!((INTERVAL_MIN..=INTERVAL_MAX).contains(&settings.interval));
            }
        }
    }
}
