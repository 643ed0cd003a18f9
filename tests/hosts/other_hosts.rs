//! Publishers on other hosts, judged by what the agent there sees: over MQTT, over Kafka and a server, and by the server
//! itself. Hosts are namespaces on this machine.
#![cfg(all(feature = "hosts", feature = "kafka"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what goes wrong in a helper fails its test"
)]

use crate::support;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use heartwatch_domain::evidence::EvidenceKind;
use heartwatch_domain::verdict::{Trigger, Verdict};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use support::heartwatch::{PATIENCE, Program, RunOptions, Running, command, kill, publish_command};
use support::hosts::{Network, agent_command, line, other_host, pid_with};
use support::kafka::Kafka;
use support::mosquitto::{Mosquitto, MosquittoOptions};
use support::server::Server;
use support::{eventually, free_port};

/// What runs on the other host: two publishers at this broker, and an agent.
fn plant(directory: &Path, broker: &str, agent: &[&str]) -> Vec<String> {
    let publishers = ["light-1", "light-2"].map(|id| line(&publish_command(directory, id, broker)));
    let agent = line(&agent_command(directory, "agent-7", agent));
    publishers.into_iter().chain([agent]).collect()
}

/// A publisher that does as it is told, over a FIFO: `freeze` lets no thread of it run until `thaw`.
struct Faulty {
    line: String,
    orders: File,
}

impl Faulty {
    fn new(directory: &Path, id: &str, broker: &str) -> Self {
        let fifo = directory.join(format!("{id}.orders"));
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let mut program = command(directory);
        program.args(["faulty-publisher", "--id", id, "--mqtt", broker]);
        let line = format!("{} < '{}'", line(&program), fifo.display());
        // For reading, too: so nobody waits for the other end.
        let orders = File::options().read(true).write(true).open(fifo).unwrap();
        Self { line, orders }
    }

    fn tell(&self, order: &str) {
        writeln!(&self.orders, "{order}").unwrap();
    }
}

async fn is_hung_as_seen_by_agent_7(monitor: &Running) {
    let change = monitor.explain("light-3").await.change.unwrap();
    let progress = change.evidence.iter().find(|fact| fact.kind == EvidenceKind::Progress).unwrap();
    let detail = &progress.detail;
    assert!(detail.contains("no CPU time") && detail.contains("by the agent agent-7 on plant-7"), "{change:?}");
}

#[tokio::test]
async fn behind_a_link_that_is_cut_everybody_is_unreachable_and_judged_by_the_agent_when_it_is_restored() {
    let Some(network) = Network::new() else { return };
    let port = free_port();
    let lines = format!("listener {port} {}.1\n", network.net);
    let Some(broker) = Mosquitto::start_with(MosquittoOptions { lines, ..MosquittoOptions::default() }).await else {
        return;
    };
    let deadline = Duration::from_secs(2);
    let options = RunOptions { mqtt: Some(broker.url()), deadline, apart: true, ..RunOptions::default() };
    let monitor = Running::start(options).await;
    let there = format!("mqtt://{}.1:{port}", network.net);
    let lines = plant(monitor.directory(), &there, &["--mqtt", &there]);
    let Some(_host) = other_host(monitor.directory(), "plant-7", &lines, Some(&network)) else { return };
    let all = ["light-1", "light-2", "agent-7"];
    for id in all {
        monitor.until(id, Verdict::Alive).await;
    }
    network.cut();
    for id in all {
        monitor.until(id, Verdict::Unreachable).await;
    }
    // What happens meanwhile nobody can see.
    kill(pid_with(&["publish", "light-1", &there]).unwrap(), Signal::KILL);
    network.restore();
    monitor.until("light-2", Verdict::Alive).await;
    monitor.until("agent-7", Verdict::Alive).await;
    monitor.until("light-1", Verdict::Dead).await;
    for id in all {
        let course = monitor.course(id).await;
        let wrong = course.iter().any(|(_, to)| *to == Verdict::Dead && id != "light-1");
        assert!(!wrong, "{id} lives: {course:?}");
    }
    monitor.until_publisher("light-2", "whole again", |view| view.ledger.missing == 0 && view.ledger.lost == 0).await;
}

