//! Agents and server over real gRPC: our own on both ends, and existing ones, played by the generated code.
#![cfg(feature = "hosts")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says where")]

use crate::support;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use heartwatch_domain::command::{Command, CommandResult};
use heartwatch_domain::intake::DeliveryState;
use heartwatch_domain::publisher::{HostName, Incarnation, PublisherId};
use heartwatch_domain::reading::{FieldValue, Reading};
use heartwatch_domain::time::Timestamp;
use heartwatch_fleet::grpc::client::{self, GrpcClient, GrpcClientConfig};
use heartwatch_fleet::grpc::server::{self, AgentEvent, GrpcServer, GrpcServerConfig, Protocol};
use heartwatch_fleet::wire::monitoring as wire;
use heartwatch_fleet::wire::monitoring::agent_service_client::AgentServiceClient;
use heartwatch_fleet::wire::monitoring::monitoring_service_client::MonitoringServiceClient;
use heartwatch_fleet::wire::monitoring::monitoring_service_server::{MonitoringService, MonitoringServiceServer};
use heartwatch_formats::envelope::{self, Message, Prefix, Topic, TopicKind};
use heartwatch_ports::Delivery;
use heartwatch_ports::{Outgoing, Transport, TransportEvent};
use heartwatch_system::clock::Clock;
use support::free_port;
use support::heartwatch::{PATIENCE, Program};
use support::hosts::agent_command;
use tokio::sync::mpsc;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(20);

async fn serve(port: u16) -> GrpcServer {
    serve_with(GrpcServerConfig::new(([127, 0, 0, 1], port).into())).await
}

async fn serve_with(config: GrpcServerConfig) -> GrpcServer {
    let mut server = server::serve(config, Clock::start()).await.unwrap();
    let first = server.events.recv().await.unwrap();
    assert!(matches!(first, TransportEvent::Connected { .. }), "{first:?}");
    server
}

fn id(text: &str) -> PublisherId {
    PublisherId::parse(text).unwrap()
}

fn open(port: u16, client_id: &str) -> GrpcClient {
    let config = GrpcClientConfig {
        backoff_min: Duration::from_millis(20),
        backoff_max: Duration::from_millis(100),
        ..GrpcClientConfig::new(format!("127.0.0.1:{port}"), id(client_id))
    };
    client::connect(config, Clock::start()).unwrap()
}

async fn channel(server: SocketAddr) -> tonic::transport::Channel {
    tonic::transport::Endpoint::from_shared(format!("http://{server}")).unwrap().connect().await.unwrap()
}

async fn event(events: &mut mpsc::Receiver<TransportEvent>) -> TransportEvent {
    timeout(DEADLINE, events.recv()).await.expect("an event in time").expect("the transport goes on")
}

async fn delivery(events: &mut mpsc::Receiver<TransportEvent>) -> Delivery {
    loop {
        if let TransportEvent::Delivery(delivery) = event(events).await {
            return delivery;
        }
    }
}

async fn connected(events: &mut mpsc::Receiver<TransportEvent>) {
    while !matches!(event(events).await, TransportEvent::Connected { .. }) {}
}

async fn result(server: &mut GrpcServer) -> (String, CommandResult) {
    loop {
        if let AgentEvent::Result { client_id, result, known } =
            timeout(DEADLINE, server.agent_events.recv()).await.unwrap().unwrap()
        {
            if let Some(known) = known {
                known.send(true).unwrap();
            }
            return (client_id, result);
        }
    }
}

async fn joined(server: &mut GrpcServer) -> String {
    match timeout(DEADLINE, server.agent_events.recv()).await.unwrap().unwrap() {
        AgentEvent::Joined { client_id } => client_id,
        other @ AgentEvent::Result { .. } => panic!("{other:?}"),
    }
}

