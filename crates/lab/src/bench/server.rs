//! Agents at one server: how many readings a second are confirmed to them, and the server's memory.
//!
//! Each agent is a connection and a host of its own that sends messages of one or more readings as fast as they are taken. The
//! messages are made before, and the clock starts when all agents are connected and have been heard once. It stops when the last one knows that all of its
//! readings are safe in the server's journal, which it is told about once a second at most; and once more when Kafka has as many
//! messages more in its topic, where there is one. What each program used of the CPU is counted until then.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{Barrier, Semaphore};
use tokio::time::{Instant, timeout};

use super::processes::{cpu_seconds, resident_bytes};
use super::programs::{directory, heartwatch, whole};
use crate::args::ServerBenchArgs;
use heartwatch_adapters::monitor::Monitor;
use heartwatch_console::drawing;
use heartwatch_console::tables;
use heartwatch_domain::beat::Heartbeat;
use heartwatch_domain::publisher::{HostName, Incarnation, PublisherId};
use heartwatch_domain::reading::{FieldValue, Reading, Sequence};
use heartwatch_fleet::grpc::client::{GrpcClient, GrpcClientConfig, connect};
use heartwatch_formats::envelope::{self, HeartbeatNote, Prefix, TopicKind, encode_heartbeat};
use heartwatch_ports::{Outgoing, Transport as _, TransportEvent};
use heartwatch_servers::free_port;
use heartwatch_system::clock::Clock;
use heartwatch_system::descriptors;

/// How long a server may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// How long Kafka may take to start.
#[cfg(feature = "kafka")]
const KAFKA_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a measurement may take.
const MEASURE_TIMEOUT: Duration = Duration::from_secs(300);
/// How often it is looked whether Kafka has everything.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Single readings are measured with so many fewer of them.
const SINGLE_ONE_OF: u64 = 5;
/// Agents that connect at the same time: ten thousand at once would wait for each other until they give up and try again.
const CONNECTING_MAX: usize = 200;
/// How often an agent says that it lives while it waits.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Files that either program has open beside its agents.
const OTHER_FILES: u64 = 200;

/// One measurement.
#[derive(Debug, Clone, serde::Serialize)]
struct ServerFigures {
    agents: usize,
    a_message: Sequence,
    readings: u64,
    connect_seconds: f64,
    seconds: f64,
    readings_per_second: f64,
    kafka_readings_per_second: Option<f64>,
    server_cpu_seconds_per_million: f64,
    kafka_cpu_seconds_per_million: Option<f64>,
    agents_cpu_seconds_per_million: f64,
    resident_mib: f64,
}

/// Measures every size and prints the table.
pub(super) async fn server(args: &ServerBenchArgs) -> anyhow::Result<u8> {
    if let (Some(files_max), Some(agents)) = (descriptors::raise(), args.agents.iter().max()) {
        let needed = *agents as u64 + OTHER_FILES;
        anyhow::ensure!(
            files_max >= needed,
            "{agents} agents need {needed} open files in each program and {files_max} are allowed here: raise the hard limit \
             (`ulimit -Hn {needed}` as root), or measure fewer with --agents"
        );
    }
    let directory = directory(&std::env::temp_dir())?;
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
        for a_message in &args.batch {
            let this = measure(*agents, args.readings as u64, *a_message as Sequence, kafka.as_ref()).await?;
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
                format!("{:.1}", this.server_cpu_seconds_per_million),
                this.kafka_cpu_seconds_per_million.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1}")),
                format!("{:.1}", this.agents_cpu_seconds_per_million),
                format!("{:.0}", this.resident_mib),
            ]
        });
        let titles = [
            "AGENTS",
            "A MESSAGE",
            "READINGS",
            "SECONDS",
            "CONFIRMED/S",
            "IN KAFKA/S",
            "SERVER CPU S/M",
            "KAFKA",
            "AGENTS",
            "SERVER MIB",
        ];
        print!("{}", tables::plain(&titles, rows, drawing()));
    }
    Ok(0)
}

/// The Kafka that the server hands readings on to.
struct Kafka {
    brokers: String,
    /// Where we have started it; it ends when this does.
    #[cfg(feature = "kafka")]
    parts: Option<crate::cluster::parts::Parts>,
}

#[cfg(feature = "kafka")]
impl Kafka {
    fn at(brokers: &str) -> Self {
        Self { brokers: brokers.to_owned(), parts: None }
    }

