//! One line that a sensor's program prints → readings, as a schema says.
//!
//! A line that says nothing true is not thrown away whole: each column is read for itself, what cannot
//! be read becomes an error of its measurement, and the other columns are kept. Values that the sensor
//! itself cannot mean are kept apart by the tag `is_valid_preprocess`: `False` where everything is zero
//! at once, or a value is out of its range.

use serde::{Deserialize, Serialize};

use crate::domain::reading::FieldValue;
use crate::domain::time::Timestamp;
use crate::formats::csv_row::CellType;
use crate::formats::foreign::{Path, lookup, typed};
use crate::formats::line_protocol::decode;

/// Says whether a value may be counted among the good ones: `True` or `False`.
pub const VALID_TAG: &str = "is_valid_preprocess";

/// Most columns of a schema.
pub const COLUMNS_MAX: usize = 256;

/// Characters of a value that an error repeats.
const SHOWN_CHARS_MAX: usize = 40;

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LineFormat {
    /// Cells in a fixed order.
    #[default]
    Columns,
    /// A JSON object.
    Json,
    /// A row of InfluxDB's line protocol.
    LineProtocol,
}

/// Where in a line a value is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Place {
    /// The cell with this number, from 1.
    Column(usize),
    /// A path in the JSON object: `a.b.0`.
    Path(String),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Column(number) => write!(f, "column {number}"),
            Self::Path(path) => f.write_str(path),
        }
    }
}

/// One value of a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SensorColumn {
    /// Where it is.
    pub at: Place,
    /// The measurement that it belongs to.
    pub measurement: String,
    /// Its field.
    #[serde(default = "value")]
    pub field: String,
    /// Its type.
    #[serde(rename = "type", default = "float")]
    pub kind: CellType,
    /// What it is counted in; becomes the tag `unit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The smallest value that is no defect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The largest value that is no defect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

// `check` lets no NaN in, so each is equal to itself
impl Eq for SensorColumn {}

fn value() -> String {
    "value".to_owned()
}

const fn float() -> CellType {
    CellType::Float
}

/// What the lines of a program mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// How they are written.
    #[serde(default)]
    pub format: LineFormat,
    /// What is between two cells; none is any white space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// The values. JSON without any: every number and text in the object is a field of the publisher's measurement.
    #[serde(default)]
    pub columns: Vec<SensorColumn>,
    /// Whether all numbers zero at once is a defect of the sensor, and no measurement.
    #[serde(default)]
    pub zeros_are_defect: bool,
}

