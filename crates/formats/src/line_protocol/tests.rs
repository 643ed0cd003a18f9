//! The encoder and the decoder against each other, and against what InfluxDB is known to do.

use proptest::prelude::*;

use super::*;
use heartwatch_domain::publisher::{HostName, PublisherId};
use heartwatch_domain::reading::{FieldValue, Reading};
use heartwatch_domain::time::Timestamp;

fn encoded(
    measurement: &str,
    tags: &[(&str, &str)],
    fields: &[(&str, FieldValue)],
    nanos: i64,
) -> Result<String, EncodeError> {
    let mut out = b"before".to_vec();
    let fields = fields.iter().map(|(key, value)| (*key, value));
    let result = encode(&mut out, measurement, tags.iter().copied(), fields, Timestamp::from_nanos(nanos));
    let text = String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned();
    assert_eq!(result.is_err(), text.is_empty(), "nothing is written of a row that is refused");
    result.map(|()| text)
}

#[test]
fn every_kind_of_value_is_written_in_influxdbs_own_way() {
    let fields = [
        ("float", FieldValue::Float(2.0)),
        ("tiny", FieldValue::Float(5e-324)),
        ("negative zero", FieldValue::Float(-0.0)),
        ("integer", FieldValue::Integer(i64::MIN)),
        ("boolean", FieldValue::Boolean(true)),
        ("text", FieldValue::Text("a \"b\" c\\ d, e=f\ng".to_owned())),
    ];
    let row = encoded("my, measurement=x", &[("a,b=c d", "e,f=g h"), ("empty", "")], &fields, -1).unwrap();
    assert_eq!(
        row,
        concat!(
            r#"my\,\ measurement=x,a\,b\=c\ d=e\,f\=g\ h float=2.0,tiny=5e-324,negative\ zero=-0.0,"#,
            r#"integer=-9223372036854775808i,boolean=true,text="a \"b\" c\\ d, e=f"#,
            "\ng\" -1"
        )
    );
}

#[test]
fn what_influxdb_would_not_give_back_is_refused_with_its_name() {
    let one = [("v", FieldValue::Integer(1))];
    let cases: Vec<(Result<String, EncodeError>, &str)> = vec![
        (encoded("", &[], &one, 0), "the measurement '' is empty"),
        (encoded("#m", &[], &one, 0), "the measurement '#m' starts with '#'"),
        (encoded("a\nb", &[], &one, 0), r"the measurement 'a\nb' has a control character"),
        (encoded("m\\", &[], &one, 0), r"the measurement 'm\\' has a backslash"),
        (encoded("m", &[("", "x")], &one, 0), "the tag '' is empty"),
        (encoded("m", &[("time", "x")], &one, 0), "the tag 'time' is a name that InfluxDB keeps"),
        (encoded("m", &[("a", "x"), ("a", "y")], &one, 0), "the tag 'a' is there twice"),
        (encoded("m", &[("path", "C:\\")], &one, 0), r"the tag value 'path=C:\\' has a backslash"),
        (encoded("m", &[("t", "a\r")], &one, 0), r"the tag value 't=a\r' has a control character"),
        (encoded("m", &[], &[("time", FieldValue::Integer(1))], 0), "the field 'time' is a name"),
        (encoded("m", &[], &[("a\\,b", FieldValue::Integer(1))], 0), r"the field 'a\\,b' has a backslash"),
        (encoded("m", &[], &[("v", FieldValue::Float(f64::NAN))], 0), "the field 'v' is NaN"),
        (encoded("m", &[], &[("v", FieldValue::Float(f64::NEG_INFINITY))], 0), "the field 'v' is -inf"),
        (encoded("m", &[], &[], 0), "a row of 'm' has no field"),
        (encoded("m", &[], &one, i64::MAX), "the time 9223372036854775807 ns is outside"),
    ];
    for (result, words) in cases {
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with(words), "{error} should start with {words}");
    }
}

#[test]
fn a_reading_gets_its_publisher_and_host_and_keeps_its_own_tags() {
    let reading = Reading {
        sequence: 7,
        time: Timestamp::from_nanos(5),
        measurement: "light".to_owned(),
        tags: vec![("room".to_owned(), "1".to_owned()), ("host".to_owned(), "theirs".to_owned())],
        fields: vec![("lux".to_owned(), FieldValue::Integer(19))],
    };
    let mut out = Vec::new();
    let (publisher, host) = (PublisherId::parse("light-1").unwrap(), HostName::parse("here").unwrap());
    encode_reading(&mut out, &publisher, &host, &reading).unwrap();
    let row = "light,host=here,publisher=light-1,room=1,source_host=theirs lux=19i 5";
    assert_eq!(String::from_utf8(out).unwrap(), row);
    assert_eq!(check_reading(&reading), Ok(()));
    let bad = Reading { fields: vec![("lux".to_owned(), FieldValue::Float(f64::INFINITY))], ..reading };
    assert!(check_reading(&bad).is_err());
}

