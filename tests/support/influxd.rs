//! A real InfluxDB 1.x for a test: own ports, own directory, gone when the test ends in any way.

use std::path::Path;
use std::time::Duration;

pub use heartwatch_servers::influxd::InfluxdOptions;
use heartwatch_servers::influxd::{self, PROGRAM};
use heartwatch_servers::server::Server;
use serde_json::Value;
use tempfile::TempDir;

use super::{eventually, found};

/// A running server.
#[derive(Debug)]
pub struct Influxd {
    server: Server,
    dir: TempDir,
    user: Option<(String, String)>,
}

impl Influxd {
    /// Starts a plain one; `None` (already said) where influxd isn't installed.
    pub async fn start() -> Option<Self> {
        Self::start_with(InfluxdOptions::default()).await
    }

    /// Starts one with options; returns when it answers.
    pub async fn start_with(options: InfluxdOptions) -> Option<Self> {
        let program = found(PROGRAM)?;
        let dir = tempfile::tempdir().unwrap();
        let server = influxd::influxd(&program, dir.path(), &options).unwrap();
        let mut server = Self { server, dir, user: None };
        server.restart().await;
        Some(server)
    }

    /// Starts one that asks for this administrator and password.
    pub async fn start_for(user: &str, password: &str) -> Option<Self> {
        let mut server = Self::start_with(InfluxdOptions { auth: true, ..InfluxdOptions::default() }).await?;
        // open until the first administrator exists
        server.query("", &format!("CREATE USER \"{user}\" WITH PASSWORD '{password}' WITH ALL PRIVILEGES")).await;
        server.user = Some((user.to_owned(), password.to_owned()));
        Some(server)
    }

    /// Where it answers, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Its directory, for looking into.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Whether `/ping` answers within a second.
    pub async fn answers(&self) -> bool {
        let ping = client().get(format!("{}/ping", self.url())).timeout(Duration::from_secs(1)).send().await;
        ping.is_ok_and(|response| response.status().as_u16() == 204)
    }

    /// Ends it with SIGKILL, as a crash does. Everything that it has acknowledged is on disk.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// SIGSTOP: connections are accepted by the kernel, nothing answers.
    pub fn pause(&self) {
        self.server.stop().unwrap();
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.server.resume().unwrap();
    }

    /// Starts it again on the same port and directory after [`Influxd::kill`].
    pub async fn restart(&mut self) {
        self.server.start().await.unwrap();
        eventually("influxd answers", Duration::from_secs(20), async || self.answers().await).await;
    }

    /// Runs InfluxQL and returns the whole answer; panics when there is none.
    pub async fn query(&self, database: &str, influxql: &str) -> Value {
        let mut request = client().post(format!("{}/query", self.url())).timeout(Duration::from_secs(20)).query(&[
            ("db", database),
            ("epoch", "ns"),
            ("q", influxql),
        ]);
        if let Some((user, password)) = &self.user {
            request = request.basic_auth(user, Some(password));
        }
        let answer = request.send().await.unwrap().json::<Value>().await.unwrap();
        assert!(answer["error"].is_null(), "{influxql}: {answer}");
        answer
    }

    /// The rows of the first series of a query, empty when there is none.
    pub async fn rows(&self, database: &str, influxql: &str) -> Vec<Vec<Value>> {
        let answer = self.query(database, influxql).await;
        let values = answer["results"][0]["series"][0]["values"].as_array().cloned().unwrap_or_default();
        values.into_iter().map(|row| row.as_array().cloned().unwrap_or_default()).collect()
    }

    /// How many rows of a measurement have this field.
    pub async fn count(&self, database: &str, measurement: &str, field: &str) -> u64 {
        let rows = self.rows(database, &format!("SELECT count(\"{field}\") FROM \"{measurement}\"")).await;
        rows.first().and_then(|row| row.get(1)).and_then(Value::as_u64).unwrap_or(0)
    }
}

/// An HTTP client for the test's own questions.
fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}
