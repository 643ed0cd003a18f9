//! The configuration through its front door: here every kind of value, the example, and what a reload changes.

mod layers;
mod mistakes;
mod random;
mod sections;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use super::*;
use crate::actors::publisher::Feed;
use crate::sources::SourceConfig;
use crate::sources::csv::CsvConfig;
use heartwatch_adapters::influx::InfluxVersion;
use heartwatch_domain::arrivals::Phi;
use heartwatch_domain::deadline::{DeadlineKind, DeadlineRule};
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::restart::RestartPolicy;
use heartwatch_domain::verdict::Verdict;
use heartwatch_formats::source_time::TimeColumn;
use heartwatch_formats::source_time::TimeFormat;
use heartwatch_store::journal::BufferLimits;
use heartwatch_store::outbox::FullPolicy;

/// Resolves a text as if it were the file `heartwatch.toml` in the repository's root.
fn resolve(text: &str, environment: &[(&str, &str)], flags: &Overrides) -> Result<Loaded, Diagnostics> {
    let environment = environment.iter().copied().collect();
    load_text(Path::new("heartwatch.toml"), text, &environment, flags)
}

fn settings(text: &str) -> Settings {
    resolve(text, &[], &Overrides::default()).unwrap_or_else(|mistakes| panic!("{mistakes}")).settings
}

/// The mistakes as a person sees them, one a line.
fn mistakes(text: &str) -> Vec<String> {
    let mistakes = resolve(text, &[], &Overrides::default()).expect_err("it should be refused");
    mistakes.to_string().lines().map(ToOwned::to_owned).collect()
}

/// That the only mistake of a text starts so, and says that, too.
#[track_caller]
fn only_mistake(text: &str, start: &str, says: &str) {
    let mistakes = mistakes(text);
    assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
    assert!(mistakes[0].starts_with(start) && mistakes[0].contains(says), "{}", mistakes[0]);
}

fn id(text: &str) -> PublisherId {
    PublisherId::parse(text).unwrap()
}

const EXAMPLE: &str = include_str!("../../../heartwatch.reference.toml");

#[test]
fn every_kind_of_value_is_read() {
    let all = settings(
        "grace = \"3s\"\nlog.level = \"debug\"\n[mqtt]\nlisten = \"127.0.0.1:0\"\nmessage_bytes_max = 65536\n\
         [influx]\nurl = \"http://i:8086\"\nversion = 1\ngzip = false\nbatch_rows_max = 1_000\n[buffer]\nbytes_max = \"512MiB\"\nhistory = \"0\"\n\
         [[watch.override]]\npublisher = \"slow-*\"\ndeadline = \"10m\"\n\
         [[publisher]]\nid = \"boiler\"\ndeadline = \"5m\"\ngrace = \"7s\"\nexpected = false\n\
         [[publisher]]\nid = \"light\"\ncsv = \"Cargo.toml\"\ninterval = \"0\"\nrun = \"in-process\"\nloop = false\nlimit = 7\n\
         time_column = 1\ntime_format = \"mdy\"\nmeasurement = \"lux\"\noutbox_bytes_max = \"1MiB\"\noutbox_full = \"give-up-oldest\"\nheartbeat = \"2s\"",
    );
    assert_eq!(all.grace, Duration::from_secs(3));
    assert_eq!(all.log_level, LevelFilter::DEBUG);
    assert_eq!(all.mqtt.options.message_bytes_max, 65_536);
    let influx = all.influx.as_ref().unwrap();
    assert_eq!((influx.version, influx.gzip, all.writer.batch_rows_max), (InfluxVersion::V1, false, 1_000));
    assert_eq!(all.buffer, BufferLimits { bytes_max: 512 << 20, history: Duration::ZERO });
    let rules = all.deadline_rules();
    let fixed = |seconds| DeadlineKind::Fixed(Duration::from_secs(seconds));
    assert_eq!(rules.of(&id("slow-9")).kind, fixed(600));
    assert_eq!(rules.of(&id("boiler")), DeadlineRule { kind: fixed(300), grace: Duration::from_secs(7) });
    assert_eq!(rules.of(&id("other")), Duration::from_secs(50).into());
    let grace = Some(Duration::from_secs(7));
    let boiler = PublisherEntry { id: id("boiler"), expected: false, deadline: Some(fixed(300)), grace, managed: None };
    let csv = CsvConfig {
        time_column: TimeColumn::Number(1),
        time_format: Some(TimeFormat::MonthFirst),
        ..CsvConfig::new("Cargo.toml")
    };
    let feed = Feed {
        source: SourceConfig::Csv(csv),
        interval: Duration::ZERO,
        looping: false,
        limit: Some(7),
        measurement: Some("lux".into()),
        outbox_bytes_max: 1 << 20,
        full_policy: FullPolicy::GiveUpOldest,
    };
    let managed = Managed { heartbeat: Some(Duration::from_secs(2)), run: RunAs::InProcess, ..Managed::new(feed) };
    let light = PublisherEntry { id: id("light"), expected: true, deadline: None, grace: None, managed: Some(managed) };
    assert_eq!(all.publishers, [boiler, light]);
}

