//! The first pass over a CSV file: its header, its columns' names and types, its time column.

use std::collections::BTreeMap;
use std::io::{BufRead, Seek};

use csv::ByteRecord;

use crate::sources::BadRow;
use crate::sources::csv::records::{Found, Place, Records};
use crate::sources::csv::{CsvConfig, CsvError, HeaderMode};
use heartwatch_formats::csv_row::{CellType, Column, ColumnRole, ColumnTally, CommaTally, Decimal, RowShape, is_typed};
use heartwatch_formats::source_time::SOURCE_TIME;
use heartwatch_formats::source_time::TimeColumn;

/// Names of columns that may hold a bare Unix time.
const TIME_NAMES: [&str; 10] =
    ["time", "timestamp", "ts", "date", "datetime", "date_time", "epoch", "unix_time", "unix_timestamp", "source_time"];

/// What the first pass found out.
pub(super) struct Inference {
    pub(super) shape: RowShape,
    /// Behind the header; none without a header.
    pub(super) first_row: Option<Place>,
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
        let mut first: Option<(Vec<String>, Place)> = None;
        let mut first_bad: Option<BadRow> = None;
        let mut too_wide = false;
        loop {
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
            } else if first.is_none() {
                let owned = cells.iter().map(|cell| String::from_utf8_lossy(cell).into_owned()).collect();
                first = Some((owned, records.place()));
            } else if let Some(cells) = as_text(cells) {
                tallies.entry(cells.len()).or_default().count(&cells);
            }
        }
        let Some((first, behind_first)) = first else {
            return Err(match first_bad {
                _ if too_wide => CsvError::TooManyColumns { path: path(), columns_max: config.columns_max },
                Some(first) => CsvError::NoGoodRow { first },
                None => CsvError::Empty { path: path() },
            });
        };
        let below = tallies.get(&first.len());
        let header = match config.header {
            HeaderMode::Yes => true,
            HeaderMode::No => false,
            HeaderMode::Auto => {
                !first.iter().any(|cell| is_typed(cell) || is_typed(&Decimal::Comma.plain(cell)))
                    && match below {
                        Some(tally) => tally.columns.iter().chain(&tally.with_commas).any(says_something),
                        // Words alone, and nothing below them: a header rather than data.
                        None => tallies.is_empty(),
                    }
            }
        };
        let tally = if header {
            tallies.remove(&first.len())
        } else {
            let cells: Vec<&str> = first.iter().map(String::as_str).collect();
            tallies.entry(cells.len()).or_default().count(&cells);
            tallies.into_values().max_by_key(|tally| tally.rows)
        };
        let Some(tally) = tally else {
            return Err(CsvError::OnlyHeader { path: path() });
        };
        let names = header.then_some(first.as_slice());
        let Some((decimal, columns)) = tally.read(config.decimal) else {
            return Err(CsvError::Decimal { path: path() });
        };
        let time = time_column(config, names, &columns)?;
        let shape = RowShape { decimal, columns: shape(config, names, &columns, time)? };
        Ok(Self { shape, first_row: header.then_some(behind_first) })
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