#[test]
fn readings_one_after_the_other_are_the_rows_that_each_alone_is() {
    let reading = |measurement: &'static str, room: Option<&'static str>, value: i64| Reading {
        sequence: 1,
        time: Timestamp::from_nanos(value),
        measurement,
        tags: room.into_iter().map(|room| ("room", room)).collect(),
        fields: vec![("lux", FieldValue::Integer(value))],
    };
    let a = Some("a");
    let series =
        [("m", a), ("m", a), ("m", a), ("m", None), ("n", None), ("n", None), ("\n", None), ("n", None), ("m", a)];
    let readings: Vec<_> = (1..).zip(series).map(|(value, (name, room))| reading(name, room, value)).collect();
    let (publisher, host) = (PublisherId::parse("p").unwrap(), HostName::parse("h").unwrap());
    let (mut together, mut alone) = (Vec::new(), Vec::new());
    let mut encoder = ReadingEncoder::new(&publisher, &host);
    for reading in &readings {
        let written = encoder.encode(&mut together, reading);
        assert_eq!(written, encode_reading(&mut alone, &publisher, &host, reading));
        assert_eq!(together, alone);
    }
    assert!(together.starts_with(b"m,host=h,publisher=p,room=a lux=1i 1m,host=h,publisher=p,room=a lux=2i 2"));
}

#[test]
fn rows_of_foreign_publishers_are_read() {
    let row = decode(b"  weather,room=a\\ b  temp=82,wet=T,n=5u,s=\"x\"  1465839830100400200 \r\n").unwrap();
    assert_eq!(row.measurement, "weather");
    assert_eq!(row.tags, [("room".to_owned(), "a b".to_owned())]);
    assert_eq!(row.fields.len(), 4);
    assert_eq!(row.fields[2].1, FieldValue::Integer(5));
    assert_eq!(row.time, Some(Timestamp::from_nanos(1_465_839_830_100_400_200)));
    assert_eq!(decode(b"m v=1").unwrap().time, None);
    for wrong in [
        "",
        "# comment",
        "m",
        "m ",
        "m,",
        "m,a v=1",
        "m,a= v=1",
        "m,a=b=c v=1",
        "m v",
        "m v=",
        "m v=nan",
        "m v=inf",
        "m v=1e999",
        "m v=99999999999999999999i",
        "m v=\"open",
        "m v=\"a\"b 1",
        "m v=1 tomorrow",
        "m v=1 1 2",
        ",a=b v=1",
    ] {
        assert!(decode(wrong.as_bytes()).is_err(), "{wrong}");
    }
    let error = decode(b"m v=1x").unwrap_err();
    assert_eq!(error.to_string(), "byte 5 of the row: a value is a number, true, false, or a text in double quotes");
}

fn name() -> impl Strategy<Value = String> {
    // what is special in line protocol, often
    "([a-z]|[,= \"#\\\\]|\\PC){1,8}"
}

fn value() -> impl Strategy<Value = FieldValue> {
    prop_oneof![
        any::<f64>()
            .prop_filter("InfluxDB has finite numbers only", |number| number.is_finite())
            .prop_map(FieldValue::Float),
        any::<i64>().prop_map(FieldValue::Integer),
        any::<bool>().prop_map(FieldValue::Boolean),
        "([,= \"#\\\\\n\r]|(?s:.)){0,8}".prop_map(FieldValue::Text),
    ]
}

type AnyRow = (String, Vec<(String, String)>, Vec<(String, FieldValue)>, i64);

fn any_row() -> impl Strategy<Value = AnyRow> {
    let tags = proptest::collection::vec((name(), name()), 0..4);
    let fields = proptest::collection::vec((name(), value()), 0..4);
    (name(), tags, fields, any::<i64>())
}

fn try_encode(row: &AnyRow, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let (measurement, tags, fields, nanos) = row;
    let tags = tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let fields = fields.iter().map(|(key, value)| (key.as_str(), value));
    encode(out, measurement, tags, fields, Timestamp::from_nanos(*nanos))
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_as_it_was(row in any_row()) {
        let mut out = Vec::new();
        if try_encode(&row, &mut out).is_ok() {
            let decoded = decode(&out).map_err(|error| TestCaseError::fail(format!("{error}")))?;
            prop_assert_eq!(decoded.measurement, row.0);
            prop_assert_eq!(decoded.tags, row.1);
            prop_assert_eq!(decoded.fields, row.2);
            prop_assert_eq!(decoded.time, Some(Timestamp::from_nanos(row.3)));
        }
    }

    #[test]
    fn a_batch_comes_apart_into_the_rows_it_was_made_of(rows in proptest::collection::vec(any_row(), 0..6)) {
        let encoded: Vec<Vec<u8>> = rows.iter().filter_map(|row| {
            let mut out = Vec::new();
            try_encode(row, &mut out).ok().map(|()| out)
        }).collect();
        let batch: Vec<u8> = encoded.iter().flat_map(|row| row.iter().copied().chain(*b"\n")).collect();
        let apart: Vec<&[u8]> = Rows::of(&batch).collect();
        prop_assert_eq!(apart, encoded);
    }

    #[test]
    fn the_decoder_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = decode(&bytes);
        let _ = Rows::of(&bytes).count();
    }

    #[test]
    fn the_decoder_never_panics_on_almost_right_rows(text in "[m,= \"\\\\\n1ti#.e-]{0,24}") {
        if let Ok(row) = decode(text.as_bytes()) {
            prop_assert!(!row.fields.is_empty());
        }
        let _ = Rows::of(text.as_bytes()).count();
    }
}
