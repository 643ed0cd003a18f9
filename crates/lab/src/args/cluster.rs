//! `heartwatch demo cluster`.

use std::path::PathBuf;

use clap::Args;

/// `heartwatch demo cluster`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:
  heartwatch demo cluster
  heartwatch demo cluster --data-dir cluster     # keeps the logs of all parts

It needs etcd, Java 17 and the jars of Kafka, which `make kafka` fetches to target/kafka/libs; \
HEARTWATCH_KAFKA_LIBS names another folder with them. Ports are free ones; everything ends with it.

Exit code 0 only when everything was as the story says.")]
pub struct ClusterArgs {
    /// Print the story as JSON, one object a line
    #[arg(long)]
    pub json: bool,
    /// Keep everything on disk in this directory, with the logs of all parts [default: a temporary one that is removed]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}
