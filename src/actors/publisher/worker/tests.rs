//! What becomes of rows, good and bad, before they have a number.

use std::time::Duration;

use super::*;
use crate::actors::publisher::Feed;
use crate::sources::SourceConfig;
use crate::sources::arrivals::Arrivals;
use crate::sources::csv::CsvConfig;
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::retransmitter::DeliveryLimits;
use heartwatch_formats::envelope::{PAYLOAD_BYTES_MAX, Prefix};
use heartwatch_store::outbox::{FullPolicy, OutboxConfig};
use heartwatch_system::clock::Clock;

fn worker(rows: &str, outbox_bytes_max: u64, message_bytes_max: usize, limit: Option<u64>) -> Worker {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rows).unwrap();
    of_source(CsvConfig::new(file.path()).into(), outbox_bytes_max, message_bytes_max, limit)
}

fn of_source(source: SourceConfig, outbox_bytes_max: u64, message_bytes_max: usize, limit: Option<u64>) -> Worker {
    let outbox = OutboxConfig { path: None, bytes_max: outbox_bytes_max, full_policy: FullPolicy::RefuseNew };
    let (outbox, incarnation) = Outbox::open(outbox, 1).unwrap();
    let config = PublisherConfig {
        id: PublisherId::parse("light").unwrap(),
        host: HostName::parse("here").unwrap(),
        prefix: Prefix::default(),
        incarnation,
        feed: Feed { interval: Duration::ZERO, looping: false, limit, outbox_bytes_max, ..Feed::new(source) },
        heartbeat: Duration::from_secs(1),
        is_agent: false,
        batch_readings_max: 500,
        message_bytes_max,
        delivery: DeliveryLimits::default(),
        confirm_grace: Duration::ZERO,
        outbox: None,
    };
    Worker::new(config.feed.source.open(&config.owner(), Clock::start()).unwrap().source, outbox, &config)
}

#[test]
fn a_batch_larger_than_the_outbox_is_kept_piece_by_piece_and_only_what_is_kept_counts_as_produced() {
    let rows: String = (0..300).map(|row| format!("{row}\n")).collect();
    let mut worker = worker(&rows, 10_000, PAYLOAD_BYTES_MAX, None);
    let (mut kept, mut rounds) = (0, 0);
    loop {
        let produced = worker.produce(500, Timestamp::from_nanos(1));
        kept += produced.readings.len() as u64;
        assert_eq!(worker.take_position().sequence, kept, "a number that only waits is not told to anyone");
        if produced.finished {
            break;
        }
        if produced.refused.is_some() {
            assert!(kept < 300 && worker.produce(500, Timestamp::from_nanos(1)).refused.is_some());
            rounds += 1;
            let incarnation = worker.incarnation;
            let safe = [SequenceRange { incarnation, first: 1, last: kept }];
            worker.confirmed(incarnation, &safe, Confirmer::Unnamed).unwrap();
        }
    }
    assert!(kept == 300 && rounds > 1, "{kept} readings in {rounds} rounds");
}

#[test]
fn a_reading_that_no_message_can_carry_is_a_bad_row_and_holds_up_nothing() {
    let long = "x".repeat(5_000);
    let mut worker = worker(&format!("a\n{long}\nb\n"), 1 << 20, 4_096, Some(2));
    let readings = worker.produce(500, Timestamp::from_nanos(1)).readings;
    let measurements: Vec<_> = readings.iter().map(|reading| reading.measurement.as_str()).collect();
    assert_eq!(measurements, ["light", "sensor.error.light", "light"], "{readings:?}");
    assert!(matches!(&readings[1].fields[1].1, FieldValue::Text(detail) if detail.contains("message_bytes_max")));
}

