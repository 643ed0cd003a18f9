//! Rows → readings: the rules of InfluxDB 1.x, for rows of our own and of foreign publishers.

use std::borrow::Cow;

use heartwatch_domain::reading::FieldValue;
use heartwatch_domain::time::Timestamp;

/// One row, taken apart.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedRow {
    /// What stands before the first comma or space, unescaped.
    pub measurement: String,
    /// Its tags in the order of the row.
    pub tags: Vec<(String, String)>,
    /// Its fields in the order of the row; at least one.
    pub fields: Vec<(String, FieldValue)>,
    /// Its time, read as nanoseconds; none when the row leaves it to the server.
    pub time: Option<Timestamp>,
}

/// The same with names that stand in the row itself, unless something in them is escaped.
#[derive(Debug, Clone, PartialEq)]
pub struct BorrowedRow<'a> {
    /// What stands before the first comma or space, unescaped.
    pub measurement: Cow<'a, str>,
    /// Its tags in the order of the row.
    pub tags: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Its fields in the order of the row; at least one.
    pub fields: Vec<(Cow<'a, str>, FieldValue)>,
    /// Its time, read as nanoseconds; none when the row leaves it to the server.
    pub time: Option<Timestamp>,
}

impl BorrowedRow<'_> {
    fn into_owned(self) -> DecodedRow {
        DecodedRow {
            measurement: self.measurement.into_owned(),
            tags: self.tags.into_iter().map(|(key, value)| (key.into_owned(), value.into_owned())).collect(),
            fields: self.fields.into_iter().map(|(key, value)| (key.into_owned(), value)).collect(),
            time: self.time,
        }
    }
}

/// Why a row cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("byte {at} of the row: {what}")]
pub struct DecodeError {
    /// Where, counted from 1.
    pub at: usize,
    /// What is wrong and what would be right.
    pub what: &'static str,
}

/// Reads one row. A line end at its end is allowed; anything after it is not.
///
/// # Errors
/// [`DecodeError`] with the place.
pub fn decode(line: &[u8]) -> Result<DecodedRow, DecodeError> {
    decode_borrowed(line).map(BorrowedRow::into_owned)
}

/// The same, where the row outlives what is read of it.
///
/// # Errors
/// [`DecodeError`] with the place.
pub fn decode_borrowed(line: &[u8]) -> Result<BorrowedRow<'_>, DecodeError> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut scan = Scan { line, at: 0 };
    scan.spaces();
    if scan.peek() == Some(b'#') {
        return Err(scan.error("this is a comment"));
    }
    let measurement = scan.name(|byte| matches!(byte, b',' | b' '), b", ", "the measurement is empty")?;
    let mut tags = Vec::new();
    while scan.take(b',') {
        let key = scan.name(ends_name, b",= ", "a tag has no name")?;
        if !scan.take(b'=') {
            return Err(scan.error("a tag needs '=' and a value"));
        }
        let value = scan.name(ends_name, b",= ", "a tag has no value")?;
        if scan.peek() == Some(b'=') {
            return Err(scan.error("'=' in a tag value is written '\\='"));
        }
        tags.push((key, value));
    }
    if !scan.take(b' ') {
        return Err(scan.error("a row needs a space and at least one field"));
    }
    scan.spaces();
    let mut fields = Vec::new();
    loop {
        let key = scan.name(ends_name, b",= ", "a field has no name")?;
        if !scan.take(b'=') {
            return Err(scan.error("a field needs '=' and a value"));
        }
        fields.push((key, scan.value()?));
        if !scan.take(b',') {
            break;
        }
    }
    let time = scan.time()?;
    Ok(BorrowedRow { measurement, tags, fields, time })
}

/// What ends the name of a tag or a field, and the value of a tag.
const fn ends_name(byte: u8) -> bool {
    matches!(byte, b'=' | b',' | b' ')
}

