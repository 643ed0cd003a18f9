//! The writer with a real journal and a real InfluxDB that is killed, stopped and misused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

use crate::support;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use heartwatch::actors::influx_writer::{InfluxWriter, WriterConfig, WriterParts};
use heartwatch::messages::ask::AskLedger;
use heartwatch::messages::drain::Drain;
use heartwatch::messages::intake::Intake;
use heartwatch::runtime::supervisor::{Supervised, Supervisor};
use heartwatch_adapters::influx::{InfluxConfig, InfluxSink};
use heartwatch_domain::intake::IntakeEntry;
use heartwatch_domain::ledger::LedgerReply;
use heartwatch_domain::publisher::{HostName, Incarnation, PublisherId};
use heartwatch_domain::restart::RestartLimits;
use heartwatch_ports::credentials::Secret;
use heartwatch_ports::{BoxFuture, Sink, SinkError};
use heartwatch_store::journal::{Journal, JournalConfig};
use heartwatch_system::clock::Clock;
use support::eventually;
use support::influxd::{Influxd, InfluxdOptions};
use tempfile::TempDir;
use tokio::time::Instant;
use url::Url;

const DATABASE: &str = "heartwatch";
const SOON: Duration = Duration::from_secs(20);
/// 2023-11-14; rows are a millisecond apart.
const FIRST_NANOS: u64 = 1_700_000_000_000_000_000;

/// A writer as a role wires it, and what is on its disk.
struct Bench {
    _dir: TempDir,
    journal: Journal,
    parts: WriterParts,
    writer: Supervised<InfluxWriter>,
    next: Rc<Cell<u64>>,
}

fn quick() -> WriterConfig {
    WriterConfig {
        flush_interval: Duration::from_millis(200),
        backoff_min: Duration::from_millis(50),
        backoff_max: Duration::from_millis(500),
        misconfigured_retry: Duration::from_millis(200),
        ..WriterConfig::default()
    }
}

fn influx(url: &str, change: impl FnOnce(&mut InfluxConfig)) -> Option<Arc<dyn Sink>> {
    let mut config = InfluxConfig::at(Url::parse(url).unwrap());
    config.request_timeout = Duration::from_millis(500);
    change(&mut config);
    Some(Arc::new(InfluxSink::new(config).unwrap()))
}

fn start(parts: &WriterParts, clock: Clock) -> Supervised<InfluxWriter> {
    let limits = RestartLimits {
        restarts_max: 10,
        period: Duration::from_secs(60),
        backoff_min: Duration::from_millis(10),
        backoff_max: Duration::from_millis(100),
    };
    let (supervisor, _) = Supervisor::new(clock, limits);
    let parts = parts.clone();
    supervisor.start("influx_writer", move |_| InfluxWriter::new(parts.clone()))
}

impl Bench {
    fn new(sink: Option<Arc<dyn Sink>>, config: WriterConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(JournalConfig {
            path: dir.path().join("journal.sqlite"),
            bytes_max: 1024 * 1024 * 1024,
            history: Duration::from_secs(3_600),
            has_sink: sink.is_some(),
            queue_entries_max: 1_000,
        })
        .unwrap();
        let clock = Clock::start();
        let parts = WriterParts::new(journal.clone(), sink, clock, config);
        let writer = start(&parts, clock);
        Self { _dir: dir, journal, parts, writer, next: Rc::new(Cell::new(1)) }
    }

    /// Numbered rows, made by a function of the number; returns when they are confirmed.
    async fn take_in(&self, rows: u64, line: impl Fn(u64) -> String) {
        let first = self.next.get();
        self.next.set(first + rows);
        let lines = (first..first + rows).map(|sequence| (sequence, line(sequence).into_bytes()));
        let entry = IntakeEntry::Readings {
            publisher: PublisherId::parse("p").unwrap(),
            host: HostName::parse("h").unwrap(),
            incarnation: Incarnation(1),
            lines: lines.collect(),
        };
        let outlet = self.writer.address.outlet::<Intake>();
        let confirmed = outlet.deliver(Intake(Arc::new(vec![entry]))).await.unwrap();
        assert_eq!(confirmed.states[0].through, first + rows - 1);
    }

    async fn ledger(&self) -> LedgerReply {
        self.writer.address.outlet::<AskLedger>().ask(AskLedger, SOON).await.unwrap()
    }

    async fn delivered(&self) {
        eventually("every row is delivered", SOON, async || self.journal.level().undelivered_rows == 0).await;
    }
}

fn good(number: u64) -> String {
    format!("light,publisher=p,host=h lux={number}i {}", FIRST_NANOS + number * 1_000_000)
}

