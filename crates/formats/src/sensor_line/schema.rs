//! What the lines of a sensor's program mean: which value is where, and what it may be.

use serde::{Deserialize, Serialize};

use crate::csv_row::CellType;

/// Most columns of a schema.
pub const COLUMNS_MAX: usize = 256;

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
    #[serde(default = "value")]
    /// The name of its value in the reading.
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
}
