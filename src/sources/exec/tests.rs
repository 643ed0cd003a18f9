use tokio::time::Instant;

use super::*;
use crate::sources::SourceRow;
use heartwatch_domain::publisher::{HostName, PublisherId};
use heartwatch_domain::reading::FieldValue;

const PATIENCE: Duration = Duration::from_secs(20);

fn config(script: &str) -> ExecConfig {
    let words = ["sh", "-c", script].map(ToOwned::to_owned).to_vec();
    let options = ExecOptions { env: Some("test".to_owned()), ..ExecOptions::new(words) };
    let owner = Owner {
        publisher: PublisherId::parse("sensor").unwrap(),
        host: HostName::parse("here").unwrap(),
        measurement: "sensor".to_owned(),
        interval: Duration::from_secs(1),
        looping: true,
    };
    let mut config = ExecConfig::new(options, owner);
    config.limits.backoff_min = Duration::from_millis(5);
    config
}

/// Takes what comes until it is enough.
async fn rows(source: &mut ExecSource, enough: impl Fn(&[Next]) -> bool) -> Vec<Next> {
    let end = Instant::now() + PATIENCE;
    let mut rows = Vec::new();
    while !enough(&rows) {
        assert!(Instant::now() < end, "{rows:?}");
        match source.next_row() {
            Next::NothingYet => tokio::time::sleep(Duration::from_millis(2)).await,
            row => rows.push(row),
        }
    }
    rows
}

fn good<'a>(rows: &'a [Next], measurement: &str) -> Vec<&'a SourceRow> {
    let of = |row: &'a Next| match row {
        Next::Row(row) if row.measurement.as_deref() == Some(measurement) => Some(row),
        _ => None,
    };
    rows.iter().filter_map(of).collect()
}

#[tokio::test]
async fn lines_become_rows_and_an_end_that_asks_for_no_restart_is_the_end() {
    let mut config = config("echo 6.5 5000000 1; echo; echo 0 0 0; printf '7.5 oops 3'");
    config.options.policy = RestartPolicy::OnFailure;
    let mut source = ExecSource::start(&config, Clock::start()).unwrap();
    let rows = rows(&mut source, |rows| rows.last() == Some(&Next::End)).await;
    let load: Vec<_> = good(&rows, "sensor.cpu_load").iter().map(|row| row.fields[0].1.clone()).collect();
    assert_eq!(load, [6.5, 0.0, 7.5].map(FieldValue::Float));
    assert_eq!(good(&rows, "sensor_defect").len(), 1, "{rows:?}");
    let env = ("env".to_owned(), "test".to_owned());
    assert!(good(&rows, "sensor.cpu_load").iter().all(|row| row.tags.contains(&env) && row.time.is_some()));
    let bad = rows.iter().find_map(|row| if let Next::Bad(bad) = row { Some(bad) } else { None }).unwrap();
    assert_eq!(bad.to_string(), "sh:4: column 2 has 'oops' where an integer is expected");
    assert_eq!(bad.measurement.as_deref(), Some("sensor.bounded_random_generator"));
}

#[tokio::test]
async fn a_program_that_ends_is_started_again_and_one_that_repeats_itself_too() {
    let mut source = ExecSource::start(&config("echo $$ 5 5; exit 3"), Clock::start()).unwrap();
    let twice = rows(&mut source, |rows| good(rows, "sensor.cpu_load").len() >= 2).await;
    let loads = good(&twice, "sensor.cpu_load");
    assert_ne!(loads[0].fields, loads[1].fields, "another process");

    let stuck = config("echo $$ 1 1; while :; do echo 5 6 7; sleep 0.01; done");
    let mut source = ExecSource::start(&stuck, Clock::start()).unwrap();
    let rows = rows(&mut source, |rows| good(rows, "sensor_defect").len() >= 2).await;
    let FieldValue::Text(detail) = &good(&rows, "sensor_defect")[0].fields[1].1 else { panic!() };
    assert!(detail.contains("10 times in a row"), "{detail}");
    let repeated = good(&rows, "sensor.generated_metrics_number").len();
    assert!((22..=24).contains(&repeated), "{repeated} lines in two lives");
}

