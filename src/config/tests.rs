//! The layers and every kind of mistake, through the front door.

use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use tracing::level_filters::LevelFilter;

use super::*;
use crate::buffer::outbox::FullPolicy;
use crate::domain::arrivals::Phi;
use crate::domain::deadline::{DeadlineKind, DeadlineRule};
use crate::domain::publisher::PublisherId;
use crate::domain::restart::RestartPolicy;
use crate::domain::verdict::Verdict;
use crate::formats::source_time::TimeFormat;
use crate::sources::csv::TimeColumn;

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

const EXAMPLE: &str = include_str!("../../heartwatch.toml");

#[test]
fn nothing_configured_is_the_defaults() {
    assert_eq!(settings(""), Settings::default());
    let default = Settings::default();
    assert_eq!(default.watch.deadlines.default, Duration::from_secs(50));
    assert_eq!(default.web.listen, Some("127.0.0.1:8080".parse().unwrap()));
    assert_eq!(default.mqtt.prefix.as_str(), "heartwatch");
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
    let file = "watch.deadline = \"10s\"";
    let flags = Overrides { deadline: Some(Duration::from_secs(30)), ..Overrides::default() };
    let environment = [("HEARTWATCH_WATCH_DEADLINE", "20s")];
    let deadline = |file, environment: &[(&str, &str)], flags| {
        resolve(file, environment, flags).unwrap().settings.watch.deadlines.default.as_secs()
    };
    let none = Overrides::default();
    assert_eq!(deadline("", &[], &none), 50);
    assert_eq!(deadline(file, &[], &none), 10);
    assert_eq!(deadline(file, &environment, &none), 20);
    assert_eq!(deadline(file, &environment, &flags), 30);
    assert_eq!(deadline(file, &[], &flags), 30);
    assert_eq!(deadline("", &[("HEARTWATCH_DEADLINE", "21s")], &none), 21);
    assert_eq!(deadline(file, &[("HEARTWATCH_DEADLINE", "")], &none), 10, "an empty variable is not set");
}

#[test]
fn every_flag_of_run_has_a_key_and_a_variable() {
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "from-a-file\n").unwrap();
    let token_path = token.path().to_str().unwrap();
    let broker = values::mqtt_url("mqtt://b:1884").unwrap();
    let flags = Overrides {
        mqtt: Some(broker.clone()),
        mqtt_user: Some("u".into()),
        mqtt_prefix: Some(Prefix::parse("p").unwrap()),
        mqtt_password_file: Some(token_path.into()),
        ..Overrides::default()
    };
    let flags = Overrides {
        data_dir: Some("d".into()),
        influx_url: Some(values::influx_url("http://i:8086").unwrap()),
        influx_db: Some("db".into()),
        influx_org: Some("org".into()),
        influx_bucket: Some("bucket".into()),
        influx_token_file: Some(token_path.into()),
        etcd: Some("http://e1:2379,http://e2:2379".parse().unwrap()),
        web: Some(values::WebListen(None)),
        deadline: Some(Duration::from_secs(7)),
        ..flags
    };
    let by_flag = resolve("", &[], &flags).unwrap().settings;
    let by_variable = [
        ("HEARTWATCH_DATA_DIR", "d"),
        ("HEARTWATCH_MQTT", "mqtt://b:1884"),
        ("HEARTWATCH_MQTT_USER", "u"),
        ("HEARTWATCH_MQTT_PREFIX", "p"),
        ("HEARTWATCH_MQTT_PASSWORD", "from-a-file"),
        ("HEARTWATCH_INFLUX_URL", "http://i:8086"),
        ("HEARTWATCH_INFLUX_DB", "db"),
        ("HEARTWATCH_INFLUX_ORG", "org"),
        ("HEARTWATCH_INFLUX_BUCKET", "bucket"),
        ("HEARTWATCH_INFLUX_TOKEN_FILE", token_path),
        ("HEARTWATCH_ETCD", "http://e1:2379, http://e2:2379"),
        ("HEARTWATCH_WEB", "off"),
        ("HEARTWATCH_DEADLINE", "7s"),
    ];
    let by_variable = resolve("", &by_variable, &Overrides::default()).unwrap().settings;
    let by_key = settings(&format!(
        "data_dir = 'd'\nmqtt.url = 'mqtt://b:1884'\nmqtt.user = 'u'\nmqtt.prefix = 'p'\n\
         mqtt.password_file = '{token_path}'\nweb.listen = 'off'\nwatch.deadline = '7s'\n\
         etcd.endpoints = 'http://e1:2379,http://e2:2379'\n[influx]\n\
         url = 'http://i:8086'\ndb = 'db'\norg = 'org'\nbucket = 'bucket'\ntoken_file = '{token_path}'"
    ));
    assert_eq!(by_flag, by_variable);
    assert_eq!(by_flag, by_key);
    assert_eq!(by_flag.mqtt.broker, BrokerSettings::At(broker));
    assert_eq!(by_flag.etcd.endpoints.len(), 2);
    for wrong in ["", "e1:2379", "ftp://e1:2379", "http://e1:2379/v3", "http://e1,"] {
        only_mistake(&format!("etcd.endpoints = '{wrong}'"), "", "http://127.0.0.1:2379");
    }
    assert_eq!(by_flag.influx.token.unwrap().expose(), "from-a-file");
    let listen = [("HEARTWATCH_MQTT_LISTEN", "127.0.0.1:9")];
    let listen = resolve("", &listen, &Overrides::default()).unwrap().settings.mqtt.broker;
    assert_eq!(listen, BrokerSettings::Embedded { listen: "127.0.0.1:9".parse().unwrap() });
}

