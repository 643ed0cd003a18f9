//! Who may say what at a broker with users: a fleet works, and no forged word reaches anybody. The same on a real mosquitto with
//! the files of `deploy/mosquitto`, and on the embedded broker with a file of users.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use heartwatch_domain::verdict::Verdict;
use heartwatch_servers::server::Server;
use tempfile::TempDir;

use crate::support::heartwatch::{PATIENCE, Program, RunOptions, Running, command, fixture};
use crate::support::mosquitto::authority;
use crate::support::{eventually, found, free_port, installed};

const MONITOR: &str = "heartwatch-monitor";
const PUBLISHERS: [&str; 2] = ["light-1", "light-2"];
const AGENT: &str = "web-1";
const DEVICE: &str = "boiler";
/// What everybody's password ends in, and no message has.
const PASSWORD: &str = "a long password";
const KINDS: [&str; 8] = ["readings", "heartbeat", "goodbye", "last-will", "given-up", "confirm", "ask", "answer"];
/// What is in every word that is said for another.
const FORGED: &str = "forged";
const CLIENTS: [&str; 2] = ["/usr/bin/mosquitto_pub", "/usr/bin/mosquitto_sub"];

fn password(user: &str) -> String {
    format!("{user}: {PASSWORD}")
}

/// A broker with these users, as a client sees it.
struct Place {
    port: u16,
    ca_file: Option<String>,
}

impl Place {
    fn client(&self, program: &str, user: &str, id: &str) -> Command {
        // what it says is read while it runs
        let mut client = Command::new("stdbuf");
        client.args([
            "-oL",
            program,
            "-h",
            "127.0.0.1",
            "-p",
            &self.port.to_string(),
            "-u",
            user,
            "-P",
            &password(user),
            "-i",
            id,
        ]);
        client.args(self.ca_file.iter().flat_map(|file| ["--cafile", file]));
        client.stdin(Stdio::null()).stderr(Stdio::null());
        client
    }

    /// Says this; whether the broker let the user in.
    fn says(&self, user: &str, topic: &str, payload: &str) -> bool {
        let id = format!("{user}-says-{}", topic.replace('/', "-"));
        let mut client = self.client(CLIENTS[0], user, &id);
        client.args(["-q", "1", "-t", topic, "-m", payload]).status().unwrap().success()
    }

    /// Hears these topics, until it goes out of scope.
    fn hears(&self, user: &str, topics: &[String]) -> Program {
        let mut client = self.client(CLIENTS[1], user, &format!("{user}-hears"));
        client.args(["-v", "-q", "1"]).args(topics.iter().flat_map(|topic| ["-t", topic]));
        Program::start(client)
    }

    /// Leaves this as its last will and is killed.
    async fn leaves(&self, user: &str, topic: &str, payload: &str) {
        let mut client = self.client(CLIENTS[1], user, &format!("{user}-leaves"));
        client.args(["-d", "-t", "nothing", "--will-topic", topic, "--will-payload", payload, "--will-qos", "1"]);
        let client = Program::start(client);
        // it is let in, or refused
        eventually("the broker answers", PATIENCE, async || client.stdout().contains("CONNACK")).await;
    }
}

fn topic(publisher: &str, kind: &str) -> String {
    format!("heartwatch/v1/{publisher}/{kind}")
}

