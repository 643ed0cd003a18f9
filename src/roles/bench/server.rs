//! Agents at one server: how many readings a second are confirmed to them, and the server's memory.
//!
//! Each agent is a connection of its own that sends messages of one or a hundred readings as fast as they are taken. The clock stops
//! when the last agent knows that all of its readings are safe in the server's journal, which it is told about once a second at most; and
//! once more when Kafka has them all, where there is one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::processes::resident_bytes;
use super::programs::{Directory, heartwatch, whole};
use crate::adapters::grpc::client::{GrpcClient, GrpcClientConfig, connect};
use crate::adapters::monitor::Monitor;
use crate::console::tables;
use crate::domain::beat::Heartbeat;
use crate::domain::publisher::{HostName, Incarnation, PublisherId};
use crate::domain::reading::{FieldValue, Reading, Sequence};
use crate::formats::envelope::{self, HeartbeatNote, Prefix, TopicKind, encode_heartbeat};
use crate::ports::{Outgoing, Transport as _, TransportEvent};
use crate::roles::ask::drawing;
use crate::roles::cli::ServerBenchArgs;
use crate::roles::prove::program::free_port;
use crate::roles::server::allow_many_connections;
use crate::runtime::clock::Clock;

/// How long a server may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// How long Kafka may take to start.
#[cfg(feature = "kafka")]
const KAFKA_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a measurement may take.
const MEASURE_TIMEOUT: Duration = Duration::from_secs(300);
/// How often it is looked whether Kafka has everything.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Readings in one message: one, and as many as an agent that has some waiting sends.
const MESSAGE_READINGS: [Sequence; 2] = [1, 100];
/// Single readings are measured with so many fewer of them.
const SINGLE_ONE_OF: u64 = 5;
/// Agents that connect at the same time: ten thousand at once would wait for each other until they give up and try again.
const CONNECTING_MAX: usize = 200;
/// How often an agent says that it lives while it waits.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Files that either program has open beside its agents.
const OTHER_FILES: u64 = 200;

/// One measurement.
#[derive(Debug, Clone, serde::Serialize)]
struct Measured {
    agents: usize,
    a_message: Sequence,
    readings: u64,
    seconds: f64,
    readings_per_second: f64,
    kafka_readings_per_second: Option<f64>,
    resident_mib: f64,
}

/// Measures every size and prints the table.
pub(super) async fn server(args: &ServerBenchArgs) -> anyhow::Result<u8> {
    if let (Some(files_max), Some(agents)) = (allow_many_connections(), args.agents.iter().max()) {
        let needed = *agents as u64 + OTHER_FILES;
        anyhow::ensure!(
            files_max >= needed,
            "{agents} agents need {needed} open files in each program and {files_max} are allowed here: raise the hard limit \
             (`ulimit -Hn {needed}` as root), or measure fewer with --agents"
        );
    }
    let directory = Directory::below(&std::env::temp_dir())?;
    let kafka = match &args.kafka {
        Some(brokers) => Ok(Kafka::at(brokers)),
        None => Kafka::start(directory.path()).await,
    };
    let kafka = match kafka {
        Ok(kafka) => Some(kafka),
        Err(reason) => {
            eprintln!("measured without Kafka, readings stay in the server's journal: {reason:#}");
            None
        }
    };
    let mut measured = Vec::new();
    for agents in &args.agents {
        for a_message in MESSAGE_READINGS {
            let this = measure(*agents, args.readings as u64, a_message, kafka.as_ref()).await?;
            if args.json {
                println!("{}", serde_json::to_string(&this)?);
            } else {
                eprintln!("{agents} agents with {a_message} readings a message measured");
            }
            measured.push(this);
        }
    }
    if !args.json {
        let rows = measured.into_iter().map(|this| {
            vec![
                this.agents.to_string(),
                this.a_message.to_string(),
                this.readings.to_string(),
                format!("{:.1}", this.seconds),
                format!("{:.0}", this.readings_per_second),
                this.kafka_readings_per_second.map_or_else(|| "no Kafka".to_owned(), |rate| format!("{rate:.0}")),
                format!("{:.0}", this.resident_mib),
            ]
        });
        let titles = ["AGENTS", "A MESSAGE", "READINGS", "SECONDS", "CONFIRMED/S", "IN KAFKA/S", "SERVER MIB"];
        print!("{}", tables::plain(&titles, rows, drawing()));
    }
    Ok(0)
}

/// The Kafka that the server hands readings on to.
struct Kafka {
    brokers: String,
    /// Ends when this does, where we have started it.
    #[cfg(feature = "kafka")]
    _parts: Option<crate::roles::cluster::parts::Parts>,
}

#[cfg(feature = "kafka")]
impl Kafka {
    fn at(brokers: &str) -> Self {
        Self { brokers: brokers.to_owned(), _parts: None }
    }

