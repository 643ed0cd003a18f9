//! A real Apache Kafka in KRaft mode for a test: own ports, own directory, gone when the test ends in any way.
//!
//! Its jars come from Maven Central (`make kafka`). Not every machine reaches that, a CI's in particular, so a test
//! says that it skips where they are absent, also under `HEARTWATCH_REQUIRE_SERVICES`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::{eventually, free_port};

const JAVA: &str = "/usr/bin/java";
/// How long a broker may take to start on a busy machine.
const START: Duration = Duration::from_secs(120);

/// A running broker.
#[derive(Debug)]
pub struct Kafka {
    child: Option<Child>,
    dir: TempDir,
    libs: PathBuf,
    port: u16,
}

/// The folder with its jars; `None` (already said) where there is none.
pub fn libs() -> Option<PathBuf> {
    let named = std::env::var_os("HEARTWATCH_KAFKA_LIBS").map(PathBuf::from);
    let libs = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/kafka/libs"));
    let has_jars = fs::read_dir(&libs).is_ok_and(|mut files| files.next().is_some());
    if !has_jars || !Path::new(JAVA).exists() {
        println!("skipped: no Kafka (Maven Central not reached)");
        return None;
    }
    Some(libs)
}

impl Kafka {
    /// Starts one; `None` (already said) where there is none.
    pub async fn start() -> Option<Self> {
        let libs = libs()?;
        let dir = tempfile::tempdir().unwrap();
        let (port, controller) = (free_port(), free_port());
        let properties = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
             log.dirs={}\nnum.partitions=2\noffsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             group.initial.rebalance.delay.ms=0\nlog.flush.interval.messages=1\nauto.create.topics.enable=true\n",
            dir.path().join("data").display()
        );
        fs::write(dir.path().join("server.properties"), properties).unwrap();
        let mut kafka = Self { child: None, dir, libs, port };
        let id = "MkU3OEVBNTcwNTJENDM2Qg";
        let formatted =
            kafka.java(&["kafka.tools.StorageTool", "format", "-t", id, "-c", "server.properties"]).status();
        assert!(formatted.unwrap().success(), "the storage could not be formatted: {}", kafka.log());
        kafka.restart().await;
        Some(kafka)
    }

    fn java(&self, arguments: &[&str]) -> Command {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let mut command = Command::new(JAVA);
        command
            .current_dir(self.dir.path())
            .args(["-Xmx256m", "-Xms64m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"])
            .arg(format!("{}/*", self.libs.display()))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command
    }

    /// Where it answers.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Ends it with SIGKILL, as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it (again) over what is on its disk; returns when it listens.
    pub async fn restart(&mut self) {
        self.kill();
        self.child = Some(self.java(&["kafka.Kafka", "server.properties"]).spawn().unwrap());
        let port = self.port;
        eventually("Kafka listens", START, async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok())
            .await;
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let tail: String = log.chars().rev().take(2_000).collect::<Vec<_>>().into_iter().rev().collect();
            eprintln!("--- Kafka said:\n{tail}\n---");
        }
    }
}
