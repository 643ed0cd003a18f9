//! A row of the journal as rules look at it.

use heartwatch_domain::reading::FieldValue;
use heartwatch_formats::line_protocol::DecodedRow;

/// The measurement as it is written in a row: up to the first comma or space without a backslash before it.
pub(super) fn written_measurement(line: &[u8]) -> &[u8] {
    let mut escaped = false;
    let end = line.iter().position(|byte| {
        let is_end = !escaped && matches!(byte, b',' | b' ');
        escaped = *byte == b'\\' && !escaped;
        is_end
    });
    line.get(..end.unwrap_or(line.len())).unwrap_or_default()
}

/// The value of a tag; empty where it has none.
pub(super) fn tag_of<'a>(row: &'a DecodedRow, name: &str) -> &'a str {
    row.tags.iter().find(|(tag, _)| tag == name).map_or("", |(_, value)| value)
}

/// A field as a number; true is 1. Text is none.
pub(super) fn value_of(row: &DecodedRow, field: &str) -> Option<f64> {
    match row.fields.iter().find(|(name, _)| name == field)?.1 {
        FieldValue::Float(value) => Some(value),
        FieldValue::Integer(value) => Some(value as f64),
        FieldValue::Boolean(value) => Some(f64::from(u8::from(value))),
        FieldValue::Text(_) => None,
    }
}
