//! The InfluxDB adapter and the line protocol against a real InfluxDB 1.6.7, killed, stopped and misused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

use crate::support;
use std::time::Duration;

use futures_util::StreamExt;
use heartwatch_adapters::influx::{InfluxConfig, InfluxReader, InfluxSink, InfluxVersion};
use heartwatch_domain::reading::FieldValue;
use heartwatch_domain::time::Timestamp;
use heartwatch_formats::line_protocol::{DecodedRow, encode};
use heartwatch_ports::credentials::Secret;
use heartwatch_ports::{Sink, SinkError};
use support::influxd::{Influxd, InfluxdOptions};
use support::receiver::Receiver;
use support::{free_port, serve_each, serve_once};
use url::Url;

fn config(url: &str) -> InfluxConfig {
    let mut config = InfluxConfig::at(Url::parse(url).unwrap());
    config.database = "a \"b\" 'c'".to_owned();
    config.request_timeout = Duration::from_secs(5);
    config
}

fn sink(url: &str) -> InfluxSink {
    InfluxSink::new(config(url)).unwrap()
}

fn misconfigured(result: Result<(), SinkError>) -> String {
    match result {
        Err(SinkError::Misconfigured { reason }) => reason,
        other => panic!("not misconfigured: {other:?}"),
    }
}

#[tokio::test]
async fn the_test_server_starts_stops_and_keeps_its_data() {
    let Some(mut server) = Influxd::start_for("admin", "secret").await else { return };
    server.query("", "CREATE DATABASE \"kept\"").await;
    server.kill();
    assert!(!server.answers().await);
    server.restart().await;
    let names = server.query("", "SHOW DATABASES").await.to_string();
    assert!(names.contains("kept"), "{names}");
    server.pause();
    assert!(!server.answers().await);
    server.resume();
    assert!(server.answers().await);
}

/// Names and values with everything in them that line protocol, InfluxQL or JSON reads as a sign.
fn nasty_rows() -> Vec<DecodedRow> {
    let nasty = [
        "a,b",
        "a=b",
        "a b",
        "a\"b",
        "'",
        "ä€🦀",
        " ",
        ",",
        "=",
        "\"",
        "a#b",
        "x\\y",
        "_",
        "%20",
        "{}",
        "--",
        "$t",
        ";",
        "true",
        "1i",
    ];
    let time = |index: usize| Some(Timestamp::from_nanos(1_700_000_000_000_000_000 + i64::try_from(index).unwrap()));
    let text = |text: &str| FieldValue::Text(text.to_owned());
    let mut rows: Vec<DecodedRow> = Vec::new();
    for name in nasty {
        rows.push(DecodedRow {
            measurement: format!("m{name}"),
            tags: vec![(format!("tag{name}"), name.to_owned())],
            fields: vec![(format!("field{name}"), text(name))],
            time: time(rows.len()),
        });
    }
    for value in ["\\server\\share", "a\\,b", "a\\ b", "a\\=b", "\\\\"] {
        let value = value.trim_end_matches('\\');
        let tags = if value.is_empty() { vec![] } else { vec![("t".to_owned(), value.to_owned())] };
        rows.push(DecodedRow {
            measurement: "tags".to_owned(),
            tags,
            fields: vec![("v".to_owned(), text(value))],
            time: time(rows.len()),
        });
    }
    for value in ["line\nbreak", "\\", "\\\\", "\\\"", "\"\n", "tab\t", "\r\n", "", "ends with \\"] {
        let fields = vec![("v".to_owned(), text(value))];
        rows.push(DecodedRow { measurement: "texts".to_owned(), tags: vec![], fields, time: time(rows.len()) });
    }
    let fields = vec![
        ("whole float".to_owned(), FieldValue::Float(1.0)),
        ("large".to_owned(), FieldValue::Float(1.797_693_134_862_315_7e308)),
        ("small".to_owned(), FieldValue::Float(2.225_073_858_507_201_4e-308)),
        ("third".to_owned(), FieldValue::Float(1.0 / 3.0)),
        ("most".to_owned(), FieldValue::Integer(i64::MAX)),
        ("least".to_owned(), FieldValue::Integer(i64::MIN)),
        ("yes".to_owned(), FieldValue::Boolean(true)),
        ("no".to_owned(), FieldValue::Boolean(false)),
    ];
    rows.push(DecodedRow { measurement: "numbers".to_owned(), tags: vec![], fields, time: time(rows.len()) });
    rows
}

fn batch(rows: &[DecodedRow]) -> Vec<u8> {
    let mut lines = Vec::new();
    for row in rows {
        let tags = row.tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let fields = row.fields.iter().map(|(key, value)| (key.as_str(), value));
        encode(&mut lines, &row.measurement, tags, fields, row.time.unwrap()).unwrap();
        lines.push(b'\n');
    }
    lines
}

