//! The committed fixtures are what their generator writes, and heartwatch reads them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says where")]

use std::fs;
use std::path::Path;

use heartwatch::sources::csv::{CsvConfig, CsvSource};
use heartwatch_domain::reading::FieldValue;

#[path = "../../fixtures/generate.rs"]
#[expect(dead_code, reason = "its main is for `cargo run --example`")]
mod generate;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");

#[test]
fn the_committed_fixtures_are_the_generators() {
    let fresh = tempfile::tempdir().unwrap();
    generate::write_into(fresh.path()).unwrap();
    for entry in fs::read_dir(fresh.path()).unwrap() {
        let name = entry.unwrap().file_name();
        let expected = fs::read_to_string(fresh.path().join(&name)).unwrap();
        let committed = fs::read_to_string(Path::new(FIXTURES).join(&name)).unwrap();
        assert!(committed == expected, "{name:?} differs: cargo run --example generate_fixtures");
    }
}

#[test]
fn the_fixtures_are_read_whole_with_their_types() {
    for (name, fields) in [("light-1.csv", 2), ("light-2.csv", 3)] {
        let mut source = CsvSource::open(&CsvConfig::new(Path::new(FIXTURES).join(name))).unwrap();
        let mut flat = 0;
        let mut previous = None;
        for row in source.by_ref() {
            let row = row.unwrap();
            assert_eq!(row.fields.len(), fields, "{name}: {row:?}");
            assert_eq!(row.fields[0].0, "value");
            assert!(matches!(row.fields[0].1, FieldValue::Integer(0..800)), "{name}: {row:?}");
            let (time, text) = row.fields.last().unwrap();
            assert!(time == "source_time" && matches!(text, FieldValue::Text(t) if t.starts_with("2026-02-1")));
            flat += u32::from(previous.replace(row.fields[0].1.clone()) == Some(row.fields[0].1.clone()));
        }
        assert_eq!(source.cursor(), 504);
        assert!(flat > 350, "{name}: only {flat} rows repeat the one before");
    }
}
