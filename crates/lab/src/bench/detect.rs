//! How fast the monitor knows: from SIGKILL to the verdict, from a deadline to its verdict, and until
//! the verdict has come out of the page's stream; with few and with many others that beat meanwhile.
//!
//! Those that are killed are processes. Those that fall silent and the others are simulated, over one connection each: the others
//! are there for what the monitor has to do besides.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use rumqttc::{Event, Packet, QoS};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::footprint::beat;
use super::load::client;
use super::programs::{RunningMonitor, directory, heartwatch, whole};
use crate::args::DetectBenchArgs;
use heartwatch_adapters::monitor::Monitor;
use heartwatch_console::drawing;
use heartwatch_console::tables::{self, Drawing};
use heartwatch_domain::beat::Heartbeat;
use heartwatch_domain::publisher::{HostName, Incarnation, PublisherId};
use heartwatch_domain::time::Timestamp;
use heartwatch_domain::verdict::{Change, Trigger, Verdict};
use heartwatch_formats::envelope::{HeartbeatNote, Prefix, TopicKind, encode_heartbeat};
use heartwatch_system::clock::Clock;

/// How long a publisher may be silent.
const DEADLINE: Duration = Duration::from_secs(2);
/// What each promises.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long one verdict may take.
const VERDICT_TIMEOUT: Duration = Duration::from_secs(30);
/// Verdict changes that wait to be looked at.
const CHANGES_WAITING_MAX: usize = 10_000;

/// A verdict change and when it came out of the stream.
type Seen = (Change, Timestamp);

