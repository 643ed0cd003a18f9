//! Rows → CSV by RFC 4180, in one of two shapes.
//!
//! **Wide** (the default): a line per row: `time`, `measurement`, `publisher`, `host`, then every other
//! tag and every field that occurs, a column each; what a row does not have is empty. **Long**: a line
//! per value: `time`, `measurement`, `publisher`, `host`, `tags` (`key=value`, separated by `;`),
//! `field`, `type`, `value`; for programs, and where there are too many columns.
//!
//! A text that a spreadsheet would run as a formula (it starts with `=`, `+`, `-`, `@`, a tab or a
//! carriage return) gets a `'` before it. Numbers never do.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;

use anyhow::{Context as _, bail};

use heartwatch_domain::reading::FieldValue;
use heartwatch_domain::time::Timestamp;
use heartwatch_formats::line_protocol::DecodedRow;

/// Most columns of a wide table: more than that no spreadsheet shows usefully.
const COLUMNS_MAX: usize = 1_000;

const FIXED: [&str; 4] = ["time", "measurement", "publisher", "host"];

/// The columns of a wide table, found in a first pass over the rows.
#[derive(Debug, Default)]
pub(super) struct Columns {
    tags: Found,
    fields: Found,
}

/// Names in the order of their first appearance.
#[derive(Debug, Default)]
struct Found {
    names: Vec<String>,
    numbers: HashMap<String, usize>,
}

impl Found {
    fn note(&mut self, name: &str) {
        if !self.numbers.contains_key(name) {
            self.numbers.insert(name.to_owned(), self.names.len());
            self.names.push(name.to_owned());
        }
    }
}

impl Columns {
    /// Takes note of a row.
    pub(super) fn note(&mut self, row: &DecodedRow) -> anyhow::Result<()> {
        for (key, _) in &row.tags {
            if !is_own_tag(key) {
                self.tags.note(key);
            }
        }
        for (key, _) in &row.fields {
            self.fields.note(key);
        }
        if self.tags.names.len() + self.fields.names.len() > COLUMNS_MAX {
            bail!("more than {COLUMNS_MAX} different tags and fields: choose a --measurement, or use --long");
        }
        Ok(())
    }

    fn header(&self) -> Vec<String> {
        let mut header: Vec<String> = FIXED.map(str::to_owned).to_vec();
        let tags = self.tags.names.iter().map(|name| (name, "tag"));
        for (name, kind) in tags.chain(self.fields.names.iter().map(|name| (name, "field"))) {
            let name = harmless(name);
            let taken = header.iter().any(|taken| *taken == name);
            header.push(if taken { format!("{name} ({kind})") } else { name.into_owned() });
        }
        header
    }
}

/// Writes rows as CSV.
pub(super) struct Table<W: Write> {
    writer: csv::Writer<W>,
    /// None: long.
    columns: Option<Columns>,
    /// Values that had no column: their tag or field came up after the first pass.
    pub(super) left_out: u64,
}

impl<W: Write> Table<W> {
    pub(super) fn wide(out: W, columns: Columns) -> anyhow::Result<Self> {
        let header = columns.header();
        Self::start(out, Some(columns), &header)
    }

    pub(super) fn long(out: W) -> anyhow::Result<Self> {
        let header: Vec<_> = FIXED.iter().chain(&["tags", "field", "type", "value"]).map(ToString::to_string).collect();
        Self::start(out, None, &header)
    }

    fn start(out: W, columns: Option<Columns>, header: &[String]) -> anyhow::Result<Self> {
        // RFC 4180 ends lines with CR LF
        let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(out);
        writer.write_record(header)?;
        Ok(Self { writer, columns, left_out: 0 })
    }