#[test]
fn every_kind_of_value_is_read() {
    let all = settings(
        "grace = \"3s\"\nlog.level = \"debug\"\n[mqtt]\nlisten = \"127.0.0.1:0\"\nmessage_bytes_max = 65536\n\
         [influx]\nversion = 1\ngzip = false\nbatch_rows_max = 1_000\n[buffer]\nbytes_max = \"512MiB\"\nhistory = \"0\"\n\
         [[watch.override]]\npublisher = \"slow-*\"\ndeadline = \"10m\"\n\
         [[publisher]]\nid = \"boiler\"\ndeadline = \"5m\"\ngrace = \"7s\"\nexpected = false\n\
         [[publisher]]\nid = \"light\"\ncsv = \"Cargo.toml\"\ninterval = \"0\"\nrun = \"in-process\"\nloop = false\nlimit = 7\n\
         time_column = 1\ntime_format = \"mdy\"\nmeasurement = \"lux\"\noutbox_bytes_max = \"1MiB\"\noutbox_full = \"give-up-oldest\"\nheartbeat = \"2s\"",
    );
    assert_eq!(all.grace, Duration::from_secs(3));
    assert_eq!(all.log.level, LevelFilter::DEBUG);
    assert_eq!(all.mqtt.message_bytes_max, 65_536);
    assert_eq!((all.influx.version, all.influx.gzip, all.influx.batch_rows_max), (InfluxVersion::V1, false, 1_000));
    assert_eq!(all.buffer, BufferSettings { bytes_max: 512 << 20, history: Duration::ZERO });
    let rules = all.deadline_rules();
    let fixed = |seconds| DeadlineKind::Fixed(Duration::from_secs(seconds));
    assert_eq!(rules.of(&id("slow-9")).kind, fixed(600));
    assert_eq!(rules.of(&id("boiler")), DeadlineRule { kind: fixed(300), grace: Duration::from_secs(7) });
    assert_eq!(rules.of(&id("other")), Duration::from_secs(50).into());
    let grace = Some(Duration::from_secs(7));
    let boiler = PublisherSettings { id: id("boiler"), expected: false, deadline: Some(fixed(300)), grace, feed: None };
    let feed = FeedSettings {
        source: FeedSource::Csv("Cargo.toml".into()),
        interval: Duration::ZERO,
        heartbeat: Some(Duration::from_secs(2)),
        run: RunAs::InProcess,
        looping: false,
        limit: Some(7),
        time_column: TimeColumn::Number(1),
        time_format: Some(TimeFormat::MonthFirst),
        measurement: Some("lux".into()),
        outbox_bytes_max: 1 << 20,
        restart: RestartSettings::default(),
        outbox_full: FullPolicy::GiveUpOldest,
    };
    let light = PublisherSettings { id: id("light"), expected: true, deadline: None, grace: None, feed: Some(feed) };
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
fn what_a_deadline_cannot_be_is_named() {
    let entry = |keys: &str| format!("[[watch.override]]\npublisher = 'x*'\n{keys}");
    let at = |line: u32, key: &str| format!("heartwatch.toml:{line}: watch.override.{key}:");
    only_mistake(&entry("deadline = '5s'\nadaptive = true"), &at(4, "adaptive"), "exclude each other");
    only_mistake(&entry("deadline = '5s'\nfloor = '1s'"), &at(4, "floor"), "'deadline_intervals' or 'adaptive = true'");
    only_mistake(&entry("deadline_intervals = 3\nphi = 8"), &at(4, "phi"), "set 'adaptive = true'");
    only_mistake(&entry("adaptive = true\nphi = 0.5"), &at(4, "phi"), "from 1 to 30");
    only_mistake(&entry("adaptive = true\nphi = 'high'"), &at(4, "phi"), "write a number");
    only_mistake(&entry("deadline_intervals = 0"), &at(3, "deadline_intervals"), "out of bounds");
    only_mistake(&entry("adaptive = true\nfloor = '2m'"), &at(4, "floor"), "longer than the longest one, 50 s");
    only_mistake(&entry(""), "heartwatch.toml:1: watch.override.deadline:", "deadline_intervals, adaptive or grace");
}

#[test]
fn all_mistakes_come_at_once_each_with_its_line_and_key() {
    let text = "grace = 10\n\n[mqtt]\nurl = \"localhost:1883\"\nkeep_alive = \"0\"\nport = 1883\n\n[watch]\n\
                deadlin = \"5s\"\n\n[influx]\ntoken = \"abc\"\ngzip = \"yes\"\nbatch_rows_max = 0\n\n[web]\nlisten = \"8080\"\n\
                \n[[publisher]]\nid = \"a b\"\n\n[[publisher]]\ncsv = \"no/such.csv\"\n\n[wach]\n";
    let expected = [
        "heartwatch.toml:1: grace: 10 is a bare number: write text in quotes, like \"5s\"",
        "heartwatch.toml:4: mqtt.url: 'localhost:1883' is not a URL like mqtt://host:1883",
        "heartwatch.toml:5: mqtt.keep_alive: MQTT keeps a connection alive",
        "heartwatch.toml:6: mqtt.port: unknown key",
        "heartwatch.toml:9: watch.deadlin: unknown key: did you mean 'deadline'?",
        "heartwatch.toml:12: influx.token: a secret does not belong in this file: set influx.token_file",
        "heartwatch.toml:13: influx.gzip: 'yes' is text: write true or false, without quotes",
        "heartwatch.toml:14: influx.batch_rows_max: 0 is out of bounds",
        "heartwatch.toml:17: web.listen: '8080' is not an address like 127.0.0.1:8080, or off",
        "heartwatch.toml:20: publisher.id: 'a b' cannot be a publisher id",
        "heartwatch.toml:22: publisher.id: is missing",
        "heartwatch.toml:23: publisher.csv: cannot read no/such.csv: No such file",
        "heartwatch.toml:25: wach: unknown table: did you mean 'watch'?",
    ];
    let mistakes = mistakes(text);
    assert_eq!(mistakes.len(), expected.len(), "{mistakes:#?}");
    for (mistake, expected) in mistakes.iter().zip(expected) {
        assert!(mistake.starts_with(expected), "{mistake}\nshould start with\n{expected}");
    }
    assert!(mistakes.iter().all(|mistake| !mistake.contains("abc")), "a secret is not repeated: {mistakes:#?}");
}

#[test]
fn a_mistake_reads_like_this() {
    let text = "[watch]\ndeadline = '5x'";
    let expected = "heartwatch.toml:2: watch.deadline: '5x' is not a duration like 250ms, 5s, 2m or 1h";
    assert_eq!(mistakes(text), [expected]);
}

#[test]
fn an_unknown_name_is_an_error_with_the_nearest_known_one() {
    only_mistake("[web]\nlisen = 'off'", "heartwatch.toml:2: web.lisen:", "did you mean 'listen'?");
    only_mistake("deadline = '5s'", "heartwatch.toml:1: deadline:", "did you mean 'watch.deadline'?");
    only_mistake(
        "[[publishers]]\nid = 'a'",
        "heartwatch.toml:1: publishers:",
        "unknown table: did you mean 'publisher'?",
    );
    only_mistake("[mqtt.tls]\nx = 1", "heartwatch.toml:1: mqtt.tls:", "unknown table");
    only_mistake("[[publisher]]\nid = 'a'\ncvs = 'x'", "heartwatch.toml:3: publisher.cvs:", "did you mean 'csv'?");
    only_mistake(
        "[[watch.override]]\npublisher = '*'\ndeadline = '5s'\nid = 'x'",
        "heartwatch.toml:4: watch.override.id:",
        "unknown key",
    );
    only_mistake("[influx]\nurll.x = 1", "heartwatch.toml:2: influx.urll:", "unknown");
}

#[test]
fn wrong_shapes_are_named() {
    only_mistake("mqtt = 5", "heartwatch.toml:1: mqtt:", "write [mqtt]");
    only_mistake("[[watch]]\ndeadline = '5s'", "heartwatch.toml:1: watch:", "write [watch]");
    only_mistake("\n[publisher]\nid = 'a'", "heartwatch.toml:2: publisher:", "write [[publisher]], with two brackets");
    only_mistake("publisher = ['a']", "heartwatch.toml:1: publisher:", "[[publisher]]");
    only_mistake("[web]\nlisten = true", "heartwatch.toml:2: web.listen:", "in quotes");
    only_mistake("[watch]\ndeadline = 5.5", "heartwatch.toml:2: watch.deadline:", "is a fraction");
    only_mistake("[influx]\nversion = 4", "heartwatch.toml:2: influx.version:", "'4' is none of auto, 1, 2, 3");
    only_mistake(
        "[influx]\nbatch_rows_max = 99999999999999999999",
        "heartwatch.toml:2: influx.batch_rows_max:",
        "too large",
    );
    only_mistake("data_dir = ''", "heartwatch.toml:1: data_dir:", "is no path");
}

#[test]
fn what_is_not_toml_is_named_by_line_together_with_the_other_mistakes() {
    let mistakes = mistakes("[web]\nlisten = off\n\n[watch]\ndeadline = '5x'\nx = = 2\n");
    assert_eq!(mistakes.len(), 3, "{mistakes:#?}");
    assert!(mistakes[0].starts_with("heartwatch.toml:2: cannot be read as TOML: "), "{mistakes:#?}");
    assert!(mistakes[1].starts_with("heartwatch.toml:5: watch.deadline: '5x'"), "{mistakes:#?}");
    assert!(mistakes[2].starts_with("heartwatch.toml:6: cannot be read as TOML: "), "{mistakes:#?}");
    only_mistake("[watch]\ndeadline = '5s'\ndeadline = '6s'", "heartwatch.toml:3: ", "duplicate key");
}

#[test]
fn what_must_fit_together_is_checked() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "hunter2").unwrap();
    let cases = [
        ("[mqtt]\nlisten = '127.0.0.1:1'\nurl = 'mqtt://h:1'", "3: mqtt.url:", "exclude each other"),
        ("[mqtt]\nuser = 'u'", "2: mqtt.user:", "set mqtt.url"),
        ("[mqtt]\nurl = 'mqtt://h'\nca_file = 'Cargo.toml'", "3: mqtt.ca_file:", "mqtts://"),
        (
            "[mqtt]\nurl = 'mqtts://h'\nclient_key_file = 'Cargo.toml'",
            "3: mqtt.client_key_file:",
            "needs client_certificate_file",
        ),
        ("[mqtt]\nurl = 'mqtts://h'\nca_file = 'no.pem'", "3: mqtt.ca_file:", "cannot read no.pem"),
        ("[mqtt]\nurl = 'broker'\nuser = 'u'\nca_file = 'Cargo.toml'", "2: mqtt.url:", "is not a URL"),
        ("[mqtt]\nbackoff_min = '1m'", "2: mqtt.backoff_max:", "longer than the longest"),
        ("[etcd]\nendpoints = 'http://e'\nca_file = 'Cargo.toml'", "3: etcd.ca_file:", "https://"),
        ("[etcd]\nclient_key_file = 'Cargo.toml'", "2: etcd.client_key_file:", "client_certificate_file, too"),
        ("[etcd]\nuser = 'u'", "2: etcd.user:", "HEARTWATCH_ETCD_PASSWORD"),
        ("[etcd]\npassword_file = '{secret}'", "2: etcd.password_file:", "without etcd.user"),
        ("[influx]\nversion = 2\norg = 'o'\ntoken_file = 'rustfmt.toml'", "4: influx.token_file:", "one line"),
        ("[influx]\nversion = 2\ntoken_file = '{secret}'", "2: influx.version:", "needs an organisation"),
        ("[influx]\nversion = 3", "2: influx.version:", "needs a token"),
        ("[influx]\ntoken_file = 'no/token'", "2: influx.token_file:", "cannot read no/token"),
        ("[influx]\npassword_file = '{secret}'", "2: influx.password_file:", "without influx.user"),
        ("[influx]\nurl = 'http://u:hunter2@h'", "2: influx.url:", "no password"),
        ("[[publisher]]\nid = 'a'\n[[publisher]]\nid = 'a'", "4: publisher.id:", "line 2"),
        ("[[publisher]]\nid = 'a'\ninterval = '1s'", "3: publisher.interval:", "'csv'"),
        ("[[publisher]]\nid = 'a'\ncsv = 'src'", "3: publisher.csv:", "src is a directory"),
        (
            "[[publisher]]\nid = 'a'\ncsv = 'Cargo.toml'\nheartbeat = '50s'",
            "4: publisher.heartbeat:",
            "deadline of 50 s",
        ),
        (
            "[[publisher]]\nid = 'a'\ncsv = 'Cargo.toml'\nmeasurement = 'heartwatch_x'",
            "4: publisher.measurement:",
            "monitor's own",
        ),
        ("[[watch.override]]\ndeadline = '5s'", "1: watch.override.publisher:", "is missing"),
        ("[[publisher]]\nid = 'a'\ncsv = 'Cargo.toml'\nexec = 'x'", "4: publisher.exec:", "reads one thing"),
        ("[[publisher]]\nid = 'a'\nexec = 'x'\nloop = true", "4: publisher.loop:", "with 'csv'"),
        ("[[publisher]]\nid = 'a'\ncsv = 'Cargo.toml'\nenv = 'x'", "4: publisher.env:", "with 'exec'"),
        ("[[publisher]]\nid = 'a'\nsystem = true\nexec = 'x'", "3: publisher.system:", "excludes 'exec'"),
        ("[[publisher]]\nid = 'a'\nsystem = true\ncsv = 'Cargo.toml'", "3: publisher.system:", "excludes 'csv'"),
        ("[[publisher]]\nid = 'a'\nsystem = false", "3: publisher.system:", "leave it out"),
        ("[[publisher]]\nid = 'a'\nsystem = true\ninterval = '0'", "4: publisher.interval:", "at least 100 ms"),
        ("[[publisher]]\nid = 'a'\nsystem = true\nmetrics = ['gpu']", "4: publisher.metrics:", "'gpu' is no metric"),
        ("[[publisher]]\nid = 'a'\nsystem = true\nmetrics = []", "4: publisher.metrics:", "names no metric"),
        ("[[publisher]]\nid = 'a'\nsystem = true\ntime_column = 1", "4: publisher.time_column:", "with 'csv'"),
        (
            "[[publisher]]\nid = 'a'\nsystem = true\nmeasurement = 'm'",
            "4: publisher.measurement:",
            "with 'csv' or 'exec'",
        ),
        ("[[publisher]]\nid = 'a'\nexec = 'x'\nmetrics = ['cpu']", "4: publisher.metrics:", "with 'system'"),
        ("[[publisher]]\nid = 'a'\nenv = 'x'", "3: publisher.env:", "'exec'"),
        ("[[publisher]]\nid = 'a'\nexec = './no-sensor'", "3: publisher.exec:", "cannot run ./no-sensor: No such file"),
        ("[[publisher]]\nid = 'a'\nexec = './Cargo.toml'", "3: publisher.exec:", "chmod +x"),
        ("[[publisher]]\nid = 'a'\nexec = \"x 'y\"", "3: publisher.exec:", "quote that is not closed"),
        ("[[publisher]]\nid = 'a'\nexec = []", "3: publisher.exec:", "names no program"),
        ("[[publisher]]\nid = 'a'\nexec = 'x'\nudp = 'host'", "4: publisher.udp:", "127.0.0.1:8089"),
        (
            "[[publisher]]\nid = 'a'\nexec = 'x'\nformat = 'columns'",
            "4: publisher.format:",
            "which measurement is column 1",
        ),
        (
            "[[publisher]]\nid = 'a'\nexec = 'x'\n[[publisher.column]]\nmeasurement = 'm'",
            "4: publisher.column.at:",
            "counted from 1",
        ),
        (
            "[[publisher]]\nid = 'a'\nexec = 'x'\n[[publisher.column]]\nat = 1\nmeasurement = 'm'\nmin = 'low'",
            "7: publisher.column.min:",
            "without quotes",
        ),
    ];
    for (text, start, says) in cases {
        only_mistake(
            &text.replace("{secret}", secret.path().to_str().unwrap()),
            &format!("heartwatch.toml:{start}"),
            says,
        );
    }
}