#[actix_rt::test]
async fn a_lone_row_waits_for_no_others_and_the_ledger_knows() {
    let Some(server) = Influxd::start().await else { return };
    let bench = Bench::new(influx(&server.url(), |_| {}), quick());
    bench.take_in(1, good).await;
    eventually("a lone row", SOON, async || server.count(DATABASE, "light", "lux").await == 1).await;
    bench.take_in(12_000, good).await;
    bench.delivered().await;
    assert_eq!(server.count(DATABASE, "light", "lux").await, 12_001);
    let ledger = bench.ledger().await;
    assert_eq!((ledger.sinks[0].name.as_str(), ledger.sinks[0].state.as_str()), ("influxdb", "ok"));
    assert_eq!((ledger.accounts[0].account.stored, ledger.accounts[0].account.buffered), (12_001, 0));
    assert!(bench.parts.counters().writes <= 6, "batches, not rows: {:?}", bench.parts.counters());
}

#[actix_rt::test]
async fn a_kill_of_influxdb_for_ten_seconds_under_load_loses_nothing() {
    let Some(mut server) = Influxd::start().await else { return };
    // a machine that stands still for half a second is no second outage
    let bench = Bench::new(influx(&server.url(), |config| config.request_timeout = SOON), quick());
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    for step in 0..260 {
        tick.tick().await;
        bench.take_in(10, good).await; // 200 readings a second
        match step {
            30 => server.kill(),
            100 => {
                let sink = bench.ledger().await.sinks.remove(0);
                assert_eq!(sink.state, "retrying");
                assert!(sink.last_error.contains("can't be reached"), "{}", sink.last_error);
                assert!(sink.buffered_rows > 500, "{}", sink.buffered_rows);
            }
            230 => server.restart().await,
            _ => {}
        }
    }
    bench.delivered().await;
    assert_eq!(server.count(DATABASE, "light", "lux").await, 2_600);
    let sum = server.rows(DATABASE, "SELECT sum(lux) FROM light").await;
    assert_eq!(sum[0][1].as_u64(), Some((1..=2_600).sum()));
    assert_eq!(bench.parts.counters().outages, 1);
    assert_eq!(bench.ledger().await.sinks[0].state, "ok");
}

#[actix_rt::test]
async fn a_server_that_is_away_at_the_start_is_an_absence_like_a_later_one() {
    let Some(mut server) = Influxd::start().await else { return };
    let url = server.url();
    server.kill();
    let bench = Bench::new(influx(&url, |_| {}), quick());
    eventually("it is missed", SOON, async || bench.ledger().await.sinks[0].state == "retrying").await;
    server.restart().await;
    eventually("it is back", SOON, async || bench.ledger().await.sinks[0].state == "ok").await;
    assert_eq!(bench.ledger().await.sinks[0].absences, 1);
    server.kill();
    bench.take_in(1, good).await;
    eventually("it is missed again", SOON, async || bench.ledger().await.sinks[0].absences == 2).await;
}

#[actix_rt::test]
async fn a_server_that_hangs_is_waited_for() {
    let Some(server) = Influxd::start().await else { return };
    let bench = Bench::new(influx(&server.url(), |_| {}), quick());
    bench.take_in(10, good).await;
    bench.delivered().await;
    server.pause();
    bench.take_in(100, good).await;
    eventually("it is noticed", SOON, async || bench.ledger().await.sinks[0].state == "retrying").await;
    let error = bench.ledger().await.sinks[0].last_error.clone();
    assert!(error.contains("gave no answer within 500 ms"), "{error}");
    server.resume();
    bench.delivered().await;
    assert_eq!(server.count(DATABASE, "light", "lux").await, 110);
}

#[actix_rt::test]
async fn a_partial_write_costs_exactly_the_rows_that_are_refused() {
    let Some(server) = Influxd::start().await else { return };
    let bench = Bench::new(influx(&server.url(), |_| {}), quick());
    bench.take_in(1, good).await;
    bench.delivered().await;
    let bad = |number: u64| number % 500 == 7;
    bench
        .take_in(2_000, |number| {
            if bad(number) {
                format!("light,publisher=p,host=h lux=\"dark\" {}", FIRST_NANOS + number * 1_000_000)
            } else {
                good(number)
            }
        })
        .await;
    bench.delivered().await;
    assert_eq!(server.count(DATABASE, "light", "lux").await, 2_001 - 4);
    let sink = bench.ledger().await.sinks.remove(0);
    assert_eq!((sink.dead_letters, sink.state.as_str()), (4, "ok"));
    let counters = bench.parts.counters();
    assert_eq!((counters.rows_stored, counters.rows_refused), (2_001 - 4, 4));
    assert!(counters.writes < 120, "{counters:?}");
}

