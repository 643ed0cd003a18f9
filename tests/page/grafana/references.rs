//! Every file is read, and what names something else names something that is there.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;

use super::expression::{self, Threshold};
use super::model::{
    ContactPointFile, Dashboard, DataSourceFile, HistogramOptions, Panel, Policy, PolicyFile, ProviderFile, Rule,
    RuleFile, StatOptions, StateTimelineOptions, TableOptions, TimeSeriesOptions,
};
use super::{dashboards, files, folder, rules, yaml};
use heartwatch_domain::time::parse_duration;
use heartwatch_domain::verdict::Verdict;

/// The data source that everything is asked from.
const DATA_SOURCE: &str = "heartwatch-influxdb";
/// Grafana's own units that we use.
const UNITS: [&str; 9] = ["none", "short", "ms", "cps", "bytes", "percent", "MiBs", "Bps", "dateTimeFromNow"];
/// What an override may set.
const PROPERTIES: [&str; 11] = [
    "mappings",
    "displayName",
    "unit",
    "thresholds",
    "custom.cellOptions",
    "custom.width",
    "custom.hidden",
    "custom.lineStyle",
    "custom.fillOpacity",
    "custom.lineWidth",
    "color",
];

#[test]
fn every_file_is_what_grafana_expects() {
    for (name, text) in files() {
        match name.as_str() {
            "alerting/contact-points.yaml" => drop(yaml::<ContactPointFile>(&name, &text)),
            "alerting/policies.yaml" => drop(yaml::<PolicyFile>(&name, &text)),
            "dashboards/heartwatch.yaml" => {
                let file: ProviderFile = yaml(&name, &text);
                assert_eq!(file.providers[0].options.path, "/etc/grafana/provisioning/dashboards");
            }
            _ if name.starts_with("alerting/rules-") => drop(yaml::<RuleFile>(&name, &text)),
            _ if name.starts_with("datasources/") => {
                let file: DataSourceFile = yaml(&name, &text);
                assert_eq!(file.datasources.len(), 1, "{name}");
                let source = &file.datasources[0];
                assert!(source.uid == DATA_SOURCE && source.is_default, "{name}");
                assert!(source.url.starts_with("http://"), "{name}: an empty address is no address");
                assert_eq!(source.json_data.version, "InfluxQL", "{name}: the dashboards are written in it");
            }
            _ if name.ends_with(".json") => {}
            _ => panic!("{name}: nothing checks this file"),
        }
    }
    assert_eq!(dashboards().len(), 4);
    assert!(rules().len() >= 20);
}

/// Grafana reads `$NAME` in these files from its environment, and what is not set is empty.
#[test]
fn no_file_that_grafana_reads_needs_a_variable_of_the_environment() {
    for (name, text) in files().into_iter().filter(|(name, _)| name.ends_with(".yaml")) {
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with('#')) {
            let expanded = ["title:", "severity:", "url:", "addresses:", "uid:", "name:", "dbName:"];
            let is_expanded = expanded.iter().any(|key| line.trim_start().trim_start_matches("- ").starts_with(key));
            assert!(!(is_expanded && line.contains('$')), "{name}:{}: {line}", number + 1);
        }
    }
    let samples = files().into_iter().filter(|(name, _)| name.ends_with(".sample"));
    for (name, text) in samples {
        let variables: BTreeSet<_> = text.split('$').skip(1).map(|rest| rest.split_whitespace().next()).collect();
        assert_eq!(variables, BTreeSet::from([Some("HEARTWATCH_INFLUX_TOKEN")]), "{name}");
    }
}

