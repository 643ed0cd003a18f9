use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use heartwatch_domain::beat::Heartbeat;
use heartwatch_domain::confirmers::Confirmer;
use heartwatch_domain::intake::DeliveryState;
use heartwatch_domain::journal_id::JournalId;
use heartwatch_domain::process::ProcessIdentity;
use heartwatch_domain::publisher::{HostName, Incarnation, PublisherId};
use heartwatch_domain::reading::{FieldValue, Reading};
use heartwatch_domain::sequence::SEQUENCE_MAX;
use heartwatch_domain::time::Timestamp;

fn publisher() -> PublisherId {
    PublisherId::parse("light-1").unwrap()
}

fn host() -> HostName {
    HostName::parse("h").unwrap()
}

fn reading(sequence: u64, fields: Vec<(&str, FieldValue)>) -> Reading {
    Reading {
        sequence,
        time: Timestamp::from_nanos(1_763_683_203_214_000_000),
        measurement: "light".to_owned(),
        tags: vec![("room".to_owned(), "a \"b\"".to_owned())],
        fields: fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
    }
}

fn said(kind: TopicKind, payload: &str) -> String {
    decode(kind, &publisher(), payload.as_bytes()).unwrap_err().to_string()
}

#[test]
fn a_topic_is_what_it_was_built_from() {
    let prefix = Prefix::parse("plant/heartwatch").unwrap();
    for kind in TopicKind::FROM_PUBLISHERS.into_iter().chain([TopicKind::Confirm]) {
        let topic = prefix.topic(&publisher(), kind);
        assert_eq!(Topic::parse(&prefix, &topic), Ok(Topic { publisher: publisher(), kind }));
    }
    assert_eq!(
        Prefix::default().monitor_filters(),
        [
            "heartwatch/v1/+/readings",
            "heartwatch/v1/+/heartbeat",
            "heartwatch/v1/+/goodbye",
            "heartwatch/v1/+/last-will",
            "heartwatch/v1/+/given-up"
        ]
    );
    assert_eq!(Prefix::default().publisher_filters(&publisher()), ["heartwatch/v1/light-1/confirm"]);
}

