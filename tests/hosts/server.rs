//! `heartwatch server` with a real Kafka behind it, agents before it, and `run --kafka` with a real InfluxDB beyond.
#![cfg(all(feature = "hosts", feature = "kafka"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says where")]

use crate::support;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use heartwatch_adapters::monitor::Monitor;
use heartwatch_domain::command::CommandResult;
use heartwatch_domain::publisher::PublisherId;
use heartwatch_fleet::grpc::client::{self, GrpcClient, GrpcClientConfig};
use heartwatch_fleet::kafka::{Consumed, Consumption, KafkaProducer, StartAt, consume};
use heartwatch_fleet::wire::monitoring as wire;
use heartwatch_fleet::wire::monitoring::console_service_client::ConsoleServiceClient;
use heartwatch_fleet::wire::monitoring::monitoring_service_client::MonitoringServiceClient;
use heartwatch_system::clock::Clock;
use rustix::process::Signal;
use serde_json::{Value, json};
use support::heartwatch::{Program, command, finished};
use support::influxd::Influxd;
use support::kafka::Kafka;
use support::server::Server;
use support::{eventually, free_port};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(90);

/// An existing agent, played by the generated code.
struct OldAgent {
    out: mpsc::Sender<wire::MonitoringData>,
    commands: tonic::Streaming<wire::Command>,
}

impl OldAgent {
    async fn connect(server: SocketAddr) -> Self {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{server}")).unwrap();
        let (out, mut out_end) = mpsc::channel(64);
        let requests = futures_util::stream::poll_fn(move |context| out_end.poll_recv(context));
        let mut service = MonitoringServiceClient::new(endpoint.connect().await.unwrap());
        let commands = service.monitor_stream(requests).await.unwrap().into_inner();
        Self { out, commands }
    }

    async fn say(&self, metric: &str, timestamp: i64, value: f64) {
        let data = wire::MonitoringData {
            timestamp,
            hostname: "plant-7".to_owned(),
            metric: metric.to_owned(),
            value,
            client_id: "worker-1".to_owned(),
        };
        self.out.send(data).await.unwrap();
    }

    async fn command(&mut self) -> wire::Command {
        timeout(DEADLINE, self.commands.message()).await.expect("a command in time").unwrap().unwrap()
    }
}

fn read(kafka: &Kafka, topic: &str) -> mpsc::Receiver<Consumed> {
    consume(Consumption {
        brokers: kafka.brokers(),
        topic: topic.to_owned(),
        group: format!("test-{topic}-{}", fastrand::u64(..)),
        start_at: StartAt::Beginning,
        messages_max: 64,
    })
    .unwrap()
}

async fn next(messages: &mut mpsc::Receiver<Consumed>) -> Value {
    let message = timeout(DEADLINE, messages.recv()).await.expect("a message in time").unwrap();
    serde_json::from_slice(&message.payload).unwrap()
}

/// Publishes numbered readings over gRPC as our own agents do: a CSV through the publisher actor is tested elsewhere,
/// here the numbers matter.
fn agent(server: &Server, id: &str) -> GrpcClient {
    let config = GrpcClientConfig {
        backoff_max: Duration::from_millis(500),
        ..GrpcClientConfig::new(server.at.clone(), PublisherId::parse(id).unwrap())
    };
    client::connect(config, Clock::start()).unwrap()
}