#[test]
fn a_wrong_variable_is_named() {
    let environment = [
        ("HEARTWATCH_DEADLINE", "soon"),
        ("HEARTWATCH_INFLUX_GZIP", "maybe"),
        ("HEARTWATCH_INFUX_URL", "x"),
        ("OTHER", "y"),
    ];
    let mistakes = resolve("[web]\nlisten = 'on'", &environment, &Overrides::default()).unwrap_err().to_string();
    let mistakes: Vec<&str> = mistakes.lines().collect();
    assert_eq!(mistakes.len(), 4, "{mistakes:#?}");
    assert!(mistakes[0].starts_with("heartwatch.toml:2: web.listen:"), "{mistakes:#?}");
    assert!(mistakes[1].starts_with("environment: HEARTWATCH_INFLUX_GZIP: 'maybe'"), "{mistakes:#?}");
    assert!(mistakes[2].starts_with("environment: HEARTWATCH_DEADLINE: 'soon' is not a duration"), "{mistakes:#?}");
    assert!(
        mistakes[3].contains("HEARTWATCH_INFUX_URL: unknown variable: did you mean HEARTWATCH_INFLUX_URL?"),
        "{mistakes:#?}"
    );

    let both = [("HEARTWATCH_DEADLINE", "1s"), ("HEARTWATCH_WATCH_DEADLINE", "2s")];
    let mistakes = resolve("", &both, &Overrides::default()).unwrap_err().to_string();
    assert!(mistakes.contains("set only one"), "{mistakes}");

    let foreign = [("HEARTWATCH_SERVICE_HOST", "10.0.0.1"), ("HEARTWATCH_REQUIRE_SERVICES", "1")];
    let notes = resolve("", &foreign, &Overrides::default()).unwrap().notes;
    assert_eq!(notes, ["the variable HEARTWATCH_SERVICE_HOST means nothing to heartwatch"]);
}

