//! How fast somebody is told: from SIGKILL to the verdict, and on to a webhook, while a dozen publishers are over a
//! rule's limit.
//!
//! Every round has a monitor with the defaults, a data directory of its own and fewer deaths than one target is told
//! one by one in a minute: what is measured is the way, not the limit.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::programs::{RunningMonitor, directory, heartwatch, whole};
use crate::args::NotifyBenchArgs;
use heartwatch_console::drawing;
use heartwatch_console::tables::{self, Drawing};
use heartwatch_domain::time::Timestamp;
use heartwatch_domain::verdict::Verdict;
use heartwatch_system::clock::Clock;

/// So many are over the limit of one rule: more than the messages that a target is sent in a minute.
const OVER_LIMIT: usize = 12;
/// How long one notice may take.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(90);
/// Notices that wait to be looked at.
const NOTICES_WAITING_MAX: usize = 1_000;

/// A message that came, and when.
type Told = (serde_json::Value, Timestamp);

/// One line of the table.
#[derive(Debug, serde::Serialize)]
struct NotifyFigures {
    what: &'static str,
    times: usize,
    median_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

impl NotifyFigures {
    fn of(what: &'static str, mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let at = |part: usize| times.get((times.len().saturating_sub(1)) * part / 100).copied().unwrap_or(f64::NAN);
        Self { what, times: times.len(), median_ms: at(50), p99_ms: at(99), max_ms: at(100) }
    }
}

/// Kills publishers and prints how long it took until the webhook had it.
pub(super) async fn notify(args: &NotifyBenchArgs) -> anyhow::Result<u8> {
    let (mut known, mut on, mut told) = (Vec::new(), Vec::new(), Vec::new());
    let mut messages = 0;
    for number in 1..=args.rounds {
        let round = round(args.kills).await?;
        messages += round.alarm_messages;
        for death in round.deaths {
            known.push(milliseconds(death.killed_at, death.decided_at));
            on.push(milliseconds(death.decided_at, death.told_at));
            told.push(milliseconds(death.killed_at, death.told_at));
        }
        if !args.json {
            eprintln!("round {number} of {} measured", args.rounds);
        }
    }
    let measured = [
        NotifyFigures::of("SIGKILL to verdict", known),
        NotifyFigures::of("verdict to the webhook", on),
        NotifyFigures::of("SIGKILL to the webhook", told),
    ];
    if args.json {
        for line in &measured {
            println!("{}", serde_json::to_string(line)?);
        }
    } else {
        print!("{}", table(&measured, drawing()));
        println!("{OVER_LIMIT} alarms of one rule in each of {} rounds: {messages} messages", args.rounds);
    }
    Ok(0)
}

/// What a round has found.
struct Round {
    alarm_messages: usize,
    deaths: Vec<Death>,
}

/// One death, and when it was known and told.
struct Death {
    killed_at: Timestamp,
    decided_at: Timestamp,
    told_at: Timestamp,
}

async fn round(kills: usize) -> anyhow::Result<Round> {
    let directory = directory(&std::env::temp_dir())?;
    let csv = directory.path().join("light.csv");
    std::fs::write(&csv, include_str!("../../../../fixtures/light-1.csv"))?;
    let (sender, mut received) = mpsc::channel(NOTICES_WAITING_MAX);
    let clock = Clock::start();
    let port = receive(sender, clock)?;
    let config = format!(
        "[[notify]]\nname = 'bench'\nwebhook = 'http://127.0.0.1:{port}/'\n[[rule]]\nname = 'over'\n\
         measurement = 'over'\nwindow = '10s'\nreduce = 'last'\nabove = 0\n"
    );
    std::fs::write(directory.path().join("heartwatch.toml"), config)?;
    let monitor = RunningMonitor::start(directory.path(), None, None).await?;
    let mut over = Vec::new();
    for number in 0..OVER_LIMIT {
        over.push(publisher(directory.path(), &csv, &monitor.mqtt_url, &format!("over-{number}"), "over")?);
    }
    let mut killed = HashMap::new();
    for number in 0..kills {
        let id = format!("killed-{number}");
        killed.insert(id.clone(), publisher(directory.path(), &csv, &monitor.mqtt_url, &id, "light")?);
    }
    // They have to be known before they die, and the alarms have to be told first.
    until_alive(&monitor, OVER_LIMIT + kills).await?;
    let (mut alarms, mut alarm_messages) = (0, 0);
    while alarms < OVER_LIMIT {
        let (told, _) =
            next(&mut received).await.with_context(|| format!("{alarms} of {OVER_LIMIT} alarms are told"))?;
        if told["rule"].is_string() {
            alarm_messages += 1;
            alarms += usize::try_from(told["count"].as_u64().unwrap_or(1))?;
        }
    }
    let mut deaths = Vec::new();
    for (id, mut child) in killed {
        let killed_at = clock.wall();
        let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        kill_process(pid.with_context(|| format!("{id} has ended"))?, Signal::KILL)?;
        let (told, told_at) = loop {
            let told = next(&mut received).await.with_context(|| format!("the death of {id} is not told"))?;
            if told.0["publisher"] == id.as_str() && told.0["to"] == Verdict::Dead.as_str() {
                break told;
            }
        };
        let decided_at = serde_json::from_value(told["decided_at"].clone()).context("a notice without decided_at")?;
        deaths.push(Death { killed_at, decided_at, told_at });
        child.wait().await?;
    }
    monitor.stop().await?;
    Ok(Round { alarm_messages, deaths })
}

/// A webhook's receiver: sends on what comes, and when. Its port.
fn receive(sender: mpsc::Sender<Told>, clock: Clock) -> anyhow::Result<u16> {
    let server = HttpServer::new(move || {
        let sender = sender.clone();
        App::new().default_service(web::to(move |message: web::Json<serde_json::Value>| {
            let (sender, at) = (sender.clone(), clock.wall());
            async move {
                // An error: the round is over.
                let _ = sender.send((message.into_inner(), at)).await;
                HttpResponse::NoContent().finish()
            }
        }))
    });
    let server = server.workers(1).disable_signals().bind(("127.0.0.1", 0)).context("cannot listen on 127.0.0.1")?;
    let port = server.addrs().first().context("the receiver has no address")?.port();
    actix_rt::spawn(server.run());
    Ok(port)
}

fn publisher(directory: &Path, csv: &Path, url: &str, id: &str, measurement: &str) -> anyhow::Result<Child> {
    let mut command = heartwatch(directory)?;
    command.args(["publish", "--id", id, "--measurement", measurement, "--csv"]).arg(csv);
    command.args(["--mqtt", url, "--interval", "500ms", "--heartbeat", "1s", "--data-dir", id]);
    command.spawn().context("cannot start a publisher")
}

async fn until_alive(monitor: &RunningMonitor, publishers: usize) -> anyhow::Result<()> {
    let end = Instant::now() + NOTICE_TIMEOUT;
    loop {
        let status = monitor.monitor.status().await?;
        let alive = status.publishers.iter().filter(|publisher| publisher.verdict == Verdict::Alive).count();
        if alive >= publishers {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < end, "{alive} of {publishers} publishers are alive after {NOTICE_TIMEOUT:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn next(received: &mut mpsc::Receiver<Told>) -> anyhow::Result<Told> {
    let told = tokio::time::timeout(NOTICE_TIMEOUT, received.recv()).await;
    told.with_context(|| format!("nothing came within {NOTICE_TIMEOUT:?}"))?.context("the receiver has ended")
}

fn milliseconds(from: Timestamp, to: Timestamp) -> f64 {
    whole(u64::try_from(to.as_nanos() - from.as_nanos()).unwrap_or(0)) / 1e6
}

fn table(measured: &[NotifyFigures], drawing: Drawing) -> String {
    let rows = measured.iter().map(|m| {
        vec![
            m.what.to_owned(),
            m.times.to_string(),
            format!("{:.1} ms", m.median_ms),
            format!("{:.1} ms", m.p99_ms),
            format!("{:.1} ms", m.max_ms),
        ]
    });
    tables::plain(&["WHAT", "TIMES", "MEDIAN", "P99", "MAX"], rows, drawing)
}
