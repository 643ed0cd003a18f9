//! What stands for a Kafka in a build that cannot have one: it is never found.

use std::net::SocketAddr;
use std::path::Path;

use rustix::process::Signal;

/// Never found.
pub enum KafkaFiles {}

impl KafkaFiles {
    /// # Errors
    /// Always.
    pub fn find() -> anyhow::Result<Self> {
        anyhow::bail!("this program was built without Kafka: build it with `cargo build --features kafka`")
    }
}

/// Never started.
pub enum Kafka {}

#[allow(clippy::unused_async, reason = "as where there is one")]
impl Kafka {
    pub async fn start(files: KafkaFiles, _: &Path) -> anyhow::Result<Self> {
        match files {}
    }

    pub fn brokers(&self) -> &str {
        match *self {}
    }

    pub fn server(&self) -> anyhow::Result<SocketAddr> {
        match *self {}
    }

    pub async fn kill(&mut self) -> anyhow::Result<()> {
        match *self {}
    }

    pub fn signal(&self, _: Signal) -> anyhow::Result<()> {
        match *self {}
    }

    pub async fn restart(&mut self) -> anyhow::Result<()> {
        match *self {}
    }
}
