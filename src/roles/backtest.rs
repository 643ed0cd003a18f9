//! `heartwatch backtest`: the recorded arrivals of a real run against other deadlines.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::cli::BacktestArgs;
use super::client::{print_json, println_to_stdout};
use crate::config::Settings;
use heartwatch_domain::backtest::{DeadlineOutcome, RecordedRun, backtest as live_through};
use heartwatch_domain::deadline::IdPattern;
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::time::{Timestamp, describe_duration};
use heartwatch_formats::line_protocol::{Rows, decode};
use heartwatch_store::journal::{HistoryFile, recorded_changes};

/// The measurement whose rows are arrivals: their time is when the monitor heard them.
const HEARTBEAT: &str = "heartwatch_heartbeat";

/// What `--json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct View {
    publishers: usize,
    arrivals: usize,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    deadlines: Vec<DeadlineOutcome>,
}

/// Reads the journal, also while its monitor runs, and prints what each deadline would have done.
///
/// # Errors
/// When there is no journal, or no arrival in it.
pub(super) fn backtest(args: &BacktestArgs, settings: &Settings) -> anyhow::Result<u8> {
    let path = settings.data_dir.join("journal.sqlite");
    let wanted =
        |publisher: &PublisherId| args.publisher.as_ref().is_none_or(|pattern: &IdPattern| pattern.matches(publisher));
    let mut runs: BTreeMap<PublisherId, RecordedRun> = BTreeMap::new();
    let mut history = HistoryFile::open(&path, args.from, args.to).context("name the monitor's --data-dir")?;
    while let Some(block) = history.next_block()? {
        for row in Rows::of(&block.lines).filter(|line| line.starts_with(HEARTBEAT.as_bytes())) {
            let Ok(row) = decode(row) else { continue };
            let publisher = row.tags.iter().find(|(key, _)| key == "publisher");
            let publisher = publisher.and_then(|(_, publisher)| PublisherId::parse(publisher).ok());
            let in_range =
                |time: &Timestamp| args.from.is_none_or(|from| *time >= from) && args.to.is_none_or(|to| *time < to);
            let time = row.time.filter(in_range).filter(|_| row.measurement == HEARTBEAT);
            let Some((publisher, time)) = publisher.filter(wanted).zip(time) else { continue };
            runs.entry(publisher).or_default().arrivals.push(time);
        }
    }
    for change in recorded_changes(&path)? {
        if let Some(run) = runs.get_mut(&change.publisher) {
            run.changes.push(change);
        }
    }
    let publishers = runs.len();
    let mut runs: Vec<RecordedRun> = runs.into_values().collect();
    let times = || runs.iter().flat_map(|run| &run.arrivals);
    let (arrivals, from, to) = (times().count(), times().min().copied(), times().max().copied());
    let end = to.with_context(|| {
        format!("{} has no heartbeats of that time: what is older than buffer.history is gone", path.display())
    })?;
    let deadlines = live_through(&mut runs, &args.deadline, end);
    let view = View { publishers, arrivals, from, to, deadlines };
    if args.json {
        print_json(&view)?;
    } else {
        println_to_stdout(text(&view).trim_end())?;
    }
    Ok(0)
}

fn text(view: &View) -> String {
    let time = |time: Option<Timestamp>| time.map_or_else(String::new, |time| time.to_string());
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header([
        "deadline",
        "fired",
        "truly",
        "falsely",
        "doubted",
        "missed",
        "sooner (median)",
        "sooner (most)",
    ]);
    let sooner = |millis: Option<f64>| {
        millis.map_or_else(
            || "-".to_owned(),
            |millis| {
                let duration = describe_duration(Duration::from_secs_f64(millis.abs() / 1e3));
                if millis < 0.0 { format!("-{duration}") } else { duration }
            },
        )
    };
    for outcome in &view.deadlines {
        let DeadlineOutcome { deadline_ms, fired, truly, falsely, doubted, missed, sooner_median_ms, sooner_max_ms } =
            outcome;
        let counts = [fired, truly, falsely, doubted, missed].map(ToString::to_string);
        let mut row = vec![describe_duration(Duration::from_millis(*deadline_ms))];
        row.extend(counts);
        row.extend([sooner(*sooner_median_ms), sooner(*sooner_max_ms)]);
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let lines: String = table.to_string().lines().map(|line| format!("{}\n", line.trim_end())).collect();
    format!(
        "{} heartbeats of {} publishers from {} to {}\n\n{lines}\ntruly: the verdicts of that time say that something was wrong; sooner: than they said it\n",
        view.arrivals,
        view.publishers,
        time(view.from),
        time(view.to),
    )
}
