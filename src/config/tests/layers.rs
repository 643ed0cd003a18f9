//! What the layers make of each other: the default, the file, the environment, a flag.

use super::*;
use heartwatch_formats::values;

#[test]
fn nothing_configured_is_the_defaults() {
    assert_eq!(settings(""), Settings::default());
    let default = Settings::default();
    assert_eq!(default.deadlines.default, Duration::from_secs(50));
    assert_eq!(default.web.unwrap().listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(default.mqtt.prefix.as_str(), "heartwatch");
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
    let file = "watch.deadline = \"10s\"";
    let flags = Overrides { deadline: Some(Duration::from_secs(30)), ..Overrides::default() };
    let environment = [("HEARTWATCH_WATCH_DEADLINE", "20s")];
    let deadline = |file, environment: &[(&str, &str)], flags| {
        resolve(file, environment, flags).unwrap().settings.deadlines.default.as_secs()
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
    assert_eq!(by_flag.mqtt.broker, Broker::At(broker));
    assert_eq!(by_flag.etcd.unwrap().endpoints.len(), 2);
    for wrong in ["", "e1:2379", "ftp://e1:2379", "http://e1:2379/v3", "http://e1,"] {
        only_mistake(&format!("etcd.endpoints = '{wrong}'"), "", "http://127.0.0.1:2379");
    }
    assert_eq!(by_flag.influx.unwrap().token.unwrap().expose(), "from-a-file");
    let listen = [("HEARTWATCH_MQTT_LISTEN", "127.0.0.1:9")];
    let listen = resolve("", &listen, &Overrides::default()).unwrap().settings.mqtt.broker;
    assert_eq!(listen, Broker::Embedded { listen: "127.0.0.1:9".parse().unwrap() });
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
    assert_eq!(broker, Broker::Embedded { listen: "127.0.0.1:5".parse().unwrap() });
    let environment = [("HEARTWATCH_MQTT_URL", "mqtt://h:1883")];
    let broker =
        resolve("[mqtt]\nlisten = '127.0.0.1:5'", &environment, &Overrides::default()).unwrap().settings.mqtt.broker;
    assert_eq!(broker, Broker::At("mqtt://h:1883".parse().unwrap()));
}

#[test]
fn a_secret_comes_from_a_file_or_the_environment_and_is_never_shown() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "from-file\r\n").unwrap();
    let text = format!("influx.url = 'http://i'\ninflux.token_file = '{}'", file.display());
    assert_eq!(settings(&text).influx.unwrap().token.unwrap().expose(), "from-file");

    let environment = [("HEARTWATCH_INFLUX_TOKEN", "from-environment")];
    let loaded = resolve(&text, &environment, &Overrides::default()).unwrap();
    assert_eq!(loaded.settings.influx.as_ref().unwrap().token.as_ref().unwrap().expose(), "from-environment");
    assert!(!format!("{loaded:?}").contains("from-environment"));

    let flags = Overrides { influx_token_file: Some(file.clone()), ..Overrides::default() };
    assert_eq!(
        resolve("influx.url = 'http://i'", &environment, &flags)
            .unwrap()
            .settings
            .influx
            .unwrap()
            .token
            .unwrap()
            .expose(),
        "from-file"
    );

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
    assert_eq!(mqtt.options.login.unwrap().password.expose(), "p");
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
    assert_eq!(
        settings.publishers[0].managed.as_ref().unwrap().feed.source,
        CsvConfig::new(directory.path().join("a.csv")).into()
    );
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
