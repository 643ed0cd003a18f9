//! `heartwatch server` in a program without gRPC: it says how to get it.

use tokio::sync::mpsc;

use crate::config::Settings;
use crate::roles::cli::{ServerArgs, ServerAsk};
use heartwatch_system::signals::Request;

const WITHOUT_HOSTS: &str =
    "this program was built without agents and servers: build it with `cargo build --features hosts`";

/// Says so.
///
/// # Errors
/// Always.
pub(super) async fn server(_: &ServerArgs, _: &Settings, _: mpsc::Receiver<Request>) -> anyhow::Result<u8> {
    anyhow::bail!(WITHOUT_HOSTS)
}

/// Says so.
///
/// # Errors
/// Always.
pub(super) async fn ask(_: &ServerAsk) -> anyhow::Result<u8> {
    anyhow::bail!(WITHOUT_HOSTS)
}
