use super::*;

#[test]
fn sizes_are_read_and_said() {
    assert_eq!(bytes("1GiB"), Ok(1 << 30));
    assert_eq!(bytes("64KiB"), Ok(65_536));
    assert_eq!(bytes("1MB"), Ok(1_000_000));
    assert_eq!(bytes("17"), Ok(17));
    for wrong in ["", "1 GiB", "GiB", "-1", "1.5GiB", "1gib", "99999999999TiB"] {
        assert!(bytes(wrong).unwrap_err().contains("1GiB"), "{wrong}");
    }
    assert_eq!(describe_bytes(1 << 30), "1 GiB");
    assert_eq!(describe_bytes(1_000), "1000 bytes");
}

#[test]
fn proxies_are_addresses_or_networks_of_them_and_not_everybody() {
    let here = "127.0.0.1".parse::<IpAddr>().unwrap();
    assert!(network("127.0.0.1").unwrap().contains(&here));
    assert!(network("127.0.0.0/8").unwrap().contains(&here));
    assert!(network("::1").is_ok() && network("fd00::/8").is_ok());
    for wrong in ["", "localhost", "10.0.0.0/33", "10.0.0.1:80"] {
        assert!(network(wrong).unwrap_err().contains("10.0.0.0/24"), "{wrong}");
    }
    assert!(network("0.0.0.0/0").unwrap_err().contains("every address"));
}

#[test]
fn durations_have_bounds() {
    assert_eq!(duration("0"), Ok(Duration::ZERO));
    assert!(positive_duration("0s").unwrap_err().contains("longer than 0"));
    assert!(duration("400d").unwrap_err().contains("365d"));
    assert!(duration("5x").unwrap_err().contains("250ms"));
}

#[test]
fn urls_name_what_would_be_right_and_repeat_no_password() {
    assert!(mqtt_url("mqtt://10.0.0.1:1883").is_ok());
    assert!(mqtt_url("mqtts://broker.example").is_ok());
    for wrong in ["localhost:1883", "http://host", "mqtt://", "mqtt:///x", "", "mqtt://host:1883/topic"] {
        assert!(mqtt_url(wrong).unwrap_err().contains("mqtt://host:1883"), "{wrong}");
    }
    assert!(influx_url("https://proxy.example/influx").is_ok());
    assert!(influx_url("127.0.0.1:8086").unwrap_err().contains("http://127.0.0.1:8086"));
    assert!(influx_url("http://h:8086/?db=x").is_err());
    for secret in
        ["mqtt://u:hunter2@h", "mqtt://hunter2@h:x", "mqtt://u:hunter2%40h", "mqtt://h/hunter2", "u:hunter2@h"]
    {
        assert!(!mqtt_url(secret).unwrap_err().contains("hunter2"));
    }
    for secret in ["http://h:8086/?u=ada&p=hunter2", "http://h:8086/#hunter2", "htp://h/hunter2"] {
        assert!(!influx_url(secret).unwrap_err().contains("hunter2"), "{secret}");
        assert!(!without_secrets(secret).contains("hunter2"), "{secret}");
    }
    assert!(!web_url("htps://hooks.example/services/hunter2").unwrap_err().contains("hunter2"));
    assert!(!monitor_url("http://u:hunter2@h").unwrap_err().contains("hunter2"));
    assert!(!kafka_brokers("u:hunter2@h").unwrap_err().contains("hunter2"));
    assert!(!host_and_port("u:hunter2@h:1").unwrap_err().contains("hunter2"));
    assert!(!address("u:hunter2@127.0.0.1:1").unwrap_err().contains("hunter2"));
    assert!(!"u:hunter2@h".parse::<WebListen>().unwrap_err().contains("hunter2"));
    assert!(!"http://h,http://u:hunter2@h".parse::<EtcdEndpoints>().unwrap_err().contains("hunter2"));
}

#[test]
fn a_text_is_repeated_without_what_may_be_secret() {
    for (text, shown) in [
        ("127.0.0.1:8086", "127.0.0.1:8086"),
        ("http://h:8086", "http://h:8086"),
        ("http://h:8086/", "http://h:8086/"),
        ("http://h/a/b", "http://h/…"),
        ("mqtt://u:p@w@h:1", "mqtt://…@h:1"),
        ("u:p@h:9092", "…@h:9092"),
        ("h?p=x", "h/…"),
        ("ümläut", "ümläut"),
    ] {
        assert_eq!(without_secrets(text), shown);
    }
}

#[test]
fn a_page_has_an_address_or_is_off() {
    assert_eq!("off".parse(), Ok(WebListen(None)));
    assert_eq!("[::1]:80".parse(), Ok(WebListen(Some("[::1]:80".parse().unwrap()))));
    assert!("8080".parse::<WebListen>().unwrap_err().contains("or off"));
    assert!(address("localhost:1883").is_err());
}

#[test]
fn columns_and_forms_of_time_survive_their_text() {
    for text in ["auto", "none", "3", "taken at"] {
        assert_eq!(time_column_text(&time_column(text).unwrap()), text);
    }
    assert!(time_column("0").unwrap_err().contains("from 1"));
    for format in TimeFormat::ALL.map(Some).into_iter().chain([None]) {
        assert_eq!(TimeForm(format).to_string().parse(), Ok(TimeForm(format)));
    }
    assert_eq!("mdy".parse(), Ok(TimeForm(Some(TimeFormat::MonthFirst))));
    assert_eq!("unix_s".parse(), Ok(TimeForm(Some(TimeFormat::UnixS))));
    assert!("ydm".parse::<TimeForm>().unwrap_err().contains("month-first"));
}

#[test]
fn names_that_would_break_a_topic_or_a_row_are_refused() {
    assert!(topic_prefix("plant-7/heartwatch").is_ok());
    for wrong in ["", "a//b", "+", "#", "$SYS", "a\nb"] {
        assert!(topic_prefix(wrong).is_err(), "{wrong}");
    }
    assert!(id_pattern("light-*").is_ok());
    assert!(id_pattern("light *").is_err());
    assert!(measurement("heartwatch_verdict").is_err() && measurement("sensor_defect").is_err());
    assert!(measurement("light").is_ok());
}
