//! How many messages a topic was given, for whoever measures.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;

use super::{BadKafka, client};

/// How long Kafka may take to say what it has.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Counts messages.
pub struct MessageCount(Arc<BaseConsumer>);

impl MessageCount {
    /// Makes the client; nothing is asked yet.
    ///
    /// # Errors
    /// [`BadKafka`].
    pub fn new(brokers: &str) -> Result<Self, BadKafka> {
        let consumer = client(brokers).create().map_err(|error| BadKafka::of(brokers, &error))?;
        Ok(Self(Arc::new(consumer)))
    }

    /// Messages that all replicas of the topic's partitions have had, copies included; 0 for a topic that is not there.
    ///
    /// # Errors
    /// Why Kafka has not said it, in words.
    pub async fn of(&self, topic: &'static str) -> Result<u64, String> {
        let consumer = Arc::clone(&self.0);
        let counted = tokio::task::spawn_blocking(move || count(&consumer, topic)).await;
        counted.map_err(|error| error.to_string())?.map_err(|error| format!("{topic}: {error}"))
    }
}

fn count(consumer: &BaseConsumer, topic: &str) -> Result<u64, KafkaError> {
    let metadata = consumer.fetch_metadata(None, TIMEOUT)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(0) };
    let ends = found.partitions().iter().map(|partition| {
        let (_, end) = consumer.fetch_watermarks(topic, partition.id(), TIMEOUT)?;
        Ok(u64::try_from(end).unwrap_or(0))
    });
    ends.sum()
}
