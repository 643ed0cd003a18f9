use std::cell::Cell;

use super::*;
use crate::runtime::supervisor::{Supervised, Supervisor};
use actix::Actor;
use heartwatch_domain::beat::Way;
use heartwatch_domain::beat::{Beat, BeatKind, Heartbeat};
use heartwatch_domain::last_seen::LastSeen;
use heartwatch_domain::nodes::NodeBeat;
use heartwatch_domain::publisher::{HostName, Incarnation};
use heartwatch_domain::restart::RestartLimits;
use heartwatch_domain::roster::ObserverState;
use heartwatch_domain::roster::RosterConfig;
use heartwatch_domain::self_check::Reception;
use heartwatch_domain::verdict::{Change, Verdict};
use heartwatch_domain::watch::LocalHost;

/// Stands in for the probe: no real process can be made to change its state under a paused clock.
struct Probing(ProcessState);
impl Actor for Probing {
    type Context = Context<Self>;
}

crate::messages::progress::answers_progress!(Probing);
impl Handler<Probe> for Probing {
    type Result = MessageResult<Probe>;
    fn handle(&mut self, _: Probe, _: &mut Context<Self>) -> MessageResult<Probe> {
        let looked_at = Clock::start().wall();
        MessageResult(ProbeAnswer { state: self.0.clone(), cpu_time: None, looked_at, host_pid: None, user: None })
    }
}

impl Handler<AwaitExit> for Probing {
    type Result = Result<ProbeAnswer, String>;
    fn handle(&mut self, _: AwaitExit, _: &mut Context<Self>) -> Self::Result {
        Err("not under a paused clock".to_owned())
    }
}

/// Stands in for the writer: keeps what it is given.
struct Recording(Rc<RefCell<Vec<Change>>>, Rc<RefCell<Vec<usize>>>, Rc<Cell<u64>>);
impl Actor for Recording {
    type Context = Context<Self>;
}

crate::messages::progress::answers_progress!(Recording);
impl Handler<RecordChanges> for Recording {
    type Result = ();
    fn handle(&mut self, changes: RecordChanges, _: &mut Context<Self>) {
        self.0.borrow_mut().extend(changes.0.iter().cloned());
    }
}
impl Handler<RecordStanding> for Recording {
    type Result = ();
    fn handle(&mut self, standing: RecordStanding, _: &mut Context<Self>) {
        self.1.borrow_mut().push(standing.0.len());
    }
}

impl Handler<ChangesRecorded> for Recording {
    type Result = ();
    fn handle(&mut self, recorded: ChangesRecorded, _: &mut Context<Self>) {
        let last = self.0.borrow().last().map(|change| change.epoch);
        assert!(last >= Some(recorded.through_epoch), "told before it was recorded");
        self.2.set(recorded.through_epoch);
    }
}

/// Stands in for the file of maintenance windows.
#[derive(Debug, Default)]
struct Windows(std::sync::Mutex<Vec<Window>>);

impl KeepMaintenance for Windows {
    fn keep(&self, _: u64, windows: &[Window]) -> Result<(), String> {
        windows.clone_into(&mut self.0.lock().unwrap());
        Ok(())
    }
}

/// Stands in for the file of when everybody was heard last.
#[derive(Debug)]
struct Unseen;

impl KeepLastSeen for Unseen {
    fn keep(&self, _: &LastSeen) -> Result<(), String> {
        Ok(())
    }
}

struct House {
    clock: Clock,
    watchdog: Supervised<Watchdog>,
    changes: Rc<RefCell<Vec<Change>>>,
    standing: Rc<RefCell<Vec<usize>>>,
    told: Rc<Cell<u64>>,
    _parts: (Supervised<Probing>, Supervised<Recording>),
}

fn here() -> HostName {
    HostName::parse("here").unwrap()
}

fn light() -> PublisherId {
    PublisherId::parse("light").unwrap()
}

