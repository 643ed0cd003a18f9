//! The notifier under a paused clock: what is durable is told in the same turn, whatever else is being told.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::*;
use crate::runtime::outlet::Outlet;
use crate::runtime::supervisor::{Supervised, Supervisor};
use heartwatch_domain::history::{Gone, NewestQuery, ReadingsPlot, ReadingsQuery};
use heartwatch_domain::notice::{AlarmState, RuleAlarm, TargetConfig};
use heartwatch_domain::publisher::HostName;
use heartwatch_domain::restart::RestartLimits;
use heartwatch_domain::rule::Severity;
use heartwatch_domain::time::Timestamp;
use heartwatch_domain::verdict::{Change, Trigger, Verdict};
use heartwatch_formats::notification::NotifyMessage;
use heartwatch_ports::{BoxFuture, Notify, NotifyError};

/// Stands in for the journal. What `late` holds becomes durable while it answers that there is nothing more, after
/// which the notifier is told so.
#[derive(Default)]
struct Journal {
    changes: Mutex<Vec<Change>>,
    late: Mutex<Vec<Change>>,
    notifier: Mutex<Option<Outlet<ChangesRecorded>>>,
    answers: AtomicUsize,
}

impl History for Journal {
    fn changes(&self, query: ChangesQuery) -> BoxFuture<'_, Result<Vec<Change>, String>> {
        self.answers.fetch_add(1, Ordering::Relaxed);
        let newer = |change: &&Change| change.epoch > query.since_epoch;
        let answer: Vec<_> = self.changes.lock().unwrap().iter().filter(newer).cloned().collect();
        let late = if answer.is_empty() { std::mem::take(&mut *self.late.lock().unwrap()) } else { Vec::new() };
        let last = late.last().map(|change| change.epoch);
        self.changes.lock().unwrap().extend(late);
        let notifier = self.notifier.lock().unwrap().clone();
        Box::pin(async move {
            if let (Some(notifier), Some(through_epoch)) = (notifier, last) {
                notifier.deliver(ChangesRecorded { through_epoch }).await.unwrap();
            }
            Ok(answer)
        })
    }

    fn newest_changes(&self, _: NewestQuery) -> BoxFuture<'_, Result<Vec<Change>, String>> {
        unreachable!("the notifier does not ask for it")
    }

    fn readings(&self, _: ReadingsQuery) -> BoxFuture<'_, Result<ReadingsPlot, String>> {
        unreachable!("the notifier does not ask for it")
    }

    fn gone(&self, _: usize) -> BoxFuture<'_, Result<Gone, String>> {
        unreachable!("the notifier does not ask for it")
    }
}

/// Stands in for a webhook: says what came and when.
struct Way(mpsc::Sender<(Instant, NotifyMessage)>, Mutex<Vec<NotifyError>>);

impl Notify for Way {
    fn kind(&self) -> &'static str {
        "webhook"
    }

    fn deliver<'a>(&'a self, message: &'a NotifyMessage) -> BoxFuture<'a, Result<(), NotifyError>> {
        self.0.try_send((Instant::now(), message.clone())).unwrap();
        let error = self.1.lock().unwrap().pop();
        Box::pin(async move { error.map_or(Ok(()), Err) })
    }
}

struct House {
    notifier: Supervised<Notifier>,
    journal: Arc<Journal>,
    told: mpsc::Receiver<(Instant, NotifyMessage)>,
    _directory: tempfile::TempDir,
}

fn id(name: &str) -> PublisherId {
    PublisherId::parse(name).unwrap()
}