#[actix_rt::test]
async fn a_server_with_a_small_body_limit_gets_small_batches() {
    let options = InfluxdOptions { body_bytes_max: Some(20_000), ..Default::default() };
    let Some(server) = Influxd::start_with(options).await else { return };
    let bench = Bench::new(influx(&server.url(), |config| config.gzip = false), quick());
    bench.take_in(5_000, good).await; // about 270 kB
    bench.delivered().await;
    assert_eq!(server.count(DATABASE, "light", "lux").await, 5_000);
    assert_eq!(bench.ledger().await.sinks[0].dead_letters, 0);
    let before = bench.parts.counters().writes;
    bench.take_in(100, good).await;
    bench.delivered().await;
    assert!(bench.parts.counters().writes - before <= 4, "the size is remembered");
}

#[actix_rt::test]
async fn a_wrong_password_keeps_the_rows_until_it_is_put_right() {
    let Some(server) = Influxd::start_for("admin", "secret").await else { return };
    let sink = influx(&server.url(), |config| {
        (config.user, config.password) = (Some("late".to_owned()), Some(Secret::new("later")));
    });
    let bench = Bench::new(sink, quick());
    bench.take_in(100, good).await;
    eventually("it is noticed", SOON, async || bench.ledger().await.sinks[0].state == "misconfigured").await;
    let status = bench.ledger().await.sinks.remove(0);
    assert!(status.last_error.contains("refuses the user 'late'"), "{}", status.last_error);
    assert_eq!((status.buffered_rows, status.dead_letters), (100, 0));
    server.query("", "CREATE USER \"late\" WITH PASSWORD 'later' WITH ALL PRIVILEGES").await;
    bench.delivered().await;
    assert_eq!(server.count(DATABASE, "light", "lux").await, 100);
}

#[actix_rt::test]
async fn after_an_outage_the_newest_rows_do_not_wait_for_the_old_ones() {
    let Some(mut server) = Influxd::start().await else { return };
    let config = WriterConfig { batch_rows_max: 100, flush_interval: Duration::from_millis(20), ..quick() };
    let bench = Bench::new(influx(&server.url(), |_| {}), config);
    bench.take_in(1, good).await;
    bench.delivered().await;
    server.kill();
    for _ in 0..400 {
        bench.take_in(100, good).await;
    }
    server.restart().await;
    eventually("it is noticed", SOON, async || bench.ledger().await.sinks[0].state == "ok").await;
    let newest = bench.next.get();
    bench.take_in(1, good).await;
    let written = format!("SELECT lux FROM light WHERE time = {}", FIRST_NANOS + newest * 1_000_000);
    eventually("the newest row", Duration::from_secs(3), async || server.rows(DATABASE, &written).await.len() == 1)
        .await;
    let waiting = bench.journal.level().undelivered_rows;
    assert!(waiting > 1_000, "the backlog still drains: {waiting}");
    bench.delivered().await;
    assert_eq!(server.count(DATABASE, "light", "lux").await, 40_002);
}

#[actix_rt::test]
async fn a_new_life_goes_on_where_the_last_one_was_with_one_loop() {
    let Some(server) = Influxd::start().await else { return };
    let bench = Bench::new(influx(&server.url(), |_| {}), quick());
    server.pause();
    bench.take_in(500, good).await;
    let Bench { writer, parts, journal, next, _dir } = bench;
    writer.stop();
    // a second life while the first one's request hangs
    let writer = start(&parts, Clock::start());
    server.resume();
    let bench = Bench { writer, parts, journal, next, _dir };
    bench.take_in(500, good).await;
    bench.delivered().await;
    assert_eq!(server.count(DATABASE, "light", "lux").await, 1_000);
    assert_eq!(bench.parts.counters().rows_stored, 1_000, "no block was delivered by two loops");
}

/// Panics once, as a bug would; then it is the real sink.
struct PanicsOnce {
    real: Arc<dyn Sink>,
    panicked: AtomicBool,
}

impl Sink for PanicsOnce {
    fn name(&self) -> &'static str {
        self.real.name()
    }
    fn prepare(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        self.real.prepare()
    }
    fn write(&self, lines: bytes::Bytes) -> BoxFuture<'_, Result<(), SinkError>> {
        assert!(self.panicked.swap(true, Ordering::SeqCst), "on purpose");
        self.real.write(lines)
    }
}

