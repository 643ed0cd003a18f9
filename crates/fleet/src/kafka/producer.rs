//! Single messages: commands, and their results.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, ProducerContext};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::polled::polled;
use super::{BadKafka, client};

/// How long a message may take: what it says is soon too old.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Wait for room in librdkafka's queue.
const QUEUE_PAUSE: Duration = Duration::from_millis(100);

/// Sends single messages. Clones share the connection.
#[derive(Clone)]
pub struct KafkaProducer(Arc<BaseProducer<Reports>>);

/// Tells each message's sender what has become of it.
struct Reports;

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<oneshot::Sender<Result<(), KafkaError>>>;

    fn delivery(&self, result: &DeliveryResult<'_>, report: Self::DeliveryOpaque) {
        let result = result.as_ref().map(|_| ()).map_err(|(error, _)| error.clone());
        // Nobody waits any more.
        let _ = report.send(result);
    }
}

impl KafkaProducer {
    /// Makes the client; nothing is sent yet.
    ///
    /// # Errors
    /// [`BadKafka`].
    pub fn new(brokers: &str) -> Result<Self, BadKafka> {
        let mut config = client(brokers);
        config.set("enable.idempotence", "true").set("message.timeout.ms", TIMEOUT.as_millis().to_string());
        polled(&config, Reports).map(Self).map_err(|error| BadKafka::of(brokers, &error))
    }

    /// Sends one message; resolves when Kafka has it.
    ///
    /// # Errors
    /// Why Kafka has not taken it, in words.
    pub async fn send(&self, topic: &str, key: &str, payload: &[u8]) -> Result<(), String> {
        let sent = self.try_send(topic, key, payload).await;
        sent.map_err(|error| format!("{topic}: {error}"))
    }

    async fn try_send(&self, topic: &str, key: &str, payload: &[u8]) -> Result<(), KafkaError> {
        let until = Instant::now() + TIMEOUT;
        let (report, reported) = oneshot::channel();
        let mut record = BaseRecord::with_opaque_to(topic, Box::new(report)).key(key).payload(payload);
        while let Err((error, back)) = self.0.send(record) {
            let is_full = matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
            if !is_full || Instant::now() >= until {
                return Err(error);
            }
            record = back;
            sleep(QUEUE_PAUSE).await;
        }
        reported.await.unwrap_or(Err(KafkaError::Canceled))
    }
}
