//! The first pass over a CSV file: its header, its columns' names and types, its time column.

use std::collections::BTreeMap;
use std::io::{BufRead, Seek};

use csv::ByteRecord;

use crate::sources::BadRow;
use crate::sources::csv::records::{Found, Place, Records};
use crate::sources::csv::{CsvConfig, CsvError, HeaderMode};
use heartwatch_formats::csv_row::{
    CellType, Column, ColumnRole, ColumnTally, CommaTally, Decimal, RowShape, is_missing, is_typed,
};
use heartwatch_formats::source_time::SOURCE_TIME;
use heartwatch_formats::source_time::TimeColumn;

/// Names of columns that may hold a bare Unix time.
const TIME_NAMES: [&str; 10] =
    ["time", "timestamp", "ts", "date", "datetime", "date_time", "epoch", "unix_time", "unix_timestamp", "source_time"];

/// Records at the beginning that are looked at one by one: what is above the rows, and the first of them.
const HEAD_RECORDS_MAX: usize = 64;
/// Most rows below the header that say what the columns are measured in.
const UNIT_ROWS_MAX: usize = 3;

/// What the first pass found out.
pub(super) struct Inference {
    pub(super) shape: RowShape,
    /// Behind everything that is above the rows.
    pub(super) first_row: Place,
    /// Records above the rows that are neither a header nor a row.
    pub(super) left_out: usize,
}

/// One record of the beginning.
struct Head {
    cells: Vec<String>,
    before: Place,
    behind: Place,
}

impl Head {
    fn is_comment(&self) -> bool {
        self.cells.first().is_some_and(|cell| cell.trim_start().starts_with('#'))
    }

    /// Whether none of its cells is a number, a boolean or a time.
    fn is_words(&self) -> bool {
        !self
            .cells
            .iter()
            .any(|cell| [Decimal::Point, Decimal::Comma].iter().any(|decimal| is_typed(&decimal.plain(cell))))
    }

    /// Whether it says what the columns are measured in: words above values.
    fn is_of_units(&self, below: &Tally) -> bool {
        let says = |at: usize| {
            let columns = [below.columns.get(at), below.with_commas.get(at)];
            columns.into_iter().flatten().any(says_something)
        };
        self.is_words() && self.cells.iter().enumerate().any(|(at, cell)| !is_missing(cell) && says(at))
    }

    fn count(&self, tallies: &mut BTreeMap<usize, Tally>) {
        let cells: Vec<&str> = self.cells.iter().map(String::as_str).collect();
        tallies.entry(cells.len()).or_default().count(&cells);
    }
}

/// Rows with the same number of cells, and their columns.
#[derive(Default)]
struct Tally {
    rows: u64,
    columns: Vec<ColumnTally>,
    /// The same of a file with decimal commas.
    with_commas: Vec<ColumnTally>,
    commas: CommaTally,
}

impl Tally {
    fn count(&mut self, cells: &[&str]) {
        self.rows += 1;
        self.columns.resize_with(cells.len(), ColumnTally::default);
        self.with_commas.resize_with(cells.len(), ColumnTally::default);
        for ((column, with_commas), cell) in self.columns.iter_mut().zip(&mut self.with_commas).zip(cells) {
            column.count(&Decimal::Point.plain(cell));
            with_commas.count(&Decimal::Comma.plain(cell));
            self.commas.count(cell);
        }
    }

    /// How its numbers are written, and its columns read so.
    fn read(self, decimal: Option<Decimal>) -> Option<(Decimal, Vec<ColumnTally>)> {
        let decimal = decimal.or_else(|| self.commas.decimal())?;
        Some((decimal, if decimal == Decimal::Comma { self.with_commas } else { self.columns }))
    }
}