struct Scan<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn spaces(&mut self) {
        while self.take(b' ') {}
    }

    fn error(&self, what: &'static str) -> DecodeError {
        DecodeError { at: self.at + 1, what }
    }

    /// Reads up to a byte that `ends` it and has no backslash before it; `escapable` lose their backslash.
    fn name(
        &mut self,
        ends: impl Fn(u8) -> bool,
        escapable: &[u8],
        empty: &'static str,
    ) -> Result<Cow<'a, str>, DecodeError> {
        let begin = self.at;
        // what was read with an escape in it, up to `copied`
        let mut unescaped: Option<Vec<u8>> = None;
        let mut copied = begin;
        while let Some(byte) = self.peek() {
            if byte == b'\\' && self.line.get(self.at + 1).is_some_and(|next| escapable.contains(next)) {
                let before = self.line.get(copied..self.at).unwrap_or_default();
                unescaped.get_or_insert_default().extend_from_slice(before);
                copied = self.at + 1;
                self.at += 2;
                continue;
            }
            if ends(byte) {
                break;
            }
            if byte == b'\n' {
                return Err(self.error("a line break outside a quoted text"));
            }
            self.at += 1;
        }
        if self.at == begin {
            return Err(self.error(empty));
        }
        let rest = self.line.get(copied..self.at).unwrap_or_default();
        let wrong = DecodeError { at: begin + 1, what: "this is not UTF-8" };
        match unescaped {
            None => std::str::from_utf8(rest).map(Cow::Borrowed).map_err(|_| wrong),
            Some(mut bytes) => {
                bytes.extend_from_slice(rest);
                String::from_utf8(bytes).map(Cow::Owned).map_err(|_| wrong)
            }
        }
    }

    fn value(&mut self) -> Result<FieldValue, DecodeError> {
        if self.take(b'"') {
            return self.text().map(FieldValue::Text);
        }
        let begin = self.at;
        while self.peek().is_some_and(|byte| !matches!(byte, b',' | b' ')) {
            self.at += 1;
        }
        let wrong = |what| DecodeError { at: begin + 1, what };
        let bytes = self.line.get(begin..self.at).unwrap_or_default();
        let word = std::str::from_utf8(bytes).map_err(|_| wrong("this is not UTF-8"))?;
        match word {
            "" => Err(wrong("a field has no value")),
            "t" | "T" | "true" | "True" | "TRUE" => Ok(FieldValue::Boolean(true)),
            "f" | "F" | "false" | "False" | "FALSE" => Ok(FieldValue::Boolean(false)),
            _ if word.ends_with(['i', 'u']) => word
                .get(..word.len() - 1)
                .and_then(|digits| digits.parse().ok())
                .map(FieldValue::Integer)
                .ok_or_else(|| wrong("this is not a 64-bit integer")),
            // Rust would also read "inf", "infinity" and "nan"
            _ if word.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)) => word
                .parse()
                .ok()
                .filter(|number: &f64| number.is_finite())
                .map(FieldValue::Float)
                .ok_or_else(|| wrong("this is not a finite number")),
            _ => Err(wrong("a value is a number, true, false, or a text in double quotes")),
        }
    }

    fn text(&mut self) -> Result<String, DecodeError> {
        let begin = self.at;
        let mut bytes = Vec::new();
        loop {
            match self.peek() {
                None => return Err(DecodeError { at: begin, what: "this text has no closing quote" }),
                Some(b'"') => break,
                Some(b'\\') => {
                    let next = self.line.get(self.at + 1).filter(|next| matches!(next, b'"' | b'\\'));
                    bytes.push(*next.unwrap_or(&b'\\'));
                    self.at += 1 + usize::from(next.is_some());
                }
                Some(byte) => {
                    bytes.push(byte);
                    self.at += 1;
                }
            }
        }
        self.at += 1;
        String::from_utf8(bytes).map_err(|_| DecodeError { at: begin + 1, what: "this is not UTF-8" })
    }

    fn time(&mut self) -> Result<Option<Timestamp>, DecodeError> {
        if self.peek().is_some_and(|byte| byte != b' ') {
            return Err(self.error("after a field comes ',' or a space"));
        }
        self.spaces();
        let rest = self.line.get(self.at..).unwrap_or_default().trim_ascii_end();
        if rest.is_empty() {
            return Ok(None);
        }
        let nanos = std::str::from_utf8(rest).ok().and_then(|text| text.parse().ok());
        nanos
            .map(|nanos| Some(Timestamp::from_nanos(nanos)))
            .ok_or_else(|| self.error("the time is a whole number of nanoseconds"))
    }
}

/// The rows of a batch, each without its line end. A line break inside a quoted text does not end a
/// row; blank lines are left out. Works on any bytes: what isn't line protocol still comes out whole.
#[derive(Debug, Clone)]
pub struct Rows<'a> {
    rest: &'a [u8],
}

impl<'a> Rows<'a> {
    /// Takes a batch apart.
    #[must_use]
    pub const fn of(batch: &'a [u8]) -> Self {
        Self { rest: batch }
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let end = row_end(self.rest);
            let (row, rest) = self.rest.split_at(end);
            self.rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            let row = row.strip_suffix(b"\r").unwrap_or(row);
            if !row.trim_ascii().is_empty() {
                return Some(row);
            }
        }
        None
    }
}

/// Where the first row of the bytes ends: at a line break that is not inside a quoted text. A quote
/// opens a text only right after the `=` of a field.
fn row_end(bytes: &[u8]) -> usize {
    let line_end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    // nearly always: no text could have been opened before it
    if !bytes.get(..line_end).unwrap_or_default().contains(&b'"') {
        return line_end;
    }
    let mut in_fields = false;
    let mut quoted = false;
    let mut before = None;
    let mut skip = false;
    for (at, &byte) in bytes.iter().enumerate() {
        let escaped = std::mem::take(&mut skip);
        if byte == b'\\' && !escaped {
            // in a text every escape has two characters; in names only a special one is an escape
            skip = quoted || bytes.get(at + 1).is_some_and(|next| b",= ".contains(next));
        } else if !escaped {
            match byte {
                b'\n' if !quoted => return at,
                b'"' if quoted => quoted = false,
                b'"' if in_fields && before == Some(b'=') => quoted = true,
                b' ' if !quoted && before.is_some() => in_fields = true,
                _ => {}
            }
        }
        // an escaped '=' does not open a value
        before = Some(if escaped { b'\\' } else { byte });
    }
    bytes.len()
}
