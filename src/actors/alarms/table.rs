//! The rules and their windows: rows in, alarms out.
//!
//! What it holds is bounded: series a rule, values a series, values in all. What does not fit is left out
//! and counted.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use super::kept::{Kept, Key, Raised};
use crate::domain::notice::{AlarmState, RuleAlarm};
use crate::domain::publisher::{HostName, PublisherId};
use crate::domain::reading::FieldValue;
use crate::domain::rule::{Alarm, Reduction, Rule, Taken, Turn, Window, WithoutData};
use crate::domain::time::{Monotonic, Timestamp};
use crate::formats::line_protocol::{DecodedRow, decode};
use crate::messages::alarms::{AlarmsReply, RAISED_LISTED_MAX, RuleStatus};

/// Most series that a rule looks at.
const SERIES_MAX: usize = 1_000;
/// Most values of one series.
const SERIES_VALUES_MAX: usize = 100_000;
/// Most values of all rules.
const VALUES_MAX: usize = 1_000_000;
/// Most measurements whose rules are remembered.
const MEASUREMENTS_MAX: usize = 10_000;
/// What begins with this are the monitor's own rows.
const OWN: &str = "heartwatch_";

/// All rules.
#[derive(Debug)]
pub(super) struct Table {
    monitor: (PublisherId, HostName),
    wanted: Arc<Vec<Rule>>,
    rules: Vec<RuleState>,
    /// Which rules look at a measurement, by its name as it is written in a row.
    of_measurement: HashMap<Vec<u8>, Vec<usize>>,
    values: usize,
    left_out: u64,
    /// From when on the absence of data says something.
    began: Monotonic,
    /// Whether the monitor heard nothing at the last look.
    deaf: bool,
    /// What has to be told of rules that are gone.
    over: Vec<RuleAlarm>,
    kept_before: Vec<Kept>,
}

#[derive(Debug)]
struct RuleState {
    rule: Rule,
    series: BTreeMap<Key, Series>,
}

#[derive(Debug)]
struct Series {
    publisher: PublisherId,
    host: HostName,
    window: Window,
    alarm: Alarm,
    number: Option<f64>,
    /// While it is raised, and after it until that is told.
    raised: Option<Raised>,
}

/// Something to tell, and what it is about.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Telling {
    rule: usize,
    key: Key,
    pub alarm: RuleAlarm,
}

impl Table {
    /// Without rules yet. `kept` is what an earlier run has left.
    pub fn new(monitor: (PublisherId, HostName), kept: Vec<Kept>, now: Monotonic) -> Self {
        Self {
            monitor,
            wanted: Arc::default(),
            rules: Vec::new(),
            of_measurement: HashMap::new(),
            values: 0,
            left_out: 0,
            began: now,
            deaf: false,
            over: Vec::new(),
            kept_before: kept,
        }
    }

    /// Other rules. What is the same as before goes on. The answer is whether a window has to be filled.
    pub fn set_rules(&mut self, rules: &Arc<Vec<Rule>>, now: Monotonic, wall: Timestamp) -> bool {
        if Arc::ptr_eq(rules, &self.wanted) {
            return false;
        }
        self.wanted = Arc::clone(rules);
        self.of_measurement.clear();
        let mut kept = std::mem::take(&mut self.kept_before);
        let mut before = std::mem::take(&mut self.rules);
        let mut is_new = false;
        for rule in rules.iter() {
            let known = before.iter().position(|state| state.rule.name == rule.name).map(|at| before.swap_remove(at));
            let state = match known {
                Some(state) if state.rule == *rule => state,
                known => {
                    is_new = true;
                    kept.extend(known.iter().flat_map(RuleState::kept));
                    RuleState { rule: rule.clone(), series: BTreeMap::new() }
                }
            };
            self.rules.push(state);
        }
        kept.extend(before.iter().flat_map(RuleState::kept));
        for kept in kept {
            self.restore(kept, wall);
        }
        if is_new {
            self.began = now;
        }
        self.values = self.rules.iter().flat_map(|state| state.series.values()).map(|series| series.window.len()).sum();
        is_new
    }

