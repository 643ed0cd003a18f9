//! Agents at one server: how many readings a second are confirmed to them, and the server's memory.
//!
//! Each agent is a connection of its own that sends messages of ten readings as fast as they are taken. The clock stops when the last
//! agent knows that all of its readings are safe, which it is told about once a second at most.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{Instant, timeout};

use super::processes::resident_bytes;
use super::programs::{Directory, heartwatch, whole};
use crate::adapters::grpc::client::{GrpcClient, GrpcClientConfig, connect};
use crate::console::tables;
use crate::domain::publisher::{HostName, Incarnation, PublisherId};
use crate::domain::reading::{FieldValue, Reading, Sequence};
use crate::formats::envelope::{self, Prefix, TopicKind};
use crate::ports::{Outgoing, Transport as _, TransportEvent};
use crate::roles::ask::drawing;
use crate::roles::cli::ServerBenchArgs;
use crate::roles::prove::program::free_port;
use crate::runtime::clock::Clock;

/// How long a server may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a measurement may take.
const MEASURE_TIMEOUT: Duration = Duration::from_secs(600);
/// Readings in one message.
const MESSAGE_READINGS: Sequence = 10;

/// One measurement.
#[derive(Debug, Clone, serde::Serialize)]
struct Measured {
    agents: usize,
    readings: u64,
    seconds: f64,
    readings_per_second: f64,
    resident_mib: f64,
}

/// Measures every size and prints the table.
pub(super) async fn server(args: &ServerBenchArgs) -> anyhow::Result<u8> {
    let mut measured = Vec::new();
    for agents in &args.agents {
        let this = measure(*agents, args.readings as u64).await?;
        if args.json {
            println!("{}", serde_json::to_string(&this)?);
        } else {
            eprintln!("{agents} agents measured");
        }
        measured.push(this);
    }
    if !args.json {
        let rows = measured.into_iter().map(|this| {
            vec![
                this.agents.to_string(),
                this.readings.to_string(),
                format!("{:.1}", this.seconds),
                format!("{:.0}", this.readings_per_second),
                format!("{:.0}", this.resident_mib),
            ]
        });
        print!("{}", tables::plain(&["agents", "readings", "s", "readings/s", "server MiB"], rows, drawing()));
    }
    Ok(0)
}

async fn measure(agents: usize, readings: u64) -> anyhow::Result<Measured> {
    let directory = Directory::below(&std::env::temp_dir())?;
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let mut command = heartwatch(directory.path())?;
    command.args(["server", "--web", "off", "--data-dir", "data", "--listen", &listen.to_string()]);
    let program = command.spawn()?;
    let pid = program.id().context("the server has ended")?;
    let until = Instant::now() + START_TIMEOUT;
    while tokio::net::TcpStream::connect(listen).await.is_err() {
        anyhow::ensure!(Instant::now() < until, "the server did not listen within {START_TIMEOUT:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let clock = Clock::start();
    let began = Instant::now();
    let all: Vec<_> = (0..agents).map(|number| tokio::spawn(agent(listen, number, readings, clock))).collect();
    for one in all {
        timeout(MEASURE_TIMEOUT, one).await.context("not all readings were confirmed in time")???;
    }
    let seconds = began.elapsed().as_secs_f64();
    let resident_mib = whole(resident_bytes(pid)?) / 1024.0 / 1024.0;
    let readings = readings * agents as u64;
    Ok(Measured { agents, readings, seconds, readings_per_second: whole(readings) / seconds, resident_mib })
}

async fn agent(listen: SocketAddr, number: usize, readings: Sequence, clock: Clock) -> anyhow::Result<()> {
    let id = PublisherId::parse(&format!("agent-{number}"))?;
    let host = HostName::parse("bench")?;
    let GrpcClient { transport, mut events, .. } =
        connect(GrpcClientConfig::new(listen.to_string(), id.clone()), clock)?;
    let topic = Prefix::default().topic(&id, TopicKind::Readings);
    let (mut through, mut sent) = (0, 0);
    let mut connected = false;
    while through < readings {
        if connected && sent < readings {
            let batch: Vec<Reading> = (sent + 1..=readings.min(sent + MESSAGE_READINGS))
                .map(|sequence| Reading {
                    sequence,
                    time: clock.wall() + Duration::from_nanos(sequence),
                    measurement: "cpu".to_owned(),
                    tags: Vec::new(),
                    fields: vec![("value".to_owned(), FieldValue::Float(whole(sequence)))],
                })
                .collect();
            sent = batch.last().map_or(sent, |last| last.sequence);
            for payload in envelope::encode_readings(&host, Incarnation(1), &batch, envelope::PAYLOAD_BYTES_MAX)? {
                transport.publish(Outgoing { topic: topic.clone(), payload, at_least_once: true }).await?;
            }
            continue;
        }
        match events.recv().await.context("the connection has ended")? {
            TransportEvent::Connected { .. } => (connected, sent) = (true, through),
            TransportEvent::Disconnected { .. } => connected = false,
            TransportEvent::Delivery(delivery) => {
                through = envelope::decode_confirm(&id, &delivery.payload)?.through;
            }
        }
    }
    Ok(())
}