#[test]
fn dashboards_are_whole() {
    let dashboards = dashboards();
    let uids: BTreeSet<&str> = dashboards.iter().map(|dashboard| dashboard.uid.as_str()).collect();
    assert_eq!(uids.len(), dashboards.len(), "every uid once");
    for dashboard in &dashboards {
        let name = &dashboard.title;
        assert_eq!((dashboard.refresh.as_str(), dashboard.time.to.as_str()), ("5s", "now"), "{name}");
        assert!(dashboard.timepicker.refresh_intervals.contains(&dashboard.refresh), "{name}");
        assert!((39..=42).contains(&dashboard.schema_version) && !dashboard.description.is_empty(), "{name}");
        assert_eq!(dashboard.links.len(), dashboards.len() - 1, "{name} links to the others");
        let data_links = dashboard.panels.iter().flat_map(|panel| &panel.field_config.defaults.links);
        let urls = dashboard.links.iter().map(|link| &link.url).chain(data_links.map(|link| &link.url));
        for url in urls {
            let uid = url.strip_prefix("/d/").unwrap().split('?').next().unwrap();
            assert!(uids.contains(uid) && uid != dashboard.uid, "{name}: {url}");
        }
        let variables: BTreeSet<&str> = dashboard.templating.list.iter().map(|known| known.name.as_str()).collect();
        for variable in &dashboard.templating.list {
            assert_eq!(variable.datasource.uid, DATA_SOURCE);
            assert!(variable.query == variable.definition && !variable.description.is_empty(), "{name}");
        }
        let annotations = dashboard.annotations.list.iter().filter_map(|annotation| {
            let target = annotation.target.as_ref()?;
            assert_eq!(annotation.query.as_ref(), Some(&target.query), "old and new Grafanas ask the same");
            assert!(target.raw_query && target.text_editor && target.from_annotations, "{name}");
            Some(target.query.as_str())
        });
        let targets = dashboard.panels.iter().flat_map(|panel| &panel.targets).map(|target| target.query.as_str());
        for query in annotations.chain(targets) {
            for word in dollar_words(query) {
                let known = variables.contains(word) || ["timeFilter", "__interval"].contains(&word);
                assert!(known, "{name}: ${word} in {query}");
            }
            assert!(query.contains("$timeFilter"), "{name}: {query}");
        }
        check_panels(dashboard);
    }
}

fn dollar_words(query: &str) -> impl Iterator<Item = &str> {
    // the end of a regular expression, `$/`, is no variable
    let words = query.split('$').skip(1).map(|rest| {
        let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(rest.len());
        &rest[..end]
    });
    words.filter(|word| !word.is_empty())
}

fn check_panels(dashboard: &Dashboard) {
    let ids: BTreeSet<u32> = dashboard.panels.iter().map(|panel| panel.id).collect();
    assert_eq!(ids.len(), dashboard.panels.len(), "{}: every panel id once", dashboard.title);
    for (at, panel) in dashboard.panels.iter().enumerate() {
        let name = format!("{} / {}", dashboard.title, panel.title);
        for other in &dashboard.panels[at + 1..] {
            let (one, two) = (&panel.grid_pos, &other.grid_pos);
            let apart =
                one.x + one.w <= two.x || two.x + two.w <= one.x || one.y + one.h <= two.y || two.y + two.h <= one.y;
            assert!(apart, "{name} lies over {}", other.title);
        }
        assert!(panel.grid_pos.x + panel.grid_pos.w <= 24 && panel.grid_pos.w > 0, "{name}");
        assert!(!panel.description.is_empty() && panel.datasource.uid == DATA_SOURCE, "{name}");
        check_targets(panel, &name);
        check_look(panel, &name);
    }
}

