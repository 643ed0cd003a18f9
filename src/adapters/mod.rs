//! Floor 3: the outside world, each part behind a port.

pub mod agents;
pub mod broker;
pub mod command;
#[cfg(feature = "hosts")]
pub mod etcd;
#[cfg(feature = "hosts")]
pub mod grpc;
pub mod influx;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod mail;
pub mod monitor;
pub mod mqtt;
pub mod plugin_folder;
pub mod process;
pub mod received_log;
pub mod rustls_provider;
pub mod service_manager;
#[cfg(feature = "hosts")]
pub mod tls;
pub mod webhook;
