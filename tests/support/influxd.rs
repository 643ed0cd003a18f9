//! A real InfluxDB 1.x for a test: own ports, own directory, gone when the test ends in any way.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::{eventually, free_port, installed};

const PROGRAM: &str = "/usr/bin/influxd";

/// What a test wants different from the plain server.
#[derive(Debug, Clone, Default)]
pub struct InfluxdOptions {
    /// Turns authentication on, with this administrator and password.
    pub user: Option<(String, String)>,
    /// `max-body-size`: a larger write body gets 413.
    pub body_bytes_max: Option<u64>,
    /// A UDP listener on this port, whose rows go into the database `udp`.
    pub udp_port: Option<u16>,
    /// More of its configuration, at the end.
    pub more: String,
}

/// A running server.
#[derive(Debug)]
pub struct Influxd {
    child: Option<Child>,
    dir: TempDir,
    port: u16,
    options: InfluxdOptions,
}

impl Influxd {
    /// Starts a plain one; `None` (already said) where influxd isn't installed.
    pub async fn start() -> Option<Self> {
        Self::start_with(InfluxdOptions::default()).await
    }

    /// Starts one with options; returns when it answers.
    pub async fn start_with(options: InfluxdOptions) -> Option<Self> {
        if !installed(PROGRAM) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut server = Self { child: None, dir, port: free_port(), options };
        server.write_config();
        server.spawn().await;
        if let Some((user, password)) = server.options.user.clone() {
            // open until the first administrator exists
            server.query("", &format!("CREATE USER \"{user}\" WITH PASSWORD '{password}' WITH ALL PRIVILEGES")).await;
        }
        Some(server)
    }

    /// Where it answers, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
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
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGSTOP: connections are accepted by the kernel, nothing answers.
    pub fn pause(&self) {
        super::stop(self.child.as_ref().expect("influxd runs"));
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Starts it again on the same port and directory after [`Influxd::kill`].
    pub async fn restart(&mut self) {
        self.kill();
        self.spawn().await;
    }

    /// Runs InfluxQL and returns the whole answer; panics when there is none.
    pub async fn query(&self, database: &str, influxql: &str) -> Value {
        let mut request = client().post(format!("{}/query", self.url())).timeout(Duration::from_secs(20)).query(&[
            ("db", database),
            ("epoch", "ns"),
            ("q", influxql),
        ]);
        if let Some((user, password)) = &self.options.user {
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

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("influxd runs");
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    async fn spawn(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let child = Command::new(PROGRAM)
            .args(["run", "-config"])
            .arg(self.dir.path().join("influxd.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        eventually("influxd answers", Duration::from_secs(20), async || self.answers().await).await;
    }

    fn write_config(&self) {
        let dir = self.dir.path().display();
        let auth = self.options.user.is_some();
        let body = self.options.body_bytes_max.map_or_else(String::new, |bytes| format!("max-body-size = {bytes}\n"));
        let udp = self.options.udp_port.map_or_else(String::new, |port| {
            format!("[[udp]]\nenabled = true\nbind-address = \"127.0.0.1:{port}\"\ndatabase = \"udp\"\nbatch-timeout = \"100ms\"\n")
        });
        let config = format!(
            "reporting-enabled = false\n\
             bind-address = \"127.0.0.1:{rpc_port}\"\n\
             [meta]\ndir = \"{dir}/meta\"\n\
             [data]\ndir = \"{dir}/data\"\nwal-dir = \"{dir}/wal\"\n\
             [monitor]\nstore-enabled = false\n\
             [http]\nbind-address = \"127.0.0.1:{port}\"\nauth-enabled = {auth}\nlog-enabled = false\n{body}{udp}{more}",
            rpc_port = free_port(),
            port = self.port,
            more = self.options.more,
        );
        fs::write(self.dir.path().join("influxd.conf"), config).unwrap();
    }
}

impl Drop for Influxd {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// An HTTP client for the test's own questions.
fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}