fn check_targets(panel: &Panel, name: &str) {
    let refs: BTreeSet<&str> = panel.targets.iter().map(|target| target.ref_id.as_str()).collect();
    assert!(refs.len() == panel.targets.len() && !refs.is_empty(), "{name}: every refId once");
    for target in &panel.targets {
        assert!(target.datasource.uid == DATA_SOURCE && target.datasource.r#type == "influxdb", "{name}");
        let format = if panel.r#type == "table" { "table" } else { "time_series" };
        assert!(target.raw_query && target.result_format == format, "{name}");
        if let Some(alias) = &target.alias {
            let tags = alias.split_whitespace().filter_map(|word| word.strip_prefix("$tag_"));
            for tag in tags {
                assert!(target.query.rsplit("GROUP BY").next().unwrap().contains(tag), "{name}: {alias}");
            }
        }
    }
    for over in &panel.field_config.overrides {
        match over.matcher.id.as_str() {
            "byFrameRefID" => assert!(refs.contains(over.matcher.options.as_str()), "{name}"),
            "byName" => {
                let column = &over.matcher.options;
                let known = column == "Time"
                    || panel.targets.iter().any(|target| target.query.contains(&format!("\"{column}\"")));
                assert!(known, "{name}: no column {column}");
            }
            other => panic!("{name}: {other}"),
        }
        for property in &over.properties {
            assert!(PROPERTIES.contains(&property.id.as_str()), "{name}: {}", property.id);
        }
    }
}

fn check_look(panel: &Panel, name: &str) {
    fn options<T: DeserializeOwned>(panel: &Panel, name: &str) -> T {
        serde_json::from_value(panel.options.clone()).unwrap_or_else(|error| panic!("{name}: options: {error}"))
    }
    match panel.r#type.as_str() {
        "timeseries" => drop(options::<TimeSeriesOptions>(panel, name)),
        "stat" => drop(options::<StatOptions>(panel, name)),
        "table" => drop(options::<TableOptions>(panel, name)),
        "histogram" => {
            let histogram: HistogramOptions = options(panel, name);
            assert_eq!(histogram.bucket_size * 10, 4_000_000, "{name}: ten buckets from 4,000,000 to 8,000,000");
        }
        "state-timeline" => {
            drop(options::<StateTimelineOptions>(panel, name));
            let custom = &panel.field_config.defaults.custom;
            assert_eq!(
                (custom.insert_nulls, custom.span_nulls),
                (Some(30_000), Some(false)),
                "{name}: silence is a gap"
            );
            let texts = &panel.field_config.defaults.mappings[0].options;
            for verdict in Verdict::ALL {
                assert_eq!(texts[&verdict.code().to_string()].text, verdict.as_str(), "{name}");
            }
            assert_eq!(texts.len(), Verdict::ALL.len());
        }
        other => panic!("{name}: a panel of type {other} is not checked"),
    }
    let defaults = &panel.field_config.defaults;
    assert!(UNITS.contains(&defaults.unit.as_str()), "{name}: unit {}", defaults.unit);
    let steps = &defaults.thresholds.steps;
    assert!(steps.first().is_some_and(|step| step.value.is_none()), "{name}: the first step is the base");
    assert!(steps[1..].is_sorted_by(|one, two| one.value < two.value), "{name}: steps in order");
}

#[test]
fn alarms_are_whole() {
    let rules = rules();
    let uids: BTreeSet<&str> = rules.iter().map(|rule| rule.uid.as_str()).collect();
    let titles: BTreeSet<&str> = rules.iter().map(|rule| rule.title.as_str()).collect();
    assert_eq!((uids.len(), titles.len()), (rules.len(), rules.len()), "every uid and title once");
    let dashboards = dashboards();
    for rule in &rules {
        let uid = &rule.uid;
        assert!(uid.len() <= 40 && !rule.is_paused, "{uid}");
        assert!(parse_duration(&rule.lasting).is_ok(), "{uid}: for {}", rule.lasting);
        assert!(["OK", "Alerting"].contains(&rule.no_data_state.as_str()), "{uid}");
        assert!(["Error", "Alerting"].contains(&rule.exec_err_state.as_str()), "{uid}");
        let note = &rule.annotations;
        assert!(note.description.contains("No data: "), "{uid} says what it does without data");
        assert_eq!((&note.dashboard_uid, &note.panel_id), (&rule.dashboard_uid, &rule.panel_id.to_string()), "{uid}");
        let dashboard = dashboards.iter().find(|dashboard| dashboard.uid == rule.dashboard_uid).unwrap();
        let panel = dashboard.panels.iter().find(|panel| panel.id == rule.panel_id);
        check_data(rule);
        check_drawn(rule, panel.unwrap_or_else(|| panic!("{uid}: no panel {}", rule.panel_id)));
        if rule.data.iter().any(|node| node.model.query.as_ref().is_some_and(|query| query.contains("GROUP BY \"publ")))
        {
            assert!(note.summary.contains("{{ $labels.publisher }}"), "{uid} names the publisher");
        }
    }
}

fn check_data(rule: &Rule) {
    let uid = &rule.uid;
    let mut known: BTreeMap<&str, &str> = BTreeMap::new();
    for node in &rule.data {
        let model = &node.model;
        assert_eq!(node.ref_id, model.ref_id, "{uid}");
        let kind = match (node.datasource_uid.as_str(), model.r#type.as_deref()) {
            (DATA_SOURCE, None) => {
                assert!(model.query.is_some() && model.raw_query == Some(true), "{uid}");
                assert_eq!(model.result_format.as_deref(), Some("time_series"), "{uid}");
                assert!(node.relative_time_range.from > node.relative_time_range.to, "{uid}");
                "query"
            }
            ("__expr__", Some("reduce")) => {
                assert_eq!(known.get(model.expression.as_deref().unwrap()), Some(&"query"), "{uid}");
                "reduced"
            }
            ("__expr__", Some("threshold")) => {
                assert_eq!(known.get(model.expression.as_deref().unwrap()), Some(&"reduced"), "{uid}");
                assert!(Threshold::of(&model.conditions).is_ok(), "{uid}");
                "condition"
            }
            ("__expr__", Some("math")) => {
                let math = expression::parse(model.expression.as_deref().unwrap()).unwrap();
                assert!(!math.references().is_empty(), "{uid}");
                for reference in math.references() {
                    assert_eq!(known.get(reference.as_str()), Some(&"reduced"), "{uid}: ${reference}");
                }
                "condition"
            }
            other => panic!("{uid}: {other:?}"),
        };
        assert!(known.insert(&node.ref_id, kind).is_none(), "{uid}: every refId once");
    }
    assert_eq!(known.get(rule.condition.as_str()), Some(&"condition"), "{uid}");
}

