//! The pictures of the dashboards' data in `docs/img/`, and of the three scenarios: `make pictures`.
//!
//! There is no Grafana here: the panels' own queries are asked of a real InfluxDB that heartwatch has filled, and
//! what they answer is drawn with the charting library of heartwatch's page in a real browser. The pictures say so.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use heartwatch_domain::time::Timestamp;
use heartwatch_domain::verdict::Verdict;
use heartwatch_system::clock::Clock;
use serde_json::{Value, json};

use super::dashboards;
use super::database::{Database, Series};
use super::fixture::{MEASUREMENT, SECONDS, all_wrong};
use super::model::{Dashboard, Panel};
use crate::support::browser::Browser;
use crate::support::heartwatch::{Program, RunOptions, Running, command, fixture};
use crate::support::influxd::Influxd;

const NOTE: &str = "What the panels' own queries answer on a real InfluxDB. Drawn by heartwatch's tests with Chart.js, not by \
                    Grafana; dashed lines are the thresholds of the alarms.";
/// What the dashboards show is made up, and so it says.
const STORY: &str = "A story of ten minutes that the tests write into a real InfluxDB, with everything wrong at once, as the panels' own \
                     queries answer. Drawn by heartwatch's tests with Chart.js, not by Grafana; dashed lines: the alarms' thresholds.";
/// How long a scenario is shown; at its middle publishers are killed.
const SCENARIO_SECONDS: u64 = 50;

/// The sheet that draws, with the charting library in it.
fn sheet() -> String {
    let packed = include_bytes!(concat!(env!("OUT_DIR"), "/chart.js.gz"));
    let mut library = String::new();
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut library).unwrap();
    include_str!("drawing.html").replace("/*CHART*/", &library.replace("</script>", "<\\/script>"))
}

async fn draw(browser: &mut Browser, name: &str, what: &Value) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sheet.html");
    std::fs::write(&file, sheet()).unwrap();
    browser.size(1440, 800).await;
    browser.open(&format!("file://{}", file.display())).await;
    browser.until("typeof draw === 'function' && document.readyState === 'complete'", Duration::from_secs(30)).await;
    let height = browser.value(&format!("draw({what})")).await.as_f64().unwrap();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the height of a page")]
    browser.size(1440, height as u32).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/img");
    std::fs::write(images.join(format!("{name}.png")), browser.picture().await).unwrap();
}

/// `$tag_publisher mean` with the tags of a series.
fn named(alias: Option<&str>, series: &Series, column: &str) -> String {
    let tags = series.tags.values().cloned().collect::<Vec<_>>().join(" ");
    let Some(alias) = alias else { return tags };
    let mut names: Vec<_> = series.tags.iter().collect();
    names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    let alias = names.iter().fold(alias.to_owned(), |text, (name, value)| text.replace(&format!("$tag_{name}"), value));
    alias.replace("$col", column)
}

fn milliseconds(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default() / 1e6
}

async fn panel(panel: &Panel, database: &Database<'_>, seconds: u64, variables: &BTreeMap<String, String>) -> Value {
    let (mut lines, mut columns, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    for target in &panel.targets {
        for series in database.ask(&target.query, seconds, 0, variables).await {
            if panel.r#type == "table" {
                let named: Vec<_> = series.tags.keys().cloned().chain(series.columns.iter().skip(1).cloned()).collect();
                columns = named;
                let tags: Vec<Value> = series.tags.values().map(|tag| json!(tag)).collect();
                rows.extend(series.rows.iter().map(|row| [tags.as_slice(), row.get(1..).unwrap_or_default()].concat()));
                continue;
            }
            for (column, name) in series.columns.iter().enumerate().skip(1) {
                let points: Vec<Value> = (series.rows.iter().filter(|row| row[column].is_number()))
                    .map(|row| json!([milliseconds(&row[0]), row[column]]))
                    .collect();
                if !points.is_empty() {
                    lines.push(json!({"name": named(target.alias.as_deref(), &series, name), "points": points}));
                }
            }
        }
    }
    let defaults = &panel.field_config.defaults;
    let mappings: BTreeMap<&String, Value> = defaults
        .mappings
        .iter()
        .flat_map(|mapping| &mapping.options)
        .map(|(value, mapped)| (value, json!({"text": mapped.text, "color": mapped.color})))
        .collect();
    let steps: Vec<_> =
        defaults.thresholds.steps.iter().map(|step| json!({"value": step.value, "color": step.color})).collect();
    let at = &panel.grid_pos;
    json!({
        "type": panel.r#type, "title": panel.title, "unit": defaults.unit, "min": defaults.min,
        "x": at.x, "y": at.y, "w": at.w, "h": at.h, "series": lines, "columns": columns, "rows": rows,
        "mappings": mappings, "steps": steps, "bucketSize": panel.options["bucketSize"], "hold": 30_000,
        "points": defaults.custom.draw_style.as_deref() == Some("points"),
    })
}