#[tokio::test]
async fn an_existing_agent_is_on_kafka_as_existing_consoles_read_it_and_gets_their_commands() {
    let Some(kafka) = Kafka::start().await else { return };
    let server = Server::start(&["--kafka", &kafka.brokers()]).await;
    let mut old = OldAgent::connect(server.address()).await;
    old.say("cpu", 1_763_683_203, 12.5).await;
    let mut data = read(&kafka, "monitoring-data");
    let message = next(&mut data).await;
    let keys = ["timestamp", "client_id", "hostname", "metric", "value"];
    let plain: serde_json::Map<String, Value> =
        keys.iter().map(|key| ((*key).to_owned(), message[*key].clone())).collect();
    assert_eq!(
        Value::Object(plain),
        json!({"timestamp": 1_763_683_203, "client_id": "worker-1", "hostname": "plant-7", "metric": "cpu", "value": 12.5})
    );
    assert_eq!(message["seq"], 1);
    assert!(message["incarnation"].is_u64() && message["time_ns"] == json!(1_763_683_203_000_000_000_i64), "{message}");

    // The least that an existing console may write: it goes to everybody, at once, without another reading.
    let producer = KafkaProducer::new(&kafka.brokers()).unwrap();
    producer.send("monitoring-commands", "", br#"{"command_type": "status"}"#).await.unwrap();
    let command = old.command().await;
    assert_eq!((command.command_type.as_str(), command.command_data.as_str()), ("status", ""));

    // One of ours answers; who is unknown is named; all of it is on the topic of results.
    let mut ours = agent(&server, "agent-1");
    let mut results = read(&kafka, "monitoring-results");
    eventually("both agents are there", DEADLINE, async || {
        server.say(&["list"]).await.1["agents"].as_array().unwrap().len() == 2
    })
    .await;
    let probe =
        br#"{"command_id":"c-1","target":"agent-1","command_type":"probe","command_data":"4711","timestamp":1}"#;
    producer.send("monitoring-commands", "agent-1", probe).await.unwrap();
    let asked = timeout(DEADLINE, ours.commands.recv()).await.unwrap().unwrap();
    assert_eq!((asked.id.as_str(), asked.kind.as_str(), asked.data.as_str()), ("c-1", "probe", "4711"));
    ours.results.send(CommandResult { id: asked.id, success: true, output: "it runs".to_owned() }).await.unwrap();
    let unknown = br#"{"command_id":"c-2","target":"nobody","command_type":"ping"}"#;
    producer.send("monitoring-commands", "nobody", unknown).await.unwrap();
    let mut outcomes = BTreeSet::new();
    while outcomes.len() < 2 {
        let result = next(&mut results).await;
        if result["command_id"] != "c-1" && result["command_id"] != "c-2" {
            continue; // of the first command, whose agent can't answer
        }
        outcomes.insert((
            result["command_id"].to_string(),
            result["success"].to_string(),
            result["output"].to_string(),
        ));
    }
    let outcomes: Vec<_> = outcomes.into_iter().collect();
    assert_eq!(outcomes[0], ("\"c-1\"".to_owned(), "true".to_owned(), "\"it runs\"".to_owned()));
    assert!(outcomes[1].1 == "false" && outcomes[1].2.contains("unknown target"), "{outcomes:?}");

    // Everything that it received is readable in its log.
    let log = server.directory.path().join("data/server/received.log");
    eventually("the log has it", DEADLINE, async || {
        std::fs::read_to_string(&log).is_ok_and(|log| log.contains("cpu,host=plant-7,publisher=worker-1 value=12.5"))
    })
    .await;
}

/// As it was: whoever reached the port from this host, also through a proxy on it, could end the server.
#[tokio::test]
async fn nobody_commands_where_agents_connect_and_no_other_user_at_the_console() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let mut server = Server::start(&[]).await;
    let line = wire::ConsoleLine { line: "quit".to_owned() };
    let agents = tonic::transport::Endpoint::from_shared(format!("http://{}", server.at)).unwrap();
    let refused = ConsoleServiceClient::new(agents.connect().await.unwrap()).say(line).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{refused}");

    let socket = server.socket();
    let folder = socket.parent().unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(folder), mode(&socket)), (0o700, 0o600));
    if rustix::process::geteuid().is_root() {
        // even where the files would let anybody in
        for (path, mode) in [(server.directory.path(), 0o755), (folder, 0o755), (&*socket, 0o666)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = socket.clone();
        let other_user = std::thread::spawn(move || {
            let nobody = rustix::process::Uid::from_raw(65_534);
            // this thread alone
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            let mut answer = Vec::new();
            // closed without a byte, or reset
            let _ = std::io::Read::read_to_end(&mut stream, &mut answer);
            answer
        });
        server.program.says("another user wanted to speak at the console and was refused").await;
        assert!(other_user.join().unwrap().is_empty());
    } else {
        println!("skipped in part: only root can be another user");
    }
    assert!(server.program.runs());
    let elsewhere =
        finished(server.directory.path(), &["server", "quit", "--server", "10.0.0.1:50052"], DEADLINE).await;
    assert!(
        elsewhere.code == Some(1) && elsewhere.stderr.contains("the host and the user of the server"),
        "{elsewhere:?}"
    );
    let port = server.at.rsplit(':').next().unwrap();
    let mut by_port = command(server.directory.path());
    by_port.args(["server", "quit", "--server", &format!("https://localhost:{port}")]);
    by_port.env("XDG_RUNTIME_DIR", server.directory.path());
    assert!(by_port.output().unwrap().status.success());
    assert!(server.program.exit(DEADLINE).await.success());
    assert!(!socket.exists(), "its file is gone with it");
}

