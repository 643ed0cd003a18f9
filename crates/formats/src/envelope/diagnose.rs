//! Why a payload could not be read, with the path of the key. Runs only when something is wrong.

use serde_json::Value;

use super::error::Problem;
use super::limits::wrong;
use super::topic::TopicKind;

/// What a key should hold.
#[derive(Clone, Copy)]
enum Right {
    Unsigned,
    Signed,
    Text,
    Boolean,
    Texts,
    FieldValues,
    Ranges,
    Each(&'static [Key]),
    Object(&'static [Key]),
}

struct Key {
    name: &'static str,
    right: Right,
    optional: bool,
}

const fn key(name: &'static str, right: Right) -> Key {
    Key { name, right, optional: false }
}

const fn optional(name: &'static str, right: Right) -> Key {
    Key { name, right, optional: true }
}

const V: Key = key("v", Right::Unsigned);
const HOST: Key = key("host", Right::Text);
const INCARNATION: Key = key("incarnation", Right::Unsigned);
const SEQUENCE: Key = key("sequence", Right::Unsigned);

const READING: &[Key] = &[
    key("seq", Right::Unsigned),
    key("time", Right::Signed),
    key("measurement", Right::Text),
    optional("tags", Right::Texts),
    key("fields", Right::FieldValues),
];
const PROCESS: &[Key] =
    &[key("pid", Right::Unsigned), key("start_ticks", Right::Unsigned), key("boot_id", Right::Text)];

const READINGS: &[Key] = &[V, HOST, INCARNATION, key("readings", Right::Each(READING))];
const HEARTBEAT: &[Key] = &[
    V,
    HOST,
    INCARNATION,
    optional("process", Right::Object(PROCESS)),
    SEQUENCE,
    key("confirmed", Right::Unsigned),
    key("cursor", Right::Unsigned),
    key("idle", Right::Boolean),
    optional("agent", Right::Boolean),
    key("interval_ms", Right::Unsigned),
    optional("outbox_stalled_ms", Right::Unsigned),
    optional("earlier", Right::Ranges),
];
const GOODBYE: &[Key] = &[V, HOST, INCARNATION, SEQUENCE];
const LAST_WILL: &[Key] = &[V, HOST, INCARNATION];
const GIVEN_UP: &[Key] = &[
    V,
    HOST,
    INCARNATION,
    key("first", Right::Unsigned),
    key("last", Right::Unsigned),
    key("reason", Right::Text),
    optional("confirmed_by", Right::Text),
];
const CONFIRM: &[Key] = &[
    V,
    INCARNATION,
    key("through", Right::Unsigned),
    key("highest", Right::Unsigned),
    key("gaps", Right::Ranges),
    optional("produced", Right::Unsigned),
    optional("refused", Right::Unsigned),
    optional("journal", Right::Text),
    optional("deadline_ms", Right::Unsigned),
];

const fn keys(kind: TopicKind) -> &'static [Key] {
    match kind {
        TopicKind::Readings => READINGS,
        TopicKind::Heartbeat => HEARTBEAT,
        TopicKind::Goodbye => GOODBYE,
        TopicKind::LastWill => LAST_WILL,
        TopicKind::GivenUp => GIVEN_UP,
        TopicKind::Confirm => CONFIRM,
    }
}

/// Says what is wrong with a payload that the parser did not take.
pub(super) fn problem(kind: TopicKind, payload: &[u8], error: &serde_json::Error) -> Problem {
    let not_json = || Problem::NotJson { reason: error.to_string() };
    let Ok(value) = serde_json::from_slice::<Value>(payload) else {
        return not_json();
    };
    // a later version may have other keys altogether: that is the thing to say, not what it lacks
    if let Some(found) = value.get("v").and_then(Value::as_u64).filter(|&found| found != 1) {
        return Problem::Version { found };
    }
    object("", &value, keys(kind)).err().unwrap_or_else(not_json)
}

/// Says what is wrong with a reading that has no form.
pub(super) fn reading(index: usize, reading: &Value, error: &serde_json::Error) -> Problem {
    let not_json = || Problem::NotJson { reason: error.to_string() };
    object(&format!("readings[{index}]"), reading, READING).err().unwrap_or_else(not_json)
}

fn object(path: &str, value: &Value, keys: &[Key]) -> Result<(), Problem> {
    let Value::Object(map) = value else {
        let name = if path.is_empty() { "(the payload)" } else { path };
        return Err(wrong(name, "an object", &found(value)));
    };
    for Key { name, right, optional } in keys {
        let path = join(path, name);
        match map.get(*name) {
            None if *optional => {}
            None => return Err(wrong(&path, right.words(), "nothing")),
            Some(Value::Null) if *optional && matches!(right, Right::Object(_)) => {}
            Some(value) => right.check(&path, value)?,
        }
    }
    Ok(())
}

impl Right {
    const fn words(self) -> &'static str {
        match self {
            Self::Unsigned => "a whole number from 0",
            Self::Signed => "a whole number of nanoseconds",
            Self::Text => "a text",
            Self::Boolean => "true or false",
            Self::Texts => "an object of texts",
            Self::FieldValues => "an object of numbers, booleans and texts",
            Self::Ranges => "an array of ranges like [[8,9]]",
            Self::Each(_) => "an array of objects",
            Self::Object(_) => "an object",
        }
    }

    fn check(self, path: &str, value: &Value) -> Result<(), Problem> {
        let right = match (self, value) {
            (Self::Unsigned, _) => value.is_u64(),
            (Self::Signed, _) => value.is_i64(),
            (Self::Text, _) => value.is_string(),
            (Self::Boolean, _) => value.is_boolean(),
            (Self::Texts, Value::Object(map)) => {
                for (key, value) in map {
                    Self::Text.check(&join(path, key), value)?;
                }
                true
            }
            (Self::FieldValues, Value::Object(map)) => {
                for (key, value) in map {
                    field(&join(path, key), value)?;
                }
                true
            }
            (Self::Ranges, Value::Array(ranges)) => ranges
                .iter()
                .all(|range| matches!(range, Value::Array(pair) if pair.len() == 2 && pair.iter().all(Value::is_u64))),
            (Self::Each(keys), Value::Array(values)) => {
                for (index, value) in values.iter().enumerate() {
                    object(&format!("{path}[{index}]"), value, keys)?;
                }
                true
            }
            (Self::Object(keys), Value::Object(_)) => {
                object(path, value, keys)?;
                true
            }
            _ => false,
        };
        if right { Ok(()) } else { Err(wrong(path, self.words(), &found(value))) }
    }
}

fn field(path: &str, value: &Value) -> Result<(), Problem> {
    match value {
        Value::Number(number) if number.is_u64() && !number.is_i64() => {
            Err(wrong(path, "a 64-bit signed integer, or a float with a decimal point", &number.to_string()))
        }
        Value::Number(_) | Value::Bool(_) | Value::String(_) => Ok(()),
        Value::Null => Err(wrong(path, "a number, a boolean or a text (leave out what is not known)", "null")),
        Value::Array(_) | Value::Object(_) => Err(wrong(path, "a number, a boolean or a text", &found(value))),
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn found(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(boolean) => boolean.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("the text '{}'", text.chars().take(60).collect::<String>()),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}