async fn picture(dashboard: &Dashboard, database: &Database<'_>, chosen: &BTreeMap<String, String>) -> Value {
    let mut panels = Vec::new();
    for one in &dashboard.panels {
        panels.push(panel(one, database, SECONDS, chosen).await);
    }
    let end = database.now.as_nanos() as f64 / 1e6;
    json!({
        "title": format!("Dashboard {}", dashboard.title), "note": STORY,
        "range": [end - SECONDS as f64 * 1e3, end], "panels": panels,
    })
}

#[actix_rt::test]
#[ignore = "makes pictures: make pictures"]
async fn dashboards_data() {
    let Some(server) = Influxd::start().await else { return };
    let Some(mut browser) = Browser::start().await else { return };
    let now = Clock::start().wall();
    let database = Database::fill(&server, "pictures", now, all_wrong(now)).await;
    for dashboard in dashboards() {
        // so many at once as one can tell apart
        let publisher = match dashboard.uid.as_str() {
            "heartwatch-sensors" => {
                "(well|load-high|load-jumps|load-peaks|random-narrow|counter-back|defect|error-load)"
            }
            _ => ".*",
        };
        let chosen = [("publisher", publisher), ("host", ".*"), ("measurement", MEASUREMENT)];
        let chosen = chosen.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let drawn = picture(&dashboard, &database, &chosen).await;
        draw(&mut browser, &dashboard.uid.replace("heartwatch-", "dashboard-"), &drawn).await;
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
}

/// Two publishers that read the CSV fixtures, with a real InfluxDB behind the monitor; `killed` of them are killed.
async fn scenario(server: &Influxd, number: usize) -> (usize, Timestamp) {
    let config = format!("[influx]\nurl = '{}'\ndb = 'scenario_{number}'\nflush_interval = '200ms'\n", server.url());
    let options = RunOptions { config, deadline: Duration::from_secs(5), ..RunOptions::default() };
    let monitor = Running::start(options).await;
    let mut publishers: Vec<Program> = [2, 1]
        .map(|series| {
            let mut command = command(monitor.directory());
            command.args(["publish", "--id", &format!("light-{series}"), "--mqtt", monitor.mqtt_url()]);
            command.args(["--measurement", "light", "--interval", "250ms", "--heartbeat", "1s", "--data-dir", "data"]);
            command.arg("--csv").arg(fixture(&format!("light-{series}.csv")));
            Program::start(command)
        })
        .into();
    for name in ["light-1", "light-2"] {
        monitor.until(name, Verdict::Alive).await;
    }
    tokio::time::sleep(Duration::from_secs(SCENARIO_SECONDS / 2)).await;
    for name in ["light-1", "light-2"].iter().take(number - 1) {
        publishers.pop().unwrap().kill();
        monitor.until(name, Verdict::Dead).await;
    }
    tokio::time::sleep(Duration::from_secs(SCENARIO_SECONDS / 2)).await;
    (number, Clock::start().wall())
}

#[actix_rt::test]
#[ignore = "makes pictures: make pictures"]
async fn scenarios() {
    let Some(server) = Influxd::start().await else { return };
    let Some(mut browser) = Browser::start().await else { return };
    let ended = tokio::join!(scenario(&server, 1), scenario(&server, 2), scenario(&server, 3));
    let dashboard = dashboards().into_iter().find(|dashboard| dashboard.uid == "heartwatch-publishers").unwrap();
    let chosen = [("publisher", ".*"), ("host", ".*"), ("measurement", "light")];
    let chosen = chosen.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let titles = ["both publishers work", "one of them is killed", "both are killed"];
    for ((number, now), name) in [ended.0, ended.1, ended.2].into_iter().zip(["scenario_1", "scenario_2", "scenario_3"])
    {
        let database = Database { server: &server, name, now, interval: "2s" };
        let mut panels = Vec::new();
        let shown = ["Verdicts", "Readings", "How late heartbeats come", "Verdicts now", "Ledger"];
        for (title, (x, y, w, h)) in
            shown.into_iter().zip([(0, 0, 24, 3), (0, 3, 12, 9), (12, 3, 12, 9), (0, 12, 14, 3), (14, 12, 10, 3)])
        {
            let wanted = dashboard.panels.iter().find(|panel| panel.title == title).unwrap();
            let mut drawn = panel(wanted, &database, SCENARIO_SECONDS + 10, &chosen).await;
            for (key, value) in [("x", x), ("y", y), ("w", w), ("h", h)] {
                drawn[key] = json!(value);
            }
            drawn["hold"] = json!(12_000);
            panels.push(drawn);
        }
        let end = now.as_nanos() as f64 / 1e6;
        let title = format!("Scenario {number}: {}", titles[number - 1]);
        let range = [end - (SCENARIO_SECONDS + 10) as f64 * 1e3, end];
        draw(
            &mut browser,
            &format!("scenario-{number}"),
            &json!({"title": title, "note": NOTE, "range": range, "panels": panels}),
        )
        .await;
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
}
