//! What the database holds: ten minutes of sensors and publishers, those that are well and those with
//! one defect each, encoded by the product's own code.

use std::time::Duration;

use heartwatch::actors::self_monitor::{Written, internal_rows};
use heartwatch::actors::subscriber::{Rules, translate};
use heartwatch_domain::beat::{Heartbeat, Way};
use heartwatch_domain::intake::IntakeEntry;
use heartwatch_domain::ledger::Account;
use heartwatch_domain::ledger::{LedgerLine, LedgerReply, SinkStatus};
use heartwatch_domain::publisher::{HostName, Incarnation, PublisherId};
use heartwatch_domain::reading::{FieldValue, Reading};
use heartwatch_domain::roster::Standing;
use heartwatch_domain::status::TargetStatus;
use heartwatch_domain::status::{ActorStatus, MonitorStatus};
use heartwatch_domain::time::{Monotonic, Timestamp};
use heartwatch_domain::verdict::{Change, Trigger, Verdict};
use heartwatch_formats::envelope::{HeartbeatNote, Prefix, TopicKind, encode_heartbeat};
use heartwatch_formats::line_protocol;
use heartwatch_ports::Delivery;
use heartwatch_ports::Receipt;

/// How long the story is.
pub(crate) const SECONDS: u64 = 600;
/// A sensor with nothing wrong.
pub(crate) const WELL: &str = "well";
/// The measurement of an ordinary publisher.
pub(crate) const MEASUREMENT: &str = "light";

/// What goes into the journal.
#[derive(Default)]
pub(crate) struct Rows {
    pub entries: Vec<IntakeEntry>,
    pub changes: Vec<Change>,
    pub standing: Vec<Standing>,
    epoch: u64,
}

/// One sample of the three-value sensor: load, random number, counter.
type Sample = (f64, i64, i64);

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap()
}

/// A healthy sensor: load 5.2 to 6.8, numbers spread evenly over 4 to 8 million, steps of 1 to 3.
fn healthy(second: u64) -> Sample {
    let turn = second as f64 * 0.618_033_988_75;
    let load = 6.0 + 0.8 * (turn * 7.0).sin();
    // the golden ratio's multiples, in millionths: every part of the range is met equally often
    let number = 4_000_000 + (second * 618_034 % 1_000_000) * 4;
    (load, whole(number), whole(second * 2 + second % 2))
}

/// A sensor: its sample of each second.
type Sensor = fn(u64) -> Sample;

/// The sensors with a defect, each by its publisher's name.
const DEFECTS: [(&str, Sensor); 9] = [
    ("load-high", |second| (healthy(second).0 + 2.0, healthy(second).1, healthy(second).2)),
    ("load-low", |second| (healthy(second).0 - 4.0, healthy(second).1, healthy(second).2)),
    ("load-jumps", |second| (if second.is_multiple_of(2) { 2.5 } else { 9.5 }, healthy(second).1, healthy(second).2)),
    ("load-frozen", |second| (6.0, healthy(second).1, healthy(second).2)),
    // three of a minute's samples; its mean stays below 7
    ("load-peaks", |second| {
        let load = if second % 20 == 3 { 13.0 } else { healthy(second).0 };
        (load, healthy(second).1, healthy(second).2)
    }),
    ("random-repeats", |second| {
        let number = if second % 9 == 4 { 5_000_000 } else { healthy(second).1 };
        (healthy(second).0, number, healthy(second).2)
    }),
    ("random-narrow", |second| (healthy(second).0, 5_000_000 + healthy(second).1 / 4, healthy(second).2)),
    ("counter-fast", |second| (healthy(second).0, healthy(second).1, whole(second * 5))),
    ("counter-back", |second| {
        let step_back = if second % 15 == 7 { 4 } else { 0 };
        (healthy(second).0, healthy(second).1, whole(second * 2) - step_back)
    }),
];

/// The error metrics and the name of the publisher that has each.
pub(crate) const ERRORS: [(&str, &str); 6] = [
    ("sensor.error.cpu_load", "error-load"),
    ("sensor.error.bounded_random_generator", "error-random"),
    ("sensor.error.generated_metrics_number", "error-counter"),
    ("batch_sending_error", "error-batch"),
    ("connectivity_error", "error-connection"),
    ("sensor_defect", "defect"),
];

/// A story in which all is well.
pub(crate) fn all_well(now: Timestamp) -> Rows {
    let mut rows = well_beside_the_monitor(now);
    rows.monitor(now, true);
    rows
}

fn well_beside_the_monitor(now: Timestamp) -> Rows {
    let mut rows = Rows::default();
    rows.sensor(now, WELL, healthy, None);
    rows.verdicts(now, WELL, Verdict::Alive);
    rows.verdicts(now, "left", Verdict::Ended);
    rows.ordinary(now, WELL);
    rows.hosts(now);
    rows
}

