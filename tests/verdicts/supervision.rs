//! A panic in any actor is survived: readings flow on, every one that was produced is stored, verdicts are right.
//!
//! Each test runs a whole monitor in this process, with one publisher in the same process and one as a child,
//! and makes one actor panic while readings flow.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a helper fails its test")]

use crate::support;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use heartwatch::config::{self, Broker, Environment, Overrides, PublisherEntry, Settings};
use heartwatch::messages::ask::{AskLedger, AskStatus};
use heartwatch::messages::child::ChildSignal;
use heartwatch::messages::progress::AskMonitor;
use heartwatch::roles::pipeline::{self, Pipeline};
use heartwatch::runtime::outlet::Answers;
use heartwatch_domain::history::ChangesQuery;
use heartwatch_domain::ledger::Account;
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::roster::PublisherStatus;
use heartwatch_domain::verdict::Verdict;
use heartwatch_formats::api::accounts_by_publisher;
use support::eventually;
use support::failpoints::{left, panic_at};
use support::heartwatch::{PATIENCE, PROGRAM, fixture};
use tokio::time::Instant;

/// How long an actor may take to answer; while it is being started again it does not.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
const DEADLINE: Duration = Duration::from_secs(2);
/// How long an actor may take to say that it still handles messages.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// While there is no rule nothing is looked at.
const RULE: &str = r#"
[[rule]]
name = "many"
measurement = "*"
field = "value"
window = "1m"
reduce = "count"
above = 1000000000
summary = "there are very many"
"#;

/// Held alone by a test whose fault is everyone's.
static ALONE: tokio::sync::RwLock<()> = tokio::sync::RwLock::const_new(());

fn id(name: &str) -> PublisherId {
    PublisherId::parse(name).unwrap()
}

/// A publisher of the configuration; a process of its own is not started again.
fn publisher(id: &str, run: &str) -> PublisherEntry {
    let csv = fixture("light-1.csv");
    let restart = if run == "child" { "restart = 'never'\n" } else { "" };
    let text = format!(
        "[[publisher]]\nid = '{id}'\ncsv = '{}'\nrun = '{run}'\ninterval = '10ms'\nheartbeat = '200ms'\n{restart}",
        csv.display()
    );
    settings(&text).publishers.remove(0)
}

fn settings(text: &str) -> Settings {
    let nothing = (Environment::default(), Overrides::default());
    config::load_text(Path::new("heartwatch.toml"), text, &nothing.0, &nothing.1).unwrap().settings
}

struct Monitor {
    pipeline: Pipeline,
    settings: Settings,
}

impl Monitor {
    async fn start(directory: &Path) -> Self {
        let mut settings = Settings { data_dir: directory.to_owned(), ..settings(RULE) };
        settings.mqtt.broker = Broker::Embedded { listen: ([127, 0, 0, 1], 0).into() };
        settings.web = None;
        settings.deadlines.default = DEADLINE;
        settings.monitor.pace.check_interval = CHECK_INTERVAL;
        let mut pipeline = pipeline::start(&settings).await.unwrap();
        // This very program is the test.
        pipeline.feeds.program = PROGRAM.into();
        for publisher in [publisher("inside", "in-process"), publisher("child", "child")] {
            pipeline.feeds.start(&settings, &pipeline.mqtt_url, &publisher).await.unwrap();
        }
        let monitor = Self { pipeline, settings };
        for publisher in ["inside", "child"] {
            monitor.until(publisher, Verdict::Alive).await;
        }
        monitor.flows().await;
        monitor
    }

