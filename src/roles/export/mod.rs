//! `heartwatch export`: rows to CSV, from the local journal (also while a monitor runs) or from
//! InfluxDB, in constant memory.
//!
//! A wide table needs its columns before its first line, so the rows are read twice. Without
//! `--measurement` the readings are exported, not heartwatch's own measurements (`heartwatch_…`), nor error metrics
//! that are no readings. From
//! the journal rows come in the order of their arrival, from InfluxDB by measurement and time. The file
//! appears under its name when it is complete.

mod table;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use futures_util::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};

use self::table::{Columns, Table};
use super::cli::ExportArgs;
use crate::config::Settings;
use heartwatch_adapters::influx::{InfluxConfig, InfluxReader};
use heartwatch_domain::error_metric::{Numbered, numbered};
use heartwatch_domain::reading::FieldValue;
use heartwatch_formats::line_protocol::{DecodedRow, Rows, decode};
use heartwatch_store::journal::HistoryFile;

/// Measurements of heartwatch itself begin like this.
pub(crate) const OWN_PREFIX: &str = "heartwatch_";

/// Whether a row is a reading with a number in somebody's account: no row of heartwatch itself, and of error metrics
/// only what a source has caused.
pub(crate) fn is_reading(row: &DecodedRow) -> bool {
    match numbered(&row.measurement) {
        Numbered::All => !row.measurement.starts_with(OWN_PREFIX),
        Numbered::AboveZero => {
            row.fields.iter().any(|(name, value)| name == "value" && *value != FieldValue::Integer(0))
        }
        Numbered::None => false,
    }
}

/// What was exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exported {
    /// Rows written.
    pub rows: u64,
    /// Rows that could not be read: damaged on disk, or not line protocol.
    pub unreadable_rows: u64,
    /// Values left out, because their column came up only while the file was being written.
    pub values_left_out: u64,
}

/// Exports, says what it did, and answers the exit code: 0, or 1 when something could not be read.
///
/// # Errors
/// When the store can't be read or the file can't be written.
pub async fn export(args: &ExportArgs, settings: &Settings) -> anyhow::Result<u8> {
    let exported = match influx(args, settings) {
        Some(influx) => from_influx(args, influx).await?,
        None => from_journal(args, &settings.journal().path)?,
    };
    let mut out = std::io::stdout();
    writeln!(out, "{} rows written to {}", exported.rows, args.out.display())?;
    let partly = |count: u64, what: &str| -> std::io::Result<bool> {
        if count > 0 {
            writeln!(std::io::stderr(), "heartwatch: {count} {what}")?;
        }
        Ok(count > 0)
    };
    let unreadable = partly(exported.unreadable_rows, "rows could not be read and are not in it")?;
    let left_out = partly(exported.values_left_out, "values of new columns came while it was written: export again")?;
    Ok(u8::from(unreadable || left_out))
}

/// InfluxDB when one is configured, unless only a data directory was asked for.
fn influx(args: &ExportArgs, settings: &Settings) -> Option<InfluxConfig> {
    let asked_for_journal = args.data_dir.is_some() && args.influx_url.is_none();
    settings.influx.clone().filter(|_| !asked_for_journal)
}

/// Exports from a journal.
///
/// # Errors
/// When the journal can't be read or the file can't be written.
pub fn from_journal(args: &ExportArgs, journal: &Path) -> anyhow::Result<Exported> {
    let mut history = HistoryFile::open(journal, args.from, args.to)
        .context("nothing to export: start `heartwatch run` first, or name its --data-dir")?;
    let bar = progress(history.rows_about * if args.long { 1 } else { 2 });
    let mut exported = Exported::default();
    let mut columns = Columns::default();
    if !args.long {
        each_row(args, &mut history, &bar, |row| columns.note(row))?;
        history.rewind();
    }
    let mut out = Output::start(&args.out, args.long, columns)?;
    exported.unreadable_rows = each_row(args, &mut history, &bar, |row| {
        exported.rows += 1;
        out.table.add(row)
    })?;
    bar.finish_and_clear();
    exported.values_left_out = out.finish()?;
    Ok(exported)
}

