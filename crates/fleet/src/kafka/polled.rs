//! A producer whose reports a thread of its own hands on.
//!
//! Not rdkafka's `ThreadedProducer`, under `FutureProducer` too: for the last millisecond of every 100 that it waits, its
//! thread asks again and again.

use std::sync::{Arc, Weak};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, ProducerContext};

/// How long the thread waits for reports before it looks whether anybody has the producer: so long it lives at most
/// after the last handle went.
const POLL: Duration = Duration::from_secs(5);

/// Makes a producer, and the thread.
pub(super) fn polled<C: ProducerContext + 'static>(
    config: &ClientConfig,
    context: C,
) -> Result<Arc<BaseProducer<C>>, KafkaError> {
    let producer: Arc<BaseProducer<C>> = Arc::new(config.create_with_context(context)?);
    let polled: Weak<BaseProducer<C>> = Arc::downgrade(&producer);
    let thread = std::thread::Builder::new().name("kafka reports".to_owned()).spawn(move || {
        while let Some(producer) = polled.upgrade() {
            producer.poll(POLL);
        }
    });
    thread.map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
    Ok(producer)
}
