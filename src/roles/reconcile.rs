//! `heartwatch ledger --reconcile`: the ledger against the rows themselves, counted where they are stored.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use super::ask::{drawing, print_json, println_to_stdout};
use super::assemble;
use super::cli::LedgerArgs;
use super::export::{OWN_PREFIX, is_reading};
use crate::adapters::influx::{InfluxConfig, InfluxReader};
use crate::adapters::monitor::{AskError, Monitor};
use crate::buffer::journal::{self, History};
use crate::config::Settings;
use crate::console::tables;
use crate::domain::error_metric::{Numbered, numbered};
use crate::domain::ledger::{Account, reconcile as compare};
use crate::formats::api::{ReconciliationView, accounts_by_publisher};
use crate::formats::line_protocol::{Rows, decode};
use crate::roles::ask::monitor;

/// Wait between two comparisons while rows are on their way.
const COMPARE_EVERY: Duration = Duration::from_millis(250);

/// Rows of each publisher.
pub type Counts = BTreeMap<String, u64>;

/// Where rows are counted.
#[derive(Debug, Clone)]
pub enum Store {
    /// InfluxDB, through a query.
    Influx(InfluxReader, String),
    /// The embedded store: a monitor's journal, without its program.
    Journal(PathBuf),
}

impl Store {
    /// The InfluxDB that is configured.
    ///
    /// # Errors
    /// When its client cannot be made.
    pub fn influx(config: InfluxConfig) -> anyhow::Result<Self> {
        let name = format!("{} (database {})", config.url.as_str().trim_end_matches('/'), config.database);
        Ok(Self::Influx(InfluxReader::new(config)?, name))
    }

    /// Counts the readings of every publisher: all measurements except heartwatch's own, and of
    /// error metrics those rows that a source has caused.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn count(&self) -> anyhow::Result<Counts> {
        match self {
            Self::Influx(reader, _) => count_in_influx(reader).await,
            Self::Journal(path) => {
                let path = path.clone();
                tokio::task::spawn_blocking(move || count_in_journal(&path)).await?
            }
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Influx(_, name) => name.clone(),
            Self::Journal(path) => format!("the embedded store {}", path.display()),
        }
    }
}

async fn count_in_influx(reader: &InfluxReader) -> anyhow::Result<Counts> {
    let mut counts = Counts::new();
    for measurement in reader.measurements().await? {
        let numbered = numbered(&measurement);
        if measurement.starts_with(OWN_PREFIX) || numbered == Numbered::None {
            continue;
        }
        let above_zero = numbered == Numbered::AboveZero;
        for (publisher, rows) in reader.count_by_publisher(&measurement, above_zero).await? {
            *counts.entry(publisher).or_default() += rows;
        }
    }
    Ok(counts)
}

fn count_in_journal(path: &Path) -> anyhow::Result<Counts> {
    let mut counts = Counts::new();
    let mut history = History::open(path, None, None).context("name the monitor's --data-dir")?;
    while let Some(block) = history.next_block()? {
        for row in Rows::of(&block.lines).filter_map(|line| decode(line).ok()) {
            let publisher = row.tags.iter().find(|(key, _)| key == "publisher");
            if let Some((_, publisher)) = publisher.filter(|_| is_reading(&row)) {
                *counts.entry(publisher.clone()).or_default() += 1;
            }
        }
    }
    Ok(counts)
}

/// Where the account is read.
enum Ledger {
    Monitor(Monitor, String),
    /// Of a monitor that does not run.
    Journal(PathBuf, bool),
}

impl Ledger {
    async fn accounts(&self) -> anyhow::Result<BTreeMap<String, Account>> {
        let lines = match self {
            Self::Monitor(monitor, _) => monitor.ledger().await?.accounts,
            Self::Journal(path, has_sink) => journal::snapshot(path, *has_sink)?.accounts,
        };
        let by_publisher = accounts_by_publisher(&lines);
        Ok(by_publisher.into_iter().map(|(publisher, account)| (publisher.to_string(), account)).collect())
    }

    fn name(&self) -> String {
        match self {
            Self::Monitor(_, url) => url.clone(),
            Self::Journal(path, _) => format!("{} (no monitor answers)", path.display()),
        }
    }
}

/// Compares until nothing is on its way and both agree to the row, or until the wait is over; prints the
/// last comparison and answers the exit code: 1 when they differ.
///
/// # Errors
/// When neither the monitor nor its journal can be read, or the store cannot.
pub async fn reconcile(args: &LedgerArgs, settings: &Settings) -> anyhow::Result<u8> {
    let (ledger, store) = places(args, settings).await?;
    let end = Instant::now() + args.wait;
    let view = loop {
        let view = compared(&ledger, &store).await?;
        if view.exact || Instant::now() >= end {
            break view;
        }
        tokio::time::sleep(COMPARE_EVERY).await;
    };
    if args.ask.json {
        print_json(&view)?;
    } else {
        println_to_stdout(tables::reconciliation(&view, drawing()).trim_end())?;
    }
    Ok(u8::from(!view.agrees))
}

async fn compared(ledger: &Ledger, store: &Store) -> anyhow::Result<ReconciliationView> {
    let before = ledger.accounts().await?;
    let counted = store.count().await?;
    let publishers = compare(&before, &counted, &ledger.accounts().await?);
    Ok(ReconciliationView {
        agrees: publishers.iter().all(|publisher| publisher.difference == 0),
        exact: publishers.iter().all(|publisher| publisher.exact),
        ledger: ledger.name(),
        store: store.name(),
        publishers,
    })
}

async fn places(args: &LedgerArgs, settings: &Settings) -> anyhow::Result<(Ledger, Store)> {
    let journal = assemble::journal(settings);
    let influx = assemble::influx(settings);
    let monitor = monitor(&args.ask)?;
    let (ledger, has_sink) = match monitor.ledger().await {
        Ok(view) => {
            let url = args.ask.url.as_str().trim_end_matches('/').to_owned();
            (Ledger::Monitor(monitor, url), view.sinks.iter().any(|sink| sink.name == "influxdb"))
        }
        Err(AskError::Unreachable { .. }) if journal.path.exists() => {
            (Ledger::Journal(journal.path.clone(), influx.is_some()), influx.is_some())
        }
        Err(error) => return Err(error.into()),
    };
    let store = match (has_sink, influx) {
        (true, Some(influx)) => Store::influx(influx)?,
        (true, None) => anyhow::bail!(
            "the monitor writes to an InfluxDB: name it with --influx-url and --influx-db, or with the monitor's --config"
        ),
        (false, _) => Store::Journal(journal.path),
    };
    Ok((ledger, store))
}