#[tokio::test]
async fn the_console_can_be_said_by_a_program() {
    let mut server = Server::start(&[]).await;
    let mut ours = agent(&server, "agent-1");
    eventually("it is there", DEADLINE, async || {
        server.say(&["list"]).await.1["agents"].as_array().is_some_and(|agents| agents.len() == 1)
    })
    .await;
    let answering = tokio::spawn(async move {
        let command = ours.commands.recv().await.unwrap();
        let output = format!("{} {}", command.kind, command.data);
        ours.results.send(CommandResult { id: command.id, success: true, output }).await.unwrap();
        ours
    });
    let (code, answer) = server.say(&["send", "all", "probe", "4711"]).await;
    assert_eq!((code, answer["results"][0]["output"].as_str()), (0, Some("probe 4711")), "{answer}");
    let _ours = answering.await.unwrap();
    let (code, answer) = server.say(&["send", "nobody", "ping"]).await;
    assert_eq!(code, 1);
    assert!(answer["results"][0]["output"].as_str().unwrap().contains("unknown target"), "{answer}");
    let (code, answer) = server.say(&["config", "node-1", "{}"]).await;
    assert_eq!(code, 1, "{answer}");
    assert_eq!(server.say(&["stats"]).await.1["agents"], 1);
    assert_eq!(server.say(&["health"]).await.1["sinks"][0]["name"], "embedded");
    assert_eq!(server.say(&["quit"]).await.0, 0);
    assert!(server.program.exit(DEADLINE).await.success());
}

#[tokio::test]
async fn a_thousand_agents_are_heard_and_commanded() {
    const AGENTS: usize = 1_000;
    const READINGS: i64 = 20;
    let server = Server::start(&[]).await;
    let endpoint = format!("http://{}", server.address());
    let mut channels = Vec::new();
    for _ in 0..10 {
        channels.push(tonic::transport::Endpoint::from_shared(endpoint.clone()).unwrap().connect().await.unwrap());
    }
    let agents: Vec<_> = (0..AGENTS)
        .map(|number| {
            let mut service = MonitoringServiceClient::new(channels[number % channels.len()].clone());
            tokio::spawn(async move {
                let (out, mut out_end) = mpsc::channel(1);
                let requests = futures_util::stream::poll_fn(move |context| out_end.poll_recv(context));
                let mut commands = service.monitor_stream(requests).await.unwrap().into_inner();
                for second in 0..READINGS {
                    let data = wire::MonitoringData {
                        timestamp: 1_763_683_203 + second,
                        hostname: format!("host-{}", number % 50),
                        metric: "cpu".to_owned(),
                        value: 1.0,
                        client_id: format!("agent-{number}"),
                    };
                    out.send(data).await.unwrap();
                }
                let command = commands.message().await.unwrap().unwrap();
                (command.command_type, out, commands)
            })
        })
        .collect();
    eventually("all of it is in the journal", DEADLINE, async || {
        let stats = server.say(&["stats"]).await.1;
        stats["agents"] == AGENTS && stats["readings"]["received"] == READINGS * i64::try_from(AGENTS).unwrap()
    })
    .await;
    let stats = server.say(&["stats"]).await.1;
    assert_eq!((stats["readings"]["missing"].as_u64(), stats["malformed"].as_u64()), (Some(0), Some(0)), "{stats}");
    let (code, answer) = server.say(&["send", "all", "status"]).await;
    assert_eq!((code, answer["results"].as_array().unwrap().len()), (0, AGENTS));
    let mut open = Vec::new();
    for agent in agents {
        let (command, out, commands) = timeout(DEADLINE, agent).await.unwrap().unwrap();
        assert_eq!(command, "status");
        open.push((out, commands));
    }
}

/// A monitor behind Kafka, writing to a real InfluxDB.
fn monitor(directory: &TempDir, kafka: &Kafka, influxd: &Influxd, page: u16) -> Program {
    let mut command = command(directory.path());
    let (kafka, url, page) = (kafka.brokers(), influxd.url(), format!("127.0.0.1:{page}"));
    command.args(["run", "--web", &page, "--mqtt-listen", "127.0.0.1:0", "--kafka", &kafka, "--influx-url", &url]);
    Program::start(command)
}

