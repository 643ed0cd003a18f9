//! Floor 3: the outside world, each part behind a port.

pub mod broker;
pub mod command;
#[cfg(feature = "hosts")]
pub mod grpc;
#[cfg(feature = "hosts")]
pub mod etcd;
pub mod influx;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod mail;
pub mod monitor;
pub mod mqtt;
pub mod process;
pub mod received_log;
pub mod rustls_provider;
pub mod service_manager;
pub mod webhook;