impl Inference {
    /// Reads all records. Rows with different numbers of cells are counted apart, so that a few broken
    /// ones change no column's type; the memory is bounded by `columns_max`.
    pub(super) fn of<R: BufRead + Seek>(config: &CsvConfig, records: &mut Records<R>) -> Result<Self, CsvError> {
        let path = || config.path.clone();
        let io = |source| CsvError::Io { path: config.path.clone(), source };
        let mut tallies: BTreeMap<usize, Tally> = BTreeMap::new();
        let mut head: Vec<Head> = Vec::new();
        let mut first_bad: Option<BadRow> = None;
        let mut too_wide = false;
        loop {
            let before = records.place();
            let cells = match records.advance().map_err(io)? {
                Found::End => break,
                Found::Bad { line, reason } => {
                    first_bad.get_or_insert_with(|| BadRow {
                        from: config.path.display().to_string(),
                        line,
                        reason,
                        ..BadRow::default()
                    });
                    continue;
                }
                Found::Record { .. } => records.cells(),
            };
            if cells.len() > config.columns_max {
                too_wide = true;
            } else if head.len() < HEAD_RECORDS_MAX {
                let cells = cells.iter().map(|cell| String::from_utf8_lossy(cell).into_owned()).collect();
                head.push(Head { cells, before, behind: records.place() });
            } else if let Some(cells) = as_text(cells) {
                tallies.entry(cells.len()).or_default().count(&cells);
            }
        }
        // how many cells most records have
        let mut widths: BTreeMap<usize, u64> = tallies.iter().map(|(width, tally)| (*width, tally.rows)).collect();
        for record in head.iter().filter(|record| !record.is_comment() || record.cells.len() > 1) {
            *widths.entry(record.cells.len()).or_default() += 1;
        }
        let Some((width, _)) = widths.into_iter().max_by_key(|(_, rows)| *rows) else {
            return Err(match first_bad {
                _ if too_wide => CsvError::TooManyColumns { path: path(), columns_max: config.columns_max },
                Some(first) => CsvError::NoGoodRow { first },
                None => CsvError::Empty { path: path() },
            });
        };
        // above the rows: other numbers of cells, and comments; the last of those may be the header
        let above = head.iter().take_while(|record| record.cells.len() != width || record.is_comment()).count();
        let commented = above.checked_sub(1).and_then(|last| head.get(last));
        let commented = commented.filter(|record| record.cells.len() == width && width > 1 && record.is_words());
        for record in head.iter().skip(above + 1) {
            record.count(&mut tallies);
        }
        let has_rows = tallies.contains_key(&width);
        let first = head.get(above);
        // what the records of the beginning from there on say
        let from = |at: usize| {
            let mut below = BTreeMap::new();
            head.iter()
                .skip(at)
                .filter(|record| record.cells.len() == width)
                .for_each(|record| record.count(&mut below));
            below.remove(&width).unwrap_or_default()
        };
        let says_below = |below: &Tally| below.columns.iter().chain(&below.with_commas).any(says_something);
        let header = first.is_some_and(|first| match config.header {
            HeaderMode::Yes => true,
            HeaderMode::No => false,
            HeaderMode::Auto if !first.is_words() => false,
            HeaderMode::Auto => match tallies.get(&width) {
                Some(all) => says_below(all) || (1..=UNIT_ROWS_MAX).any(|units| says_below(&from(above + 1 + units))),
                // Words alone, and nothing below them: a header rather than data.
                None => tallies.is_empty(),
            },
        });
        let mut rows_from = above + usize::from(header);
        if header && config.header == HeaderMode::Auto {
            let is_of_units = |at: &usize| {
                let fits = |record: &Head| record.cells.len() == width && !record.is_comment();
                head.get(*at).is_some_and(|record| fits(record) && record.is_of_units(&from(at + 1)))
            };
            let units = (rows_from..rows_from + UNIT_ROWS_MAX).take_while(is_of_units).count();
            if units > 0 {
                rows_from += units;
                // where the file goes on behind the beginning, three words do not decide a column's type
                if head.len() < HEAD_RECORDS_MAX {
                    tallies.insert(width, from(rows_from));
                }
            }
        }
        let names: Option<Vec<String>> = match (header, first, commented) {
            (true, Some(first), _) => Some(first.cells.clone()),
            (false, _, Some(commented)) if config.header != HeaderMode::No => {
                let mut names = commented.cells.clone();
                if let Some(first) = names.first_mut() {
                    *first = first.trim_start().trim_start_matches('#').trim().to_owned();
                }
                Some(names)
            }
            _ => None,
        };
        if !header && let Some(first) = first {
            first.count(&mut tallies);
        }
        let tally = if header && !has_rows { None } else { tallies.remove(&width) };
        let Some(tally) = tally else {
            return Err(CsvError::OnlyHeader { path: path() });
        };
        let names = names.as_deref();
        let left_out = rows_from - usize::from(header) - usize::from(!header && names.is_some());
        let start = head.first().map_or_else(|| records.place(), |record| record.before);
        let first_row = match (head.get(rows_from), rows_from.checked_sub(1).and_then(|last| head.get(last))) {
            // nothing above: bad lines there are rows, too
            (Some(_), None) => start,
            (_, Some(last)) => last.behind,
            (None, None) => start,
        };
        let Some((decimal, columns)) = tally.read(config.decimal) else {
            return Err(CsvError::Decimal { path: path() });
        };
        let time = time_column(config, names, &columns)?;
        let shape = RowShape { decimal, columns: shape(config, names, &columns, time)? };
        Ok(Self { shape, first_row, left_out })
    }
}

fn as_text(cells: &ByteRecord) -> Option<Vec<&str>> {
    cells.iter().map(|cell| std::str::from_utf8(cell).ok()).collect()
}

