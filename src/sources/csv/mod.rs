//! Readings from a CSV file.
//!
//! [`CsvSource::open`] reads the file once from start to end, a row at a time, to give every column
//! one type; after that rows come one at a time. It never holds more than one row in memory.
//!
//! - A first row is a header when none of its cells reads as a number, boolean or time, while a column
//!   below it does. Without a header a single value column is called `value`, several `value_1`,
//!   `value_2` …, from left to right. A header cell without text becomes `column_N`, `time` (which
//!   InfluxDB refuses as a field) becomes `time_value`, and a name that comes again gets `_2`.
//! - What is above the rows (lines with another number of cells, comments, a header that is one) and up to three rows of units
//!   below the header are left out, and counted in the log.
//! - The first column that reads as a time is kept as the text field `source_time` (RFC 3339, UTC).
//!   Bare Unix times are recognised only in a column with a name like `timestamp`, or in the first one
//!   of several in a file without a header.
//! - What stands between two cells is found by looking at the beginning: a comma, a semicolon, a tab or a bar, whichever gives
//!   most lines the same number of cells. Whether numbers have a decimal comma is found by looking at all of them; a file
//!   in which that cannot be told is refused.
//! - A cell that is empty, or says that there is no value (`NA`, `null`, `-` …), gives no field; one that is wrong costs itself,
//!   not its row. The rest is in [`heartwatch_formats::csv_row`].

mod delimiter;
mod inference;
mod records;

use heartwatch_formats::source_time::TimeColumn;
use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::sources::csv::inference::Inference;
use crate::sources::csv::records::{Found, Place, Records};
use crate::sources::{BadRow, Next, Source, SourceError, SourceRow};
use heartwatch_formats::csv_row::{CellType, Decimal, RowShape};
use heartwatch_formats::source_time::TimeFormat;

/// How much of a file is looked at to find its delimiter, in bytes.
const BEGINNING_BYTES: u64 = 64 * 1024;

/// Whether the first row names the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeaderMode {
    /// Decided by looking at the file.
    #[default]
    Auto,
    /// It does.
    Yes,
    /// It is data.
    No,
}

/// What to read, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvConfig {
    /// The file.
    pub path: PathBuf,
    /// What is between two cells; found by looking at the file when not given: a comma, a semicolon, a tab or a bar.
    pub delimiter: Option<u8>,
    /// How numbers are written; found by looking at the file when not given.
    pub decimal: Option<Decimal>,
    /// Whether the first row names the columns.
    pub header: HeaderMode,
    /// Which column holds the source's own time.
    pub time_column: TimeColumn,
    /// How it is written; found by looking at the file when not given.
    pub time_format: Option<TimeFormat>,
    /// Columns whose type is not to be found by looking, by the name of their field.
    pub column_types: Vec<(String, CellType)>,
    /// Longest row in bytes, with the line ends in its quoted cells; a longer one is a bad row.
    pub line_bytes_max: usize,
    /// Most columns.
    pub columns_max: usize,
}

impl CsvConfig {
    /// Everything found by looking; rows up to 64 KiB, up to 256 columns.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            delimiter: None,
            decimal: None,
            header: HeaderMode::Auto,
            time_column: TimeColumn::Auto,
            time_format: None,
            column_types: Vec::new(),
            line_bytes_max: 64 * 1024,
            columns_max: 256,
        }
    }
}

/// Why a file can't be a source.
#[derive(Debug, thiserror::Error)]
pub enum CsvError {
    /// It can't be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is a directory, a pipe or a device: a source is read more than once.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// As it was named.
        path: PathBuf,
    },
    /// It is in another encoding.
    #[error("{} is UTF-16: save it as UTF-8", path.display())]
    Utf16 {
        /// The file.
        path: PathBuf,
    },
    /// It is compressed.
    #[error("{} is compressed (gzip): unpack it first, with gunzip", path.display())]
    Compressed {
        /// The file.
        path: PathBuf,
    },
    /// It has no row.
    #[error("{} is empty: at least one row is needed", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Nobody can tell how its numbers are written.
    #[error("{} has numbers like 1,234, which may be thousands or decimals: say which (--decimal point or comma)", path.display())]
    Decimal {
        /// The file.
        path: PathBuf,
    },
    /// It has a header alone.
    #[error("{} has a header and no row below it", path.display())]
    OnlyHeader {
        /// The file.
        path: PathBuf,
    },
    /// It has too many columns.
    #[error("{} has rows of more than {columns_max} columns: leave out some, or make several files of it", path.display())]
    TooManyColumns {
        /// The file.
        path: PathBuf,
        /// The limit.
        columns_max: usize,
    },
    /// A column that the configuration names is not there.
    #[error("{} has no column {wanted}: it has {present}", path.display())]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        wanted: String,
        /// What there is.
        present: String,
    },
    /// The column for the time does not hold any.
    #[error("{}: {what} does not read as a time{expected}", path.display())]
    NotATime {
        /// The file.
        path: PathBuf,
        /// Which column.
        what: String,
        /// What was expected, as the end of a sentence; empty for any form.
        expected: String,
    },
    /// Not one row can be used.
    #[error("not one row can be used; the first: {first}")]
    NoGoodRow {
        /// The first bad row.
        first: BadRow,
    },
}

/// A CSV file that is read a row at a time, and again from the start when asked. Its calls may block on the disk.
pub struct CsvSource {
    path: PathBuf,
    shape: RowShape,
    records: Records<BufReader<File>>,
    /// What is wrong with single cells of the latest row.
    wrong_cells: Vec<BadRow>,
    /// Behind the header.
    first_row: Place,
    cursor: u64,
    bad_rows: u64,
    failed: bool,
}

