//! InfluxDB → rows, for export and reconciliation, through InfluxQL (`/query`: 1.x, 3.x, and 2.x with a
//! DBRP mapping).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream};
use serde::Deserialize;
use serde_json::Value;

use super::answer::words_of;
use super::connection::{Connection, causes, read_some};
use super::{InfluxClientError, InfluxConfig};
use heartwatch_domain::reading::FieldValue;
use heartwatch_domain::time::Timestamp;
use heartwatch_formats::line_protocol::DecodedRow;

/// Rows in one chunk of an answer.
const CHUNK_ROWS: &str = "5000";

/// Largest chunk that is read into memory.
const CHUNK_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Why InfluxDB could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The server could not be asked, or the answer broke off.
    #[error("cannot read from {url}: {reason}")]
    Connection {
        /// The server.
        url: String,
        /// Why.
        reason: String,
    },
    /// The server refused the query.
    #[error("{url} refused '{query}': {reason}")]
    Query {
        /// The server.
        url: String,
        /// What was asked, in InfluxQL.
        query: String,
        /// The server's words.
        reason: String,
    },
    /// The answer is not what InfluxDB sends.
    #[error("{url} sent an answer that can't be read: {reason}")]
    Answer {
        /// The server.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads from one InfluxDB.
#[derive(Debug, Clone)]
pub struct InfluxReader {
    connection: Arc<Connection>,
}

#[derive(Debug, Deserialize)]
struct Chunk {
    #[serde(default)]
    results: Vec<Statement>,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Statement {
    #[serde(default)]
    series: Vec<Series>,
    error: Option<String>,
}

/// One table of an answer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Series {
    /// The measurement.
    #[serde(default)]
    pub name: String,
    /// The tags it is grouped by.
    #[serde(default)]
    pub tags: HashMap<String, String>,
    /// The names of the columns; `time` is in nanoseconds.
    pub columns: Vec<String>,
    /// The rows.
    #[serde(default)]
    pub values: Vec<Vec<Value>>,
}

/// What a column of a measurement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Tag,
    Float,
    Integer,
    Boolean,
    Text,
}

impl InfluxReader {
    /// Makes the client; nothing is sent yet.
    ///
    /// # Errors
    /// [`InfluxClientError`].
    pub fn new(config: InfluxConfig) -> Result<Self, InfluxClientError> {
        Ok(Self { connection: Arc::new(Connection::new(config)?) })
    }