/// A database to which only others write: the monitor is gone.
pub(crate) fn nobody_watches(now: Timestamp) -> Rows {
    let mut rows = Rows::default();
    rows.hosts(now);
    rows
}

/// All that is well, and everything that can be wrong. No point is there twice: several requests are under way at once, and
/// which of two values is the last one is nobody's promise.
pub(crate) fn all_wrong(now: Timestamp) -> Rows {
    let mut rows = well_beside_the_monitor(now);
    for (publisher, sample) in DEFECTS {
        rows.sensor(now, publisher, sample, None);
        rows.verdicts(now, publisher, Verdict::Alive);
    }
    for (measurement, publisher) in ERRORS {
        rows.sensor(now, publisher, healthy, Some(measurement));
    }
    for verdict in Verdict::ALL {
        rows.verdicts(now, verdict.as_str(), verdict);
    }
    rows.monitor(now, false);
    rows
}

fn before(now: Timestamp, seconds: u64) -> Timestamp {
    now.earlier_by(Duration::from_secs(seconds))
}

fn id(publisher: &str) -> PublisherId {
    PublisherId::parse(publisher).unwrap()
}

fn host() -> HostName {
    HostName::parse("plant-7").unwrap()
}

impl Rows {
    fn reading(&mut self, publisher: &str, measurement: &str, tags: &[(&str, &str)], value: FieldValue, at: Timestamp) {
        let reading = Reading {
            sequence: 1,
            time: at,
            measurement: measurement.to_owned(),
            tags: tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            fields: vec![("value".to_owned(), value)],
        };
        let mut line = Vec::new();
        line_protocol::encode_reading(&mut line, &id(publisher), &host(), &reading).unwrap();
        line.push(b'\n');
        self.entries.push(IntakeEntry::Unnumbered { lines: line, rows: 1 });
    }

    fn text(&mut self, lines: &str) {
        let rows = lines.lines().count() as u64;
        self.entries.push(IntakeEntry::Unnumbered { lines: lines.as_bytes().to_vec(), rows });
    }

    /// A sensor with one sample a second, and its error metrics: 0, or 1 every 20 s.
    fn sensor(&mut self, now: Timestamp, publisher: &str, sample: Sensor, wrong: Option<&str>) {
        let good = [("env", "test"), ("is_valid_preprocess", "True")];
        let bad = [("env", "test"), ("is_valid_preprocess", "False")];
        for ago in 0..SECONDS {
            let (load, number, counter) = sample(SECONDS - ago);
            let at = before(now, ago);
            // a defective reading is in the same measurements, tagged, and must change nothing
            let defective = wrong == Some("sensor_defect") && ago % 20 == 5;
            let (tags, load, number, counter) =
                if defective { (&bad, 0.0, 0, 0) } else { (&good, load, number, counter) };
            self.reading(publisher, "sensor.cpu_load", tags, FieldValue::Float(load), at);
            self.reading(publisher, "sensor.bounded_random_generator", tags, FieldValue::Integer(number), at);
            self.reading(publisher, "sensor.generated_metrics_number", tags, FieldValue::Integer(counter), at);
            if ago % 5 == 0 {
                for (measurement, _) in ERRORS {
                    let value = i64::from(wrong == Some(measurement) && ago % 20 == 5);
                    self.reading(publisher, measurement, &[("env", "test")], FieldValue::Integer(value), at);
                }
            }
        }
    }

    /// A change at the beginning, and its repetition every 10 s.
    fn verdicts(&mut self, now: Timestamp, publisher: &str, verdict: Verdict) {
        self.epoch += 1;
        let decided_at = before(now, SECONDS - 5);
        self.changes.push(Change {
            epoch: self.epoch,
            publisher: id(publisher),
            host: host(),
            from: if verdict == Verdict::Alive { Verdict::Unknown } else { Verdict::Alive },
            to: verdict,
            at: decided_at.earlier_by(Duration::from_millis(3)),
            decided_at,
            trigger: Trigger::Deadline,
            summary: format!("{verdict}: for the test"),
            evidence: Vec::new(),
            process: None,
            maintenance: false,
            flapping: None,
            because: None,
        });
        let times = (0..SECONDS - 5).step_by(10).map(|ago| before(now, ago));
        let mut standing: Vec<_> = times
            .map(|at| Standing { publisher: id(publisher), host: host(), verdict, epoch: self.epoch, at })
            .collect();
        standing.reverse();
        self.standing.extend(standing);
    }