#[test]
fn a_higher_layer_decides_whose_broker_it_is() {
    let flags = Overrides { mqtt_listen: Some("127.0.0.1:5".parse().unwrap()), ..Overrides::default() };
    let broker = resolve("[mqtt]\nurl = 'mqtt://h'", &[], &flags).unwrap().settings.mqtt.broker;
    assert_eq!(broker, BrokerSettings::Embedded { listen: "127.0.0.1:5".parse().unwrap() });
    let environment = [("HEARTWATCH_MQTT_URL", "mqtt://h:1883")];
    let broker =
        resolve("[mqtt]\nlisten = '127.0.0.1:5'", &environment, &Overrides::default()).unwrap().settings.mqtt.broker;
    assert_eq!(broker, BrokerSettings::At("mqtt://h:1883".parse().unwrap()));
}

#[test]
fn a_secret_comes_from_a_file_or_the_environment_and_is_never_shown() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "from-file\r\n").unwrap();
    let text = format!("[influx]\ntoken_file = '{}'", file.display());
    assert_eq!(settings(&text).influx.token.unwrap().expose(), "from-file");

    let environment = [("HEARTWATCH_INFLUX_TOKEN", "from-environment")];
    let loaded = resolve(&text, &environment, &Overrides::default()).unwrap();
    assert_eq!(loaded.settings.influx.token.as_ref().unwrap().expose(), "from-environment");
    assert!(!format!("{loaded:?}").contains("from-environment"));

    let flags = Overrides { influx_token_file: Some(file.clone()), ..Overrides::default() };
    assert_eq!(resolve("", &environment, &flags).unwrap().settings.influx.token.unwrap().expose(), "from-file");

    let both = [("HEARTWATCH_INFLUX_TOKEN", "a"), ("HEARTWATCH_INFLUX_TOKEN_FILE", file.to_str().unwrap())];
    let mistakes = resolve("", &both, &Overrides::default()).unwrap_err().to_string();
    assert_eq!(mistakes.lines().count(), 1, "{mistakes}");
    assert!(mistakes.contains("set only one"), "{mistakes}");

    std::fs::write(&file, "\n").unwrap();
    only_mistake(&text, "heartwatch.toml:2: influx.token_file:", "is empty");

    let password = [("HEARTWATCH_MQTT_PASSWORD", "p")];
    let notes = resolve("", &password, &Overrides::default()).unwrap().notes;
    assert!(notes[0].contains("HEARTWATCH_MQTT_PASSWORD is not used"), "{notes:?}");
    let user = "[mqtt]\nurl = 'mqtt://h'\nuser = 'u'";
    let mqtt = resolve(user, &password, &Overrides::default()).unwrap().settings.mqtt;
    assert_eq!(mqtt.password.unwrap().expose(), "p");
}

