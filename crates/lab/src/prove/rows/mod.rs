//! `heartwatch prove --rows`: real programs, faults in an order that follows from a seed, and after each
//! round a count of every single row in the store against what was produced.
//!
//! A round: publishers publish, faults begin within a few seconds of each other and heal; then everything is
//! healed, the publishers go quiet, and once the ledger says that nothing is missing or on its way any more,
//! each reading has to be in the store exactly once, or the ledger has to call it lost, with the reason.

mod audit;
mod by_hand;
mod chance;
mod damage;
mod faults;
mod full_disk;
mod influx_line;
mod kinds;
mod outbox_file;
mod plan;
mod play;
mod publisher;
mod report;
mod tally;
mod testbed;
mod truth;
mod wrong_clock;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;

use anyhow::Context as _;
use futures_util::future::join_all;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::full_disk::FullDisk;
use self::kinds::{Equipment, RowFault};
use self::plan::Plan;
use self::play::play;
use self::report::Report;
use self::testbed::{PUBLISHERS, Programs, Testbed};
use crate::args::ProveArgs;
use crate::prove::directory;
use heartwatch_console::drawing;
use heartwatch_servers::{find, find_library};
use heartwatch_system::signals::{Request, told_to_end};

/// How often a stage is started: another program may take a port that was free a moment before.
const STARTS_MAX: u32 = 3;

/// Injects the faults and prints what became of the rows; the answer is the exit code: 1 when a row is lost
/// unnamed or doubled, or something else is wrong; 3 when nothing is, and not every fault could be injected and counted.
///
/// # Errors
/// When it cannot begin, or a signal ended it.
pub(super) async fn prove(args: &ProveArgs, mut requests: mpsc::Receiver<Request>) -> anyhow::Result<u8> {
    let begin = Instant::now();
    let folder = directory(args.data_dir.as_deref(), args.keep)?;
    let influxd = args.influxd.clone().or_else(|| find("influxd"));
    let mosquitto = args.mosquitto.clone().or_else(|| find("mosquitto"));
    let heartwatch = std::env::current_exe().context("cannot find this program")?;
    let faketime = find_library("libfaketimeMT.so.1");
    let mut lacking = BTreeMap::new();
    if faketime.is_none() {
        let reason = "libfaketime is not installed, and without it the clock of the whole machine would be set";
        lacking.insert(RowFault::ClockStep, reason);
    }
    if !FullDisk::is_possible(&folder.path().join("full-disk")) {
        lacking.insert(RowFault::DiskFullAtStart, "a disk of its own takes root to mount");
    }
    let (stages, skipped) = stages(influxd.is_some(), mosquitto.is_some(), lacking);
    let kinds: Vec<_> = stages.iter().map(|stage| stage.kinds.clone()).collect();
    let plan = Plan::new(args.faults, args.seed, &kinds);
    let progress = progress(args)?;
    let work = plan.stages.iter().zip(&stages).map(|(rounds, stage)| {
        let TestbedPlan { name, equipment, .. } = *stage;
        let mosquitto = mosquitto.clone().filter(|_| equipment.own_broker);
        let influxd = influxd.clone().filter(|_| equipment.influxdb);
        let programs = Programs { heartwatch: heartwatch.clone(), influxd, mosquitto, faketime: faketime.clone() };
        let folder = folder.path().join(name);
        let progress = &progress;
        async move {
            let publishers = args.publishers.unwrap_or(PUBLISHERS);
            let mut stage = Testbed::start(name, &folder, &programs, publishers).await;
            for _ in 1..STARTS_MAX {
                if stage.is_err() {
                    let _ = std::fs::remove_dir_all(&folder);
                    stage = Testbed::start(name, &folder, &programs, publishers).await;
                }
            }
            play(name, stage, rounds, args.seed, progress).await
        }
    });
    let findings = tokio::select! {
        findings = join_all(work) => findings,
        () = told_to_end(&mut requests) => anyhow::bail!("ended by a signal before all faults were injected"),
    };
    progress.finish_and_clear();
    let store = if influxd.is_some() { "influxdb" } else { "embedded" };
    let stages = stages.iter().map(|stage| stage.name).collect();
    let report = Report::new(args, (store, stages), findings, skipped, begin.elapsed());
    if args.json {
        anstream::println!("{}", serde_json::to_string(&report)?);
    } else {
        anstream::println!("{}", report.text(drawing()).trim_end());
    }
    if args.keep || args.data_dir.is_some() {
        anstream::eprintln!("the data and the logs are in {}", folder.path().display());
    }
    Ok(report.exit_code())
}

/// A stage, what there is on it, and the kinds of faults that are possible on it.
struct TestbedPlan {
    name: &'static str,
    equipment: Equipment,
    kinds: Vec<RowFault>,
}

/// The stages, and why some kinds are possible on none of them.
fn stages(
    influxdb: bool,
    mosquitto: bool,
    lacking: BTreeMap<RowFault, &'static str>,
) -> (Vec<TestbedPlan>, BTreeMap<RowFault, &'static str>) {
    let mut equipped = vec![("embedded", Equipment { influxdb, own_broker: false })];
    if mosquitto {
        equipped.push(("mosquitto", Equipment { influxdb, own_broker: true }));
    }
    if influxdb {
        // without InfluxDB the first stage is this one
        equipped.push(("kept-here", Equipment { influxdb: false, own_broker: false }));
    }
    let mut skipped = lacking;
    for kind in RowFault::ALL {
        if !equipped.iter().any(|(_, equipment)| kind.is_possible_with(*equipment)) {
            let reason = if kind.needs_influxdb() {
                "influxd is not installed: rows are counted in the embedded store"
            } else {
                "mosquitto is not installed, and the embedded broker is the monitor itself"
            };
            skipped.insert(kind, reason);
        }
    }
    let stages = equipped.into_iter().map(|(name, equipment)| {
        // the same: where the journal is the store
        let is_known = |kind: &RowFault| !equipment.influxdb && kind.damages_journal();
        let possible =
            |kind: &RowFault| kind.is_possible_with(equipment) && !skipped.contains_key(kind) && !is_known(kind);
        TestbedPlan { name, equipment, kinds: RowFault::ALL.into_iter().filter(possible).collect() }
    });
    (stages.collect(), skipped)
}

fn progress(args: &ProveArgs) -> anyhow::Result<ProgressBar> {
    let shown = std::io::stderr().is_terminal() && !args.json;
    let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let progress = ProgressBar::with_draw_target(Some(u64::from(args.faults)), target);
    progress.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} faults, {eta} left  {msg}")?);
    Ok(progress)
}
