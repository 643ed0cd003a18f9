//! The rules and their windows: rows in, alarms out.
//!
//! What it holds is bounded: series a rule, values a series, values in all. What does not fit is left out
//! and counted.

mod row;
mod series;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use self::row::{tag_of, value_of, written_measurement};
use self::series::{RuleState, Series};
use super::kept::{Kept, Key, Raised};
use heartwatch_domain::notice::{AlarmState, RuleAlarm};
use heartwatch_domain::publisher::{HostName, PublisherId};
use heartwatch_domain::rule::{Alarm, Reduction, Rule, Turn, WindowChange, WithoutData};
use heartwatch_domain::status::{AlarmsReply, RAISED_LISTED_MAX, RuleStatus};
use heartwatch_domain::time::{Monotonic, Timestamp};
use heartwatch_formats::line_protocol::decode;

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

/// Something to tell, and what it is about.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Telling {
    rule: usize,
    key: Key,
    pub alarm: RuleAlarm,
}

impl Table {
    /// Without rules yet. `kept` is what an earlier run has left.
    pub(super) fn new(monitor: (PublisherId, HostName), kept: Vec<Kept>, now: Monotonic) -> Self {
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
    pub(super) fn set_rules(&mut self, rules: &Arc<Vec<Rule>>, now: Monotonic, wall: Timestamp) -> bool {
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
            let mut series = Series::new(&state.rule, publisher, host);
            if raised.is_some() {
                (series.alarm, series.raised) = (Alarm::Raised, raised);
            }
            state.series.insert(key, series);
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
    pub(super) fn longest_window(&self) -> Duration {
        self.rules.iter().map(|state| state.rule.window).max().unwrap_or_default()
    }

    /// Takes a row of the journal.
    pub(super) fn take(&mut self, line: &[u8], now: Timestamp) {
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
                WindowChange::New => self.values += 1,
                WindowChange::InsteadOfOldest => self.left_out += 1,
                WindowChange::Again | WindowChange::Outside => {}
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
    pub(super) fn look(&mut self, hears: bool, now: Monotonic, wall: Timestamp) -> Vec<RuleAlarm> {
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
    pub(super) fn tellings(&self, wall: Timestamp) -> (Vec<RuleAlarm>, Vec<Telling>) {
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
    pub(super) fn told_over(&mut self, over: usize) {
        self.over.drain(..over.min(self.over.len()));
    }

    /// It was told.
    pub(super) fn told(&mut self, telling: &Telling) {
        let state = self.rules.get_mut(telling.rule).filter(|state| state.rule.name == telling.alarm.rule);
        let Some(series) = state.and_then(|state| state.series.get_mut(&telling.key)) else { return };
        match telling.alarm.state {
            AlarmState::Firing => series.raised.iter_mut().for_each(|raised| raised.told = true),
            AlarmState::Resolved => series.raised = None,
        }
    }

    /// What must survive a restart.
    pub(super) fn kept(&self) -> Vec<Kept> {
        self.rules.iter().flat_map(RuleState::kept).collect()
    }

    /// How every rule stands.
    pub(super) fn status(&self, wall: Timestamp) -> AlarmsReply {
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
