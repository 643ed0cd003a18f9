//! A real agent: over MQTT, with a real etcd, with plugins, with commands. What it says of other processes is in
//! `hosts.rs`.
#![cfg(feature = "hosts")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what goes wrong in a helper fails its test"
)]

use crate::support;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use heartwatch_domain::command::{Command as Order, CommandResult};
use heartwatch_domain::intake::DeliveryState;
use heartwatch_domain::publisher::{Incarnation, PublisherId};
use heartwatch_domain::verdict::Verdict;
use heartwatch_fleet::wire::monitoring as wire;
use heartwatch_fleet::wire::monitoring::agent_service_server::{AgentService, AgentServiceServer};
use heartwatch_formats::command::{decode_answer, encode_ask};
use heartwatch_formats::envelope::{Confirmation, Message, Prefix, TopicKind, decode, encode_confirm};
use heartwatch_system::clock::Clock;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use rustix::process::Signal;
use serde_json::Value;
use support::etcd::Etcd;
use support::heartwatch::{PATIENCE, Program, RunOptions, Running};
use support::hosts::agent_command;
use support::mosquitto::Mosquitto;
use support::{eventually, free_port};
use tonic::{Request, Response, Status, Streaming};
use url::Url;

/// Somebody who gives an agent commands over MQTT.
struct Asker {
    client: AsyncClient,
    events: EventLoop,
    agent: PublisherId,
    asked: u32,
}

impl Asker {
    async fn connect(mqtt_url: &str, agent: &str) -> Self {
        let url: Url = mqtt_url.parse().unwrap();
        let name = format!("asker-{agent}");
        let options = MqttOptions::new(name, url.host_str().unwrap(), url.port().unwrap());
        let (client, events) = AsyncClient::new(options, 100);
        let agent = PublisherId::parse(agent).unwrap();
        client.subscribe(Prefix::default().answer(&agent), QoS::AtLeastOnce).await.unwrap();
        let mut asker = Self { client, events, agent, asked: 0 };
        asker.until(|packet| matches!(packet, Packet::SubAck(_))).await;
        asker
    }