/// Hands on every row that was asked for; answers how many could not be read.
fn each_row(
    args: &ExportArgs,
    history: &mut HistoryFile,
    bar: &ProgressBar,
    mut take: impl FnMut(&DecodedRow) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    let mut unreadable = 0;
    while let Some(block) = history.next_block()? {
        unreadable += block.damaged_rows;
        for line in Rows::of(&block.lines) {
            match decode(line) {
                Ok(row) if is_asked_for(args, &row) => take(&row)?,
                Ok(_) => {}
                Err(error) => {
                    unreadable += 1;
                    tracing::warn!(%error, "a row cannot be read");
                }
            }
        }
        bar.inc(block.rows);
    }
    Ok(unreadable)
}

/// Exports from InfluxDB.
///
/// # Errors
/// When InfluxDB can't be read or the file can't be written.
pub async fn from_influx(args: &ExportArgs, influx: InfluxConfig) -> anyhow::Result<Exported> {
    let reader = InfluxReader::new(influx)?;
    let measurements = match &args.measurement {
        Some(measurement) => vec![measurement.clone()],
        None => reader.measurements().await?.into_iter().filter(|name| !name.starts_with(OWN_PREFIX)).collect(),
    };
    let bar = progress(match std::io::stderr().is_terminal() {
        true => rows_about(&reader, &measurements, args).await * if args.long { 1 } else { 2 },
        false => 0,
    });
    let mut columns = Columns::default();
    if !args.long {
        each_stored_row(args, &reader, &measurements, &bar, |row| columns.note(row)).await?;
    }
    let mut out = Output::start(&args.out, args.long, columns)?;
    let mut rows = 0;
    each_stored_row(args, &reader, &measurements, &bar, |row| {
        rows += 1;
        out.table.add(row)
    })
    .await?;
    bar.finish_and_clear();
    Ok(Exported { rows, unreadable_rows: 0, values_left_out: out.finish()? })
}

/// How many rows there are to read once, for the bar. A server that cannot count (`GROUP BY *`) has none of it: the
/// bar then only says how many there have been.
async fn rows_about(reader: &InfluxReader, measurements: &[String], args: &ExportArgs) -> u64 {
    let mut rows = 0;
    for measurement in measurements {
        match reader.count_between(measurement, args.from, args.to).await {
            Ok(count) => rows += count,
            Err(error) => {
                tracing::debug!(%error, "the rows cannot be counted beforehand");
                return 0;
            }
        }
    }
    rows
}

async fn each_stored_row(
    args: &ExportArgs,
    reader: &InfluxReader,
    measurements: &[String],
    bar: &ProgressBar,
    mut take: impl FnMut(&DecodedRow) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for measurement in measurements {
        let mut rows = Box::pin(reader.rows(measurement, args.from, args.to).await?);
        while let Some(row) = rows.next().await {
            let row = row?;
            if args.measurement.is_some() || is_reading(&row) {
                take(&row)?;
            }
            bar.inc(1);
        }
    }
    Ok(())
}

fn is_asked_for(args: &ExportArgs, row: &DecodedRow) -> bool {
    let measurement = match &args.measurement {
        Some(measurement) => row.measurement == *measurement,
        None => is_reading(row),
    };
    let after = args.from.is_none_or(|from| row.time.is_some_and(|time| time >= from));
    measurement && after && args.to.is_none_or(|to| row.time.is_some_and(|time| time < to))
}

/// The file while it is being written, under a name of its own.
struct Output {
    table: Table<BufWriter<File>>,
    part: PathBuf,
    name: PathBuf,
}

impl Output {
    fn start(name: &Path, long: bool, columns: Columns) -> anyhow::Result<Self> {
        let mut part = OsString::from(name);
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::create(&part).with_context(|| format!("cannot write {}", part.display()))?;
        let file = BufWriter::with_capacity(1 << 18, file);
        let table = if long { Table::long(file) } else { Table::wide(file, columns) }?;
        Ok(Self { table, part, name: name.to_owned() })
    }

    /// Answers how many values were left out.
    fn finish(self) -> anyhow::Result<u64> {
        let left_out = self.table.left_out;
        let file = self.table.finish()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        file.sync_all().with_context(|| format!("cannot write {}", self.part.display()))?;
        fs::rename(&self.part, &self.name).with_context(|| format!("cannot write {}", self.name.display()))?;
        Ok(left_out)
    }
}

/// A bar on a terminal, nothing elsewhere. A total of 0 is not known: it counts.
fn progress(rows: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match rows {
        0 => (ProgressBar::new_spinner(), "{spinner} {human_pos} rows, {per_sec}"),
        rows => (ProgressBar::new(rows), "{wide_bar} {percent} %  {human_pos}/{human_len} rows  {eta} left"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests;