    /// Starts one, where its jars are.
    async fn start(directory: &std::path::Path) -> anyhow::Result<Self> {
        use crate::cluster::parts::{Needed, Parts};
        let mut parts = Parts::new(Needed::find()?, directory.to_owned())?;
        parts.start_kafka().await?;
        let brokers = parts.brokers.clone();
        let until = Instant::now() + KAFKA_TIMEOUT;
        while tokio::net::TcpStream::connect(&brokers).await.is_err() {
            parts.all_run()?;
            anyhow::ensure!(Instant::now() < until, "Kafka did not listen within {KAFKA_TIMEOUT:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(Self { brokers, parts: Some(parts) })
    }

    /// CPU seconds so far; none where it is not ours.
    fn cpu_seconds(&self) -> anyhow::Result<Option<f64>> {
        self.parts.as_ref().map(|parts| cpu_seconds(parts.pid("kafka")?)).transpose()
    }

    /// Messages in the topic of readings so far.
    async fn messages(&self) -> anyhow::Result<u64> {
        let count = heartwatch_fleet::kafka::MessageCount::new(&self.brokers)?;
        count.of(heartwatch_formats::monitoring_data::TOPIC).await.map_err(anyhow::Error::msg)
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

    fn cpu_seconds(&self) -> anyhow::Result<Option<f64>> {
        anyhow::bail!("{} is not asked: this program was built without Kafka", self.brokers)
    }

    async fn messages(&self) -> anyhow::Result<u64> {
        anyhow::bail!("{} is not asked: this program was built without Kafka", self.brokers)
    }
}

/// CPU seconds of each program.
struct Used {
    server: f64,
    kafka: Option<f64>,
    agents: f64,
}

impl Used {
    fn now(server: u32, kafka: Option<&Kafka>) -> anyhow::Result<Self> {
        Ok(Self {
            server: cpu_seconds(server)?,
            kafka: kafka.map_or(Ok(None), Kafka::cpu_seconds)?,
            agents: cpu_seconds(std::process::id())?,
        })
    }

    fn per_million_since(&self, before: &Self, readings: u64) -> Self {
        let each = |now: f64, before: f64| (now - before) * 1e6 / whole(readings);
        Self {
            server: each(self.server, before.server),
            kafka: self.kafka.zip(before.kafka).map(|(now, before)| each(now, before)),
            agents: each(self.agents, before.agents),
        }
    }
}

async fn measure(
    agents: usize,
    readings: u64,
    a_message: Sequence,
    kafka: Option<&Kafka>,
) -> anyhow::Result<ServerFigures> {
    let directory = directory(&std::env::temp_dir())?;
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
    let connecting = Arc::new(Semaphore::new(CONNECTING_MAX));
    let begin = Arc::new(Barrier::new(agents + 1));
    let mut all = Vec::with_capacity(agents);
    let connected_from = Instant::now();
    for number in 0..agents {
        let agent = Agent::new(number, each, a_message, clock)?;
        all.push(tokio::spawn(agent.run(listen, clock, Arc::clone(&connecting), Arc::clone(&begin))));
    }
    timeout(MEASURE_TIMEOUT, begin.wait()).await.context("not all agents were connected in time")?;
    let server = Monitor::at(format!("http://{page}").parse()?)?;
    let heard = async {
        while server.status().await?.publishers.len() < agents {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        anyhow::Ok(())
    };
    timeout(MEASURE_TIMEOUT, heard).await.context("not all agents were heard in time")??;
    let connect_seconds = connected_from.elapsed().as_secs_f64();
    let in_kafka_before = match kafka {
        Some(kafka) => kafka.messages().await?,
        None => 0,
    };
    let used_before = Used::now(pid, kafka)?;
    let began = Instant::now();
    begin.wait().await;
    let confirmed = async {
        let mut connected = Vec::with_capacity(agents);
        for one in all {
            connected.push(one.await??);
        }
        anyhow::Ok(connected)
    };
    let confirmed = timeout(MEASURE_TIMEOUT, confirmed).await.context("not all readings were confirmed in time")?;
    // they stay connected until everything is counted
    let _connected = confirmed?;
    let seconds = began.elapsed().as_secs_f64();
    let resident_mib = whole(resident_bytes(pid)?) / 1024.0 / 1024.0;
    let mut kafka_readings_per_second = None;
    if let Some(kafka) = kafka {
        let stored = async {
            while kafka.messages().await? - in_kafka_before < readings {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            anyhow::Ok(())
        };
        timeout(MEASURE_TIMEOUT, stored).await.context("Kafka did not have all readings in time")??;
        kafka_readings_per_second = Some(whole(readings) / began.elapsed().as_secs_f64());
        all_stored_once(&server, kafka, in_kafka_before, readings).await?;
    }
    let used = Used::now(pid, kafka)?.per_million_since(&used_before, readings);
    Ok(ServerFigures {
        agents,
        a_message,
        readings,
        connect_seconds,
        seconds,
        readings_per_second: whole(readings) / seconds,
        kafka_readings_per_second,
        server_cpu_seconds_per_million: used.server,
        kafka_cpu_seconds_per_million: used.kafka,
        agents_cpu_seconds_per_million: used.agents,
        resident_mib,
    })
}

/// A message that was sent twice would stand in for one that is still on its way: waits until the server has nothing more
/// to send, and then counts again.
async fn all_stored_once(server: &Monitor, kafka: &Kafka, before: u64, readings: u64) -> anyhow::Result<()> {
    let until = Instant::now() + MEASURE_TIMEOUT;
    while server.status().await?.sinks.iter().map(|sink| sink.rows_stored).sum::<u64>() < readings {
        anyhow::ensure!(Instant::now() < until, "the server has readings that Kafka has not taken");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let messages = kafka.messages().await? - before;
    anyhow::ensure!(messages == readings, "Kafka has {messages} messages of {readings} readings: some were sent again");
    Ok(())
}

/// One agent, with all that it is going to send.
struct Agent {
    id: PublisherId,
    host: HostName,
    readings: Sequence,
    /// Each with the last number in it.
    messages: Vec<(Sequence, Vec<u8>)>,
}

impl Agent {
    fn new(number: usize, readings: Sequence, a_message: Sequence, clock: Clock) -> anyhow::Result<Self> {
        let id = PublisherId::parse(&format!("agent-{number}"))?;
        let host = HostName::parse(&format!("host-{number}"))?;
        let mut messages = Vec::new();
        let mut through = 0;
        while through < readings {
            let batch: Vec<Reading> = (through + 1..=readings.min(through + a_message))
                .map(|sequence| Reading {
                    sequence,
                    time: clock.wall() + Duration::from_nanos(sequence),
                    measurement: "cpu".to_owned(),
                    tags: Vec::new(),
                    fields: vec![("value".to_owned(), FieldValue::Float(whole(sequence)))],
                })
                .collect();
            through = batch.last().map_or(readings, |last| last.sequence);
            let payloads = envelope::encode_readings(&host, Incarnation(1), &batch, envelope::PAYLOAD_BYTES_MAX)?;
            messages.extend(payloads.into_iter().map(|payload| (through, payload)));
        }
        Ok(Self { id, host, readings, messages })
    }

    /// Ends when all readings are confirmed, with the connection.
    async fn run(
        self,
        listen: SocketAddr,
        clock: Clock,
        connecting: Arc<Semaphore>,
        begin: Arc<Barrier>,
    ) -> anyhow::Result<GrpcClient> {
        let Self { id, host, readings, messages } = self;
        let mut permit = Some(connecting.acquire().await?);
        let mut client = connect(GrpcClientConfig::new(listen.to_string(), id.clone()), clock)?;
        let topic = Prefix::default().topic(&id, TopicKind::Readings);
        let mut through = 0;
        // what is sent next, while there is a connection
        let mut next = None;
        while through < readings {
            if let Some((_, payload)) = next.and_then(|next: usize| messages.get(next)) {
                let message = Outgoing { topic: topic.clone(), payload: payload.clone(), at_least_once: true };
                client.transport.publish(message).await?;
                next = next.map(|next| next + 1);
                continue;
            }
            let Ok(event) = timeout(HEARTBEAT, client.events.recv()).await else {
                // A confirmation that was lost is repeated when a heartbeat shows it, as for every publisher.
                if next.is_some() {
                    client.transport.publish(heartbeat(&id, &host, readings, through)).await?;
                }
                continue;
            };
            match event.context("the connection has ended")? {
                TransportEvent::Connected { .. } => {
                    if permit.take().is_some() {
                        client.transport.publish(heartbeat(&id, &host, 0, 0)).await?;
                        // all are connected; all have been heard
                        begin.wait().await;
                        begin.wait().await;
                    }
                    next = Some(messages.partition_point(|(last, _)| *last <= through));
                }
                TransportEvent::Disconnected { .. } => next = None,
                TransportEvent::Delivery(delivery) => {
                    through = envelope::decode_confirm(&id, &delivery.payload)?.state.through;
                }
            }
        }
        Ok(client)
    }
}

fn heartbeat(id: &PublisherId, host: &HostName, sequence: Sequence, confirmed: Sequence) -> Outgoing {
    let heartbeat = Heartbeat { sequence, ..Heartbeat::idle(Incarnation(1), HEARTBEAT) };
    let note = HeartbeatNote { confirmed, ..HeartbeatNote::new(host.clone(), heartbeat) };
    let topic = Prefix::default().topic(id, TopicKind::Heartbeat);
    Outgoing { topic, payload: encode_heartbeat(&note), at_least_once: true }
}
