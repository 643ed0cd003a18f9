//! `heartwatch analysis` in a program without Kafka: it says how to get it.

use tokio::sync::mpsc;

use crate::roles::cli::AnalysisArgs;
use heartwatch_system::signals::Request;

/// Says so.
///
/// # Errors
/// Always.
pub(super) async fn analysis(_: &AnalysisArgs, _: mpsc::Receiver<Request>) -> anyhow::Result<u8> {
    anyhow::bail!(super::kafka_intake::WITHOUT_KAFKA)
}