    /// Takes up what was raised before; what no rule is there for any more is over.
    fn restore(&mut self, kept: Kept, wall: Timestamp) {
        let fits = |state: &&mut RuleState| state.rule.name == kept.rule && state.rule.by.len() + 1 == kept.key.len();
        let Kept { publisher, host, key, raised, .. } = kept.clone();
        if let Some(state) = self.rules.iter_mut().find(fits) {
            let alarm = if raised.is_some() { Alarm::Raised } else { Alarm::Quiet };
            let window = Window::new(state.rule.window, SERIES_VALUES_MAX);
            state.series.insert(key, Series { publisher, host, window, alarm, number: None, raised });
        } else if let Some(raised) = raised.filter(|raised| raised.told) {
            self.over.push(RuleAlarm {
                state: AlarmState::Resolved,
                severity: raised.severity,
                measurement: key.into_iter().next().unwrap_or_default(),
                tags: BTreeMap::new(),
                since: raised.at,
                at: wall,
                number: None,
                summary: format!("{publisher}: the rule {} is not configured like this any more", kept.rule),
                link: String::new(),
                rule: kept.rule,
                publisher,
                host,
            });
        }
    }

    /// How far back the rules look at most.
    pub fn longest_window(&self) -> Duration {
        self.rules.iter().map(|state| state.rule.window).max().unwrap_or_default()
    }

    /// Takes a row of the journal.
    pub fn take(&mut self, line: &[u8], now: Timestamp) {
        let name = written_measurement(line);
        if !self.of_measurement.contains_key(name) {
            self.remember(name);
        }
        let Some(rules) = self.of_measurement.get(name).filter(|rules| !rules.is_empty()) else { return };
        let Ok(row) = decode(line) else { return };
        let Some(time) = row.time else { return };
        let mut hasher = DefaultHasher::new();
        row.tags.hash(&mut hasher);
        let series_number = hasher.finish();
        for at in rules {
            let Some(state) = self.rules.get_mut(*at) else { continue };
            let Some(value) = value_of(&row, &state.rule.field) else { continue };
            if !state.rule.wants(|tag| tag_of(&row, tag)) {
                continue;
            }
            let Some(series) = state.series_of(&row, &self.monitor) else {
                self.left_out += 1;
                continue;
            };
            if self.values >= VALUES_MAX {
                self.left_out += 1;
                continue;
            }
            match series.window.take(time, series_number, value, now) {
                Taken::New => self.values += 1,
                Taken::InsteadOfOldest => self.left_out += 1,
                Taken::Again | Taken::Outside => {}
            }
        }
    }

    fn remember(&mut self, name: &[u8]) {
        if self.of_measurement.len() >= MEASUREMENTS_MAX {
            self.of_measurement.clear();
        }
        let mut row = name.to_vec();
        row.extend_from_slice(b" x=0");
        let measurement = decode(&row).map(|row| row.measurement).unwrap_or_default();
        let rules = self.rules.iter().enumerate().filter(|(_, state)| state.rule.measurement.matches(&measurement));
        let rules = rules.map(|(at, _)| at).collect();
        self.of_measurement.insert(name.to_vec(), rules);
    }

