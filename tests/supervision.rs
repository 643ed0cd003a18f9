//! A panic in any actor is survived: readings flow on, every one that was produced is stored, verdicts are right.
//!
//! Each test runs a whole monitor in this process, with one publisher in the same process and one as a child,
//! and makes one actor panic while readings flow.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a helper fails its test")]

mod support;

use std::path::Path;
use std::time::Duration;

use heartwatch::buffer::outbox::FullPolicy;
use heartwatch::config::{
    BrokerSettings, FeedSettings, FeedSource, OUTBOX_BYTES_MAX, PublisherSettings, RestartSettings, RunAs, Settings,
};
use heartwatch::domain::ledger::Account;
use heartwatch::domain::publisher::PublisherId;
use heartwatch::domain::restart::RestartPolicy;
use heartwatch::domain::verdict::Verdict;
use heartwatch::formats::api::accounts_by_publisher;
use heartwatch::messages::ask::{AskChanges, AskLedger, AskStatus, PublisherStatus};
use heartwatch::messages::child::ChildSignal;
use heartwatch::messages::crash::{Crash, Hang};
use heartwatch::messages::progress::AskMonitor;
use heartwatch::roles::pipeline::{self, Pipeline};
use heartwatch::runtime::outlet::{Outlet, Undelivered};
use heartwatch::sources::csv::TimeColumn;
use support::eventually;
use support::heartwatch::{PATIENCE, PROGRAM, fixture};
use tokio::time::Instant;

/// How long an actor may take to answer; while it is being started again it does not.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
const DEADLINE: Duration = Duration::from_secs(2);
/// How long an actor may take to say that it still handles messages.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

fn id(name: &str) -> PublisherId {
    PublisherId::parse(name).unwrap()
}

fn feed(name: &str, run: RunAs) -> PublisherSettings {
    let feed = FeedSettings {
        source: FeedSource::Csv(fixture("light-1.csv")),
        interval: Duration::from_millis(10),
        heartbeat: Some(Duration::from_millis(200)),
        run,
        looping: true,
        limit: None,
        time_column: TimeColumn::Auto,
        time_format: None,
        measurement: None,
        outbox_bytes_max: OUTBOX_BYTES_MAX,
        outbox_full: FullPolicy::default(),
        restart: RestartSettings { policy: RestartPolicy::Never, ..RestartSettings::default() },
    };
    PublisherSettings { id: id(name), expected: true, deadline: None, grace: None, feed: Some(feed) }
}

struct Monitor {
    pipeline: Pipeline,
    settings: Settings,
}