    /// Asks until there is an answer: an actor that is being started again has none.
    async fn answer<M, P>(&self, port: &P, question: M) -> M::Result
    where
        M: actix::Message + Clone,
        P: Answers<M> + ?Sized,
    {
        let end = Instant::now() + PATIENCE;
        loop {
            match port.ask(question.clone(), ASK_TIMEOUT).await {
                Ok(answer) => return answer,
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn account(&self, publisher: &str) -> Account {
        let ledger = self.answer(self.pipeline.ports.ledger.as_ref(), AskLedger).await;
        accounts_by_publisher(&ledger.accounts).remove(&id(publisher)).unwrap_or_default()
    }

    async fn publisher(&self, publisher: &str) -> PublisherStatus {
        let status = self.answer(self.pipeline.ports.verdicts.as_ref(), AskStatus).await;
        status.publishers.into_iter().find(|status| status.id == id(publisher)).unwrap()
    }

    async fn until(&self, publisher: &str, verdict: Verdict) {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.answer(self.pipeline.ports.verdicts.as_ref(), AskStatus).await;
            let found = status.publishers.into_iter().find(|status| status.id == id(publisher));
            if found.as_ref().is_some_and(|status| status.verdict == verdict) {
                return;
            }
            assert!(Instant::now() < end, "{publisher} is not {verdict}: {found:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until twenty more readings of each publisher are stored than there are now.
    async fn flows(&self) {
        for publisher in ["inside", "child"] {
            let before = self.account(publisher).await.stored;
            let more = async || self.account(publisher).await.stored >= before + 20;
            eventually(&format!("readings of {publisher} flow"), PATIENCE, more).await;
        }
    }

    /// Waits until as many panics at a failpoint as were armed have come.
    async fn until_hit(&self, failpoint: &'static str) {
        eventually(&format!("the failpoint {failpoint} is hit"), PATIENCE, async || left(failpoint) == 0).await;
    }

    /// After a panic: readings flow, verdicts are right, and in the end every reading is stored, once.
    async fn goes_on(mut self) {
        self.flows().await;
        self.until("inside", Verdict::Alive).await;
        self.until("child", Verdict::Alive).await;
        let by = Instant::now() + Duration::from_secs(10);
        self.pipeline.feeds.end(&id("inside"), by).await;
        self.until("inside", Verdict::Ended).await;
        let pid = self.pipeline.feeds.signal(&id("child"), ChildSignal::Kill).await.unwrap();
        self.until("child", Verdict::Dead).await;
        assert_eq!(self.publisher("child").await.pid, Some(pid));
        self.ends_whole().await;
    }

    /// When both publishers have ended: every reading is stored once, and every change is recorded once.
    async fn ends_whole(self) {
        let account = self.account("inside").await;
        assert_eq!(account.stored, account.produced, "{account:?}");
        assert_eq!((account.lost, account.missing), (0, 0), "{account:?}");
        let account = self.account("child").await;
        assert!(account.balances() && account.lost == 0, "{account:?}");

        // Every change is recorded, in order and once.
        let query = ChangesQuery { since_epoch: 0, publisher: None, changes_max: 1_000 };
        let changes = self.pipeline.ports.history.changes(query).await.unwrap();
        let epochs: Vec<_> = changes.iter().map(|change| change.epoch).collect();
        assert_eq!(epochs, (1..=epochs.len() as u64).collect::<Vec<_>>());
        let course: Vec<_> =
            changes.iter().filter(|change| change.publisher == id("inside")).map(|change| change.to).collect();
        assert_eq!(course.last(), Some(&Verdict::Ended));
        let repeated: Vec<_> = course.windows(2).filter(|pair| pair[0] == pair[1]).collect();
        assert!(repeated.is_empty(), "no change is recorded twice: {course:?}");
        // The monitor may doubt itself while one of its parts is stuck; it accuses nobody.
        let ordinary = [Verdict::Alive, Verdict::Late, Verdict::Ended, Verdict::Unknown];
        assert!(course.iter().all(|verdict| ordinary.contains(verdict)), "{course:?}");

        assert_eq!(self.pipeline.stop(self.settings.grace).await, Vec::<&str>::new());
    }
}

/// Has one of the monitor's own actors panic in the middle of what it always does, twice.
async fn survives(failpoint: &'static str) {
    let _side_by_side = ALONE.read().await;
    let directory = tempfile::tempdir().unwrap();
    let monitor = Monitor::start(directory.path()).await;
    for _ in 0..2 {
        panic_at(failpoint, 1);
        monitor.until_hit(failpoint).await;
        monitor.flows().await;
    }
    monitor.goes_on().await;
}

/// Has one of the monitor's own actors panic in the middle of a change of a verdict.
async fn survives_changes(failpoint: &'static str) {
    let _side_by_side = ALONE.read().await;
    let directory = tempfile::tempdir().unwrap();
    let mut monitor = Monitor::start(directory.path()).await;
    // Both of the changes that end this test are decided twice.
    panic_at(failpoint, 1);
    monitor.flows().await;
    let by = Instant::now() + Duration::from_secs(10);
    monitor.pipeline.feeds.end(&id("inside"), by).await;
    monitor.until_hit(failpoint).await;
    monitor.until("inside", Verdict::Ended).await;
    panic_at(failpoint, 1);
    monitor.pipeline.feeds.signal(&id("child"), ChildSignal::Kill).await.unwrap();
    monitor.until_hit(failpoint).await;
    monitor.until("child", Verdict::Dead).await;
    monitor.ends_whole().await;
}

/// Makes one of the monitor's own actors handle nothing any more, without a panic.
async fn is_freed(actor: &str, failpoint: &str) {
    // Where one returns, it does so for every test of this program.
    let _alone = ALONE.write().await;
    let directory = tempfile::tempdir().unwrap();
    let monitor = Monitor::start(directory.path()).await;
    fail::cfg(failpoint, "1*return->off").unwrap();
    let freed = async || {
        let status = monitor.answer(monitor.pipeline.ports.monitor.as_ref(), AskMonitor).await;
        let found = status.actors.into_iter().find(|status| status.actor == actor).unwrap();
        (found.restarts, found.stuck) == (1, 1)
    };
    eventually(&format!("the {actor} is started again"), PATIENCE, freed).await;
    let healthy = async || monitor.answer(monitor.pipeline.ports.monitor.as_ref(), AskMonitor).await.healthy;
    eventually("all of them answer", PATIENCE, healthy).await;
    monitor.goes_on().await;
}

/// How many tasks this program has spawned so far, with the one that asks.
async fn tasks_spawned() -> u64 {
    actix_rt::spawn(async { tokio::task::id().to_string().parse().unwrap() }).await.unwrap()
}

#[actix::test]
async fn each_of_a_thousand_children_costs_the_tasks_of_one() {
    const CHILDREN: u64 = 1_000;
    const TASKS_A_CHILD_MAX: u64 = 8;
    let _alone = ALONE.write().await;
    let directory = tempfile::tempdir().unwrap();
    let mut monitor = Monitor::start(directory.path()).await;
    let program = directory.path().join("idle");
    std::fs::write(&program, "#!/bin/sh\nexec sleep 600\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    monitor.pipeline.feeds.program = program;
    let before = tasks_spawned().await;
    for number in 0..CHILDREN {
        let publisher = publisher(&format!("idle-{number}"), "child");
        let Monitor { pipeline, settings } = &mut monitor;
        pipeline.feeds.start(settings, &pipeline.mqtt_url, &publisher).await.unwrap();
    }
    let spawned = tasks_spawned().await - before;
    assert!(spawned >= CHILDREN, "an id is no number of tasks: {spawned}");
    assert!(spawned <= CHILDREN * TASKS_A_CHILD_MAX, "{spawned} tasks for {CHILDREN} children");
    let ids: Vec<_> = (0..CHILDREN).map(|number| id(&format!("idle-{number}"))).collect();
    monitor.pipeline.feeds.end_some(&ids, Instant::now() + PATIENCE).await;
    assert_eq!(monitor.pipeline.stop(monitor.settings.grace).await, Vec::<&str>::new());
}

#[actix::test]
async fn a_stuck_watchdog() {
    is_freed("watchdog", "Watchdog::progress").await;
}

#[actix::test]
async fn a_stuck_subscriber() {
    is_freed("subscriber", "Subscriber::progress").await;
}

#[actix::test]
async fn a_stuck_influx_writer() {
    is_freed("influx writer", "InfluxWriter::progress").await;
}

#[actix::test]
async fn a_stuck_process_probe() {
    is_freed("process probe", "ProcessProbe::progress").await;
}

#[actix::test]
async fn a_stuck_notifier() {
    is_freed("notifier", "Notifier::progress").await;
}

#[actix::test]
async fn the_watchdog_between_a_decision_and_its_change() {
    survives_changes("roster::decided").await;
}

#[actix::test]
async fn the_watchdog_between_a_change_and_what_it_remembers_of_it() {
    survives_changes("roster::published").await;
}

#[actix::test]
async fn the_watchdog_before_it_does_what_was_decided() {
    survives_changes("watchdog::effect").await;
}

#[actix::test]
async fn the_notifier_between_two_pages_of_changes() {
    survives_changes("notifier::taken").await;
}

#[actix::test]
async fn the_alarms_between_a_look_and_what_comes_of_it() {
    survives("alarms::turned").await;
}

#[actix::test]
async fn the_process_probe_while_it_looks() {
    let _side_by_side = ALONE.read().await;
    let directory = tempfile::tempdir().unwrap();
    let monitor = Monitor::start(directory.path()).await;
    panic_at("probe::look", 1);
    monitor.pipeline.feeds.signal(&id("child"), ChildSignal::Stop).await.unwrap();
    monitor.until_hit("probe::look").await;
    monitor.until("child", Verdict::Stopped).await;
    monitor.pipeline.feeds.signal(&id("child"), ChildSignal::Continue).await.unwrap();
    monitor.until("child", Verdict::Alive).await;
    monitor.goes_on().await;
}

#[actix::test]
async fn the_watchman_while_it_looks_who_answers() {
    survives("watchman::answers").await;
}

#[actix::test]
async fn the_influx_writer_between_the_journal_and_its_answer() {
    survives("writer::written").await;
}

#[actix::test]
async fn the_subscriber_while_it_reads() {
    survives("subscriber::read").await;
}

#[actix::test]
async fn the_subscriber_between_the_journal_and_the_confirmation() {
    survives("subscriber::confirm").await;
}

#[actix::test]
async fn a_publisher_in_the_monitors_process_while_it_sends() {
    let _side_by_side = ALONE.read().await;
    let directory = tempfile::tempdir().unwrap();
    let monitor = Monitor::start(directory.path()).await;
    panic_at("publisher::send", 1);
    monitor.until_hit("publisher::send").await;
    // The next life has a number of its own and finds what the first has left.
    let lives = async || {
        let ledger = monitor.answer(monitor.pipeline.ports.ledger.as_ref(), AskLedger).await;
        ledger.accounts.iter().filter(|line| line.publisher == id("inside")).count() == 2
    };
    eventually("a new life of the publisher", PATIENCE, lives).await;
    monitor.goes_on().await;
}

#[actix::test]
async fn the_keeper_of_a_child_that_it_has_just_started() {
    let _side_by_side = ALONE.read().await;
    let directory = tempfile::tempdir().unwrap();
    panic_at("child::started", 1);
    let monitor = Monitor::start(directory.path()).await;
    assert_eq!(left("child::started"), 0);
    monitor.goes_on().await;
}