#[tokio::test]
async fn nasty_names_and_values_come_back_from_influxdb_as_they_were() {
    let Some(server) = Influxd::start().await else { return };
    let sink = sink(&server.url());
    sink.prepare().await.unwrap();
    let rows = nasty_rows();
    sink.write(batch(&rows).into()).await.unwrap();
    sink.write(batch(&rows).into()).await.unwrap();

    let reader = InfluxReader::new(config(&server.url())).unwrap();
    let mut read = Vec::new();
    for measurement in reader.measurements().await.unwrap() {
        let stored: Vec<DecodedRow> =
            reader.rows(&measurement, None, None).await.unwrap().map(|row| row.unwrap()).collect().await;
        assert_eq!(reader.count(&measurement).await.unwrap(), stored.len() as u64, "{measurement}");
        read.extend(stored);
    }
    read.sort_by_key(|row| row.time);
    let sorted = |row: &DecodedRow| {
        let mut row = row.clone();
        row.fields.sort_by(|a, b| a.0.cmp(&b.0));
        row
    };
    for (read, written) in read.iter().zip(&rows) {
        assert_eq!(sorted(read), sorted(written));
    }
    assert_eq!(read.len(), rows.len());
}

#[tokio::test]
async fn rows_are_read_in_order_between_two_times_however_many_they_are() {
    let Some(server) = Influxd::start().await else { return };
    let sink = sink(&server.url());
    sink.prepare().await.unwrap();
    let lines: String = (0..12_000).map(|n| format!("m,publisher=p{} n={n}i {n}\n", n % 3)).collect();
    sink.write(lines.into()).await.unwrap();
    let reader = InfluxReader::new(config(&server.url())).unwrap();
    let (from, to) = (Timestamp::from_nanos(100), Timestamp::from_nanos(11_900));
    let rows = reader.rows("m", Some(from), Some(to)).await.unwrap();
    let numbers: Vec<FieldValue> = rows.map(|row| row.unwrap().fields.remove(0).1).collect().await;
    let expected: Vec<FieldValue> = (100..11_900).map(FieldValue::Integer).collect();
    assert_eq!(numbers, expected);
    assert_eq!(reader.count("m").await.unwrap(), 12_000);
    assert_eq!(reader.rows("missing", None, None).await.unwrap().count().await, 0);
}

#[tokio::test]
async fn a_dropped_database_is_created_again() {
    let Some(server) = Influxd::start().await else { return };
    let sink = sink(&server.url());
    sink.prepare().await.unwrap();
    sink.write(b"m v=1 1\n".as_slice().into()).await.unwrap();
    server.query("", r#"DROP DATABASE "a \"b\" 'c'""#).await;
    sink.write(b"m v=1 1\n".as_slice().into()).await.unwrap();
    let reader = InfluxReader::new(config(&server.url())).unwrap();
    assert_eq!(reader.count("m").await, Ok(1));
}

#[tokio::test]
async fn wrong_credentials_are_named_with_what_to_do() {
    let Some(server) = Influxd::start_for("admin", "secret").await else { return };
    let with = |user: Option<&str>, password: &str| {
        let mut config = config(&server.url());
        config.user = user.map(str::to_owned);
        config.password = Some(Secret::new(password));
        InfluxSink::new(config).unwrap()
    };
    let row = || bytes::Bytes::from_static(b"m v=1 1\n");

    let nobody = with(None, "");
    let reason = misconfigured(nobody.prepare().await);
    assert!(reason.contains("wants a user and a password"), "{reason}");
    let wrong = with(Some("admin"), "guess");
    for result in [wrong.prepare().await, wrong.write(row()).await] {
        let reason = misconfigured(result);
        assert!(reason.contains("refuses the user 'admin'") && !reason.contains("guess"), "{reason}");
    }

    let right = with(Some("admin"), "secret");
    right.prepare().await.unwrap();
    right.write(row()).await.unwrap();

    server.query("", "CREATE USER \"reader\" WITH PASSWORD 'r'").await;
    let reader = with(Some("reader"), "r");
    assert_eq!(reader.prepare().await, Ok(()), "who may not create a database may be able to write");
    let reason = misconfigured(reader.write(row()).await);
    assert!(reason.contains("GRANT ALL ON"), "{reason}");
}

#[tokio::test]
async fn a_partial_write_and_a_too_large_body_are_told_apart() {
    let options = InfluxdOptions { body_bytes_max: Some(2_000), ..Default::default() };
    let Some(server) = Influxd::start_with(options).await else { return };
    let sink = sink(&server.url());
    sink.prepare().await.unwrap();
    sink.write(b"m v=1i 1\n".as_slice().into()).await.unwrap();
    let result = sink.write(b"m v=2i 2\nm v=\"text\" 3\nm v=4i 4\n".as_slice().into()).await;
    let Err(SinkError::Refused { reason }) = result else { panic!("{result:?}") };
    assert!(reason.contains("field type conflict"), "{reason}");
    assert_eq!(InfluxReader::new(config(&server.url())).unwrap().count("m").await, Ok(3), "the good rows are stored");

    let mut noise = 7_u64;
    let large: String = (0..1_000)
        .map(|n| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            format!("m v={}i {n}\n", noise >> 16)
        })
        .collect();
    let result = sink.write(large.into()).await;
    assert!(matches!(result, Err(SinkError::TooLarge { .. })), "{result:?}");
}