#[test]
fn a_deadline_may_be_of_intervals_or_adaptive() {
    let all = settings(
        "[watch]\ngrace = \"3s\"\n[[watch.override]]\npublisher = \"n-*\"\ndeadline_intervals = 4\nfloor = \"2s\"\n\
         [[watch.override]]\npublisher = \"a-*\"\nadaptive = true\nfloor = \"2s\"\nceiling = \"60s\"\nphi = 9.5\n\
         [[watch.override]]\npublisher = \"*\"\ngrace = \"1m\"\n\
         [[publisher]]\nid = \"p\"\nadaptive = true\ngrace = \"0\"",
    );
    let seconds = Duration::from_secs;
    let rules = all.deadline_rules();
    let n = DeadlineKind::Intervals { count: 4, floor: seconds(2), ceiling: seconds(86_400), unpromised: seconds(50) };
    assert_eq!(rules.of(&id("n-1")), DeadlineRule { kind: n, grace: seconds(60) });
    let phi = Phi::new(9.5).unwrap();
    let a = DeadlineKind::Adaptive { phi, floor: seconds(2), ceiling: seconds(60) };
    assert_eq!(rules.of(&id("a-1")).kind, a);
    assert_eq!(rules.grace, seconds(3));
    let p = DeadlineKind::Adaptive { phi: Phi::default(), floor: seconds(1), ceiling: seconds(50) };
    assert_eq!(rules.of(&id("p")), DeadlineRule { kind: p, grace: Duration::ZERO });
}

#[test]
fn the_example_runs_as_it_is_and_its_commented_defaults_are_the_defaults() {
    for file in ["heartwatch.toml", "heartwatch.reference.toml"] {
        let loaded = load(&Layers { file: Some(file.into()), ..Layers::default() });
        let loaded = loaded.unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert_eq!(loaded.notes, Vec::<String>::new(), "{file}");
        let data_dir = PathBuf::from("data");
        assert_eq!(Settings { data_dir, ..loaded.settings }, Settings::default(), "{file}");
    }

    // every commented key that is not an example, put in force, changes nothing
    let mut is_example = false;
    let in_force: Vec<&str> = EXAMPLE
        .lines()
        .map(|line| {
            let comment = line.strip_prefix("# ").unwrap_or_default();
            let is_key = comment.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
            if line.is_empty() || line.starts_with('[') {
                is_example = false;
            } else if !is_key {
                is_example |= comment.contains("xample");
            }
            if is_key && !is_example { comment } else { line }
        })
        .collect();
    assert!(in_force.iter().filter(|line| line.contains(" = ") && !line.starts_with('#')).count() > 20);
    assert_eq!(settings(&in_force.join("\n")), Settings::default());

    // the same of a publisher, whose table is an example as a whole
    let (_, publisher) = EXAMPLE.split_once("# [[publisher]]\n").unwrap();
    let (publisher, _) = publisher.split_once("# Examples;").unwrap();
    let table = |lines: &mut dyn Iterator<Item = &str>| {
        let keys: String = lines.map(|line| format!("{}\n", line.trim_start_matches("# "))).collect();
        settings(&format!("[[publisher]]\n{keys}"))
    };
    assert!(publisher.lines().count() > 10);
    assert_eq!(table(&mut publisher.lines()), table(&mut publisher.lines().take(2)));
}