#[test]
fn paths_in_the_file_start_at_its_directory() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("heartwatch.toml");
    std::fs::write(directory.path().join("a.csv"), "1\n").unwrap();
    std::fs::write(&file, "data_dir = 'here'\n[[publisher]]\nid = 'a'\ncsv = 'a.csv'").unwrap();
    let mut layers = Layers { file: Some(file), ..Layers::default() };
    let settings = load(&layers).unwrap().settings;
    assert_eq!(settings.data_dir, directory.path().join("here"));
    assert_eq!(settings.publishers[0].feed.as_ref().unwrap().source, FeedSource::Csv(directory.path().join("a.csv")));
    layers.environment = [("HEARTWATCH_DATA_DIR", "here")].into_iter().collect();
    assert_eq!(load(&layers).unwrap().settings.data_dir, PathBuf::from("here"));
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_the_other_layers_mistakes() {
    let environment: Environment = [("HEARTWATCH_DEADLINE", "x")].into_iter().collect();
    let layers = Layers { file: Some("no/such.toml".into()), environment, flags: Overrides::default() };
    let mistakes = load(&layers).unwrap_err().0;
    assert_eq!(mistakes.len(), 2);
    assert!(
        mistakes[0].to_string().starts_with("no/such.toml: cannot read no/such.toml: No such file"),
        "{}",
        mistakes[0]
    );

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"# one\n# two \xff\n").unwrap();
    let layers = Layers { file: Some(file.path().into()), ..Layers::default() };
    let mistakes = load(&layers).unwrap_err().0;
    assert_eq!((mistakes[0].line, mistakes[0].message.as_str()), (Some(2), "is not UTF-8 text from here on"));
}

#[test]
fn the_example_runs_as_it_is_and_its_commented_defaults_are_the_defaults() {
    let example = load(&Layers { file: Some("heartwatch.toml".into()), ..Layers::default() });
    let example = example.unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(example.notes, Vec::<String>::new());
    let ids: Vec<&str> = example.settings.publishers.iter().map(|publisher| publisher.id.as_str()).collect();
    assert_eq!(ids, ["light-1", "light-2"]);
    assert_eq!(Settings { publishers: Vec::new(), ..example.settings.clone() }, Settings::default());

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
    assert_eq!(settings(&in_force.join("\n")), example.settings);
}

