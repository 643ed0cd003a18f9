//! The forms of payloads: bytes → rows.

use serde_json::Value;

use super::{Field, Found, Path, Row, TimeAt};
use crate::csv_row::CellType;
use crate::envelope::FIELDS_MAX;
use crate::line_protocol::{Rows, decode, source_tag};
use crate::source_time::TimeFormat;
use heartwatch_domain::reading::FieldValue;
use heartwatch_domain::time::Timestamp;

/// Characters of a value that an error repeats.
const SHOWN_CHARS_MAX: usize = 40;

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The payload as text without what devices put at its end: a NUL, a line end.
pub(super) fn plain<'a>(payload: &'a [u8], found: &mut Found) -> Option<&'a str> {
    match std::str::from_utf8(payload) {
        Ok(text) => Some(text.trim_matches(['\0', '\r', '\n', ' ', '\t'])),
        Err(_) => {
            found.wrong(|| "is not UTF-8 text".to_owned());
            None
        }
    }
}

pub(super) fn number(payload: &[u8]) -> Found {
    let mut found = Found::default();
    let Some(text) = plain(payload, &mut found) else { return found };
    match CellType::Float.read(text) {
        Some(value) => found.rows.push(Row { fields: vec![("value".to_owned(), value)], ..Row::default() }),
        None => found.wrong(|| format!("'{}' is not a finite number", shown(text))),
    }
    found
}

pub(super) fn text(payload: &[u8]) -> Found {
    let mut found = Found::default();
    let Some(text) = plain(payload, &mut found) else { return found };
    if !text.is_empty() {
        let fields = vec![("text".to_owned(), FieldValue::Text(text.to_owned()))];
        found.rows.push(Row { fields, ..Row::default() });
    }
    found
}

/// Rows of line protocol. Their tags `publisher` and `host` are kept as `source_publisher` and `source_host`.
pub(super) fn rows(payload: &[u8]) -> Found {
    let mut found = Found::default();
    for row in Rows::of(payload) {
        match decode(row) {
            Ok(row) => {
                let tags = row.tags.into_iter().map(|(key, value)| (source_tag(&key).to_owned(), value));
                found.rows.push(Row {
                    measurement: Some(row.measurement),
                    tags: tags.collect(),
                    fields: row.fields,
                    time: row.time,
                });
            }
            Err(error) => found.wrong(|| error.to_string()),
        }
    }
    found
}

pub(super) fn csv(payload: &[u8], delimiter: u8, fields: &[Field<usize>], time: Option<&TimeAt<usize>>) -> Found {
    let mut found = Found::default();
    let payload = payload.strip_suffix(b"\0").unwrap_or(payload);
    let records = csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(payload);
    for record in records.into_records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                found.wrong(|| format!("is no CSV: {error}"));
                continue;
            }
        };
        let mut row = Row::default();
        let cell = |index: usize| record.get(index).filter(|cell| !cell.trim().is_empty());
        let place = |index: usize| format!("column {}", index + 1);
        if let Some(time) = time {
            match cell(time.at).map(|cell| (cell, read_time(cell, time.format))) {
                Some((_, Some(read))) => row.time = Some(read),
                Some((cell, None)) => {
                    found.wrong(|| format!("{} has '{}', which is no time", place(time.at), shown(cell)));
                }
                None => found.wrong(|| format!("{}, the time, is missing", place(time.at))),
            }
        }
        if fields.is_empty() {
            let values = || (0..record.len()).filter(|index| time.is_none_or(|time| time.at != *index));
            let alone = values().count() == 1;
            for (number, index) in values().enumerate() {
                let Some(cell) = cell(index) else { continue };
                let name = if alone { "value".to_owned() } else { format!("value_{}", number + 1) };
                match CellType::Float.read(cell) {
                    Some(value) => row.fields.push((name, value)),
                    None => found.wrong(|| format!("{} has '{}', which is no number", place(index), shown(cell))),
                }
            }
        }
        for field in fields {
            let Some(cell) = cell(field.at) else { continue };
            match field.kind.read(cell) {
                Some(value) => row.fields.push((field.name.clone(), value)),
                None => found.wrong(|| wrong_type(&place(field.at), &field.name, cell, field.kind)),
            }
        }
        keep(&mut found, row);
    }
    found
}

fn keep(found: &mut Found, row: Row) {
    if row.fields.is_empty() {
        found.wrong(|| "none of its fields is in it".to_owned());
    } else {
        found.rows.push(row);
    }
}

fn wrong_type(place: &str, name: &str, value: &str, kind: CellType) -> String {
    format!("{place} ({name}) has '{}' where {} is expected", shown(value), kind.name())
}