/// A stream of numbered readings that goes on whatever happens: what is not confirmed is sent again.
struct Stream {
    publishing: tokio::task::JoinHandle<()>,
}

impl Stream {
    fn start(server: &Server, id: &str, readings: u64) -> Self {
        use heartwatch_domain::publisher::{HostName, Incarnation};
        use heartwatch_domain::reading::{FieldValue, Reading};
        use heartwatch_domain::sequence::SequenceTracker;
        use heartwatch_domain::time::Timestamp;
        use heartwatch_formats::envelope::{self, Prefix, TopicKind};
        use heartwatch_ports::{Outgoing, Transport, TransportEvent};
        let GrpcClient { transport, mut events, commands, results } = agent(server, id);
        let id = PublisherId::parse(id).unwrap();
        let publishing = tokio::spawn(async move {
            let _open = (commands, results);
            let mut safe = SequenceTracker::default();
            let mut tick = tokio::time::interval(Duration::from_millis(100));
            let (mut produced, mut again) = (0_u64, 0_u32);
            while safe.through() < readings {
                tokio::select! {
                    _ = tick.tick() => {}
                    event = events.recv() => {
                        if let Some(TransportEvent::Delivery(delivery)) = event
                            && let Ok(envelope::Confirmation { state, .. }) = envelope::decode_confirm(&id, &delivery.payload)
                        {
                            let _ = safe.mark_lost(1, state.through, "");
                        }
                        continue;
                    }
                }
                again += 1;
                let first = if again.is_multiple_of(10) { safe.through() + 1 } else { produced + 1 };
                produced = readings.min(produced + 5);
                let numbers = first..=produced;
                if numbers.is_empty() {
                    continue;
                }
                let batch: Vec<Reading> = numbers
                    .map(|sequence| Reading {
                        sequence,
                        time: Timestamp::from_nanos(
                            1_763_683_203_000_000_000 + i64::try_from(sequence).unwrap() * 1_000_000,
                        ),
                        measurement: "counted".to_owned(),
                        tags: Vec::new(),
                        fields: vec![("value".to_owned(), FieldValue::Float(sequence as f64))],
                    })
                    .collect();
                let host = HostName::parse("plant-7").unwrap();
                let payload = envelope::encode_readings(&host, Incarnation(7), &batch, 1_000_000).unwrap().remove(0);
                let topic = Prefix::default().topic(&id, TopicKind::Readings);
                let _ = transport.try_publish(Outgoing { topic, payload, at_least_once: true });
            }
        });
        Self { publishing }
    }

    async fn finished(self) {
        timeout(DEADLINE * 2, self.publishing).await.expect("all of it is confirmed in time").unwrap();
    }
}

/// Every number is there once: as many points as readings, and their sum is theirs.
async fn all_there_once(influxd: &Influxd, readings: u64) {
    eventually("every reading is in InfluxDB", DEADLINE, async || {
        influxd.count("heartwatch", "counted", "value").await >= readings
    })
    .await;
    let rows = influxd.rows("heartwatch", "SELECT count(\"value\"), sum(\"value\") FROM counted").await;
    let (count, sum) = (rows[0][1].as_f64().unwrap(), rows[0][2].as_f64().unwrap());
    let expected = (readings as f64, (readings * (readings + 1) / 2) as f64);
    assert_eq!((count, sum), expected);
}

