//! `heartwatch prove`: faults with a known truth, and what the monitor makes of them.

pub mod faulty;
mod proxy;
mod rows;
mod verdicts;

use std::path::Path;

use tokio::sync::mpsc;

use crate::args::ProveArgs;
use crate::cpu_steal::CpuSteal;
use heartwatch_servers::directory::Directory;
use heartwatch_system::signals::Request;

/// Proves the verdicts, or with `--rows` the account of every row; the answer is the exit code: 1 when
/// a limit is broken.
///
/// # Errors
/// When a part cannot be started.
pub async fn prove(args: &ProveArgs, requests: mpsc::Receiver<Request>) -> anyhow::Result<u8> {
    let before = CpuSteal::now();
    let exit = if args.rows { rows::prove(args, requests).await } else { verdicts::prove(args, requests).await };
    CpuSteal::tell_since(before);
    exit
}

/// Where a proof writes: the user's directory, or a temporary one that goes away unless it is to be kept.
fn directory(asked: Option<&Path>, keep: bool) -> anyhow::Result<Directory> {
    match asked {
        Some(path) => Directory::of_user(path),
        None if keep => Ok(Directory::temporary("prove")?.kept()),
        None => Directory::temporary("prove"),
    }
}