/// The numbers of an alarm are thresholds in the panel that it links to, or states with a colour.
fn check_drawn(rule: &Rule, panel: &Panel) {
    let defaults = &panel.field_config.defaults;
    let mut drawn: Vec<f64> = defaults.thresholds.steps.iter().filter_map(|step| step.value).collect();
    drawn.extend(defaults.mappings.iter().flat_map(|map| map.options.keys()).filter_map(|key| key.parse::<f64>().ok()));
    let condition = rule.data.iter().find(|node| node.ref_id == rule.condition).unwrap();
    let params = condition.model.conditions.iter().flat_map(|condition| condition.evaluator.params.clone());
    let compared = condition.model.expression.as_deref().filter(|_| condition.model.r#type.as_deref() == Some("math"));
    // how many samples there must be is no line in a plot of their values
    let compared = compared.into_iter().flat_map(|text| expression::parse(text).unwrap().compared_with("B"));
    for number in params.chain(compared) {
        assert!(drawn.contains(&number), "{}: {number} is not drawn in '{}': {drawn:?}", rule.uid, panel.title);
    }
}

#[test]
fn defective_readings_are_kept_out_of_every_plot_and_alarm() {
    let panels = dashboards().into_iter().flat_map(|dashboard| dashboard.panels);
    let plotted = panels.flat_map(|panel| panel.targets).map(|target| target.query);
    let watched = rules().into_iter().flat_map(|rule| rule.data).filter_map(|node| node.model.query);
    for query in plotted.chain(watched) {
        let reads_values = query.contains("FROM \"sensor.") && !query.contains("FROM \"sensor.error.");
        assert!(!reads_values || query.contains("\"is_valid_preprocess\" != 'False'"), "{query}");
    }
}

#[test]
fn groups_and_policies_fit_together() {
    let files = files();
    for (name, text) in files.iter().filter(|(name, _)| name.starts_with("alerting/rules-")) {
        for group in yaml::<RuleFile>(name, text).groups {
            let interval = parse_duration(&group.interval).unwrap().as_secs();
            assert!(interval > 0 && interval.is_multiple_of(10), "{name}: Grafana's scheduler ticks every 10 s");
            for rule in group.rules {
                let lasting = parse_duration(&rule.lasting).unwrap().as_secs();
                assert!(lasting.is_multiple_of(interval), "{}: `for` in whole evaluations", rule.uid);
            }
        }
    }
    let points: ContactPointFile = yaml("contact-points.yaml", &files["alerting/contact-points.yaml"]);
    let names: BTreeSet<&str> = points.contact_points.iter().map(|point| point.name.as_str()).collect();
    for point in &points.contact_points {
        assert!(point.receivers.iter().all(|receiver| receiver.settings.addresses.contains('@')));
    }
    fn check(policy: &Policy, names: &BTreeSet<&str>) {
        assert!(names.contains(policy.receiver.as_str()), "{}", policy.receiver);
        for time in [&policy.group_wait, &policy.group_interval, &policy.repeat_interval] {
            assert!(parse_duration(time).is_ok(), "{time}");
        }
        for (label, operator, value) in policy.object_matchers.iter().flatten() {
            assert!(label == "severity" && operator == "=" && ["critical", "warning"].contains(&value.as_str()));
        }
        policy.routes.iter().for_each(|route| check(route, names));
    }
    let policies: PolicyFile = yaml("policies.yaml", &files["alerting/policies.yaml"]);
    policies.policies.iter().for_each(|policy| check(policy, &names));
    assert!(folder().join("datasources/influxdb.yaml").exists());
}
