//! One line that a sensor's program prints → readings, as a schema says.
//!
//! A line that says nothing true is not thrown away whole: each column is read for itself, what cannot
//! be read becomes an error of its measurement, and the other columns are kept. Values that the sensor
//! itself cannot mean are kept apart by the tag `is_valid_preprocess`: `False` where everything is zero
//! at once, or a value is out of its range.

mod schema;
#[cfg(test)]
mod tests;

pub use self::schema::{COLUMNS_MAX, LineFormat, Place, Schema, SensorColumn};
use crate::csv_row::CellType;
use crate::foreign::{Path, lookup, typed};
use crate::line_protocol::decode;
use heartwatch_domain::reading::FieldValue;
use heartwatch_domain::time::Timestamp;

/// Says whether a value may be counted among the good ones: `True` or `False`.
pub const VALID_TAG: &str = "is_valid_preprocess";

/// Characters of a value that an error repeats.
const SHOWN_CHARS_MAX: usize = 40;

/// Some values of a line that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Their measurement; none is the publisher's.
    pub measurement: Option<String>,
    /// Their tags.
    pub tags: Vec<(String, String)>,
    /// Their time, where the line tells it.
    pub time: Option<Timestamp>,
    /// At least one.
    pub fields: Vec<(String, FieldValue)>,
}

/// What of a line cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// What it would have been a reading of; none is the publisher's measurement.
    pub measurement: Option<String>,
    /// Why.
    pub reason: String,
}

/// What a line says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SensorLine {
    /// What was measured, good and not.
    pub samples: Vec<Sample>,
    /// What could not be read.
    pub unreadable: Vec<Unreadable>,
    /// What the sensor cannot mean, in words; each counts as one defect.
    pub defects: Vec<String>,
}

impl Schema {
    /// Reads a line without its end.
    #[must_use]
    pub fn read(&self, line: &[u8]) -> SensorLine {
        let Ok(text) = std::str::from_utf8(line) else { return self.unreadable("is not UTF-8 text") };
        match self.format {
            LineFormat::LineProtocol => match decode(line) {
                Ok(row) => {
                    let measurement = Some(row.measurement);
                    let sample = Sample { measurement, tags: row.tags, time: row.time, fields: row.fields };
                    SensorLine { samples: vec![sample], ..SensorLine::default() }
                }
                Err(error) => self.unreadable(&error.to_string()),
            },
            LineFormat::Json => match serde_json::from_str::<serde_json::Value>(text) {
                Ok(object @ serde_json::Value::Object(_)) if self.columns.is_empty() => every_value(&object),
                Ok(object @ serde_json::Value::Object(_)) => self.values(|column| {
                    let Place::Path(path) = &column.at else { return Err("is no path".to_owned()) };
                    let path = Path(path.split('.').map(ToOwned::to_owned).collect());
                    let Some(found) = lookup(&object, &path).filter(|found| !found.is_null()) else {
                        return Err(format!("'{path}' is missing"));
                    };
                    let wrong = || expected(&column.at, &found.to_string(), column.kind);
                    typed(found, column.kind).ok_or_else(wrong)
                }),
                Ok(_) => self.unreadable("is not a JSON object"),
                Err(error) => self.unreadable(&format!("is no JSON: {error}")),
            },
            LineFormat::Columns => {
                let cells: Vec<&str> = match self.delimiter {
                    Some(delimiter) => text.split(delimiter).map(str::trim).collect(),
                    None => text.split_whitespace().collect(),
                };
                self.values(|column| {
                    let Place::Column(number) = column.at else { return Err("is no column".to_owned()) };
                    let cell = cells.get(number - 1).filter(|cell| !cell.is_empty());
                    let Some(cell) = cell else { return Err(format!("{} is missing", column.at)) };
                    column.kind.read(cell).ok_or_else(|| expected(&column.at, cell, column.kind))
                })
            }
        }
    }

    /// Nothing of a line can be read: an error of every measurement that it should have had.
    #[must_use]
    pub fn unreadable(&self, reason: &str) -> SensorLine {
        let mut measurements: Vec<Option<String>> = Vec::new();
        for column in &self.columns {
            let measurement = Some(column.measurement.clone());
            if !measurements.contains(&measurement) {
                measurements.push(measurement);
            }
        }
        if measurements.is_empty() {
            measurements.push(None);
        }
        let unreadable =
            measurements.into_iter().map(|measurement| Unreadable { measurement, reason: reason.to_owned() });
        SensorLine { unreadable: unreadable.collect(), ..SensorLine::default() }
    }

    fn values(&self, read: impl Fn(&SensorColumn) -> Result<FieldValue, String>) -> SensorLine {
        let mut line = SensorLine::default();
        let mut good = Vec::new();
        for column in &self.columns {
            match read(column) {
                Ok(value) => good.push((column, value)),
                Err(reason) => {
                    line.unreadable.push(Unreadable { measurement: Some(column.measurement.clone()), reason });
                }
            }
        }
        let numbers: Vec<f64> = good.iter().filter_map(|(_, value)| number(value)).collect();
        let all = good.len() == self.columns.len();
        let zeros = self.zeros_are_defect && all && !numbers.is_empty() && numbers.iter().all(|number| *number == 0.0);
        if zeros {
            line.defects.push(format!("all {} values are 0 at once", numbers.len()));
        }
        for (column, value) in good {
            let outside = number(&value).is_some_and(|number| {
                column.min.is_some_and(|min| number < min) || column.max.is_some_and(|max| number > max)
            });
            if outside && !zeros {
                let bound = |bound: Option<f64>| bound.map_or_else(|| "…".to_owned(), |bound| bound.to_string());
                let range = format!("{}..{}", bound(column.min), bound(column.max));
                let shown = number(&value).unwrap_or_default();
                line.defects.push(format!("{}: {shown} is out of its range {range}", column.measurement));
            }
            let valid = if zeros || outside { "False" } else { "True" };
            let mut tags = vec![(VALID_TAG.to_owned(), valid.to_owned())];
            tags.extend(column.unit.clone().map(|unit| ("unit".to_owned(), unit)));
            let measurement = Some(column.measurement.clone());
            let field = (column.field.clone(), value);
            match line.samples.iter_mut().find(|sample| (&sample.measurement, &sample.tags) == (&measurement, &tags)) {
                Some(sample) => sample.fields.push(field),
                None => line.samples.push(Sample { measurement, tags, time: None, fields: vec![field] }),
            }
        }
        line
    }
}

fn every_value(object: &serde_json::Value) -> SensorLine {
    let found = crate::foreign::every_value(object);
    let mut line = SensorLine::default();
    match found {
        Some(fields) if !fields.is_empty() => {
            line.samples.push(Sample { measurement: None, tags: Vec::new(), time: None, fields });
        }
        Some(_) => line.unreadable.push(Unreadable { measurement: None, reason: "no value in it".to_owned() }),
        None => line.unreadable.push(Unreadable { measurement: None, reason: "too many values in it".to_owned() }),
    }
    line
}

/// The value as a number, for a range; an integer that a float cannot hold is still near enough.
const fn number(value: &FieldValue) -> Option<f64> {
    match value {
        FieldValue::Float(number) => Some(*number),
        FieldValue::Integer(number) => Some(*number as f64),
        FieldValue::Boolean(_) | FieldValue::Text(_) => None,
    }
}

fn expected(at: &Place, found: &str, kind: CellType) -> String {
    let shown: String = found.chars().take(SHOWN_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("{at} has '{shown}' where {} is expected", kind.name())
}
