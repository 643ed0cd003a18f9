//! What bounds one message, and the check that both sides share.

use super::error::Problem;
use heartwatch_domain::reading::{FieldValue, Reading, has_control_character};
use heartwatch_domain::sequence::SEQUENCE_MAX;

/// Most bytes of one payload. A larger one is refused before it is parsed.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;
/// Most readings in one message.
pub const READINGS_MAX: usize = 5_000;
/// Most fields of one reading.
pub const FIELDS_MAX: usize = 256;
/// Most tags of one reading, beyond `publisher` and `host`.
pub const TAGS_MAX: usize = 64;
/// Longest measurement, tag key or field key, in bytes.
pub const KEY_BYTES_MAX: usize = 256;
/// Longest value of a tag, in bytes.
pub const TAG_VALUE_BYTES_MAX: usize = 1024;
/// Longest text in a field, in bytes: what InfluxDB 1.x takes.
pub const TEXT_BYTES_MAX: usize = 64 * 1024 - 1;
/// Longest reason in a `given-up` message, in bytes.
pub const REASON_BYTES_MAX: usize = 1024;
/// Longest boot id of a process, in bytes.
pub(super) const BOOT_ID_BYTES_MAX: usize = 128;
/// Largest sequence number or incarnation: what a signed 64-bit column of the store holds.
pub const NUMBER_MAX: u64 = i64::MAX as u64;

/// Tags that the monitor sets itself.
const RESERVED_TAGS: [&str; 2] = ["publisher", "host"];

/// Most bytes of names and texts in one reading. Escaped as JSON they stay below [`PAYLOAD_BYTES_MAX`].
pub const READING_BYTES_MAX: usize = 128 * 1024;

/// Whether a reading can be sent and will be taken: at least one field, no NaN or infinity, keys
/// and values within the limits and without control characters, no key twice, and no tag that the
/// monitor sets itself. Its number is not looked at, so it may not have one yet.
///
/// # Errors
/// The first [`Problem`], with the key that it is about, relative to the reading.
pub fn check<T: AsRef<str>>(reading: &Reading<T>) -> Result<(), Problem> {
    name("measurement", reading.measurement.as_ref())?;
    if reading.tags.len() > TAGS_MAX {
        return Err(wrong("tags", &format!("at most {TAGS_MAX} tags"), &reading.tags.len().to_string()));
    }
    for (key, value) in &reading.tags {
        let (key, value) = (key.as_ref(), value.as_ref());
        name("tags", key)?;
        if RESERVED_TAGS.contains(&key) {
            return Err(wrong(&format!("tags.{key}"), "another name: the monitor sets this tag itself", value));
        }
        if value.len() > TAG_VALUE_BYTES_MAX {
            let right = format!("at most {TAG_VALUE_BYTES_MAX} bytes");
            return Err(wrong(&format!("tags.{key}"), &right, &format!("{} bytes", value.len())));
        }
        if has_control_character(value) {
            return Err(wrong(&format!("tags.{key}"), "text without control characters", value));
        }
    }
    no_key_twice("tags", &reading.tags)?;
    if reading.fields.is_empty() || reading.fields.len() > FIELDS_MAX {
        return Err(wrong("fields", &format!("1 to {FIELDS_MAX} fields"), &reading.fields.len().to_string()));
    }
    for (key, value) in &reading.fields {
        let key = key.as_ref();
        name("fields", key)?;
        match value {
            FieldValue::Float(float) if !float.is_finite() => {
                return Err(wrong(&format!("fields.{key}"), "a finite number", &float.to_string()));
            }
            FieldValue::Text(text) if text.len() > TEXT_BYTES_MAX => {
                let right = format!("at most {TEXT_BYTES_MAX} bytes of text");
                return Err(wrong(&format!("fields.{key}"), &right, &format!("{} bytes", text.len())));
            }
            _ => {}
        }
    }
    no_key_twice("fields", &reading.fields)?;
    let tag_bytes: usize = reading.tags.iter().map(|(key, value)| key.as_ref().len() + value.as_ref().len()).sum();
    let field_bytes: usize = reading.fields.iter().map(|(key, value)| key.as_ref().len() + text_bytes(value)).sum();
    if tag_bytes + field_bytes > READING_BYTES_MAX {
        let right = format!("at most {READING_BYTES_MAX} bytes of names and texts");
        return Err(wrong("fields", &right, &format!("{} bytes", tag_bytes + field_bytes)));
    }
    Ok(())
}

/// Whether a heartbeat may have an error metric of this name; one that it may not have costs the whole heartbeat.
///
/// # Errors
/// What would be right.
pub fn check_error_metric(measurement: &str) -> Result<(), Problem> {
    if measurement.starts_with("heartwatch_") {
        return Err(wrong("errors", "a measurement that is not the monitor's own", measurement));
    }
    name("errors", measurement)
}

/// Whether a heartbeat may have this tag `env` for its error metrics.
///
/// # Errors
/// What would be right.
pub fn check_error_env(env: &str) -> Result<(), Problem> {
    name("env", env)
}

fn text_bytes(value: &FieldValue) -> usize {
    if let FieldValue::Text(text) = value { text.len() } else { 0 }
}

/// [`check`], and that its number is one.
///
/// # Errors
/// As [`check`].
pub fn check_numbered<T: AsRef<str>>(reading: &Reading<T>) -> Result<(), Problem> {
    if reading.sequence < 1 || reading.sequence > SEQUENCE_MAX {
        let right = format!("a number from 1 to {SEQUENCE_MAX}");
        return Err(wrong("seq", &right, &reading.sequence.to_string()));
    }
    check(reading)
}

/// That a sequence number or incarnation fits the store.
pub(super) fn number(key: &str, found: u64, min: u64) -> Result<(), Problem> {
    if found < min || found > NUMBER_MAX {
        return Err(wrong(key, &format!("a number from {min} to {NUMBER_MAX}"), &found.to_string()));
    }
    Ok(())
}

fn name(what: &str, text: &str) -> Result<(), Problem> {
    if text.is_empty() || text.len() > KEY_BYTES_MAX || has_control_character(text) {
        let right = format!("names of 1 to {KEY_BYTES_MAX} bytes without control characters");
        return Err(wrong(what, &right, text));
    }
    Ok(())
}

fn no_key_twice<T: AsRef<str>, V>(what: &str, entries: &[(T, V)]) -> Result<(), Problem> {
    // most readings have one
    if entries.len() < 2 {
        return Ok(());
    }
    let mut keys: Vec<&str> = entries.iter().map(|(key, _)| key.as_ref()).collect();
    keys.sort_unstable();
    match keys.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(wrong(&format!("{what}.{}", pair[0]), "each key once", "it twice")),
        None => Ok(()),
    }
}

pub(super) fn wrong(key: &str, right: &str, found: &str) -> Problem {
    Problem::Key { key: key.to_owned(), right: right.to_owned(), found: found.chars().take(80).collect() }
}