fn house(state: ProcessState, expected: Vec<PublisherId>) -> House {
    let clock = Clock::start();
    let (supervisor, _) = Supervisor::new(clock, RestartLimits::default());
    let probe = supervisor.start("probe", move |_| Probing(state.clone()));
    let (changes, standing) = (Rc::new(RefCell::new(Vec::new())), Rc::new(RefCell::new(Vec::new())));
    let (kept, repeated, told) = (changes.clone(), standing.clone(), Rc::new(Cell::new(0)));
    let through = told.clone();
    let writer = supervisor.start("writer", move |_| Recording(kept.clone(), repeated.clone(), through.clone()));
    let mut config = RosterConfig::new(LocalHost { host: here(), boot_id: None, pid: None });
    config.rules.default = Duration::from_secs(5);
    config.expected = expected;
    let roster = Roster::new(config, &[], 7, clock.monotonic(), clock.wall());
    let roster = Rc::new(RefCell::new(roster));
    let outlets = Outlets {
        probe: probe.address.outlet(),
        exits: probe.address.outlet(),
        changes: writer.address.outlet(),
        standing: writer.address.outlet(),
        recorded: writer.address.outlet(),
        windows: Arc::new(Windows::default()),
        last_seen: Arc::new(Unseen),
        live: broadcast::channel(16).0,
    };
    let watchdog = supervisor.start("watchdog", move |_| Watchdog::new(roster.clone(), clock, outlets.clone()));
    House { clock, watchdog, changes, standing, told, _parts: (probe, writer) }
}

impl House {
    async fn hears(&self) {
        self.receives(Reception::Open).await;
    }

    async fn receives(&self, reception: Reception) {
        self.receives_on(Way::Mqtt, reception).await;
    }

    async fn receives_on(&self, way: Way, reception: Reception) {
        let reason = format!("{way} is not reached");
        let hearing = LinkState { way, reception, at: self.clock.monotonic(), reason };
        self.watchdog.address.outlet().deliver(hearing).await.unwrap();
    }

    async fn beat(&self) {
        self.beat_of(&light()).await;
    }

    async fn beat_of(&self, publisher: &PublisherId) {
        self.beat_from(publisher, here()).await;
    }

    async fn beat_from(&self, publisher: &PublisherId, host: HostName) {
        self.beat_over(Way::Mqtt, publisher, host).await;
    }

    async fn beat_over(&self, way: Way, publisher: &PublisherId, host: HostName) {
        let process = ProcessIdentity { pid: 812, start_ticks: 1, boot_id: "boot".into() };
        let heartbeat = Heartbeat {
            is_agent: false,
            outbox_stalled: None,
            incarnation: Incarnation(1),
            process: Some(process),
            sequence: 0,
            cursor: self.clock.monotonic().as_nanos(),
            idle: false,
            interval: Duration::from_secs(1),
        };
        let kind = BeatKind::Heartbeat(Box::new(heartbeat));
        let (at, wall) = (self.clock.monotonic(), self.clock.wall());
        let beat = Beat { publisher: publisher.clone(), host, at, wall, way, kind };
        self.watchdog.address.outlet().deliver(Beats(Arc::new(vec![beat]))).await.unwrap();
    }

    fn last_of(&self, publisher: &PublisherId) -> Option<Verdict> {
        let changes = self.changes.borrow();
        changes.iter().rev().find(|change| change.publisher == *publisher).map(|change| change.to)
    }

    /// Waits until this one has this verdict; how long it took on the paused clock.
    async fn until(&self, publisher: &PublisherId, verdict: Verdict) -> Duration {
        let begin = tokio::time::Instant::now();
        loop {
            let last = self.last_of(publisher);
            if last == Some(verdict) {
                return begin.elapsed();
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "{publisher} is {last:?}, not {verdict}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn verdicts(&self) -> Vec<(u64, Verdict)> {
        self.changes.borrow().iter().map(|change| (change.epoch, change.to)).collect()
    }
}

fn on_one_thread(test: impl Future<Output = ()>) {
    actix_rt::System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
    })
    .block_on(test);
}

