//! Every mistake has its line and key, and all of them come at once.

use super::*;

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
fn what_a_mistake_cites_cannot_break_its_line_or_steer_the_terminal() {
    let text = "\"\\u001b[31m\\nb\" = 1\n[watch]\ndeadline = '''\n5x\n'''\n";
    let expected = [
        "heartwatch.toml:1: \\u{1b}[31m\\nb: unknown key",
        "heartwatch.toml:3: watch.deadline: '5x\\n' is not a duration like 250ms, 5s, 2m or 1h",
    ];
    assert_eq!(mistakes(text), expected);
}

#[test]
fn a_mistake_that_cites_the_rest_of_the_file_still_says_what_is_right() {
    let text = format!("[watch]\ndeadline = \"{}\"", "ä".repeat(5_000));
    let mistakes = mistakes(&text);
    assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
    let mistake = &mistakes[0];
    assert!(mistake.starts_with("heartwatch.toml:2: watch.deadline: 'ää"), "{mistake}");
    assert!(mistake.ends_with("ää' is not a duration like 250ms, 5s, 2m or 1h"), "{mistake}");
    assert!(mistake.contains("ä … ä") && mistake.chars().count() < 500, "{mistake}");
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
