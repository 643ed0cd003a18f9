//! Every alarm fires on its own defect, for the right publisher, for as long as its `for` asks, and is
//! quiet when all is well.

use std::collections::{BTreeMap, BTreeSet};

use heartwatch_domain::time::{Timestamp, parse_duration};
use heartwatch_system::clock::Clock;

use super::database::Database;
use super::expression::{Numbers, Tags, Threshold, parse, reduce};
use super::fixture::{Rows, all_well, all_wrong, nobody_watches};
use super::model::Rule;
use super::rules;
use crate::support::influxd::Influxd;

/// Whom each alarm is about when everything is wrong; an empty name stands for an alarm about nobody.
const FIRES: [(&str, &[&str]); 25] = [
    ("hw-load-high", &["load-high"]),
    ("hw-load-low", &["load-low"]),
    ("hw-load-spread", &["load-jumps", "load-peaks"]),
    ("hw-load-frozen", &["load-frozen"]),
    ("hw-load-peaks", &["load-peaks"]),
    ("hw-random-repeats", &["random-repeats"]),
    ("hw-random-narrow", &["random-narrow"]),
    ("hw-counter-step", &["counter-fast"]),
    ("hw-counter-back", &["counter-back"]),
    ("hw-sensor-defect", &["defect"]),
    ("hw-error-load", &["error-load"]),
    ("hw-error-random", &["error-random"]),
    ("hw-error-counter", &["error-counter"]),
    ("hw-error-batch", &["error-batch"]),
    ("hw-error-connection", &["error-connection"]),
    ("hw-publisher-dead", &["dead"]),
    ("hw-publisher-never-started", &["never-started"]),
    ("hw-publisher-hung", &["hung"]),
    ("hw-publisher-stopped", &["stopped"]),
    ("hw-publisher-silent", &["silent"]),
    ("hw-publisher-unreachable", &["unreachable"]),
    ("hw-monitor-unwell", &[""]),
    ("hw-rows-lost", &[""]),
    ("hw-rows-refused", &[""]),
    // its own story: a database without the monitor's rows
    ("hw-monitor-silent", &[]),
];

/// What a rule says at an instant: who breaches it; or nothing at all was there to look at.
async fn breaches(rule: &Rule, database: &Database<'_>, ago: u64) -> Option<BTreeSet<Tags>> {
    let mut known: BTreeMap<String, Numbers> = BTreeMap::new();
    let mut queried: BTreeMap<&str, BTreeMap<Tags, Vec<f64>>> = BTreeMap::new();
    for node in &rule.data {
        let model = &node.model;
        let expression = model.expression.as_deref().unwrap_or_default();
        match model.r#type.as_deref() {
            None => {
                let query = model.query.as_deref().unwrap();
                let series = database.ask(query, node.relative_time_range.from, ago, &BTreeMap::new()).await;
                let mut values = BTreeMap::new();
                for series in &series {
                    assert_eq!(series.columns.len(), 2, "{}: one value a series, or the rule is refused", rule.uid);
                    let again = values.insert(series.tags.clone(), series.numbers(1));
                    assert!(again.is_none(), "{}: two series with the labels {:?}", rule.uid, series.tags);
                }
                queried.insert(&node.ref_id, values);
            }
            Some("reduce") => {
                let reducer = model.reducer.as_deref().unwrap();
                let numbers = queried[expression].iter().map(|(tags, values)| (tags.clone(), reduce(reducer, values)));
                known.insert(node.ref_id.clone(), numbers.collect());
            }
            Some("threshold") => {
                let threshold = Threshold::of(&model.conditions).unwrap();
                let held = |value: &f64| f64::from(u8::from(threshold.holds(*value)));
                let numbers = known[expression].iter().map(|(tags, value)| (tags.clone(), held(value)));
                let numbers = numbers.collect();
                known.insert(node.ref_id.clone(), numbers);
            }
            Some(_) => {
                let numbers = parse(expression).unwrap().evaluate(&known);
                known.insert(node.ref_id.clone(), numbers);
            }
        }
    }
    let condition = &known[&rule.condition];
    let breach = condition.iter().filter(|(_, value)| **value != 0.0 && !value.is_nan());
    (!condition.is_empty()).then(|| breach.map(|(tags, _)| tags.clone()).collect())
}

/// For whom an alarm is raised: who breached it at every evaluation of its `for`.
async fn firing(rule: &Rule, database: &Database<'_>) -> BTreeSet<String> {
    let lasting = parse_duration(&rule.lasting).unwrap().as_secs();
    let mut firing: Option<BTreeSet<Tags>> = None;
    for ago in (0..=lasting).step_by(10) {
        let found = match breaches(rule, database, ago).await {
            Some(found) => found,
            None if rule.no_data_state == "Alerting" => BTreeSet::from([Tags::new()]),
            None => BTreeSet::new(),
        };
        firing = Some(firing.map_or(found.clone(), |before| before.intersection(&found).cloned().collect()));
    }
    let tags = firing.unwrap_or_default();
    tags.into_iter().map(|tags| tags.get("publisher").cloned().unwrap_or_default()).collect()
}

async fn filled<'a>(server: &'a Influxd, name: &'static str, story: fn(Timestamp) -> Rows) -> Database<'a> {
    let now = Clock::start().wall();
    Database::fill(server, name, now, story(now)).await
}

#[actix_rt::test]
async fn every_alarm_is_quiet_when_all_is_well() {
    let Some(server) = Influxd::start().await else { return };
    let database = filled(&server, "well", all_well).await;
    for rule in rules() {
        let firing = firing(&rule, &database).await;
        assert!(firing.is_empty(), "{} for {firing:?}", rule.uid);
        // quiet because it saw that all is well, not because it saw nothing
        assert!(breaches(&rule, &database, 0).await.is_some(), "{} has seen nothing", rule.uid);
    }
}

#[actix_rt::test]
async fn every_alarm_fires_for_the_one_that_it_is_about() {
    let Some(server) = Influxd::start().await else { return };
    let database = filled(&server, "wrong", all_wrong).await;
    let rules = rules();
    let known: BTreeSet<&str> = rules.iter().map(|rule| rule.uid.as_str()).collect();
    assert_eq!(known, FIRES.iter().map(|(uid, _)| *uid).collect(), "every alarm has its defect in this test");
    let mut wrong = Vec::new();
    for rule in &rules {
        let expected = FIRES.iter().find(|(uid, _)| *uid == rule.uid).unwrap().1;
        let expected: BTreeSet<String> = expected.iter().map(|name| (*name).to_owned()).collect();
        let firing = firing(rule, &database).await;
        if firing != expected {
            wrong.push(format!("{}: for {firing:?}, not {expected:?}", rule.uid));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[actix_rt::test]
async fn without_a_monitor_only_its_own_alarm_fires() {
    let Some(server) = Influxd::start().await else { return };
    let database = filled(&server, "nobody", nobody_watches).await;
    for rule in rules() {
        let firing = firing(&rule, &database).await;
        assert_eq!(!firing.is_empty(), rule.uid == "hw-monitor-silent", "{}", rule.uid);
    }
}
