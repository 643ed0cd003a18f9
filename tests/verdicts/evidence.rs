//! Verdicts on real publishers by a real monitor: every way to fall silent, and what is said about it.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a helper fails its test")]

use crate::support;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use heartwatch_adapters::process::HostProcesses;
use heartwatch_domain::beat::Heartbeat;
use heartwatch_domain::evidence::EvidenceKind;
use heartwatch_domain::process::ProcessIdentity;
use heartwatch_domain::publisher::{HostName, Incarnation, PublisherId};
use heartwatch_domain::roster::ObserverState;
use heartwatch_domain::verdict::{Change, Trigger, Verdict};
use heartwatch_formats::envelope::{HeartbeatNote, Prefix, TopicKind, encode_heartbeat};
use heartwatch_ports::ProcessTable;
use heartwatch_system::clock::Clock;
use rumqttc::{AsyncClient, MqttOptions, QoS};
use rustix::process::Signal;
use support::eventually;
use support::heartwatch::{PATIENCE, Program, RunOptions, Running, command, fixture, publish, publish_command};
use support::mosquitto::Mosquitto;
use tokio::time::Instant;
use url::Url;

const DEADLINE: Duration = Duration::from_secs(2);

async fn monitor() -> Running {
    let monitor = Running::start(RunOptions { deadline: DEADLINE, ..RunOptions::default() }).await;
    hears(&monitor).await;
    monitor
}

/// What is said only once must not be said before the monitor listens.
async fn hears(monitor: &Running) {
    let hears = async || monitor.status().await.observer.state == ObserverState::Ok;
    eventually("the monitor hears its broker", PATIENCE, hears).await;
}

/// The change that led to the verdict of now, with its evidence.
async fn reason(monitor: &Running, publisher: &str) -> Change {
    monitor.explain(publisher).await.change.unwrap()
}

fn evidence(change: &Change, kind: EvidenceKind) -> String {
    let of_kind: Vec<_> = change.evidence.iter().filter(|fact| fact.kind == kind).map(|fact| &*fact.detail).collect();
    of_kind.join("; ")
}

/// Whether nobody was ever called anything but this.
async fn only(monitor: &Running, publisher: &str, verdicts: &[Verdict]) {
    let course = monitor.course(publisher).await;
    assert!(course.iter().all(|(_, to)| verdicts.contains(to)), "{publisher}: {course:?}");
}

#[tokio::test]
async fn killed_and_not_collected_is_a_zombie_and_dead() {
    let monitor = monitor().await;
    let publisher = publish(monitor.directory(), "light", monitor.mqtt_url());
    let _other = publish(monitor.directory(), "other", monitor.mqtt_url());
    monitor.until("light", Verdict::Alive).await;
    monitor.until("other", Verdict::Alive).await;
    let killed = Instant::now();
    publisher.signal(Signal::KILL);
    let view = monitor.until("light", Verdict::Dead).await;
    assert!(killed.elapsed() < DEADLINE, "the end of its process is told at once, not at its deadline");
    assert_eq!(view.pid, Some(publisher.pid()));
    let change = reason(&monitor, "light").await;
    let process = evidence(&change, EvidenceKind::Process);
    assert!(process.contains(&format!("PID {}", publisher.pid())) && process.contains("zombie"), "{change:?}");
    // Whichever comes first: the kernel's word or the broker's.
    assert!(matches!(change.trigger, Trigger::ProcessExit | Trigger::LastWill), "{change:?}");
    assert!(change.at <= change.decided_at);
    only(&monitor, "other", &[Verdict::Alive, Verdict::Late]).await;
}

#[tokio::test]
async fn killed_and_collected_is_gone_and_dead() {
    let monitor = monitor().await;
    let mut publisher = publish(monitor.directory(), "light", monitor.mqtt_url());
    monitor.until("light", Verdict::Alive).await;
    // The monitor does not run while the process ends and is collected: it finds nothing any more.
    monitor.program.signal(Signal::STOP);
    publisher.kill();
    monitor.program.signal(Signal::CONT);
    monitor.until("light", Verdict::Dead).await;
    let change = reason(&monitor, "light").await;
    assert!(evidence(&change, EvidenceKind::Process).contains("is gone"), "{change:?}");
}

