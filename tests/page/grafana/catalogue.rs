//! The same alarms without a Grafana: the rules of `deploy/rules.toml`, through heartwatch's own journal and
//! windows, fire on the same defects and are quiet when all is well.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use heartwatch::config::{Layers, load};
use heartwatch_domain::reading::FieldValue;
use heartwatch_domain::rule::{Rule, Window};
use heartwatch_domain::time::Timestamp;
use heartwatch_formats::line_protocol::{DecodedRow, decode};
use heartwatch_store::journal::{Journal, JournalConfig};
use heartwatch_system::clock::Clock;

use super::fixture::{Rows, all_well, all_wrong};

/// Whom each rule is about when everything is wrong; an empty name stands for an alarm about nobody.
const FIRES: [(&str, &[&str]); 23] = [
    ("load-too-high", &["load-high"]),
    ("load-too-low", &["load-low"]),
    ("load-jumps", &["load-jumps", "load-peaks"]),
    ("load-frozen", &["load-frozen"]),
    ("load-far-above-the-cores", &["load-peaks"]),
    ("random-generator-repeats", &["random-repeats"]),
    ("random-generator-too-narrow", &["random-narrow"]),
    ("counter-steps-wrongly", &["counter-fast"]),
    ("counter-goes-backwards", &["counter-back"]),
    ("sensor-defect", &["defect"]),
    ("cannot-be-read", &["error-load", "error-random", "error-counter"]),
    ("batches-cannot-be-sent", &["error-batch"]),
    ("connection-lost", &["error-connection"]),
    ("publisher-dead", &["dead"]),
    ("publisher-never-started", &["never-started"]),
    ("publisher-hung", &["hung"]),
    ("publisher-stopped", &["stopped"]),
    ("publisher-silent", &["silent"]),
    ("publisher-unreachable", &["unreachable"]),
    ("monitor-unwell", &[""]),
    ("readings-lost", &[""]),
    ("rows-refused", &[""]),
    // the story has no second monitor
    ("monitor-silent", &[]),
];

fn catalogue() -> Vec<Rule> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/rules.toml");
    let loaded = load(&Layers { file: Some(file), ..Layers::default() });
    loaded.unwrap_or_else(|mistakes| panic!("{mistakes}")).settings.rules
}

/// The story through the journal, as the rules read it.
async fn rows(story: Rows, now: Timestamp) -> Vec<DecodedRow> {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(JournalConfig {
        path: directory.path().join("journal.sqlite"),
        bytes_max: 1 << 30,
        history: Duration::from_secs(3_600),
        has_sink: false,
        queue_entries_max: 100_000,
    })
    .unwrap();
    journal.record_changes(Arc::new(story.changes)).await.unwrap();
    journal.record_standing(Arc::new(story.standing)).await.unwrap();
    journal.append(Arc::new(story.entries)).await.unwrap();
    let (mut tail, mut rows) = (journal.tail(), Vec::new());
    while !tail.read(now, Clock::start(), |row| rows.push(decode(row).unwrap())).unwrap() {}
    let before = rows.len();
    assert!(tail.read(now, Clock::start(), |row| rows.push(decode(row).unwrap())).unwrap());
    assert_eq!(rows.len(), before, "what was read is not read again");
    journal.close().await;
    rows
}

fn tag<'a>(row: &'a DecodedRow, name: &str) -> &'a str {
    row.tags.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
}

/// Who breaches a rule at an instant.
fn breaches(rule: &Rule, rows: &[DecodedRow], now: Timestamp) -> BTreeSet<Vec<String>> {
    let mut windows: BTreeMap<Vec<String>, Window> = BTreeMap::new();
    for row in rows {
        let value = row.fields.iter().find(|(name, _)| *name == rule.field).map(|(_, value)| value);
        let value = match value {
            Some(FieldValue::Float(value)) => *value,
            Some(FieldValue::Integer(value)) => *value as f64,
            _ => continue,
        };
        if !rule.measurement.matches(&row.measurement) || !rule.wants(|name| tag(row, name)) {
            continue;
        }
        let mut series = DefaultHasher::new();
        row.tags.hash(&mut series);
        let publisher = rule.by.iter().any(|by| by == "publisher").then(|| tag(row, "publisher").to_owned());
        let key = vec![publisher.unwrap_or_default(), row.measurement.clone()];
        let window = windows.entry(key).or_insert_with(|| Window::new(rule.window, 100_000));
        window.take(row.time.unwrap(), series.finish(), value, now);
    }
    let breached = |window: &Window| {
        let number = window.number(rule.reduction, rule.samples_min, now);
        number.zip(rule.condition.limit).is_some_and(|(number, limit)| limit.is_breached_by(number))
    };
    windows.into_iter().filter(|(_, window)| breached(window)).map(|(key, _)| key).collect()
}

/// For whom an alarm is raised: who breached it at every look of its `for`.
fn firing(rule: &Rule, rows: &[DecodedRow], now: Timestamp) -> BTreeSet<String> {
    let lasting = rule.condition.lasting.as_secs();
    let looks = (0..=lasting).step_by(10).map(|ago| breaches(rule, rows, now.earlier_by(Duration::from_secs(ago))));
    let all = looks.reduce(|before, found| before.intersection(&found).cloned().collect());
    all.unwrap_or_default().into_iter().map(|mut key| key.remove(0)).collect()
}

#[actix_rt::test]
async fn every_rule_fires_for_the_one_that_it_is_about_and_is_quiet_when_all_is_well() {
    let now = Clock::start().wall();
    let (well, wrong) = (rows(all_well(now), now).await, rows(all_wrong(now), now).await);
    let rules = catalogue();
    let known: Vec<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(known, FIRES.map(|(name, _)| name), "every rule has its defect in this test");
    let mut mistakes = Vec::new();
    for (rule, (_, expected)) in rules.iter().zip(FIRES) {
        let expected: BTreeSet<String> = expected.iter().map(|name| (*name).to_owned()).collect();
        let found = firing(rule, &wrong, now);
        if found != expected {
            mistakes.push(format!("{}: for {found:?}, not {expected:?}", rule.name));
        }
        let found = firing(rule, &well, now);
        if !found.is_empty() {
            mistakes.push(format!("{}: for {found:?} while all is well", rule.name));
        }
    }
    assert!(mistakes.is_empty(), "\n{}", mistakes.join("\n"));
}
