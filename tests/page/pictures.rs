//! The pictures of the page in `docs/img/`: `make pictures`. A real monitor with an hour of past put into
//! its journal, real publishers, of which one is killed and one stopped.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

use crate::support;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use heartwatch_domain::evidence::{Evidence, EvidenceKind};
use heartwatch_domain::publisher::{HostName, PublisherId};
use heartwatch_domain::time::Timestamp;
use heartwatch_domain::verdict::{Change, Trigger, Verdict};
use heartwatch_store::journal::{Journal, JournalConfig};
use heartwatch_system::clock::Clock;
use rustix::process::Signal;
use support::browser::Browser;
use support::heartwatch::{RunOptions, Running, fixture, publish};

const SOON: Duration = Duration::from_secs(30);
const NAMES: [&str; 9] = [
    "boiler-room",
    "greenhouse-1",
    "greenhouse-2",
    "hall-north",
    "hall-south",
    "loading-dock",
    "roof-east",
    "roof-west",
    "workshop",
];

/// Verdict changes of the last hour: who, minutes ago, to what.
const PAST: [(&str, u64, Verdict); 19] = [
    ("boiler-room", 55, Verdict::Alive),
    ("greenhouse-1", 58, Verdict::Alive),
    ("greenhouse-2", 58, Verdict::Alive),
    ("hall-north", 57, Verdict::Alive),
    ("hall-south", 57, Verdict::Alive),
    ("loading-dock", 54, Verdict::Alive),
    ("roof-east", 52, Verdict::Alive),
    ("roof-west", 52, Verdict::Alive),
    ("workshop", 50, Verdict::Alive),
    ("roof-west", 41, Verdict::Silent),
    ("roof-west", 37, Verdict::Alive),
    ("loading-dock", 33, Verdict::Dead),
    ("loading-dock", 30, Verdict::Alive),
    ("hall-north", 24, Verdict::Hung),
    ("hall-north", 19, Verdict::Alive),
    ("roof-west", 16, Verdict::Late),
    ("roof-west", 14, Verdict::Alive),
    ("workshop", 9, Verdict::Ended),
    ("workshop", 5, Verdict::Alive),
];

async fn past(data: &Path) {
    let (journal, _) = Journal::open(JournalConfig {
        path: data.join("journal.sqlite"),
        bytes_max: 1 << 30,
        history: Duration::from_secs(86_400),
        has_sink: false,
        queue_entries_max: 1_000,
    })
    .unwrap();
    let now = Clock::start().wall();
    let mut last = std::collections::HashMap::new();
    let mut changes = Vec::new();
    for (epoch, (publisher, minutes, to)) in PAST.into_iter().enumerate() {
        let at = Timestamp::earlier_by(now, Duration::from_secs(minutes * 60));
        let from = last.insert(publisher, to).unwrap_or(Verdict::Unknown);
        let words = match to {
            Verdict::Alive if from == Verdict::Unknown => "heard for the first time",
            Verdict::Alive => "heard again",
            Verdict::Late => "nothing for 2.4 s, it promises a sign every second",
            Verdict::Silent => "silent for 5 s (deadline 5 s); PID 4711 is running, but nothing reaches us",
            Verdict::Hung => "silent for 5 s (deadline 5 s); PID 4702 exists and has used no CPU time for 5 s",
            Verdict::Ended => "it said goodbye and left in order",
            _ => "silent for 5 s (deadline 5 s); PID 4699 is gone",
        };
        let trigger = match to {
            Verdict::Alive => Trigger::Heartbeat,
            Verdict::Ended => Trigger::Goodbye,
            _ => Trigger::Deadline,
        };
        changes.push(Change {
            epoch: epoch as u64 + 1,
            publisher: PublisherId::parse(publisher).unwrap(),
            host: HostName::parse("plant-7").unwrap(),
            from,
            to,
            at,
            decided_at: at + Duration::from_millis(4),
            trigger,
            summary: format!("{to}: {words}"),
            evidence: vec![Evidence::new(EvidenceKind::Silence, words)],
            process: None,
            maintenance: false,
            flapping: None,
            because: None,
        });
    }
    journal.record_changes(Arc::new(changes)).await.unwrap();
    journal.close().await;
}

#[actix_rt::test]
#[ignore = "makes pictures: make pictures"]
async fn pictures() {
    let Some(mut browser) = Browser::start().await else { return };
    let directory = tempfile::tempdir().unwrap();
    past(&directory.path().join("data")).await;
    let mut config = String::new();
    for (number, name) in NAMES.iter().enumerate().filter(|(_, name)| !["loading-dock", "roof-west"].contains(name)) {
        let csv = fixture(&format!("light-{}.csv", number % 2 + 1));
        config += &format!(
            "[[publisher]]\nid = '{name}'\ncsv = '{}'\ninterval = '{}ms'\n",
            csv.display(),
            150 + 120 * number
        );
    }
    config += "[[publisher]]\nid = 'cold-store'\n";
    let options = RunOptions { config, deadline: Duration::from_secs(5), ..RunOptions::default() };
    let monitor = Running::start_in(directory, options).await;
    let mut killed = publish(monitor.directory(), "loading-dock", monitor.mqtt_url());
    let stopped = publish(monitor.directory(), "roof-west", monitor.mqtt_url());
    for name in NAMES {
        monitor.until(name, Verdict::Alive).await;
    }
    // something to see in the plots
    tokio::time::sleep(Duration::from_secs(25)).await;
    stopped.signal(Signal::STOP);
    monitor.until("roof-west", Verdict::Stopped).await;
    killed.kill();
    monitor.until("loading-dock", Verdict::Dead).await;

    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/img");
    let drawn = "[...document.querySelectorAll('canvas')].every((canvas) => window.Chart?.getChart(canvas))";
    let shots = [
        ("page-overview", "", 1360, 1010, false),
        ("page-overview-dark", "", 1360, 1010, true),
        ("page-publisher", "publisher/loading-dock", 1360, 1180, false),
        ("page-publisher-dark", "publisher/greenhouse-2", 1360, 1180, true),
        ("page-events", "events", 1360, 760, false),
        ("page-ledger", "ledger", 1360, 760, false),
        ("page-errors", "errors", 1360, 620, false),
        ("page-phone", "", 390, 844, false),
    ];
    browser.open(monitor.page()).await;
    browser.until("document.querySelectorAll('.body .row').length >= 9", SOON).await;
    for (name, page, width, height, dark) in shots {
        browser.size(width, height).await;
        browser.dark(dark).await;
        browser.value(&format!("location.hash = '#/{page}'")).await;
        browser.until("document.querySelector('main h1')", SOON).await;
        browser.until(drawn, SOON).await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        std::fs::write(images.join(format!("{name}.png")), browser.picture().await).unwrap();
    }
    stopped.signal(Signal::CONT);
    assert_eq!(browser.complaints, Vec::<String>::new());
}