fn readings(publisher: &str, incarnation: u64, numbers: std::ops::RangeInclusive<u64>) -> Outgoing {
    let reading = |sequence| Reading {
        sequence,
        time: Timestamp::from_nanos(1_763_683_203_000_000_000 + i64::try_from(sequence).unwrap()),
        measurement: "cpu".to_owned(),
        tags: Vec::new(),
        fields: vec![("value".to_owned(), FieldValue::Float(0.5))],
    };
    let readings: Vec<_> = numbers.map(reading).collect();
    let host = HostName::parse("h").unwrap();
    let payload = envelope::encode_readings(&host, Incarnation(incarnation), &readings, 1_000_000).unwrap().remove(0);
    Outgoing { topic: Prefix::default().topic(&id(publisher), TopicKind::Readings), payload, at_least_once: true }
}

fn command(id: &str, kind: &str) -> Command {
    Command { id: id.to_owned(), kind: kind.to_owned(), data: String::new() }
}

#[tokio::test]
async fn what_a_publisher_says_goes_to_the_server_and_confirmations_and_commands_come_back() {
    let mut server = serve(0).await;
    let mut agent = open(server.listen.port(), "agent-1");
    connected(&mut agent.events).await;
    assert_eq!(joined(&mut server).await, "agent-1", "before it has said anything");
    server.agents.send("agent-1", &command("c-0", "ping"), Timestamp::from_nanos(0)).unwrap();
    assert_eq!(timeout(DEADLINE, agent.commands.recv()).await.unwrap(), Some(command("c-0", "ping")));

    let sent = readings("agent-1", 7, 1..=3);
    agent.transport.publish(sent.clone()).await.unwrap();
    let came = delivery(&mut server.events).await;
    assert_eq!((came.topic, came.payload), (sent.topic, sent.payload));

    let state = DeliveryState {
        publisher: id("agent-1"),
        incarnation: Incarnation(7),
        through: 3,
        highest: 3,
        gaps: vec![],
        produced: 3,
        refused: 0,
        journal: Some("000102030405060708090a0b0c0d0e0f".parse().unwrap()),
    };
    let topic = Prefix::default().topic(&state.publisher, TopicKind::Confirm);
    let confirmation = envelope::Confirmation { state, deadline: Some(DEADLINE) };
    let confirm = Outgoing { topic, payload: envelope::encode_confirm(&confirmation), at_least_once: false };
    server.transport.try_publish(confirm).unwrap();
    let heard = delivery(&mut agent.events).await;
    assert_eq!(envelope::decode_confirm(&id("agent-1"), &heard.payload).unwrap(), confirmation);

    let done = CommandResult { id: "c-0".to_owned(), success: true, output: "pong".to_owned() };
    agent.results.send(done.clone()).await.unwrap();
    assert_eq!(result(&mut server).await, ("agent-1".to_owned(), done));

    let agents = server.agents.list();
    assert_eq!((agents.len(), agents[0].host.as_str(), agents[0].protocol), (1, "h", Protocol::Relay));

    // Without a goodbye its end is a reason to look.
    drop(agent);
    let will = delivery(&mut server.events).await;
    assert_eq!(Topic::parse(&Prefix::default(), &will.topic).unwrap().kind, TopicKind::LastWill);
    let Ok(Message::LastWill(will)) = envelope::decode(TopicKind::LastWill, &id("agent-1"), &will.payload) else {
        panic!()
    };
    assert_eq!(will.incarnation, Incarnation(7));
    support::eventually("nobody is there", DEADLINE, async || server.agents.count() == 0).await;
}

