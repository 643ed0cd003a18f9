//! Readings with one series and time, in random histories with a crash between any two steps: against a
//! store that does what InfluxDB does, and keeps one point of them.

use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;

use super::*;
use crate::disk::beside;
use crate::journal::point_index::{PointIndex, Points as Added, Stamped, Takes};
use heartwatch_domain::intake::NumberedLines;
use heartwatch_domain::reading::FieldValue;

#[derive(Debug, Clone)]
enum Step {
    /// Readings of one of two lives of a publisher: number and clock, which stands still or goes back.
    Append(u64, Vec<(Sequence, i64)>),
    /// Delivers some blocks; the flag: the sink has them, and the monitor dies before it says so.
    Deliver(u64, bool),
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let readings = prop::collection::vec((1..60_u64, 0..6_i64), 1..20);
    let step = prop_oneof![
        5 => (1..3_u64, readings).prop_map(|(life, readings)| Step::Append(life, readings)),
        3 => (1..40_u64, any::<bool>()).prop_map(|(rows, dies)| Step::Deliver(rows, dies)),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..25)
}

fn stamped(life: u64, sequence: Sequence, time: i64) -> (Sequence, Vec<u8>) {
    // every reading has a field of its own, which InfluxDB would put into one point as well
    let line = format!(r"m\ 1,host=h\ 1,publisher=a f{life}_{sequence}={sequence}i {time}").into_bytes();
    (sequence, line)
}

/// Rows with or without the times that stand in them.
fn rows(with_times: bool, stamped: impl Iterator<Item = (Sequence, Vec<u8>)>) -> NumberedLines {
    if !with_times {
        return stamped.collect();
    }
    let mut lines = NumberedLines::default();
    for (sequence, line) in stamped {
        let time = decode(&line).unwrap().time.unwrap();
        let write = |out: &mut Vec<u8>| {
            out.extend_from_slice(&line);
            Ok::<_, ()>(())
        };
        lines.push_with(sequence, time, write).unwrap();
    }
    lines
}

/// The files as they are, in a new directory.
fn copy(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for suffix in ["", "-wal"] {
        let from = beside(&config(directory).path, suffix);
        if from.exists() {
            fs::copy(&from, beside(&config(copy.path()).path, suffix)).unwrap();
        }
    }
    copy
}

/// Series and time → fields, as InfluxDB has it.
type Points = BTreeMap<(String, i64), Vec<(String, FieldValue)>>;

fn take(points: &mut Points, lines: &[u8]) {
    for row in Rows::of(lines) {
        let row = decode(row).unwrap();
        let series = format!("{} {:?}", row.measurement, row.tags);
        let fields = points.entry((series, row.time.unwrap().as_nanos())).or_default();
        for field in row.fields {
            if !fields.contains(&field) {
                fields.push(field);
            }
        }
    }
}

async fn deliver(journal: &Journal, points: &mut Points, rows_max: u64, says_so: bool) -> bool {
    let batch = journal.next_batch(rows_max, 1 << 20).await.unwrap();
    take(points, &batch.lines);
    let found = !batch.block_ids.is_empty();
    if says_so {
        journal.delivered(batch.block_ids, Vec::new()).await.unwrap();
    }
    found
}

async fn play(steps: Vec<Step>) {
    let mut directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(config(directory.path())).unwrap();
    let (mut points, mut produced) = (Points::new(), BTreeMap::new());
    for step in steps {
        let crash = match step {
            Step::Append(life, readings) => {
                // a number that is sent again is the same reading, with the same time
                let once = |(sequence, time): (Sequence, i64)| {
                    stamped(life, sequence, *produced.entry((life, sequence)).or_insert(time))
                };
                let lines = rows(life == 1, readings.into_iter().map(once));
                let incarnation = Incarnation(life);
                let entry = IntakeEntry::Readings { publisher: publisher("a"), host: host(), incarnation, lines };
                append(&journal, vec![entry]).await;
                false
            }
            Step::Deliver(rows_max, dies) => {
                deliver(&journal, &mut points, rows_max, !dies).await;
                dies
            }
            Step::Crash => true,
        };
        if crash {
            let next = copy(directory.path());
            journal.close().await;
            directory = next;
            journal = Journal::open(config(directory.path())).unwrap().0;
        }
    }
    while deliver(&journal, &mut points, 50, true).await {}
    assert_eq!(points.len(), produced.len(), "{points:?}");
    assert!(points.values().all(|fields| fields.len() == 1), "{points:?}");
    for ((_, time), fields) in &points {
        let (life, sequence) = fields[0].0[1..].split_once('_').unwrap();
        let asked = produced[&(life.parse().unwrap(), sequence.parse().unwrap())];
        assert!((asked..asked + produced.len() as i64).contains(time), "moved by more than there are others");
    }
    journal.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_two_readings_are_one_point_and_a_retry_makes_no_second(steps in steps()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(play(steps));
    }
}

