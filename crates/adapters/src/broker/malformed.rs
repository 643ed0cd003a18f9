//! Why a client's bytes are not MQTT.

/// Bytes that are not MQTT 3.1.1 from a client, in words for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) &'static str);
