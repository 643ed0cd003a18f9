//! The watchdog's table alone, with the real clock and its real queue of deadlines: heartbeats a second,
//! memory a publisher, and how late verdicts are while everybody beats and a tenth falls silent at once.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::broadcast;

use super::processes::resident_bytes;
use super::programs::whole;
use crate::actors::watchdog::{Table, WatchdogConfig};
use crate::console::tables::{self, Drawing};
use crate::domain::beat::{Beat, BeatKind, Heartbeat};
use crate::domain::deadline::DeadlineRules;
use crate::domain::publisher::{HostName, Incarnation, PublisherId};
use crate::domain::verdict::Verdict;
use crate::domain::watch::Home;
use crate::messages::beats::Hearing;
use crate::roles::ask::drawing;
use crate::roles::cli::WatchBenchArgs;
use crate::runtime::clock::Clock;

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

/// One size.
#[derive(Debug, Clone, serde::Serialize)]
struct Measured {
    publishers: usize,
    beats_per_second: f64,
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
    for publishers in &args.publishers {
        let this = measure(*publishers).await?;
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

async fn measure(publishers: usize) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let host = HostName::parse("bench")?;
    let before = resident_bytes(std::process::id())?;
    let mut config = WatchdogConfig::new(Home { host: host.clone(), boot_id: None });
    config.rules = DeadlineRules { default: DEADLINE, ..DeadlineRules::default() };
    let (live, _) = broadcast::channel(1);
    let mut watched = Table::new(config, clock, &[], 0, live);
    watched.hearing(&Hearing { connected: true, at: clock.monotonic(), reason: String::new() });
    let mut batch = Vec::with_capacity(BATCH_BEATS);
    // Everybody is heard for the first time; the changes are taken as the writer would take them.
    for from in (0..publishers).step_by(BATCH_BEATS) {
        fill(&mut batch, (from..publishers).take(BATCH_BEATS), &host, clock)?;
        watched.hear(&batch, clock.monotonic(), clock.wall());
        forget_changes(&mut watched);
    }
    let after = resident_bytes(std::process::id())?;
    let bytes_per_publisher = whole(after.saturating_sub(before)) / whole(publishers as u64);

    // The beats are made before the clock runs: reading them from messages is the subscriber's work.
    let sample = publishers.min(64 * BATCH_BEATS);
    let stride = (publishers / sample).max(1);
    let mut beats = Vec::with_capacity(sample);
    fill(&mut beats, (0..publishers).step_by(stride).take(sample), &host, clock)?;
    let (mut heard, start) = (0, clock.monotonic());
    while heard < BEATS_MEASURED_MIN {
        for batch in beats.chunks(BATCH_BEATS) {
            watched.hear(batch, clock.monotonic(), clock.wall());
            heard += batch.len();
        }
    }
    let beats_per_second = whole(heard as u64) / clock.monotonic().since(start).as_secs_f64();
    drop(beats);
    forget_changes(&mut watched);

    // All are heard once more; from then on every tenth is silent and the others go on.
    let mut late_ms = Vec::new();
    let died = publishers.div_ceil(SILENT_ONE_OF);
    let end = clock.monotonic() + DEADLINE + LATE_MAX;
    let (mut next, mut round_start, mut first_round) = (0, clock.monotonic(), true);
    let mut judged = 0;
    while judged < died && clock.monotonic() < end {
        // Spread over the interval, as many real publishers are.
        let due =
            clock.monotonic().since(round_start).as_secs_f64() / INTERVAL.as_secs_f64() * whole(publishers as u64);
        if whole(next as u64) < due.min(whole(publishers as u64)) {
            let ids = (next..publishers).take(BATCH_BEATS).filter(|id| first_round || id % SILENT_ONE_OF != 0);
            fill(&mut batch, ids, &host, clock)?;
            watched.hear(&batch, clock.monotonic(), clock.wall());
            next = (next + BATCH_BEATS).min(publishers);
        } else if next >= publishers && clock.monotonic().since(round_start) >= INTERVAL {
            (next, round_start, first_round) = (0, clock.monotonic(), false);
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // As the actor does: all that is due, and then whatever else waits. The actor is polled again at once when
        // tokio's budget of timers for one turn is used up; here a turn has none.
        tokio::task::unconstrained(poll_fn(|task| {
            while watched.poll_due(task, clock.monotonic(), clock.wall()).is_ready() {}
            Poll::Ready(())
        }))
        .await;
        let changes = watched.changes_to_hand_on(usize::MAX);
        for change in changes.iter().filter(|change| change.to == Verdict::Silent) {
            judged += 1;
            late_ms.push(whole(u64::try_from(change.decided_at.as_nanos() - change.at.as_nanos())?) / 1e6);
        }
        watched.handed_on(changes.len());
        tokio::task::yield_now().await;
    }
    late_ms.sort_by(f64::total_cmp);
    let at = |part: usize| late_ms.get((late_ms.len().saturating_sub(1)) * part / 100).copied().unwrap_or(f64::NAN);
    Ok(Measured {
        publishers,
        beats_per_second,
        bytes_per_publisher,
        died,
        judged,
        late_median_ms: at(50),
        late_p99_ms: at(99),
        late_max_ms: at(100),
    })
}

fn forget_changes(watched: &mut Table) {
    let count = watched.changes_to_hand_on(usize::MAX).len();
    watched.handed_on(count);
}

/// Heartbeats of these publishers, now. Without a process: nobody is asked about anybody.
fn fill(batch: &mut Vec<Beat>, ids: impl Iterator<Item = usize>, host: &HostName, clock: Clock) -> anyhow::Result<()> {
    batch.clear();
    for id in ids {
        batch.push(Beat {
            publisher: PublisherId::parse(&format!("publisher-{id}"))?,
            host: host.clone(),
            at: clock.monotonic(),
            wall: clock.wall(),
            kind: BeatKind::Heartbeat(Box::new(Heartbeat::idle(Incarnation(1), INTERVAL))),
        });
    }
    Ok(())
}

fn table(measured: &[Measured], drawing: Drawing) -> String {
    let titles = ["PUBLISHERS", "BEATS/S", "BYTES EACH", "SILENT", "JUDGED", "LATE MEDIAN", "P99", "MAX"];
    let rows = measured.iter().map(|m| {
        vec![
            m.publishers.to_string(),
            format!("{:.0}", m.beats_per_second),
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