#[test]
fn a_change_of_who_is_told_is_noticed() {
    let before = settings("[[notify]]\nname = 'x'\ncommand = ['c']");
    let after = settings("[[notify]]\nname = 'x'\ncommand = ['d']");
    assert_eq!(changes(&before, &after), [Changed::Notify]);
    assert_eq!(changes(&before, &before.clone()), []);
    let after = settings("[monitor]\nheartbeat = '1s'\n[[notify]]\nname = 'x'\ncommand = ['c']");
    assert_eq!(changes(&before, &after), [Changed::Monitor]);
}

#[test]
fn every_key_is_in_the_example() {
    for key in [
        "ping_url",
        "ping_interval",
        "check_interval",
        "server",
        "encryption",
        "from",
        "name",
        "webhook",
        "secret_file",
        "command",
        "email",
        "publishers",
        "to",
        "level_min",
        "recovery",
        "per_minute_max",
        "age_max",
        "restart",
        "restarts_max",
        "restart_period",
        "restart_backoff_min",
        "restart_backoff_max",
        "data_dir",
        "grace",
        "level",
        "listen",
        "url",
        "prefix",
        "client_id",
        "user",
        "password_file",
        "ca_file",
        "client_certificate_file",
        "client_key_file",
        "keep_alive",
        "message_bytes_max",
        "backoff_min",
        "backoff_max",
        "version",
        "db",
        "org",
        "bucket",
        "token_file",
        "batch_rows_max",
        "batch_bytes_max",
        "flush_interval",
        "timeout",
        "gzip",
        "bytes_max",
        "deadline_intervals",
        "adaptive",
        "floor",
        "ceiling",
        "phi",
        "history",
        "deadline",
        "publisher",
        "id",
        "csv",
        "system",
        "metrics",
        "interval",
        "heartbeat",
        "run",
        "loop",
        "limit",
        "time_column",
        "time_format",
        "measurement",
        "outbox_bytes_max",
        "outbox_full",
        "expected",
    ] {
        let is_there = EXAMPLE.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} = ")));
        assert!(is_there, "{key}");
    }
}

#[test]
fn a_reload_says_by_part_what_changed() {
    let old = settings("[[publisher]]\nid = 'a'\n[[publisher]]\nid = 'b'\ncsv = 'Cargo.toml'\n[[publisher]]\nid = 'c'");
    assert_eq!(changes(&old, &old.clone()), []);
    let new = settings(
        "grace = '1s'\nweb.listen = 'off'\n[mqtt]\nprefix = 'p'\n[influx]\nurl = 'http://i'\n[buffer]\nhistory = '1d'\n\
         [[publisher]]\nid = 'a'\ndeadline = '9s'\n[[publisher]]\nid = 'b'\ncsv = 'Cargo.toml'\ninterval = '2s'\n\
         [[publisher]]\nid = 'd'",
    );
    let expected = [
        Changed::Grace,
        Changed::Mqtt,
        Changed::Influx,
        Changed::Buffer,
        Changed::Web,
        Changed::PublisherWatchChanged(id("a")),
        Changed::PublisherChanged(id("b")),
        Changed::PublisherRemoved(id("c")),
        Changed::PublisherAdded(id("d")),
    ];
    assert_eq!(changes(&old, &new), expected);
    // a shorter deadline asks for faster heartbeats than b sends, and concerns nobody who is not ours
    let shorter = settings(
        "watch.deadline = '5s'\n[[publisher]]\nid = 'a'\n[[publisher]]\nid = 'b'\ncsv = 'Cargo.toml'\n[[publisher]]\nid = 'c'",
    );
    assert_eq!(changes(&old, &shorter), [Changed::Watch, Changed::PublisherChanged(id("b"))]);
    assert_eq!(changes(&shorter, &old), [Changed::Watch]);
}