#[tokio::test]
async fn a_hundred_thousand_readings_of_one_moment_are_as_many_points() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(config(directory.path())).unwrap();
    for batch in 0..20_u64 {
        let lines = (1..=5_000).map(|number| stamped(1, batch * 5_000 + number, 7)).collect();
        let entry =
            IntakeEntry::Readings { publisher: publisher("a"), host: host(), incarnation: Incarnation(1), lines };
        append(&journal, vec![entry]).await;
    }
    let mut points = Points::new();
    while deliver(&journal, &mut points, 10_000, true).await {}
    let times: Vec<_> = points.keys().map(|(_, time)| *time).collect();
    assert_eq!(times, (7..100_007).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_series_is_not_taken_for_one_that_begins_as_it_does() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(config(directory.path())).unwrap();
    let written = [r"m,p=a f=1i 7", r"m,p=ab f=1i 7", r"m,p=a f=1i 8", r"m,p=a\ b f=1i 7", r"m,p=a f=1i 9"];
    let lines = (1..).zip(written).collect();
    let entry = IntakeEntry::Readings { publisher: publisher("a"), host: host(), incarnation: Incarnation(1), lines };
    append(&journal, vec![entry]).await;
    assert_eq!(waiting(&journal).await, written, "no time was moved");
}

/// A row: which series, when, which fields, and whether it is a reading with a number.
#[derive(Debug, Clone)]
struct Given {
    series: u8,
    time: i64,
    fields: u8,
    numbered: bool,
}

const FIELDS: [&str; 4] = ["a", r"b\,1", "c", "d"];

impl Given {
    fn fields(&self) -> impl Iterator<Item = usize> {
        (0..FIELDS.len()).filter(|field| self.fields & (1 << field) != 0)
    }

    fn line(&self, value: usize, backwards: bool) -> Vec<u8> {
        let mut fields: Vec<_> = self.fields().map(|field| format!(r#"{}="x, y={value}""#, FIELDS[field])).collect();
        if backwards {
            fields.reverse();
        }
        format!(r"m\ {},publisher=a {} {}", self.series, fields.join(","), self.time).into_bytes()
    }

    fn takes(&self) -> Takes {
        if self.numbered { Takes::Point } else { Takes::Fields }
    }
}

fn given() -> impl Strategy<Value = Given> {
    (0..2_u8, 0..6_i64, 1..16_u8, prop::bool::weighted(0.2)).prop_map(|(series, time, fields, numbered)| Given {
        series,
        time,
        fields,
        numbered,
    })
}

/// What is at each point: the fields, or all of it.
#[derive(Debug, Clone, Default)]
struct Merged(BTreeMap<(u8, i64), u8>);

impl Merged {
    const WHOLE: u8 = 0xff;

    fn of(row: &Given) -> u8 {
        if row.numbered { Self::WHOLE } else { row.fields }
    }

    /// The first time from the row's own on at which it overwrites nothing.
    fn first_free(&self, row: &Given) -> i64 {
        let taken = |time: i64| self.0.get(&(row.series, time)).is_some_and(|taken| taken & Self::of(row) != 0);
        (row.time..).find(|time| !taken(*time)).unwrap()
    }

    fn take(&mut self, row: &Given, time: i64) {
        *self.0.entry((row.series, time)).or_default() |= Self::of(row);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    /// A commit that fails leaves nothing behind; one that does not takes exactly the first points at which nothing is overwritten.
    #[test]
    fn no_value_is_overwritten_and_no_row_is_moved_without_need(
        commits in prop::collection::vec((prop::collection::vec((given(), any::<bool>()), 1..12), prop::bool::weighted(0.85)), 1..12),
    ) {
        let (mut stamps, mut merged) = (PointIndex::default(), Merged::default());
        for (rows, succeeds) in commits {
            let (mut points, mut after) = (Added::default(), merged.clone());
            for (value, (row, backwards)) in rows.iter().enumerate() {
                let line = row.line(value, *backwards);
                prop_assert_eq!(stamps.is_here(&mut points, &line), after.first_free(&Given { numbered: false, ..row.clone() }) != row.time);
                let expected = after.first_free(row);
                let time = match stamps.distinct(&mut points, &line, None, row.takes()) {
                    Stamped::AsItIs { time, .. } => time,
                    Stamped::Moved { line: moved, time, .. } => {
                        prop_assert_eq!(&moved, &Given { time, ..row.clone() }.line(value, *backwards));
                        prop_assert!(time > row.time);
                        time
                    }
                    Stamped::Unknown => return Err(TestCaseError::fail("it has a time")),
                };
                prop_assert_eq!(time, expected, "{:?}", row);
                after.take(row, time);
            }
            if succeeds {
                stamps.adopt(points);
                merged = after;
            }
        }
    }
}

#[test]
fn rows_without_numbers_merge_where_they_have_other_fields() {
    let mut stamps = PointIndex::default();
    let mut stamp = |line: &str| {
        let mut points = Added::default();
        let stamped = stamps.distinct(&mut points, line.as_bytes(), None, Takes::Fields);
        stamps.adopt(points);
        match stamped {
            Stamped::AsItIs { .. } => line.to_owned(),
            Stamped::Moved { line, .. } => String::from_utf8(line).unwrap(),
            Stamped::Unknown => format!("{line} ?"),
        }
    };
    for (line, stamped) in [
        ("m,publisher=a t=1 7", "m,publisher=a t=1 7"),
        ("m,publisher=a h=2 7", "m,publisher=a h=2 7"),
        ("m,publisher=a h=2 7", "m,publisher=a h=2 8"),
        ("m,publisher=a t=1,u=3 7", "m,publisher=a t=1,u=3 8"),
        ("m,publisher=a t=1 7", "m,publisher=a t=1 9"),
        ("m,publisher=b t=1 7", "m,publisher=b t=1 7"),
    ] {
        assert_eq!(stamp(line), stamped);
    }
}
