//! `heartwatch demo cluster` in a program without agents or Kafka: it says how to get them.

use tokio::sync::mpsc;

use crate::args::ClusterArgs;
use heartwatch_system::signals::Request;

/// Says so.
///
/// # Errors
/// Always.
pub async fn cluster(_: &ClusterArgs, _: mpsc::Receiver<Request>) -> anyhow::Result<u8> {
    anyhow::bail!("this program was built without agents or Kafka: build it with `cargo build --features hosts,kafka`")
}