#[test]
fn who_is_told_and_how_is_read() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "https://hooks.example/hunter2\n").unwrap();
    let file = secret.path().display();
    let all = settings(&format!(
        "[monitor]\nid = 'm'\nheartbeat = '2s'\nping_url = 'https://p.example/x?y=z'\nping_interval = '30s'\n\
         [mail]\nserver = 'smtp://[::1]'\nencryption = 'none'\nfrom = 'Watch <w@h.example>'\n\
         [[notify]]\nname = 'chat'\nwebhook_file = '{file}'\nsecret_file = '{file}'\nper_minute_max = 3\n\
         publishers = ['light-*']\nage_max = '1h'\nbackoff_max = '10s'\ntimeout = '2s'\n\
         [[notify]]\nname = 'ops'\nemail = ['a@b.example', 'c@d.example']\nto = ['late', 'dead']\nrecovery = false\n\
         [[notify]]\nname = 'siren'\ncommand = ['siren', '--on']\nlevel_min = 5\n\
         [[publisher]]\nid = 'a'\ncsv = 'Cargo.toml'\nrestart = 'always'\nrestarts_max = 3\nrestart_period = '5m'\n\
         restart_backoff_min = '1s'\nrestart_backoff_max = '1m'"
    ));
    assert_eq!(all.monitor.id, Some(id("m")));
    assert_eq!(all.monitor.ping_url.as_ref().map(Url::as_str), Some("https://p.example/x?y=z"));
    let mail = all.mail.as_ref().unwrap();
    assert_eq!((mail.host.as_str(), mail.port, mail.encryption), ("::1", 25, MailEncryption::None));
    let [chat, ops, siren] = all.notify.as_slice() else { panic!("{:?}", all.notify) };
    let WaySettings::Webhook { url, secret: Some(_) } = &chat.way else { panic!("{chat:?}") };
    assert_eq!(url.as_str(), "https://hooks.example/hunter2");
    assert!(!format!("{chat:?}").contains("hunter2"), "{chat:?}");
    assert_eq!((chat.per_minute_max, chat.age_max), (3, Duration::from_secs(3_600)));
    assert_eq!((chat.filter.level_min, chat.filter.recovery), (2, true));
    assert!(matches!(&ops.way, WaySettings::Email { to } if to.len() == 2));
    assert!(ops.filter.to.contains(&Verdict::Late) && ops.filter.level_min < 0, "a named verdict counts: {ops:?}");
    assert!(matches!(&siren.way, WaySettings::Command { program, arguments }
        if program == Path::new("siren") && arguments == &["--on"]));
    let restart = all.publishers[0].feed.as_ref().unwrap().restart;
    assert_eq!((restart.policy, restart.limits.restarts_max), (RestartPolicy::Always, 3));
    assert_eq!(restart.limits.backoff_max, Duration::from_secs(60));
    assert_eq!(settings("[mail]\nserver = 'smtps://m.example'\nfrom = 'w@h.example'").mail.unwrap().port, 465);
}

