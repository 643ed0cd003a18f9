//! One CSV row → fields, and what type a column has.
//!
//! InfluxDB refuses a field whose type changes, so a column has one type over the whole file. More
//! than half of a column's cells decide it: one `n/a` among numbers is a bad cell, and does not make
//! text of the column. Integers with a decimal anywhere among them become floats. Where no type
//! reads more than half of the cells, the column is text, which reads everything.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::source_time::{SOURCE_TIME, TimeFormat};
use heartwatch_domain::reading::FieldValue;

/// The type of a column's cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CellType {
    /// Whole numbers of 64 bits.
    Integer,
    /// Numbers; never NaN or infinite.
    Float,
    /// `true` or `false` in any case.
    Boolean,
    /// Anything.
    Text,
}

impl CellType {
    /// Reads a cell that is not empty; none when it is not of this type.
    #[must_use]
    pub fn read(self, cell: &str) -> Option<FieldValue> {
        let trimmed = cell.trim();
        match self {
            Self::Integer => trimmed.parse().ok().map(FieldValue::Integer),
            Self::Float => read_float(trimmed).map(FieldValue::Float),
            Self::Boolean if trimmed.eq_ignore_ascii_case("true") => Some(FieldValue::Boolean(true)),
            Self::Boolean if trimmed.eq_ignore_ascii_case("false") => Some(FieldValue::Boolean(false)),
            Self::Boolean => None,
            Self::Text => Some(FieldValue::Text(cell.to_owned())),
        }
    }

    /// It in words, with its article.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Integer => "an integer",
            Self::Float => "a number",
            Self::Boolean => "true or false",
            Self::Text => "text",
        }
    }
}

/// What stands between the whole and the rest of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Decimal {
    /// `21.5`, with `,` between thousands: `1,234.5`.
    #[default]
    Point,
    /// `21,5`, with `.` between thousands: `1.234,5`.
    Comma,
}

impl Decimal {
    /// Its name in flags and keys.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Point => "point",
            Self::Comma => "comma",
        }
    }

    /// A cell with its number written as Rust reads it; any other cell as it is.
    #[must_use]
    pub fn plain(self, cell: &str) -> Cow<'_, str> {
        let (decimal, thousands) = match self {
            Self::Point => ('.', ','),
            Self::Comma => (',', '.'),
        };
        let trimmed = cell.trim();
        // most numbers are plain already
        if !trimmed.contains(thousands) && (self == Self::Point || !trimmed.contains(decimal)) {
            return Cow::Borrowed(cell);
        }
        let digits = trimmed.strip_prefix(['-', '+']).unwrap_or(trimmed);
        let sign = &trimmed[..trimmed.len() - digits.len()];
        let (whole, rest) = digits.split_once(decimal).map_or((digits, None), |(whole, rest)| (whole, Some(rest)));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let mut groups = whole.split(thousands);
        let first = groups.next().unwrap_or_default();
        let grouped = whole.contains(thousands);
        let whole_is_right = is_number(first)
            && (!grouped || first.len() <= 3)
            && groups.all(|group| group.len() == 3 && is_number(group));
        if !whole_is_right || !rest.is_none_or(is_number) {
            return Cow::Borrowed(cell);
        }
        let whole = whole.replace(thousands, "");
        Cow::Owned(rest.map_or_else(|| format!("{sign}{whole}"), |rest| format!("{sign}{whole}.{rest}")))
    }
}

/// What the commas in the numbers of a file say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CommaTally {
    /// Like `21,5`: nothing but a decimal comma.
    decimals: u64,
    /// Like `1,234.5` or `1,234,567`: nothing but thousands.
    thousands: u64,
    /// Like `1,234`: either.
    either: u64,
}

impl CommaTally {
    /// Looks at one cell.
    pub fn count(&mut self, cell: &str) {
        if !cell.contains(',') {
            return;
        }
        let reads = |decimal: Decimal| decimal.plain(cell).parse::<f64>().is_ok();
        match (reads(Decimal::Comma), reads(Decimal::Point)) {
            (true, false) => self.decimals += 1,
            (false, true) => self.thousands += 1,
            (true, true) => self.either += 1,
            (false, false) => {}
        }
    }

    /// What the decimal sign is; none where it cannot be told.
    #[must_use]
    pub const fn decimal(self) -> Option<Decimal> {
        match (self.decimals, self.thousands, self.either) {
            (0, 0, 0) | (0, 1.., _) => Some(Decimal::Point),
            (1.., 0, _) => Some(Decimal::Comma),
            _ => None,
        }
    }
}