/// `errors` are the answers of the target, the last one first; then it takes everything.
fn house(errors: Vec<NotifyError>) -> House {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Notifications::open(&directory.path().join("notifications.sqlite"), 0).unwrap();
    let clock = Clock::start();
    let (supervisor, _) = Supervisor::new(clock, RestartLimits::default());
    let journal = Arc::<Journal>::default();
    let (sender, told) = mpsc::channel(1_000);
    let target = Target {
        config: TargetConfig { backoff_max: Duration::from_secs(1), ..TargetConfig::new("pager") },
        way: Arc::new(Way(sender, Mutex::new(errors))),
    };
    let parts = NotifierParts::new(store, id("monitor"), clock, journal.clone(), Arc::new(vec![target]));
    let notifier = supervisor.start("notifier", move |_| Notifier::new(parts.clone()));
    *journal.notifier.lock().unwrap() = Some(notifier.address.outlet());
    House { notifier, journal, told, _directory: directory }
}

impl House {
    /// A change becomes durable, and the notifier is told that it is.
    async fn becomes_durable(&self, epoch: u64, publisher: &str, from: Verdict, to: Verdict) -> Instant {
        self.journal.changes.lock().unwrap().push(change(epoch, publisher, from, to));
        let at = Instant::now();
        self.notifier.address.outlet().deliver(ChangesRecorded { through_epoch: epoch }).await.unwrap();
        at
    }

    async fn announce(&self, notices: Vec<Notice>) {
        self.notifier.address.outlet().deliver(Announce(Arc::new(notices))).await.unwrap();
    }

    async fn next(&mut self) -> (Instant, serde_json::Value, NotifyMessage) {
        let (at, message) = self.told.recv().await.unwrap();
        (at, serde_json::from_slice(&message.json).unwrap(), message)
    }
}

fn change(epoch: u64, publisher: &str, from: Verdict, to: Verdict) -> Change {
    let at = Clock::start().wall();
    Change {
        epoch,
        publisher: id(publisher),
        host: HostName::parse("here").unwrap(),
        from,
        to,
        at,
        decided_at: at,
        trigger: Trigger::ProcessExit,
        summary: "because".to_owned(),
        evidence: Vec::new(),
        process: None,
        maintenance: false,
        flapping: None,
        because: None,
    }
}

fn alarm(rule: &str, publisher: &str) -> Notice {
    let at: Timestamp = Clock::start().wall();
    Notice::Alarm(RuleAlarm {
        rule: rule.to_owned(),
        state: AlarmState::Firing,
        severity: Severity::Warning,
        publisher: id(publisher),
        host: HostName::parse("here").unwrap(),
        measurement: "m".to_owned(),
        tags: BTreeMap::new(),
        since: at,
        at,
        number: Some(9.0),
        summary: "too high".to_owned(),
        link: String::new(),
    })
}

fn on_one_thread(test: impl Future<Output = ()>) {
    actix_rt::System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
    })
    .block_on(test);
}

#[test]
fn alarms_of_one_rule_are_one_message_and_a_death_is_told_at_once_whatever_was_told_before() {
    on_one_thread(async {
        let mut house = house(Vec::new());
        let over: Vec<_> = (1..=12).map(|number| alarm("load-too-high", &format!("sensor-{number}"))).collect();
        house.announce(over).await;
        let (_, json, message) = house.next().await;
        assert_eq!((json["kind"].as_str(), json["count"].as_u64()), (Some("digest"), Some(12)), "{json}");
        assert_eq!((json["rule"].as_str(), json["state"].as_str()), (Some("load-too-high"), Some("firing")), "{json}");
        let headline = "load-too-high firing, 12 alarms: sensor-1, sensor-2, sensor-3 and 9 more";
        assert_eq!(message.headline, headline);

        // What is left of the budget is used up by others.
        for number in 1..=20 {
            house.announce(vec![alarm(&format!("rule-{number}"), "sensor-1")]).await;
        }
        for _ in 1..9 {
            house.next().await;
        }
        let (at, json, _) = house.next().await;
        assert_eq!(json["kind"].as_str(), Some("digest"), "{json}");
        house.announce(vec![alarm("one-more", "sensor-1")]).await;
        for epoch in 1..=9 {
            let durable = house.becomes_durable(epoch, &format!("light-{epoch}"), Verdict::Alive, Verdict::Dead).await;
            let (told, json, _) = house.next().await;
            assert_eq!((json["to"].as_str(), json["epoch"].as_u64()), (Some("dead"), Some(epoch)), "{json}");
            assert_eq!(told, durable, "death {epoch} waited {:?}", told - durable);
        }
        assert!(Instant::now() - at < Duration::from_secs(10), "no minute has passed");
        let (_, json, _) = house.next().await;
        assert_eq!(json["rule"].as_str(), Some("one-more"), "the rest waits for its own budget: {json}");
    });
}