    /// Starts one, where its jars are.
    async fn start(directory: &std::path::Path) -> anyhow::Result<Self> {
        use crate::roles::cluster::parts::{Needed, Parts};
        let mut parts = Parts::new(Needed::find()?, directory.to_owned())?;
        parts.start_kafka().await?;
        let brokers = parts.brokers.clone();
        let until = Instant::now() + KAFKA_TIMEOUT;
        while tokio::net::TcpStream::connect(&brokers).await.is_err() {
            parts.all_run()?;
            anyhow::ensure!(Instant::now() < until, "Kafka did not listen within {KAFKA_TIMEOUT:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(Self { brokers, _parts: Some(parts) })
    }
}

#[cfg(not(feature = "kafka"))]
impl Kafka {
    fn at(brokers: &str) -> Self {
        Self { brokers: brokers.to_owned() }
    }

    async fn start(_: &std::path::Path) -> anyhow::Result<Self> {
        anyhow::bail!("this program was built without Kafka: build it with `cargo build --features kafka`")
    }
}

async fn measure(agents: usize, readings: u64, a_message: Sequence, kafka: Option<&Kafka>) -> anyhow::Result<Measured> {
    let directory = Directory::below(&std::env::temp_dir())?;
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let page = format!("127.0.0.1:{}", free_port()?);
    let mut command = heartwatch(directory.path())?;
    command.args(["server", "--web", &page, "--data-dir", "data", "--listen", &listen.to_string()]);
    if let Some(kafka) = kafka {
        command.args(["--kafka", &kafka.brokers]);
    }
    let program = command.spawn()?;
    let pid = program.id().context("the server has ended")?;
    let until = Instant::now() + START_TIMEOUT;
    while tokio::net::TcpStream::connect(listen).await.is_err() {
        anyhow::ensure!(Instant::now() < until, "the server did not listen within {START_TIMEOUT:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let clock = Clock::start();
    let readings = if a_message == 1 { readings / SINGLE_ONE_OF } else { readings };
    let each = readings.div_ceil(agents as u64);
    let readings = each * agents as u64;
    let began = Instant::now();
    let connecting = Arc::new(Semaphore::new(CONNECTING_MAX));
    let all: Vec<_> = (0..agents)
        .map(|number| tokio::spawn(agent(listen, number, each, a_message, clock, Arc::clone(&connecting))))
        .collect();
    let confirmed = async {
        for one in all {
            one.await??;
        }
        anyhow::Ok(())
    };
    timeout(MEASURE_TIMEOUT, confirmed).await.context("not all readings were confirmed in time")??;
    let seconds = began.elapsed().as_secs_f64();
    let resident_mib = whole(resident_bytes(pid)?) / 1024.0 / 1024.0;
    let mut kafka_readings_per_second = None;
    if kafka.is_some() {
        let server = Monitor::at(format!("http://{page}").parse()?)?;
        let stored = async {
            loop {
                let stored: u64 = server.status().await?.sinks.iter().map(|sink| sink.rows_stored).sum();
                if stored >= readings {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        timeout(MEASURE_TIMEOUT, stored).await.context("Kafka did not have all readings in time")??;
        kafka_readings_per_second = Some(whole(readings) / began.elapsed().as_secs_f64());
    }
    Ok(Measured {
        agents,
        a_message,
        readings,
        seconds,
        readings_per_second: whole(readings) / seconds,
        kafka_readings_per_second,
        resident_mib,
    })
}

async fn agent(
    listen: SocketAddr,
    number: usize,
    readings: Sequence,
    a_message: Sequence,
    clock: Clock,
    connecting: Arc<Semaphore>,
) -> anyhow::Result<()> {
    let id = PublisherId::parse(&format!("agent-{number}"))?;
    let host = HostName::parse("bench")?;
    let mut permit = Some(connecting.acquire().await?);
    let GrpcClient { transport, mut events, .. } =
        connect(GrpcClientConfig::new(listen.to_string(), id.clone()), clock)?;
    let topic = Prefix::default().topic(&id, TopicKind::Readings);
    let (mut through, mut sent) = (0, 0);
    let mut connected = false;
    while through < readings {
        if connected && sent < readings {
            let batch: Vec<Reading> = (sent + 1..=readings.min(sent + a_message))
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
        let Ok(event) = timeout(HEARTBEAT, events.recv()).await else {
            // A confirmation that was lost is repeated when a heartbeat shows it, as for every publisher.
            if connected {
                let heartbeat = Heartbeat { sequence: sent, ..Heartbeat::idle(Incarnation(1), HEARTBEAT) };
                let note = HeartbeatNote { confirmed: through, ..HeartbeatNote::new(host.clone(), heartbeat) };
                let topic = Prefix::default().topic(&id, TopicKind::Heartbeat);
                transport.publish(Outgoing { topic, payload: encode_heartbeat(&note), at_least_once: true }).await?;
            }
            continue;
        };
        match event.context("the connection has ended")? {
            TransportEvent::Connected { .. } => {
                (connected, sent) = (true, through);
                drop(permit.take());
            }
            TransportEvent::Disconnected { .. } => connected = false,
            TransportEvent::Delivery(delivery) => {
                through = envelope::decode_confirm(&id, &delivery.payload)?.through;
            }
        }
    }
    Ok(())
}