#[tokio::test]
async fn a_server_that_is_gone_or_hangs_is_tried_again() {
    let Some(mut server) = Influxd::start().await else { return };
    let mut config = config(&server.url());
    config.request_timeout = Duration::from_millis(300);
    let sink = InfluxSink::new(config).unwrap();
    sink.prepare().await.unwrap();
    let retry = |result: Result<(), SinkError>| match result {
        Err(SinkError::Retry { reason, retry_after: None }) => reason,
        other => panic!("{other:?}"),
    };
    server.pause();
    let reason = retry(sink.write(b"m v=1 1\n".as_slice().into()).await);
    assert!(reason.ends_with("gave no answer within 300 ms"), "{reason}");
    server.resume();
    server.kill();
    let result = sink.write(b"m v=1 1\n".as_slice().into()).await;
    let Err(SinkError::NotListening { reason }) = result else { panic!("{result:?}") };
    assert!(reason.contains("can't be reached: Connection refused"), "{reason}");
    server.restart().await;
    sink.write(b"m v=1 1\n".as_slice().into()).await.unwrap();
}

#[tokio::test]
async fn a_batch_for_another_machine_is_compressed_and_not_before_something_listens_there() {
    let port = free_port();
    // this machine, by an address that is not taken for it
    let mut config = config(&format!("http://0.0.0.0:{port}"));
    config.version = InfluxVersion::V1;
    let sink = InfluxSink::new(config).unwrap();
    let rows = "m v=1 1\n".repeat(1_000);
    for _ in 0..2 {
        let result = sink.write(rows.clone().into()).await;
        assert!(matches!(result, Err(SinkError::NotListening { .. })), "{result:?}");
    }
    let receiver = Receiver::start_on(port, &[]);
    for _ in 0..2 {
        sink.write(rows.clone().into()).await.unwrap();
    }
    let received = receiver.received();
    let (ping, writes) = received.split_first().unwrap();
    assert_eq!((ping.method.as_str(), ping.path.as_str(), ping.body.len()), ("GET", "/ping", 0));
    assert_eq!(writes.len(), 2, "{writes:?}");
    for write in writes {
        assert_eq!((write.path.as_str(), write.encoding.as_str()), ("/write", "gzip"));
        assert!(write.body == rows.as_bytes(), "{} bytes", write.body.len());
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_wrong_configuration() {
    let (url, _request) = serve_once("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{").await;
    let mut config = config(&url);
    config.version = InfluxVersion::V1;
    let result = InfluxSink::new(config).unwrap().prepare().await;
    assert!(matches!(result, Err(SinkError::Retry { .. })), "{result:?}");
}

#[tokio::test]
async fn retry_after_is_followed_and_the_api_of_2_is_spoken() {
    let busy = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 3\r\nContent-Length: 4\r\n\r\nbusy";
    let (url, request) = serve_once(busy).await;
    let mut settings = config(&url);
    (settings.org, settings.bucket) = (Some("my org".to_owned()), Some("b&c".to_owned()));
    settings.token = Some(Secret::new("t0ken"));
    let sink = InfluxSink::new(settings.clone()).unwrap();
    let result = sink.write(b"m v=1 1\n".as_slice().into()).await;
    let Err(SinkError::Retry { reason, retry_after }) = result else { panic!("{result:?}") };
    assert_eq!(retry_after, Some(Duration::from_secs(3)));
    assert!(reason.ends_with("503: busy"), "{reason}");
    let request = request.await.unwrap().to_lowercase();
    assert!(request.starts_with("post /api/v2/write?bucket=b%26c&precision=ns&org=my+org http/1.1"), "{request}");
    assert!(request.contains("authorization: token t0ken"), "{request}");

    let refused = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 52\r\n\r\n{\"code\":\"unauthorized\",\"message\":\"unauthorized access\"}";
    let (url, _request) = serve_once(refused).await;
    let sink = InfluxSink::new(InfluxConfig { url: Url::parse(&url).unwrap(), ..settings }).unwrap();
    let reason = misconfigured(sink.write(b"m v=1 1\n".as_slice().into()).await);
    assert!(reason.contains("refuses the token") && !reason.contains("t0ken"), "{reason}");
}

#[tokio::test]
async fn the_version_is_asked_for() {
    for (header, path) in
        [("v2.7.1", "post /api/v2/write"), ("3.0.1", "post /api/v2/write"), ("1.8.10", "post /write?db=")]
    {
        let ping = format!("HTTP/1.1 204 No Content\r\nX-Influxdb-Version: {header}\r\nConnection: close\r\n\r\n");
        let (url, requests) = serve_each(&[&ping, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"]).await;
        sink(&url).write(b"m v=1 1\n".as_slice().into()).await.unwrap();
        let requests = requests.await.unwrap().join("").to_lowercase();
        assert!(requests.starts_with("get /ping") && requests.contains(path), "{header}: {requests}");
    }
}
