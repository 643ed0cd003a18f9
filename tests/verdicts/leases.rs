//! Agents, server and monitor with a real etcd between them, and a real Kafka behind the server.
#![cfg(all(feature = "hosts", feature = "kafka"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what goes wrong in a helper fails its test"
)]

use crate::support;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use heartwatch_domain::evidence::EvidenceKind;
use heartwatch_domain::verdict::{Trigger, Verdict};
use heartwatch_fleet::kafka::{Consumed, Consumption, StartAt, consume};
use heartwatch_formats::api::ReconciliationView;
use rustix::process::Signal;
use serde_json::{Value, json};
use support::etcd::Etcd;
use support::eventually;
use support::heartwatch::{PATIENCE, Program, RunOptions, Running, command, finished, fixture};
use support::influxd::Influxd;
use support::kafka::Kafka;
use support::server::Server;
use tokio::sync::mpsc;

const DEADLINE: Duration = Duration::from_secs(90);

fn agent_command(directory: &Path, id: &str, arguments: &[&str]) -> Command {
    let mut command = command(directory);
    let node = id.replace("agent", "node");
    command.args(["agent", "--id", id, "--name", &node, "--heartbeat", "500ms", "--data-dir"]);
    command.arg(directory.join("agent")).args(arguments);
    command
}

/// Waits until it has seen that this node's heartbeat was written once more than now.
async fn sees_a_refresh(server: &Server, name: &str) {
    let before = server.node(name).await["written"].clone();
    eventually(&format!("{name} is refreshed after {before}"), DEADLINE, async || {
        server.node(name).await["written"].as_str() > before.as_str()
    })
    .await;
}

/// The nodes whose heartbeats it has said to be gone, one for each time.
fn gone(server: &Server) -> Vec<String> {
    let said = server.program.stderr();
    let gone = said.lines().filter(|line| line.contains("its heartbeat in etcd is gone"));
    gone.map(|line| ["node-7", "node-8"].into_iter().find(|node| line.contains(node)).unwrap_or(line).to_owned())
        .collect()
}

/// The interval that an agent says is in force.
async fn interval(server: &Server, agent: &str) -> Value {
    let answer = server.say(&["send", agent, "get_config"]).await.1;
    let output = answer["results"][0]["output"].as_str().unwrap_or_default();
    serde_json::from_str::<Value>(output).unwrap_or_default()["interval"].clone()
}

