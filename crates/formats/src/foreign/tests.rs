//! Every form of payload, what is wrong in it, and any bytes at all.

use proptest::prelude::*;

use super::*;
use crate::line_protocol::Rows;

fn device(topic: &str, payload: Payload) -> Foreign {
    let topic = TopicPattern::parse(topic).unwrap();
    let publisher = Template::parse("{publisher}", &topic).or_else(|_| Template::parse("collectd-{host}", &topic));
    let host = Template::parse("{host}", &topic).ok();
    Foreign { publisher: publisher.unwrap(), host, measurement: None, payload, topic }
}

const WALL: Timestamp = Timestamp::from_nanos(1_700_000_000_000_000_000);

fn read(device: &Foreign, topic: &str, payload: &str) -> ForeignReading {
    device.read(topic, payload.as_bytes(), WALL, false).unwrap().unwrap()
}

fn lines(reading: &ForeignReading) -> Vec<&str> {
    std::str::from_utf8(&reading.lines).unwrap().lines().collect()
}

fn refused(device: &Foreign, topic: &str, payload: &str) -> String {
    device.read(topic, payload.as_bytes(), WALL, false).unwrap().unwrap_err().to_string()
}

fn whole_json() -> Payload {
    Payload::Json { fields: Vec::new(), time: None }
}

#[test]
fn a_pattern_names_levels_and_is_a_filter() {
    let pattern = TopicPattern::parse("tele/{publisher}/+/{room}/#").unwrap();
    assert_eq!(pattern.filter(), "tele/+/+/+/#");
    let levels = pattern.captures("tele/kitchen/x/r1/a/b").unwrap();
    assert_eq!(levels.named().collect::<Vec<_>>(), [("publisher", "kitchen"), ("room", "r1")]);
    assert!(pattern.captures("tele/kitchen/x/r1").is_some(), "'#' is also no level at all");
    assert_eq!(pattern.captures("tele/kitchen/x"), None);
    assert_eq!(TopicPattern::parse("#").unwrap().captures("$SYS/x"), None);
    for (wrong, why) in [
        ("", "1 to"),
        ("a/#/b", "at the end only"),
        ("a/{x}/{x}", "twice"),
        ("a/{X}", "no name"),
        ("a/b+", "beside other text"),
        ("a/x{y}", "beside other text"),
    ] {
        assert!(TopicPattern::parse(wrong).unwrap_err().to_string().contains(why), "{wrong}");
    }
}