#[tokio::test]
async fn the_idlest_connection_that_has_sent_nothing_makes_room_and_agents_stay() {
    use tokio::io::AsyncReadExt as _;
    let config = GrpcServerConfig { connections_max: 4, ..GrpcServerConfig::new(([127, 0, 0, 1], 0).into()) };
    let mut server = server::serve(config, Clock::start()).await.unwrap();
    let agent = open(server.listen.port(), "agent-1");
    // when the second one has come, the first one has been dealt with
    for number in 1..=2 {
        agent.transport.publish(readings("agent-1", 7, number..=number)).await.unwrap();
        delivery(&mut server.events).await;
    }
    let mut strangers = std::collections::VecDeque::new();
    for _ in 0..8 {
        strangers.push_back(tokio::net::TcpStream::connect(server.listen).await.unwrap());
        if strangers.len() > 3 {
            let mut oldest = strangers.pop_front().unwrap();
            let ended = async { while oldest.read_u8().await.is_ok() {} };
            timeout(DEADLINE, ended).await.expect("the idlest one is closed");
        }
    }
    agent.transport.publish(readings("agent-1", 7, 3..=3)).await.unwrap();
    assert_eq!(delivery(&mut server.events).await.topic, "heartwatch/v1/agent-1/readings");
    let other = open(server.listen.port(), "agent-2");
    other.transport.publish(readings("agent-2", 1, 1..=1)).await.unwrap();
    assert_eq!(delivery(&mut server.events).await.topic, "heartwatch/v1/agent-2/readings");
}

#[tokio::test]
async fn a_server_that_is_away_is_found_again_and_an_end_in_order_leaves_no_last_will() {
    let port = free_port();
    let mut agent = open(port, "agent-1");
    let mut server = serve(port).await;
    connected(&mut agent.events).await;
    agent.transport.publish(readings("agent-1", 7, 1..=1)).await.unwrap();
    delivery(&mut server.events).await;
    server.transport.disconnect().await;
    drop(server);
    while !matches!(event(&mut agent.events).await, TransportEvent::Disconnected { .. }) {}

    let mut server = serve(port).await;
    connected(&mut agent.events).await;
    agent.transport.publish(readings("agent-1", 7, 2..=2)).await.unwrap();
    let goodbye = envelope::Goodbye { host: HostName::parse("h").unwrap(), incarnation: Incarnation(7), sequence: 2 };
    let topic = Prefix::default().topic(&id("agent-1"), TopicKind::Goodbye);
    let payload = envelope::encode_goodbye(&goodbye);
    agent.transport.publish(Outgoing { topic, payload, at_least_once: true }).await.unwrap();
    agent.transport.disconnect().await;
    let kinds = async |server: &mut GrpcServer| {
        Topic::parse(&Prefix::default(), &delivery(&mut server.events).await.topic).unwrap().kind
    };
    assert_eq!(kinds(&mut server).await, TopicKind::Readings);
    assert_eq!(kinds(&mut server).await, TopicKind::Goodbye);
    // The next thing that is heard is another agent: nothing was said in between.
    let other = open(port, "agent-2");
    other.transport.publish(readings("agent-2", 1, 1..=1)).await.unwrap();
    assert_eq!(delivery(&mut server.events).await.topic, "heartwatch/v1/agent-2/readings");
}

