//! A publisher that can be made to fail in ways that a healthy one cannot.

use crate::roles::cli::FaultyArgs;

/// Publishes until it is told to exit; the answer is the exit code.
///
/// # Errors
/// When its connection cannot be configured.
pub async fn publish(_args: &FaultyArgs) -> anyhow::Result<u8> {
    anyhow::bail!("not built yet")
}