#[tokio::test]
async fn a_publisher_on_another_host_is_judged_by_what_its_agent_sees() {
    let Some(broker) = Mosquitto::start().await else { return };
    let deadline = Duration::from_secs(3);
    let options = RunOptions { mqtt: Some(broker.url()), deadline, apart: true, ..RunOptions::default() };
    let monitor = Running::start(options).await;
    let url = broker.url();
    let mut lines = plant(monitor.directory(), &url, &["--mqtt", &url]);
    let faulty = Faulty::new(monitor.directory(), "light-3", &url);
    lines.push(faulty.line.clone());
    let Some(host) = other_host(monitor.directory(), "plant-7", &lines, None) else { return };
    for id in ["light-1", "light-2", "light-3", "agent-7"] {
        monitor.until(id, Verdict::Alive).await;
    }
    assert_eq!(monitor.publisher("light-1").await.unwrap().host.to_string(), "plant-7");
    let light_1 = pid_with(&["publish", "light-1", &broker.url()]).unwrap();
    let light_2 = pid_with(&["publish", "light-2", &broker.url()]).unwrap();
    let agent = pid_with(&["agent", "agent-7", &broker.url()]).unwrap();

    let summary = judged_by_agent_7(&monitor, &faulty, light_1, light_2, agent).await;
    assert!(summary.contains("agent-7") && summary.contains("did not answer"), "{summary}");
    monitor.until("agent-7", Verdict::Unreachable).await;
    drop(host);
}

/// What agent-7 tells of each: one is killed, one freezes and thaws, one is stopped and goes on. Then the agent itself is
/// killed, and the last publisher with it: the answer is what the monitor says of that one.
async fn judged_by_agent_7(monitor: &Running, faulty: &Faulty, light_1: u32, light_2: u32, agent: u32) -> String {
    kill(light_1, Signal::KILL);
    monitor.until("light-1", Verdict::Dead).await;
    let change = monitor.explain("light-1").await.change.unwrap();
    let process = change.evidence.iter().find(|fact| fact.kind == EvidenceKind::Process).unwrap();
    assert!(process.detail.contains("by the agent agent-7 on plant-7"), "{change:?}");

    // It lives, and nothing in it moves.
    faulty.tell("freeze");
    monitor.until("light-3", Verdict::Hung).await;
    is_hung_as_seen_by_agent_7(monitor).await;
    faulty.tell("thaw");
    monitor.until("light-3", Verdict::Alive).await;

    kill(light_2, Signal::STOP);
    monitor.until("light-2", Verdict::Stopped).await;
    kill(light_2, Signal::CONT);
    monitor.until("light-2", Verdict::Alive).await;

    kill(agent, Signal::KILL);
    kill(light_2, Signal::KILL);
    monitor.until("light-2", Verdict::Unreachable).await;
    monitor.explain("light-2").await.change.unwrap().summary
}

