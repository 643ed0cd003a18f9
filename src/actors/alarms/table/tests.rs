//! Rows in, alarms out, over restarts and changes of the rules.

use super::series::SERIES_MAX;
use super::*;
use heartwatch_domain::rule::{Condition, Limit, Severity, TagCondition, TextPattern};

fn at(seconds: u64) -> (Monotonic, Timestamp) {
    let nanos = seconds * 1_000_000_000;
    (Monotonic::from_nanos(nanos), Timestamp::from_nanos(i64::try_from(nanos).unwrap()))
}

fn rule(name: &str, reduction: Reduction, limit: Limit) -> Rule {
    Rule {
        name: name.to_owned(),
        measurement: TextPattern::new("load*"),
        field: "value".to_owned(),
        tags: vec![TagCondition::parse("valid!=False").unwrap()],
        by: vec!["publisher".to_owned()],
        window: Duration::from_secs(10),
        reduction,
        samples_min: 1,
        condition: Condition {
            limit: Some(limit),
            hysteresis: 0.0,
            lasting: Duration::ZERO,
            without_data: WithoutData::Quiet,
        },
        severity: Severity::Critical,
        summary: "load too high".to_owned(),
        link: String::new(),
    }
}

fn table(rules: Vec<Rule>, kept: Vec<Kept>) -> Table {
    let monitor = (PublisherId::parse("monitor").unwrap(), HostName::parse("here").unwrap());
    let mut table = Table::new(monitor, kept, at(0).0);
    assert!(table.set_rules(&Arc::new(rules), at(0).0, at(0).1));
    table
}

fn take(table: &mut Table, second: u64, rows: &[&str]) {
    for row in rows {
        table.take(format!("{row} {}", at(second).1.as_nanos()).as_bytes(), at(second).1);
    }
}

fn look(table: &mut Table, second: u64) -> Vec<(String, String, AlarmState)> {
    let turned = table.look(true, at(second).0, at(second).1);
    turned.into_iter().map(|alarm| (alarm.rule, alarm.publisher.to_string(), alarm.state)).collect()
}

fn tell_all(table: &mut Table, second: u64) -> Vec<AlarmState> {
    let (over, tellings) = table.tellings(at(second).1);
    table.told_over(over.len());
    tellings.iter().for_each(|telling| table.told(telling));
    over.iter().chain(tellings.iter().map(|telling| &telling.alarm)).map(|alarm| alarm.state).collect()
}

#[test]
fn each_publisher_has_an_alarm_of_its_own_and_only_wanted_rows_count() {
    let mut table = table(vec![rule("high", Reduction::Mean, Limit::Above(7.0))], vec![]);
    let rows = [
        "load\\ one,publisher=a value=9",
        "load\\ one,publisher=b value=3i",
        "load\\ one,publisher=b,valid=False value=99",
        "loud,publisher=c value=99",
        "load,publisher=d other=99",
        "load,publisher=e value=\"99\"",
    ];
    take(&mut table, 1, &rows);
    take(&mut table, 1, &rows); // as a second reading of the journal does
    assert_eq!(table.status(at(1).1).values, 2);
    assert_eq!(look(&mut table, 1), [("high".to_owned(), "a".to_owned(), AlarmState::Firing)]);
    let (_, tellings) = table.tellings(at(1).1);
    let alarm = &tellings[0].alarm;
    assert_eq!(alarm.summary, "a: load too high: mean of the last 10 s is 9, above 7");
    assert_eq!((alarm.measurement.as_str(), alarm.tags["publisher"].as_str()), ("load one", "a"));
    assert_eq!(look(&mut table, 2), []);
    // the row is too old: without data it is quiet, and its series is forgotten when that was told
    assert_eq!(tell_all(&mut table, 2), [AlarmState::Firing]);
    assert_eq!(look(&mut table, 20), [("high".to_owned(), "a".to_owned(), AlarmState::Resolved)]);
    assert_eq!(tell_all(&mut table, 20), [AlarmState::Resolved]);
    assert_eq!(look(&mut table, 21), []);
    assert_eq!((table.status(at(21).1).values, table.status(at(21).1).rules[0].series), (0, 0));
}

