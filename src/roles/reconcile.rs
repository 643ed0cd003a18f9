//! `heartwatch ledger --reconcile`: the ledger against the rows themselves, counted where they are stored.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use super::cli::LedgerArgs;
use super::client::{print_json, println_to_stdout};
use super::export::{OWN_PREFIX, is_reading};
use crate::config::Settings;
use crate::roles::client::monitor;
use heartwatch_adapters::influx::{InfluxConfig, InfluxReader};
use heartwatch_adapters::monitor::{AskError, Monitor};
use heartwatch_console::drawing;
use heartwatch_console::tables;
use heartwatch_domain::error_metric::{Numbered, numbered};
use heartwatch_domain::ledger::LedgerLine;
use heartwatch_domain::ledger::{Account, reconcile as compare};
use heartwatch_domain::publisher::Incarnation;
use heartwatch_domain::time::Timestamp;
use heartwatch_formats::api::ReconciliationView;
use heartwatch_formats::line_protocol::{Rows, decode};
use heartwatch_store::journal::{self, HistoryFile};

/// Wait between two comparisons while rows are on their way.
const COMPARE_EVERY: Duration = Duration::from_millis(250);

/// Rows of each publisher.
pub(super) type Counts = BTreeMap<String, u64>;

/// Where rows are counted.
#[derive(Debug, Clone)]
pub(super) enum Store {
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
    pub(super) fn influx(config: InfluxConfig) -> anyhow::Result<Self> {
        let name = format!("{} (database {})", config.url.as_str().trim_end_matches('/'), config.database);
        Ok(Self::Influx(InfluxReader::new(config)?, name))
    }

    /// Counts the readings of every publisher: all measurements except heartwatch's own, and of
    /// error metrics those rows that a source has caused.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) async fn count(&self) -> anyhow::Result<Counts> {
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

/// What is counted of a measurement; none where none of its rows is in an account. The flag: only values above 0.
fn counted(measurement: &str) -> Option<bool> {
    match numbered(measurement) {
        Numbered::None => None,
        _ if measurement.starts_with(OWN_PREFIX) => None,
        which => Some(which == Numbered::AboveZero),
    }
}

async fn count_in_influx(reader: &InfluxReader) -> anyhow::Result<Counts> {
    let mut counts = Counts::new();
    for measurement in reader.measurements().await? {
        let Some(above_zero) = counted(&measurement) else { continue };
        for (publisher, rows) in reader.count_by_publisher(&measurement, above_zero).await? {
            *counts.entry(publisher).or_default() += rows;
        }
    }
    Ok(counts)
}

/// Counts the rows of one publisher by reading them, from a time on where one is given.
async fn count_rows(reader: &InfluxReader, publisher: &str, from: Option<Timestamp>) -> anyhow::Result<u64> {
    let mut rows = 0;
    for measurement in reader.measurements().await? {
        if let Some(above_zero) = counted(&measurement) {
            rows += reader.count_rows(&measurement, above_zero, publisher, from).await?;
        }
    }
    Ok(rows)
}

fn count_in_journal(path: &Path) -> anyhow::Result<Counts> {
    let mut counts = Counts::new();
    let mut history = HistoryFile::open(path, None, None).context("name the monitor's --data-dir")?.here_alone();
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

/// The accounts, as the store has to have them.
#[derive(Default)]
struct Accounts {
    by_publisher: BTreeMap<String, Account>,
    /// Publishers with rows that no life has numbered and no other ones: from when on they are in the account.
    from: BTreeMap<String, Option<Timestamp>>,
    /// Since when the ledger knows whose such rows are.
    since: Option<Timestamp>,
}

impl Accounts {
    fn new(lines: Vec<LedgerLine>, since: Option<Timestamp>, store: &Store) -> Self {
        let mut accounts = Self { since, ..Self::default() };
        for line in lines {
            let LedgerLine { publisher, incarnation, account, stored_here, merged, unnumbered_from } = line;
            let stored = match store {
                Store::Influx(..) => account.stored.saturating_sub(stored_here).saturating_sub(merged),
                Store::Journal(_) => stored_here,
            };
            let publisher = publisher.to_string();
            if incarnation == Incarnation::UNNUMBERED && !accounts.by_publisher.contains_key(&publisher) {
                accounts.from.insert(publisher.clone(), unnumbered_from);
            } else {
                accounts.from.remove(&publisher);
            }
            let sum = accounts.by_publisher.entry(publisher).or_default();
            *sum = sum.plus(Account { stored, ..account });
        }
        accounts
    }

    /// From when on a publisher's rows are counted: an earlier version has stored those of devices without knowing
    /// whose they are, and so has another monitor those that this ledger knows nothing of.
    fn counted_from(&self, publisher: &str) -> Option<Timestamp> {
        match self.by_publisher.contains_key(publisher) {
            true => self.from.get(publisher)?.or(self.since),
            false => self.since,
        }
    }
}

impl Ledger {
    async fn accounts(&self, store: &Store) -> anyhow::Result<Accounts> {
        Ok(match self {
            Self::Monitor(monitor, _) => {
                let view = monitor.ledger().await?;
                Accounts::new(view.accounts, view.since, store)
            }
            Self::Journal(path, has_sink) => {
                let snapshot = journal::snapshot(path, *has_sink)?;
                Accounts::new(snapshot.accounts, snapshot.since, store)
            }
        })
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
pub(super) async fn reconcile(args: &LedgerArgs, settings: &Settings) -> anyhow::Result<u8> {
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
    let before = ledger.accounts(store).await?;
    let (mut counted, mut older_rows) = (store.count().await?, 0_u64);
    let mut after = ledger.accounts(store).await?;
    if let Store::Influx(reader, _) = store {
        let disagree = compare(&before.by_publisher, &counted, &after.by_publisher);
        let disagree =
            |publisher: &String| disagree.iter().any(|one| one.publisher == *publisher && one.difference != 0);
        let publishers = counted.keys().filter(|who| before.counted_from(who).is_some() || disagree(who));
        let publishers: Vec<String> = publishers.cloned().collect();
        for publisher in publishers {
            let rows = count_rows(reader, &publisher, before.counted_from(&publisher)).await?;
            let all = counted.get(&publisher).copied().unwrap_or(0);
            older_rows = older_rows.saturating_add(all.saturating_sub(rows));
            if rows == 0 && !after.by_publisher.contains_key(&publisher) {
                counted.remove(&publisher);
            } else {
                counted.insert(publisher, rows);
            }
        }
        after = ledger.accounts(store).await?;
    }
    let publishers = compare(&before.by_publisher, &counted, &after.by_publisher);
    Ok(ReconciliationView {
        agrees: publishers.iter().all(|publisher| publisher.difference == 0),
        exact: publishers.iter().all(|publisher| publisher.exact),
        ledger: ledger.name(),
        store: store.name(),
        publishers,
        older_rows,
    })
}

async fn places(args: &LedgerArgs, settings: &Settings) -> anyhow::Result<(Ledger, Store)> {
    let journal = settings.journal();
    let influx = settings.influx.clone();
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