fn says_something(column: &ColumnTally) -> bool {
    column.cell_type() != CellType::Text || column.time_format(false).is_some()
}

/// Which column is the time, and what its role is then.
fn time_column(
    config: &CsvConfig,
    names: Option<&[String]>,
    columns: &[ColumnTally],
) -> Result<Option<(usize, ColumnRole)>, CsvError> {
    let path = || config.path.clone();
    let expected = config.time_format.map_or_else(String::new, |format| format!(" like {}", format.example()));
    let chosen = match &config.time_column {
        TimeColumn::None => return Ok(None),
        TimeColumn::Number(number) => number.checked_sub(1).filter(|at| *at < columns.len()),
        TimeColumn::Name(name) => names.and_then(|names| names.iter().position(|other| other.trim() == name)),
        TimeColumn::Auto => {
            let found = columns.iter().enumerate().find_map(|(at, column)| {
                let named = match names {
                    Some(names) => {
                        names.get(at).is_some_and(|name| TIME_NAMES.contains(&name.trim().to_lowercase().as_str()))
                    }
                    None => at == 0,
                };
                let format = match config.time_format {
                    Some(format) => column.reads_as(format).then_some(format),
                    None => column.time_format(named),
                };
                format.map(|format| (at, ColumnRole::Time(format)))
            });
            return match found {
                None if config.time_format.is_some() => {
                    Err(CsvError::NotATime { path: path(), what: "no column".to_owned(), expected })
                }
                // A single column of times is a column of values: a row needs one.
                Some(_) if columns.len() == 1 => Ok(None),
                found => Ok(found),
            };
        }
    };
    let Some(at) = chosen else {
        return Err(no_column(config, &format!("{:?} for the time", config.time_column), names, columns.len()));
    };
    match config.time_format.or_else(|| columns[at].time_format(true)) {
        Some(format) => Ok(Some((at, ColumnRole::Time(format)))),
        None => Err(CsvError::NotATime { path: path(), what: format!("column {}", at + 1), expected }),
    }
}

fn no_column(config: &CsvConfig, wanted: &str, names: Option<&[String]>, columns: usize) -> CsvError {
    let present = match names {
        Some(names) => names.join(", "),
        None => format!("{columns} without names"),
    };
    CsvError::NoColumn { path: config.path.clone(), wanted: wanted.to_owned(), present }
}

fn shape(
    config: &CsvConfig,
    names: Option<&[String]>,
    columns: &[ColumnTally],
    time: Option<(usize, ColumnRole)>,
) -> Result<Vec<Column>, CsvError> {
    let time_at = time.map(|(at, _)| at);
    let values = columns.len() - usize::from(time.is_some());
    let mut taken: Vec<String> = Vec::with_capacity(columns.len() + 1);
    if time.is_some() {
        taken.push(SOURCE_TIME.to_owned());
    }
    let mut shaped = Vec::with_capacity(columns.len());
    for (at, column) in columns.iter().enumerate() {
        let base = match names {
            Some(names) => field_name(&names[at], at),
            None if time_at == Some(at) => SOURCE_TIME.to_owned(),
            None if values == 1 => "value".to_owned(),
            None => format!("value_{}", at + 1 - usize::from(time_at.is_some_and(|time| time < at))),
        };
        let role = match time {
            Some((time_at, role)) if time_at == at => role,
            _ => ColumnRole::Value(column.cell_type()),
        };
        // Only fields need distinct names; the time column's own name is used in errors alone.
        let name = if time_at == Some(at) { base } else { distinct(base, &mut taken) };
        shaped.push(Column { name, role });
    }
    for (name, kind) in &config.column_types {
        let found = shaped
            .iter_mut()
            .enumerate()
            .find(|(at, column): &(usize, &mut Column)| column.name == *name && time_at != Some(*at));
        let Some((_, column)) = found else {
            return Err(no_column(config, &format!("'{name}' for a type"), names, columns.len()));
        };
        column.role = ColumnRole::Value(*kind);
    }
    Ok(shaped)
}

/// A header's cell as the name of a field.
fn field_name(cell: &str, at: usize) -> String {
    let name: String = cell.trim().chars().map(|c| if c.is_control() { '_' } else { c }).collect();
    match name.as_str() {
        "" => format!("column_{}", at + 1),
        "time" => "time_value".to_owned(),
        _ => name,
    }
}

fn distinct(base: String, taken: &mut Vec<String>) -> String {
    let mut name = base;
    if taken.contains(&name) {
        let stem = name;
        let mut number = 2_usize;
        name = format!("{stem}_{number}");
        while taken.contains(&name) {
            number += 1;
            name = format!("{stem}_{number}");
        }
    }
    taken.push(name.clone());
    name
}
