//! Single messages: commands, and their results.

use std::time::Duration;

use rdkafka::producer::{FutureProducer, FutureRecord};

use super::{BadKafka, client};

/// How long a message may take: what it says is soon too old.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends single messages. Clones share the connection.
#[derive(Clone)]
pub struct KafkaProducer(FutureProducer);

impl KafkaProducer {
    /// Makes the client; nothing is sent yet.
    ///
    /// # Errors
    /// [`BadKafka`].
    pub fn new(brokers: &str) -> Result<Self, BadKafka> {
        let mut config = client(brokers);
        config.set("enable.idempotence", "true").set("message.timeout.ms", TIMEOUT.as_millis().to_string());
        config.create().map(Self).map_err(|error| BadKafka::of(brokers, &error))
    }

    /// Sends one message; resolves when Kafka has it.
    ///
    /// # Errors
    /// Why Kafka has not taken it, in words.
    pub async fn send(&self, topic: &str, key: &str, payload: &[u8]) -> Result<(), String> {
        let record = FutureRecord::to(topic).key(key).payload(payload);
        self.0.send(record, TIMEOUT).await.map(|_| ()).map_err(|(error, _)| format!("{topic}: {error}"))
    }
}
