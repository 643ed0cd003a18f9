//! The gRPC types and services, made from `proto/` when the program is built (`build.rs`).

#![allow(
    missing_docs,
    clippy::pedantic,
    clippy::nursery,
    clippy::all,
    unused_qualifications,
    reason = "made by a generator; documented in proto/"
)]

/// Agents and servers: `proto/monitoring.proto`.
pub mod monitoring {
    tonic::include_proto!("monitoring");
}

/// The part of etcd that we use: `proto/etcd.proto`.
pub mod etcd {
    tonic::include_proto!("etcdserverpb");
}
