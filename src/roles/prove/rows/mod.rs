//! `heartwatch prove --rows`: real programs, faults in an order that follows from a seed, and after each
//! round a count of every single row in the store against what was produced.
//!
//! A round: publishers publish, faults begin within a few seconds of each other and heal; then everything is
//! healed, the publishers go quiet, and once the ledger says that nothing is missing or on its way any more,
//! each reading has to be in the store exactly once, or the ledger has to call it lost, with the reason.

mod audit;
mod daemon;
mod faults;
mod influx_line;
mod plan;
mod publisher;
mod report;
mod stage;
mod truth;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::{join_all, try_join_all};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::audit::{Tally, audit};
use self::plan::{Plan, Round, RowFault};
use self::publisher::Mode;
use self::report::{Outcome, Report};
use self::stage::{PUBLISHERS, Programs, Stage};
use super::folder::Folder;
use super::program::{find, find_library};
use crate::buffer::outbox;
use crate::roles::ask::drawing;
use crate::roles::cli::ProveArgs;
use crate::runtime::signals::{Request, told_to_end};

/// How long after healing every row has to be stored or named.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(90);
/// How often it is looked at whether it is so.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a publisher may take to end in order when a round is over.
const END_TIMEOUT: Duration = Duration::from_secs(12);

/// What one stage has found.
#[derive(Default)]
struct Findings {
    outcomes: Vec<Outcome>,
    /// The last count.
    tally: Tally,
    complaints: Vec<String>,
}

/// Injects the faults and prints what became of the rows; the answer is the exit code: 1 when a row is lost
/// unnamed or doubled, or something else is wrong.
///
/// # Errors
/// When a part cannot be started, or a signal ended it.
pub(super) async fn prove(args: &ProveArgs, mut requests: mpsc::Receiver<Request>) -> anyhow::Result<u8> {
    let begin = Instant::now();
    let folder = Folder::new(args.data_dir.as_deref(), args.keep)?;
    let influxd = args.influxd.clone().or_else(|| find("influxd"));
    let mosquitto = args.mosquitto.clone().or_else(|| find("mosquitto"));
    let heartwatch = std::env::current_exe().context("cannot find this program")?;
    let faketime = find_library("libfaketimeMT.so.1");
    let (stages, skipped) = stages(influxd.is_some(), mosquitto.is_some(), faketime.is_some());
    let kinds: Vec<_> = stages.iter().map(|(_, kinds)| kinds.clone()).collect();
    let plan = Plan::new(args.faults, args.seed, &kinds);
    let progress = progress(args)?;
    let work = plan.stages.iter().zip(&stages).map(|(rounds, (name, _))| {
        let mosquitto = mosquitto.clone().filter(|_| *name == "mosquitto");
        let (heartwatch, influxd, faketime) = (heartwatch.clone(), influxd.clone(), faketime.clone());
        let programs = Programs { heartwatch, influxd, mosquitto, faketime };
        let folder = folder.path.join(name);
        let progress = &progress;
        async move {
            let stage = Stage::start(name, &folder, &programs, args.publishers.unwrap_or(PUBLISHERS)).await?;
            play(&stage, rounds, args.seed, progress).await
        }
    });
    let findings = tokio::select! {
        findings = try_join_all(work) => findings?,
        () = told_to_end(&mut requests) => anyhow::bail!("ended by a signal before all faults were injected"),
    };
    progress.finish_and_clear();
    let outcomes: Vec<_> = findings.iter().flat_map(|found| found.outcomes.clone()).collect();
    let tally = findings.iter().fold(Tally::default(), |sum, found| sum.plus(found.tally));
    let complaints = findings.into_iter().flat_map(|found| found.complaints).collect();
    let store = if influxd.is_some() { "influxdb" } else { "embedded" };
    let brokers = stages.iter().map(|(name, _)| *name).collect();
    let report = Report::new(args, (store, brokers), (&outcomes, tally), skipped, complaints, begin.elapsed());
    if args.json {
        anstream::println!("{}", serde_json::to_string(&report)?);
    } else {
        anstream::println!("{}", report.text(drawing()).trim_end());
    }
    if args.keep || args.data_dir.is_some() {
        anstream::eprintln!("the data and the logs are in {}", folder.path.display());
    }
    Ok(u8::from(!report.passed))
}

/// The name of a broker, and the kinds of faults that are possible on it.
type StagePlan = (&'static str, Vec<RowFault>);

/// The stages, each with the kinds that are possible on it; and why the rest is not.
fn stages(influxdb: bool, mosquitto: bool, faketime: bool) -> (Vec<StagePlan>, BTreeMap<RowFault, &'static str>) {
    let mut skipped = BTreeMap::new();
    if !faketime {
        skipped.insert(
            RowFault::ClockStep,
            "libfaketime is not installed, and without it the clock of the whole machine would be set",
        );
    }
    for kind in RowFault::ALL {
        if kind.needs_influxdb() && !influxdb {
            skipped.insert(kind, "influxd is not installed: rows are counted in the embedded store");
        }
        if kind.needs_mosquitto() && !mosquitto {
            skipped.insert(kind, "mosquitto is not installed, and the embedded broker is the monitor itself");
        }
    }
    let possible = |of_its_own: bool| -> Vec<RowFault> {
        let kinds = RowFault::ALL.into_iter().filter(|kind| !skipped.contains_key(kind));
        kinds.filter(|kind| of_its_own || !kind.needs_mosquitto()).collect()
    };
    let mut stages = vec![("embedded", possible(false))];
    if mosquitto {
        stages.push(("mosquitto", possible(true)));
    }
    (stages, skipped)
}

fn progress(args: &ProveArgs) -> anyhow::Result<ProgressBar> {
    let shown = std::io::stderr().is_terminal() && !args.json;
    let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let progress = ProgressBar::with_draw_target(Some(u64::from(args.faults)), target);
    progress.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} faults, {eta} left  {msg}")?);
    Ok(progress)
}

