//! What every reading and every heartbeat goes through, each as a step that can be repeated: measured in
//! time by `benches/time.rs`, in instructions by `benches/instructions.rs`.

use std::sync::Arc;
use std::time::Duration;

use heartwatch_domain::beat::Way;
use heartwatch_domain::beat::{Beat, BeatKind, Heartbeat};
use heartwatch_domain::intake::IntakeEntry;
use heartwatch_domain::publisher::{HostName, Incarnation, PublisherId};
use heartwatch_domain::reading::{FieldValue, Reading};
use heartwatch_domain::roster::{Roster, RosterConfig};
use heartwatch_domain::self_check::Reception;
use heartwatch_domain::time::Timestamp;
use heartwatch_domain::watch::LocalHost;
use heartwatch_formats::envelope::{TopicKind, decode, encode_readings};
use heartwatch_formats::line_protocol::encode_reading;
use heartwatch_store::journal::{Journal, JournalConfig};
use heartwatch_system::clock::Clock;

/// Publishers that beat in turn.
const PUBLISHERS: usize = 10_000;
/// Rows that a batch is taken of.
const ROWS: u64 = 5_000;

/// A path: its name, what prepares it, and how many steps are enough to count its instructions: what its preparation
/// differs by from run to run (a table of 10,000 publishers by its seed: 10 million) is shared among twice as many.
/// What is prepared is one step.
pub(crate) type Path = (&'static str, fn() -> Step, u64);
/// One step of a path. Its answer is only there so that no step is left out by the compiler.
pub(crate) type Step = Box<dyn FnMut() -> usize>;

/// All of them.
pub(crate) const PATHS: [Path; 4] = [
    ("parse a reading", parse_a_reading, 500),
    ("encode a line", encode_a_line, 500),
    ("a heartbeat into the watchdog", a_heartbeat, 40_000),
    ("take a batch from the buffer", take_a_batch, 5),
];

fn reading(sequence: u64) -> Reading {
    Reading {
        sequence,
        time: Timestamp::from_nanos(1_700_000_000_000_000_000 + sequence.cast_signed()),
        measurement: "light".to_owned(),
        tags: vec![("room".to_owned(), "kitchen".to_owned())],
        fields: vec![("lux".to_owned(), FieldValue::Integer(417)), ("temperature".to_owned(), FieldValue::Float(21.5))],
    }
}

fn who() -> (PublisherId, HostName) {
    (PublisherId::parse("light-1").unwrap(), HostName::parse("sensor-host").unwrap())
}

fn parse_a_reading() -> Step {
    let (id, host) = who();
    let payload = encode_readings(&host, Incarnation(1), &[reading(1)], usize::MAX).unwrap().remove(0);
    Box::new(move || usize::from(decode(TopicKind::Readings, &id, &payload).is_ok()))
}

fn encode_a_line() -> Step {
    let ((id, host), reading) = (who(), reading(1));
    let mut line = Vec::with_capacity(256);
    Box::new(move || {
        line.clear();
        encode_reading(&mut line, &id, &host, &reading).unwrap();
        line.len()
    })
}

fn a_heartbeat() -> Step {
    let clock = Clock::start();
    let host = HostName::parse("sensor-host").unwrap();
    let config = RosterConfig::new(LocalHost { host: host.clone(), boot_id: None, pid: None });
    let mut roster = Roster::new(config, &[], 0, clock.monotonic(), clock.wall());
    roster.receives(Way::Mqtt, Reception::Open, "", clock.monotonic());
    let beats: Vec<Beat> = (0..PUBLISHERS)
        .map(|number| Beat {
            publisher: PublisherId::parse(&format!("publisher-{number}")).unwrap(),
            host: host.clone(),
            at: clock.monotonic(),
            wall: clock.wall(),
            way: Way::Mqtt,
            kind: BeatKind::Heartbeat(Box::new(Heartbeat::idle(Incarnation(1), Duration::from_secs(5)))),
        })
        .collect();
    roster.hear(&beats, clock.monotonic(), clock.wall());
    roster.recorded(PUBLISHERS);
    while roster.next_effect().is_some() {}
    let mut next = 0;
    Box::new(move || {
        next = (next + 1) % beats.len();
        // as the watchdog does with each message
        let now = clock.monotonic();
        roster.hear(&beats[next..=next], now, clock.wall());
        roster.took(clock.monotonic().since(now));
        (std::iter::from_fn(|| roster.next_effect()).count(), roster.next_due(), next).2
    })
}

fn take_a_batch() -> Step {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let config = JournalConfig {
        path: directory.path().join("journal.db"),
        bytes_max: 1 << 30,
        history: Duration::from_secs(60),
        has_sink: true,
        queue_entries_max: 1_000,
    };
    let journal = runtime.block_on(async {
        let (journal, _) = Journal::open(config).unwrap();
        let (publisher, host) = who();
        let lines = (1..=ROWS)
            .map(|sequence| {
                let mut line = Vec::new();
                encode_reading(&mut line, &publisher, &host, &reading(sequence)).unwrap();
                (sequence, line)
            })
            .collect();
        let entry = IntakeEntry::Readings { publisher, host, incarnation: Incarnation(1), lines };
        journal.append(Arc::new(vec![entry])).await.unwrap();
        journal
    });
    Box::new(move || {
        let _kept = &directory;
        let batch = runtime.block_on(journal.next_batch(ROWS, 4 << 20)).unwrap();
        batch.block_ids.len() + batch.lines.len()
    })
}