#[tokio::test]
async fn an_existing_agent_is_numbered_and_gets_a_command_without_sending_again() {
    let mut server = serve(0).await;
    let mut old = MonitoringServiceClient::new(channel(server.listen).await);
    let (out, mut out_end) = mpsc::channel(8);
    let requests = futures_util::stream::poll_fn(move |context| out_end.poll_recv(context));
    let data = |metric: &str, value| wire::MonitoringData {
        timestamp: 1_763_683_203,
        hostname: "plant 7".to_owned(),
        metric: metric.to_owned(),
        value,
        client_id: "worker/1".to_owned(),
    };
    let mut commands = old.monitor_stream(requests).await.unwrap().into_inner();
    out.send(data("cpu", 12.5)).await.unwrap();
    assert_eq!(joined(&mut server).await, "worker/1");
    server.agents.send("worker/1", &command("c-1", "status"), Timestamp::from_nanos(5_000_000_000)).unwrap();
    let command = timeout(DEADLINE, commands.message()).await.unwrap().unwrap().unwrap();
    assert_eq!((command.command_id.as_str(), command.command_type.as_str(), command.timestamp), ("c-1", "status", 5));

    out.send(data("memory", 40.0)).await.unwrap();
    let mut came = Vec::new();
    for _ in 0..2 {
        let delivery = delivery(&mut server.events).await;
        let topic = Topic::parse(&Prefix::default(), &delivery.topic).unwrap();
        assert_eq!(topic.publisher.as_str(), "worker-1");
        let Ok(Message::Readings(batch)) = envelope::decode(topic.kind, &topic.publisher, &delivery.payload) else {
            panic!()
        };
        assert_eq!(batch.host.as_str(), "plant-7");
        came.push((batch.readings[0].sequence, batch.readings[0].measurement.to_string()));
    }
    assert_eq!(came, [(1, "cpu".to_owned()), (2, "memory".to_owned())]);

    // A value that no database takes is handed on to be counted, and does not end the stream.
    out.send(data("cpu", f64::NAN)).await.unwrap();
    assert!(String::from_utf8_lossy(&delivery(&mut server.events).await.payload).contains("cpu"));
    // Nor does a name that alarms rest on, which gets no number.
    for metric in ["heartwatch_internal", "sensor_defect", "connectivity_error", "sensor.error.cpu"] {
        out.send(data(metric, 1.0)).await.unwrap();
        let refused = delivery(&mut server.events).await.payload;
        let said = String::from_utf8_lossy(&refused);
        assert!(said.contains(metric) && said.contains("take another name"), "{said}");
    }
    // Nobody is nobody.
    out.send(wire::MonitoringData { client_id: " ".to_owned(), ..data("cpu", 1.0) }).await.unwrap();
    let status = timeout(DEADLINE, commands.message()).await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
    assert_eq!(server.agents.refused(), 1);
}

/// An existing agent that samples once a minute promises nothing: its open stream does. What it sends first it is to send again
/// about as often as it did, as far as that is known.
#[tokio::test]
async fn an_open_stream_is_the_heartbeat_of_an_existing_agent() {
    let every = Duration::from_millis(50);
    let config = GrpcServerConfig::new(([127, 0, 0, 1], 0).into());
    let mut server = serve_with(GrpcServerConfig { open_stream_every: every, ..config }).await;
    let mut old = MonitoringServiceClient::new(channel(server.listen).await);
    let (out, mut out_end) = mpsc::channel(8);
    let requests = futures_util::stream::poll_fn(move |context| out_end.poll_recv(context));
    let data = |metric: &str| wire::MonitoringData {
        timestamp: 1_763_683_203,
        hostname: "plant-7".to_owned(),
        metric: metric.to_owned(),
        value: 1.0,
        client_id: "worker-1".to_owned(),
    };
    let stream = old.monitor_stream(requests).await.unwrap();
    let beat = async |server: &mut GrpcServer| loop {
        let delivery = delivery(&mut server.events).await;
        let topic = Topic::parse(&Prefix::default(), &delivery.topic).unwrap();
        if let Ok(Message::Heartbeat(note)) = envelope::decode(topic.kind, &topic.publisher, &delivery.payload) {
            assert_eq!((topic.publisher.as_str(), note.host.as_str()), ("worker-1", "plant-7"));
            assert_eq!((note.heartbeat.interval, note.confirmed), (every, note.heartbeat.sequence));
            return note.heartbeat;
        }
    };
    out.send(data("cpu")).await.unwrap();
    out.send(data("memory")).await.unwrap();
    for _ in 0..5 {
        assert!(beat(&mut server).await.idle, "how often it sends is not known");
    }
    out.send(data("cpu")).await.unwrap();
    let mut last = beat(&mut server).await;
    while last.idle {
        last = beat(&mut server).await;
    }
    assert_eq!((last.sequence, last.cursor), (3, 3), "it is to have sent the next one by now");
    out.send(data("cpu")).await.unwrap();
    while !beat(&mut server).await.idle {}
    // another stream speaks for it now, and only that one counts
    let mut new = MonitoringServiceClient::new(channel(server.listen).await);
    let (out_2, mut out_2_end) = mpsc::channel(8);
    let requests = futures_util::stream::poll_fn(move |context| out_2_end.poll_recv(context));
    let _stream = new.monitor_stream(requests).await.unwrap();
    out_2.send(data("cpu")).await.unwrap();
    while beat(&mut server).await.incarnation == last.incarnation {}
    for _ in 0..5 {
        assert!(beat(&mut server).await.incarnation > last.incarnation);
    }
    drop((stream, out));
    assert!(beat(&mut server).await.incarnation > last.incarnation);
}