impl Default for Schema {
    /// The sensor of three values: a load, a random number, a counter.
    fn default() -> Self {
        let column = |number, measurement: &str, kind| SensorColumn {
            at: Place::Column(number),
            measurement: measurement.to_owned(),
            field: value(),
            kind,
            unit: None,
            min: None,
            max: None,
        };
        Self {
            format: LineFormat::Columns,
            delimiter: None,
            columns: vec![
                column(1, "sensor.cpu_load", CellType::Float),
                column(2, "sensor.bounded_random_generator", CellType::Integer),
                column(3, "sensor.generated_metrics_number", CellType::Integer),
            ],
            zeros_are_defect: true,
        }
    }
}

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
    /// Reads what [`to_text`](Self::to_text) writes: JSON.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let schema: Self = serde_json::from_str(text)
            .map_err(|error| format!("{error}; write it like {{\"columns\":[{{\"at\":1,\"measurement\":\"m\"}}]}}"))?;
        schema.check()?;
        Ok(schema)
    }

    /// As JSON, for a command line.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether lines can be read by it.
    ///
    /// # Errors
    /// What would be right.
    pub fn check(&self) -> Result<(), String> {
        if self.columns.len() > COLUMNS_MAX {
            return Err(format!("{} columns: at most {COLUMNS_MAX}", self.columns.len()));
        }
        match self.format {
            LineFormat::Columns if self.columns.is_empty() => {
                return Err("says nothing of its columns: which measurement is column 1?".to_owned());
            }
            LineFormat::LineProtocol if !self.columns.is_empty() => {
                return Err("line protocol names its fields itself: leave the columns out".to_owned());
            }
            _ => {}
        }
        if self.delimiter.is_some_and(|delimiter| !delimiter.is_ascii_graphic()) {
            return Err("the delimiter is one visible ASCII character; without one it is white space".to_owned());
        }
        self.columns.iter().enumerate().try_for_each(|(index, column)| {
            self.check_column(column).map_err(|wrong| format!("{}: {wrong}", column.at))?;
            let twin =
                |other: &SensorColumn| (&other.measurement, &other.field) == (&column.measurement, &column.field);
            match self.columns[..index].iter().find(|other| twin(other)) {
                Some(other) => {
                    Err(format!("{} and {} are the same field of '{}'", other.at, column.at, column.measurement))
                }
                None => Ok(()),
            }
        })
    }

    fn check_column(&self, column: &SensorColumn) -> Result<(), String> {
        let fits = match (&column.at, self.format) {
            (Place::Column(number), LineFormat::Columns) => (1..=COLUMNS_MAX).contains(number),
            (Place::Path(path), LineFormat::Json) => !path.is_empty(),
            _ => false,
        };
        if !fits {
            return Err(match self.format {
                LineFormat::Columns => format!("a column is a number from 1 to {COLUMNS_MAX}"),
                _ => "where in the JSON object is it? Write a path like \"load.one\"".to_owned(),
            });
        }
        let names = [Some(&column.measurement), Some(&column.field), column.unit.as_ref()];
        if names.into_iter().flatten().any(|name| name.trim().is_empty() || name.chars().any(char::is_control)) {
            return Err("a measurement, field or unit is some text without line breaks".to_owned());
        }
        if column.measurement.starts_with("heartwatch_") {
            return Err("measurements that begin with 'heartwatch_' are the monitor's own".to_owned());
        }
        let is_number = matches!(column.kind, CellType::Float | CellType::Integer);
        match (column.min, column.max) {
            (None, None) => Ok(()),
            _ if !is_number => Err(format!("{} has no range", column.kind.name())),
            (min, max) if [min, max].into_iter().flatten().any(|bound| !bound.is_finite()) => {
                Err("the ends of a range are finite".to_owned())
            }
            (Some(min), Some(max)) if min > max => Err(format!("no value is from {min} to {max}")),
            _ => Ok(()),
        }
    }

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
    let found = crate::formats::foreign::every_value(object);
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
#[expect(clippy::cast_precision_loss, reason = "compared with the ends of a range")]
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every sample as measurement, first tag's value and fields.
    fn shown(line: &SensorLine) -> Vec<String> {
        let one = |sample: &Sample| {
            let valid = sample.tags.first().map_or("-", |(_, value)| value.as_str());
            let fields: Vec<_> = sample.fields.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            format!("{} {valid} {}", sample.measurement.as_deref().unwrap_or("-"), fields.join(","))
        };
        line.samples.iter().map(one).collect()
    }

    #[test]
    fn the_sensor_of_three_values_is_the_default() {
        let schema = Schema::default();
        schema.check().unwrap();
        let line = schema.read(b"6.25 5000000 17");
        assert_eq!(
            shown(&line),
            [
                "sensor.cpu_load True value=Float(6.25)",
                "sensor.bounded_random_generator True value=Integer(5000000)",
                "sensor.generated_metrics_number True value=Integer(17)",
            ]
        );
        assert!(line.unreadable.is_empty() && line.defects.is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_an_error_of_its_measurement_and_the_rest_is_kept() {
        let schema = Schema::default();
        let line = schema.read(b"6.25 x7 18");
        assert_eq!(line.samples.len(), 2, "{line:?}");
        let [wrong] = &line.unreadable[..] else { panic!("{line:?}") };
        assert_eq!(wrong.measurement.as_deref(), Some("sensor.bounded_random_generator"));
        assert_eq!(wrong.reason, "column 2 has 'x7' where an integer is expected");
        let cut = schema.read(b"6.25");
        assert_eq!((cut.samples.len(), cut.unreadable.len()), (1, 2));
        assert_eq!(cut.unreadable[1].reason, "column 3 is missing");
        assert_eq!(schema.read(b"NaN 1 2").unreadable.len(), 1);
        assert_eq!(schema.read(b"\xff\xfe").unreadable.len(), 3);
    }

    #[test]
    fn three_zeros_at_once_are_a_defect_and_some_zeros_are_not() {
        let schema = Schema::default();
        let line = schema.read(b"0 0 0");
        assert!(shown(&line).iter().all(|sample| sample.contains(" False ")), "{line:?}");
        assert_eq!(line.defects, ["all 3 values are 0 at once"]);
        let some = schema.read(b"0.0 5000000 0");
        assert!(some.defects.is_empty() && shown(&some).iter().all(|sample| sample.contains(" True ")), "{some:?}");
        // one of them cannot be read: nobody knows whether all are zero
        assert!(schema.read(b"0 0 x").defects.is_empty());
    }

    #[test]
    fn a_value_out_of_its_range_alone_is_not_valid() {
        let text = r#"{"delimiter":";","columns":[
            {"at":1,"measurement":"climate","field":"temperature","unit":"C","min":-40,"max":60},
            {"at":2,"measurement":"climate","field":"humidity","unit":"C","min":0},
            {"at":4,"measurement":"door","type":"boolean"}]}"#;
        let schema = Schema::parse(text).unwrap();
        assert_eq!(Schema::parse(&schema.to_text()), Ok(schema.clone()));
        let good = schema.read(b"21.5; 40; unused; true");
        assert_eq!(
            shown(&good),
            ["climate True temperature=Float(21.5),humidity=Float(40.0)", "door True value=Boolean(true)"]
        );
        assert!(good.samples[0].tags.contains(&("unit".to_owned(), "C".to_owned())));
        let hot = schema.read(b"99;40;;false");
        assert_eq!(
            shown(&hot),
            [
                "climate False temperature=Float(99.0)",
                "climate True humidity=Float(40.0)",
                "door True value=Boolean(false)"
            ]
        );
        assert_eq!(hot.defects, ["climate: 99 is out of its range -40..60"]);
    }

    #[test]
    fn json_and_line_protocol_are_read() {
        let text = r#"{"format":"json","columns":[{"at":"load.one","measurement":"load"},{"at":"n","measurement":"n","type":"integer"}]}"#;
        let schema = Schema::parse(text).unwrap();
        let line = schema.read(br#"{"load":{"one":0.5},"n":"x"}"#);
        assert_eq!(shown(&line), ["load True value=Float(0.5)"]);
        assert_eq!(line.unreadable[0].reason, "n has '\"x\"' where an integer is expected");
        let any = Schema::parse(r#"{"format":"json"}"#).unwrap();
        assert_eq!(shown(&any.read(br#"{"a":{"b":1},"c":"text"}"#)), ["- - a_b=Float(1.0),c=Text(\"text\")"]);
        assert_eq!(
            any.read(b"[1]").unreadable,
            [Unreadable { measurement: None, reason: "is not a JSON object".into() }]
        );
        let rows = Schema::parse(r#"{"format":"line-protocol"}"#).unwrap();
        let line = rows.read(b"weather,room=a lux=5i 1700000000000000000");
        assert_eq!(line.samples[0].tags[0], ("room".to_owned(), "a".to_owned()));
        assert_eq!(line.samples[0].time.unwrap().as_nanos(), 1_700_000_000_000_000_000);
        assert_eq!(rows.read(b"weather").unreadable.len(), 1);
    }

    #[test]
    fn a_schema_that_cannot_be_meant_is_refused_with_what_would_be_right() {
        let wrong = [
            ("{}", "says nothing of its columns"),
            (r#"{"columns":[{"at":0,"measurement":"m"}]}"#, "from 1"),
            (r#"{"columns":[{"at":"a","measurement":"m"}]}"#, "number from 1"),
            (r#"{"format":"json","columns":[{"at":1,"measurement":"m"}]}"#, "path"),
            (r#"{"format":"line-protocol","columns":[{"at":1,"measurement":"m"}]}"#, "leave the columns out"),
            (r#"{"columns":[{"at":1,"measurement":"heartwatch_x"}]}"#, "the monitor's own"),
            (r#"{"columns":[{"at":1,"measurement":"m","min":3,"max":2}]}"#, "no value is from 3 to 2"),
            (r#"{"columns":[{"at":1,"measurement":"m","type":"text","min":3}]}"#, "has no range"),
            (r#"{"columns":[{"at":1,"measurement":"m"},{"at":2,"measurement":"m"}]}"#, "the same field"),
            (r#"{"columns":[{"at":1,"mesurement":"m"}]}"#, "mesurement"),
        ];
        for (text, expected) in wrong {
            let said = Schema::parse(text).unwrap_err();
            assert!(said.contains(expected), "{text}: {said}");
        }
    }

    proptest! {
        /// Any line gives something: each column is a value or an error, none is both.
        #[test]
        fn every_column_is_a_value_or_an_error(line in prop::collection::vec(any::<u8>(), 0..60)) {
            let read = Schema::default().read(&line);
            let values: usize = read.samples.iter().map(|sample| sample.fields.len()).sum();
            prop_assert_eq!(values + read.unreadable.len(), 3);
        }
    }
}