#[tokio::test]
async fn stopped_and_continued() {
    let monitor = monitor().await;
    let publisher = publish(monitor.directory(), "light", monitor.mqtt_url());
    monitor.until("light", Verdict::Alive).await;
    publisher.signal(Signal::STOP);
    monitor.until("light", Verdict::Stopped).await;
    let change = reason(&monitor, "light").await;
    assert!(change.summary.contains("is stopped by a signal"), "{change:?}");
    publisher.signal(Signal::CONT);
    monitor.until("light", Verdict::Alive).await;
    let wanted = [Verdict::Alive, Verdict::Late, Verdict::Stopped];
    only(&monitor, "light", &wanted).await;
}

#[tokio::test]
async fn an_end_in_order_is_no_death() {
    let monitor = monitor().await;
    let mut publisher = publish(monitor.directory(), "light", monitor.mqtt_url());
    monitor.until("light", Verdict::Alive).await;
    publisher.signal(Signal::TERM);
    assert_eq!(publisher.exit(PATIENCE).await.code(), Some(0));
    monitor.until("light", Verdict::Ended).await;
    assert_eq!(reason(&monitor, "light").await.trigger, Trigger::Goodbye);
    // It stays ended: silence after a goodbye is no news.
    tokio::time::sleep(DEADLINE + Duration::from_millis(500)).await;
    only(&monitor, "light", &[Verdict::Alive, Verdict::Late, Verdict::Ended]).await;
    assert_eq!(monitor.publisher("light").await.unwrap().verdict, Verdict::Ended);
    // And it may come again.
    let _again = publish(monitor.directory(), "light", monitor.mqtt_url());
    monitor.until("light", Verdict::Alive).await;
}

#[tokio::test]
async fn a_short_life_ends_in_order_with_every_reading_stored() {
    let monitor = monitor().await;
    let mut command = publish_command(monitor.directory(), "short", monitor.mqtt_url());
    command.args(["--limit", "25"]);
    let mut publisher = Program::start(command);
    assert_eq!(publisher.exit(PATIENCE).await.code(), Some(0), "{}", publisher.stderr());
    let view = monitor.until("short", Verdict::Ended).await;
    assert_eq!((view.ledger.produced, view.ledger.stored, view.ledger.lost), (25, 25, 0));
}

#[tokio::test]
async fn expected_and_never_heard() {
    let config = "[[publisher]]\nid = 'ghost'\n".to_owned();
    let monitor = Running::start(RunOptions { deadline: DEADLINE, config, ..RunOptions::default() }).await;
    monitor.until("ghost", Verdict::NeverStarted).await;
    let change = reason(&monitor, "ghost").await;
    assert!(change.summary.contains("expected"), "{change:?}");
    let _late = publish(monitor.directory(), "ghost", monitor.mqtt_url());
    monitor.until("ghost", Verdict::Alive).await;
}

/// A publisher of the test's own making, which can say anything of itself.
struct Fake {
    id: PublisherId,
    client: AsyncClient,
    connection: tokio::task::JoinHandle<()>,
    sequence: u64,
}

impl Fake {
    fn connect(id: &str, mqtt_url: &str) -> Self {
        let url: Url = mqtt_url.parse().unwrap();
        let name = format!("fake-{id}");
        let options = MqttOptions::new(name, url.host_str().unwrap(), url.port().unwrap());
        let (client, mut events) = AsyncClient::new(options, 100);
        let connection = tokio::spawn(async move { while events.poll().await.is_ok() {} });
        Self { id: PublisherId::parse(id).unwrap(), client, connection, sequence: 0 }
    }