#[tokio::test]
async fn the_server_sees_leases_come_and_go_and_configures_agents() {
    let Some(mut etcd) = Etcd::start(1).await else { return };
    let server = Server::start(&["--etcd", &etcd.endpoints()]).await;
    let (code, answer) = server.say(&["config", "node-7", r#"{"metrics":["memory"]}"#]).await;
    assert_eq!((code, &answer["heartbeat"]), (0, &json!(false)), "also before its agent is there: {answer}");
    let arguments = ["--server", &server.at, "--etcd", &etcd.endpoints(), "--lease", "2s"];
    let mut agent = Program::start(agent_command(server.directory.path(), "agent-7", &arguments));
    eventually("its lease is seen", DEADLINE, async || server.node("node-7").await["heartbeat"] == true).await;
    let node = server.node("node-7").await;
    assert_eq!((&node["node"], &node["client_id"]), (&json!("node-7"), &json!("agent-7")), "{node}");
    eventually("it is connected", DEADLINE, async || server.say(&["list"]).await.1["agents"][0].is_object()).await;
    assert_eq!(server.say(&["list"]).await.1["nodes"][0]["node"], "node-7");
    assert_eq!(interval(&server, "agent-7").await, 10);

    let (code, answer) = server.say(&["config", "node-7", r#"{"interval": 0.5, "colour": 1}"#]).await;
    assert_eq!((code, &answer["ignored"], &answer["heartbeat"]), (0, &json!(["colour"]), &json!(true)), "{answer}");
    eventually("it is in force", DEADLINE, async || interval(&server, "agent-7").await == 0.5).await;
    let status: Value = serde_json::from_str(&etcd.get("/monitor/status/node-7")).unwrap();
    assert_eq!(status["config"]["metrics"], json!(["memory"]), "what it did not name has stayed");

    // What is wrong is refused before anybody can read it.
    let written = etcd.get("/monitor/config/node-7");
    for (node, document) in [("node-7", r#"{"interval": 0}"#), ("node-7", "[1]"), ("a/b", "{}")] {
        let (code, answer) = server.say(&["config", node, document]).await;
        assert!(code == 1 && answer["error"].is_string(), "{document}: {answer}");
    }
    assert_eq!(etcd.get("/monitor/config/node-7"), written);

    agent.kill();
    eventually("its lease has expired", DEADLINE, async || server.node("node-7").await["heartbeat"] == false).await;
    let gone = server.node("node-7").await;
    assert!(gone["since"].as_str() > node["since"].as_str(), "{gone}, before {node}");

    // While etcd is away nobody comes or goes, and it is said.
    let agent = Program::start(agent_command(server.directory.path(), "agent-7", &arguments));
    eventually("it is back", DEADLINE, async || server.node("node-7").await["heartbeat"] == true).await;
    etcd.kill(0);
    eventually("etcd is missed", DEADLINE, async || server.say(&["health"]).await.1["etcd"]["connected"] == false)
        .await;
    assert_eq!(server.node("node-7").await["heartbeat"], true, "that is not its agent's fault");
    assert_eq!(server.say(&["config", "node-7", "{}"]).await.0, 1);
    etcd.restart(0).await;
    eventually("it is there again", DEADLINE, async || server.say(&["health"]).await.1["etcd"]["connected"] == true)
        .await;
    // An end in order gives the lease back.
    agent.signal(Signal::TERM);
    eventually("it has left", DEADLINE, async || server.node("node-7").await["heartbeat"] == false).await;
}

#[tokio::test]
async fn behind_three_members_nobody_is_gone_who_is_there_and_who_is_gone_is_seen() {
    let Some(mut etcd) = Etcd::start(3).await else { return };
    let server = Server::start(&["--etcd", &etcd.endpoints()]).await;
    // Longer than half of it and the six seconds that a beat may take in the worst case: two questions, three members,
    // a second for each.
    let arguments = ["--server", &server.at, "--etcd", &etcd.endpoints(), "--lease", "13s"];
    let (stays, leaves) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let _stays = Program::start(agent_command(stays.path(), "agent-7", &arguments));
    let mut leaves = Program::start(agent_command(leaves.path(), "agent-8", &arguments));
    for name in ["node-7", "node-8"] {
        eventually("its lease is seen", DEADLINE, async || server.node(name).await["heartbeat"] == true).await;
    }
    let since = server.node("node-7").await["since"].clone();

    // One that does not lead is killed; then, with all three, the one that leads stands still.
    let leader = etcd.leader().await;
    let follower = (leader + 1) % 3;
    etcd.kill(follower);
    sees_a_refresh(&server, "node-7").await;
    sees_a_refresh(&server, "node-8").await;
    etcd.restart(follower).await;
    let leader = etcd.leader().await;
    etcd.pause(leader);
    sees_a_refresh(&server, "node-7").await;
    sees_a_refresh(&server, "node-8").await;
    assert_eq!(gone(&server), Vec::<String>::new(), "everybody was there all the time");

    // The two that are left see that a lease ends.
    leaves.kill();
    eventually("its lease has ended", DEADLINE, async || server.node("node-8").await["heartbeat"] == false).await;
    // Not resumed: by what it knew when it stood still, an old leader of this version has leases ended that the new one has
    // renewed (etcd-io/etcd#15247).
    etcd.restart(leader).await;
    sees_a_refresh(&server, "node-7").await;
    assert_eq!(gone(&server), ["node-8"]);
    let node = server.node("node-7").await;
    assert_eq!((&node["heartbeat"], &node["since"]), (&json!(true), &since), "{node}");
    assert_eq!(server.node("node-8").await["heartbeat"], false);
}

#[tokio::test]
async fn partial_configurations_add_up_over_restarts_and_of_many_at_once_none_is_lost() {
    let Some(etcd) = Etcd::start(1).await else { return };
    let servers =
        [Server::start(&["--etcd", &etcd.endpoints()]).await, Server::start(&["--etcd", &etcd.endpoints()]).await];
    let [server, _] = &servers;
    let key = "/monitor/config/node-7";
    let stored = || -> Value { serde_json::from_str(&etcd.get(key)).unwrap_or_default() };
    let in_force = async |what: &str| {
        let answer = server.say(&["send", "agent-7", "get_config"]).await.1;
        let output = answer["results"][0]["output"].as_str().unwrap_or_default();
        serde_json::from_str::<Value>(output).unwrap_or_default()[what].clone()
    };
    let arguments = ["--server", &server.at, "--etcd", &etcd.endpoints(), "--lease", "2s"];
    let start = || Program::start(agent_command(server.directory.path(), "agent-7", &arguments));
    let mut agent = start();
    eventually("its defaults are there", DEADLINE, async || stored()["interval"] == 10).await;

    for document in [r#"{"interval": 0.5}"#, r#"{"metrics": ["memory"]}"#] {
        assert_eq!(server.say(&["config", "node-7", document]).await.0, 0);
    }
    let whole = json!({"interval": 0.5, "metrics": ["memory"], "plugins": [], "plugin_configs": {}});
    assert_eq!(stored(), whole, "the whole of it is there, not only the last document");
    agent.kill();
    agent = start();
    eventually("both hold", DEADLINE, async || in_force("interval").await == 0.5).await;
    assert_eq!(in_force("metrics").await, json!(["memory"]));

    // Somebody else's partial document, past the server, and then an agent that starts again.
    etcd.put(key, r#"{"interval": 3}"#);
    eventually("it is in force", DEADLINE, async || in_force("interval").await == 3).await;
    agent.kill();
    agent = start();
    eventually("it is in force again", DEADLINE, async || in_force("interval").await == 3).await;
    assert_eq!(in_force("metrics").await, json!(["memory"]), "what it does not name is as it was");
    assert_eq!(server.say(&["config", "node-7", r#"{"plugins": []}"#]).await.0, 0);
    assert_eq!((&stored()["interval"], &stored()["metrics"]), (&json!(3), &json!(["memory"])));
    agent.kill();

    // Many at once, through two servers: each finds its key there.
    let writers = (0..16).map(|number| {
        let server = &servers[number % 2];
        async move { server.say(&["config", "node-7", &format!("{{\"key-{number}\": {number}}}")]).await }
    });
    for (code, answer) in futures_util::future::join_all(writers).await {
        assert_eq!(code, 0, "{answer}");
    }
    for number in 0..16 {
        assert_eq!(stored()[format!("key-{number}")], number, "{}", stored());
    }
    assert_eq!(stored()["interval"], 3);
}

#[tokio::test]
async fn a_lease_that_ends_makes_the_monitor_look_and_decides_nothing() {
    let Some(etcd) = Etcd::start(1).await else { return };
    let arguments = vec!["--etcd".to_owned(), etcd.endpoints()];
    let options = RunOptions { deadline: Duration::from_secs(600), arguments, ..RunOptions::default() };
    let monitor = Running::start(options).await;
    let publish = |id: &str| {
        let mut command = command(monitor.directory());
        // It promises a sign of life so seldom that its silence alone says nothing during this test.
        command.args(["publish", "--id", id, "--mqtt", monitor.mqtt_url(), "--interval", "50ms", "--heartbeat", "90s"]);
        command.arg("--csv").arg(fixture("light-1.csv")).arg("--data-dir").arg(monitor.directory().join("data"));
        Program::start(command)
    };
    let (stopped, _lives) = (publish("light-1"), publish("light-2"));
    let arguments = ["--mqtt", monitor.mqtt_url(), "--etcd", &etcd.endpoints(), "--lease", "2s"];
    let mut agent = Program::start(agent_command(monitor.directory(), "agent-7", &arguments));
    for id in ["light-1", "light-2", "agent-7"] {
        monitor.until(id, Verdict::Alive).await;
    }
    eventually("its lease is there", PATIENCE, async || !etcd.get("/monitor/heartbeat/node-7").is_empty()).await;
    stopped.signal(Signal::STOP);
    // Longer than a look takes: the monitor has seen the lease.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(monitor.publisher("light-1").await.unwrap().verdict, Verdict::Alive, "nobody has looked");

    agent.kill();
    monitor.until("light-1", Verdict::Stopped).await;
    let change = monitor.explain("light-1").await.change.unwrap();
    assert_eq!(change.trigger, Trigger::Lease, "{change:?}");
    assert!(change.evidence.iter().any(|fact| fact.kind == EvidenceKind::Lease), "{change:?}");
    monitor.until("agent-7", Verdict::Dead).await;
    assert_eq!(monitor.course("light-2").await, [(Verdict::Unknown, Verdict::Alive)], "it was found well");
    stopped.signal(Signal::CONT);
    monitor.until("light-1", Verdict::Alive).await;
}

fn read(kafka: &Kafka) -> mpsc::Receiver<Consumed> {
    consume(Consumption {
        brokers: kafka.brokers(),
        topic: "monitoring-data".to_owned(),
        group: format!("test-{}", fastrand::u64(..)),
        start_at: StartAt::Beginning,
        messages_max: 64,
    })
    .unwrap()
}

/// Reads on until every number up to `through` has come; adds them as they come, each once.
async fn numbers(messages: &mut mpsc::Receiver<Consumed>, all: &mut Vec<u64>, through: u64) -> BTreeSet<u64> {
    let mut lives = BTreeSet::new();
    let mut missing: BTreeSet<u64> = (1..=through).filter(|seq| !all.contains(seq)).collect();
    while !missing.is_empty() {
        let message = tokio::time::timeout(DEADLINE, messages.recv()).await.expect("a reading in time").unwrap();
        let reading: Value = serde_json::from_slice(&message.payload).unwrap();
        assert!(reading["client_id"] == "agent-7" && reading["value"].is_f64(), "{reading}");
        lives.insert(reading["incarnation"].as_u64().unwrap());
        let seq = reading["seq"].as_u64().unwrap();
        // A message that the killed server had sent and not noted may come again, with its number.
        if !all.contains(&seq) {
            missing.remove(&seq);
            all.push(seq);
        }
    }
    lives
}

#[tokio::test]
async fn an_agents_readings_are_on_kafka_in_order_though_the_server_was_away() {
    let Some(etcd) = Etcd::start(1).await else { return };
    let Some(kafka) = Kafka::start().await else { return };
    etcd.put("/monitor/config/node-7", r#"{"interval": 0.1, "metrics": ["memory"]}"#);
    let mut server = Server::start(&["--kafka", &kafka.brokers(), "--etcd", &etcd.endpoints()]).await;
    let arguments = ["--server", &server.at, "--etcd", &etcd.endpoints()];
    let _agent = Program::start(agent_command(server.directory.path(), "agent-7", &arguments));
    let mut data = read(&kafka);
    let mut all = Vec::new();
    let mut lives = numbers(&mut data, &mut all, 20).await;
    assert_eq!(interval(&server, "agent-7").await, 0.1, "a command is answered");

    server.program.kill();
    // Some twenty readings wait in the agent's outbox.
    tokio::time::sleep(Duration::from_secs(2)).await;
    server.restart().await;
    let through = all.iter().max().unwrap() + 60;
    lives.extend(numbers(&mut data, &mut all, through).await);
    assert_eq!(lives.len(), 1, "the agent itself has gone on");
    // Live readings go first, and what waited follows them: each of the two in order.
    let mut newest = 0;
    let (live, replayed): (Vec<u64>, Vec<u64>) = all.iter().partition(|seq| {
        let is_live = **seq > newest;
        newest = newest.max(**seq);
        is_live
    });
    assert!(live.is_sorted() && replayed.is_sorted(), "{live:?} {replayed:?}");
    eventually("it is connected again", DEADLINE, async || interval(&server, "agent-7").await == 0.1).await;
}

/// Waits until 20 more readings of the agent are in InfluxDB than now.
async fn goes_on(monitor: &Running, after: &str) {
    let stored = async || {
        let accounts = monitor.ledger().await.accounts;
        accounts.iter().filter(|line| line.publisher.as_str() == "agent-7").map(|line| line.account.stored).sum::<u64>()
    };
    let wanted = stored().await + 20;
    eventually(&format!("20 more readings are stored after {after}"), DEADLINE, async || stored().await >= wanted)
        .await;
}

#[tokio::test]
async fn a_restart_of_any_part_between_an_agent_and_influxdb_loses_no_reading_and_doubles_none() {
    let Some(mut etcd) = Etcd::start(1).await else { return };
    let Some(mut kafka) = Kafka::start().await else { return };
    let Some(influx) = Influxd::start().await else { return };
    etcd.put("/monitor/config/node-7", r#"{"interval": 0.1, "metrics": ["memory"]}"#);
    let mut server = Server::start(&["--kafka", &kafka.brokers(), "--etcd", &etcd.endpoints()]).await;
    let place = ["--influx-url", &influx.url(), "--influx-db", "rows"].map(str::to_owned);
    let kafka_of = ["--kafka".to_owned(), kafka.brokers()];
    let options = RunOptions { arguments: [&kafka_of[..], &place[..]].concat(), ..RunOptions::default() };
    let mut monitor = Running::start(options).await;
    let arguments = ["--server", &server.at, "--etcd", &etcd.endpoints()];
    let start = || Program::start(agent_command(server.directory.path(), "agent-7", &arguments));
    let mut agent = start();
    goes_on(&monitor, "the start").await;

    agent.kill();
    agent = start();
    goes_on(&monitor, "the agent was killed").await;
    etcd.kill(0);
    goes_on(&monitor, "etcd was killed").await;
    etcd.restart(0).await;
    kafka.kill();
    // What comes now waits in the server's journal.
    eventually("the server says so", DEADLINE, async || server.program.stderr().contains("no connection to Kafka"))
        .await;
    kafka.restart().await;
    goes_on(&monitor, "Kafka was killed").await;
    monitor.restart().await;
    goes_on(&monitor, "the monitor was killed").await;
    server.program.kill();
    server.restart().await;
    goes_on(&monitor, "the server was killed").await;

    agent.signal(Signal::TERM);
    assert!(agent.exit(PATIENCE).await.success());
    // Its goodbye may overtake readings that wait in the server's journal.
    eventually("every reading is stored", DEADLINE, async || {
        let all = monitor.ledger().await.total;
        all.produced >= 100 && all.produced == all.stored
    })
    .await;
    let mut words = vec!["ledger", "--reconcile", "--json", "--wait", "60s", "--url", monitor.page()];
    words.extend(place.iter().map(String::as_str));
    let reconciled = finished(monitor.directory(), &words, DEADLINE).await;
    let view: ReconciliationView = serde_json::from_str(&reconciled.stdout).unwrap();
    assert!(view.exact, "InfluxDB has exactly the rows that the ledger says: {reconciled:?}");
    let all = monitor.ledger().await.total;
    assert_eq!((all.produced, all.missing, all.lost, all.buffered), (all.stored, 0, 0, 0), "{all:?}");
}