    /// An ordinary publisher: readings, heartbeats, its ledger.
    fn ordinary(&mut self, now: Timestamp, publisher: &str) {
        let prefix = Prefix::default();
        let (mut accounts, hosts) = (Written::default(), [(id(publisher), host())].into());
        let mut lines = Vec::new();
        for ago in (0..SECONDS).rev() {
            let (sequence, time) = (SECONDS - ago, before(now, ago));
            let fields =
                vec![("lux".to_owned(), FieldValue::Float(19.5)), ("note".to_owned(), FieldValue::Text("t".into()))];
            let reading = Reading { sequence, time, measurement: MEASUREMENT.to_owned(), tags: Vec::new(), fields };
            let mut line = Vec::new();
            line_protocol::encode_reading(&mut line, &id(publisher), &host(), &reading).unwrap();
            lines.push((sequence, line));
            if ago % 10 != 0 {
                continue;
            }
            let heartbeat = Heartbeat {
                is_agent: false,
                outbox_stalled: None,
                incarnation: Incarnation(1),
                process: None,
                sequence,
                cursor: sequence,
                idle: false,
                interval: Duration::from_secs(10),
            };
            let note = HeartbeatNote {
                host: host(),
                heartbeat,
                confirmed: 0,
                earlier: Vec::new(),
                errors: Default::default(),
            };
            let delivery = Delivery {
                topic: prefix.topic(&id(publisher), TopicKind::Heartbeat),
                payload: encode_heartbeat(&note),
                retained: false,
                at: Monotonic::from_nanos(sequence * 1_000_000_000),
                wall: time,
                way: Way::Mqtt,
                mark: None,
                receipt: Receipt { connection_epoch: 1, packet_id: 0 },
            };
            let rules = Rules { prefix: &prefix, foreign: &[], numbers_in_rows: false };
            let meaning = translate(&rules, &delivery, |_, _, _| Duration::from_millis(12)).unwrap();
            self.entries.extend(meaning.entries);
            let account = Account { produced: sequence, received: sequence, stored: sequence, ..Account::default() };
            let now = Monotonic::from_nanos(sequence * 1_000_000_000);
            self.entries.extend(accounts.due([(id(publisher), account)].into(), &hosts, now, time));
        }
        let (publisher, host) = (id(publisher), host());
        self.entries.push(IntakeEntry::Readings {
            publisher,
            host,
            incarnation: Incarnation(1),
            lines: lines.into_iter().collect(),
        });
    }

    /// What an agent sends, and what comes from collectd: over MQTT, and through InfluxDB's own listener.
    fn hosts(&mut self, now: Timestamp) {
        for ago in (0..SECONDS).step_by(10) {
            let (at, value) = (before(now, ago), 20.0 + (ago % 30) as f64);
            for metric in ["cpu", "memory", "disk", "disk_read", "disk_write", "net_in", "net_out"] {
                self.reading("agent-7", metric, &[], FieldValue::Float(value), at);
            }
            let (counter, nanos) = ((SECONDS - ago) * 100, at.as_nanos());
            for term in ["shortterm", "midterm", "longterm"] {
                self.text(&format!("load_{term},host=plant-7,type=load value=0.5 {nanos}\n"));
            }
            self.text(&format!(
                "cpu_value,host=plant-7,type=percent,type_instance=user value={value} {nanos}\n\
                 memory_value,host=plant-7,type=memory,type_instance=used value=1000000 {nanos}\n\
                 df_value,host=plant-7,instance=root,type=percent_bytes,type_instance=used value={value} {nanos}\n"
            ));
            for direction in ["rx", "tx"] {
                self.text(&format!(
                    "interface_{direction},host=plant-7,instance=eth0,type=if_octets value={counter} {nanos}\n\
                     interface_{direction},host=plant-7,instance=eth0,publisher=collectd-plant-7,type=if_octets \
                     value={value} {nanos}\n"
                ));
            }
        }
    }

    /// The monitor's own numbers, every 30 s.
    fn monitor(&mut self, now: Timestamp, well: bool) {
        for ago in (0..SECONDS / 30).rev().map(|step| step * 30) {
            let done = SECONDS - ago;
            let actor = ActorStatus { actor: "watchdog".to_owned(), restarts: 0, stuck: 0, unanswered: 0, waiting: 0 };
            let monitor = MonitorStatus { healthy: well, actors: vec![actor], ..MonitorStatus::default() };
            let target = TargetStatus { target: "pager".to_owned(), ..TargetStatus::default() };
            let lost = if well { 0 } else { done };
            let account = Account { produced: done, received: done, stored: done - lost, lost, ..Account::default() };
            let line = LedgerLine::new(id(WELL), Incarnation(1), account);
            let sink = SinkStatus {
                name: "influxdb".to_owned(),
                state: "ok".to_owned(),
                rows_stored: done * 2,
                writes: done,
                write_ms: done * 3,
                dead_letters: lost,
                ..SinkStatus::default()
            };
            let ledger = LedgerReply { accounts: vec![line], sinks: vec![sink], ..LedgerReply::default() };
            // the same series and time again: the later one counts
            self.entries.extend(internal_rows(&monitor, &[target], Some(&ledger), before(now, ago)));
        }
    }
}