    /// Runs a query whose answer fits into memory.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn query(&self, influxql: &str) -> Result<Vec<Series>, ReadError> {
        let mut chunks = Box::pin(self.chunks(influxql.to_owned()));
        let mut all = Vec::new();
        while let Some(series) = chunks.next().await {
            all.extend(series?);
        }
        Ok(all)
    }

    /// The names of all measurements, sorted.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn measurements(&self) -> Result<Vec<String>, ReadError> {
        let series = self.query("SHOW MEASUREMENTS").await?;
        let mut names: Vec<String> = first_column(series).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// How many rows a measurement has.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn count(&self, measurement: &str) -> Result<u64, ReadError> {
        // the count of each field; a row has at least one, and every row of a publisher the same ones
        let series = self.query(&format!("SELECT count(*) FROM {} GROUP BY *", quoted(measurement))).await?;
        Ok(series.iter().filter_map(most_counted).sum())
    }

    /// How many rows a measurement has from `from` (included) to `to` (not), about: of each series the field that is
    /// there most often is counted.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn count_between(
        &self,
        measurement: &str,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
    ) -> Result<u64, ReadError> {
        let query = format!("SELECT count(*) FROM {}{} GROUP BY *", quoted(measurement), between(from, to));
        let mut chunks = Box::pin(self.chunks(query));
        let mut rows = 0;
        while let Some(series) = chunks.next().await {
            rows += series?.iter().filter_map(most_counted).sum::<u64>();
        }
        Ok(rows)
    }

    /// How many rows of each publisher a measurement has; rows without a publisher are not ours. With `above_zero`
    /// only those whose field `value` is a number above 0.
    ///
    /// `count(*)` counts each field by itself, so it is the number of rows only where every row has the
    /// same fields. Where the counts of a publisher's fields differ, its rows are read and counted.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn count_by_publisher(
        &self,
        measurement: &str,
        above_zero: bool,
    ) -> Result<BTreeMap<String, u64>, ReadError> {
        let only = if above_zero { " WHERE \"value\" > 0" } else { "" };
        let query = format!("SELECT count(*) FROM {}{only} GROUP BY \"publisher\"", quoted(measurement));
        let mut counts = BTreeMap::new();
        for series in self.query(&query).await? {
            let Some(publisher) = series.tags.get("publisher").filter(|publisher| !publisher.is_empty()) else {
                continue;
            };
            let row = series.values.first().into_iter().flatten().zip(&series.columns);
            let fields: Vec<u64> =
                row.filter(|(_, column)| *column != "time").filter_map(|(value, _)| value.as_u64()).collect();
            let most = fields.iter().copied().max().unwrap_or(0);
            let rows = if fields.iter().all(|count| *count == most) {
                most
            } else {
                self.count_rows(measurement, above_zero, publisher, None).await?
            };
            counts.insert(publisher.clone(), rows);
        }
        Ok(counts)
    }

    /// How many rows of one publisher a measurement has, from a time on where one is given. They are read and counted.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn count_rows(
        &self,
        measurement: &str,
        above_zero: bool,
        publisher: &str,
        from: Option<Timestamp>,
    ) -> Result<u64, ReadError> {
        let publisher = publisher.replace('\\', "\\\\").replace('\'', "\\'");
        let above_zero = if above_zero { " AND \"value\" > 0" } else { "" };
        let from = from.map_or_else(String::new, |from| format!(" AND time >= {}", from.as_nanos()));
        let name = quoted(measurement);
        // by series: rows of two series with one time would be told apart in any case
        let query = format!("SELECT * FROM {name} WHERE \"publisher\" = '{publisher}'{above_zero}{from} GROUP BY *");
        let mut chunks = Box::pin(self.chunks(query));
        let mut rows = 0;
        while let Some(series) = chunks.next().await {
            rows += series?.iter().map(|series| series.values.len() as u64).sum::<u64>();
        }
        Ok(rows)
    }

    /// The rows of a measurement in the order of time, from `from` (included) to `to` (not), as the
    /// server sends them: a million rows take the memory of one chunk.
    ///
    /// # Errors
    /// [`ReadError`], here or as the last item of the stream.
    pub async fn rows(
        &self,
        measurement: &str,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
    ) -> Result<impl Stream<Item = Result<DecodedRow, ReadError>> + use<>, ReadError> {
        let columns = self.columns(measurement).await?;
        let query = format!("SELECT * FROM {}{}", quoted(measurement), between(from, to));
        let url = self.url();
        let chunks = self.clone().into_chunks(query);
        Ok(chunks.flat_map(move |chunk| {
            let rows: Vec<Result<DecodedRow, ReadError>> = match chunk {
                Ok(series) => series.into_iter().flat_map(|series| decoded(&url, &columns, series)).collect(),
                Err(error) => vec![Err(error)],
            };
            stream::iter(rows)
        }))
    }

    /// JSON cannot tell the integer 1 from the float 1, nor a tag from a text: the schema can.
    async fn columns(&self, measurement: &str) -> Result<HashMap<String, Column>, ReadError> {
        let name = quoted(measurement);
        let mut columns = HashMap::new();
        for series in self.query(&format!("SHOW FIELD KEYS FROM {name}")).await? {
            for row in series.values {
                let mut texts = row.into_iter().map(|value| value.as_str().unwrap_or_default().to_owned());
                let (key, kind) = (texts.next().unwrap_or_default(), texts.next().unwrap_or_default());
                let kind = match kind.as_str() {
                    "integer" => Column::Integer,
                    "boolean" => Column::Boolean,
                    "string" => Column::Text,
                    _ => Column::Float,
                };
                columns.insert(key, kind);
            }
        }
        for tag in first_column(self.query(&format!("SHOW TAG KEYS FROM {name}")).await?) {
            // a field of the same name comes first in an answer, the tag as `name_1`
            let tag = if columns.contains_key(&tag) { format!("{tag}_1") } else { tag };
            columns.insert(tag, Column::Tag);
        }
        Ok(columns)
    }

    fn chunks(&self, influxql: String) -> impl Stream<Item = Result<Vec<Series>, ReadError>> + use<> {
        self.clone().into_chunks(influxql)
    }

    /// Each item is one line of the answer, which is one JSON document.
    fn into_chunks(self, influxql: String) -> impl Stream<Item = Result<Vec<Series>, ReadError>> + use<> {
        let opened = stream::once(async move {
            let lines = self.lines(&influxql).await?;
            Ok::<_, ReadError>(lines.map(move |line| self.parsed(&influxql, &line?)))
        });
        opened.flat_map(|result| match result {
            Ok(lines) => lines.left_stream(),
            Err(error) => stream::iter([Err(error)]).right_stream(),
        })
    }

    async fn lines(&self, influxql: &str) -> Result<impl Stream<Item = Result<Vec<u8>, ReadError>> + use<>, ReadError> {
        let config = &self.connection.config;
        let parameters = [
            ("db", config.target()),
            ("epoch", "ns"),
            ("chunked", "true"),
            ("chunk_size", CHUNK_ROWS),
            ("q", influxql),
        ];
        let request = self.connection.get(self.connection.address("query", &parameters));
        let url = self.url();
        let sent = tokio::time::timeout(config.request_timeout, request.send()).await;
        let response = match sent {
            Ok(answer) => answer.map_err(|error| ReadError::Connection { url: url.clone(), reason: causes(&error) })?,
            Err(_) => return Err(ReadError::Connection { url, reason: "no answer in time".to_owned() }),
        };
        if !response.status().is_success() {
            let status = response.status();
            let reason = format!("status {status}: {}", words_of(&read_some(response).await));
            return Err(ReadError::Query { url, query: influxql.to_owned(), reason });
        }
        let state = (Box::pin(response.bytes_stream()), Vec::<u8>::new(), url, config.request_timeout);
        Ok(stream::try_unfold(state, |(mut bytes, mut held, url, timeout)| async move {
            loop {
                if let Some(end) = held.iter().position(|byte| *byte == b'\n') {
                    let rest = held.split_off(end + 1);
                    return Ok(Some((held, (bytes, rest, url, timeout))));
                }
                let broken = |reason: String| ReadError::Connection { url: url.clone(), reason };
                match tokio::time::timeout(timeout, bytes.next()).await {
                    Err(_) => return Err(broken("the answer stopped in the middle".to_owned())),
                    Ok(Some(Err(error))) => return Err(broken(causes(&error))),
                    Ok(Some(Ok(chunk))) => held.extend_from_slice(&chunk),
                    Ok(None) if held.is_empty() => return Ok(None),
                    Ok(None) => return Ok(Some((held, (bytes, Vec::new(), url, timeout)))),
                }
                if held.len() > CHUNK_BYTES_MAX {
                    let reason = format!("a chunk is larger than {CHUNK_BYTES_MAX} bytes");
                    return Err(ReadError::Answer { url, reason });
                }
            }
        }))
    }

    fn parsed(&self, query: &str, line: &[u8]) -> Result<Vec<Series>, ReadError> {
        let chunk: Chunk = serde_json::from_slice(line)
            .map_err(|error| ReadError::Answer { url: self.url(), reason: error.to_string() })?;
        let mut all = Vec::new();
        let mut error = chunk.error;
        for statement in chunk.results {
            error = error.or(statement.error);
            all.extend(statement.series);
        }
        match error {
            Some(reason) => Err(ReadError::Query { url: self.url(), query: query.to_owned(), reason }),
            None => Ok(all),
        }
    }

    fn url(&self) -> String {
        self.connection.config.url.as_str().trim_end_matches('/').to_owned()
    }
}