/// A publisher and an agent of a fleet work; whatever is said in the name of another one reaches nobody.
async fn nobody_speaks_for_another(monitor: &Running, place: &Place, more: &[&str], may_be_heard_by_the_monitor: bool) {
    let url = format!("{}://127.0.0.1:{}", if place.ca_file.is_some() { "mqtts" } else { "mqtt" }, place.port);
    let directory = monitor.directory();
    let secret = |user: &str| {
        let file = directory.join(format!("{user}.password"));
        fs::write(&file, password(user)).unwrap();
        file
    };
    let start = |words: &[&str], user: &str| {
        let mut command = command(directory);
        command.args(words).args(["--id", user, "--mqtt", &url, "--heartbeat", "200ms", "--mqtt-user", user]);
        command.arg("--mqtt-password-file").arg(secret(user)).args(more).arg("--data-dir").arg(directory.join(user));
        command
    };
    let mut publisher = start(&["publish", "--interval", "50ms"], PUBLISHERS[0]);
    publisher.arg("--csv").arg(fixture("light-1.csv"));
    let publisher = Program::start(publisher);
    let _agent = Program::start(start(&["agent", "--name", AGENT], AGENT));
    for id in [PUBLISHERS[0], AGENT, "own"] {
        monitor.until(id, Verdict::Alive).await;
    }
    let is_safe = async || monitor.publisher("light-1").await.is_some_and(|view| view.ledger.stored > 10);
    eventually("its readings are stored", PATIENCE, is_safe).await;
    assert!(place.says(DEVICE, "tele/boiler/SENSOR", r#"{"temperature": 61.5}"#));
    monitor.until("boiler", Verdict::Alive).await;

    let kept_from = |kinds: &[&str]| -> Vec<String> { kinds.iter().map(|kind| topic("+", kind)).collect() };
    let mut ears = vec![
        place.hears(PUBLISHERS[0], &[topic(PUBLISHERS[0], "confirm")]),
        place.hears(AGENT, &[topic(AGENT, "ask"), topic(AGENT, "confirm")]),
        // a publisher may listen to nobody else
        place.hears(PUBLISHERS[1], &["#".to_owned(), topic(PUBLISHERS[0], "readings"), topic(AGENT, "ask")]),
        place.hears(DEVICE, &["#".to_owned(), topic(PUBLISHERS[0], "readings")]),
    ];
    if may_be_heard_by_the_monitor {
        ears.push(
            place.hears(MONITOR, &kept_from(&["readings", "heartbeat", "goodbye", "last-will", "given-up", "answer"])),
        );
    }
    // each hears what it may hear: the monitor's confirmations go on
    eventually("its confirmations come", PATIENCE, async || ears[0].stdout().contains("through")).await;

    let (mut said, mut number) = (0, 0);
    for liar in [PUBLISHERS[1], AGENT, DEVICE] {
        for of in [PUBLISHERS[0], AGENT, "light-3"].into_iter().filter(|of| *of != liar) {
            for kind in KINDS {
                number += 1;
                // refused with an answer, or without one
                place.says(liar, &topic(of, kind), &format!("{FORGED} {number} {kind} for {of} by {liar}"));
                said += 1;
            }
            place.leaves(liar, &topic(of, "last-will"), &format!("{FORGED} will for {of} by {liar}")).await;
        }
        // nor the monitor's words to itself, nor those of a device in another's name
        for kind in ["confirm", "ask"] {
            place.says(liar, &topic(liar, kind), &format!("{FORGED} {kind} to itself by {liar}"));
        }
        place.says(liar, "tele/other/SENSOR", &format!(r#"{{"{FORGED}": 1}}"#));
    }
    assert!(said >= 48);
    assert!(!place.says("nobody", &topic("nobody", "readings"), FORGED), "who is no user is not let in");
    // What was said last has come: everything before it has, too.
    let last = topic(PUBLISHERS[1], "heartbeat");
    assert!(place.says(
        PUBLISHERS[1],
        &last,
        r#"{"v":1,"host":"h","incarnation":7,"sequence":0,"confirmed":0,"cursor":0,"idle":true,"interval_ms":1000}"#
    ));
    monitor.until(PUBLISHERS[1], Verdict::Alive).await;
    for ear in &ears {
        assert!(!ear.stdout().contains(FORGED), "{}", ear.stdout());
    }
    let own = topic(PUBLISHERS[1], "confirm");
    for ear in &ears[2..4] {
        assert!(ear.stdout().lines().all(|line| line.starts_with(&own)), "it hears others: {}", ear.stdout());
    }
    let status = monitor.status().await;
    let text = format!("{:?}{}", monitor.changes().await, publisher.stderr());
    assert!(!text.contains(FORGED));
    assert!(status.publishers.iter().all(|view| view.id.as_str() != "light-3" && view.id.as_str() != "other"));
    for id in [PUBLISHERS[0], AGENT] {
        let course = monitor.course(id).await;
        assert!(course.iter().all(|(_, to)| matches!(to, Verdict::Alive | Verdict::Late)), "{id}: {course:?}");
    }
}

/// The files of `deploy/mosquitto` in `directory`, as its instructions say, with the examples that are comments in force.
fn mosquitto(directory: &Path, port: u16) {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/mosquitto");
    let config = fs::read_to_string(deploy.join("mosquitto.conf")).unwrap();
    let config = config.replace("/etc/mosquitto/heartwatch", directory.to_str().unwrap());
    let config = config.replace("listener 8883", &format!("listener {port} 127.0.0.1"));
    fs::write(directory.join("mosquitto.conf"), format!("user root\n{config}")).unwrap();
    let acl = fs::read_to_string(deploy.join("acl")).unwrap();
    let in_force = |line: &str| {
        let example = line.strip_prefix("# ").filter(|line| line.starts_with("topic ") || line.starts_with("user "));
        example.unwrap_or(line).replace("light-2/", "own/").replace("monitor-plant-7", "monitor-here")
    };
    let acl: Vec<String> = acl.lines().map(in_force).collect();
    fs::write(directory.join("acl"), acl.join("\n")).unwrap();
    authority(directory);
    fs::write(directory.join("passwords"), "").unwrap();
    for user in [MONITOR, PUBLISHERS[0], PUBLISHERS[1], AGENT, DEVICE] {
        let made = Command::new("/usr/bin/mosquitto_passwd")
            .arg("-b")
            .arg(directory.join("passwords"))
            .args([user, &password(user)])
            .status();
        assert!(made.unwrap().success());
    }
}

/// What the monitor of both tests has: a publisher that it starts itself, and a device.
fn config(mqtt: &str) -> String {
    let light = fixture("light-1.csv");
    format!(
        "[monitor]\nid = 'monitor-here'\n[mqtt]\n{mqtt}\n[[publisher]]\nid = 'own'\ncsv = '{}'\n\
         [[foreign]]\ntopic = 'tele/{{device}}/SENSOR'\npublisher = '{{device}}'\nformat = 'json'\n",
        light.display()
    )
}

#[tokio::test]
async fn at_a_mosquitto_with_our_files_nobody_speaks_for_another() {
    if !CLIENTS.into_iter().chain(["/usr/sbin/mosquitto", "/usr/bin/openssl"]).all(installed) {
        return;
    }
    let (broker, port) = (TempDir::new().unwrap(), free_port());
    mosquitto(broker.path(), port);
    let mut server = Server::new("mosquitto", &found("mosquitto").unwrap(), broker.path());
    server.arguments = ["-c", "mosquitto.conf"].map(Into::into).to_vec();
    server.listens = Some(([127, 0, 0, 1], port).into());
    server.start().await.unwrap();
    let ca_file = broker.path().join("ca.pem").to_str().unwrap().to_owned();
    let secret = broker.path().join("monitor");
    fs::write(&secret, password(MONITOR)).unwrap();
    let mqtt = format!("user = '{MONITOR}'\npassword_file = '{}'\nca_file = '{ca_file}'", secret.display());
    let options =
        RunOptions { mqtt: Some(format!("mqtts://127.0.0.1:{port}")), config: config(&mqtt), ..RunOptions::default() };
    let monitor = Running::start(options).await;
    let place = Place { port, ca_file: Some(ca_file.clone()) };
    nobody_speaks_for_another(&monitor, &place, &["--mqtt-ca-file", &ca_file], true).await;
}

/// The same users at the embedded broker; and a client id is its user's.
#[tokio::test]
async fn at_the_embedded_broker_with_users_nobody_speaks_for_another() {
    if !CLIENTS.into_iter().all(installed) {
        return;
    }
    let directory = TempDir::new().unwrap();
    let users = directory.path().join("users");
    let roles = [(MONITOR, "monitor"), (PUBLISHERS[0], "publisher"), (PUBLISHERS[1], "publisher"), (AGENT, "agent")];
    let mut lines = String::new();
    for (user, role) in roles.into_iter().chain([(DEVICE, "device")]) {
        let mut command = command(directory.path());
        command.args(["mqtt-user", user, "--role", role]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut making = command.spawn().unwrap();
        std::io::Write::write_all(&mut making.stdin.take().unwrap(), password(user).as_bytes()).unwrap();
        lines += &String::from_utf8(making.wait_with_output().unwrap().stdout).unwrap();
    }
    fs::write(&users, &lines).unwrap();
    let secret = directory.path().join("monitor");
    fs::write(&secret, password(MONITOR)).unwrap();
    let mqtt =
        format!("user = '{MONITOR}'\npassword_file = '{}'\nusers_file = '{}'", secret.display(), users.display());
    let monitor = Running::start(RunOptions { config: config(&mqtt), ..RunOptions::default() }).await;
    let port = monitor.mqtt_url().rsplit(':').next().unwrap().parse().unwrap();
    let place = Place { port, ca_file: None };
    nobody_speaks_for_another(&monitor, &place, &[], false).await;

    // A client id is its user's: another one does not take its session.
    let mut ear = place.hears(PUBLISHERS[0], &[topic(PUBLISHERS[0], "confirm")]);
    let hears = async |words: &str| {
        eventually("it hears", PATIENCE, async || {
            assert!(place.says(MONITOR, &topic(PUBLISHERS[0], "confirm"), words));
            ear.stdout().contains(words)
        })
        .await;
    };
    hears("before").await;
    let mut thief = place.client(CLIENTS[0], PUBLISHERS[1], &format!("{}-hears", PUBLISHERS[0]));
    let taken = thief.args(["-t", &topic(PUBLISHERS[1], "heartbeat"), "-m", "{}"]).status().unwrap();
    assert!(!taken.success());
    hears("after").await;
    assert!(ear.runs());
    // what is refused is said, as far as it does not fill the log
    monitor.program.says("drops what a user may not publish").await;

    // Who is taken out of the file says no more, and is not let in; a new one is.
    let without: String =
        lines.lines().filter(|line| !line.starts_with(DEVICE)).map(|line| format!("{line}\n")).collect();
    fs::write(&users, without).unwrap();
    monitor.program.signal(rustix::process::Signal::HUP);
    let is_out = async || !place.says(DEVICE, "tele/boiler/SENSOR", "{}");
    eventually("who is no user any more is not let in", PATIENCE, is_out).await;
    assert!(place.says(
        PUBLISHERS[1],
        &topic(PUBLISHERS[1], "goodbye"),
        r#"{"v":1,"host":"h","incarnation":7,"sequence":0}"#
    ));
    monitor.until(PUBLISHERS[1], Verdict::Ended).await;
    assert!(!monitor.program.stderr().contains("to start again with the new configuration"));
    monitor.until("own", Verdict::Alive).await;
}