/// The verdict on this publisher that is in a server's log.
fn said(server: &Server, publisher: &str, verdict: &str) -> String {
    let said = server.program.stderr();
    let is_it =
        |line: &&str| line.contains(&format!("publisher={publisher}")) && line.contains(&format!("to={verdict}"));
    said.lines().rfind(is_it).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn an_agent_that_only_the_server_hears_is_asked_through_kafka() {
    let Some(kafka) = Kafka::start().await else { return };
    let Some(broker) = Mosquitto::start().await else { return };
    let directory = tempfile::tempdir().unwrap();
    let brokers = kafka.brokers();
    // Two of them share the topic of commands: the one that has the agent is to take what is for it.
    let _other = Server::start_apart(&["--kafka", &brokers]).await;
    let server = Server::start_apart(&["--kafka", &brokers]).await;
    let options = RunOptions {
        mqtt: Some(broker.url()),
        deadline: Duration::from_secs(3),
        apart: true,
        arguments: vec!["--kafka".to_owned(), brokers],
        ..RunOptions::default()
    };
    let monitor = Running::start(options).await;
    let url = broker.url();
    let mut lines = plant(directory.path(), &url, &["--server", &server.at]);
    let faulty = Faulty::new(directory.path(), "light-3", &url);
    lines.push(faulty.line.clone());
    let Some(host) = other_host(directory.path(), "plant-7", &lines, None) else { return };
    for id in ["light-1", "light-2", "light-3", "agent-7"] {
        monitor.until(id, Verdict::Alive).await;
    }
    let light_1 = pid_with(&["publish", "light-1", &url]).unwrap();
    let light_2 = pid_with(&["publish", "light-2", &url]).unwrap();
    let agent = pid_with(&["agent", "agent-7", &server.at]).unwrap();

    let summary = judged_by_agent_7(&monitor, &faulty, light_1, light_2, agent).await;
    assert!(
        summary.contains("agent-7") && summary.contains("over Kafka") && summary.contains("over MQTT"),
        "{summary}"
    );
    // What a monitor asks is no news for people at the server.
    assert!(!server.program.stderr().contains("a command has its result"), "{}", server.program.stderr());
    drop(host);
}

#[tokio::test]
async fn an_agent_on_two_ways_is_asked_on_the_one_that_is_left() {
    let Some(kafka) = Kafka::start().await else { return };
    let Some(broker) = Mosquitto::start().await else { return };
    let directory = tempfile::tempdir().unwrap();
    let brokers = kafka.brokers();
    let mut server = Server::start_apart(&["--kafka", &brokers]).await;
    let options = RunOptions {
        mqtt: Some(broker.url()),
        deadline: Duration::from_secs(3),
        apart: true,
        arguments: vec!["--kafka".to_owned(), brokers],
        ..RunOptions::default()
    };
    let monitor = Running::start(options).await;
    let url = broker.url();
    let lines = plant(directory.path(), &url, &["--server", &server.at, "--mqtt", &url]);
    let Some(host) = other_host(directory.path(), "plant-7", &lines, None) else { return };
    for id in ["light-1", "light-2", "agent-7"] {
        monitor.until(id, Verdict::Alive).await;
    }
    // It has answered over Kafka, where its heartbeats come from, too: that is where it is asked first.
    eventually("the server has it", PATIENCE, async || server.health("agent-7").await["connected"] == true).await;
    kill(pid_with(&["publish", "light-1", &url]).unwrap(), Signal::KILL);
    monitor.until("light-1", Verdict::Dead).await;
    server.program.kill();
    kill(pid_with(&["publish", "light-2", &url]).unwrap(), Signal::KILL);
    monitor.until("light-2", Verdict::Dead).await;
    let course = monitor.course("light-2").await;
    assert!(course.iter().all(|(_, to)| *to != Verdict::Unreachable), "{course:?}");
    drop(host);
}

#[tokio::test]
async fn the_server_asks_an_agent_after_another_one_on_its_host() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let server = Server::start_apart(&["--deadline", "3s"]).await;
    let lines = ["agent-7", "agent-8"].map(|id| line(&agent_command(at, id, &["--server", &server.at])));
    let Some(host) = other_host(at, "plant-7", &lines, None) else { return };
    for id in ["agent-7", "agent-8"] {
        server.until(id, "alive").await;
    }
    let agent_7 = pid_with(&["agent", "agent-7", &server.at]).unwrap();
    let agent_8 = pid_with(&["agent", "agent-8", &server.at]).unwrap();

    kill(agent_7, Signal::STOP);
    server.until("agent-7", "stopped").await;
    assert!(
        said(&server, "agent-7", "stopped").contains("by the agent agent-8 on plant-7"),
        "{}",
        server.program.stderr()
    );
    kill(agent_7, Signal::CONT);
    server.until("agent-7", "alive").await;

    kill(agent_7, Signal::KILL);
    server.until("agent-7", "dead").await;
    assert!(
        said(&server, "agent-7", "dead").contains("by the agent agent-8 on plant-7"),
        "{}",
        server.program.stderr()
    );
    assert_eq!(server.health("agent-8").await["verdict"], "alive");

    // Nobody is left who could be asked.
    kill(agent_8, Signal::KILL);
    server.until("agent-8", "unreachable").await;
    let said = said(&server, "agent-8", "unreachable");
    assert!(said.contains("over gRPC") && said.contains("not connected to this server"), "{said}");
    drop(host);
}