async fn play(stage: &Stage, rounds: &[Round], seed: u64, progress: &ProgressBar) -> anyhow::Result<Findings> {
    let name = stage.name;
    let mut findings = Findings::default();
    let mut random = fastrand::Rng::with_seed(seed ^ rounds.len() as u64);
    let mut before = Tally::default();
    for (number, round) in rounds.iter().enumerate() {
        progress.set_message(format!("{name}: {}", round.kind.map_or("several at once", RowFault::words)));
        let place = format!("stage {name}, round {} ({})", number + 1, round.kind.map_or("several", RowFault::words));
        for publisher in &stage.publishers {
            let mut state = publisher.state.lock().await;
            publisher.kill(&mut state)?;
            publisher.start(&mut state, faults::mode(random.u64(..)))?;
        }
        let injected = join_all(round.injections.iter().map(|injection| stage.inject(injection))).await;
        for error in injected.into_iter().filter_map(Result::err) {
            findings.complaints.push(format!("{place}: {error:#}"));
        }
        let is_small = round.injections.iter().any(|injection| injection.fault == RowFault::JournalFull);
        let ended = stage.heal(is_small).await.with_context(|| place.clone())?;
        findings.complaints.extend(ended.into_iter().map(|ended| format!("{place}: {ended}")));
        let healed = Instant::now();
        go_quiet(stage, &mut findings, &place).await?;
        let settled = settle(stage).await;
        if let Err(reason) = settled {
            findings.complaints.push(format!("{place}: {reason}"));
        }
        let settled_within = healed.elapsed();
        let mut complaints = Vec::new();
        let tally = audit(stage, &mut complaints).await.with_context(|| place.clone())?;
        let news = tally.since(before);
        if !news.is_whole() {
            findings.complaints.extend(complaints.into_iter().map(|complaint| format!("{place}: {complaint}")));
        }
        if news.lost_named > 0 && !round.injections.iter().any(|injection| injection.fault.destroys()) {
            let lost = news.lost_named;
            findings.complaints.push(format!("{place}: {lost} rows are lost, and nothing was damaged or full"));
        }
        before = tally;
        progress.inc(round.injections.len() as u64);
        findings.outcomes.push(Outcome { round: round.clone(), tally: news, settled_within });
    }
    findings.tally = before;
    Ok(findings)
}

/// Ends the publishers in order and starts each once more, to say what it still knows and to send what it
/// still has.
async fn go_quiet(stage: &Stage, findings: &mut Findings, place: &str) -> anyhow::Result<()> {
    try_join_all(stage.publishers.iter().map(async |publisher| {
        let mut state = publisher.state.lock().await;
        let failure = publisher.failure(&mut state);
        publisher.end(&mut state, END_TIMEOUT).await?;
        publisher.start(&mut state, Mode::Quiet)?;
        anyhow::Ok(failure)
    }))
    .await
    .map(|failures| {
        findings.complaints.extend(failures.into_iter().flatten().map(|failure| format!("{place}: {failure}")));
    })
}

/// Waits until nothing is missing, on its way or in an outbox any more.
async fn settle(stage: &Stage) -> Result<(), String> {
    let end = Instant::now() + SETTLE_TIMEOUT;
    let mut seen_settled = 0;
    loop {
        let unsettled = unsettled(stage).await;
        match unsettled {
            None => seen_settled += 1,
            Some(_) => seen_settled = 0,
        }
        // twice, so that what a publisher says at its start has been heard
        if seen_settled >= 2 {
            return Ok(());
        }
        if let (Some(reason), true) = (unsettled, Instant::now() >= end) {
            return Err(format!("not settled within {SETTLE_TIMEOUT:?}: {reason}"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn unsettled(stage: &Stage) -> Option<String> {
    for publisher in &stage.publishers {
        let mut state = publisher.state.lock().await;
        if let Err(error) = publisher.look(&mut state) {
            return Some(error.to_string());
        }
        if let Some(failure) = publisher.failure(&mut state) {
            return Some(failure);
        }
        let contents = match outbox::contents(&publisher.outbox) {
            Ok(contents) => contents,
            Err(error) => return Some(error.to_string()),
        };
        if !contents.waiting.is_empty() || contents.given_up > 0 {
            return Some(format!("the outbox of {} holds {contents:?}", publisher.id));
        }
        let last = state.truth.lives.last_key_value().map(|(_, life)| life.last);
        if last != Some(1) {
            return Some(format!("{} has not begun its quiet life", publisher.id));
        }
    }
    let view = match stage.api.ledger().await {
        Ok(view) => view,
        Err(error) => return Some(error.to_string()),
    };
    for publisher in &stage.publishers {
        let state = publisher.state.lock().await;
        let Some((incarnation, _)) = state.truth.lives.last_key_value() else { continue };
        let known = view
            .accounts
            .iter()
            .find(|line| line.publisher.as_str() == publisher.id && line.incarnation == *incarnation);
        if known.is_none_or(|line| line.account.produced == 0) {
            return Some(format!("the monitor has not heard of the quiet life of {}", publisher.id));
        }
    }
    let unsettled = view.accounts.iter().find(|line| line.account.missing > 0 || line.account.buffered > 0);
    unsettled.map(|line| format!("{} incarnation {}: {:?}", line.publisher, line.incarnation, line.account))
}
