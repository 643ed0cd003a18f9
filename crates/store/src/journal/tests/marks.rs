//! Messages of publishers without numbers that come again, also after a crash.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::unnumbered::crashed;
use super::*;
use heartwatch_domain::marks::{MqttMark, SourceMark};

/// A message of one row: each says another value, at a time of its own.
fn message(value: u64, mark: Option<SourceMark>) -> IntakeEntry {
    let lines = format!("m,host=meter,publisher=meter value={value} {value}\n").into_bytes();
    IntakeEntry::Arrived { publisher: publisher("meter"), lines, rows: 1, mark }
}

fn kafka(offset: i64) -> SourceMark {
    let written_at = Some(Timestamp::from_nanos(1_000 + offset));
    SourceMark::Kafka { topic: "c/t".into(), partition: 3, offset, written_at, end: None }
}

fn mqtt(number: u64, packet_id: u16, duplicate: bool, content: u64) -> SourceMark {
    SourceMark::Mqtt(MqttMark { session: "c at b".into(), began: None, number, packet_id, duplicate, content })
}

/// Journals what comes, and how many rows of it are kept.
struct AppendReceipt {
    directory: tempfile::TempDir,
    journal: Journal,
    value: u64,
}

impl AppendReceipt {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(config(directory.path())).unwrap().0;
        Self { directory, journal, value: 0 }
    }

    /// Whether a message with this mark becomes a row.
    async fn keeps(&mut self, mark: SourceMark) -> bool {
        let before = self.journal.level().undelivered_rows;
        self.value += 1;
        append(&self.journal, vec![message(self.value, Some(mark))]).await;
        self.journal.level().undelivered_rows > before
    }

    /// The power goes.
    async fn crash(&mut self) {
        let (directory, journal) = crashed(self.directory.path());
        std::mem::replace(&mut self.journal, journal).close().await;
        self.directory = directory;
    }
}

#[tokio::test]
async fn an_offset_of_kafka_is_one_row_in_any_order_and_after_a_crash() {
    let mut kept = AppendReceipt::new();
    for (offset, is_new) in [(5, true), (6, true), (5, false), (9, true), (8, true), (7, true), (7, false)] {
        assert_eq!(kept.keeps(kafka(offset)).await, is_new, "{offset}");
    }
    kept.crash().await;
    for (offset, is_new) in [(6, false), (9, false), (10, true), (4, true), (5, false)] {
        assert_eq!(kept.keeps(kafka(offset)).await, is_new, "{offset}");
    }
    let account = account(&kept.journal, "meter").await;
    assert_eq!((account.received, account.duplicates), (7, 5), "copies are counted");
    let other = SourceMark::Kafka { topic: "c/t".into(), partition: 4, offset: 5, written_at: None, end: None };
    assert!(kept.keeps(other).await, "another partition");
    let SourceMark::Kafka { partition, offset, written_at, end, .. } = kafka(5) else { return };
    let other = SourceMark::Kafka { topic: "other/t".into(), partition, offset, written_at, end };
    assert!(kept.keeps(other).await, "another cluster");
}

#[tokio::test]
async fn a_topic_that_was_made_anew_has_other_messages() {
    let anew = |offset: i64, nanos: i64, end: Option<i64>| {
        let SourceMark::Kafka { topic, partition, .. } = kafka(0) else { unreachable!() };
        SourceMark::Kafka { topic, partition, offset, written_at: Some(Timestamp::from_nanos(nanos)), end }
    };
    let mut kept = AppendReceipt::new();
    for offset in 0..10 {
        assert!(kept.keeps(kafka(offset)).await);
    }
    kept.crash().await;
    assert!(!kept.keeps(anew(4, 1_004, Some(10))).await, "where it ended is where it was read to");
    assert!(kept.keeps(anew(0, 1_000, Some(3))).await, "it ends before what is known of it");
    assert!(kept.keeps(anew(1, 1_001, None)).await);
    assert!(!kept.keeps(anew(1, 1_001, None)).await);
    for offset in 2..20 {
        assert!(kept.keeps(anew(offset, 1_000 + offset, None)).await);
    }
    assert!(kept.keeps(anew(0, 5_000, Some(900))).await, "it was written after all that is known");
    assert!(!kept.keeps(anew(0, 5_000, Some(900))).await);
    assert!(kept.keeps(anew(1, 5_001, None)).await);
}