/// On the host that it runs on the monitor sees into containers: a publisher there is looked at, and its end seen, like any other.
#[tokio::test]
async fn a_publisher_in_a_container_on_the_monitors_own_host_is_looked_at_and_seen_to_die() {
    let monitor = Running::start(RunOptions::default()).await;
    let url = monitor.mqtt_url().to_owned();
    let lines = ["light-1", "light-2"].map(|id| line(&publish_command(monitor.directory(), id, &url)));
    let Some(_container) = other_host(monitor.directory(), "container-7", &lines, None) else { return };
    for id in ["light-1", "light-2"] {
        monitor.until(id, Verdict::Alive).await;
    }
    let [one, two] = ["light-1", "light-2"].map(|id| pid_with(&["publish", id, &url]).unwrap());
    let inside = monitor.publisher("light-1").await.unwrap().pid.unwrap();
    assert_ne!(inside, one, "it names itself by its number in the container");

    kill(two, Signal::STOP);
    monitor.until("light-2", Verdict::Stopped).await;
    kill(two, Signal::CONT);
    monitor.until("light-2", Verdict::Alive).await;

    kill(one, Signal::KILL);
    monitor.until("light-1", Verdict::Dead).await;
    let change = monitor.explain("light-1").await.change.unwrap();
    assert_eq!(change.trigger, Trigger::ProcessExit, "at once, not at its deadline: {change:?}");
    let process = change.evidence.iter().find(|fact| fact.kind == EvidenceKind::Process).unwrap();
    assert!(process.detail.contains(&format!("PID {inside} of its container")), "{change:?}");
    kill(two, Signal::KILL);
    monitor.until("light-2", Verdict::Dead).await;
}

/// A monitor in a container of its own sees no other one, and says what would help.
#[tokio::test]
async fn a_monitor_in_a_container_says_what_would_help() {
    let monitor = Running::start(RunOptions { apart: true, ..RunOptions::default() }).await;
    let url = monitor.mqtt_url().to_owned();
    let lines = [line(&publish_command(monitor.directory(), "light-1", &url))];
    let Some(_container) = other_host(monitor.directory(), "container-7", &lines, None) else { return };
    monitor.until("light-1", Verdict::Alive).await;
    kill(pid_with(&["publish", "light-1", &url]).unwrap(), Signal::KILL);
    monitor.until("light-1", Verdict::Unreachable).await;
    let summary = monitor.explain("light-1").await.change.unwrap().summary;
    assert!(summary.contains("pid: host") && summary.contains("an agent there"), "{summary}");
}

/// A way that is down makes nobody silent who is heard over it; who is heard over another one is judged as before.
#[tokio::test]
async fn while_kafka_is_away_who_is_heard_over_it_is_unknown() {
    let Some(mut kafka) = Kafka::start().await else { return };
    let brokers = kafka.brokers();
    let server = Server::start(&["--kafka", &brokers]).await;
    let options = RunOptions {
        deadline: Duration::from_secs(3),
        arguments: vec!["--kafka".to_owned(), brokers],
        ..RunOptions::default()
    };
    let monitor = Running::start(options).await;
    let directory = monitor.directory();
    let light = Program::start(publish_command(directory, "light-1", monitor.mqtt_url()));
    let _agents =
        ["agent-7", "agent-8"].map(|id| Program::start(agent_command(directory, id, &["--server", &server.at])));
    for id in ["light-1", "agent-7", "agent-8"] {
        monitor.until(id, Verdict::Alive).await;
    }
    kafka.kill();
    for id in ["agent-7", "agent-8"] {
        monitor.until(id, Verdict::Unknown).await;
        let summary = monitor.explain(id).await.change.unwrap().summary;
        assert!(summary.contains("Kafka"), "{summary}");
    }
    // what is heard over MQTT is judged meanwhile
    light.signal(Signal::KILL);
    monitor.until("light-1", Verdict::Dead).await;
    kafka.restart().await;
    for id in ["agent-7", "agent-8"] {
        monitor.until(id, Verdict::Alive).await;
        let course = monitor.course(id).await;
        let wrong = course.iter().any(|(_, to)| !matches!(to, Verdict::Alive | Verdict::Late | Verdict::Unknown));
        assert!(!wrong, "{id}: {course:?}");
    }
}
