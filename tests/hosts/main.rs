//! Many hosts: agents, gRPC, etcd, Kafka, the server.

mod agent;
mod cluster;
mod etcd;
mod grpc;
mod other_hosts;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod tls;
