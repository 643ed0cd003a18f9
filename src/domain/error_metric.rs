//! The names of the metrics that say what went wrong, 0 when nothing did.
//!
//! Two kinds: what a source says wrong is a reading like any other, with a number, and only its 0 is none; what
//! went wrong on the way is counted outside the account.

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
}
