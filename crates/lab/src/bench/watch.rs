//! The watchdog's roster alone, with the real clock and its real queue of deadlines: heartbeats a second,
//! memory a publisher, and how late verdicts are while everybody beats and a tenth falls silent at once.
//!
//! Memory is what the whole program takes more when all of them are known: ids, deadlines, timers, the
//! directory, the last change of each, and what the allocator needs for it. The beats come from all of them, scattered over the
//! roster, since a cache that holds a few thousand publishers says nothing about a million. Each size has a process of
//! its own: what the allocator keeps of one is no part of the next.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;

use super::processes::{cpu_time_of_this_thread, resident_bytes};
use super::programs::{heartwatch, whole};
use crate::args::WatchBenchArgs;
use heartwatch_console::drawing;
use heartwatch_console::tables::{self, Drawing};
use heartwatch_domain::beat::Way;
use heartwatch_domain::beat::{Beat, BeatKind, Heartbeat};
use heartwatch_domain::deadline::DeadlineRules;
use heartwatch_domain::process::ProcessIdentity;
use heartwatch_domain::publisher::{HostName, Incarnation, PublisherId};
use heartwatch_domain::roster::TICK;
use heartwatch_domain::roster::{Roster, RosterConfig};
use heartwatch_domain::self_check::Reception;
use heartwatch_domain::verdict::Verdict;
use heartwatch_domain::watch::LocalHost;
use heartwatch_system::clock::Clock;

/// As many as the subscriber hands over at once.
const BATCH_BEATS: usize = 512;
/// Signs of life that the rate is measured with, at least.
const BEATS_MEASURED_MIN: usize = 4_000_000;
/// How long a publisher may be silent.
const DEADLINE: Duration = Duration::from_secs(8);
/// What each promises: so often it is heard while others die.
const INTERVAL: Duration = Duration::from_secs(3);
/// How long after the deadline the last verdict may come.
const LATE_MAX: Duration = Duration::from_secs(30);
/// One of so many falls silent.
const SILENT_ONE_OF: usize = 10;
/// The boot of their host, as Linux names one.
const BOOT: &str = "ea82c5d3-45b2-4f8c-b0a1-8f9b6d8f2c11";
/// The boot of the monitor's.
const OUR_BOOT: &str = "0b3f7a9c-7d52-4c1e-9a63-2f1d8c5e4b70";
/// A prime: so many places on is the next publisher that is heard, so that none is beside the one before.
const SCATTER: usize = 514_229;

/// One size.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct WatchFigures {
    publishers: usize,
    beats_per_second: f64,
    beats_per_cpu_second: f64,
    bytes_per_publisher: f64,
    died: usize,
    judged: usize,
    late_median_ms: f64,
    late_p99_ms: f64,
    late_max_ms: f64,
}

/// Measures every size and prints the table.
pub(super) async fn watch(args: &WatchBenchArgs) -> anyhow::Result<u8> {
    let mut measured = Vec::new();
    for &publishers in &args.publishers {
        let this = match args.publishers.as_slice() {
            [_] => measure(publishers, args.processes).await?,
            _ => measure_apart(publishers, args.processes).await?,
        };
        if args.json {
            println!("{}", serde_json::to_string(&this)?);
        } else {
            eprintln!("{publishers} publishers measured");
        }
        measured.push(this);
    }
    if !args.json {
        print!("{}", table(&measured, drawing()));
    }
    Ok(0)
}

async fn measure_apart(publishers: usize, processes: bool) -> anyhow::Result<WatchFigures> {
    let mut command = heartwatch(Path::new("."))?;
    command.args(["bench", "watch", "--json", "--publishers", &publishers.to_string()]);
    command.args(processes.then_some("--processes")).stdout(Stdio::piped());
    // Not `output`, which would take what it says of itself, too.
    let output = command.spawn()?.wait_with_output().await?;
    anyhow::ensure!(output.status.success(), "the measurement of {publishers} publishers ended with {}", output.status);
    serde_json::from_slice(&output.stdout).context("the measurement said something unexpected")
}

