//! Commands for agents over MQTT, and their answers.
//!
//! ```text
//! ask        {"v":1,"id":"17-3","command":"probe","data":"4711","deadline":1763683203214000000}
//! answer     {"v":1,"id":"17-3","success":true,"output":"…"}
//! ```
//!
//! `data` and `deadline` may be missing. `deadline` is nanoseconds since 1970 on the asker's clock: an agent that
//! reads it later does nothing, and says so. A clock that differs by more than it takes is told by that answer.
//! `output` is text, or JSON as text: that of `probe` is [`ProbeOutput`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use heartwatch_domain::command::{Command, CommandResult};
use heartwatch_domain::process::{ProbeAnswer, ProcessIdentity, ProcessState};
use heartwatch_domain::time::Timestamp;

/// Largest question, in bytes.
pub const ASK_BYTES_MAX: usize = 64 * 1024;
/// Largest answer, in bytes.
pub const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Longest id.
const ID_BYTES_MAX: usize = 200;
/// The version of both.
const VERSION: u32 = 1;

/// A question that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no command: {0}; it should be like {{\"v\":1,\"id\":\"1\",\"command\":\"status\"}}")]
pub struct BadCommand(String);

#[derive(Serialize, Deserialize)]
struct AskWire {
    v: u32,
    id: String,
    command: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    data: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct AnswerWire {
    v: u32,
    id: String,
    success: bool,
    output: String,
}

/// The payload of a question.
#[must_use]
pub fn encode_ask(command: &Command, deadline: Option<Timestamp>) -> Vec<u8> {
    let Command { id, kind, data } = command.clone();
    let wire = AskWire { v: VERSION, id, command: kind, data, deadline: deadline.map(Timestamp::as_nanos) };
    serde_json::to_vec(&wire).unwrap_or_default()
}

/// A question as it came: the command, and until when its answer is of use.
///
/// # Errors
/// [`BadCommand`], which says what is wrong with it.
pub fn decode_ask(payload: &[u8]) -> Result<(Command, Option<Timestamp>), BadCommand> {
    if payload.len() > ASK_BYTES_MAX {
        return Err(BadCommand(format!("it has {} bytes, the limit is {ASK_BYTES_MAX}", payload.len())));
    }
    let wire: AskWire = serde_json::from_slice(payload).map_err(|error| BadCommand(error.to_string()))?;
    check(wire.v, &wire.id)?;
    let AskWire { id, command, data, deadline, .. } = wire;
    Ok((Command { id, kind: command, data }, deadline.map(Timestamp::from_nanos)))
}

/// The payload of an answer. An output that is too long is cut.
#[must_use]
pub fn encode_answer(result: &CommandResult) -> Vec<u8> {
    let CommandResult { id, success, mut output } = result.clone();
    // escapes can make a text six times as long
    let mut bytes_max = ANSWER_BYTES_MAX / 8;
    if output.len() > bytes_max {
        while !output.is_char_boundary(bytes_max) {
            bytes_max -= 1;
        }
        output.truncate(bytes_max);
    }
    serde_json::to_vec(&AnswerWire { v: VERSION, id, success, output }).unwrap_or_default()
}

/// An answer as it came.
///
/// # Errors
/// [`BadCommand`], which says what is wrong with it.
pub fn decode_answer(payload: &[u8]) -> Result<CommandResult, BadCommand> {
    if payload.len() > ANSWER_BYTES_MAX {
        return Err(BadCommand(format!("it has {} bytes, the limit is {ANSWER_BYTES_MAX}", payload.len())));
    }
    let wire: AnswerWire = serde_json::from_slice(payload).map_err(|error| BadCommand(error.to_string()))?;
    check(wire.v, &wire.id)?;
    let AnswerWire { id, success, output, .. } = wire;
    Ok(CommandResult { id, success, output })
}

fn check(version: u32, id: &str) -> Result<(), BadCommand> {
    if version != VERSION {
        return Err(BadCommand(format!("its version is {version}")));
    }
    let good = !id.is_empty() && id.len() <= ID_BYTES_MAX && !id.contains(char::is_control);
    if good { Ok(()) } else { Err(BadCommand(format!("its id has 1 to {ID_BYTES_MAX} bytes"))) }
}

/// What a `probe` found, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeOutput {
    /// `running`, `sleeping`, `stopped`, `zombie`, `gone`, `replaced`, `not-permitted`, `failed`.
    pub state: String,
    /// Which process has the PID now, or why the look failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Microseconds of CPU time that it has used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_us: Option<u64>,
    /// The process that was looked at, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessIdentity>,
    /// When it was looked at, by the agent's clock.
    pub looked_at: Timestamp,
}

impl ProbeOutput {
    /// An answer as it is told.
    #[must_use]
    pub fn of(answer: &ProbeAnswer, process: Option<ProcessIdentity>) -> Self {
        let (state, detail) = match &answer.state {
            ProcessState::Running => ("running", String::new()),
            ProcessState::Sleeping => ("sleeping", String::new()),
            ProcessState::Stopped => ("stopped", String::new()),
            ProcessState::Zombie => ("zombie", String::new()),
            ProcessState::Gone => ("gone", String::new()),
            ProcessState::Replaced { by } => ("replaced", by.clone()),
            ProcessState::NotPermitted => ("not-permitted", String::new()),
            ProcessState::Unreachable { reason } | ProcessState::ProbeFailed { reason } => ("failed", reason.clone()),
        };
        let cpu_us = answer.cpu_time.map(|used| u64::try_from(used.as_micros()).unwrap_or(u64::MAX));
        Self { state: state.to_owned(), detail, cpu_us, process, looked_at: answer.looked_at }
    }