/// The most frequent field of a series of counts.
fn most_counted(series: &Series) -> Option<u64> {
    let row = series.values.first().into_iter().flatten();
    row.zip(&series.columns).filter(|(_, name)| *name != "time").filter_map(|(value, _)| value.as_u64()).max()
}

/// The condition for a time range: ` WHERE time >= … AND time < …`, or nothing.
fn between(from: Option<Timestamp>, to: Option<Timestamp>) -> String {
    let bounds = [from.map(|time| ("time >=", time)), to.map(|time| ("time <", time))];
    let mut text = String::new();
    for (index, (condition, time)) in bounds.into_iter().flatten().enumerate() {
        let word = if index == 0 { "WHERE" } else { "AND" };
        text.push_str(&format!(" {word} {condition} {}", time.as_nanos()));
    }
    text
}

/// An InfluxQL identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

fn first_column(series: Vec<Series>) -> impl Iterator<Item = String> {
    series.into_iter().flat_map(|series| series.values).filter_map(|row| match row.into_iter().next() {
        Some(Value::String(text)) => Some(text),
        _ => None,
    })
}

fn decoded(url: &str, columns: &HashMap<String, Column>, series: Series) -> Vec<Result<DecodedRow, ReadError>> {
    let Series { name: measurement, columns: names, values, .. } = series;
    let row = |values: Vec<Value>| {
        let mut row = DecodedRow { measurement: measurement.clone(), tags: Vec::new(), fields: Vec::new(), time: None };
        for (name, value) in names.iter().zip(values) {
            if name == "time" {
                row.time = value.as_i64().map(Timestamp::from_nanos);
                continue;
            }
            if value.is_null() {
                continue;
            }
            let field = match (columns.get(name), &value) {
                (Some(Column::Tag), Value::String(text)) => {
                    let key = name.strip_suffix("_1").filter(|key| columns.contains_key(*key)).unwrap_or(name);
                    row.tags.push((key.to_owned(), text.clone()));
                    continue;
                }
                (Some(Column::Integer), Value::Number(number)) => number.as_i64().map(FieldValue::Integer),
                (_, Value::Number(number)) => number.as_f64().map(FieldValue::Float),
                (_, Value::Bool(value)) => Some(FieldValue::Boolean(*value)),
                (_, Value::String(text)) => Some(FieldValue::Text(text.clone())),
                _ => None,
            };
            let unreadable = || ReadError::Answer {
                url: url.to_owned(),
                reason: format!("column '{name}' of '{measurement}' holds {value}"),
            };
            row.fields.push((name.clone(), field.ok_or_else(unreadable)?));
        }
        Ok(row)
    };
    values.into_iter().map(row).collect()
}
