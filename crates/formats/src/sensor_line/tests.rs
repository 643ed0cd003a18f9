//! Lines that can be read, in part or not at all, and schemas that cannot be meant.

use proptest::prelude::*;

use super::*;

/// Every sample as measurement, first tag's value and fields.
fn shown(line: &SensorLine) -> Vec<String> {
    let one = |sample: &Sample| {
        let valid = sample.tags.first().map_or("-", |(_, value)| value.as_str());
        let fields: Vec<_> = sample.fields.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        format!("{} {valid} {}", sample.measurement.as_deref().unwrap_or("-"), fields.join(","))
    };
    line.samples.iter().map(one).collect()
}

#[test]
fn the_sensor_of_three_values_is_the_default() {
    let schema = Schema::default();
    schema.check().unwrap();
    let line = schema.read(b"6.25 5000000 17");
    assert_eq!(
        shown(&line),
        [
            "sensor.cpu_load True value=Float(6.25)",
            "sensor.bounded_random_generator True value=Integer(5000000)",
            "sensor.generated_metrics_number True value=Integer(17)",
        ]
    );
    assert!(line.unreadable.is_empty() && line.defects.is_empty());
}

#[test]
fn what_cannot_be_read_is_an_error_of_its_measurement_and_the_rest_is_kept() {
    let schema = Schema::default();
    let line = schema.read(b"6.25 x7 18");
    assert_eq!(line.samples.len(), 2, "{line:?}");
    let [wrong] = &line.unreadable[..] else { panic!("{line:?}") };
    assert_eq!(wrong.measurement.as_deref(), Some("sensor.bounded_random_generator"));
    assert_eq!(wrong.reason, "column 2 has 'x7' where an integer is expected");
    let cut = schema.read(b"6.25");
    assert_eq!((cut.samples.len(), cut.unreadable.len()), (1, 2));
    assert_eq!(cut.unreadable[1].reason, "column 3 is missing");
    assert_eq!(schema.read(b"NaN 1 2").unreadable.len(), 1);
    assert_eq!(schema.read(b"\xff\xfe").unreadable.len(), 3);
}

#[test]
fn three_zeros_at_once_are_a_defect_and_some_zeros_are_not() {
    let schema = Schema::default();
    let line = schema.read(b"0 0 0");
    assert!(shown(&line).iter().all(|sample| sample.contains(" False ")), "{line:?}");
    assert_eq!(line.defects, ["all 3 values are 0 at once"]);
    let some = schema.read(b"0.0 5000000 0");
    assert!(some.defects.is_empty() && shown(&some).iter().all(|sample| sample.contains(" True ")), "{some:?}");
    // one of them cannot be read: nobody knows whether all are zero
    assert!(schema.read(b"0 0 x").defects.is_empty());
}

#[test]
fn a_value_out_of_its_range_alone_is_not_valid() {
    let text = r#"{"delimiter":";","columns":[
        {"at":1,"measurement":"climate","field":"temperature","unit":"C","min":-40,"max":60},
        {"at":2,"measurement":"climate","field":"humidity","unit":"C","min":0},
        {"at":4,"measurement":"door","type":"boolean"}]}"#;
    let schema = Schema::parse(text).unwrap();
    assert_eq!(Schema::parse(&schema.to_text()), Ok(schema.clone()));
    let good = schema.read(b"21.5; 40; unused; true");
    assert_eq!(
        shown(&good),
        ["climate True temperature=Float(21.5),humidity=Float(40.0)", "door True value=Boolean(true)"]
    );
    assert!(good.samples[0].tags.contains(&("unit".to_owned(), "C".to_owned())));
    let hot = schema.read(b"99;40;;false");
    assert_eq!(
        shown(&hot),
        [
            "climate False temperature=Float(99.0)",
            "climate True humidity=Float(40.0)",
            "door True value=Boolean(false)"
        ]
    );
    assert_eq!(hot.defects, ["climate: 99 is out of its range -40..60"]);
}

#[test]
fn json_and_line_protocol_are_read() {
    let text = r#"{"format":"json","columns":[{"at":"load.one","measurement":"load"},{"at":"n","measurement":"n","type":"integer"}]}"#;
    let schema = Schema::parse(text).unwrap();
    let line = schema.read(br#"{"load":{"one":0.5},"n":"x"}"#);
    assert_eq!(shown(&line), ["load True value=Float(0.5)"]);
    assert_eq!(line.unreadable[0].reason, "n has '\"x\"' where an integer is expected");
    let any = Schema::parse(r#"{"format":"json"}"#).unwrap();
    assert_eq!(shown(&any.read(br#"{"a":{"b":1},"c":"text"}"#)), ["- - a_b=Float(1.0),c=Text(\"text\")"]);
    assert_eq!(any.read(b"[1]").unreadable, [Unreadable { measurement: None, reason: "is not a JSON object".into() }]);
    let rows = Schema::parse(r#"{"format":"line-protocol"}"#).unwrap();
    let line = rows.read(b"weather,room=a lux=5i 1700000000000000000");
    assert_eq!(line.samples[0].tags[0], ("room".to_owned(), "a".to_owned()));
    assert_eq!(line.samples[0].time.unwrap().as_nanos(), 1_700_000_000_000_000_000);
    assert_eq!(rows.read(b"weather").unreadable.len(), 1);
}

#[test]
fn a_schema_that_cannot_be_meant_is_refused_with_what_would_be_right() {
    let wrong = [
        ("{}", "says nothing of its columns"),
        (r#"{"columns":[{"at":0,"measurement":"m"}]}"#, "from 1"),
        (r#"{"columns":[{"at":"a","measurement":"m"}]}"#, "number from 1"),
        (r#"{"format":"json","columns":[{"at":1,"measurement":"m"}]}"#, "path"),
        (r#"{"format":"line-protocol","columns":[{"at":1,"measurement":"m"}]}"#, "leave the columns out"),
        (r#"{"columns":[{"at":1,"measurement":"heartwatch_x"}]}"#, "the monitor's own"),
        (r#"{"columns":[{"at":1,"measurement":"m","min":3,"max":2}]}"#, "no value is from 3 to 2"),
        (r#"{"columns":[{"at":1,"measurement":"m","type":"text","min":3}]}"#, "has no range"),
        (r#"{"columns":[{"at":1,"measurement":"m"},{"at":2,"measurement":"m"}]}"#, "the same field"),
        (r#"{"columns":[{"at":1,"mesurement":"m"}]}"#, "mesurement"),
    ];
    for (text, expected) in wrong {
        let said = Schema::parse(text).unwrap_err();
        assert!(said.contains(expected), "{text}: {said}");
    }
}

proptest! {
    /// Any line gives something: each column is a value or an error, none is both.
    #[test]
    fn every_column_is_a_value_or_an_error(line in prop::collection::vec(any::<u8>(), 0..60)) {
        let read = Schema::default().read(&line);
        let values: usize = read.samples.iter().map(|sample| sample.fields.len()).sum();
        prop_assert_eq!(values + read.unreadable.len(), 3);
    }
}
