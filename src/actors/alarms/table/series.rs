//! One rule, and the series that it tells apart: each has its window of values and its alarm.

use std::collections::BTreeMap;

use super::row::tag_of;
use crate::actors::alarms::kept::{Kept, Key, Raised};
use heartwatch_domain::notice::{AlarmState, RuleAlarm};
use heartwatch_domain::publisher::{HostName, PublisherId};
use heartwatch_domain::rule::{Alarm, Rule, Window, WithoutData};
use heartwatch_domain::time::Timestamp;
use heartwatch_formats::line_protocol::DecodedRow;

/// Most series that a rule looks at.
pub(super) const SERIES_MAX: usize = 1_000;

/// Most values of one series.
const SERIES_VALUES_MAX: usize = 100_000;

/// A rule and everything that it looks at.
#[derive(Debug)]
pub(super) struct RuleState {
    pub rule: Rule,
    pub series: BTreeMap<Key, Series>,
}

/// What a rule looks at as one: its values of late, and whether they are an alarm.
#[derive(Debug)]
pub(super) struct Series {
    pub publisher: PublisherId,
    pub host: HostName,
    pub window: Window,
    pub alarm: Alarm,
    pub number: Option<f64>,
    /// While it is raised, and after it until that is told.
    pub raised: Option<Raised>,
}

impl RuleState {
    /// The series of a row; none where there are too many.
    pub(super) fn series_of(&mut self, row: &DecodedRow, monitor: &(PublisherId, HostName)) -> Option<&mut Series> {
        let mut key = vec![row.measurement.clone()];
        key.extend(self.rule.by.iter().map(|tag| tag_of(row, tag).to_owned()));
        if !self.series.contains_key(&key) {
            if self.series.len() >= SERIES_MAX {
                return None;
            }
            let publisher = PublisherId::parse(tag_of(row, "publisher")).unwrap_or_else(|_| monitor.0.clone());
            let host = HostName::parse(tag_of(row, "host")).unwrap_or_else(|_| monitor.1.clone());
            self.series.insert(key.clone(), Series::new(&self.rule, publisher, host));
        }
        self.series.get_mut(&key)
    }

    /// What of it must survive a restart.
    pub(super) fn kept(&self) -> Vec<Kept> {
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
    /// Quiet, with nothing in its window.
    pub(super) fn new(rule: &Rule, publisher: PublisherId, host: HostName) -> Self {
        let window = Window::new(rule.window, SERIES_VALUES_MAX);
        Self { publisher, host, window, alarm: Alarm::Quiet, number: None, raised: None }
    }

    /// Its alarm, as it is told.
    pub(super) fn alarm(&self, rule: &Rule, key: &Key, state: AlarmState, wall: Timestamp) -> RuleAlarm {
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
