//! `heartwatch backup` and `heartwatch restore`.

use std::path::PathBuf;

use clap::Args;

/// `heartwatch backup`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:
  heartwatch backup /mnt/backup/heartwatch-monday
  heartwatch backup /mnt/backup/agent --data-dir /var/lib/heartwatch-agent

It may be made while the monitor and its publishers run: each file is what it was at one commit. It holds the secret name of the \
monitor's session at its broker, and no password: the configuration and the files that it names are not in it.")]
pub struct BackupArgs {
    /// A new directory
    #[arg(value_name = "DIR")]
    pub to: PathBuf,
    /// What is copied [default: data] [env: HEARTWATCH_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The monitor's configuration, which names its data directory [env: HEARTWATCH_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `heartwatch restore`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:
  heartwatch restore /mnt/backup/heartwatch-monday --data-dir /var/lib/heartwatch

Stop the monitor first (systemctl stop heartwatch). The copy is compared with its checksums first. What is in the data directory is moved aside, not removed.")]
pub struct RestoreArgs {
    /// What `heartwatch backup` has made
    #[arg(value_name = "DIR")]
    pub from: PathBuf,
    /// Where it is put back; nobody may use it [default: data] [env: HEARTWATCH_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The monitor's configuration, which names its data directory [env: HEARTWATCH_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}
