//! `heartwatch bench`: the project's own measurements, on the user's machine.

mod cores;
mod delivery;
mod detect;
mod footprint;
mod ingest;
mod load;
mod notify;
mod processes;
mod programs;
mod recover;
mod reference;
mod repeated;
mod sender;
#[cfg(feature = "hosts")]
mod server;
mod watch;

use tokio::sync::mpsc;

use crate::args::{Bench, BenchArgs};
use crate::cpu_steal::CpuSteal;
use heartwatch_system::signals::{Request, told_to_end};

#[cfg(not(feature = "hosts"))]
mod server {
    use crate::args::ServerBenchArgs;
    pub(super) async fn server(_: &ServerBenchArgs) -> anyhow::Result<u8> {
        anyhow::bail!("this program was built without agents and servers: build it with `cargo build --features hosts`")
    }
}

/// Measures and prints; the answer is the exit code.
///
/// # Errors
/// When a program that takes part cannot start or does not finish, or a signal ended it.
pub async fn bench(args: &BenchArgs, mut requests: mpsc::Receiver<Request>) -> anyhow::Result<u8> {
    let before = CpuSteal::now();
    // What is dropped here ends its programs and removes its directories.
    tokio::select! {
        exit = measure(args) => {
            CpuSteal::tell_since(before);
            exit
        }
        () = told_to_end(&mut requests) => anyhow::bail!("ended by a signal before all was measured"),
    }
}

async fn measure(args: &BenchArgs) -> anyhow::Result<u8> {
    match &args.bench {
        Bench::Delivery(args) => delivery::delivery(args).await,
        Bench::Ingest(args) => ingest::ingest(args).await,
        Bench::Cpu(args) => ingest::cpu(args).await,
        Bench::Detect(args) => detect::detect(args).await,
        Bench::Notify(args) => notify::notify(args).await,
        Bench::Recover(args) => recover::recover(args).await,
        Bench::Server(args) => server::server(args).await,
        Bench::Watch(args) => watch::watch(args).await,
        Bench::Footprint(args) => footprint::footprint(args).await,
    }
}