/// Moves the paused clock in steps short enough that the monitor does not believe it stood still.
async fn pass(duration: Duration) {
    let end = tokio::time::Instant::now() + duration;
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// An existing agent behind Kafka sends a sample a minute and promises nothing; its lease and its configuration do.
#[test]
fn a_living_lease_promises_for_an_agent_that_beats_never() {
    on_one_thread(async {
        let (agent, other) = (PublisherId::parse("agent-1").unwrap(), PublisherId::parse("agent-2").unwrap());
        let node = |name: &str, client_id: Option<&PublisherId>| NodeBeat {
            node: HostName::parse(name).unwrap(),
            host: None,
            client_id: client_id.cloned(),
            at: None,
        };
        let house = house(ProcessState::Sleeping, vec![]);
        house.hears().await;
        house.receives_on(Way::Kafka, Reception::Open).await;
        let told = LeasesPromise(Arc::new(vec![
            (node("n1", Some(&agent)), Duration::from_secs(60)),
            (node("n2", None), Duration::from_secs(30)),
        ]));
        let sends = async |publisher: &PublisherId, host: &str| {
            let kind = BeatKind::Readings { incarnation: None };
            let (at, wall) = (house.clock.monotonic(), house.clock.wall());
            let host = HostName::parse(host).unwrap();
            let beat = Beat { publisher: publisher.clone(), host, at, wall, way: Way::Kafka, kind };
            house.watchdog.address.outlet().deliver(Beats(Arc::new(vec![beat]))).await.unwrap();
        };
        // one is known before its promise, the other one comes after it
        sends(&agent, "elsewhere").await;
        house.watchdog.address.outlet().deliver(told).await.unwrap();
        for minute in 0..5 {
            sends(&agent, "elsewhere").await;
            for _ in 0..2 {
                sends(&other, "n2").await;
                tokio::time::sleep(Duration::from_millis(30_010)).await;
            }
            let said: Vec<_> = house.verdicts().into_iter().map(|(_, verdict)| verdict).collect();
            assert_eq!(said, [Verdict::Alive, Verdict::Alive], "minute {minute}");
        }
        house.watchdog.address.outlet().deliver(LeasesPromise(Arc::default())).await.unwrap();
        assert!(house.until(&other, Verdict::Silent).await >= Duration::from_secs(29), "what it promised last stands");
    });
}

#[test]
fn a_way_that_is_down_makes_nobody_silent_and_who_is_heard_on_another_is_judged_by_that() {
    on_one_thread(async {
        let house = house(ProcessState::Sleeping, vec![]);
        let [on_kafka, on_both, on_mqtt] = ["agent-1", "agent-2", "light"].map(|id| PublisherId::parse(id).unwrap());
        house.hears().await;
        house.receives_on(Way::Kafka, Reception::Open).await;
        let beat = async |ways: &[Way], both: bool| {
            for way in ways {
                house.beat_over(*way, if *way == Way::Kafka { &on_kafka } else { &on_mqtt }, here()).await;
                if both {
                    house.beat_over(*way, &on_both, here()).await;
                }
            }
            pass(Duration::from_secs(1)).await;
        };
        for _ in 0..5 {
            beat(&Way::ALL, true).await;
        }
        house.receives_on(Way::Kafka, Reception::Lost).await;
        for _ in 0..20 {
            beat(&[Way::Mqtt], true).await;
        }
        assert_eq!(house.last_of(&on_kafka), Some(Verdict::Unknown));
        assert!(house.changes.borrow().iter().any(|change| change.summary.contains("Kafka is not reached")));
        for well in [&on_both, &on_mqtt] {
            assert_eq!(house.last_of(well), Some(Verdict::Alive));
        }
        for _ in 0..8 {
            beat(&[Way::Mqtt], false).await;
        }
        assert_eq!(house.last_of(&on_both), Some(Verdict::Silent));
        // When it is back, who is not heard there has its whole deadline.
        house.receives_on(Way::Kafka, Reception::Open).await;
        for _ in 0..4 {
            beat(&[Way::Mqtt], false).await;
        }
        assert_eq!(house.last_of(&on_kafka), Some(Verdict::Unknown));
        house.until(&on_kafka, Verdict::Silent).await;
    });
}

#[test]
fn silence_leads_over_late_to_the_probes_verdict() {
    on_one_thread(async {
        let house = house(ProcessState::Gone, vec![]);
        house.hears().await;
        for _ in 0..20 {
            house.beat().await;
            pass(Duration::from_secs(1)).await;
        }
        assert_eq!(house.verdicts(), [(8, Verdict::Alive)]);
        pass(Duration::from_secs(6)).await;
        assert_eq!(house.verdicts(), [(8, Verdict::Alive), (9, Verdict::Late), (10, Verdict::Dead)]);
        let dead = house.changes.borrow()[2].clone();
        assert!(dead.summary.contains("PID 812 is gone"), "{}", dead.summary);
        for _ in 0..3 {
            assert_eq!(house.verdicts().len(), 3, "it may have waited somewhere");
            house.beat().await;
            pass(Duration::from_secs(1)).await;
        }
        assert_eq!(house.verdicts()[3], (11, Verdict::Alive), "its signs go on: another process had ended");
        assert_eq!(house.told.get(), 11, "the notifier was told, after the record");
        assert!(house.standing.borrow().len() >= 2, "standing verdicts are repeated every 10 s");
    });
}

#[test]
fn an_expected_one_that_never_comes_never_started() {
    on_one_thread(async {
        let house = house(ProcessState::Gone, vec![light()]);
        house.hears().await;
        pass(Duration::from_secs(12)).await;
        assert_eq!(house.verdicts(), [(8, Verdict::NeverStarted)]);
        let status = house.watchdog.address.outlet().ask(AskStatus, Duration::from_secs(1)).await.unwrap();
        assert_eq!((status.publishers[0].verdict, status.observer.state), (Verdict::NeverStarted, Default::default()));
    });
}

#[test]
fn after_a_stall_of_its_own_the_monitor_accuses_nobody() {
    on_one_thread(async {
        let house = house(ProcessState::Sleeping, vec![]);
        house.hears().await;
        house.beat().await;
        // One jump of the clock: nothing ran in between, as under SIGSTOP.
        tokio::time::advance(Duration::from_secs(60)).await;
        let status = house.watchdog.address.outlet().ask(AskStatus, Duration::from_secs(1)).await.unwrap();
        assert_eq!(status.observer.state, ObserverState::Suspect, "it says so at once: {:?}", status.observer);
        pass(Duration::from_secs(1)).await;
        house.beat().await;
        pass(Duration::from_secs(1)).await;
        assert_eq!(house.verdicts(), [(8, Verdict::Alive)]);
    });
}

#[test]
fn a_disk_that_stands_still_again_and_again_delays_a_verdict_and_does_not_prevent_it() {
    on_one_thread(async {
        let house = house(ProcessState::Sleeping, vec![]);
        house.hears().await;
        house.beat().await;
        for _ in 0..20 {
            pass(Duration::from_millis(3_800)).await;
            house.receives(Reception::HeldUp).await;
            pass(Duration::from_millis(200)).await;
            house.hears().await;
        }
        assert_eq!(house.verdicts(), [(8, Verdict::Alive), (9, Verdict::Late), (10, Verdict::Silent)], "and it stands");
        // 200 ms were held up, and 800 to hear what had waited.
        let silent = house.changes.borrow()[2].clone();
        let said = silent.evidence.iter().any(|fact| fact.detail.contains("6 s ago; 1 s of that do not count"));
        assert!(said && silent.summary.contains("silent 5 s"), "{silent:?}");
    });
}

#[test]
fn who_was_held_back_by_a_doubt_is_judged_in_the_moment_in_which_it_ends() {
    on_one_thread(async {
        let house = house(ProcessState::Sleeping, vec![]);
        house.hears().await;
        let crowd: Vec<_> = (1..=4).map(|number| PublisherId::parse(&format!("light-{number}")).unwrap()).collect();
        for publisher in &crowd {
            house.beat_of(publisher).await;
        }
        // They are late after 1.5 s, so that the doubt lasts from then on for two deadlines.
        let doubted = house.until(&crowd[0], Verdict::Unknown).await;
        assert!(doubted.abs_diff(Duration::from_secs(5)) < Duration::from_millis(15), "{doubted:?}");
        let judged = doubted + house.until(&crowd[0], Verdict::Silent).await;
        assert!(judged.abs_diff(Duration::from_millis(11_500)) < Duration::from_millis(15), "{judged:?}");

        for publisher in &crowd {
            house.beat_of(publisher).await;
        }
        pass(Duration::from_millis(7_300)).await;
        house.until(&crowd[3], Verdict::Unknown).await;
        for _ in 0..3 {
            for publisher in &crowd[..3] {
                house.beat_of(publisher).await;
            }
            pass(Duration::from_millis(800)).await;
        }
        let judged = Duration::from_millis(2_400) + house.until(&crowd[3], Verdict::Silent).await;
        let half = Duration::from_millis(2_500);
        assert!(judged.abs_diff(half) < Duration::from_millis(15), "half a deadline after the others: {judged:?}");
    });
}

impl House {
    /// The changes that people are told of, and what they say.
    fn told_of(&self, publisher: &str) -> Vec<(Verdict, String)> {
        let changes = self.changes.borrow();
        let told = changes.iter().filter(|change| change.publisher.as_str() == publisher && change.is_told());
        told.map(|change| (change.to, change.summary.clone())).collect()
    }

    async fn maintenance(&self, change: ChangeMaintenance) -> MaintenanceReply {
        self.watchdog.address.outlet().ask(change, Duration::from_secs(1)).await.unwrap().unwrap()
    }
}

#[test]
fn flapping_is_stated_once_and_then_nothing_until_it_is_steady() {
    on_one_thread(async {
        let house = house(ProcessState::Sleeping, vec![]);
        house.hears().await;
        for _ in 0..10 {
            house.beat().await;
            pass(Duration::from_secs(7)).await;
        }
        house.beat().await;
        let bad = |told: &[(Verdict, String)]| told.iter().filter(|(verdict, _)| *verdict == Verdict::Silent).count();
        let told = house.told_of("light");
        assert!(bad(&told) <= 4, "{told:?}");
        let (_, begins) = told.last().unwrap();
        assert!(begins.contains("flapping: 7 changes in"), "{begins}");
        let recorded = house.changes.borrow().iter().filter(|change| change.to == Verdict::Silent).count();
        assert_eq!(recorded, 10, "all of them are recorded");
        let status = house.watchdog.address.outlet().ask(AskStatus, Duration::from_secs(1)).await.unwrap();
        assert!(status.publishers[0].flapping);
        for _ in 0..62 {
            house.beat().await;
            pass(Duration::from_secs(1)).await;
        }
        let after = house.told_of("light");
        assert_eq!(after.len(), told.len() + 1, "{after:?}");
        let (verdict, ends) = after.last().unwrap();
        assert_eq!(*verdict, Verdict::Alive);
        assert!(ends.contains("steady for 1 min after flapping (") && ends.contains("changes held back)"), "{ends}");
        let status = house.watchdog.address.outlet().ask(AskStatus, Duration::from_secs(1)).await.unwrap();
        assert!(!status.publishers[0].flapping);
    });
}

#[test]
fn in_maintenance_verdicts_are_decided_and_not_told_and_what_outlasts_it_is() {
    on_one_thread(async {
        let house = house(ProcessState::Gone, vec![]);
        house.hears().await;
        house.beat().await;
        let lasts = Duration::from_secs(3_600);
        let begin = ChangeMaintenance::Begin { publisher: "l*".parse().unwrap(), lasts, reason: "new disk".to_owned() };
        assert_eq!(house.maintenance(begin).await.covered, [light()]);
        pass(Duration::from_secs(7)).await;
        let last = house.changes.borrow().last().unwrap().clone();
        assert_eq!((last.to, last.maintenance, last.is_told()), (Verdict::Dead, true, false));
        assert!(last.evidence.iter().any(|fact| fact.detail.contains("new disk")), "{last:?}");
        let status = house.watchdog.address.outlet().ask(AskStatus, Duration::from_secs(1)).await.unwrap();
        assert_eq!(status.publishers[0].maintenance.as_ref().unwrap().reason, "new disk");
        let ended = house.maintenance(ChangeMaintenance::End { publisher: "l*".parse().unwrap() }).await;
        assert_eq!((ended.ended, ended.windows.len()), (1, 0));
        pass(Duration::from_secs(1)).await;
        let told = house.told_of("light");
        let (verdict, summary) = told.last().unwrap();
        assert_eq!(*verdict, Verdict::Dead);
        assert!(summary.starts_with("dead: so at the end of its maintenance; "), "{summary}");
    });
}

#[test]
fn a_host_that_is_gone_is_one_word_not_one_for_each_publisher_on_it() {
    on_one_thread(async {
        let house = house(ProcessState::Sleeping, vec![]);
        house.hears().await;
        let far = HostName::parse("far").unwrap();
        let crowd: Vec<_> = (1..=20).map(|number| PublisherId::parse(&format!("far-{number}")).unwrap()).collect();
        for publisher in &crowd {
            house.beat_from(publisher, far.clone()).await;
        }
        for _ in 0..8 {
            house.beat().await;
            pass(Duration::from_secs(1)).await;
        }
        let told = house.told_of("host:far");
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].1.contains("all 20 publishers on far are silent"), "{told:?}");
        for publisher in &crowd {
            assert!(house.told_of(publisher.as_str()).iter().all(|(verdict, _)| !verdict.is_bad()), "{publisher}");
        }
        let status = house.watchdog.address.outlet().ask(AskStatus, Duration::from_secs(1)).await.unwrap();
        let gone = status.publishers.iter().filter(|one| one.verdict == Verdict::Unreachable).count();
        assert_eq!(gone, 20, "each has its verdict all the same");
        // All but one come back.
        for _ in 0..8 {
            house.beat().await;
            for publisher in &crowd[1..] {
                house.beat_from(publisher, far.clone()).await;
            }
            pass(Duration::from_secs(1)).await;
        }
        assert_eq!(house.told_of("host:far").last().unwrap().0, Verdict::Alive);
        let left = house.told_of("far-1");
        let (verdict, summary) = left.last().unwrap();
        assert_eq!(*verdict, Verdict::Unreachable);
        assert!(summary.contains("its host far is heard again, it is not"), "{summary}");
        let of_one: Vec<_> = house.told_of("far-2").into_iter().map(|(verdict, _)| verdict).collect();
        assert_eq!(of_one, [Verdict::Alive, Verdict::Late], "nothing of its loss and its return");
    });
}

