//! A Kafka that can be killed and stopped, and the server that hands agents' words to it.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use rustix::process::Signal;
use tokio::time::Instant;

use super::testbed::{ASK_EVERY, START_TIMEOUT};
use crate::cluster::parts::{Needed, Parts};

/// The names of the parts.
const KAFKA: &str = "kafka";
const SERVER: &str = "server";

/// What it is started with.
pub(super) struct KafkaFiles(Needed);

impl KafkaFiles {
    /// Looks for it.
    ///
    /// # Errors
    /// What is missing.
    pub(super) fn find() -> anyhow::Result<Self> {
        Needed::find().map(Self)
    }
}

/// Both of them. Dropped, they are killed.
pub(super) struct Kafka(Parts);

impl Kafka {
    /// Starts them in this folder.
    ///
    /// # Errors
    /// When one of them cannot be started.
    pub(super) async fn start(files: KafkaFiles, folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut kafka = Self(Parts::new(files.0, folder.to_owned())?);
        kafka.restart().await?;
        let (listen, brokers) = (kafka.0.server.clone(), kafka.0.brokers.clone());
        let words = ["server", "--web", "off", "--data-dir", "server", "--listen", &listen, "--kafka", &brokers];
        kafka.0.start_heartwatch(SERVER, &words)?;
        kafka.wait_until_it_listens(&listen).await?;
        Ok(kafka)
    }

    /// Where Kafka answers.
    #[must_use]
    pub(super) fn brokers(&self) -> &str {
        &self.0.brokers
    }

    /// Where agents are served.
    ///
    /// # Errors
    /// Never: it was made from one.
    pub(super) fn server(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.0.server.parse()?)
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        self.0.kill(KAFKA)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it does not run.
    pub(super) fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        self.0.signal(KAFKA, signal)
    }

    /// Starts it (again), over what is on its disk.
    ///
    /// # Errors
    /// When it does not listen in time.
    pub(super) async fn restart(&mut self) -> anyhow::Result<()> {
        self.0.start_kafka().await?;
        let brokers = self.0.brokers.clone();
        self.wait_until_it_listens(&brokers).await
    }

    async fn wait_until_it_listens(&mut self, address: &str) -> anyhow::Result<()> {
        let end = Instant::now() + START_TIMEOUT;
        while tokio::net::TcpStream::connect(address).await.is_err() {
            self.0.all_run()?;
            anyhow::ensure!(Instant::now() < end, "nobody listens on {address}");
            tokio::time::sleep(ASK_EVERY).await;
        }
        Ok(())
    }
}
