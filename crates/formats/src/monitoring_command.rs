//! Commands and their results, as JSON on Kafka: `monitoring-commands`, which existing consoles write, and
//! `monitoring-results`, which is ours.
//!
//! ```text
//! monitoring-commands  {"command_id":"c-1","target":"agent-1","command_type":"probe","command_data":"4711","timestamp":1763683203}
//! monitoring-results   {"command_id":"c-1","client_id":"agent-1","command_type":"probe","success":true,"output":"…","timestamp":1763683204}
//! ```
//!
//! Every key of a command but `command_type` may be missing; the target is `all` then. `answer_within_ms` is ours: the
//! question of a monitor, which waits no longer. Every server of ours reads it, and the one that has the agent asks it; who
//! does not know the key gives the command its usual time.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use heartwatch_domain::command::{CommandOutcome, CommandResult};
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::time::Timestamp;

/// Where commands come from.
pub const COMMANDS_TOPIC: &str = "monitoring-commands";
/// Where their results go.
pub const RESULTS_TOPIC: &str = "monitoring-results";

/// Most bytes of a command.
const COMMAND_BYTES_MAX: usize = 65_536;
/// Most bytes of a probe's result.
const RESULT_BYTES_MAX: usize = 262_144;

/// One message of `monitoring-commands`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MonitoringCommand {
    /// Distinct for every command.
    pub command_id: String,
    /// A client id, or `all`.
    pub target: String,
    /// What to do.
    pub command_type: String,
    /// What it is about.
    pub command_data: String,
    /// When it was given, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<i64>,
    /// How long its answer is of use, in milliseconds since a server took the command. A key of our own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_within_ms: Option<u64>,
}

/// As it comes: what may be missing is.
#[derive(Deserialize)]
struct Wire {
    command_id: Option<String>,
    target: Option<String>,
    command_type: String,
    command_data: Option<Value>,
    timestamp: Option<Value>,
    answer_within_ms: Option<Value>,
}

/// Reads one command; `id` is what it is called where it has no name of its own.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub fn decode_command(payload: &[u8], id: &str) -> Result<MonitoringCommand, String> {
    if payload.len() > COMMAND_BYTES_MAX {
        return Err(format!("it has {} bytes, the limit is {COMMAND_BYTES_MAX} bytes", payload.len()));
    }
    let wire: Wire = serde_json::from_slice(payload).map_err(|error| {
        format!("this is not a command ({error}); right is {{\"target\": \"agent-1\", \"command_type\": \"status\"}}")
    })?;
    let given =
        |text: Option<String>, default: &str| text.filter(|text| !text.is_empty()).unwrap_or(default.to_owned());
    let command_data = match wire.command_data {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text,
        // some writers put an object there
        Some(other) => other.to_string(),
    };
    let timestamp = wire.timestamp.as_ref().and_then(|time| {
        #[expect(clippy::cast_possible_truncation, reason = "a time in seconds is far from the limits")]
        time.as_i64().or_else(|| time.as_f64().map(|seconds| seconds as i64))
    });
    Ok(MonitoringCommand {
        command_id: given(wire.command_id, id),
        target: given(wire.target, "all"),
        command_type: wire.command_type,
        command_data,
        timestamp,
        answer_within_ms: wire.answer_within_ms.as_ref().and_then(Value::as_u64),
    })
}

/// As the JSON of the topic.
#[must_use]
pub fn encode_command(command: &MonitoringCommand) -> Vec<u8> {
    // only texts and a number
    serde_json::to_vec(command).unwrap_or_default()
}

/// One message of `monitoring-results`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonitoringResult {
    /// The command's id.
    pub command_id: String,
    /// Which agent.
    pub client_id: String,
    /// What it was asked.
    #[serde(default)]
    pub command_type: String,
    /// Whether it was done.
    pub success: bool,
    /// What came out of it, or why it was not done.
    pub output: String,
    /// When, in seconds since 1970.
    #[serde(default)]
    pub timestamp: i64,
}

impl MonitoringResult {
    /// An outcome as it is told.
    #[must_use]
    pub fn of(outcome: &CommandOutcome, at: Timestamp) -> Self {
        let CommandOutcome { id, kind, client_id, success, output } = outcome.clone();
        let timestamp = at.as_nanos().div_euclid(1_000_000_000);
        Self { command_id: id, client_id, command_type: kind, success, output, timestamp }
    }

    /// As the JSON of the topic.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // only texts, a truth and a number
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// Reads what became of a `probe`: who answers, and what. None when it is something else, or cannot be read: many read
/// and write this topic.
#[must_use]
pub fn decode_probe_result(payload: &[u8]) -> Option<(PublisherId, CommandResult)> {
    if payload.len() > RESULT_BYTES_MAX {
        return None;
    }
    let result: MonitoringResult = serde_json::from_slice(payload).ok()?;
    let MonitoringResult { command_id: id, client_id, command_type, success, output, .. } = result;
    let agent = PublisherId::parse(&client_id).ok().filter(|_| command_type == "probe")?;
    Some((agent, CommandResult { id, success, output }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_of_a_probe_is_told_from_others() {
        let outcome = |kind: &str, client_id: &str| CommandOutcome {
            id: "probe-1".to_owned(),
            kind: kind.to_owned(),
            client_id: client_id.to_owned(),
            success: true,
            output: "{}".to_owned(),
        };
        let read = |outcome| decode_probe_result(&MonitoringResult::of(&outcome, Timestamp::from_nanos(0)).encode());
        let (agent, result) = read(outcome("probe", "agent-1")).unwrap();
        assert_eq!((agent.as_str(), result.id.as_str(), result.success), ("agent-1", "probe-1", true));
        assert_eq!(read(outcome("ping", "agent-1")), None);
        assert_eq!(read(outcome("probe", "no such name")), None);
        assert_eq!(decode_probe_result(b"{"), None);
    }

    #[test]
    fn what_is_missing_has_a_default_and_what_is_wrong_is_named() {
        let least = decode_command(br#"{"command_type": "status", "new": 1}"#, "k-0-7").unwrap();
        assert_eq!(
            (least.command_id.as_str(), least.target.as_str(), least.command_data.as_str()),
            ("k-0-7", "all", "")
        );
        let whole = MonitoringCommand {
            command_id: "c-1".to_owned(),
            target: "agent-1".to_owned(),
            command_type: "probe".to_owned(),
            command_data: "4711".to_owned(),
            timestamp: Some(1_763_683_203),
            answer_within_ms: None,
        };
        let json = encode_command(&whole);
        assert_eq!(
            String::from_utf8_lossy(&json),
            r#"{"command_id":"c-1","target":"agent-1","command_type":"probe","command_data":"4711","timestamp":1763683203}"#
        );
        assert_eq!(decode_command(&json, "other").unwrap(), whole);
        let hurried = MonitoringCommand { answer_within_ms: Some(1_500), ..whole };
        assert_eq!(decode_command(&encode_command(&hurried), "other").unwrap(), hurried);
        let odd = decode_command(br#"{"command_type":"c","command_data":{"a":1},"timestamp":5.7}"#, "x").unwrap();
        assert_eq!((odd.command_data.as_str(), odd.timestamp), (r#"{"a":1}"#, Some(5)));
        assert!(decode_command(br#"{"target": "all"}"#, "x").unwrap_err().contains("command_type"));
    }
}