#[tokio::test]
async fn what_it_cannot_do_is_said_at_the_start_and_lines_are_bounded() {
    let mut missing = config("");
    missing.options.words = vec!["./no-such-sensor".to_owned()];
    let said = ExecSource::start(&missing, Clock::start()).err().unwrap().to_string();
    assert!(said.starts_with("cannot start ./no-such-sensor: No such file"), "{said}");

    let mut long = config("head -c 100000 /dev/zero | tr '\\0' 5; echo; echo 6.5 1 2; sleep 60");
    long.line_bytes_max = 100;
    let mut source = ExecSource::start(&long, Clock::start()).unwrap();
    let rows = rows(&mut source, |rows| !good(rows, "sensor.cpu_load").is_empty()).await;
    assert_eq!(rows.iter().filter(|row| matches!(row, Next::Bad(_))).count(), 3, "{rows:?}");
}

#[tokio::test]
async fn it_ends_with_its_source_and_what_it_has_started_too() {
    let directory = tempfile::tempdir().unwrap();
    let pids = directory.path().join("pids");
    let script = format!("sleep 600 & echo $$ $! > {}; echo 1 2 3; wait", pids.display());
    for in_order in [true, false] {
        let mut source = ExecSource::start(&config(&script), Clock::start()).unwrap();
        rows(&mut source, |rows| rows.len() >= 3).await;
        let text = std::fs::read_to_string(&pids).unwrap();
        if in_order {
            source.stop();
            rows(&mut source, |rows| rows.last() == Some(&Next::End)).await;
        }
        drop(source);
        let end = Instant::now() + PATIENCE;
        for pid in text.split_whitespace() {
            let works = || {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
            };
            while works() {
                assert!(Instant::now() < end, "{pid} still runs (in order: {in_order})");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

#[tokio::test]
async fn rows_go_over_udp_with_the_same_time_and_tags() {
    let listener = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    listener.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut config = config("echo 6.5 5000000 x; sleep 60");
    config.options.udp = Some(listener.local_addr().unwrap().to_string());
    let mut source = ExecSource::start(&config, Clock::start()).unwrap();
    let rows = rows(&mut source, |rows| rows.len() >= 3).await;
    let mut datagram = [0; 2_000];
    let count = listener.recv(&mut datagram).unwrap();
    let text = String::from_utf8_lossy(&datagram[..count]).into_owned();
    let time = good(&rows, "sensor.cpu_load")[0].time.unwrap().as_nanos();
    let first =
        format!("sensor.cpu_load,env=test,host=here,is_valid_preprocess=True,publisher=sensor value=6.5 {time}");
    assert_eq!(text.lines().next(), Some(first.as_str()), "{text}");
    assert!(
        text.contains("\nsensor.error.generated_metrics_number,env=test,host=here,publisher=sensor value=1i"),
        "{text}"
    );
}

#[test]
fn words_survive_their_text() {
    assert_eq!(split_words("./sensor --seed 7 'a b' \"c\\\"d\"").unwrap(), ["./sensor", "--seed", "7", "a b", "c\"d"]);
    assert!(split_words("  ").is_err() && split_words("a 'b").is_err());
    let words = ["-x", "a b", "", "it's", "$HOME", "\\"].map(ToOwned::to_owned).to_vec();
    assert_eq!(split_words(&join_words(&words)).unwrap(), words);
}

#[tokio::test]
async fn what_has_left_the_group_of_a_program_ends_with_its_life() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    // twice `setsid`; the second one ignores SIGTERM and has lost its parent
    let script = format!(
        "setsid sh -c 'echo $$ >> {0}; exec sleep 603' & \
         sh -c 'setsid sh -c \"trap : TERM; echo \\$\\$ >> {0}; while :; do sleep 0.05; done\" &'; \
         while :; do echo 1 2 3; sleep 0.05; done",
        file.display()
    );
    let mut config = config(&script);
    config.end_timeout = Duration::from_millis(200);
    config.options.repeats_max = Some(0);
    let pids = || -> Vec<i32> {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    };
    let gone =
        |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "));
    let until = async |what: &str, wanted: &dyn Fn() -> bool| {
        let end = Instant::now() + PATIENCE;
        while !wanted() {
            assert!(Instant::now() < end, "not so: {what}: {:?}", pids());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // told to end; and dropped, as when its publisher fails
    for told in [true, false] {
        let _ = std::fs::remove_file(&file);
        let mut source = ExecSource::start(&config, Clock::start()).unwrap();
        until("both run", &|| pids().len() == 2).await;
        if told {
            source.stop();
            until("both have ended", &|| pids().iter().all(|pid| gone(*pid))).await;
        } else {
            drop(source);
            until("both were killed", &|| pids().iter().all(|pid| gone(*pid))).await;
        }
    }
}