/// Marks that stand for a value that is missing, in lower case, as data loggers, R, pandas and weather services write them.
const MISSING: [&str; 9] = ["na", "n/a", "#n/a", "nan", "null", "none", "-", "--", "mm"];

/// Whether a cell says that there is no value.
#[must_use]
pub fn is_missing(cell: &str) -> bool {
    let trimmed = cell.trim();
    trimmed.is_empty() || MISSING.iter().any(|mark| trimmed.eq_ignore_ascii_case(mark))
}

fn read_float(trimmed: &str) -> Option<f64> {
    trimmed.parse().ok().filter(|number: &f64| number.is_finite())
}

/// Whether a cell reads as a number, a boolean or a time: what a header's cells do not.
#[must_use]
pub fn is_typed(cell: &str) -> bool {
    CellType::Float.read(cell).is_some()
        || CellType::Boolean.read(cell).is_some()
        || TimeFormat::ALL.iter().any(|format| !format.is_number() && format.recognise(cell).is_some())
}

/// What the cells of one column read as, counted; a few words of memory however long the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnTally {
    integers: u64,
    decimals: u64,
    booleans: u64,
    texts: u64,
    /// Cells that read as a time, for each of [`TimeFormat::ALL`].
    times: [u64; TimeFormat::ALL.len()],
}

impl ColumnTally {
    /// Counts one cell; one without a value says nothing.
    pub fn count(&mut self, cell: &str) {
        if is_missing(cell) {
            return;
        }
        let mut number = true;
        if CellType::Integer.read(cell).is_some() {
            self.integers += 1;
        } else if CellType::Float.read(cell).is_some() {
            self.decimals += 1;
        } else {
            number = false;
            if CellType::Boolean.read(cell).is_some() {
                self.booleans += 1;
            } else {
                self.texts += 1;
            }
        }
        for (format, count) in TimeFormat::ALL.iter().zip(&mut self.times) {
            if format.is_number() == number && format.recognise(cell).is_some() {
                *count += 1;
            }
        }
    }

    const fn cells(&self) -> u64 {
        self.integers + self.decimals + self.booleans + self.texts
    }

    /// The column's type.
    #[must_use]
    pub fn cell_type(&self) -> CellType {
        let most = |count: u64| count * 2 > self.cells();
        if most(self.integers + self.decimals) {
            if self.decimals == 0 { CellType::Integer } else { CellType::Float }
        } else if most(self.booleans) {
            CellType::Boolean
        } else {
            CellType::Text
        }
    }

    /// The form of time that reads more than half of the cells, the one that reads most of them.
    ///
    /// Month first and day first look alike: it is month first unless day first reads more of them.
    /// Bare numbers count only with `numbers`, because they could as well be values.
    #[must_use]
    pub fn time_format(&self, numbers: bool) -> Option<TimeFormat> {
        let mut best = None;
        let mut best_count = self.cells() / 2;
        for (format, count) in TimeFormat::ALL.into_iter().zip(self.times) {
            if count > best_count && (numbers || !format.is_number()) {
                (best, best_count) = (Some(format), count);
            }
        }
        best
    }

    /// Whether this form of time reads more than half of the cells.
    #[must_use]
    pub fn reads_as(&self, format: TimeFormat) -> bool {
        TimeFormat::ALL.into_iter().zip(self.times).any(|(other, count)| other == format && count * 2 > self.cells())
    }
}

/// What a column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnRole {
    /// It becomes a field of this type.
    Value(CellType),
    /// It becomes the field `source_time`.
    Time(TimeFormat),
}

/// One column of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The field's name.
    pub name: String,
    /// What it is for.
    pub role: ColumnRole,
}

/// How the rows of one file are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowShape {
    /// How its numbers are written.
    pub decimal: Decimal,
    /// Its columns, in their order.
    pub columns: Vec<Column>,
}

/// The fields of a row, and what is wrong with single cells of it.
pub type ReadRow = (Vec<(String, FieldValue)>, Vec<RowError>);

/// Why a row can't be used. The text does not say where: its reader knows the file and the line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// It has more or fewer cells than the file has columns.
    #[error("{cells} cells where the file has {columns} columns")]
    ColumnCount {
        /// Cells in the row.
        cells: usize,
        /// Columns of the file.
        columns: usize,
    },
    /// A cell is not of its column's type.
    #[error("column '{column}' has '{}' where {expected} is expected", shown(cell))]
    Cell {
        /// The column's name.
        column: String,
        /// The cell; the text shows its beginning.
        cell: String,
        /// What would be right.
        expected: String,
    },
    /// A cell is not UTF-8.
    #[error("column '{column}' is not valid UTF-8")]
    Utf8 {
        /// The column's name.
        column: String,
    },
    /// Every value is empty.
    #[error("no value in the row")]
    NoValue,
}