    /// The answer as the monitor takes it; `heard_at` is when it came, on the monitor's own clock.
    ///
    /// # Errors
    /// [`BadCommand`] when it names a state that is not known.
    pub fn answer(self, heard_at: Timestamp) -> Result<ProbeAnswer, BadCommand> {
        let detail: String = self.detail.chars().take(300).collect();
        let state = match self.state.as_str() {
            "running" => ProcessState::Running,
            "sleeping" => ProcessState::Sleeping,
            "stopped" => ProcessState::Stopped,
            "zombie" => ProcessState::Zombie,
            "gone" => ProcessState::Gone,
            "replaced" => ProcessState::Replaced { by: detail },
            "not-permitted" => ProcessState::NotPermitted,
            "failed" => ProcessState::ProbeFailed { reason: detail },
            other => {
                return Err(BadCommand(format!(
                    "a process cannot be '{}'",
                    other.chars().take(60).collect::<String>()
                )));
            }
        };
        Ok(ProbeAnswer {
            state,
            cpu_time: self.cpu_us.map(Duration::from_micros),
            looked_at: heard_at,
            host_pid: None,
            user: None,
        })
    }
}

/// The `data` of a `probe` that means exactly this process, not whoever has its PID now.
#[must_use]
pub fn probe_data(process: &ProcessIdentity) -> String {
    serde_json::to_string(process).unwrap_or_default()
}

/// What a `probe` is about: a PID, or one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeTarget {
    /// Whoever has this PID.
    Pid(u32),
    /// One process, by PID, start time and boot.
    Process(ProcessIdentity),
}

/// Reads the `data` of a `probe`.
///
/// # Errors
/// [`BadCommand`] when it is neither a PID nor the JSON of a process.
pub fn parse_probe_data(data: &str) -> Result<ProbeTarget, BadCommand> {
    let data = data.trim();
    if let Ok(pid) = data.parse::<u32>() {
        return Ok(ProbeTarget::Pid(pid));
    }
    serde_json::from_str(data).map(ProbeTarget::Process).map_err(|_| {
        let data: String = data.chars().take(60).collect();
        BadCommand(format!("'{data}' is no PID; probe <pid> needs one"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> ProcessIdentity {
        ProcessIdentity { pid: 4711, start_ticks: 88, boot_id: "boot".into() }
    }

    #[test]
    fn what_is_asked_and_answered_comes_back_as_it_was() {
        let command = Command { id: "17-3".to_owned(), kind: "probe".to_owned(), data: probe_data(&identity()) };
        let deadline = Some(Timestamp::from_nanos(5));
        let (read, until) = decode_ask(&encode_ask(&command, deadline)).unwrap();
        assert_eq!((&read, until), (&command, deadline));
        assert_eq!(parse_probe_data(&read.data).unwrap(), ProbeTarget::Process(identity()));
        assert_eq!(parse_probe_data(" 4711 ").unwrap(), ProbeTarget::Pid(4711));
        assert!(parse_probe_data("4711; rm -rf /").unwrap_err().to_string().contains("no PID"));
        let result = CommandResult { id: "17-3".to_owned(), success: true, output: "ü\u{1}".repeat(100_000) };
        let read = decode_answer(&encode_answer(&result)).unwrap();
        assert!(result.output.starts_with(&read.output) && read.output.len() > 10_000);
        let least = decode_ask(br#"{"v":1,"id":"1","command":"status"}"#).unwrap();
        assert_eq!((least.0.data.as_str(), least.1), ("", None));
    }

    #[test]
    fn what_is_no_command_says_why() {
        for (wrong, word) in [
            ("", "EOF"),
            ("{}", "missing field"),
            (r#"{"v":2,"id":"1","command":"x"}"#, "version"),
            (r#"{"v":1,"id":"","command":"x"}"#, "id"),
        ] {
            let error = decode_ask(wrong.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("\"command\":\"status\""), "{wrong}: {error}");
        }
    }

    #[test]
    fn every_state_of_a_process_comes_back_with_the_time_of_the_asker() {
        let states = [
            ProcessState::Running,
            ProcessState::Sleeping,
            ProcessState::Stopped,
            ProcessState::Zombie,
            ProcessState::Gone,
            ProcessState::Replaced { by: "sh".to_owned() },
            ProcessState::NotPermitted,
            ProcessState::ProbeFailed { reason: "no /proc".to_owned() },
        ];
        for state in states {
            let cpu_time = Some(Duration::from_micros(7));
            let told = ProbeAnswer {
                state,
                cpu_time,
                looked_at: Timestamp::from_nanos(1_000_000),
                host_pid: None,
                user: None,
            };
            let text = serde_json::to_string(&ProbeOutput::of(&told, Some(identity()))).unwrap();
            let read: ProbeOutput = serde_json::from_str(&text).unwrap();
            let ours = Timestamp::from_nanos(9);
            assert_eq!(read.answer(ours).unwrap(), ProbeAnswer { looked_at: ours, ..told });
        }
    }
}