#[test]
fn a_row_with_tags_of_the_monitors_is_kept_and_no_error_of_a_row_is_worse_than_the_row() {
    let arrivals = Arrivals::new("a program", 100);
    let mut worker = of_source(SourceConfig::Arrivals(arrivals.clone()), 1 << 20, 4_096, None);
    let tag = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let plain = SourceRow {
        measurement: Some("m".to_owned()),
        tags: vec![tag("host", "web1"), tag("publisher", "telegraf"), tag("room", "a")],
        time: None,
        fields: vec![("v".to_owned(), FieldValue::Float(2.0))],
        line: 1,
    };
    let long = "m".repeat(250);
    let worse = [
        SourceRow { tags: vec![tag("host", "web1"), tag("source_host", "web2")], ..plain.clone() },
        SourceRow { tags: vec![tag("room", "a\nb")], ..plain.clone() },
        SourceRow { tags: vec![tag("room", &"r".repeat(1_025))], ..plain.clone() },
        SourceRow { measurement: Some("m\t".to_owned()), ..plain.clone() },
        SourceRow { measurement: Some("m".repeat(300)), ..plain.clone() },
        SourceRow { measurement: Some(long), fields: Vec::new(), ..plain.clone() },
        SourceRow { time: Some(Timestamp::from_nanos(i64::MIN)), ..plain.clone() },
        SourceRow { tags: (0..65).map(|number| tag(&format!("t{number}"), "x")).collect(), ..plain.clone() },
        SourceRow { fields: vec![("v".to_owned(), FieldValue::Text("x".repeat(5_000)))], ..plain.clone() },
    ];
    let bad = worse.len();
    arrivals.push([plain.clone()].into_iter().chain(worse).chain([plain]).map(Ok));
    let readings = worker.produce(100, Timestamp::from_nanos(7)).readings;
    assert_eq!(readings.len(), bad + 2, "each error has a row: {readings:?}");
    let tags: Vec<_> = readings[0].tags.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(tags, ["source_host", "source_publisher", "room"]);
    for (index, reading) in readings.iter().enumerate() {
        assert_eq!(reading.sequence, index as u64 + 1, "no number names what nobody can send");
        assert_eq!(worker.check(reading), Ok(()), "{reading:?}");
        assert_eq!(reading.measurement.starts_with("sensor.error."), (1..=bad).contains(&index), "{reading:?}");
    }
    let position = worker.take_position();
    assert_eq!((position.dropped, position.erred.len()), (0, 2));
}

#[test]
fn what_an_earlier_version_kept_with_tags_of_the_monitors_is_sent_as_it_would_be_kept_today() {
    let mut worker = worker("1\n", 1 << 20, PAYLOAD_BYTES_MAX, None);
    let fields = vec![("value".to_owned(), FieldValue::Integer(1))];
    let tags = vec![("host".to_owned(), "web1".to_owned())];
    let poison =
        Reading { sequence: 1, time: Timestamp::from_nanos(5), measurement: "sensor.error.m".into(), tags, fields };
    worker.outbox.keep(std::slice::from_ref(&poison)).unwrap();
    let run = SequenceRange { incarnation: worker.incarnation, first: 1, last: 1 };
    let kept = worker.kept(run, 10).unwrap();
    assert!(worker.check(&poison).is_err() && worker.check(&kept[0]).is_ok(), "{kept:?}");
    assert_eq!(kept[0].tags[0].0, "source_host");
    let given_up = worker.give_up(run.incarnation, &[(1, "never".to_owned()), (2, "not there".to_owned())]).unwrap();
    assert_eq!((given_up.len(), given_up[0].last), (1, 1));
    assert_eq!(worker.given_up().unwrap(), given_up, "durable until the monitor has been told");
    assert!(worker.kept(run, 10).unwrap().is_empty());
}

#[test]
fn a_row_may_have_its_own_measurement_tags_and_time_and_so_may_its_error() {
    let arrivals = Arrivals::new("a sensor", 10);
    let mut worker = of_source(SourceConfig::Arrivals(arrivals.clone()), 1 << 20, PAYLOAD_BYTES_MAX, None);
    let nothing = worker.produce(10, Timestamp::from_nanos(7));
    assert!(nothing.readings.is_empty() && !nothing.finished, "{nothing:?}");
    let env = vec![("env".to_owned(), "test".to_owned())];
    let own = SourceRow {
        measurement: Some("sensor.cpu_load".to_owned()),
        tags: env,
        time: Some(Timestamp::from_nanos(3)),
        fields: vec![("value".to_owned(), FieldValue::Float(5.0))],
        line: 1,
    };
    let plain = SourceRow { measurement: None, tags: Vec::new(), time: None, ..own.clone() };
    let unusable = SourceRow { fields: vec![("value".to_owned(), FieldValue::Float(f64::NAN))], ..own.clone() };
    let bad = BadRow { from: "a sensor".into(), line: 4, reason: "no number".into(), ..BadRow::default() };
    arrivals.push([Ok(own), Ok(plain), Ok(unusable), Err(bad)]);
    arrivals.close();
    let produced = worker.produce(10, Timestamp::from_nanos(7));
    assert!(produced.finished);
    let shown: Vec<_> = produced
        .readings
        .iter()
        .map(|reading| (reading.measurement.as_str(), reading.time.as_nanos(), reading.tags.len()))
        .collect();
    let expected =
        [("sensor.cpu_load", 3, 1), ("light", 7, 0), ("sensor.error.cpu_load", 3, 1), ("sensor.error.light", 8, 0)];
    assert_eq!(shown, expected);
    let detail = |number: usize| format!("{:?}", produced.readings[number].fields[1].1);
    assert!(detail(2).contains("a sensor:1: "), "{}", detail(2));
    assert!(detail(3).contains("a sensor:4: no number"), "{}", detail(3));
}