    /// Looks at every series. The answer is what has turned. While the monitor hears nothing, only its own rows
    /// say something.
    pub fn look(&mut self, hears: bool, now: Monotonic, wall: Timestamp) -> Vec<RuleAlarm> {
        // What was missed while it heard nothing is missing for a window from then on.
        if hears && self.deaf {
            self.began = now;
        }
        self.deaf = !hears;
        let mut turned = Vec::new();
        for state in &mut self.rules {
            let rule = &state.rule;
            let condition = &rule.condition;
            let settled = now.since(self.began) >= rule.window;
            for (key, series) in &mut state.series {
                self.values = self.values.saturating_sub(series.window.forget(wall));
                if !hears && !key.first().is_some_and(|measurement| measurement.starts_with(OWN)) {
                    continue;
                }
                let number = series.window.number(rule.reduction, rule.samples_min, wall);
                // Of what came before, not everything may have been kept: its absence says nothing yet.
                if !settled && (series.window.is_empty() || rule.reduction == Reduction::Count) {
                    continue;
                }
                series.number = number;
                let turn = series.alarm.look(condition, number, now);
                match turn {
                    Some(Turn::Raised { .. }) => {
                        // One that was not told to be over is the same as before.
                        let told = series.raised.is_some_and(|raised| raised.told);
                        series.raised = Some(Raised { at: wall, severity: rule.severity, told });
                        turned.push(series.alarm(rule, key, AlarmState::Firing, wall));
                    }
                    Some(Turn::Cleared) => {
                        turned.push(series.alarm(rule, key, AlarmState::Resolved, wall));
                        series.raised = series.raised.filter(|raised| raised.told);
                    }
                    None => {}
                }
            }
            let is_remembered = |series: &Series| {
                !series.window.is_empty()
                    || series.alarm != Alarm::Quiet
                    || series.raised.is_some()
                    || condition.without_data == WithoutData::Alarm
            };
            state.series.retain(|_, series| is_remembered(series));
        }
        turned
    }

    /// What has to be told: first what is over of rules that are gone.
    pub fn tellings(&self, wall: Timestamp) -> (Vec<RuleAlarm>, Vec<Telling>) {
        let mut tellings = Vec::new();
        for (rule, state) in self.rules.iter().enumerate() {
            for (key, series) in &state.series {
                let Some(raised) = series.raised else { continue };
                let now = if series.alarm == Alarm::Raised { AlarmState::Firing } else { AlarmState::Resolved };
                if raised.told == (now == AlarmState::Resolved) {
                    let alarm = series.alarm(&state.rule, key, now, wall);
                    tellings.push(Telling { rule, key: key.clone(), alarm });
                }
            }
        }
        (self.over.clone(), tellings)
    }

    /// The first `over` alarms of rules that are gone were told.
    pub fn told_over(&mut self, over: usize) {
        self.over.drain(..over.min(self.over.len()));
    }

    /// It was told.
    pub fn told(&mut self, telling: &Telling) {
        let state = self.rules.get_mut(telling.rule).filter(|state| state.rule.name == telling.alarm.rule);
        let Some(series) = state.and_then(|state| state.series.get_mut(&telling.key)) else { return };
        match telling.alarm.state {
            AlarmState::Firing => series.raised.iter_mut().for_each(|raised| raised.told = true),
            AlarmState::Resolved => series.raised = None,
        }
    }

    /// What must survive a restart.
    pub fn kept(&self) -> Vec<Kept> {
        self.rules.iter().flat_map(RuleState::kept).collect()
    }

    /// How every rule stands.
    pub fn status(&self, wall: Timestamp) -> AlarmsReply {
        let count = |state: &RuleState, wanted: fn(Alarm) -> bool| {
            state.series.values().filter(|series| wanted(series.alarm)).count()
        };
        let rules = self.rules.iter().map(|state| RuleStatus {
            rule: state.rule.name.clone(),
            condition: state.rule.describe(),
            severity: state.rule.severity,
            series: state.series.len(),
            pending: count(state, |alarm| matches!(alarm, Alarm::Pending { .. })),
            raised: count(state, |alarm| alarm == Alarm::Raised),
        });
        let raised = self.rules.iter().flat_map(|state| {
            let raised = state.series.iter().filter(|(_, series)| series.alarm == Alarm::Raised);
            raised.map(|(key, series)| series.alarm(&state.rule, key, AlarmState::Firing, wall))
        });
        let mut raised: Vec<_> = raised.collect();
        raised.sort_by_key(|alarm| alarm.since);
        raised.truncate(RAISED_LISTED_MAX);
        AlarmsReply {
            rules: rules.collect(),
            raised,
            values: self.values,
            left_out: self.left_out,
            ..AlarmsReply::default()
        }
    }
}