#[tokio::test]
async fn kafka_and_server_are_killed_in_the_middle_and_no_reading_is_lost_or_doubled() {
    let Some(mut kafka) = Kafka::start().await else { return };
    let Some(influxd) = Influxd::start().await else { return };
    let mut server = Server::start(&["--kafka", &kafka.brokers()]).await;
    let directory = tempfile::tempdir().unwrap();
    let page = free_port();
    let mut behind = monitor(&directory, &kafka, &influxd, page);
    behind.says("heartwatch runs").await;
    let readings = 600;
    let stream = Stream::start(&server, "agent-1", readings);
    let stored = async || influxd.count("heartwatch", "counted", "value").await;
    eventually("readings arrive", DEADLINE, async || stored().await > 20).await;
    // The monitor is killed with what it had not committed to Kafka: that comes again, and is recognised.
    behind.kill();

    kafka.kill();
    // While Kafka is away the server goes on taking readings: they wait on its disk.
    let buffered =
        async |server: &Server| server.say(&["stats"]).await.1["sinks"][0]["buffered_rows"].as_u64().unwrap();
    eventually("readings wait on the server's disk", DEADLINE, async || buffered(&server).await > 50).await;
    server.program.kill();
    server.restart().await;
    kafka.restart().await;
    behind = monitor(&directory, &kafka, &influxd, page);
    behind.says("heartwatch runs").await;
    stream.finished().await;
    all_there_once(&influxd, readings).await;
    let account = Monitor::at(format!("http://127.0.0.1:{page}").parse().unwrap()).unwrap().ledger().await.unwrap();
    let account = account.accounts.iter().find(|line| line.publisher.as_str() == "agent-1").unwrap().account;
    assert_eq!((account.received, account.missing, account.lost), (readings, 0, 0), "{account:?}");

    // What Kafka has twice is there once.
    let mut data = read(&kafka, "monitoring-data");
    let again = next(&mut data).await;
    let producer = KafkaProducer::new(&kafka.brokers()).unwrap();
    producer.send("monitoring-data", "plant-7", again.to_string().as_bytes()).await.unwrap();
    let monitor = Monitor::at(format!("http://127.0.0.1:{page}").parse().unwrap()).unwrap();
    eventually("the copy is counted as one", DEADLINE, async || {
        let ledger = monitor.ledger().await.unwrap();
        ledger.accounts.iter().any(|line| line.account.duplicates > account.duplicates)
    })
    .await;
    all_there_once(&influxd, readings).await;
    behind.signal(Signal::TERM);
    assert!(behind.exit(DEADLINE).await.success());
}

#[tokio::test]
async fn the_monitor_behind_kafka_hears_heartbeats_and_goodbyes() {
    use heartwatch_domain::beat::Heartbeat;
    use heartwatch_domain::publisher::{HostName, Incarnation};
    use heartwatch_domain::verdict::Verdict;
    use heartwatch_formats::envelope::{self, HeartbeatNote, Prefix, TopicKind};
    use heartwatch_ports::{Outgoing, Transport as _};
    let Some(kafka) = Kafka::start().await else { return };
    let server = Server::start(&["--kafka", &kafka.brokers()]).await;
    let (directory, page, brokers) = (tempfile::tempdir().unwrap(), free_port(), kafka.brokers());
    let mut command = command(directory.path());
    let address = format!("127.0.0.1:{page}");
    command.args(["run", "--web", &address, "--mqtt-listen", "127.0.0.1:0", "--kafka", &brokers]);
    let behind = Program::start(command);
    behind.says("heartwatch runs").await;
    let ours = agent(&server, "agent-1");
    let (id, host) = (PublisherId::parse("agent-1").unwrap(), HostName::parse("far-away").unwrap());
    let heartbeat = Heartbeat {
        incarnation: Incarnation(7),
        process: None,
        sequence: 0,
        cursor: 0,
        idle: true,
        interval: Duration::from_secs(1),
        is_agent: true,
        outbox_stalled: None,
    };
    let note = HeartbeatNote {
        host: host.clone(),
        heartbeat,
        confirmed: 0,
        earlier: Vec::new(),
        errors: envelope::ErrorNote::default(),
    };
    let say = async |kind, payload| {
        let topic = Prefix::default().topic(&id, kind);
        ours.transport.publish(Outgoing { topic, payload, at_least_once: true }).await.unwrap();
    };
    let monitor = Monitor::at(format!("http://{address}").parse().unwrap()).unwrap();
    let verdict = async || {
        let status = monitor.status().await.unwrap();
        status.publishers.into_iter().find(|publisher| publisher.id == id).map(|publisher| publisher.verdict)
    };
    eventually("it is alive", DEADLINE, async || {
        say(TopicKind::Heartbeat, envelope::encode_heartbeat(&note)).await;
        verdict().await == Some(Verdict::Alive)
    })
    .await;
    let goodbye = envelope::Goodbye { host, incarnation: Incarnation(7), sequence: 0 };
    say(TopicKind::Goodbye, envelope::encode_goodbye(&goodbye)).await;
    eventually("it has ended", DEADLINE, async || verdict().await == Some(Verdict::Ended)).await;
}

/// What another writer sends: no number, and a time of whole seconds, which is the same for all.
async fn another_writer_sends(kafka: &Kafka, values: std::ops::Range<u32>) {
    let producer = KafkaProducer::new(&kafka.brokers()).unwrap();
    for value in values {
        let message = json!({"timestamp": 1_763_683_203, "client_id": "k-ten", "hostname": "h1", "metric": "cpu", "value": value});
        producer.send("monitoring-data", "h1", message.to_string().as_bytes()).await.unwrap();
    }
}

