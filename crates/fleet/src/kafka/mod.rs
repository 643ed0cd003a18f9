//! Kafka in and out, by librdkafka, without TLS and passwords: keep it on a network that you trust.
//!
//! - [`KafkaSink`] takes rows to `monitoring-data`; the journal before it is the buffer while Kafka is away.
//! - [`connect`] is the other end of that topic: a [`heartwatch_ports::Transport`] whose deliveries are acknowledged (their
//!   offsets committed) only when they are safe.
//! - [`over_kafka`] asks agents: a command in, its result out; [`read_everything`] is how both ends of it read.
//! - [`MessageCount`] tells how many messages a topic was given.
//! - [`consume`] hands on a topic that is acted on at once, like commands; [`KafkaProducer`] sends single messages.

mod broadcast_reader;
mod consumer;
mod count;
mod marks;
mod outage;
mod polled;
mod producer;
mod questions;
mod reception;
mod sink;
mod transport;

use rdkafka::ClientConfig;

pub use broadcast_reader::{Everything, read_everything};
pub use consumer::{Consumed, Consumption, StartAt, consume};
pub use count::MessageCount;
pub use producer::KafkaProducer;
pub use questions::{AgentsHeard, over_kafka};
pub use sink::{KafkaSink, KafkaSinkConfig};
pub use transport::{KafkaTransport, connect};

/// A client cannot be made: the configuration cannot work with any Kafka.
#[derive(Debug, thiserror::Error)]
#[error("Kafka at '{brokers}' cannot be used: {reason}; right is HOST:PORT, with commas between several")]
pub struct BadKafka {
    brokers: String,
    reason: String,
}

impl BadKafka {
    fn of(brokers: &str, error: &rdkafka::error::KafkaError) -> Self {
        Self { brokers: brokers.to_owned(), reason: error.to_string() }
    }
}

/// What all clients have in common.
fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("client.id", "heartwatch")
        .set("socket.keepalive.enable", "true")
        .set("reconnect.backoff.ms", "100")
        .set("reconnect.backoff.max.ms", "2000");
    config
}