/// Where log lines are kept for a test.
#[derive(Clone, Default)]
struct Logged(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn of_a_crowd_of_verdicts_the_log_has_the_first_and_how_many_more() {
    let logged = Logged::default();
    let writer = logged.clone();
    let lines = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let _logging = tracing::subscriber::set_default(lines);
    let changes = Rc::new(Cell::new(0));
    let counted = changes.clone();
    on_one_thread(async move {
        let house = house(ProcessState::Gone, vec![]);
        house.hears().await;
        for number in 0..1_100 {
            house.beat_of(&PublisherId::parse(&format!("light-{number}")).unwrap()).await;
        }
        pass(Duration::from_millis(10_500)).await;
        counted.set(house.changes.borrow().len());
    });
    let text = String::from_utf8(logged.0.lock().unwrap().clone()).unwrap();
    let (first, rest) = text.split_once("more verdicts within 10 s").unwrap();
    let lines = |text: &str| text.lines().filter(|line| line.contains(" verdict publisher=light-")).count();
    assert_eq!(lines(first), 1_000);
    let more = rest.lines().next().unwrap().split_once("verdicts=").unwrap().1;
    let more: usize = more.split(' ').next().unwrap().parse().unwrap();
    assert!(more >= 100, "{more}");
    assert_eq!(1_000 + more + lines(rest), changes.get(), "each is recorded, and logged or counted");
}
