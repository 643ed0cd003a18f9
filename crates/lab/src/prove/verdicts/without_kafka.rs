//! What stands for a Kafka in a build that cannot have one: it is never found.

use std::net::SocketAddr;
use std::path::Path;

use rustix::process::Signal;

/// Never found.
pub(super) enum KafkaFiles {}

impl KafkaFiles {
    /// # Errors
    /// Always.
    pub(super) fn find() -> anyhow::Result<Self> {
        anyhow::bail!("this program was built without Kafka: build it with `cargo build --features kafka`")
    }
}

/// Never started.
pub(super) enum Kafka {}

#[allow(clippy::unused_async, reason = "as where there is one")]
impl Kafka {
    pub(super) async fn start(files: KafkaFiles, _: &Path) -> anyhow::Result<Self> {
        match files {}
    }

    pub(super) fn brokers(&self) -> &str {
        match *self {}
    }

    pub(super) fn server(&self) -> anyhow::Result<SocketAddr> {
        match *self {}
    }

    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        match *self {}
    }

    pub(super) fn signal(&self, _: Signal) -> anyhow::Result<()> {
        match *self {}
    }

    pub(super) async fn restart(&mut self) -> anyhow::Result<()> {
        match *self {}
    }
}