    async fn beat(&mut self, host: &str, process: Option<ProcessIdentity>) {
        self.sequence += 1;
        let heartbeat = Heartbeat {
            is_agent: false,
            outbox_stalled: None,
            incarnation: Incarnation(1),
            process,
            sequence: self.sequence,
            cursor: self.sequence,
            idle: false,
            interval: Duration::from_millis(200),
        };
        let note = HeartbeatNote {
            host: HostName::parse(host).unwrap(),
            heartbeat,
            confirmed: 0,
            earlier: vec![],
            errors: Default::default(),
        };
        let topic = Prefix::default().topic(&self.id, TopicKind::Heartbeat);
        self.client.publish(topic, QoS::AtLeastOnce, false, encode_heartbeat(&note)).await.unwrap();
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// A process that does nothing, ended with the test.
struct Bystander(Child);

impl Bystander {
    fn start() -> Self {
        Self(Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap())
    }

    fn identity(&self) -> ProcessIdentity {
        HostProcesses::new(Clock::start()).identity(self.0.id()).unwrap()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn our_host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[tokio::test]
async fn a_pid_that_now_belongs_to_another_is_no_sign_of_life() {
    let monitor = monitor().await;
    let bystander = Bystander::start();
    let identity = bystander.identity();
    // The same PID in the same boot, given to a process that had started earlier and is gone.
    let former = ProcessIdentity { start_ticks: identity.start_ticks - 1, ..identity.clone() };
    // The bystander itself as a publisher: the only difference is when it started.
    let mut reused = Fake::connect("reused", monitor.mqtt_url());
    let mut same = Fake::connect("same", monitor.mqtt_url());
    reused.beat(&our_host(), Some(former)).await;
    same.beat(&our_host(), Some(identity.clone())).await;
    monitor.until("reused", Verdict::Dead).await;
    let change = reason(&monitor, "reused").await;
    let said = format!("PID {} now belongs to another process: sleep", identity.pid);
    assert!(evidence(&change, EvidenceKind::Process).contains(&said), "{change:?}");
    let view = monitor.until_publisher("same", "past its deadline", |view| view.verdict.level() >= 2).await;
    assert!(matches!(view.verdict, Verdict::Silent | Verdict::Hung), "its process is there: {view:?}");
}

#[tokio::test]
async fn a_publisher_on_another_host_cannot_be_asked_after() {
    let monitor = monitor().await;
    // A PID that lives on this host, named by somebody else.
    let elsewhere = ProcessIdentity { pid: std::process::id(), start_ticks: 1, boot_id: "of-another-host".into() };
    let mut far = Fake::connect("far", monitor.mqtt_url());
    let mut near = Fake::connect("near", monitor.mqtt_url());
    far.beat("far-away", Some(elsewhere)).await;
    near.beat(&our_host(), None).await;
    monitor.until("far", Verdict::Unreachable).await;
    let change = reason(&monitor, "far").await;
    assert!(evidence(&change, EvidenceKind::Host).contains("far-away"), "{change:?}");
    monitor.until("near", Verdict::Silent).await;
    only(&monitor, "far", &[Verdict::Alive, Verdict::Late, Verdict::Unreachable]).await;
}

#[tokio::test]
async fn a_monitor_that_stood_still_accuses_nobody() {
    let deadline = Duration::from_millis(1_500);
    let monitor = Running::start(RunOptions { deadline, ..RunOptions::default() }).await;
    let _one = publish(monitor.directory(), "one", monitor.mqtt_url());
    let _two = publish(monitor.directory(), "two", monitor.mqtt_url());
    monitor.until("one", Verdict::Alive).await;
    monitor.until("two", Verdict::Alive).await;
    // Somebody whose process cannot be asked after: nothing but the monitor's own doubt protects it.
    let mut quiet = Fake::connect("quiet", monitor.mqtt_url());
    quiet.beat(&our_host(), None).await;
    let quiet = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            quiet.beat(&our_host(), None).await;
        }
    });
    monitor.until("quiet", Verdict::Alive).await;
    for pause in [deadline * 3, deadline + Duration::from_millis(200)] {
        monitor.program.signal(Signal::STOP);
        tokio::time::sleep(pause).await;
        monitor.program.signal(Signal::CONT);
        monitor.program.says("the monitor itself stood still").await;
        // Everybody is heard again, and nobody was anything worse than late.
        let since = monitor.status().await.publishers.iter().filter_map(|view| view.last_seen).max();
        for publisher in ["one", "two", "quiet"] {
            let heard = |view: &heartwatch_formats::api::PublisherView| view.last_seen > since;
            monitor.until_publisher(publisher, "heard again", heard).await;
            monitor.until(publisher, Verdict::Alive).await;
            only(&monitor, publisher, &[Verdict::Alive, Verdict::Late]).await;
        }
    }
    quiet.abort();
}

#[tokio::test]
async fn a_broker_that_dies_and_returns_accuses_nobody() {
    let Some(mut broker) = Mosquitto::start().await else { return };
    let mqtt = Some(broker.url());
    let monitor = Running::start(RunOptions { mqtt, deadline: DEADLINE, ..RunOptions::default() }).await;
    let _one = publish(monitor.directory(), "one", &broker.url());
    let mut two = publish(monitor.directory(), "two", &broker.url());
    monitor.until("one", Verdict::Alive).await;
    monitor.until("two", Verdict::Alive).await;
    assert_eq!(monitor.status().await.observer.state, ObserverState::Ok);

    broker.kill();
    let suspects = async || monitor.status().await.observer.state == ObserverState::Suspect;
    eventually("the monitor doubts itself", PATIENCE, suspects).await;
    let status = monitor.status().await;
    assert!(!status.observer.reason.is_empty(), "{status:?}");
    // Past the deadline there is no verdict on anyone whose process is there …
    monitor.until("one", Verdict::Unknown).await;
    // … and direct evidence still counts.
    two.kill();
    monitor.until("two", Verdict::Dead).await;

    broker.restart().await;
    monitor.until("one", Verdict::Alive).await;
    assert_eq!(monitor.status().await.observer.state, ObserverState::Ok);
    tokio::time::sleep(DEADLINE).await;
    only(&monitor, "one", &[Verdict::Alive, Verdict::Late, Verdict::Unknown]).await;
    assert_eq!(monitor.publisher("two").await.unwrap().verdict, Verdict::Dead);
}

#[tokio::test]
async fn a_publisher_in_a_container_is_not_taken_for_the_process_with_its_number() {
    // In a PID namespace of its own it is PID 1; on this host that is somebody else.
    let able = Command::new("unshare").args(["--pid", "--fork", "--mount-proc", "true"]).status();
    if !able.is_ok_and(|status| status.success()) {
        println!("skipped: `unshare --pid` needs to be there and to be allowed (root)");
        return;
    }
    let monitor = monitor().await;
    let inside = publish_command(monitor.directory(), "inside", monitor.mqtt_url());
    let mut command = support::heartwatch::command_of("unshare", monitor.directory());
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(inside.get_program()).args(inside.get_args());
    let container = Program::start(command);
    let view = monitor.until("inside", Verdict::Alive).await;
    assert_eq!(view.pid, Some(1), "{view:?}");
    tokio::time::sleep(DEADLINE).await;
    only(&monitor, "inside", &[Verdict::Alive, Verdict::Late]).await;
    container.signal(Signal::KILL);
    monitor.until("inside", Verdict::Dead).await;
    let change = reason(&monitor, "inside").await;
    let process = evidence(&change, EvidenceKind::Process);
    assert!(process.contains("PID 1 of its container (PID ") && process.contains("on the host)"), "{change:?}");
}

/// A lock that another holds keeps every row from the disk, so that the monitor does not hear; and again before a deadline
/// has passed.
#[tokio::test]
async fn a_disk_that_stands_still_again_and_again_prevents_no_verdict() {
    let deadline = Duration::from_secs(6);
    let monitor = Running::start(RunOptions { deadline, ..RunOptions::default() }).await;
    hears(&monitor).await;
    let _light = publish(monitor.directory(), "light", monitor.mqtt_url());
    let mut quiet = Fake::connect("quiet", monitor.mqtt_url());
    quiet.beat(&our_host(), None).await;
    monitor.until("light", Verdict::Alive).await;
    monitor.until("quiet", Verdict::Alive).await;
    let journal = rusqlite::Connection::open(monitor.directory().join("data/journal.sqlite")).unwrap();
    journal.busy_timeout(PATIENCE).unwrap();
    let said = |what: &str| monitor.program.stderr().matches(what).count();
    let is_held_up = || said("the monitor's own disk takes nothing") > said("the monitor's own disk takes rows again");
    let mut held_up = 0;
    while monitor.publisher("quiet").await.unwrap().verdict != Verdict::Silent {
        assert!(held_up < 20, "{:?}", monitor.course("quiet").await);
        held_up += 1;
        journal.execute_batch("BEGIN IMMEDIATE").unwrap();
        eventually("it is held up", PATIENCE, async || is_held_up()).await;
        journal.execute_batch("ROLLBACK").unwrap();
        eventually("it hears again", PATIENCE, async || !is_held_up()).await;
        tokio::time::sleep(deadline.mul_f64(0.75)).await;
    }
    assert!(held_up > 1, "not before its deadline: {:?}", monitor.course("quiet").await);
    let change = reason(&monitor, "quiet").await;
    assert!(evidence(&change, EvidenceKind::Silence).contains("of that do not count"), "{change:?}");
    only(&monitor, "light", &[Verdict::Alive, Verdict::Late, Verdict::Unknown]).await;
}

/// A window over the real program: by command, kept over SIGKILL, ended by command, and what the
/// verdicts of that run say about other deadlines.
#[tokio::test]
async fn maintenance_is_quiet_survives_a_restart_and_the_run_can_be_tried_again() {
    let monitor = monitor().await;
    let mut publisher = publish(monitor.directory(), "light", monitor.mqtt_url());
    monitor.until("light", Verdict::Alive).await;
    let say = |monitor: &Running, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heartwatch"));
        command.arg("maintenance").args(arguments).args(["--url", monitor.page()]);
        let output = command.output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{err}");
        out.into_owned()
    };
    let said = say(&monitor, &["l*", "--for", "2h", "--reason", "new disk"]);
    assert!(said.contains("(by command): new disk") && said.contains("nobody is told about: light"), "{said}");
    publisher.kill();
    monitor.until("light", Verdict::Dead).await;
    let change = reason(&monitor, "light").await;
    assert!(change.maintenance && !change.is_told(), "{change:?}");
    assert_eq!(monitor.explain("light").await.publisher.maintenance.unwrap().reason, "new disk");

