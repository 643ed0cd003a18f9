//! A real Apache Kafka in KRaft mode for a test: own ports, own directory, gone when the test ends in any way. Its jars
//! come from Maven Central (`make kafka`).

use std::fs;
use std::path::Path;

use heartwatch_servers::kafka::{self, KafkaFiles};
use heartwatch_servers::server::Server;
use tempfile::TempDir;

use super::skip;

/// A running broker.
#[derive(Debug)]
pub struct Kafka {
    server: Server,
    _dir: TempDir,
}

/// What it is made of; `None` (already said) where something of it is missing.
pub fn files() -> Option<KafkaFiles> {
    let found = KafkaFiles::find(Path::new(env!("CARGO_MANIFEST_DIR")));
    found.map_err(|missing| skip(&missing.join("; "))).ok()
}

impl Kafka {
    /// Starts one; `None` (already said) where there is none.
    pub async fn start() -> Option<Self> {
        let files = files()?;
        let dir = tempfile::tempdir().unwrap();
        let mut server = kafka::kafka(&files, dir.path()).await.unwrap();
        server.start().await.unwrap();
        Some(Self { server, _dir: dir })
    }

    /// Where it answers.
    pub fn brokers(&self) -> String {
        self.server.address().to_string()
    }

    /// What it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.server.log).unwrap_or_default()
    }

    /// Ends it with SIGKILL, as a crash does.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it (again) over what is on its disk; returns when it listens.
    pub async fn restart(&mut self) {
        self.server.start().await.unwrap();
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: String = log.chars().rev().take(2_000).collect::<Vec<_>>().into_iter().rev().collect();
            eprintln!("--- Kafka said:\n{tail}\n---");
        }
    }
}
