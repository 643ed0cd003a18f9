//! Two hundred plain kills, and no word of damage: what a kill leaves behind is a commit that never ended.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::journal::{Journal, JournalConfig};
use super::notifications::{Notifications, Selection};
use super::outbox::{FullPolicy, Outbox, OutboxConfig};
use heartwatch_domain::confirmers::Confirmer;
use heartwatch_domain::intake::IntakeEntry;
use heartwatch_domain::notice::{GaveUp, Notice};
use heartwatch_domain::publisher::{HostName, PublisherId};
use heartwatch_domain::reading::{FieldValue, Reading};
use heartwatch_domain::retransmitter::SequenceRange;
use heartwatch_domain::time::Timestamp;

const KILLS: u64 = 200;
/// Where the writer, which is this test program again, finds its files.
const DIRECTORY: &str = "HEARTWATCH_TEST_KILLED_WRITER";

fn reading(sequence: u64) -> Reading {
    let fields = vec![("value".to_owned(), FieldValue::Integer(sequence.cast_signed()))];
    let time = Timestamp::from_nanos(sequence.cast_signed());
    Reading { sequence, time, measurement: "m".to_owned(), tags: Vec::new(), fields }
}

/// Opens everything, says what was damaged, and writes until it is killed.
async fn write(directory: &Path) {
    let (publisher, host) = (PublisherId::parse("a").unwrap(), HostName::parse("h").unwrap());
    let (mut outbox, incarnation) = Outbox::open(
        OutboxConfig {
            path: Some(directory.join("outbox.sqlite")),
            bytes_max: 1 << 16,
            full_policy: FullPolicy::GiveUpOldest,
        },
        1,
    )
    .unwrap();
    let config = JournalConfig {
        path: directory.join("journal.sqlite"),
        bytes_max: 1 << 20,
        history: Duration::from_secs(3600),
        has_sink: true,
        queue_entries_max: 100,
    };
    let (journal, recovery) = Journal::open(config).unwrap();
    let (notifications, damage) = Notifications::open(&directory.join("notifications.sqlite"), 0).unwrap();
    let damage = [outbox.damage(), &recovery.damage, &damage].concat();
    println!("\nopened {damage:?}");
    std::io::stdout().flush().unwrap();
    let notice = |number: u64| {
        let (publisher, host, summary) = (publisher.clone(), host.clone(), number.to_string());
        let at = Timestamp::from_nanos(0);
        vec![("pager".to_owned(), Notice::GaveUp(GaveUp { publisher, host, at, summary }))]
    };
    for number in 1.. {
        let numbers = || (number - 1) * 20 + 1..=number * 20;
        outbox.keep(&numbers().map(reading).collect::<Vec<_>>()).unwrap();
        let lines =
            numbers().map(|sequence| (sequence, format!("m,publisher=a value={sequence}i {sequence}"))).collect();
        let entry = IntakeEntry::Readings { publisher: publisher.clone(), host: host.clone(), incarnation, lines };
        let kept = journal.append(Arc::new(vec![entry])).await.unwrap();
        let safe = SequenceRange { incarnation, first: 1, last: kept.states[0].through };
        outbox.confirmed(incarnation, &[safe], Confirmer::Unnamed).unwrap();
        let batch = journal.next_batch(10, 1_000).await.unwrap();
        journal.delivered(batch.block_ids, Vec::new()).await.unwrap();
        notifications.take(&notice(number)).unwrap();
        let oldest = Selection { urgent: true, notices: 2, notices_max: 2 };
        let message = notifications.begin_message("pager", oldest, None).unwrap().unwrap();
        notifications.delivered("pager", message.number, Timestamp::from_nanos(0), &[]).unwrap();
    }
}

#[tokio::test]
#[ignore = "it is the program that the next test kills"]
async fn a_writer_that_is_killed() {
    if let Ok(directory) = std::env::var(DIRECTORY) {
        write(Path::new(&directory)).await;
    }
}

#[tokio::test]
async fn two_hundred_plain_kills_say_no_damage() {
    let directory = tempfile::tempdir().unwrap();
    for kill in 0..KILLS {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill_tests::a_writer_that_is_killed", "--ignored", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(writer.stdout.take().unwrap()).lines().map_while(Result::ok);
        let opened = said.find(|line| line.starts_with("opened")).unwrap_or_default();
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..20_000))).await;
        writer.kill().unwrap();
        writer.wait().unwrap();
        assert_eq!(opened, "opened []", "after {kill} kills");
    }
}