    let windows = std::fs::read_to_string(monitor.directory().join("data/maintenance.json")).unwrap();
    assert!(windows.contains("new disk"), "{windows}");
    let said = say(&monitor, &["l*", "--end"]);
    assert_eq!(said.trim(), "no maintenance window is open");
    let end = Instant::now() + PATIENCE;
    while reason(&monitor, "light").await.trigger != Trigger::MaintenanceEnd {
        assert!(Instant::now() < end, "what outlasts a window is told at its end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let output = Command::new(env!("CARGO_BIN_EXE_heartwatch"))
        .args(["backtest", "--deadline", "200ms", "--deadline", "1h", "--json", "--data-dir"])
        .arg(monitor.directory().join("data"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let view: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&view["publishers"], &view["deadlines"][1]["missed"]), (&1.into(), &1.into()), "{view}");
}

/// It beats every 5 s when it is left alone. Told of its deadline, it beats five times within it.
#[tokio::test]
async fn a_publisher_follows_the_deadline_that_it_is_told() {
    let deadline = Duration::from_secs(3);
    let monitor = Running::start(RunOptions { deadline, ..RunOptions::default() }).await;
    hears(&monitor).await;
    let mut command = command(monitor.directory());
    command.args(["publish", "--id", "light", "--mqtt", monitor.mqtt_url(), "--interval", "1h", "--heartbeat", "5s"]);
    command.arg("--csv").arg(fixture("light-1.csv")).arg("--data-dir").arg(monitor.directory().join("data"));
    let publisher = Program::start(command);
    monitor.until("light", Verdict::Alive).await;
    let follows = async || monitor.publisher("light").await.is_some_and(|view| view.deadline_ms == 3_000);
    eventually("its promise fits its deadline", PATIENCE, follows).await;
    tokio::time::sleep(deadline * 3).await;
    only(&monitor, "light", &[Verdict::Alive]).await;
    publisher.signal(Signal::STOP);
    monitor.until("light", Verdict::Stopped).await;
}

/// A life is one program's. When that has died, a process of another user does not go on in its name; one of the same user does.
#[tokio::test]
async fn a_process_of_another_user_takes_over_no_life() {
    let own = Command::new("id").arg("-u").output().unwrap();
    if own.stdout != b"0\n" {
        println!("skipped: only root starts a process of another user");
        return;
    }
    let monitor = monitor().await;
    for (id, user, verdict) in [("light", "65534", Verdict::Conflict), ("shade", "0", Verdict::Alive)] {
        let mut first = Bystander::start();
        let mut publisher = Fake::connect(id, monitor.mqtt_url());
        publisher.beat(&our_host(), Some(first.identity())).await;
        monitor.until(id, Verdict::Alive).await;
        first.0.kill().unwrap();
        first.0.wait().unwrap();
        monitor.until(id, Verdict::Dead).await;
        let mut command = Command::new("setpriv");
        command.args(["--reuid", user, "--regid", user, "--clear-groups", "sleep", "600"]).stdin(Stdio::null());
        let other = Bystander(command.spawn().unwrap());
        // it is of that user as soon as it is another program
        let is_other = async || std::fs::read(format!("/proc/{}/comm", other.0.id())).unwrap() == b"sleep\n";
        eventually("it sleeps", PATIENCE, is_other).await;
        let process = other.identity();
        let speaks = async {
            loop {
                publisher.beat(&our_host(), Some(process.clone())).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            () = speaks => {}
            _ = monitor.until(id, verdict) => {}
        }
    }
    let summary = monitor.explain("light").await.change.unwrap().summary;
    assert!(summary.contains("of the user 0") && summary.contains("of the user 65534"), "{summary}");
}
