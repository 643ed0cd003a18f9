//! Many hosts: agents over gRPC and Kafka, their live configuration in etcd, and the plugins that their readings pass.

pub mod agents;
#[cfg(feature = "hosts")]
pub mod etcd;
#[cfg(feature = "hosts")]
pub mod grpc;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod plugin_folder;
pub mod plugins;
pub mod received_log;
#[cfg(feature = "hosts")]
pub mod tls;
#[cfg(feature = "hosts")]
pub mod wire;
