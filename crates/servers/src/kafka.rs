//! Apache Kafka in KRaft mode: a broker that is its own controller.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::server::Server;
use crate::{find, free_address};

/// Where its jars are, unless they are where `make kafka` puts them.
pub const LIBS_VARIABLE: &str = "HEARTWATCH_KAFKA_LIBS";
/// Where `make kafka` puts them, seen from the repository.
const LIBS: &str = "target/kafka/libs";
/// How long it may take to make its directory.
const FORMAT_TIMEOUT: Duration = Duration::from_secs(120);
/// The id of its cluster; it means nothing to us.
const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qg";
/// A small machine has room for it.
const JAVA: [&str; 5] = ["-Xmx256m", "-Xms64m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"];

/// What it is made of.
#[derive(Debug, Clone)]
pub struct KafkaFiles {
    /// The Java that runs it.
    java: PathBuf,
    /// The folder with its jars.
    pub libs: PathBuf,
}

impl KafkaFiles {
    /// Looks for Java, and for the jars below `repository` or where [`LIBS_VARIABLE`] says.
    ///
    /// # Errors
    /// Everything that is missing, and how to get it.
    pub fn find(repository: &Path) -> Result<Self, Vec<String>> {
        let named = std::env::var_os(LIBS_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        let libs = named.unwrap_or_else(|| repository.join(LIBS));
        let libs = std::path::absolute(&libs).unwrap_or(libs);
        let is_kafka = |file: std::fs::DirEntry| file.file_name().to_string_lossy().starts_with("kafka_");
        let has_jars = std::fs::read_dir(&libs).is_ok_and(|files| files.flatten().any(is_kafka));
        let mut missing = Vec::new();
        let java = find("java");
        if java.is_none() {
            missing.push(
                "Java, which Kafka needs, is not installed (Debian: apt-get install openjdk-17-jre-headless)"
                    .to_owned(),
            );
        }
        if !has_jars {
            let libs = libs.display();
            missing.push(format!(
                "Kafka's jars are not in {libs}: `make kafka` in the repository fetches them from Maven Central to {LIBS}; \
                 {LIBS_VARIABLE} names another folder, such as the libs of a Kafka that you have"
            ));
        }
        java.filter(|_| has_jars).map(|java| Self { java, libs }).ok_or(missing)
    }
}

/// One that is not started yet, on a free port and over `kafka` in this folder, which is made; `kafka.properties` and
/// `kafka.log` are beside it.
///
/// # Errors
/// When there is no free port, or its directory cannot be made.
pub async fn kafka(files: &KafkaFiles, folder: &Path) -> anyhow::Result<Server> {
    let (clients, controller) = (free_address()?, free_address()?);
    let data = folder.join("kafka");
    let properties = format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@{controller}\n\
         listeners=PLAINTEXT://{clients},CONTROLLER://{controller}\nadvertised.listeners=PLAINTEXT://{clients}\n\
         controller.listener.names=CONTROLLER\nlog.dirs={}\nnum.partitions=2\n\
         offsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n\
         transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\nauto.create.topics.enable=true\n",
        data.display()
    );
    let file = folder.join("kafka.properties");
    std::fs::write(&file, properties).with_context(|| format!("cannot write {}", file.display()))?;
    let class_path = format!("{}/*", files.libs.display());
    let java = |words: &[&str]| {
        let all = JAVA.iter().copied().chain([class_path.as_str()]).chain(words.iter().copied());
        all.map(Into::into).collect()
    };
    let mut server = Server { listens: Some(clients), ..Server::new("kafka", &files.java, folder) };
    if !data.exists() {
        server.arguments = java(&["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", "kafka.properties"]);
        server.spawn()?;
        let made = server.collect(FORMAT_TIMEOUT).await?;
        anyhow::ensure!(made.success(), "Kafka could not make its directory: {}", server.last_words());
    }
    server.arguments = java(&["kafka.Kafka", "kafka.properties"]);
    Ok(server)
}