#[test]
fn mistakes_in_who_is_told_have_their_line_and_key() {
    let target = |rest: &str| format!("[[notify]]\nname = 'x'\n{rest}");
    for (text, start, says) in [
        ("[[notify]]\nwebhook = 'https://h'".to_owned(), "1: notify.name:", "every target has a name"),
        (target("webhook = 'h'"), "3: notify.webhook:", "https://hooks.example/x"),
        (target(""), "1: notify.webhook:", "one of webhook, webhook_file, command, email"),
        (target("webhook = 'https://h'\ncommand = ['c']"), "4: notify.command:", "write another [[notify]]"),
        (target("webhook = 'https://h'\nto = ['dead', 'gone']"), "4: notify.to:", "'gone' is none of alive, late"),
        (target("webhook = 'https://h'\nto = 'dead'"), "4: notify.to:", "in brackets"),
        (target("webhook = 'https://h'\nsecret = 'hunter2'"), "4: notify.secret:", "set secret_file"),
        (target("webhook = 'https://h'\nlevel_min = 6"), "4: notify.level_min:", "from 0 to 5"),
        (target("command = []"), "3: notify.command:", "is empty"),
        (target("command = ['./no-such-program']"), "3: notify.command:", "there is no program ./no-such-program"),
        (target("command = ['c']\nsecret_file = 'Cargo.toml'"), "4: notify.secret_file:", "one line"),
        (target("email = ['nobody']"), "3: notify.email:", "'nobody' is no e-mail address"),
        (target("webhook = 'https://h'\n[[notify]]\nname = 'x'\ncommand = ['c']"), "5: notify.name:", "line 2"),
        ("[mail]\nfrom = 'a@b.example'".to_owned(), "2: mail.from:", "without mail.server"),
        ("[mail]\nserver = 'smtps://h'".to_owned(), "1: mail.from:", "is missing"),
        ("[mail]\nserver = 'http://h'\nfrom = 'a@b.example'".to_owned(), "2: mail.server:", "smtps://mail.example"),
        ("[monitor]\nid = 'a'\n[[publisher]]\nid = 'a'".to_owned(), "2: monitor.id:", "a publisher's id already"),
        (
            "[[publisher]]\nid = 'a'\ncsv = 'Cargo.toml'\nrestart = 'sometimes'".to_owned(),
            "4: publisher.restart:",
            "none of on-failure, never, always",
        ),
        (
            "[[publisher]]\nid = 'a'\ncsv = 'Cargo.toml'\nrun = 'in-process'\nrestarts_max = 3".to_owned(),
            "5: publisher.restarts_max:",
            "run = \"child\"",
        ),
        (
            "[[publisher]]\nid = 'a'\ncsv = 'Cargo.toml'\nrestart_backoff_min = '1m'".to_owned(),
            "4: publisher.restart_backoff_max:",
            "longer than",
        ),
    ] {
        let mistakes = mistakes(&text);
        let found = mistakes
            .iter()
            .any(|mistake| mistake.starts_with(&format!("heartwatch.toml:{start}")) && mistake.contains(says));
        assert!(found, "{text}\n{mistakes:#?}");
        assert!(mistakes.iter().all(|mistake| !mistake.contains("hunter2")), "{mistakes:#?}");
    }
    let mail = "[mail]\nserver = 'smtps://h'\nfrom = 'a@b.example'\n[[notify]]\nname = 'x'\nemail = ['a@b.example']";
    assert_eq!(settings(mail).notify.len(), 1);
    only_mistake("[[notify]]\nname = 'x'\nemail = ['a@b.example']", "heartwatch.toml:3: notify.email:", "mail.server");
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
        "grace = '1s'\nweb.listen = 'off'\n[mqtt]\nprefix = 'p'\n[influx]\ndb = 'x'\n[buffer]\nhistory = '1d'\n\
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 400 } else { 4_000 }))]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        let _ = resolve(&text, &[], &Overrides::default());
    }

    #[test]
    fn no_soup_of_toml_makes_it_panic(words in proptest::collection::vec(
        prop_oneof![
            Just("["), Just("]"), Just("[["), Just("]]"), Just("="), Just("."), Just("\n"), Just("\""), Just("'''"),
            Just("{"), Just("}"), Just(","), Just("#"), Just("mqtt"), Just("publisher"), Just("watch"), Just("override"),
            Just("id"), Just("csv"), Just("deadline"), Just("-1"), Just("0x1F"), Just("1e400"), Just("nan"),
            Just("1979-05-27"), Just("true"), Just("'5s'"), Just("\\u0000"), Just("\u{feff}"), Just("\r"), Just("ä"),
        ], 0..60)) {
        let _ = resolve(&words.concat(), &[], &Overrides::default());
    }

    #[test]
    fn no_damage_to_the_example_makes_it_panic_and_every_line_exists(
        cuts in proptest::collection::vec((0..EXAMPLE.len(), 0usize..40, "[\\[\\]='\"{}\\n#a-z0-9.]{0,6}"), 1..6),
        uncomment in any::<bool>(),
    ) {
        let mut text = EXAMPLE.to_owned();
        if uncomment {
            text = text.replace("\n# ", "\n");
        }
        for (at, length, insert) in cuts {
            let start = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let end = (start + length).min(text.len());
            let end = (end..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(start);
            text.replace_range(start..end, &insert);
        }
        if let Err(mistakes) = resolve(&text, &[], &Overrides::default()) {
            prop_assert!(!mistakes.0.is_empty());
            let lines = text.matches('\n').count() + 1;
            for mistake in &mistakes.0 {
                prop_assert!(mistake.line.is_some_and(|line| (1..=lines).contains(&line)), "{mistake}");
                prop_assert!(!mistake.to_string().contains('\n'), "{mistake}");
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let _ = load(&Layers { file: Some(file.path().to_owned()), ..Layers::default() });
    }
}

#[test]
fn foreign_devices_are_read_and_their_mistakes_named() {
    let text = "[[foreign]]\ntopic = 'tele/{device}/SENSOR'\npublisher = 'tele-{device}'\nformat = 'json'\n\
                time = 'Time'\ndeadline = '6m'\n[[foreign.field]]\nname = 't'\npath = 'DHT22.Temperature'\n\
                [[foreign]]\ntopic = 'collectd/{host}/{plugin}/{type}'\nformat = 'collectd'\n\
                [[foreign]]\ntopic = 'raw/x'\nformat = 'number'\npublisher = 'raw'\n\
                [[foreign]]\ntopic = 'raw/{publisher}'\nformat = 'text'";
    let settings = settings(text);
    let filters = settings.mqtt_filters();
    let foreign: Vec<_> = filters.iter().filter(|filter| !filter.starts_with("heartwatch/")).collect();
    assert_eq!(foreign, ["tele/+/SENSOR", "collectd/+/+/+", "raw/+"], "raw/x is in raw/+");
    let deadline = |publisher: &str| settings.deadline_rules().of(&id(publisher)).kind.initial().as_secs();
    assert_eq!((deadline("tele-kitchen"), deadline("light-1")), (360, 50));
    assert_eq!(settings.foreign[1].device.publisher.wildcard(), "collectd-*");

    let one = |rest: &str| format!("[[foreign]]\n{rest}");
    for (text, start, says) in [
        ("format = 'json'", "heartwatch.toml:1: foreign.topic:", "is missing"),
        ("topic = 'a/{publisher}'", "heartwatch.toml:1: foreign.format:", "is missing"),
        ("topic = 'a/b'\nformat = 'json'", "heartwatch.toml:2: foreign.topic:", "{publisher}"),
        ("topic = 'a/#/b'\nformat = 'json'", "heartwatch.toml:2: foreign.topic:", "at the end only"),
        (
            "topic = 'a/{x}'\npublisher = 'p-{y}'\nformat = 'json'",
            "heartwatch.toml:3: foreign.publisher:",
            "there is {x}",
        ),
        ("topic = '+/v1/{publisher}/#'\nformat = 'json'", "heartwatch.toml:2: foreign.topic:", "own publishers"),
        ("topic = 'a/{publisher}'\nformat = 'xml'", "heartwatch.toml:3: foreign.format:", "line-protocol"),
        (
            "topic = 'a/{publisher}'\nformat = 'json'\ndeadline = '5m'",
            "heartwatch.toml:4: foreign.deadline:",
            "everybody",
        ),
        (
            "topic = 'a/{publisher}'\nformat = 'collectd'",
            "heartwatch.toml:2: foreign.topic:",
            "collectd/{host}/{plugin}/{type}",
        ),
        ("topic = 'a/{publisher}'\nformat = 'number'\ntime = 'x'", "heartwatch.toml:4: foreign.time:", "json and csv"),
        ("topic = 'a/{publisher}'\nformat = 'csv'\ntime = 'x'", "heartwatch.toml:4: foreign.time:", "column"),
        (
            "topic = 'a/{publisher}'\nformat = 'csv'\n[[foreign.field]]\nname = 'x'",
            "heartwatch.toml:4: foreign.field.column:",
            "is missing",
        ),
        (
            "topic = 'a/{publisher}'\nformat = 'json'\n[[foreign.field]]\nname = 'time'\npath = 'x'",
            "heartwatch.toml:5: foreign.field.name:",
            "kept for a time",
        ),
        ("topic = 'ä/{publisher}'\nformat = 'json'", "heartwatch.toml:2: foreign.topic:", "embedded broker"),
        (
            "topic = 'a/{publisher}'\nformat = 'json'\n[[foreign]]\ntopic = 'a/x'\npublisher = 'x'\nformat = 'text'",
            "heartwatch.toml:5: foreign.topic:",
            "line 2 already",
        ),
        (
            "topic = 'a/{publisher}'\nformat = 'json'\n[[foreign]]\ntopic = '{publisher}/b'\nformat = 'text'",
            "heartwatch.toml:5: foreign.topic:",
            "shares some topics with line 2",
        ),
    ] {
        only_mistake(&one(text), start, says);
    }
}

#[test]
fn a_program_is_read_with_its_words_and_its_schema() {
    let text = "[[publisher]]\nid = 'a'\nexec = \"sh -c 'echo 1 2'\"\nenv = 'test'\ndelimiter = ';'\n\
                [[publisher.column]]\nat = 1\nmeasurement = 'climate'\nfield = 't'\nunit = 'C'\nmin = -40\nmax = 60.5\n\
                [[publisher]]\nid = 'b'\nexec = ['sensor']\nzeros_are_defect = false\nexec_restart = 'never'";
    let settings = resolve(text, &[], &Overrides::default()).unwrap().settings;
    let exec = |number: usize| match &settings.publishers[number].feed.as_ref().unwrap().source {
        FeedSource::Exec(options) => options.as_ref().clone(),
        FeedSource::Csv(_) | FeedSource::System(_) => panic!(),
    };
    let first = exec(0);
    assert_eq!((first.words.len(), first.words[2].as_str(), first.env.as_deref()), (3, "echo 1 2", Some("test")));
    assert_eq!(
        (first.schema.columns[0].max, first.schema.delimiter, first.stuck_after()),
        (Some(60.5), Some(';'), None)
    );
    let second = exec(1);
    assert_eq!((second.schema.columns.len(), second.schema.zeros_are_defect), (3, false));
    assert_eq!((second.policy, second.stuck_after()), (RestartPolicy::Never, Some(10)));
}

#[test]
fn a_device_cannot_speak_for_a_publisher_of_ours() {
    let own = "[[publisher]]\nid = 'light-1'\ncsv = 'fixtures/light-1.csv'\n[[publisher]]\nid = 'tele-1'\n";
    let device =
        |publisher: &str| format!("[[foreign]]\ntopic = 'x/{{d}}'\npublisher = '{publisher}'\nformat = 'text'\n{own}");
    only_mistake(&device("light-1"), "heartwatch.toml:2: foreign.publisher:", "'light-1', which is started here");
    let notes = resolve(&device("light-{d}"), &[], &Overrides::default()).unwrap().notes;
    assert!(notes.len() == 1 && notes[0].contains("would speak for the publisher 'light-1'"), "{notes:?}");
    let notes = resolve(&device("tele-{d}"), &[], &Overrides::default()).unwrap().notes;
    assert_eq!(notes, Vec::<String>::new(), "that one is expected, and somebody else's");
}

#[test]
fn rules_are_read_and_their_mistakes_named() {
    let text = "[[rule]]\nname = 'a'\nmeasurement = 'sensor.*'\nreduce = 'mean'\nabove = 7\n\
                [[rule]]\nname = 'b'\nmeasurement = 'm'\nfield = 'x'\nwhere = ['p=q*', 'r!=s']\nby = []\nwindow = '30s'\n\
                reduce = 'third-highest'\nsamples_min = 3\noutside = [-1, 2.5]\nhysteresis = 0.5\nfor = '1m'\n\
                no_data = 'keep'\nseverity = 'critical'\nsummary = 's'\nlink = 'l'\n\
                [[rule]]\nname = 'c'\nmeasurement = 'm'\nreduce = 'last'\nno_data = 'alarm'";
    let rules = settings(text).rules;
    let described: Vec<_> = rules.iter().map(crate::domain::rule::Rule::describe).collect();
    let expected = [
        "mean of sensor.* value over 1 min above 7",
        "third-highest of m x over 30 s outside -1 to 2.5 for 1 min",
        "last of m value over 1 min without data",
    ];
    assert_eq!(described, expected);
    assert_eq!((rules[0].by.as_slice(), rules[1].by.len()), (["publisher".to_owned()].as_slice(), 0));
    assert_eq!(rules[1].tags.iter().map(ToString::to_string).collect::<Vec<_>>(), ["p=q*", "r!=s"]);

    let short = format!("{text}\n[buffer]\nhistory = '40s'");
    let notes = resolve(&short, &[], &Overrides::default()).unwrap().notes;
    assert_eq!(notes.len(), 2, "a and c, not b: {notes:?}");

    let rule = |more: &str| format!("[[rule]]\nname = 'a'\nmeasurement = 'm'\nreduce = 'last'\n{more}");
    only_mistake(&rule(""), "heartwatch.toml:1: rule.above: is missing", "no_data");
    only_mistake(&rule("above = 1\nbelow = 2"), "heartwatch.toml:6: rule.below:", "one of above");
    only_mistake(&rule("within = [2, 1]"), "heartwatch.toml:5: rule.within:", "[1, 3]");
    only_mistake(&rule("above = 1\nwhere = ['x']"), "heartwatch.toml:6: rule.where:", "tag=value");
    only_mistake(&rule("above = 1\nhysteresis = -1"), "heartwatch.toml:6: rule.hysteresis:", "0 or more");
    only_mistake(&rule("above = 1\nwindow = '48h'"), "heartwatch.toml:6: rule.window:", "at most 24h");
    only_mistake(&rule("above = 1\nabov = 2"), "heartwatch.toml:6: rule.abov:", "did you mean 'above'");
    only_mistake(
        &rule("above = 1\n[[rule]]\nname = 'a'\nmeasurement = 'm'\nreduce = 'sum'\nabove = 1"),
        "heartwatch.toml:7: rule.name:",
        "every name once",
    );
    only_mistake(&rule("above = 1").replace("'last'", "'median'"), "heartwatch.toml:4: rule.reduce:", "third-highest");
}