impl RuleState {
    /// The series of a row; none where there are too many.
    fn series_of(&mut self, row: &DecodedRow, monitor: &(PublisherId, HostName)) -> Option<&mut Series> {
        let mut key = vec![row.measurement.clone()];
        key.extend(self.rule.by.iter().map(|tag| tag_of(row, tag).to_owned()));
        if !self.series.contains_key(&key) {
            if self.series.len() >= SERIES_MAX {
                return None;
            }
            let series = Series {
                publisher: PublisherId::parse(tag_of(row, "publisher")).unwrap_or_else(|_| monitor.0.clone()),
                host: HostName::parse(tag_of(row, "host")).unwrap_or_else(|_| monitor.1.clone()),
                window: Window::new(self.rule.window, SERIES_VALUES_MAX),
                alarm: Alarm::Quiet,
                number: None,
                raised: None,
            };
            self.series.insert(key.clone(), series);
        }
        self.series.get_mut(&key)
    }

    fn kept(&self) -> Vec<Kept> {
        let is_kept =
            |series: &Series| series.raised.is_some() || self.rule.condition.without_data == WithoutData::Alarm;
        let kept = self.series.iter().filter(|(_, series)| is_kept(series));
        kept.map(|(key, series)| Kept {
            rule: self.rule.name.clone(),
            key: key.clone(),
            publisher: series.publisher.clone(),
            host: series.host.clone(),
            raised: series.raised,
        })
        .collect()
    }
}

impl Series {
    fn alarm(&self, rule: &Rule, key: &Key, state: AlarmState, wall: Timestamp) -> RuleAlarm {
        let mut tags: BTreeMap<String, String> = rule.by.iter().cloned().zip(key.iter().skip(1).cloned()).collect();
        tags.retain(|_, value| !value.is_empty());
        let finding = rule.finding(self.number);
        let summary = match (rule.summary.as_str(), state) {
            ("", _) => finding,
            (summary, AlarmState::Firing) => format!("{summary}: {finding}"),
            (summary, AlarmState::Resolved) => format!("over: {summary}: {finding}"),
        };
        RuleAlarm {
            rule: rule.name.clone(),
            state,
            severity: rule.severity,
            publisher: self.publisher.clone(),
            host: self.host.clone(),
            measurement: key.first().cloned().unwrap_or_default(),
            tags,
            since: self.raised.map_or(wall, |raised| raised.at),
            at: wall,
            number: self.number,
            summary: format!("{}: {summary}", self.publisher),
            link: rule.link.clone(),
        }
    }
}

/// The measurement as it is written in a row: up to the first comma or space without a backslash before it.
fn written_measurement(line: &[u8]) -> &[u8] {
    let mut escaped = false;
    let end = line.iter().position(|byte| {
        let is_end = !escaped && matches!(byte, b',' | b' ');
        escaped = *byte == b'\\' && !escaped;
        is_end
    });
    line.get(..end.unwrap_or(line.len())).unwrap_or_default()
}

fn tag_of<'a>(row: &'a DecodedRow, name: &str) -> &'a str {
    row.tags.iter().find(|(tag, _)| tag == name).map_or("", |(_, value)| value)
}

/// A number; true is 1. Text is none.
fn value_of(row: &DecodedRow, field: &str) -> Option<f64> {
    match row.fields.iter().find(|(name, _)| name == field)?.1 {
        FieldValue::Float(value) => Some(value),
        FieldValue::Integer(value) => Some(value as f64),
        FieldValue::Boolean(value) => Some(f64::from(u8::from(value))),
        FieldValue::Text(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::rule::{Condition, Limit, Severity, TagCondition, TextPattern};

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
}