/// Most characters of a bad cell that an error repeats.
const CELL_SHOWN_CHARS_MAX: usize = 40;

fn shown(cell: &str) -> String {
    let mut characters = cell.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut beginning: String = characters.by_ref().take(CELL_SHOWN_CHARS_MAX).collect();
    if characters.next().is_some() {
        beginning.push('…');
    }
    beginning
}

impl RowError {
    /// Whether a stray quote may have taken the lines behind it into the row: then they are worth another look.
    #[must_use]
    pub fn may_have_swallowed_lines(&self) -> bool {
        match self {
            Self::ColumnCount { .. } => true,
            Self::Cell { cell, .. } => cell.contains('\n'),
            Self::Utf8 { .. } | Self::NoValue => false,
        }
    }
}

impl RowShape {
    /// Reads one row: its fields, and what is wrong with single cells of it, which cost no more than themselves. A cell
    /// without a value gives no field; the time comes last, as [`SOURCE_TIME`].
    ///
    /// # Errors
    /// [`RowError`] when the row is not of this shape, or nothing is left of it.
    pub fn read<'a>(&self, cells: impl ExactSizeIterator<Item = &'a [u8]>) -> Result<ReadRow, RowError> {
        if cells.len() != self.columns.len() {
            return Err(RowError::ColumnCount { cells: cells.len(), columns: self.columns.len() });
        }
        let mut fields = Vec::with_capacity(self.columns.len());
        let (mut time, mut wrong) = (None, Vec::new());
        for (column, cell) in self.columns.iter().zip(cells) {
            let name = &column.name;
            let Ok(cell) = std::str::from_utf8(cell) else {
                wrong.push(RowError::Utf8 { column: name.clone() });
                continue;
            };
            let expected = match column.role {
                // what stands in a column of texts is a text
                ColumnRole::Value(CellType::Text) if cell.trim().is_empty() => continue,
                ColumnRole::Value(kind) if kind != CellType::Text && is_missing(cell) => continue,
                ColumnRole::Time(_) if is_missing(cell) => continue,
                ColumnRole::Value(kind) => match kind.read(&self.written(kind, cell)) {
                    Some(value) => {
                        fields.push((name.clone(), value));
                        continue;
                    }
                    None => kind.name().to_owned(),
                },
                ColumnRole::Time(format) => match format.read(cell) {
                    Some(read) => {
                        time = Some((SOURCE_TIME.to_owned(), FieldValue::Text(read.to_string())));
                        continue;
                    }
                    None => format!("a time like {}", format.example()),
                },
            };
            let error = RowError::Cell { column: name.clone(), cell: cell.to_owned(), expected };
            // a stray quote: what was taken into the cell is worth another look
            if error.may_have_swallowed_lines() {
                return Err(error);
            }
            wrong.push(error);
        }
        if fields.is_empty() {
            return Err(wrong.into_iter().next().unwrap_or(RowError::NoValue));
        }
        fields.extend(time);
        Ok((fields, wrong))
    }

    /// A cell as its type reads it.
    fn written<'a>(&self, kind: CellType, cell: &'a str) -> Cow<'a, str> {
        match kind {
            CellType::Integer | CellType::Float => self.decimal.plain(cell),
            CellType::Boolean | CellType::Text => Cow::Borrowed(cell),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(cells: &[&str]) -> ColumnTally {
        let mut tally = ColumnTally::default();
        for cell in cells {
            tally.count(cell);
        }
        tally
    }

    #[test]
    fn a_column_has_one_type() {
        for (cells, expected) in [
            (&["1", "-2", " 3 ", ""][..], CellType::Integer),
            (&["1", "2.5", "3"], CellType::Float),
            (&["1", "18446744073709551616"], CellType::Float),
            (&["true", "FALSE", ""], CellType::Boolean),
            (&["1", "n/a", "3"], CellType::Integer),
            (&["1", "n/a", "MM", "-", "NULL", "nan"], CellType::Integer),
            (&["1", "absent"], CellType::Text),
            (&["a1", "12", "b7"], CellType::Text),
            (&["NaN", "inf", "1"], CellType::Text),
            (&["1", "true", "x"], CellType::Text),
            (&["", ""], CellType::Text),
        ] {
            assert_eq!(tally(cells).cell_type(), expected, "{cells:?}");
        }
    }

    #[test]
    fn a_time_column_is_recognised() {
        let light = tally(&["2/10/2018 9:50", "2/10/2018 9:55", "2/11/2018 0:00"]);
        assert_eq!(light.time_format(false), Some(TimeFormat::MonthFirst));
        assert!(light.reads_as(TimeFormat::DayFirst), "configuration can still choose the other one");
        let european = tally(&["2/1/2018 9:50", "25/1/2018 9:55"]);
        assert_eq!(european.time_format(false), Some(TimeFormat::DayFirst));
        let offsets = tally(&["2018-02-10T09:50:00+01:00"]);
        assert_eq!(offsets.time_format(false), Some(TimeFormat::Rfc3339));
        let unix = tally(&["1518256200", "1518256205"]);
        assert_eq!((unix.time_format(false), unix.time_format(true)), (None, Some(TimeFormat::UnixS)));
        let nanos = tally(&["1518256200000000000"]);
        assert_eq!(nanos.time_format(true), Some(TimeFormat::UnixNs));
        assert_eq!(tally(&["2/10/2018 9:50", "later", "later"]).time_format(true), None);
        assert_eq!(tally(&[]).time_format(true), None);
    }

    #[test]
    fn a_row_is_read_or_its_fault_is_named() {
        let value = |name: &str, kind| Column { name: name.into(), role: ColumnRole::Value(kind) };
        let shape = RowShape {
            decimal: Decimal::Point,
            columns: vec![
                Column { name: "when".into(), role: ColumnRole::Time(TimeFormat::MonthFirst) },
                value("count", CellType::Integer),
                value("note", CellType::Text),
            ],
        };
        let read = |cells: &[&str]| shape.read(cells.iter().map(|cell| cell.as_bytes()));
        assert_eq!(
            read(&["2/10/2018 9:50", "7", " a b"]).unwrap().0,
            [
                ("count".to_owned(), FieldValue::Integer(7)),
                ("note".to_owned(), FieldValue::Text(" a b".into())),
                (SOURCE_TIME.to_owned(), FieldValue::Text("2018-02-10T09:50:00Z".into())),
            ]
        );
        assert_eq!(read(&["", "7", ""]).unwrap().0, [("count".to_owned(), FieldValue::Integer(7))]);
        // a wrong cell costs itself
        let (fields, wrong) = read(&["yesterday", "x", "note"]).unwrap();
        assert_eq!(fields, [("note".to_owned(), FieldValue::Text("note".into()))]);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        for (cells, text) in [
            (&["2/10/2018 9:50", "7"][..], "2 cells where the file has 3 columns"),
            (&["2/10/2018 9:50", "7.5", ""], "column 'count' has '7.5' where an integer is expected"),
            (&["yesterday", "", ""], "column 'when' has 'yesterday' where a time like 2/10/2018 9:50 (month first)"),
            (&["2/10/2018 9:50", "", ""], "no value"),
        ] {
            let error = read(cells).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
        let (_, wrong) = shape.read([&b"2/10/2018 9:50"[..], b"7", b"\xff"].into_iter()).unwrap();
        assert_eq!(wrong, [RowError::Utf8 { column: "note".into() }]);
    }

    #[test]
    fn numbers_with_commas_are_read_one_way_for_a_whole_file_or_not_at_all() {
        for (decimal, cell, plain) in [
            (Decimal::Comma, "21,5", "21.5"),
            (Decimal::Comma, "-1.234,50", "-1234.50"),
            (Decimal::Comma, "21.5", "21.5"),
            (Decimal::Comma, "1.234", "1234"),
            (Decimal::Point, "1.234", "1.234"),
            (Decimal::Point, "1,234.5", "1234.5"),
            (Decimal::Point, "1,234,567", "1234567"),
            (Decimal::Point, "21,5", "21,5"),
            (Decimal::Point, "12,34,567", "12,34,567"),
            (Decimal::Comma, "a,5", "a,5"),
            (Decimal::Comma, ",5", ",5"),
        ] {
            assert_eq!(decimal.plain(cell), plain, "{cell}");
        }
        let told = |cells: &[&str]| {
            let mut tally = CommaTally::default();
            cells.iter().for_each(|cell| tally.count(cell));
            tally.decimal()
        };
        assert_eq!(told(&["21.5", "a, b"]), Some(Decimal::Point));
        assert_eq!(told(&["21,5", "1,234"]), Some(Decimal::Comma));
        assert_eq!(told(&["1,234.5", "1,234"]), Some(Decimal::Point));
        assert_eq!((told(&["1,234"]), told(&["21,5", "1,234.5"])), (None, None), "nobody can tell");
    }
}