    /// Adds one row.
    pub(super) fn add(&mut self, row: &DecodedRow) -> anyhow::Result<()> {
        let time = row.time.map(rfc3339).unwrap_or_default();
        let tag = |name: &str| row.tags.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value);
        let fixed = [time.into(), harmless(&row.measurement), harmless(tag("publisher")), harmless(tag("host"))];
        let Some(columns) = &self.columns else {
            let tags = row.tags.iter().filter(|(key, _)| !is_own_tag(key));
            let tags: Vec<String> = tags.map(|(key, value)| format!("{key}={value}")).collect();
            let tags = tags.join(";");
            for (key, value) in &row.fields {
                let (kind, value) = typed(value);
                let rest = [harmless(&tags), harmless(key), kind.into(), value];
                self.writer.write_record(fixed.iter().chain(&rest).map(Cow::as_ref))?;
            }
            return Ok(());
        };
        let own = FIXED.len();
        let fields_from = own + columns.tags.names.len();
        let mut cells = vec![Cow::Borrowed(""); fields_from + columns.fields.names.len()];
        for (cell, value) in cells.iter_mut().zip(fixed) {
            *cell = value;
        }
        let tags = row.tags.iter().filter(|(key, _)| !is_own_tag(key));
        let tags = tags.map(|(key, value)| (columns.tags.numbers.get(key).map(|number| own + number), harmless(value)));
        let fields = row
            .fields
            .iter()
            .map(|(key, value)| (columns.fields.numbers.get(key).map(|number| fields_from + number), typed(value).1));
        for (place, value) in tags.chain(fields) {
            match place.and_then(|place| cells.get_mut(place)) {
                Some(cell) => *cell = value,
                None => self.left_out += 1,
            }
        }
        self.writer.write_record(cells.iter().map(Cow::as_ref))?;
        Ok(())
    }

    /// Writes what is held and hands the output back.
    pub(super) fn finish(self) -> anyhow::Result<W> {
        self.writer.into_inner().map_err(|error| error.into_error()).context("the last lines could not be written")
    }
}

fn is_own_tag(key: &str) -> bool {
    key == "publisher" || key == "host"
}

fn typed(value: &FieldValue) -> (&'static str, Cow<'_, str>) {
    match value {
        FieldValue::Float(number) => ("float", number.to_string().into()),
        FieldValue::Integer(number) => ("integer", number.to_string().into()),
        FieldValue::Boolean(value) => ("boolean", if *value { "true" } else { "false" }.into()),
        FieldValue::Text(text) => ("text", harmless(text)),
    }
}

/// A text that no spreadsheet runs.
fn harmless(text: &str) -> Cow<'_, str> {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}").into() } else { text.into() }
}

/// With as many digits of the second as it has: times are distinct by nanoseconds.
fn rfc3339(time: Timestamp) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(time.as_nanos())) {
        Ok(time) => time.to_string(),
        Err(_) => time.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heartwatch_formats::line_protocol::decode;

    const ROWS: [&str; 3] = [
        "light,host=h,publisher=p,room=a\\,b value=3i,note=\"=1+1\" 1700000000000000001",
        "light,host=h,publisher=p value=-4i,ok=true 1700000000123000000",
        "temp,publisher=-q room=1.5,note=\"say \\\"hi\\\"\nthere\" 1700000001000000000",
    ];

    fn rows() -> Vec<DecodedRow> {
        ROWS.iter().map(|row| decode(row.as_bytes()).unwrap()).collect()
    }

    fn written(mut table: Table<Vec<u8>>) -> String {
        for row in rows() {
            table.add(&row).unwrap();
        }
        String::from_utf8(table.finish().unwrap()).unwrap()
    }

    #[test]
    fn a_wide_table_has_a_column_for_every_tag_and_field() {
        let mut columns = Columns::default();
        rows().iter().for_each(|row| columns.note(row).unwrap());
        let expected = "time,measurement,publisher,host,room,value,note,ok,room (field)\r\n\
            2023-11-14T22:13:20.000000001Z,light,p,h,\"a,b\",3,'=1+1,,\r\n\
            2023-11-14T22:13:20.123Z,light,p,h,,-4,,true,\r\n\
            2023-11-14T22:13:21Z,temp,'-q,,,,\"say \"\"hi\"\"\nthere\",,1.5\r\n";
        assert_eq!(written(Table::wide(Vec::new(), columns).unwrap()), expected);
    }

    #[test]
    fn a_long_table_has_a_line_for_every_value() {
        let expected = "time,measurement,publisher,host,tags,field,type,value\r\n\
            2023-11-14T22:13:20.000000001Z,light,p,h,\"room=a,b\",value,integer,3\r\n\
            2023-11-14T22:13:20.000000001Z,light,p,h,\"room=a,b\",note,text,'=1+1\r\n";
        let long = written(Table::long(Vec::new()).unwrap());
        assert!(long.starts_with(expected), "{long}");
        assert_eq!(csv::Reader::from_reader(long.as_bytes()).records().count(), 6);
    }

    #[test]
    fn too_many_columns_are_refused() {
        let mut columns = Columns::default();
        let mut row = rows().remove(0);
        row.fields = (0..COLUMNS_MAX).map(|number| (format!("f{number}"), FieldValue::Integer(1))).collect();
        assert!(columns.note(&row).unwrap_err().to_string().contains("--long"));
    }
}