/// An existing server: it answers nothing before its first command, as Python's do.
struct OldServer {
    came: mpsc::Sender<wire::MonitoringData>,
}

#[tonic::async_trait]
impl MonitoringService for OldServer {
    type MonitorStreamStream =
        std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<wire::Command, tonic::Status>> + Send>>;
    async fn monitor_stream(
        &self,
        request: tonic::Request<tonic::Streaming<wire::MonitoringData>>,
    ) -> Result<tonic::Response<Self::MonitorStreamStream>, tonic::Status> {
        let mut incoming = request.into_inner();
        let first = incoming.message().await?.unwrap();
        self.came.send(first).await.unwrap();
        let came = self.came.clone();
        let (out, mut out_end) = mpsc::channel(1);
        let command = wire::Command {
            command_id: "c-9".to_owned(),
            command_type: "status".to_owned(),
            command_data: String::new(),
            timestamp: 1,
        };
        out.send(Ok(command)).await.unwrap();
        tokio::spawn(async move {
            while let Ok(Some(data)) = incoming.message().await {
                came.send(data).await.unwrap();
            }
            drop(out);
        });
        Ok(tonic::Response::new(Box::pin(futures_util::stream::poll_fn(move |context| out_end.poll_recv(context)))))
    }
}

#[tokio::test]
async fn an_existing_server_gets_what_its_protocol_can_carry() {
    let port = free_port();
    let (came, mut came_end) = mpsc::channel(64);
    let service = MonitoringServiceServer::new(OldServer { came });
    let serving = tonic::transport::Server::builder().add_service(service).serve(([127, 0, 0, 1], port).into());
    let serving = tokio::spawn(serving);
    let mut agent = open(port, "agent-1");
    connected(&mut agent.events).await;
    agent.transport.publish(readings("agent-1", 7, 1..=3)).await.unwrap();
    let mut through = 0;
    while through < 3 {
        let heard = delivery(&mut agent.events).await;
        through = envelope::decode_confirm(&id("agent-1"), &heard.payload).unwrap().state.through;
    }
    for _ in 0..3 {
        let data = timeout(DEADLINE, came_end.recv()).await.unwrap().unwrap();
        assert_eq!((data.client_id.as_str(), data.hostname.as_str(), data.metric.as_str()), ("agent-1", "h", "cpu"));
        assert_eq!((data.timestamp, data.value), (1_763_683_203, 0.5));
    }
    assert_eq!(timeout(DEADLINE, agent.commands.recv()).await.unwrap(), Some(command("c-9", "status")));
    agent.transport.publish(readings("agent-1", 7, 4..=4)).await.unwrap();
    agent.transport.disconnect().await;
    assert!(timeout(DEADLINE, came_end.recv()).await.unwrap().is_some(), "what waits is sent before the end");
    serving.abort();
}