/// Deletes the topic of readings, and makes it again with as many partitions.
async fn topic_made_anew(kafka: &Kafka) {
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    use rdkafka::client::DefaultClientContext;
    let admin: AdminClient<DefaultClientContext> =
        rdkafka::ClientConfig::new().set("bootstrap.servers", kafka.brokers()).create().unwrap();
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    let deleted = admin.delete_topics(&["monitoring-data"], &options).await.unwrap();
    assert!(deleted[0].is_ok(), "{deleted:?}");
    let topic = NewTopic::new("monitoring-data", 2, TopicReplication::Fixed(1));
    let made = async || admin.create_topics([&topic], &options).await.is_ok_and(|made| made[0].is_ok());
    eventually("the topic is made again", DEADLINE, made).await;
}

#[tokio::test]
async fn readings_of_another_writer_with_one_second_are_as_many_points_and_an_offset_is_one_row() {
    let Some(kafka) = Kafka::start().await else { return };
    let Some(influxd) = Influxd::start().await else { return };
    another_writer_sends(&kafka, 0..10).await;
    let (directory, page) = (tempfile::tempdir().unwrap(), free_port());
    let mut behind = monitor(&directory, &kafka, &influxd, page);
    let stored = async || influxd.count("heartwatch", "cpu", "value").await;
    eventually("ten readings are ten points", DEADLINE, async || stored().await == 10).await;

    // A group that has read nothing yet gets all of it again.
    behind.kill();
    std::fs::write(directory.path().join("heartwatch.toml"), "[kafka]\ngroup = 'second'\n").unwrap();
    let mut behind = monitor(&directory, &kafka, &influxd, page);
    let asked = Monitor::at(format!("http://127.0.0.1:{page}").parse().unwrap()).unwrap();
    let total = async || asked.ledger().await.map(|ledger| ledger.total).unwrap_or_default();
    eventually("they are known", DEADLINE, async || total().await.duplicates == 10).await;
    another_writer_sends(&kafka, 3..5).await;
    eventually("what is sent again is another message", DEADLINE, async || stored().await == 12).await;
    assert_eq!((total().await.stored, total().await.duplicates), (12, 10));

    behind.kill();
    topic_made_anew(&kafka).await;
    another_writer_sends(&kafka, 20..23).await;
    std::fs::write(directory.path().join("heartwatch.toml"), "[kafka]\ngroup = 'third'\n").unwrap();
    let behind = monitor(&directory, &kafka, &influxd, page);
    eventually("they are other messages", DEADLINE, async || stored().await == 15).await;
    behind.says("was made anew").await;
}

#[tokio::test]
async fn the_analysis_counts_and_commands() {
    let Some(kafka) = Kafka::start().await else { return };
    let server = Server::start(&["--kafka", &kafka.brokers()]).await;
    let old = OldAgent::connect(server.address()).await;
    for (second, value) in [(1, 3.0), (2, 1.0), (3, 2.0)] {
        old.say("cpu", 1_763_683_200 + second, value).await;
    }
    let brokers = kafka.brokers();
    let arguments = ["analysis", "--kafka", &brokers, "--json", "--from-beginning", "--limit", "3", "--for", "60s"];
    let done = finished(server.directory.path(), &arguments, DEADLINE).await;
    let lines: Vec<Value> = done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((done.code, lines.len()), (Some(0), 4), "{done:?}");
    assert_eq!(lines[0]["client_id"], "worker-1");
    assert_eq!(
        lines[3]["stats"],
        json!([{"client_id": "worker-1", "metric": "cpu", "count": 3, "average": 2.0, "min": 1.0, "max": 3.0}])
    );

    let mut ours = agent(&server, "agent-1");
    let answering = tokio::spawn(async move {
        let command = ours.commands.recv().await.unwrap();
        ours.results.send(CommandResult { id: command.id, success: true, output: "pong".to_owned() }).await.unwrap();
        ours
    });
    let arguments = ["analysis", "--kafka", &brokers, "send", "agent-1", "ping"];
    let done = finished(server.directory.path(), &arguments, DEADLINE).await;
    assert_eq!((done.code, done.stdout.trim()), (Some(0), "agent-1 ping ok: pong"), "{done:?}");
    let _ours = answering.await.unwrap();
}
