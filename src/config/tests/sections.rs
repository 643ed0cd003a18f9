//! The sections of many tables: who is told, foreign devices, programs, rules.

use super::*;
use heartwatch_adapters::mail::Encryption;
use heartwatch_adapters::webhook::WebhookConfig;

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
    assert_eq!((mail.host.as_str(), mail.port, mail.encryption), ("::1", 25, Encryption::None));
    let [chat, ops, siren] = all.notify.as_slice() else { panic!("{:?}", all.notify) };
    let Way::Webhook(WebhookConfig { url, secret: Some(_), .. }) = &chat.way else { panic!("{chat:?}") };
    assert_eq!(url.as_str(), "https://hooks.example/hunter2");
    assert!(!format!("{chat:?}").contains("hunter2"), "{chat:?}");
    assert_eq!((chat.target.per_minute_max, chat.target.age_max), (3, Duration::from_secs(3_600)));
    assert_eq!((chat.target.filter.level_min, chat.target.filter.recovery), (2, true));
    assert!(matches!(&ops.way, Way::Email(mail) if mail.to.len() == 2));
    assert!(
        ops.target.filter.to.contains(&Verdict::Late) && ops.target.filter.level_min < 0,
        "a named verdict counts: {ops:?}"
    );
    assert!(matches!(&siren.way, Way::Command(command)
        if command.program == Path::new("siren") && command.arguments == ["--on"]));
    let managed = all.publishers[0].managed.as_ref().unwrap();
    assert_eq!((managed.restart, managed.restart_limits.restarts_max), (RestartPolicy::Always, 3));
    assert_eq!(managed.restart_limits.backoff_max, Duration::from_secs(60));
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
    let exec = |number: usize| match &settings.publishers[number].managed.as_ref().unwrap().feed.source {
        SourceConfig::Exec(options) => options.as_ref().clone(),
        other => panic!("{other:?}"),
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
    let described: Vec<_> = rules.iter().map(heartwatch_domain::rule::Rule::describe).collect();
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