/// Answers nothing until it may, and notes what it was given meanwhile.
struct Holds {
    may_answer: Arc<tokio::sync::Semaphore>,
    under_way: Arc<AtomicUsize>,
    under_way_max: Arc<AtomicUsize>,
    bytes_max: Arc<AtomicUsize>,
    rows: Arc<AtomicUsize>,
}

impl Sink for Holds {
    fn name(&self) -> &'static str {
        "holds"
    }
    fn prepare(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async { Ok(()) })
    }
    fn writes_at_once(&self) -> usize {
        3
    }
    fn write(&self, lines: bytes::Bytes) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            self.under_way_max.fetch_max(under_way, Ordering::SeqCst);
            self.bytes_max.fetch_max(lines.len(), Ordering::SeqCst);
            let _ = self.may_answer.acquire().await;
            self.rows.fetch_add(lines.iter().filter(|byte| **byte == b'\n').count(), Ordering::SeqCst);
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        })
    }
}

#[actix_rt::test]
async fn what_is_on_its_way_stays_within_its_limits_whatever_waits() {
    let config = WriterConfig { batch_bytes_max: 100_000, ..quick() };
    let may_answer = Arc::new(tokio::sync::Semaphore::new(0));
    let counted = || Arc::new(AtomicUsize::new(0));
    let (under_way, under_way_max, bytes_max, rows) = (counted(), counted(), counted(), counted());
    let sink = Holds {
        may_answer: may_answer.clone(),
        under_way: under_way.clone(),
        under_way_max: under_way_max.clone(),
        bytes_max: bytes_max.clone(),
        rows: rows.clone(),
    };
    let bench = Bench::new(Some(Arc::new(sink)), config);
    for _ in 0..100 {
        bench.take_in(500, good).await;
    }
    eventually("three requests", SOON, async || under_way.load(Ordering::SeqCst) == 3).await;
    bench.take_in(500, good).await;
    may_answer.add_permits(1);
    bench.delivered().await;
    assert_eq!(rows.load(Ordering::SeqCst), 101 * 500, "each row once");
    assert_eq!(under_way_max.load(Ordering::SeqCst), 3);
    assert!(bytes_max.load(Ordering::SeqCst) <= 100_000, "{bytes_max:?}");
}

#[actix_rt::test]
async fn a_panic_of_the_loop_is_survived() {
    let Some(server) = Influxd::start().await else { return };
    let real = influx(&server.url(), |_| {}).unwrap();
    let sink = Arc::new(PanicsOnce { real, panicked: AtomicBool::new(false) });
    let bench = Bench::new(Some(sink.clone()), quick());
    bench.take_in(500, good).await;
    bench.delivered().await;
    assert!(sink.panicked.load(Ordering::SeqCst));
    bench.take_in(500, good).await;
    bench.delivered().await;
    assert_eq!(server.count(DATABASE, "light", "lux").await, 1_000);
}

#[actix_rt::test]
async fn a_drain_writes_what_it_can_and_leaves_the_rest() {
    let Some(mut server) = Influxd::start().await else { return };
    let config = WriterConfig { flush_interval: Duration::from_secs(60), ..quick() };
    let bench = Bench::new(influx(&server.url(), |_| {}), config);
    bench.take_in(1, good).await;
    bench.delivered().await;
    bench.take_in(10, good).await; // would wait for a minute
    let drain = || Drain { deadline: Instant::now() + Duration::from_secs(10) };
    bench.writer.address.outlet::<Drain>().deliver(drain()).await.unwrap();
    assert_eq!(bench.journal.level().undelivered_rows, 0);
    assert_eq!(server.count(DATABASE, "light", "lux").await, 11);

    let bench = Bench::new(influx(&server.url(), |_| {}), quick());
    server.kill();
    bench.take_in(10, good).await;
    let begin = Instant::now();
    bench.writer.address.outlet::<Drain>().deliver(drain()).await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(3), "no use waiting for a server that is gone");
    assert_eq!(bench.journal.level().undelivered_rows, 10);
}

#[actix_rt::test]
async fn without_a_sink_rows_are_stored_when_they_are_on_disk() {
    let bench = Bench::new(None, quick());
    bench.take_in(10, good).await;
    let ledger = bench.ledger().await;
    assert_eq!((ledger.sinks[0].name.as_str(), ledger.sinks[0].buffered_rows), ("embedded", 0));
    assert_eq!((ledger.accounts[0].account.stored, ledger.accounts[0].account.buffered), (10, 0));
    let drain = Drain { deadline: Instant::now() + Duration::from_secs(10) };
    bench.writer.address.outlet::<Drain>().deliver(drain).await.unwrap();
}