#[test]
fn the_last_message_of_what_is_urgent_is_a_digest() {
    on_one_thread(async {
        let mut house = house(Vec::new());
        for epoch in 1..=30 {
            house.becomes_durable(epoch, &format!("light-{epoch}"), Verdict::Alive, Verdict::Dead).await;
        }
        let begin = Instant::now();
        let mut kinds = Vec::new();
        for _ in 0..10 {
            kinds.push(house.next().await.1);
        }
        assert!(kinds[..9].iter().all(|json| json["kind"] == "change"), "{kinds:?}");
        assert_eq!((kinds[9]["kind"].as_str(), kinds[9]["count"].as_u64()), (Some("digest"), Some(21)), "{}", kinds[9]);
        assert!(Instant::now() - begin < Duration::from_secs(5));
    });
}

#[test]
fn what_becomes_durable_while_the_journal_is_being_read_waits_for_no_timer() {
    on_one_thread(async {
        let mut house = house(Vec::new());
        // It comes during the notifier's first look, at its start, after that was told that there is nothing.
        house.journal.late.lock().unwrap().push(change(1, "light", Verdict::Alive, Verdict::Dead));
        let begin = Instant::now();
        let (told, json, _) = house.next().await;
        assert_eq!(json["publisher"].as_str(), Some("light"), "{json}");
        assert_eq!(
            told,
            begin,
            "it waited {:?} ({} answers)",
            told - begin,
            house.journal.answers.load(Ordering::Relaxed)
        );
    });
}

#[test]
fn what_is_urgent_takes_with_it_what_came_before_about_the_same_publisher() {
    on_one_thread(async {
        let mut house = house(Vec::new());
        for number in 1..=10 {
            house.announce(vec![alarm(&format!("rule-{number}"), "sensor-1")]).await;
        }
        for _ in 0..10 {
            house.next().await;
        }
        house.becomes_durable(1, "light", Verdict::Dead, Verdict::Alive).await;
        house.becomes_durable(2, "water", Verdict::Dead, Verdict::Alive).await;
        let durable = house.becomes_durable(3, "light", Verdict::Alive, Verdict::Dead).await;
        let (told, json, message) = house.next().await;
        assert_eq!(told, durable);
        let epochs: Vec<_> =
            json["notices"].as_array().unwrap().iter().map(|notice| notice["epoch"].as_u64()).collect();
        assert_eq!(epochs, [Some(1), Some(3)], "{json}");
        assert_eq!(message.headline, "light: alive → dead, after 1 earlier change");
        let (told, json, _) = house.next().await;
        assert_eq!((json["publisher"].as_str(), json["epoch"].as_u64()), (Some("water"), Some(2)), "{json}");
        assert!(told - durable > Duration::from_secs(50), "it is not urgent: {:?}", told - durable);
    });
}

#[test]
fn a_message_of_several_that_is_refused_is_told_in_single_ones() {
    on_one_thread(async {
        let refused = || NotifyError::Refused { reason: "too long".to_owned() };
        let mut house = house(vec![refused(), refused()]);
        house.announce((1..=3).map(|number| alarm("load", &format!("sensor-{number}"))).collect()).await;
        let counts = [3, 1, 1, 1];
        for count in counts {
            let (_, json, _) = house.next().await;
            assert_eq!(json["count"].as_u64().unwrap_or(1), count, "{json}");
        }
        // the second answer has refused a single one: it is given up, and the others are told
        let status = house.notifier.address.outlet().ask(AskNotifications, Duration::from_secs(5)).await.unwrap();
        assert_eq!(status[0].given_up, 1, "{status:?}");
    });
}