#[test]
fn what_was_raised_survives_and_is_told_once_and_ends_with_its_rule() {
    let rules = vec![rule("high", Reduction::Last, Limit::Above(7.0))];
    let mut before = table(rules.clone(), vec![]);
    take(&mut before, 1, &["load,publisher=a value=9"]);
    look(&mut before, 1);
    assert!(!before.kept()[0].raised.unwrap().told);
    assert_eq!(tell_all(&mut before, 1), [AlarmState::Firing]);
    let kept = before.kept();
    let json = serde_json::to_vec(&kept).unwrap();
    assert_eq!(serde_json::from_slice::<Vec<Kept>>(&json).unwrap(), kept);

    let mut after = table(rules, kept.clone());
    assert_eq!((look(&mut after, 2), tell_all(&mut after, 2)), (vec![], vec![]), "nothing was read yet");
    take(&mut after, 3, &["load,publisher=a value=9"]);
    assert_eq!((look(&mut after, 3), tell_all(&mut after, 3)), (vec![], vec![]), "it is raised as before");
    take(&mut after, 4, &["load,publisher=a value=1"]);
    assert_eq!(look(&mut after, 4).len(), 1);
    assert_eq!(tell_all(&mut after, 4), [AlarmState::Resolved]);

    let mut without = table(vec![rule("other", Reduction::Last, Limit::Above(7.0))], kept);
    assert_eq!(tell_all(&mut without, 2), [AlarmState::Resolved]);
    assert_eq!((tell_all(&mut without, 3), without.kept()), (vec![], vec![]));
}

#[test]
fn silence_is_an_alarm_where_the_rule_says_so_also_over_a_restart_and_never_a_deaf_monitors() {
    let mut silent = rule("silent", Reduction::Last, Limit::Above(1e9));
    silent.condition = Condition { limit: None, without_data: WithoutData::Alarm, ..silent.condition };
    let mut before = table(vec![silent.clone()], vec![]);
    take(&mut before, 1, &["load,publisher=a value=9"]);
    assert_eq!(look(&mut before, 2), []);
    let mut table = table(vec![silent], before.kept());
    assert_eq!(look(&mut table, 5), [], "it may have been written before it started");
    assert_eq!(table.look(false, at(11).0, at(11).1), [], "it hears nobody");
    assert_eq!(look(&mut table, 12), [], "nobody may have heard it");
    assert_eq!(look(&mut table, 22), [("silent".to_owned(), "a".to_owned(), AlarmState::Firing)]);
    take(&mut table, 23, &["load,publisher=a value=9"]);
    assert_eq!(look(&mut table, 23), [("silent".to_owned(), "a".to_owned(), AlarmState::Resolved)]);
    assert_eq!(tell_all(&mut table, 23), [], "nobody had heard of it");
}

#[test]
fn a_rule_that_stays_keeps_its_windows_and_too_many_series_are_counted() {
    let rules = vec![rule("high", Reduction::Last, Limit::Above(7.0))];
    let mut table = table(rules.clone(), vec![]);
    for number in 0..SERIES_MAX + 5 {
        take(&mut table, 1, &[&format!("load,publisher=p{number} value=1")]);
    }
    assert_eq!((table.values, table.left_out), (SERIES_MAX, 5));
    let mut more = rules;
    more.push(rule("more", Reduction::Last, Limit::Above(7.0)));
    assert!(table.set_rules(&Arc::new(more.clone()), at(2).0, at(2).1));
    assert_eq!(table.values, SERIES_MAX);
    more.pop();
    assert!(!table.set_rules(&Arc::new(more), at(2).0, at(2).1), "nothing has to be read again");
}