#[tokio::test]
async fn a_message_of_mqtt_with_the_flag_dup_is_one_row_also_after_a_crash() {
    let mut kept = AppendReceipt::new();
    for (mark, is_new, why) in [
        (mqtt(1, 7, false, 70), true, "the first one"),
        (mqtt(2, 8, false, 70), true, "the same content is another message"),
        (mqtt(3, 7, true, 70), false, "the same again"),
        (mqtt(4, 7, true, 71), true, "its packet id was used again, and this one did not arrive"),
        (mqtt(5, 9, true, 70), true, "it did not arrive before"),
        (mqtt(6, 8, false, 70), true, "its packet id was used again"),
    ] {
        assert_eq!(kept.keeps(mark).await, is_new, "{why}");
    }
    kept.crash().await;
    for (mark, is_new, why) in [
        (mqtt(1, 7, true, 71), false, "the last of its packet id"),
        (mqtt(2, 8, true, 70), false, "again"),
        (mqtt(3, 9, false, 70), true, "a new one with an old packet id"),
        (mqtt(20_000, 8, true, 70), true, "its packet id was used again in between"),
    ] {
        assert_eq!(kept.keeps(mark).await, is_new, "{why}");
    }
    let SourceMark::Mqtt(mark) = mqtt(20_001, 9, true, 70) else { unreachable!() };
    let another = MqttMark { began: Some(5), ..mark.clone() };
    assert!(kept.keeps(SourceMark::Mqtt(another.clone())).await, "the broker has another session");
    assert!(!kept.keeps(SourceMark::Mqtt(another)).await);
    kept.crash().await;
    assert!(kept.keeps(mqtt(1, 8, true, 70)).await, "of the session before");
    assert!(!kept.keeps(SourceMark::Mqtt(MqttMark { number: 2, ..mark })).await, "of this one");
}

#[tokio::test]
async fn a_copy_that_was_handed_on_and_what_a_broker_had_kept_are_no_second_row() {
    let mut kept = AppendReceipt::new();
    assert!(!kept.keeps(SourceMark::HandedOn).await);
    append(&kept.journal, vec![message(50, None)]).await;
    kept.crash().await;
    append(&kept.journal, vec![message(50, Some(SourceMark::Retained)), message(51, Some(SourceMark::Retained))]).await;
    assert_eq!(waiting(&kept.journal).await.len(), 2, "one of them had come when it was published");
    append(&kept.journal, vec![message(50, None)]).await;
    let rows = waiting(&kept.journal).await;
    assert!(rows[2].ends_with("value=50 52"), "what has no mark is a row of its own: {rows:?}");
    assert_eq!(kept.journal.level().moved_rows, 1);
}

#[tokio::test]
async fn rows_that_say_the_same_within_a_message_are_as_many_points() {
    let kept = AppendReceipt::new();
    let lines = b"m,publisher=meter a=1 7\nm,publisher=meter a=1 7\nm,publisher=meter b=1 7\n".to_vec();
    let entry = IntakeEntry::Arrived { publisher: publisher("meter"), lines, rows: 3, mark: None };
    append(&kept.journal, vec![entry.clone(), entry]).await;
    let times: Vec<_> = waiting(&kept.journal).await.iter().map(|row| row[18..].to_owned()).collect();
    assert_eq!(times, ["a=1 7", "a=1 8", "b=1 7", "a=1 9", "a=1 10", "b=1 8"]);
}

#[tokio::test]
async fn a_failed_commit_leaves_no_mark_behind() {
    let mut kept = AppendReceipt::new();
    assert!(kept.keeps(kafka(1)).await);
    kept.journal
        .execute("CREATE TRIGGER refuse BEFORE INSERT ON blocks BEGIN SELECT RAISE(ABORT, 'no'); END")
        .await
        .unwrap();
    let messages = vec![message(2, Some(kafka(2))), message(3, Some(mqtt(1, 7, false, 70)))];
    assert!(kept.journal.append(Arc::new(messages)).await.is_err());
    kept.journal.execute("DROP TRIGGER IF EXISTS refuse").await.unwrap();
    assert!(kept.keeps(kafka(2)).await && kept.keeps(mqtt(1, 7, true, 70)).await);
    assert!(!kept.keeps(kafka(2)).await && !kept.keeps(mqtt(1, 7, true, 70)).await);
}

#[tokio::test]
async fn the_latest_thousands_of_packet_ids_are_known_after_a_crash() {
    let packet_id = |number: u64| u16::try_from(number).unwrap();
    let mut kept = AppendReceipt::new();
    let mut number = 0;
    for commit in 0..400_u64 {
        let messages = (0..50).map(|_| {
            number += 1;
            message(number, Some(mqtt(number, packet_id(number), false, number)))
        });
        let messages: Vec<_> = messages.take(if commit % 3 == 0 { 1 } else { 50 }).collect();
        append(&kept.journal, messages).await;
    }
    let last = number;
    kept.crash().await;
    let of = |number: u64, place: u64| mqtt(place, packet_id(number), true, number);
    kept.value = 1 << 40;
    assert!(!kept.keeps(of(last, 1)).await && !kept.keeps(of(last - 8_000, 2)).await);
    assert!(kept.keeps(of(last - 9_000, 3)).await, "that is longer ago than any broker waits");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Offsets in any order, again and again, with crashes in between: each is a row once.
    #[test]
    fn offsets_in_any_order_are_a_row_once(commits in prop::collection::vec((prop::collection::vec(0..300_i64, 1..40), prop::bool::weighted(0.2)), 1..12)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let (mut kept, mut seen) = (AppendReceipt::new(), BTreeSet::new());
            for (offsets, crashes) in commits {
                let entries = offsets.iter().map(|&offset| message(offset.unsigned_abs(), Some(kafka(offset)))).collect();
                append(&kept.journal, entries).await;
                seen.extend(offsets);
                if crashes {
                    kept.crash().await;
                }
                assert_eq!(waiting(&kept.journal).await.len(), seen.len());
            }
        });
    }
}