#[test]
fn json_is_read_whole_or_by_path() {
    let whole = device("tele/{publisher}/{room}", whole_json());
    let reading = read(&whole, "tele/kit chen/r1", r#"{"DHT22":{"Temperature":21,"ok":true},"list":[1.5,null]}"#);
    assert_eq!((reading.publisher.as_str(), reading.host.as_str()), ("kit-chen", "kit-chen"));
    let row = "kit-chen,host=kit-chen,publisher=kit-chen,room=r1 \
               DHT22_Temperature=21.0,DHT22_ok=true,list_0=1.5 1700000000000000000";
    assert_eq!(lines(&reading), [row]);

    let field = |name: &str, path: &str, kind| Field {
        name: name.to_owned(),
        at: Path(path.split('.').map(ToOwned::to_owned).collect()),
        kind,
    };
    let fields = vec![field("t", "a.b", CellType::Float), field("n", "c.0", CellType::Integer)];
    let time = Some(TimeAt { at: Path(vec!["Time".to_owned()]), format: None });
    let some = device("tele/{publisher}", Payload::Json { fields, time });
    let reading = read(&some, "tele/x", r#"{"Time":"2023-11-14T22:13:20Z","a":{"b":"21.5"},"c":[7],"rest":1}"#);
    assert_eq!(lines(&reading), ["x,host=x,publisher=x t=21.5,n=7i 1700000000000000000"]);
    assert_eq!(reading.problem, None);

    let half = read(&some, "tele/x", r#"{"Time":1700000000,"a":{"b":"high"},"c":[7]}"#);
    assert_eq!((half.rows, half.problem.as_deref()), (1, Some("a.b (t) has '\"high\"' where a number is expected")));
    assert!(refused(&some, "tele/x", "{").contains("no JSON"));
    assert!(refused(&some, "tele/x", "[1]").contains("not a JSON object"));
    assert!(refused(&some, "tele/x", r#"{"Time":1700000000,"other":1}"#).contains("none of its fields"));
}

#[test]
fn line_protocol_keeps_its_measurements_tags_and_times() {
    let device = device("lp/{publisher}", Payload::LineProtocol);
    let reading = read(&device, "lp/x", "cpu,host=h,cpu=0 usage=1 5\nbad\nmem free=2i\nmem free=3i\n");
    assert_eq!(
        lines(&reading),
        [
            "cpu,cpu=0,host=x,publisher=x,source_host=h usage=1.0 5",
            "mem,host=x,publisher=x free=2i 1700000000000000000",
            "mem,host=x,publisher=x free=3i 1700000000000000001",
        ]
    );
    assert!(reading.problem.unwrap().contains("byte 4"));
    assert!(refused(&device, "lp/x", "heartwatch_verdict level=0i").contains("the monitor's own"));
    assert!(refused(&device, "lp/x", "sensor_defect value=1i").contains("the error metrics"));
}

#[test]
fn numbers_texts_and_rows_of_csv() {
    let number = device("n/{publisher}", Payload::Number);
    assert_eq!(lines(&read(&number, "n/x", " 21 \n\0")), ["x,host=x,publisher=x value=21.0 1700000000000000000"]);
    assert!(refused(&number, "n/x", "NaN").contains("not a finite number"));
    let text = device("t/{publisher}", Payload::Text);
    assert_eq!(lines(&read(&text, "t/x", "ON")), ["x,host=x,publisher=x text=\"ON\" 1700000000000000000"]);

    let plain = device("c/{publisher}", Payload::Csv { delimiter: b',', fields: Vec::new(), time: None });
    assert_eq!(
        lines(&read(&plain, "c/x", "1,,2.5\n")),
        ["x,host=x,publisher=x value_1=1.0,value_3=2.5 1700000000000000000"]
    );
    assert_eq!(lines(&read(&plain, "c/x", "7")), ["x,host=x,publisher=x value=7.0 1700000000000000000"]);
    let fields = vec![Field { name: "lux".to_owned(), at: 1, kind: CellType::Integer }];
    let time = Some(TimeAt { at: 0, format: Some(TimeFormat::UnixS) });
    let named = device("c/{publisher}", Payload::Csv { delimiter: b';', fields, time });
    assert_eq!(lines(&read(&named, "c/x", "1600000000;5;x")), ["x,host=x,publisher=x lux=5i 1600000000000000000"]);
    assert!(
        refused(&named, "c/x", "1600000000;high").contains("column 2 (lux) has 'high' where an integer is expected")
    );
}

#[test]
fn collectd_reads_like_the_listener_of_influxdb() {
    let device = device("collectd/{host}/{plugin}/{type}", Payload::Collectd);
    let reading = read(&device, "collectd/h1/interface-eth0/if_octets", "1600000000.250:10:20.5\0");
    assert_eq!((reading.publisher.as_str(), reading.host.as_str()), ("collectd-h1", "h1"));
    assert_eq!(
        lines(&reading),
        [
            "interface_rx,host=h1,instance=eth0,publisher=collectd-h1,type=if_octets value=10.0 1600000000250000000",
            "interface_tx,host=h1,instance=eth0,publisher=collectd-h1,type=if_octets value=20.5 1600000000250000000",
        ]
    );
    let percent = read(&device, "collectd/h1/cpu/percent-user", "1600000000:3");
    let row = "cpu_value,host=h1,publisher=collectd-h1,type=percent,type_instance=user value=3.0 1600000000000000000";
    assert_eq!(lines(&percent), [row]);
    let first = read(&device, "collectd/h1/disk-sda/disk_ops", "1600000000:nan:nan\0");
    assert_eq!((first.rows, first.problem), (0, None), "a rate before its second sample is no mistake");
    assert!(refused(&device, "collectd/h1/cpu/percent-user", "x:3").contains("no epoch"));
    assert!(refused(&device, "collectd/h1/cpu/percent-user", "5:x").contains("not a number"));
}

#[test]
fn old_news_of_unknown_age_gives_no_row() {
    let number = device("n/{publisher}", Payload::Number);
    let kept = number.read("n/x", b"5", WALL, true).unwrap().unwrap();
    assert_eq!(kept.rows, 0);
    let rows = device("n/{publisher}", Payload::LineProtocol);
    assert_eq!(rows.read("n/x", b"m v=1 5", WALL, true).unwrap().unwrap().rows, 1);
}

#[test]
fn who_it_is_must_be_said() {
    let number = device("n/{publisher}", Payload::Number);
    assert!(refused(&number, "n/", "5").contains("publisher id"));
    assert!(refused(&number, &format!("n/{}", "x".repeat(200)), "5").contains("publisher id"));
    assert_eq!(number.read("m/x", b"5", WALL, false), None);
    let large = vec![b'1'; PAYLOAD_BYTES_MAX + 1];
    assert!(matches!(number.read("n/x", &large, WALL, false), Some(Err(ForeignError::Oversized { .. }))));
}

fn filter() -> impl Strategy<Value = String> {
    let level = prop_oneof![Just("a"), Just("b"), Just("+")];
    (proptest::collection::vec(level, 1..4), any::<bool>()).prop_map(|(levels, rest)| {
        let levels = levels.join("/");
        if rest { format!("{levels}/#") } else { levels }
    })
}

proptest! {
    #[test]
    fn any_bytes_give_rows_that_can_be_read_again(payload in proptest::collection::vec(any::<u8>(), 0..200), form in 0..6) {
        let payload_form = match form {
            0 => whole_json(),
            1 => Payload::LineProtocol,
            2 => Payload::Number,
            3 => Payload::Text,
            4 => Payload::Csv { delimiter: b',', fields: Vec::new(), time: None },
            _ => Payload::Collectd,
        };
        let device = device("x/{host}/{plugin}/{type}/{publisher}", payload_form);
        if let Some(Ok(reading)) = device.read("x/h/p-1/t/d", &payload, WALL, false) {
            let rows: Vec<_> = Rows::of(&reading.lines).collect();
            prop_assert_eq!(rows.len() as u64, reading.rows);
            for row in rows {
                let row = line_protocol::decode(row).unwrap();
                prop_assert!(row.time.is_some());
                prop_assert!(row.tags.contains(&("publisher".to_owned(), "d".to_owned())));
            }
        }
    }

    #[test]
    fn any_json_gives_rows_or_a_reason(text in r#"\{("[a-c]{0,2}":(-?[1-9][0-9]{0,2}(\.[0-9])?|"[a-z]{0,3}"|\{"x":1\}|null|true),){0,4}"z":1\}"#) {
        let device = device("x/{publisher}", whole_json());
        let reading = device.read("x/d", text.as_bytes(), WALL, false).unwrap();
        prop_assert!(reading.is_ok_and(|reading| reading.rows == 1) || text.contains("\"\":"));
    }

    #[test]
    fn a_filter_that_covers_or_overlaps_another_shares_its_topics(a in filter(), b in filter(), topic in "(a|b)(/(a|b)){0,3}") {
        let (one, other) = (TopicPattern::parse(&a).unwrap(), TopicPattern::parse(&b).unwrap());
        let (in_one, in_other) = (one.captures(&topic).is_some(), other.captures(&topic).is_some());
        prop_assert!(!covers(&a, &b) || !in_other || in_one, "{a} covers {b} but not {topic}");
        prop_assert!(overlap(&a, &b) || !(in_one && in_other), "{a} and {b} share {topic}");
    }

    #[test]
    fn any_text_is_a_pattern_or_says_why_not(text in "\\PC{0,30}") {
        if let Ok(pattern) = TopicPattern::parse(&text) {
            let _ = pattern.captures(&text);
            let filter = pattern.filter();
            let named = filter.contains('{');
            prop_assert!(!named);
        }
    }
}
