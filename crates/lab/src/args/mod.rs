//! The command lines of the laboratory.

mod bench;
mod cluster;
mod prove;

pub use self::bench::{
    Bench, BenchArgs, DeliveryBenchArgs, DetectBenchArgs, FootprintBenchArgs, IngestBenchArgs, NotifyBenchArgs,
    RecoverBenchArgs, ServerBenchArgs, WatchBenchArgs,
};
pub use self::cluster::ClusterArgs;
pub use self::prove::{FaultKind, FaultyArgs, ProveArgs};
