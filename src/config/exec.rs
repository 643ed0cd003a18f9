//! The keys of a `[[publisher]]` that runs a program and reads what it prints.

use super::document::Given;
use super::foreign::TYPES;
use super::kinds::{FeedKeys, RESTART, Settled as _, boolean, name, origin};
use super::reader::{Reader, Scope};
use crate::sources::exec::{ExecOptions, program_at, split_words};
use heartwatch_domain::restart::RestartPolicy;
use heartwatch_formats::csv_row::CellType;
use heartwatch_formats::sensor_line::{COLUMNS_MAX, LineFormat, Place, Schema, SensorColumn};
use heartwatch_formats::values;

const FORMATS: [(&str, LineFormat); 3] =
    [("columns", LineFormat::Columns), ("json", LineFormat::Json), ("line-protocol", LineFormat::LineProtocol)];

/// What to run, when the table says so, and every key that only such a publisher has.
pub(super) fn exec<'a>(reader: &mut Reader<'a>, table: &Scope<'a>) -> (Option<ExecOptions>, FeedKeys) {
    let words = words(reader, table);
    let env = reader.read(table, "env", None, name);
    let repeats_max = reader.read(table, "repeats_max", None, |given| given.number(0, u64::MAX));
    let policy = reader.read(table, "exec_restart", None, |given| given.choice(&RESTART));
    let udp = reader.read(table, "udp", None, |given| given.text("127.0.0.1:8089", values::host_and_port));
    let format = reader.read(table, "format", None, |given| given.choice(&FORMATS));
    let delimiter = reader.read(table, "delimiter", None, |given| given.text(";", values::delimiter));
    // that of a CSV file is not about lines of a program
    let delimiter = delimiter.filter(|_| !reader.has(table, "csv"));
    let zeros = reader.read(table, "zeros_are_defect", None, boolean);
    let columns: Vec<_> = reader.tables(table, "column").iter().map(|scope| column(reader, scope)).collect();
    let first_column = columns.first().map(|(_, line)| super::reader::Origin::Line(*line));
    let keys = vec![
        ("env", origin(&env)),
        ("repeats_max", origin(&repeats_max)),
        ("exec_restart", origin(&policy)),
        ("udp", origin(&udp)),
        ("format", origin(&format)),
        ("zeros_are_defect", origin(&zeros)),
        ("column", first_column),
    ];
    let has_own_schema = format.is_some() || delimiter.is_some() || !columns.is_empty();
    let all_read = columns.iter().all(|(column, _)| column.is_some());
    let mut schema = Schema::default();
    if has_own_schema {
        schema = Schema {
            format: format.or_default(LineFormat::default()),
            delimiter: delimiter.value(),
            columns: columns.into_iter().filter_map(|(column, _)| column).collect(),
            zeros_are_defect: false,
        };
    }
    if let Some(zeros) = zeros.value() {
        schema.zeros_are_defect = zeros;
    }
    if has_own_schema
        && all_read
        && let Err(wrong) = schema.check()
    {
        let at = if reader.has(table, "format") { "format" } else { "column" };
        reader.mistake_at(table, at, wrong);
    }
    let options = words.map(|words| ExecOptions {
        schema,
        env: env.value(),
        repeats_max: repeats_max.value(),
        policy: policy.or_default(RestartPolicy::Always),
        udp: udp.value(),
        ..ExecOptions::new(words)
    });
    (options, keys)
}

/// The program and its arguments: a text that is taken apart at spaces, or a list.
fn words<'a>(reader: &mut Reader<'a>, table: &Scope<'a>) -> Option<Vec<String>> {
    let mut words = if reader.is_list(table, "exec") {
        let argument = |given: Given<'_>| given.text("--seed", |text| Ok(text.to_owned()));
        let words = reader.list(table, "exec", argument)?;
        if words.first().is_none_or(String::is_empty) {
            reader.mistake_at(table, "exec", "names no program: write one, like [\"./sensor\", \"--seed\", \"7\"]");
            return None;
        }
        words
    } else {
        reader.read(table, "exec", None, |given| given.text("./sensor --seed 7", split_words))?.value
    };
    let directory = reader.file().relative("");
    if let Some(path) = words.first().and_then(|program| program_at(&directory, program)) {
        let shown = path.display();
        let wrong = match std::fs::metadata(&path) {
            Err(error) => Some(format!("cannot run {shown}: {error}")),
            Ok(metadata) if !metadata.is_file() => Some(format!("{shown} is no program")),
            Ok(metadata) if std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o111 == 0 => {
                Some(format!("{shown} may not be run: chmod +x {shown}"))
            }
            Ok(_) => None,
        };
        if let Some(wrong) = wrong {
            reader.mistake_at(table, "exec", wrong);
        }
        if let (Some(first), Some(path)) = (words.first_mut(), path.to_str()) {
            path.clone_into(first);
        }
    }
    Some(words)
}

/// One `[[publisher.column]]`, and the line of its header.
fn column<'a>(reader: &mut Reader<'a>, table: &Scope<'a>) -> (Option<SensorColumn>, usize) {
    let at = reader.read(table, "at", None, |given| match given {
        Given::Integer(_) => given
            .number(1, COLUMNS_MAX as u64)
            .map(|number| Place::Column(usize::try_from(number).unwrap_or(usize::MAX))),
        _ => given.text("load.one", |text| values::name(text).map(Place::Path)),
    });
    if !reader.has(table, "at") {
        reader.missing(table, "at", "is missing: which column is it, counted from 1? Or where in the JSON object?");
    }
    let measurement =
        reader.read(table, "measurement", None, |given| given.text("sensor.cpu_load", values::measurement));
    if !reader.has(table, "measurement") {
        reader.missing(table, "measurement", "is missing: what does the column measure?");
    }
    let field = reader.read(table, "field", None, name);
    let kind = reader.read(table, "type", None, |given| given.choice(&TYPES));
    let unit = reader.read(table, "unit", None, name);
    let [min, max] = ["min", "max"].map(|key| reader.read(table, key, None, any_number));
    let column = at.zip(measurement).map(|(at, measurement)| SensorColumn {
        at: at.value,
        measurement: measurement.value,
        field: field.or_default("value".to_owned()),
        kind: kind.or_default(CellType::Float),
        unit: unit.value(),
        min: min.value(),
        max: max.value(),
    });
    (column, table.line)
}

/// A number, whole or not. From 2^53 on a whole one is only near: near enough for the end of a range.
fn any_number(given: Given<'_>) -> Result<f64, String> {
    match given {
        Given::Integer(number) => Ok(number as f64),
        Given::Fraction(number) if number.is_finite() => Ok(number),
        Given::Text(text) | Given::Plain(text) => Err(format!("'{text}' is text: write a number, without quotes")),
        _ => Err("is not a number: write one, like -40 or 60.5".to_owned()),
    }
}