/// One line of the table.
#[derive(Debug, serde::Serialize)]
struct DetectFigures {
    others: usize,
    what: &'static str,
    times: usize,
    median_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

impl DetectFigures {
    fn of(others: usize, what: &'static str, mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let at = |part: usize| times.get((times.len().saturating_sub(1)) * part / 100).copied().unwrap_or(f64::NAN);
        Self { others, what, times: times.len(), median_ms: at(50), p99_ms: at(99), max_ms: at(100) }
    }
}

/// Kills publishers, has others fall silent, and prints how long it took to know.
pub(super) async fn detect(args: &DetectBenchArgs) -> anyhow::Result<u8> {
    let mut measured = Vec::new();
    for others in &args.others {
        for line in measure(*others, args).await? {
            anyhow::ensure!(line.times > 0, "{}: not one was measured", line.what);
            if args.json {
                println!("{}", serde_json::to_string(&line)?);
            }
            measured.push(line);
        }
        if !args.json {
            eprintln!("beside {others} others measured");
        }
    }
    if !args.json {
        print!("{}", table(&measured, drawing()));
    }
    Ok(0)
}

/// With so many others that beat.
async fn measure(others: usize, args: &DetectBenchArgs) -> anyhow::Result<[DetectFigures; 4]> {
    let directory = directory(&std::env::temp_dir())?;
    let csv = directory.path().join("light.csv");
    std::fs::write(&csv, include_str!("../../../../fixtures/light-1.csv"))?;
    let config = directory.path().join("heartwatch.toml");
    std::fs::write(&config, format!("[watch]\ndeadline = '{}ms'\n", DEADLINE.as_millis()))?;
    let monitor = RunningMonitor::start(directory.path(), None, None).await?;
    let beating = actix_rt::spawn(beat(monitor.mqtt_url.clone(), others));
    let clock = Clock::start();
    let newest = all_heard(&monitor, others).await?;
    let (sender, mut changes) = mpsc::channel(CHANGES_WAITING_MAX);
    let follows = listen(monitor.monitor.clone(), newest, sender, clock);
    let listening = actix_rt::spawn(async move {
        let Err(error) = follows.await;
        eprintln!("the changes are not followed any more: {error:#}");
    });
    let mut known: HashMap<PublisherId, Child> = HashMap::new();
    let (mut kill_known, mut kill_seen) = (Vec::new(), Vec::new());
    let (mut deadline_known, mut deadline_seen) = (Vec::new(), Vec::new());
    for round in 0..args.rounds {
        for number in 0..args.publishers {
            let id = PublisherId::parse(&format!("killed-{number}"))?;
            let mut command = heartwatch(directory.path())?;
            command.args(["publish", "--id", id.as_str(), "--csv"]).arg(&csv);
            command.args(["--mqtt", &monitor.mqtt_url, "--interval", "500ms", "--heartbeat", "500ms"]);
            command.args(["--data-dir", &format!("publisher-{number}")]);
            known.insert(id, command.spawn().context("cannot start a publisher")?);
        }
        wait(&mut changes, known.keys().cloned().collect(), Verdict::Alive).await?;
        let silent = fall_silent(&monitor.mqtt_url, round, args.publishers, clock).await?;
        for (change, seen) in wait(&mut changes, silent, Verdict::Silent).await? {
            if change.trigger == Trigger::Deadline {
                deadline_known.push(milliseconds(change.at, change.decided_at));
                deadline_seen.push(milliseconds(change.at, seen));
            }
        }
        for (id, mut child) in std::mem::take(&mut known) {
            let killed_at = clock.wall();
            signal(&child, Signal::KILL)?;
            for (change, seen) in wait(&mut changes, vec![id], Verdict::Dead).await? {
                kill_known.push(milliseconds(killed_at, change.decided_at));
                kill_seen.push(milliseconds(killed_at, seen));
            }
            child.wait().await?;
        }
    }
    listening.abort();
    anyhow::ensure!(!beating.is_finished(), "the others do not beat any more");
    beating.abort();
    monitor.stop().await?;
    Ok([
        DetectFigures::of(others, "SIGKILL to verdict", kill_known),
        DetectFigures::of(others, "SIGKILL to the page", kill_seen),
        DetectFigures::of(others, "deadline to verdict", deadline_known),
        DetectFigures::of(others, "deadline to the page", deadline_seen),
    ])
}

/// Sends on every change after an epoch and when it came, also what the stream has left out because thousands came at once.
async fn listen(
    monitor: Monitor,
    mut epoch: u64,
    changes: mpsc::Sender<Seen>,
    clock: Clock,
) -> anyhow::Result<Infallible> {
    loop {
        let mut stream = std::pin::pin!(monitor.follow(epoch).await?);
        while let Some(change) = stream.next().await {
            epoch = change.epoch;
            changes.send((change, clock.wall())).await?;
        }
        eprintln!("changes came faster than they were read: those that were missed are asked for");
        for change in monitor.changes(epoch).await? {
            epoch = change.epoch;
            changes.send((change, clock.wall())).await?;
        }
    }
}

/// Waits until the monitor has heard so many, and says which change was the last one.
async fn all_heard(monitor: &RunningMonitor, publishers: usize) -> anyhow::Result<u64> {
    let end = Instant::now() + VERDICT_TIMEOUT;
    while monitor.monitor.status().await?.publishers.len() < publishers {
        anyhow::ensure!(Instant::now() < end, "not all {publishers} others were heard within {VERDICT_TIMEOUT:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let mut newest = 0;
    while let Some(change) = monitor.monitor.changes(newest).await?.last() {
        newest = change.epoch;
    }
    Ok(newest)
}

/// Publishers without a process that say once that they live, and then nothing: who they are.
async fn fall_silent(url: &str, round: usize, count: usize, clock: Clock) -> anyhow::Result<Vec<PublisherId>> {
    let (client, mut connection) = client(url, "heartwatch-bench-silent")?;
    let (prefix, host) = (Prefix::default(), HostName::parse("bench")?);
    let mut silent = Vec::new();
    for number in 0..count {
        let id = PublisherId::parse(&format!("silent-{round}-{number}"))?;
        let incarnation = Incarnation(u64::try_from(clock.wall().as_nanos() / 1_000)?);
        let note = HeartbeatNote::new(host.clone(), Heartbeat::idle(incarnation, INTERVAL));
        let payload = encode_heartbeat(&note);
        client.publish(prefix.topic(&id, TopicKind::Heartbeat), QoS::AtLeastOnce, false, payload).await?;
        silent.push(id);
    }
    let mut unconfirmed = count;
    while unconfirmed > 0 {
        if matches!(connection.poll().await?, Event::Incoming(Packet::PubAck(_))) {
            unconfirmed -= 1;
        }
    }
    Ok(silent)
}

/// The first change to this verdict of each of these, from now on.
async fn wait(
    changes: &mut mpsc::Receiver<Seen>,
    mut of: Vec<PublisherId>,
    verdict: Verdict,
) -> anyhow::Result<Vec<Seen>> {
    let (end, mut found) = (Instant::now() + VERDICT_TIMEOUT, Vec::new());
    let mut others = 0_usize;
    while let Some(first) = of.first() {
        let still = format!("{} publishers ({first} first) are not {verdict}", of.len());
        let next = tokio::time::timeout_at(end, changes.recv()).await;
        let next = next.with_context(|| format!("after {VERDICT_TIMEOUT:?} {still}; {others} other changes came"))?;
        let (change, seen) = next.with_context(|| format!("the monitor's stream of changes has ended, and {still}"))?;
        others += 1;
        if change.to == verdict {
            let before = of.len();
            of.retain(|id| *id != change.publisher);
            if of.len() < before {
                others -= 1;
                found.push((change, seen));
            }
        }
    }
    Ok(found)
}

fn signal(child: &Child, signal: Signal) -> anyhow::Result<()> {
    let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).context("a publisher has ended")?;
    Ok(kill_process(pid, signal)?)
}

fn milliseconds(from: Timestamp, to: Timestamp) -> f64 {
    whole(u64::try_from(to.as_nanos() - from.as_nanos()).unwrap_or(0)) / 1e6
}

fn table(measured: &[DetectFigures], drawing: Drawing) -> String {
    let rows = measured.iter().map(|m| {
        vec![
            m.others.to_string(),
            m.what.to_owned(),
            m.times.to_string(),
            format!("{:.1} ms", m.median_ms),
            format!("{:.1} ms", m.p99_ms),
            format!("{:.1} ms", m.max_ms),
        ]
    });
    tables::plain(&["OTHERS", "WHAT", "TIMES", "MEDIAN", "P99", "MAX"], rows, drawing)
}
