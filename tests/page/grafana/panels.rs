//! Every query of every panel, variable and annotation, on a real InfluxDB.

use std::collections::BTreeMap;

use heartwatch_domain::verdict::Verdict;
use heartwatch_system::clock::Clock;

use super::dashboards;
use super::database::Database;
use super::fixture::{MEASUREMENT, SECONDS, all_wrong};
use crate::support::influxd::Influxd;

/// The variables as they are when "All" is chosen, and a measurement.
fn variables() -> BTreeMap<String, String> {
    let values = [("publisher", ".*"), ("host", ".*"), ("measurement", MEASUREMENT)];
    values.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

#[actix_rt::test]
async fn every_query_of_every_dashboard_is_answered() {
    let Some(server) = Influxd::start().await else { return };
    let now = Clock::start().wall();
    let database = Database::fill(&server, "panels", now, all_wrong(now)).await;
    let mut wrong = Vec::new();
    let mut chosen = variables();
    for dashboard in dashboards() {
        for panel in &dashboard.panels {
            for target in &panel.targets {
                let series = database.ask(&target.query, SECONDS, 0, &chosen).await;
                if series.iter().all(|series| series.values() == 0) {
                    wrong.push(format!("{} / {} {}: nothing", dashboard.title, panel.title, target.ref_id));
                }
                for tag in target.alias.iter().flat_map(|alias| alias.split_whitespace()) {
                    let tag = tag.strip_prefix("$tag_").map(|tag| tag.trim_end_matches(','));
                    if tag.is_some_and(|tag| series.iter().any(|series| !series.tags.contains_key(tag))) {
                        wrong.push(format!("{} / {}: no tag for its alias", dashboard.title, panel.title));
                    }
                }
            }
        }
        for variable in &dashboard.templating.list {
            let series = database.ask(&variable.query, SECONDS, 0, &chosen).await;
            let column = series.first().map_or(0, |series| series.columns.len() - 1);
            let values = series.iter().flat_map(|series| &series.rows).filter_map(|row| row[column].as_str());
            let values: Vec<&str> = values.collect();
            let expected = chosen[&variable.name].replace(".*", "");
            if values.is_empty() || !(expected.is_empty() || values.contains(&expected.as_str())) {
                wrong.push(format!("{}: ${} has {values:?}", dashboard.title, variable.name));
            }
            // a single publisher and host are chosen the same way
            if variable.multi {
                let one = if variable.name == "host" { "(plant-7)" } else { "(well|load-high)" };
                chosen.insert(variable.name.clone(), one.to_owned());
                let panel = &dashboard.panels[0].targets[0];
                assert!(!database.ask(&panel.query, SECONDS, 0, &chosen).await.is_empty(), "{}", dashboard.title);
                chosen = variables();
            }
        }
        for annotation in dashboard.annotations.list.iter().filter_map(|annotation| annotation.target.as_ref()) {
            let series = database.ask(&annotation.query, SECONDS, 0, &chosen).await;
            let [series] = series.as_slice() else { panic!("{}: {} series", dashboard.title, series.len()) };
            let columns = annotation.tags_column.split(',').chain([annotation.text_column.as_str()]);
            for column in columns {
                let at = series.columns.iter().position(|known| known == column);
                let at = at.unwrap_or_else(|| panic!("{}: no column {column}", dashboard.title));
                assert!(series.rows.iter().all(|row| row[at].is_string()), "{}: {column}", dashboard.title);
            }
            // one of each verdict, and those of the publishers with rows
            let changes = 11 + Verdict::ALL.len();
            assert_eq!(series.rows.len(), changes, "{}: the changes, not the repetitions", dashboard.title);
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
