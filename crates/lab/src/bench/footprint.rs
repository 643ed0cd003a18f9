//! What a monitor costs that has little to do: from start to ready, CPU and memory with publishers at one
//! reading a second, and the size of the program.

use std::time::Duration;

use anyhow::Context as _;
use rumqttc::QoS;
use tokio::time::Instant;

use super::load::client;
use super::processes::{cpu_seconds, resident_bytes};
use super::programs::{RunningMonitor, directory, whole};
use crate::args::FootprintBenchArgs;
use heartwatch_console::drawing;
use heartwatch_console::tables::{self, Drawing};
use heartwatch_domain::beat::Heartbeat;
use heartwatch_domain::publisher::{HostName, Incarnation, PublisherId};
use heartwatch_formats::envelope::{HeartbeatNote, Prefix, TopicKind, encode_heartbeat};

/// How long a monitor is watched.
const WATCHED_FOR: Duration = Duration::from_secs(10);
/// Before that, so that what the start costs is over.
const SETTLE: Duration = Duration::from_secs(3);
const SECOND: Duration = Duration::from_secs(1);

/// One measurement.
#[derive(Debug, Clone, serde::Serialize)]
struct FootprintFigures {
    publishers: usize,
    ready_ms: f64,
    cpu_percent_of_a_core: f64,
    resident_mib: f64,
}

/// Measures every size and prints the table.
pub(super) async fn footprint(args: &FootprintBenchArgs) -> anyhow::Result<u8> {
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
    let program = std::env::current_exe().context("cannot find this program")?;
    let bytes = std::fs::metadata(&program)?.len();
    if args.json {
        println!("{}", serde_json::json!({ "program_bytes": bytes }));
    } else {
        print!("{}", table(&measured, drawing()));
        println!("{} has {:.1} MB", program.display(), whole(bytes) / 1e6);
    }
    Ok(0)
}

async fn measure(publishers: usize) -> anyhow::Result<FootprintFigures> {
    let directory = directory(&std::env::temp_dir())?;
    let started = Instant::now();
    let monitor = RunningMonitor::start(directory.path(), None, None).await?;
    let ready_ms = started.elapsed().as_secs_f64() * 1e3;
    let beating = actix_rt::spawn(beat(monitor.mqtt_url.clone(), publishers));
    tokio::time::sleep(SETTLE).await;
    let pid = monitor.pid().context("the monitor has ended")?;
    let (cpu, from) = (cpu_seconds(pid)?, Instant::now());
    tokio::time::sleep(WATCHED_FOR).await;
    let seconds = cpu_seconds(pid)? - cpu;
    let cpu_percent_of_a_core = 100.0 * seconds / from.elapsed().as_secs_f64();
    let resident_mib = whole(resident_bytes(pid)?) / 1024.0 / 1024.0;
    let heard = monitor.monitor.status().await?.publishers.len();
    beating.abort();
    anyhow::ensure!(heard == publishers, "{publishers} publishers beat, the monitor has heard {heard}");
    monitor.stop().await?;
    Ok(FootprintFigures { publishers, ready_ms, cpu_percent_of_a_core, resident_mib })
}

/// Everybody says once a second that it lives, over one connection, spread over the second.
///
/// # Errors
/// When the broker's address is none, or the connection has ended.
pub(super) async fn beat(url: String, publishers: usize) -> anyhow::Result<()> {
    let (client, mut connection) = client(&url, "heartwatch-bench")?;
    actix_rt::spawn(async move { while connection.poll().await.is_ok() {} });
    let prefix = Prefix::default();
    let host = HostName::parse("bench")?;
    let mut cursor = 0;
    loop {
        cursor += 1;
        let round = Instant::now();
        for number in 0..publishers {
            let id = PublisherId::parse(&format!("bench-{number}"))?;
            let heartbeat = Heartbeat { cursor, ..Heartbeat::idle(Incarnation(1), SECOND) };
            let note = HeartbeatNote::new(host.clone(), heartbeat);
            let topic = prefix.topic(&id, TopicKind::Heartbeat);
            client.publish(topic, QoS::AtMostOnce, false, encode_heartbeat(&note)).await?;
            if number % 20 == 19 {
                let due = SECOND.mul_f64(whole(number as u64) / whole(publishers as u64));
                tokio::time::sleep_until(round + due).await;
            }
        }
        tokio::time::sleep_until(round + SECOND).await;
    }
}

fn table(measured: &[FootprintFigures], drawing: Drawing) -> String {
    let titles = ["PUBLISHERS AT 1/S", "START TO READY", "CPU OF A CORE", "MEMORY"];
    let rows = measured.iter().map(|m| {
        vec![
            m.publishers.to_string(),
            format!("{:.0} ms", m.ready_ms),
            format!("{:.2} %", m.cpu_percent_of_a_core),
            format!("{:.1} MiB", m.resident_mib),
        ]
    });
    tables::plain(&titles, rows, drawing)
}
