//! The names of the metrics that say what went wrong, 0 when nothing did.
//!
//! Two kinds: what a source says wrong is a reading like any other, with a number, and only its 0 is none; what
//! went wrong on the way is counted outside the account.
//!
//! Alarms rest on these names and on the monitor's own, `heartwatch_…`: nobody else may write what would quiet them.

use crate::reading::{FieldValue, Reading};

/// What a sensor cannot mean: all zeros at once, a value out of its range, one line over and over.
pub const SENSOR_DEFECT: &str = "sensor_defect";
/// There was no connection: of a publisher to its broker, of the monitor to its database.
pub const CONNECTIVITY_ERROR: &str = "connectivity_error";
/// Readings that were sent more than twice because nobody had confirmed them in time; of the monitor: requests to
/// its database that were made again.
pub const BATCH_SENDING_ERROR: &str = "batch_sending_error";
/// Rows that found no place where they were to wait, and were given up.
pub const DROPPED_ERROR: &str = "dropped_error";
/// Rows that the database refused for good.
pub const DEAD_LETTER_ERROR: &str = "dead_letter_error";

const CASTING_PREFIX: &str = "sensor.error.";

/// What the monitor's own measurements begin with.
const OWN_PREFIX: &str = "heartwatch_";

/// What every error metric of a measurement that could not be read is called: `sensor.error.light`. A
/// measurement that is called `sensor.…` already, like the three of the sensor, does not have the word twice.
#[must_use]
pub fn casting_error(measurement: &str) -> String {
    format!("{CASTING_PREFIX}{}", measurement.strip_prefix("sensor.").unwrap_or(measurement))
}

/// Which rows of a measurement are numbered readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbered {
    /// All of them: it is no error metric.
    All,
    /// Those that say that something went wrong: their `value` is more than 0.
    AboveZero,
    /// None.
    None,
}

/// Which rows of a measurement are in the account.
#[must_use]
pub fn numbered(measurement: &str) -> Numbered {
    match measurement {
        CONNECTIVITY_ERROR | BATCH_SENDING_ERROR | DROPPED_ERROR | DEAD_LETTER_ERROR => Numbered::None,
        SENSOR_DEFECT => Numbered::AboveZero,
        _ if measurement.starts_with(CASTING_PREFIX) => Numbered::AboveZero,
        _ => Numbered::All,
    }
}

/// Why no source may name its measurement so, or nothing.
#[must_use]
pub fn reserved(measurement: &str) -> Option<String> {
    let whose = if measurement.starts_with(OWN_PREFIX) {
        "the monitor's own"
    } else if numbered(measurement) != Numbered::All {
        "the error metrics"
    } else {
        return None;
    };
    Some(format!("the measurement '{}' is one of {whose}: take another name", shown(measurement)))
}

/// Why a publisher may not send this as a reading, or nothing. Of the error metrics only what its source says wrong is a
/// reading, and only while something is wrong.
#[must_use]
pub fn forbidden<T: AsRef<str>>(reading: &Reading<T>) -> Option<String> {
    let measurement = reading.measurement.as_ref();
    let says_wrong = || {
        let value = reading.fields.iter().find(|(key, _)| key.as_ref() == "value");
        matches!(value, Some((_, FieldValue::Integer(1..))))
    };
    match numbered(measurement) {
        Numbered::AboveZero if says_wrong() => None,
        _ => reserved(measurement),
    }
}

/// Why a publisher's heartbeat may not count this as an error, or nothing.
#[must_use]
pub fn no_error(measurement: &str) -> Option<String> {
    let of_publisher = numbered(measurement) != Numbered::All && measurement != DEAD_LETTER_ERROR;
    (!of_publisher).then(|| format!("'{}' is no error metric of a publisher", shown(measurement)))
}

/// A name from outside, as much of it as a person needs.
fn shown(measurement: &str) -> String {
    measurement.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_source_says_wrong_is_a_reading_and_its_zero_is_none() {
        assert_eq!(casting_error("sensor.cpu_load"), "sensor.error.cpu_load");
        assert_eq!(numbered(&casting_error("light")), Numbered::AboveZero);
        assert_eq!((numbered(SENSOR_DEFECT), numbered(DROPPED_ERROR)), (Numbered::AboveZero, Numbered::None));
        assert_eq!(numbered("light"), Numbered::All);
    }

    #[test]
    fn nobody_but_the_monitor_writes_what_its_alarms_rest_on() {
        let reading = |measurement: &str, value: FieldValue| {
            let fields = vec![("value".to_owned(), value)];
            let time = crate::time::Timestamp::from_nanos(1);
            forbidden(&Reading { sequence: 1, time, measurement: measurement.to_owned(), tags: Vec::new(), fields })
                .is_none()
        };
        let (one, zero) = (FieldValue::Integer(1), FieldValue::Integer(0));
        for own in
            ["heartwatch_internal", "heartwatch_verdict", "heartwatch_alarm", "heartwatch_whatever", "heartwatch_"]
        {
            assert!(!reading(own, one.clone()) && reserved(own).is_some() && no_error(own).is_some(), "{own}");
        }
        for counted in [CONNECTIVITY_ERROR, BATCH_SENDING_ERROR, DROPPED_ERROR, DEAD_LETTER_ERROR] {
            assert!(!reading(counted, one.clone()) && reserved(counted).is_some(), "{counted}");
        }
        for of_source in [SENSOR_DEFECT, "sensor.error.light"] {
            assert!(reading(of_source, one.clone()) && reserved(of_source).is_some() && no_error(of_source).is_none());
            // what would say that all is well, or nothing
            for value in [zero.clone(), FieldValue::Integer(-1), FieldValue::Float(1.0), FieldValue::Text("1".into())] {
                assert!(!reading(of_source, value.clone()), "{of_source} {value:?}");
            }
        }
        assert!(no_error(DEAD_LETTER_ERROR).is_some() && no_error("light").is_some());
        for free in ["light", "heartwatch", "sensor.cpu_load", "sensor.errors", "my_heartwatch_internal"] {
            assert!(reading(free, zero.clone()) && reserved(free).is_none(), "{free}");
        }
    }
}