async fn measure(publishers: usize, processes: bool) -> anyhow::Result<WatchFigures> {
    let clock = Clock::start();
    let made = Made { clock, host: HostName::parse("bench")?, processes };
    let before = resident_bytes(std::process::id())?;
    // Another host than theirs: their processes cannot be asked after.
    let home = LocalHost { host: HostName::parse("monitor")?, boot_id: Some(OUR_BOOT.into()), pid: None };
    let mut config = RosterConfig::new(home);
    config.rules = DeadlineRules { default: DEADLINE, ..DeadlineRules::default() };
    let mut watched = Roster::new(config, &[], 0, clock.monotonic(), clock.wall());
    watched.receives(Way::Mqtt, Reception::Open, "", clock.monotonic());
    let mut batch = Vec::with_capacity(BATCH_BEATS);
    // Everybody is heard for the first time; the changes are taken as the writer would take them.
    for from in (0..publishers).step_by(BATCH_BEATS) {
        made.fill(&mut batch, (from..publishers).take(BATCH_BEATS))?;
        watched.hear(&batch, clock.monotonic(), clock.wall());
        forget_changes(&mut watched);
    }
    let after = resident_bytes(std::process::id())?;
    let bytes_per_publisher = whole(after.saturating_sub(before)) / whole(publishers as u64);

    // The beats of a batch are made while the clock stands: reading them from messages is the subscriber's work.
    let (mut heard, mut took, mut took_cpu) = (0, Duration::ZERO, Duration::ZERO);
    while heard < BEATS_MEASURED_MIN {
        made.fill(&mut batch, (heard..heard + BATCH_BEATS).map(|turn| turn.wrapping_mul(SCATTER) % publishers))?;
        let (start, cpu_start) = (clock.monotonic(), cpu_time_of_this_thread());
        watched.hear(&batch, start, clock.wall());
        took_cpu += cpu_time_of_this_thread().saturating_sub(cpu_start);
        took += clock.monotonic().since(start);
        heard += batch.len();
    }
    let beats_per_second = whole(heard as u64) / took.as_secs_f64();
    let beats_per_cpu_second = whole(heard as u64) / took_cpu.as_secs_f64();
    forget_changes(&mut watched);

    // All are heard once more; from then on every tenth is silent and the others go on.
    let mut late_ms = Vec::new();
    let died = publishers.div_ceil(SILENT_ONE_OF);
    let end = clock.monotonic() + DEADLINE + LATE_MAX;
    let (mut next, mut round_start, mut first_round) = (0, clock.monotonic(), true);
    let (mut judged, mut ticked) = (0, clock.monotonic());
    while judged < died && clock.monotonic() < end {
        // Spread over the interval, as many real publishers are.
        let due =
            clock.monotonic().since(round_start).as_secs_f64() / INTERVAL.as_secs_f64() * whole(publishers as u64);
        if whole(next as u64) < due.min(whole(publishers as u64)) {
            let ids = (next..publishers).take(BATCH_BEATS).filter(|id| first_round || id % SILENT_ONE_OF != 0);
            made.fill(&mut batch, ids)?;
            watched.hear(&batch, clock.monotonic(), clock.wall());
            next = (next + BATCH_BEATS).min(publishers);
        } else if next >= publishers && clock.monotonic().since(round_start) >= INTERVAL {
            (next, round_start, first_round) = (0, clock.monotonic(), false);
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // As the actor does: it notes that it runs; all that is due, and then whatever else waits.
        if clock.monotonic().since(ticked) >= TICK {
            ticked = clock.monotonic();
            watched.tick(ticked, clock.wall());
        }
        loop {
            let began = clock.monotonic();
            if !watched.look(began, clock.wall()) {
                break;
            }
            watched.took(clock.monotonic().since(began));
        }
        let changes = watched.changes_to_record(usize::MAX);
        for change in changes.iter().filter(|change| matches!(change.to, Verdict::Silent | Verdict::Unreachable)) {
            judged += 1;
            late_ms.push(whole(u64::try_from(change.decided_at.as_nanos() - change.at.as_nanos())?) / 1e6);
        }
        watched.recorded(changes.len());
        while watched.next_effect().is_some() {}
        tokio::task::yield_now().await;
    }
    late_ms.sort_by(f64::total_cmp);
    let at = |part: usize| late_ms.get((late_ms.len().saturating_sub(1)) * part / 100).copied().unwrap_or(f64::NAN);
    Ok(WatchFigures {
        publishers,
        beats_per_second,
        beats_per_cpu_second,
        bytes_per_publisher,
        died,
        judged,
        late_median_ms: at(50),
        late_p99_ms: at(99),
        late_max_ms: at(100),
    })
}

fn forget_changes(watched: &mut Roster) {
    let count = watched.changes_to_record(usize::MAX).len();
    watched.recorded(count);
    while watched.next_effect().is_some() {}
}

/// How heartbeats are made.
struct Made {
    clock: Clock,
    host: HostName,
    processes: bool,
}

impl Made {
    /// Heartbeats of these publishers, now.
    fn fill(&self, batch: &mut Vec<Beat>, ids: impl Iterator<Item = usize>) -> anyhow::Result<()> {
        batch.clear();
        for id in ids {
            let process = || {
                anyhow::Ok(ProcessIdentity { pid: u32::try_from(id)?, start_ticks: id as u64, boot_id: BOOT.into() })
            };
            let process = self.processes.then(process).transpose()?;
            batch.push(Beat {
                publisher: PublisherId::parse(&format!("publisher-{id}"))?,
                host: self.host.clone(),
                at: self.clock.monotonic(),
                wall: self.clock.wall(),
                way: Way::Mqtt,
                kind: BeatKind::Heartbeat(Box::new(Heartbeat { process, ..Heartbeat::idle(Incarnation(1), INTERVAL) })),
            });
        }
        Ok(())
    }
}

fn table(measured: &[WatchFigures], drawing: Drawing) -> String {
    let titles =
        ["PUBLISHERS", "BEATS/S", "BEATS/CPU S", "BYTES EACH", "SILENT", "JUDGED", "LATE MEDIAN", "P99", "MAX"];
    let rows = measured.iter().map(|m| {
        vec![
            m.publishers.to_string(),
            format!("{:.0}", m.beats_per_second),
            format!("{:.0}", m.beats_per_cpu_second),
            format!("{:.0}", m.bytes_per_publisher),
            m.died.to_string(),
            m.judged.to_string(),
            format!("{:.1} ms", m.late_median_ms),
            format!("{:.1} ms", m.late_p99_ms),
            format!("{:.1} ms", m.late_max_ms),
        ]
    });
    tables::plain(&titles, rows, drawing)
}