#[test]
fn other_topics_are_told_apart() {
    let prefix = Prefix::default();
    let parse = |topic| Topic::parse(&prefix, topic).unwrap_err();
    assert!(matches!(parse("heartwatcher/v1/a/readings"), TopicError::Foreign { .. }));
    assert!(matches!(parse("heartwatch/v2/a/readings"), TopicError::Foreign { .. }));
    assert!(matches!(parse("heartwatch/v1/a"), TopicError::Shape { .. }));
    assert!(matches!(parse("heartwatch/v1/a/readings/x"), TopicError::Shape { .. }));
    assert!(matches!(parse("heartwatch/v1/a b/readings"), TopicError::Publisher { .. }));
    assert!(parse("heartwatch/v1/a/reading").to_string().contains("'reading', which is none of readings"));
    for wrong in ["", "/", "a/", "/a", "a//b", "a/+", "#", "$SYS", "a b", &"x".repeat(129)] {
        assert!(Prefix::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_documented_payloads_are_read() {
    let payload = r#"{"v":1,"host":"h","incarnation":17,"extra":[{}],"readings":[
        {"seq":1,"time":1763683203214000000,"measurement":"m","tags":{"room":"a"},
         "fields":{"lux":5.0,"count":5,"on":true,"text":"x\ny","e":1e3},"new":null}]}"#;
    let Ok(Message::Readings(batch)) = decode(TopicKind::Readings, &publisher(), payload.as_bytes()) else {
        panic!("not readings");
    };
    let fields: Vec<FieldValue> = batch.readings[0].fields.iter().map(|(_, value)| value.clone()).collect();
    assert_eq!(
        fields,
        [
            FieldValue::Float(5.0),
            FieldValue::Integer(5),
            FieldValue::Boolean(true),
            FieldValue::Text("x\ny".to_owned()),
            FieldValue::Float(1000.0)
        ]
    );
    let will = decode(TopicKind::LastWill, &publisher(), br#"{"v":1,"host":"h","incarnation":17}"#);
    assert_eq!(will, Ok(Message::LastWill(LastWill { host: host(), incarnation: Incarnation(17) })));
}

#[test]
fn an_error_names_the_key_and_what_would_be_right() {
    let message = |readings: &str| format!(r#"{{"v":1,"host":"h","incarnation":1,"readings":[{readings}]}}"#);
    let readings = |reading: &str| said(TopicKind::Readings, &message(reading));
    // one with a number is refused by it
    let refused = |reading: &str| {
        let payload = message(reading);
        let read = decode(TopicKind::Readings, &publisher(), payload.as_bytes());
        let Ok(Message::Readings(batch)) = read else { panic!("{read:?}") };
        let [(1, problem)] = batch.refused.as_slice() else { panic!("{batch:?}") };
        assert!(batch.readings.is_empty() && batch.problem.is_none());
        format!("'light-1': {problem}")
    };
    for (text, words) in [
        (said(TopicKind::Readings, "{"), "the payload is not JSON"),
        (said(TopicKind::Readings, "[]"), "should be an object"),
        (said(TopicKind::LastWill, r#"{"v":2,"other":1}"#), "key 'v' is 2: this program reads version 1"),
        (said(TopicKind::LastWill, r#"{"v":2,"host":"h","incarnation":1}"#), "key 'v' is 2"),
        (said(TopicKind::LastWill, r#"{"v":1,"host":"a/b","incarnation":1}"#), "key 'host' should be"),
        (said(TopicKind::Goodbye, r#"{"v":1,"host":"h","incarnation":1}"#), "key 'sequence' should be a whole"),
        (said(TopicKind::Confirm, "{}"), "only the monitor"),
        (readings(""), "key 'readings' should be 1 to"),
        (readings("{}"), "'readings[0].seq' should be"),
        (readings(r#"{"seq":-1,"time":1,"measurement":"m","fields":{"a":1}}"#), "'readings[0].seq' should be"),
        (readings(r#"{"seq":9007199254740993,"time":1,"measurement":"m","fields":{"a":1}}"#), "from 1 to 90071992547"),
        (refused(r#"{"seq":1,"time":1.5,"measurement":"m","fields":{"a":1}}"#), "'readings[0].time' should be"),
        (readings(r#"{"seq":0,"time":1,"measurement":"m","fields":{"a":1}}"#), "'readings[0].seq' should be"),
        (refused(r#"{"seq":1,"time":1,"measurement":"m","fields":{}}"#), "'readings[0].fields' should be 1 to"),
        (refused(r#"{"seq":1,"time":1,"measurement":"","fields":{"a":1}}"#), "'readings[0].measurement'"),
        (refused(r#"{"seq":1,"time":1,"measurement":"m","fields":{"a":null}}"#), "'readings[0].fields.a'"),
        (refused(r#"{"seq":1,"time":1,"measurement":"m","fields":{"a":1,"a":2}}"#), "found it twice"),
        (refused(r#"{"seq":1,"time":1,"measurement":"m","fields":{"a":9223372036854775808}}"#), "64-bit signed"),
        (refused(r#"{"seq":1,"time":1,"measurement":"m","tags":{"host":"x"},"fields":{"a":1}}"#), "tags.host"),
        (refused(r#"{"seq":1,"time":1,"measurement":"m","tags":{"x":"a\nb"},"fields":{"a":1}}"#), "tags.x"),
    ] {
        assert!(text.contains(words) && text.contains("'light-1'"), "{text} / {words}");
    }
}

#[test]
fn a_reading_that_cannot_be_taken_costs_its_neighbours_nothing() {
    let good = |seq: u64| format!(r#"{{"seq":{seq},"time":1,"measurement":"m","fields":{{"a":1.5}}}}"#);
    let bad_value = r#"{"seq":2,"time":1,"measurement":"m","fields":{"a":18446744073709551615}}"#;
    let bad_tag = r#"{"seq":3,"time":1,"measurement":"m","tags":{"host":"x"},"fields":{"a":1}}"#;
    for (bad, numbers, nameless) in [
        (bad_value.to_owned(), vec![2], false),
        (bad_tag.to_owned(), vec![3], false),
        (format!("{bad_value},{bad_tag}"), vec![2, 3], false),
        (format!("{bad_tag},7,{{}}"), vec![3], true),
        ("null".to_owned(), vec![], true),
    ] {
        let payload = format!(r#"{{"v":1,"host":"h","incarnation":1,"readings":[{},{bad},{}]}}"#, good(1), good(9));
        let read = decode(TopicKind::Readings, &publisher(), payload.as_bytes());
        let Ok(Message::Readings(batch)) = read else { panic!("{bad}: {read:?}") };
        assert_eq!(batch.readings.iter().map(|reading| reading.sequence).collect::<Vec<_>>(), [1, 9], "{bad}");
        assert_eq!(batch.readings[1].fields, [("a".into(), FieldValue::Float(1.5))]);
        assert_eq!(batch.refused.iter().map(|(number, _)| *number).collect::<Vec<_>>(), numbers, "{bad}");
        assert_eq!(batch.problem.is_some(), nameless, "{bad}");
    }
}

#[test]
fn limits_hold_on_both_sides() {
    let large = vec![b' '; PAYLOAD_BYTES_MAX + 1];
    assert!(decode(TopicKind::Readings, &publisher(), &large).unwrap_err().is_oversized());
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let refused = encode_readings(
            &host(),
            Incarnation(1),
            &[reading(1, vec![("lux", FieldValue::Float(value))])],
            PAYLOAD_BYTES_MAX,
        );
        assert!(refused.unwrap_err().to_string().contains("readings[0].fields.lux' should be a finite number"));
    }
    let text = FieldValue::Text("x".repeat(TEXT_BYTES_MAX + 1));
    assert!(check(&reading(1, vec![("text", text)])).is_err());
    let many: Vec<_> = (0..=FIELDS_MAX).map(|n| (n.to_string(), FieldValue::Integer(1))).collect();
    assert!(check(&Reading { fields: many, ..reading(1, vec![]) }).is_err());
    assert!(check(&reading(0, vec![("no number yet", FieldValue::Integer(1))])).is_ok());
    assert!(
        encode_readings(&host(), Incarnation(1), &[reading(0, vec![("a", FieldValue::Integer(1))])], PAYLOAD_BYTES_MAX)
            .is_err()
    );
}

#[test]
fn a_large_batch_becomes_messages_that_are_taken() {
    // the worst text: every byte is six in JSON
    let text = "\u{1}".repeat(TEXT_BYTES_MAX);
    let readings: Vec<_> = (1..=7).map(|n| reading(n, vec![("text", FieldValue::Text(text.clone()))])).collect();
    let messages = encode_readings(&host(), Incarnation(1), &readings, PAYLOAD_BYTES_MAX).unwrap();
    assert!(messages.len() > 1);
    let mut back = Vec::new();
    for message in &messages {
        match decode(TopicKind::Readings, &publisher(), message) {
            Ok(Message::Readings(batch)) => back.extend(batch.readings.into_iter().map(Reading::into_owned)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(back, readings);
    let small: Vec<_> = (1..=12_000).map(|n| reading(n, vec![("a", FieldValue::Integer(1))])).collect();
    assert_eq!(encode_readings(&host(), Incarnation(1), &small, PAYLOAD_BYTES_MAX).unwrap().len(), 3);
    let short = encode_readings(&host(), Incarnation(1), &small, 2_000).unwrap();
    assert!(short.len() > 3 && short.iter().all(|message| message.len() <= 2_000), "a broker's own limit");
    assert!(encode_readings(&host(), Incarnation(1), &[], PAYLOAD_BYTES_MAX).unwrap().is_empty());
}

#[test]
fn a_confirmation_that_contradicts_itself_is_refused() {
    let read = |text: &str| decode_confirm(&publisher(), text.as_bytes());
    assert!(read(r#"{"v":1,"incarnation":1,"through":7,"highest":9,"gaps":[[8,8]]}"#).is_ok());
    for wrong in [
        r#"{"v":1,"incarnation":1,"through":9,"highest":7,"gaps":[]}"#,
        r#"{"v":1,"incarnation":1,"through":7,"highest":9,"gaps":[[7,8]]}"#,
        r#"{"v":1,"incarnation":1,"through":7,"highest":9,"gaps":[[9,8]]}"#,
        r#"{"v":1,"incarnation":1,"through":7,"highest":9,"gaps":[[8,10]]}"#,
        r#"{"v":1,"incarnation":1,"through":7,"highest":9,"gaps":[[8]]}"#,
        r#"{"v":1,"incarnation":1,"through":7,"highest":9}"#,
    ] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

fn value() -> impl Strategy<Value = FieldValue> {
    prop_oneof![
        any::<f64>().prop_filter("finite", |float| float.is_finite()).prop_map(FieldValue::Float),
        (-1000i32..1000).prop_map(|whole| FieldValue::Float(f64::from(whole))),
        any::<i64>().prop_map(FieldValue::Integer),
        any::<bool>().prop_map(FieldValue::Boolean),
        any::<String>().prop_map(FieldValue::Text),
    ]
}

fn any_reading() -> impl Strategy<Value = Reading> {
    let name = "[^\\p{Cc}]{1,20}";
    let tags = btree_map("t[^\\p{Cc}]{0,8}", "[^\\p{Cc}]{0,12}", 0..4);
    let fields = btree_map(name, value(), 1..6);
    (1..=SEQUENCE_MAX, any::<i64>(), name, tags, fields).prop_map(|(sequence, time, measurement, tags, fields)| {
        Reading {
            sequence,
            time: Timestamp::from_nanos(time),
            measurement,
            tags: tags.into_iter().collect(),
            fields: fields.into_iter().collect(),
        }
    })
}

/// Equal to the last bit, which `==` on floats is not for `-0.0`.
fn same(a: &[Reading], b: &[Reading]) -> bool {
    format!("{a:?}") == format!("{b:?}")
}

proptest! {
    #[test]
    fn readings_come_back_as_they_were(readings in vec(any_reading(), 1..8), incarnation in 0..=NUMBER_MAX) {
        let messages = encode_readings(&host(), Incarnation(incarnation), &readings, PAYLOAD_BYTES_MAX).unwrap();
        prop_assert_eq!(messages.len(), 1);
        match decode(TopicKind::Readings, &publisher(), &messages[0]) {
            Ok(Message::Readings(batch)) => {
                let back: Vec<Reading> = batch.readings.into_iter().map(Reading::into_owned).collect();
                prop_assert!(same(&back, &readings), "{:?} {:?}", back, readings);
                prop_assert_eq!(batch.incarnation, Incarnation(incarnation));
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn the_other_messages_come_back_as_they_were(
        numbers in vec(1..=NUMBER_MAX, 4), interval_ms in any::<u32>(), idle in any::<bool>(),
        pid in proptest::option::of(any::<u32>()), cursor in any::<u64>(), reason in "[^\\p{Cc}]{0,200}",
    ) {
        let incarnation = Incarnation(numbers[0]);
        let process = pid.map(|pid| ProcessIdentity { pid, start_ticks: cursor, boot_id: "b-1".into() });
        let heartbeat = Heartbeat {
            is_agent: false,
            outbox_stalled: idle.then(|| Duration::from_millis(u64::from(interval_ms))),
            incarnation, process, sequence: numbers[1], cursor, idle,
            interval: Duration::from_millis(u64::from(interval_ms)),
        };
        let earlier = vec![(Incarnation(numbers[3]), numbers[1])];
        let count = ErrorCount {
            measurement: "connectivity_error".to_owned(),
            value: numbers[1],
            at: Timestamp::from_nanos(i64::from(interval_ms)),
        };
        let errors = ErrorNote { env: idle.then(|| "plant".to_owned()), counts: vec![count] };
        let note = HeartbeatNote { host: host(), heartbeat, confirmed: numbers[2], earlier, errors };
        let payload = encode_heartbeat(&note);
        let back = decode(TopicKind::Heartbeat, &publisher(), &payload);
        prop_assert_eq!(back, Ok(Message::Heartbeat(Box::new(note.clone()))));
        let too_many = HeartbeatNote { earlier: vec![(Incarnation(1), 1); EARLIER_MAX + 9], ..note };
        prop_assert!(decode(TopicKind::Heartbeat, &publisher(), &encode_heartbeat(&too_many)).is_ok(), "the rest is left out");

        let goodbye = Goodbye { host: host(), incarnation, sequence: numbers[1] };
        let payload = encode_goodbye(&goodbye);
        let back = decode(TopicKind::Goodbye, &publisher(), &payload);
        prop_assert_eq!(back, Ok(Message::Goodbye(goodbye)));

        let will = LastWill { host: host(), incarnation };
        let payload = encode_last_will(&will);
        let back = decode(TopicKind::LastWill, &publisher(), &payload);
        prop_assert_eq!(back, Ok(Message::LastWill(will)));

        let (first, last) = (numbers[1].min(numbers[2]), numbers[1].max(numbers[2]));
        let confirmed_by = [None, Some(Confirmer::Unnamed), Some(Confirmer::of(Some(JournalId::from_bits(first.into()))))];
        let confirmed_by = confirmed_by[usize::try_from(last % 3).unwrap()];
        let given_up = GivenUp { host: host(), incarnation, first, last, reason, confirmed_by };
        let payload = encode_given_up(&given_up);
        let back = decode(TopicKind::GivenUp, &publisher(), &payload);
        prop_assert_eq!(back, Ok(Message::GivenUp(given_up)));
    }

    #[test]
    fn a_confirmation_comes_back_as_it_was(steps in vec(1u64..1000, 0..20), refused in 0u64..3) {
        let mut at = 5;
        let mut gaps = Vec::new();
        for pair in steps.chunks_exact(2) {
            let first = at + pair[0];
            let last = first + pair[1];
            gaps.push((first, last));
            at = last + 1;
        }
        let state = DeliveryState {
            publisher: publisher(), incarnation: Incarnation(3), through: 5, highest: at + 1, gaps,
            produced: at + refused, refused, journal: (refused > 0).then(|| JournalId::from_bits(at.into())),
        };
        let confirmation = Confirmation { state, deadline: (refused != 1).then(|| Duration::from_millis(at)) };
        prop_assert_eq!(decode_confirm(&publisher(), &encode_confirm(&confirmation)), Ok(confirmation));
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200), text in any::<String>()) {
        for kind in TopicKind::FROM_PUBLISHERS.into_iter().chain([TopicKind::Confirm]) {
            let _ = decode(kind, &publisher(), &bytes);
            let _ = decode(kind, &publisher(), text.as_bytes());
        }
        let _ = decode_confirm(&publisher(), &bytes);
        let _ = Topic::parse(&Prefix::default(), &text);
        let _ = Topic::parse(&Prefix::default(), &format!("heartwatch/v1/{text}"));
        let _ = Prefix::parse(&text);
    }

    #[test]
    fn a_damaged_message_never_panics(readings in vec(any_reading(), 1..3), at in any::<usize>(), with in any::<u8>()) {
        let mut payload = encode_readings(&host(), Incarnation(1), &readings, PAYLOAD_BYTES_MAX).unwrap().remove(0);
        let at = at % payload.len();
        payload[at] = with;
        let _ = decode(TopicKind::Readings, &publisher(), &payload);
    }
}
