//! The `[[rule]]` tables: alarms that heartwatch raises itself.

use std::time::Duration;

use super::document::Given;
use super::kinds::{Settled as _, duration, positive_duration};
use super::reader::{Origin, Reader, Scope};
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::rule::{Condition, Limit, Reduction, Rule, Severity, TagCondition, TextPattern, WithoutData};

/// Most rules.
const RULES_MAX: usize = 200;
/// Longest window: its rows are held in memory.
const WINDOW_MAX: Duration = Duration::from_secs(86_400);
/// Most samples that can be asked for.
const SAMPLES_MAX: u64 = 100_000;
/// Longest summary and link, in bytes.
const TEXT_BYTES_MAX: usize = 500;

const SEVERITIES: [(&str, Severity); 2] = [("warning", Severity::Warning), ("critical", Severity::Critical)];

const WITHOUT_DATA: [(&str, WithoutData); 3] =
    [("ok", WithoutData::Quiet), ("keep", WithoutData::Keep), ("alarm", WithoutData::Alarm)];

/// Every rule that is right, in the file's order.
pub(super) fn rules(reader: &mut Reader<'_>) -> Vec<Rule> {
    let root = reader.root();
    let mut rules: Vec<(Rule, Origin)> = Vec::new();
    for table in reader.tables(&root, "rule") {
        let Some((rule, origin)) = rule(reader, &table) else { continue };
        match rules.iter().find(|(other, _)| other.name == rule.name) {
            Some((_, Origin::Line(line))) => {
                let message = format!("'{}' is the rule of line {line} already: every name once", rule.name);
                reader.mistake(&origin, &table.key("name"), message);
            }
            _ if rules.len() >= RULES_MAX => {
                reader.mistake(&origin, "rule", format!("is one too many: at most {RULES_MAX} rules"));
                break;
            }
            _ => rules.push((rule, origin)),
        }
    }
    rules.into_iter().map(|(rule, _)| rule).collect()
}

fn rule<'a>(reader: &mut Reader<'a>, table: &Scope<'a>) -> Option<(Rule, Origin)> {
    // A name is a tag of its rows and stands in every log line: the letters of an id will do.
    let name = reader.read(table, "name", None, |given| {
        given.text("load-too-high", |text| match PublisherId::parse(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(_) => Err(format!("'{text}' is no name of a rule: use letters, digits, '.', '_', '-' or ':'")),
        })
    });
    let measurement = reader.read(table, "measurement", None, |given| given.text("sensor.cpu_load", some_text));
    for (key, message) in [
        ("name", "is missing: every rule has a name, like \"load-too-high\""),
        ("measurement", "is missing: whose values are looked at? Write one, like \"sensor.cpu_load\""),
        ("reduce", "is missing: what number is made of the values? Like \"mean\", \"max\" or \"count\""),
    ] {
        if !reader.has(table, key) {
            reader.missing(table, key, message);
        }
    }
    let field = reader.read(table, "field", None, |given| given.text("value", some_text));
    let tags = reader.list(table, "where", |given| given.text("publisher=sensor-*", TagCondition::parse));
    let by = reader.list(table, "by", |given| given.text("publisher", some_text));
    let window = reader.read(table, "window", None, positive_duration);
    if let Some(window) = window.as_ref().filter(|window| window.value > WINDOW_MAX) {
        reader.mistake(&window.origin, &table.key("window"), "is too long: at most 24h, for its values are in memory");
    }
    let reduction = reader.read(table, "reduce", None, |given| given.choice(&Reduction::NAMES));
    let samples_min = reader.read(table, "samples_min", None, |given| given.number(1, SAMPLES_MAX));
    let without_data = reader.read(table, "no_data", None, |given| given.choice(&WITHOUT_DATA));
    let without_data = without_data.or_default(WithoutData::Quiet);
    let limit = limit(reader, table, without_data);
    let hysteresis = reader.read(table, "hysteresis", None, |given| match given.fraction()? {
        number if number.is_finite() && number >= 0.0 => Ok(number),
        number => Err(format!("{number} is no distance: write 0 or more, in the unit of the number")),
    });
    let lasting = reader.read(table, "for", None, duration).or_default(Duration::ZERO);
    let severity = reader.read(table, "severity", None, |given| given.choice(&SEVERITIES));
    let summary = reader.read(table, "summary", None, |given| given.text("load too high", some_text));
    let link = reader.read(table, "link", None, |given| given.text("http://grafana:3000/d/…", some_text));
    let name = name?;
    let condition = Condition { limit: limit?, hysteresis: hysteresis.or_default(0.0), lasting, without_data };
    let rule = Rule {
        name: name.value,
        measurement: TextPattern::new(measurement?.value),
        field: field.or_default("value".to_owned()),
        tags: tags.unwrap_or_default(),
        by: by.unwrap_or_else(|| vec!["publisher".to_owned()]),
        window: window.or_default(Duration::from_secs(60)),
        reduction: reduction?.value,
        samples_min: samples_min.map_or(0, |least| usize::try_from(least.value).unwrap_or(usize::MAX)),
        condition,
        severity: severity.or_default(Severity::Warning),
        summary: summary.or_default(String::new()),
        link: link.or_default(String::new()),
    };
    Some((rule, name.origin))
}

/// The one limit; `Some(None)` where only the absence of data counts, none after a mistake.
fn limit<'a>(reader: &mut Reader<'a>, table: &Scope<'a>, without_data: WithoutData) -> Option<Option<Limit>> {
    let [above, below] = ["above", "below"].map(|key| reader.read(table, key, None, number));
    let [outside, within] = ["outside", "within"].map(|key| pair(reader, table, key));
    let given: Vec<_> =
        ["above", "below", "outside", "within"].into_iter().filter(|key| reader.has(table, key)).collect();
    match given.as_slice() {
        [] if without_data == WithoutData::Alarm => return Some(None),
        [] => {
            let message = "is missing: when is it raised? One of above, below, outside, within, or no_data = \"alarm\"";
            reader.missing(table, "above", message);
        }
        [_] => {}
        [_, second, ..] => {
            let message = "one rule has one of above, below, outside, within: write another [[rule]]";
            reader.mistake_at(table, second, message);
        }
    }
    let above = above.map(|number| Limit::Above(number.value));
    let below = below.map(|number| Limit::Below(number.value));
    let outside = outside.map(|(low, high)| Limit::Outside(low, high));
    let within = within.map(|(low, high)| Limit::Within(low, high));
    above.or(below).or(outside).or(within).map(Some)
}

fn pair<'a>(reader: &mut Reader<'a>, table: &Scope<'a>, key: &str) -> Option<(f64, f64)> {
    let numbers = reader.list(table, key, number)?;
    match numbers.as_slice() {
        [low, high] if low <= high => Some((*low, *high)),
        _ => {
            reader.mistake_at(table, key, "is no span: write its low and its high end, like [1, 3]");
            None
        }
    }
}

fn number(given: Given<'_>) -> Result<f64, String> {
    given.fraction()
}

fn some_text(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("is empty".to_owned()),
        1..=TEXT_BYTES_MAX => Ok(text.to_owned()),
        _ => Err(format!("is too long: at most {TEXT_BYTES_MAX} bytes")),
    }
}