/// A time in a given form, or in any that cannot be mistaken.
pub(super) fn read_time(text: &str, format: Option<TimeFormat>) -> Option<Timestamp> {
    let read = match format {
        Some(format) => format.read(text)?,
        None => TimeFormat::ALL.iter().find_map(|format| format.recognise(text))?,
    };
    i64::try_from(read.as_nanosecond()).ok().map(Timestamp::from_nanos)
}

pub(super) fn json(payload: &[u8], fields: &[Field<Path>], time: Option<&TimeAt<Path>>) -> Found {
    let mut found = Found::default();
    let payload = payload.strip_suffix(b"\0").unwrap_or(payload);
    let value: Value = match serde_json::from_slice(payload) {
        Ok(value) => value,
        Err(error) => {
            found.wrong(|| format!("is no JSON: {error}"));
            return found;
        }
    };
    match &value {
        Value::Array(items) => {
            for item in items {
                object(&mut found, item, fields, time);
            }
        }
        other => object(&mut found, other, fields, time),
    }
    found
}

fn object(found: &mut Found, value: &Value, fields: &[Field<Path>], time: Option<&TimeAt<Path>>) {
    if !value.is_object() {
        return found.wrong(|| "is not a JSON object like {\"temperature\": 21.5}".to_owned());
    }
    let mut row = Row::default();
    if let Some(time) = time {
        let text = lookup(value, &time.at).and_then(|value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        });
        row.time = text.as_deref().and_then(|text| read_time(text, time.format));
        if row.time.is_none() {
            found.wrong(|| format!("its time, '{}', is missing or is none", time.at));
        }
    }
    for field in fields {
        let Some(value) = lookup(value, &field.at).filter(|value| !value.is_null()) else { continue };
        match typed(value, field.kind) {
            Some(value) => row.fields.push((field.name.clone(), value)),
            None => found.wrong(|| wrong_type(&field.at.to_string(), &field.name, &value.to_string(), field.kind)),
        }
    }
    if fields.is_empty() {
        let mut path = Vec::new();
        if !flatten(value, &mut path, time.map(|time| &time.at), &mut row.fields) {
            found.wrong(|| format!("more than {FIELDS_MAX} values: name the fields that matter"));
        }
    }
    keep(found, row);
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0.join("."))
    }
}

/// What is at a place of a JSON value.
pub(crate) fn lookup<'a>(value: &'a Value, path: &Path) -> Option<&'a Value> {
    path.0.iter().try_fold(value, |value, step| match value {
        Value::Object(object) => object.get(step),
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        _ => None,
    })
}

/// A value as a field of a type. Text with a number in it is a number to who asks for one.
pub(crate) fn typed(value: &Value, kind: CellType) -> Option<FieldValue> {
    match (value, kind) {
        (Value::Bool(yes), CellType::Boolean) => Some(FieldValue::Boolean(*yes)),
        (Value::String(text), _) => kind.read(text),
        (Value::Number(number), CellType::Float | CellType::Integer | CellType::Text) => kind.read(&number.to_string()),
        (Value::Bool(yes), CellType::Text) => Some(FieldValue::Text(yes.to_string())),
        _ => None,
    }
}

/// Every leaf of an object as a field; none: there are too many.
pub(crate) fn every_value(object: &Value) -> Option<Vec<(String, FieldValue)>> {
    let mut fields = Vec::new();
    flatten(object, &mut Vec::new(), None, &mut fields).then_some(fields)
}

/// Every leaf with its path. False: there are too many.
fn flatten(value: &Value, path: &mut Vec<String>, but: Option<&Path>, fields: &mut Vec<(String, FieldValue)>) -> bool {
    let leaf = match value {
        Value::Object(object) => {
            return object.iter().all(|(key, value)| within(key.clone(), value, path, but, fields));
        }
        Value::Array(items) => {
            return items.iter().enumerate().all(|(at, value)| within(at.to_string(), value, path, but, fields));
        }
        Value::Null => return true,
        Value::Bool(yes) => FieldValue::Boolean(*yes),
        Value::Number(number) => match number.as_f64().filter(|number| number.is_finite()) {
            Some(number) => FieldValue::Float(number),
            None => return true,
        },
        Value::String(text) => FieldValue::Text(text.clone()),
    };
    if but.is_some_and(|but| but.0 == *path) {
        return true;
    }
    if fields.len() >= FIELDS_MAX {
        return false;
    }
    fields.push((path.join("_"), leaf));
    true
}

fn within(
    step: String,
    value: &Value,
    path: &mut Vec<String>,
    but: Option<&Path>,
    fields: &mut Vec<(String, FieldValue)>,
) -> bool {
    path.push(step);
    let fits = flatten(value, path, but, fields);
    path.pop();
    fits
}