impl Monitor {
    async fn start(directory: &Path) -> Self {
        let mut settings = Settings { data_dir: directory.to_owned(), ..Settings::default() };
        settings.mqtt.broker = BrokerSettings::Embedded { listen: ([127, 0, 0, 1], 0).into() };
        settings.web.listen = None;
        settings.watch.deadlines.default = DEADLINE;
        settings.monitor.check_interval = CHECK_INTERVAL;
        let mut pipeline = pipeline::start(&settings).await.unwrap();
        // This very program is the test.
        pipeline.feeds.program = PROGRAM.into();
        for publisher in [feed("inside", RunAs::InProcess), feed("child", RunAs::Child)] {
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
    async fn answer<M>(&self, outlet: &Outlet<M>, question: M) -> M::Result
    where
        M: actix::Message + Clone + Send + 'static,
        M::Result: Send,
    {
        let end = Instant::now() + PATIENCE;
        loop {
            match outlet.ask(question.clone(), ASK_TIMEOUT).await {
                Ok(answer) => return answer,
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn account(&self, publisher: &str) -> Account {
        let ledger = self.answer(&self.pipeline.outlets.ledger, AskLedger).await;
        accounts_by_publisher(&ledger.accounts).remove(&id(publisher)).unwrap_or_default()
    }

    async fn publisher(&self, publisher: &str) -> PublisherStatus {
        let status = self.answer(&self.pipeline.outlets.status, AskStatus).await;
        status.publishers.into_iter().find(|status| status.id == id(publisher)).unwrap()
    }

    async fn until(&self, publisher: &str, verdict: Verdict) {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.answer(&self.pipeline.outlets.status, AskStatus).await;
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

    async fn crash(&self, actor: &str, outlet: &Outlet<Crash>) {
        let end = outlet.ask(Crash, ASK_TIMEOUT).await;
        assert!(matches!(end, Err(Undelivered::Stopped { .. })), "{actor}: {end:?}");
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

        let account = self.account("inside").await;
        assert_eq!(account.stored, account.produced, "{account:?}");
        assert_eq!((account.lost, account.missing), (0, 0), "{account:?}");
        let account = self.account("child").await;
        assert!(account.balances() && account.lost == 0, "{account:?}");

        // Every change is recorded, in order and once.
        let question = AskChanges { since_epoch: 0, publisher: None, changes_max: 1_000 };
        let changes = self.answer(&self.pipeline.outlets.changes, question).await;
        let epochs: Vec<_> = changes.iter().map(|change| change.epoch).collect();
        assert_eq!(epochs, (1..=epochs.len() as u64).collect::<Vec<_>>());
        let course: Vec<_> =
            changes.iter().filter(|change| change.publisher == id("inside")).map(|change| change.to).collect();
        assert_eq!(course.last(), Some(&Verdict::Ended));
        // The monitor may doubt itself while one of its parts is stuck; it accuses nobody.
        let ordinary = [Verdict::Alive, Verdict::Late, Verdict::Ended, Verdict::Unknown];
        assert!(course.iter().all(|verdict| ordinary.contains(verdict)), "{course:?}");

        assert_eq!(self.pipeline.stop(self.settings.grace).await, Vec::<&str>::new());
    }
}

/// Makes one of the monitor's own actors panic, twice.
async fn survives(actor: &str) {
    let directory = tempfile::tempdir().unwrap();
    let monitor = Monitor::start(directory.path()).await;
    let outlet = monitor.pipeline.crashes.iter().find(|(name, _)| *name == actor).unwrap().1.clone();
    monitor.crash(actor, &outlet).await;
    monitor.flows().await;
    monitor.crash(actor, &outlet).await;
    monitor.goes_on().await;
}

/// Makes one of the monitor's own actors handle nothing any more, without a panic.
async fn is_freed(actor: &str) {
    let directory = tempfile::tempdir().unwrap();
    let monitor = Monitor::start(directory.path()).await;
    let outlet = monitor.pipeline.hangs.iter().find(|(name, _)| *name == actor).unwrap().1.clone();
    outlet.ask(Hang, ASK_TIMEOUT).await.unwrap();
    let freed = async || {
        let status = monitor.answer(&monitor.pipeline.outlets.monitor, AskMonitor).await;
        let found = status.actors.into_iter().find(|status| status.actor == actor).unwrap();
        (found.restarts, found.stuck) == (1, 1)
    };
    eventually(&format!("the {actor} is started again"), PATIENCE, freed).await;
    let healthy = async || monitor.answer(&monitor.pipeline.outlets.monitor, AskMonitor).await.healthy;
    eventually("all of them answer", PATIENCE, healthy).await;
    monitor.goes_on().await;
}

#[actix::test]
async fn a_stuck_watchdog() {
    is_freed("watchdog").await;
}

#[actix::test]
async fn a_stuck_subscriber() {
    is_freed("subscriber").await;
}

#[actix::test]
async fn a_stuck_influx_writer() {
    is_freed("influx writer").await;
}

#[actix::test]
async fn a_stuck_process_probe() {
    is_freed("process probe").await;
}

#[actix::test]
async fn a_stuck_notifier() {
    is_freed("notifier").await;
}

#[actix::test]
async fn the_notifier() {
    survives("notifier").await;
}

#[actix::test]
async fn the_watchman() {
    survives("watchman").await;
}

#[actix::test]
async fn the_influx_writer() {
    survives("influx writer").await;
}

#[actix::test]
async fn the_watchdog() {
    survives("watchdog").await;
}

#[actix::test]
async fn the_subscriber() {
    survives("subscriber").await;
}

#[actix::test]
async fn the_process_probe() {
    survives("process probe").await;
}

#[actix::test]
async fn a_publisher_in_the_monitors_process() {
    let directory = tempfile::tempdir().unwrap();
    let monitor = Monitor::start(directory.path()).await;
    let outlet = monitor.pipeline.feeds.crash_of(&id("inside")).unwrap();
    monitor.crash("publisher", &outlet).await;
    // The next life has a number of its own and finds what the first has left.
    let lives = async || {
        let ledger = monitor.answer(&monitor.pipeline.outlets.ledger, AskLedger).await;
        ledger.accounts.iter().filter(|line| line.publisher == id("inside")).count() == 2
    };
    eventually("a new life of the publisher", PATIENCE, lives).await;
    monitor.goes_on().await;
}

#[actix::test]
async fn the_keeper_of_a_child() {
    let directory = tempfile::tempdir().unwrap();
    let monitor = Monitor::start(directory.path()).await;
    let before = monitor.publisher("child").await.pid;
    let outlet = monitor.pipeline.feeds.crash_of(&id("child")).unwrap();
    monitor.crash("child", &outlet).await;
    let another = async || monitor.publisher("child").await.pid != before;
    eventually("a new process is heard", PATIENCE, another).await;
    support::heartwatch::all_ended(&[before.unwrap()]).await;
    monitor.goes_on().await;
}