impl CsvSource {
    /// Opens a file and finds the types of its columns, which reads all of it once.
    ///
    /// # Errors
    /// [`CsvError`] when it is missing, empty, not a regular file, or nothing in it can be used as configured.
    pub fn open(config: &CsvConfig) -> Result<Self, CsvError> {
        let path = config.path.clone();
        let io = |source| CsvError::Io { path: config.path.clone(), source };
        let file = File::open(&path).map_err(io)?;
        if !file.metadata().map_err(io)?.is_file() {
            return Err(CsvError::NotAFile { path });
        }
        let mut input = BufReader::new(file);
        let mut beginning = Vec::new();
        io::Read::take(&mut input, BEGINNING_BYTES).read_to_end(&mut beginning).map_err(io)?;
        if beginning.starts_with(b"\xff\xfe") || beginning.starts_with(b"\xfe\xff") {
            return Err(CsvError::Utf16 { path });
        }
        if beginning.starts_with(b"\x1f\x8b") {
            return Err(CsvError::Compressed { path });
        }
        let delimiter = config.delimiter.unwrap_or_else(|| delimiter::of(&beginning));
        let mut records = Records::new(input, delimiter, config.line_bytes_max).map_err(io)?;
        let inferred = Inference::of(config, &mut records)?;
        let first_row = inferred.first_row;
        if inferred.left_out > 0 {
            let file = path.display().to_string();
            tracing::warn!(
                file,
                lines = inferred.left_out,
                "lines above the rows are neither a header nor a row: left out"
            );
        }
        let mut source = Self {
            path,
            shape: inferred.shape,
            records,
            wrong_cells: Vec::new(),
            first_row,
            cursor: 0,
            bad_rows: 0,
            failed: false,
        };
        source.rewind()?;
        // A file of bad rows alone would be read round and round without a word.
        let mut first_bad = None;
        let good = source.by_ref().any(|row| row.map_err(|bad| first_bad.get_or_insert(bad).line).is_ok());
        if let (false, Some(first)) = (good, first_bad) {
            return Err(CsvError::NoGoodRow { first });
        }
        source.rewind()?;
        (source.cursor, source.bad_rows) = (0, 0);
        Ok(source)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The columns with their names and types.
    #[must_use]
    pub const fn shape(&self) -> &RowShape {
        &self.shape
    }

    /// Rows read over all loops, good and bad: how far the source has come.
    #[must_use]
    pub const fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Bad rows over all loops.
    #[must_use]
    pub const fn bad_rows(&self) -> u64 {
        self.bad_rows
    }

    /// Goes back to the first row. What has become of the file meanwhile is seen; its columns' types stay.
    ///
    /// # Errors
    /// [`CsvError::Io`].
    pub fn rewind(&mut self) -> Result<(), CsvError> {
        (self.failed, self.wrong_cells) = (false, Vec::new());
        let moved = self.records.go_to(self.first_row);
        moved.map_err(|source| CsvError::Io { path: self.path.clone(), source })
    }

    fn bad(&mut self, line: u64, reason: String) -> BadRow {
        self.bad_rows += 1;
        BadRow { from: self.path.display().to_string(), line, reason, ..BadRow::default() }
    }

    /// Whether the latest record is a comment between the rows: it begins with '#', and has not a row's number of cells.
    fn is_comment(&self) -> bool {
        let cells = self.records.cells();
        let marked = cells.get(0).is_some_and(|cell| cell.trim_ascii_start().starts_with(b"#"));
        marked && cells.len() != self.shape.columns.len()
    }

    fn read(&mut self) -> io::Result<Option<Result<SourceRow, BadRow>>> {
        if let Some(wrong) = self.wrong_cells.pop() {
            return Ok(Some(Err(wrong)));
        }
        let line = loop {
            match self.records.advance()? {
                Found::End => return Ok(None),
                Found::Bad { line, reason } => {
                    self.cursor += 1;
                    return Ok(Some(Err(self.bad(line, reason))));
                }
                Found::Record { line } if !self.is_comment() => break line,
                Found::Record { .. } => {}
            }
        };
        self.cursor += 1;
        match self.shape.read(self.records.cells().iter()) {
            Ok((fields, wrong)) => {
                // taken from the end
                let wrong: Vec<_> = wrong.into_iter().rev().map(|error| self.bad(line, error.to_string())).collect();
                self.wrong_cells = wrong;
                Ok(Some(Ok(SourceRow { line, fields, ..SourceRow::default() })))
            }
            Err(error) => {
                if error.may_have_swallowed_lines() {
                    self.records.resume_behind_first_line()?;
                }
                Ok(Some(Err(self.bad(line, error.to_string()))))
            }
        }
    }
}

impl Iterator for CsvSource {
    type Item = Result<SourceRow, BadRow>;

    /// The next row; none at the end of the file, until [`rewind`](CsvSource::rewind). A file that can no
    /// longer be read is one bad row and then the end.
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        self.read().unwrap_or_else(|error| {
            self.failed = true;
            Some(Err(self.bad(0, format!("cannot be read: {error}"))))
        })
    }
}

impl Source for CsvSource {
    fn next_row(&mut self) -> Next {
        match self.next() {
            Some(Ok(row)) => Next::Row(row),
            Some(Err(bad)) => Next::Bad(bad),
            None => Next::End,
        }
    }

    fn rewind(&mut self) -> Result<bool, SourceError> {
        Self::rewind(self)?;
        Ok(true)
    }

    fn cursor(&self) -> u64 {
        Self::cursor(self)
    }

    fn origin(&self) -> String {
        self.path.display().to_string()
    }
}

#[cfg(test)]
mod tests;
