//! A real InfluxDB, filled by the product's own journal and writer, and asked as Grafana asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use heartwatch::actors::influx_writer::{InfluxWriter, WriterConfig, WriterParts};
use heartwatch::runtime::supervisor::Supervisor;
use heartwatch_adapters::influx::{InfluxConfig, InfluxSink};
use heartwatch_domain::restart::RestartLimits;
use heartwatch_domain::time::Timestamp;
use heartwatch_ports::Sink;
use heartwatch_store::journal::{Journal, JournalConfig};
use heartwatch_system::clock::Clock;
use serde_json::Value;
use url::Url;

use super::expression::Tags;
use super::fixture::Rows;
use crate::support::eventually;
use crate::support::influxd::Influxd;

/// One series of an answer.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub tags: Tags,
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Value>>,
}

impl Series {
    /// The numbers of a column, without the nulls.
    pub(crate) fn numbers(&self, column: usize) -> Vec<f64> {
        self.rows.iter().filter_map(|row| row.get(column).and_then(Value::as_f64)).collect()
    }

    /// Values that are there, besides the time.
    pub(crate) fn values(&self) -> usize {
        self.rows.iter().flat_map(|row| row.iter().skip(1)).filter(|value| !value.is_null()).count()
    }
}

/// A database with a story in it.
pub(crate) struct Database<'a> {
    pub server: &'a Influxd,
    pub name: &'static str,
    /// The instant at which the story ends.
    pub now: Timestamp,
    /// What `$__interval` stands for.
    pub interval: &'static str,
}

impl<'a> Database<'a> {
    /// Writes the rows as the product does: into a journal, and from there through the writer.
    pub(crate) async fn fill(server: &'a Influxd, name: &'static str, now: Timestamp, rows: Rows) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut influx = InfluxConfig::at(Url::parse(&server.url()).unwrap());
        name.clone_into(&mut influx.database);
        let sink: Option<Arc<dyn Sink>> = Some(Arc::new(InfluxSink::new(influx).unwrap()));
        let (journal, _) = Journal::open(JournalConfig {
            path: dir.path().join("journal.sqlite"),
            bytes_max: 1024 * 1024 * 1024,
            history: Duration::from_secs(3_600),
            has_sink: true,
            queue_entries_max: 100_000,
        })
        .unwrap();
        let clock = Clock::start();
        let parts = WriterParts::new(journal.clone(), sink, clock, WriterConfig::default());
        let limits = RestartLimits {
            restarts_max: 1,
            period: Duration::from_secs(60),
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_millis(100),
        };
        let (supervisor, _) = Supervisor::new(clock, limits);
        let lives = parts.clone();
        let writer = supervisor.start("influx_writer", move |_| InfluxWriter::new(lives.clone()));
        journal.record_changes(Arc::new(rows.changes)).await.unwrap();
        journal.record_standing(Arc::new(rows.standing)).await.unwrap();
        journal.append(Arc::new(rows.entries)).await.unwrap();
        let patience = Duration::from_secs(60);
        eventually("every row is in InfluxDB", patience, async || journal.level().undelivered_rows == 0).await;
        assert_eq!(parts.counters().rows_refused, 0, "InfluxDB takes every row");
        writer.stop();
        Self { server, name, now, interval: "10s" }
    }

    /// Asks with the macros and variables replaced, about a time range that ends `ago` seconds before the
    /// end of the story. An error of the database is one of the query.
    pub(crate) async fn ask(
        &self,
        query: &str,
        seconds: u64,
        ago: u64,
        variables: &BTreeMap<String, String>,
    ) -> Vec<Series> {
        let end = self.now.earlier_by(Duration::from_secs(ago));
        let begin = end.earlier_by(Duration::from_secs(seconds));
        let range = format!("time >= {} AND time <= {}", begin.as_nanos(), end.as_nanos());
        let mut influxql = query.replace("$timeFilter", &range).replace("$__interval", self.interval);
        for (name, value) in variables {
            influxql = influxql.replace(&format!("${name}"), value);
        }
        assert!(!influxql.replace("$/", "").contains('$'), "not replaced: {influxql}");
        let answer = self.server.query(self.name, &influxql).await;
        let result = &answer["results"][0];
        assert!(result["error"].is_null(), "{influxql}: {}", result["error"]);
        let series = result["series"].as_array().cloned().unwrap_or_default();
        series.into_iter().map(|series| read(&series)).collect()
    }
}

fn read(series: &Value) -> Series {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let tags = series["tags"].as_object().cloned().unwrap_or_default();
    Series {
        tags: tags.iter().map(|(key, value)| (key.clone(), text(value))).collect(),
        columns: list(&series["columns"]).iter().map(text).collect(),
        rows: list(&series["values"]).iter().map(list).collect(),
    }
}