/// What an existing server was handed is confirmed by nobody; the heartwatch server that takes its place is told so, and
/// calls none of it lost.
#[tokio::test]
async fn what_an_existing_server_was_handed_is_no_loss_of_the_one_that_takes_its_place() {
    let port = free_port();
    let at = format!("127.0.0.1:{port}");
    let (came, mut came_end) = mpsc::channel(1_000);
    let service = MonitoringServiceServer::new(OldServer { came });
    // On a runtime of its own: its end is the end of the connections as well.
    let old_server = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let serving = tonic::transport::Server::builder().add_service(service);
    drop(old_server.spawn(serving.serve(([127, 0, 0, 1], port).into())));
    let directory = tempfile::tempdir().unwrap();
    let _agent = Program::start(agent_command(directory.path(), "web-1", &["--server", &at]));
    let mut handed = 0;
    while handed < 3 {
        assert!(timeout(DEADLINE, came_end.recv()).await.unwrap().is_some());
        handed += 1;
    }
    old_server.shutdown_background();

    let mut command = support::heartwatch::command(directory.path());
    command.args(["server", "--web", "127.0.0.1:0", "--listen", &at, "--data-dir", "server"]);
    let server = Program::start(command);
    server.says("heartwatch server runs").await;
    let page = server.stderr().split("page=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let monitor = heartwatch_adapters::monitor::Monitor::at(page.parse().unwrap()).unwrap();
    support::eventually("its rows are stored, and nothing is missing", PATIENCE, async || {
        let total = monitor.ledger().await.unwrap().total;
        total.stored > 0 && total.missing == 0
    })
    .await;
    let view = monitor.ledger().await.unwrap();
    assert_eq!((view.total.lost, view.losses.len(), view.balances), (0, 0, true), "{view:?}");
}

#[tokio::test]
async fn nobody_answers_for_another_agent() {
    let mut server = serve(0).await;
    let mut agent = open(server.listen.port(), "agent-1");
    connected(&mut agent.events).await;
    assert_eq!(joined(&mut server).await, "agent-1");
    let forged = |output: &str| wire::CommandResponse {
        command_id: "c-0".to_owned(),
        success: true,
        output: output.to_owned(),
        timestamp: 1,
        client_id: "agent-1".to_owned(),
    };
    let mut somebody = AgentServiceClient::new(channel(server.listen).await);
    // On a stream that says nothing of who it is, and beside any stream.
    let (out, mut out_end) = mpsc::channel(8);
    let requests = futures_util::stream::poll_fn(move |context| out_end.poll_recv(context));
    let _answers = somebody.relay(requests).await.unwrap();
    let message = Some(wire::from_agent::Message::Result(forged("on a stream")));
    out.send(wire::FromAgent { message }).await.unwrap();
    let receipt = timeout(DEADLINE, somebody.report_result(forged("beside it"))).await.unwrap().unwrap();
    assert!(!receipt.into_inner().known);
    // A reading on the forger's stream shows that what came before it was read.
    let message = Some(wire::from_agent::Message::Envelope(wire::Envelope {
        publisher: "somebody".to_owned(),
        kind: "readings".to_owned(),
        payload: readings("somebody", 1, 1..=1).payload,
    }));
    out.send(wire::FromAgent { message }).await.unwrap();
    delivery(&mut server.events).await;
    let own = CommandResult { id: "c-0".to_owned(), success: true, output: "its own".to_owned() };
    agent.results.send(own.clone()).await.unwrap();
    assert_eq!(result(&mut server).await, ("agent-1".to_owned(), own), "and nothing before it");
}

#[tokio::test]
async fn a_stream_too_many_is_refused() {
    let listen: SocketAddr = ([127, 0, 0, 1], 0).into();
    let config = GrpcServerConfig { streams_max: 1, ..GrpcServerConfig::new(listen) };
    let mut server = server::serve(config, Clock::start()).await.unwrap();
    let mut first = open(server.listen.port(), "agent-1");
    connected(&mut first.events).await;
    assert_eq!(joined(&mut server).await, "agent-1");
    let mut second = open(server.listen.port(), "agent-2");
    let refused = Arc::new(server.agents.clone());
    support::eventually("the second was refused", DEADLINE, async || refused.refused() > 0).await;
    drop(first);
    connected(&mut second.events).await;
}