    async fn until(&mut self, wanted: impl Fn(&Packet) -> bool) -> Packet {
        let found = async {
            loop {
                if let Event::Incoming(packet) = self.events.poll().await.unwrap()
                    && wanted(&packet)
                {
                    return packet;
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("the broker says what is expected")
    }

    async fn ask(&mut self, kind: &str, data: &str) -> CommandResult {
        self.asked += 1;
        let order = Order { id: format!("test-{}", self.asked), kind: kind.to_owned(), data: data.to_owned() };
        let topic = Prefix::default().ask(&self.agent);
        self.client.publish(topic, QoS::AtLeastOnce, false, encode_ask(&order, None)).await.unwrap();
        let answer = self.until(|packet| matches!(packet, Packet::Publish(_))).await;
        let Packet::Publish(answer) = answer else { panic!("{answer:?}") };
        let result = decode_answer(&answer.payload).unwrap();
        assert_eq!(result.id, order.id);
        result
    }

    /// The answer to `status`.
    async fn status(&mut self) -> Value {
        let result = self.ask("status", "").await;
        assert!(result.success, "{result:?}");
        serde_json::from_str(&result.output).unwrap()
    }
}

async fn monitor() -> Running {
    Running::start(RunOptions { deadline: Duration::from_secs(2), ..RunOptions::default() }).await
}

#[tokio::test]
async fn an_agent_needs_no_server_and_does_what_is_on_its_list() {
    let monitor = monitor().await;
    let agent = Program::start(agent_command(monitor.directory(), "web-1", &["--mqtt", monitor.mqtt_url()]));
    agent.says("no etcd is named").await;
    monitor.until("web-1", Verdict::Alive).await;
    // Two readings at once, memory and disk; the rates have no first value.
    let stored = |ledger: u64| ledger == 2;
    monitor.until_publisher("web-1", "stored with 2 readings", |view| stored(view.ledger.stored)).await;

    let mut asker = Asker::connect(monitor.mqtt_url(), "web-1").await;
    assert_eq!(asker.ask("ping", "").await.output, "pong");
    let status = asker.status().await;
    assert_eq!((&status["client_id"], &status["config"]["interval"]), (&Value::from("web-1"), &Value::from(10)));
    let config: Value = serde_json::from_str(&asker.ask("get_config", "").await.output).unwrap();
    assert_eq!(config["metrics"][0], "cpu");
    let own = asker.ask("probe", &agent.pid().to_string()).await;
    let own: Value = serde_json::from_str(&own.output).unwrap();
    assert!(own["state"] == "sleeping" || own["state"] == "running", "{own}");
    let nobody = asker.ask("probe", "4194303").await;
    assert!(nobody.output.contains("\"gone\""), "{nobody:?}");
    for (kind, data) in [("exec", "rm -rf /"), ("sh", ""), ("probe", "1; reboot"), ("", "")] {
        let refused = asker.ask(kind, data).await;
        assert!(!refused.success && refused.output.contains("probe <pid>"), "{kind}: {refused:?}");
    }
    // Two questions at once, one of them nonsense: the other one is answered.
    let topic = Prefix::default().ask(&asker.agent);
    asker.client.publish(topic, QoS::AtLeastOnce, false, "{").await.unwrap();
    assert_eq!(asker.ask("ping", "").await.output, "pong");

    agent.signal(Signal::TERM);
    monitor.until("web-1", Verdict::Ended).await;
}

#[tokio::test]
async fn the_configuration_in_etcd_is_live() {
    let Some(etcd) = Etcd::start(1).await else { return };
    let monitor = monitor().await;
    let arguments = ["--mqtt", monitor.mqtt_url(), "--etcd", &etcd.endpoints(), "--lease", "2s"];
    let mut agent = Program::start(agent_command(monitor.directory(), "web-1", &arguments));
    let key = "/monitor/config/web-1";
    eventually("its defaults are in etcd", PATIENCE, async || etcd.get(key).contains("\"interval\": 10")).await;
    eventually("its heartbeat is there", PATIENCE, async || etcd.get("/monitor/heartbeat/web-1").contains("alive"))
        .await;
    let heartbeat: Value = serde_json::from_str(&etcd.get("/monitor/heartbeat/web-1")).unwrap();
    assert!(heartbeat["ts"].is_f64() && heartbeat["hostname"].is_string() && heartbeat["client_id"] == "web-1");

    let mut asker = Asker::connect(monitor.mqtt_url(), "web-1").await;
    let status = async || -> Value { serde_json::from_str(&etcd.get("/monitor/status/web-1")).unwrap_or_default() };
    // Less than one interval of before: it does not wait for its next turn.
    etcd.put(key, r#"{"interval": 0.1}"#);
    let produced = async || monitor.publisher("web-1").await.map_or(0, |view| view.ledger.produced);
    let before = produced().await;
    eventually("it measures ten times a second", Duration::from_secs(9), async || produced().await > before + 50).await;
    eventually("it says so", PATIENCE, async || status().await["config"]["interval"] == 0.1).await;
    assert_eq!(status().await["applied"], true);

    // What is wrong changes nothing, and is said.
    etcd.put(key, r#"{"interval": 5, "metrics": ["cpu", "gpu"]}"#);
    eventually("it says what is wrong", PATIENCE, async || status().await["error"].to_string().contains("'gpu'")).await;
    let now = asker.status().await;
    assert_eq!((&now["config"]["interval"], &status().await["applied"]), (&Value::from(0.1), &Value::from(false)));
    assert!(now["etcd"]["config_error"].to_string().contains("gpu"));

    etcd.put(key, r#"{"metrics": ["memory"], "plugins": ["plugins.gone.Gone", "plugins.logger.LoggerPlugin"]}"#);
    agent.says("memory = ").await;
    let now = asker.status().await;
    assert_eq!(
        (&now["config"]["metrics"], &now["config"]["interval"]),
        (&serde_json::json!(["memory"]), &Value::from(0.1))
    );
    assert!(now["plugins"][0]["state"].to_string().contains("no plugin 'plugins.gone.Gone'"), "{now}");

    // Its lease expires while it stands still, and is granted again.
    agent.signal(Signal::STOP);
    eventually("its key is gone", PATIENCE, async || etcd.get("/monitor/heartbeat/web-1").is_empty()).await;
    agent.signal(Signal::CONT);
    eventually("its key is back", PATIENCE, async || etcd.get("/monitor/heartbeat/web-1").contains("alive")).await;
    eventually("it knows", PATIENCE, async || asker.status().await["etcd"]["leases"] == 2).await;

    agent.signal(Signal::TERM);
    assert_eq!(agent.exit(PATIENCE).await.code(), Some(0));
    assert_eq!(etcd.get("/monitor/heartbeat/web-1"), "", "an end in order gives the lease back");
}

#[tokio::test]
async fn one_member_of_etcd_killed_and_the_leader_stopped() {
    let Some(mut etcd) = Etcd::start(3).await else { return };
    let directory = tempfile::tempdir().unwrap();
    // A broker is missing all the time: that is no reason to be without a heartbeat.
    let nowhere = format!("mqtt://127.0.0.1:{}", free_port());
    let arguments = ["--mqtt", &nowhere, "--etcd", &etcd.endpoints(), "--lease", "4s"];
    let _agent = Program::start(agent_command(directory.path(), "web-1", &arguments));
    let fresh = async |etcd: &Etcd, since: f64| {
        eventually("its heartbeat is refreshed", PATIENCE, async || {
            let heartbeat: Value = serde_json::from_str(&etcd.get("/monitor/heartbeat/web-1")).unwrap_or_default();
            heartbeat["ts"].as_f64().is_some_and(|ts| ts > since)
        })
        .await;
    };
    let now = || Clock::start().wall().as_nanos() as f64 / 1e9;
    fresh(&etcd, 0.0).await;
    let leader = etcd.leader().await;
    etcd.kill((leader + 1) % 3);
    fresh(&etcd, now()).await;
    etcd.restart((leader + 1) % 3).await;
    let leader = etcd.leader().await;
    etcd.pause(leader);
    let follows = async |document: &str, word: &str| {
        eventually("etcd takes the configuration", PATIENCE, async || etcd.try_put("/monitor/config/web-1", document))
            .await;
        eventually("it is followed", PATIENCE, async || etcd.get("/monitor/status/web-1").contains(word)).await;
    };
    follows(r#"{"interval": 7}"#, "7").await;
    fresh(&etcd, now()).await;
    etcd.resume(leader);
    follows(r#"{"interval": 0.7}"#, "0.7").await;
}

#[tokio::test]
async fn it_runs_without_etcd_and_broker_and_joins_them() {
    let Some(mut etcd) = Etcd::start(1).await else { return };
    let Some(mut broker) = Mosquitto::start().await else { return };
    etcd.kill(0);
    broker.kill();
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["--mqtt", &broker.url(), "--etcd", &etcd.endpoints(), "--lease", "2s"];
    let agent = Program::start(agent_command(directory.path(), "web-1", &arguments));
    agent.says("etcd is missing").await;
    agent.says("the agent runs").await;
    etcd.restart(0).await;
    agent.says("etcd answers again").await;
    eventually("its heartbeat is there", PATIENCE, async || etcd.get("/monitor/heartbeat/web-1").contains("alive"))
        .await;
    etcd.put("/monitor/config/web-1", r#"{"interval": 0.2, "metrics": ["memory"]}"#);

    // What was measured while nobody listened comes behind, every reading of it.
    broker.restart().await;
    let options = RunOptions { mqtt: Some(broker.url()), ..RunOptions::default() };
    let monitor = Running::start(options).await;
    monitor.until("web-1", Verdict::Alive).await;
    monitor.until_publisher("web-1", "stored", |view| view.ledger.stored > 10 && view.ledger.lost == 0).await;

    // etcd away and back while the agent runs.
    etcd.restart(0).await;
    eventually("its heartbeat is there again", PATIENCE, async || {
        etcd.get("/monitor/heartbeat/web-1").contains("alive")
    })
    .await;
    etcd.put("/monitor/config/web-1", r#"{"interval": 0.3}"#);
    eventually("and its configuration is followed", PATIENCE, async || {
        etcd.get("/monitor/status/web-1").contains("0.3")
    })
    .await;
}

#[tokio::test]
async fn a_plugin_is_a_file_that_is_dropped_in_and_changed() {
    let Some(etcd) = Etcd::start(1).await else { return };
    let monitor = monitor().await;
    let plugins = monitor.directory().join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    let arguments = ["--mqtt", monitor.mqtt_url(), "--etcd", &etcd.endpoints()];
    etcd.put("/monitor/config/web-1", r#"{"interval": 0.1, "metrics": ["memory"]}"#);
    let agent = Program::start(agent_command(monitor.directory(), "web-1", &arguments));
    monitor.until("web-1", Verdict::Alive).await;
    std::fs::write(plugins.join("mine.rhai"), "fn run(r) { r.metric = \"renamed\"; r }").unwrap();
    agent.says("plugin mine is loaded").await;
    std::fs::write(plugins.join("mine.rhai"), "fn run(r) { loop {} }").unwrap();
    agent.says("left out after 10 failures").await;
    std::fs::write(plugins.join("mine.rhai"), "fn run(r) {").unwrap();
    agent.says("plugin mine is skipped").await;
    let text = "fn initialize(c) { this.limit = c.limit } fn run(r) { if r.value > this.limit { alert(\"full\", \"much\") } r }";
    std::fs::write(plugins.join("mine.rhai"), text).unwrap();
    etcd.put("/monitor/config/web-1", r#"{"plugin_configs": {"mine": {"limit": 0.0}}}"#);
    agent.says("much").await;
    let mut asker = Asker::connect(monitor.mqtt_url(), "web-1").await;
    eventually("events are readings", PATIENCE, async || asker.status().await["events"].as_u64().unwrap() > 0).await;
}

/// A server that confirms what it got and asks one question, on a runtime of its own so that it can be cut off.
struct Server {
    runtime: Option<tokio::runtime::Runtime>,
    port: u16,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// Numbers by incarnation, with how often each came.
    numbers: BTreeMap<Incarnation, BTreeMap<u64, u32>>,
    results: Vec<wire::CommandResponse>,
    agents: u32,
}

#[derive(Clone)]
struct Relay(Arc<Mutex<Seen>>);

#[tonic::async_trait]
impl AgentService for Relay {
    type RelayStream = std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<wire::ToAgent, Status>> + Send>>;

    async fn relay(&self, request: Request<Streaming<wire::FromAgent>>) -> Result<Response<Self::RelayStream>, Status> {
        let mut from = request.into_inner();
        let seen = self.0.clone();
        let (to, mut out) = tokio::sync::mpsc::channel(100);
        tokio::spawn(async move {
            use wire::{from_agent::Message as From, to_agent::Message as To};
            let command_type = "get_config".to_owned();
            let command = wire::Command { command_id: "7".to_owned(), command_type, ..wire::Command::default() };
            to.send(Ok(wire::ToAgent { message: Some(To::Command(command)) })).await.unwrap();
            while let Ok(Some(wire::FromAgent { message: Some(message) })) = from.message().await {
                let envelope = match message {
                    From::Envelope(envelope) => envelope,
                    From::Result(result) => {
                        seen.lock().unwrap().results.push(result);
                        continue;
                    }
                };
                let publisher = PublisherId::parse(&envelope.publisher).unwrap();
                let confirm = match envelope.kind.as_str() {
                    "heartbeat" => {
                        let told = decode(TopicKind::Heartbeat, &publisher, &envelope.payload).unwrap();
                        let Message::Heartbeat(note) = told else { panic!() };
                        seen.lock().unwrap().agents += u32::from(note.heartbeat.is_agent);
                        continue;
                    }
                    "readings" => {
                        let told = decode(TopicKind::Readings, &publisher, &envelope.payload).unwrap();
                        let Message::Readings(batch) = told else { panic!() };
                        let mut seen = seen.lock().unwrap();
                        let numbers = seen.numbers.entry(batch.incarnation).or_default();
                        for reading in &batch.readings {
                            *numbers.entry(reading.sequence).or_default() += 1;
                        }
                        let through = (1..).take_while(|number| numbers.contains_key(number)).last().unwrap_or(0);
                        let state = DeliveryState {
                            publisher,
                            incarnation: batch.incarnation,
                            through,
                            highest: through,
                            gaps: Vec::new(),
                            produced: through,
                            refused: 0,
                            journal: None,
                        };
                        wire::Envelope {
                            kind: "confirm".to_owned(),
                            payload: encode_confirm(&Confirmation { state, deadline: None }),
                            ..envelope
                        }
                    }
                    _ => continue,
                };
                if to.send(Ok(wire::ToAgent { message: Some(To::Envelope(confirm)) })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(futures_util::stream::poll_fn(move |context| out.poll_recv(context)))))
    }

    async fn report_result(&self, _: Request<wire::CommandResponse>) -> Result<Response<wire::ResultReceipt>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

impl Server {
    fn new() -> Self {
        Self { runtime: None, port: free_port(), seen: Arc::default() }
    }

    fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let service = AgentServiceServer::new(Relay(self.seen.clone()));
        let listen = ([127, 0, 0, 1], self.port).into();
        runtime.spawn(
            async move { tonic::transport::Server::builder().add_service(service).serve(listen).await.unwrap() },
        );
        self.runtime = Some(runtime);
    }

    fn cut(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// How many different readings came, and whether every number up to there did.
    fn readings(&self) -> (usize, bool) {
        let seen = self.seen.lock().unwrap();
        let whole = seen.numbers.values().all(|numbers| numbers.keys().copied().eq(1..=numbers.len() as u64));
        (seen.numbers.values().map(BTreeMap::len).sum(), whole)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.cut();
    }
}

#[tokio::test]
async fn over_grpc_nothing_is_lost_while_the_server_is_away_and_commands_are_answered() {
    let Some(etcd) = Etcd::start(1).await else { return };
    etcd.put("/monitor/config/web-1", r#"{"interval": 0.1, "metrics": ["memory"]}"#);
    let mut server = Server::new();
    let directory = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{}", server.port);
    let arguments = ["--server", &address, "--etcd", &etcd.endpoints()];
    let mut agent = Program::start(agent_command(directory.path(), "web-1", &arguments));
    // Only then: until etcd has answered, what the command below asks for are the defaults.
    agent.says("measuring interval=100ms").await;
    server.start();
    eventually("readings come", PATIENCE, async || server.readings().0 > 20).await;
    eventually("the command is answered", PATIENCE, async || !server.seen.lock().unwrap().results.is_empty()).await;
    let result = server.seen.lock().unwrap().results[0].clone();
    assert!(result.success && result.command_id == "7" && result.output.contains("\"interval\":0.1"), "{result:?}");
    assert!(server.seen.lock().unwrap().agents > 0, "its heartbeats say that it is an agent");

    server.cut();
    let before = server.readings().0;
    // It is killed while the server is away: what it had measured is on disk.
    tokio::time::sleep(Duration::from_millis(500)).await;
    agent.kill();
    let agent = Program::start(agent_command(directory.path(), "web-1", &arguments));
    agent.says("the outbox holds readings of earlier lives").await;
    server.start();
    eventually("all of both lives is there", PATIENCE, async || {
        let lives = server.seen.lock().unwrap().numbers.len();
        let (readings, whole) = server.readings();
        lives == 2 && whole && readings > before + 20
    })
    .await;
}
