//! Rows → `monitoring-data`, one message a value, keyed by host, each acknowledged by all replicas.
//!
//! A write ends only when every message of it has its delivery report. Where one failed, all rows of the batch are
//! written again: who reads them knows a copy by its number.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use tokio::sync::oneshot;

use super::polled::polled;
use super::{BadKafka, client};
use heartwatch_formats::line_protocol::Rows;
use heartwatch_formats::monitoring_row::Messages;
use heartwatch_ports::{BoxFuture, Sink, SinkError};

/// How long Kafka may take to create the topic.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait for room in librdkafka's queue.
const QUEUE_PAUSE: Duration = Duration::from_millis(10);
/// How long a message waits for others, unless there are enough for a request. librdkafka has one request at a time for a
/// partition; it does not sleep while messages that have waited for so long wait for the answer to it, so this is
/// more than an answer takes. Rows wait longer than that before they come here.
const LINGER_MILLIS: &str = "100";
/// Writes under way: while Kafka has one, the next is encoded and sent. More would not fit into librdkafka's queue of
/// 100,000 messages when rows have several fields.
const WRITES_AT_ONCE: usize = 3;

/// Where rows go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaSinkConfig {
    /// `HOST:PORT`, with commas between several.
    pub brokers: String,
    /// Where rows are written to.
    pub topic: String,
    /// How long a message may take before the batch counts as failed and is tried again.
    pub timeout: Duration,
}

/// The sink.
pub struct KafkaSink {
    config: KafkaSinkConfig,
    /// None after an error that this producer cannot recover from.
    producer: Mutex<Option<Arc<Producer>>>,
}

type Producer = BaseProducer<Reports>;

/// One write. Each of its messages on the way has a handle of it; the last one that goes tells how it ended.
struct Write {
    failed: Mutex<Option<KafkaError>>,
    done: Option<oneshot::Sender<Option<KafkaError>>>,
}

impl Write {
    fn begin() -> (Arc<Self>, oneshot::Receiver<Option<KafkaError>>) {
        let (done, ended) = oneshot::channel();
        (Arc::new(Self { failed: Mutex::default(), done: Some(done) }), ended)
    }

    /// The worst error decides what to do: what is refused is refused at every attempt.
    fn note(&self, error: KafkaError) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.as_ref().is_none_or(|before| !is_refusal(before)) {
            *failed = Some(error);
        }
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        let failed = self.failed.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(done) = self.done.take() {
            // Nobody waits any more when the loop of deliveries has ended.
            let _ = done.send(failed);
        }
    }
}

/// What librdkafka tells of each message.
struct Reports;

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = Arc<Write>;

    fn delivery(&self, result: &DeliveryResult<'_>, write: Arc<Write>) {
        if let Err((error, _)) = result {
            write.note(error.clone());
        }
    }
}

/// Messages of which some are sent.
struct Sending {
    messages: Messages,
    sent: usize,
    write: Arc<Write>,
}

impl Sending {
    /// Hands messages to librdkafka until all are, or it has no room (false).
    fn go_on(&mut self, producer: &Producer, topic: &str) -> bool {
        while let Some((key, payload)) = self.messages.get(self.sent) {
            let record = BaseRecord::with_opaque_to(topic, Arc::clone(&self.write)).key(key).payload(payload);
            match producer.send(record) {
                Ok(()) => self.sent += 1,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => return false,
                Err((error, _)) => {
                    self.write.note(error);
                    return true;
                }
            }
        }
        true
    }
}

impl KafkaSink {
    /// Makes the client; nothing is sent yet.
    ///
    /// # Errors
    /// [`BadKafka`].
    pub fn new(config: KafkaSinkConfig) -> Result<Self, BadKafka> {
        let producer = producer(&config)?;
        Ok(Self { config, producer: Mutex::new(Some(producer)) })
    }

    fn producer(&self) -> Result<Arc<Producer>, SinkError> {
        let mut kept = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(producer) = &*kept {
            return Ok(Arc::clone(producer));
        }
        let made = producer(&self.config).map_err(|error| SinkError::Misconfigured { reason: error.to_string() })?;
        Ok(Arc::clone(kept.insert(made)))
    }

    async fn send(&self, lines: Bytes) -> Result<(), SinkError> {
        // All of them before the first is sent: a bad row is found without doubling its neighbours.
        let messages = blocking(move || {
            let mut messages = Messages::with_capacity(lines.len() * 2);
            Rows::of(&lines).try_for_each(|row| messages.push_row(row)).map(|()| messages)
        })
        .await?
        .map_err(|reason| SinkError::Refused { reason })?;
        let producer = self.producer()?;
        let (write, ended) = Write::begin();
        let mut sending = Sending { messages, sent: 0, write };
        loop {
            let (producer, topic) = (Arc::clone(&producer), self.config.topic.clone());
            let (back, all_sent) = blocking(move || {
                let all_sent = sending.go_on(&producer, &topic);
                (sending, all_sent)
            })
            .await?;
            if all_sent {
                break;
            }
            sending = back;
            tokio::time::sleep(QUEUE_PAUSE).await;
        }
        let Some(error) = ended.await.unwrap_or(Some(KafkaError::Canceled)) else { return Ok(()) };
        if producer.client().fatal_error().is_some() {
            self.producer.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        Err(judge(&self.config, &error))
    }
}

/// Off the thread of the actors, who wait for each other there.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, SinkError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|error| SinkError::Retry { reason: format!("a batch was not sent: {error}"), retry_after: None })
}

fn producer(config: &KafkaSinkConfig) -> Result<Arc<Producer>, BadKafka> {
    let mut client = client(&config.brokers);
    client
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", LINGER_MILLIS)
        .set("message.max.bytes", "4000000")
        .set("message.timeout.ms", config.timeout.as_millis().to_string());
    polled(&client, Reports).map_err(|error| BadKafka::of(&config.brokers, &error))
}

fn is_refusal(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::InvalidMessage
                | RDKafkaErrorCode::InvalidRecord
                | RDKafkaErrorCode::InvalidMessageSize
        )
    )
}

/// What to do about it.
fn judge(config: &KafkaSinkConfig, error: &KafkaError) -> SinkError {
    let reason = format!("{} at {}: {error}", config.topic, config.brokers);
    match error.rdkafka_error_code() {
        _ if is_refusal(error) => SinkError::Refused { reason },
        Some(
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::InvalidTopic,
        ) => SinkError::Misconfigured {
            reason: format!("{reason}; the topic has to exist, and we have to be allowed to write to it"),
        },
        _ => SinkError::Retry { reason, retry_after: None },
    }
}

impl Sink for KafkaSink {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn write(&self, lines: Bytes) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(self.send(lines))
    }

    fn writes_at_once(&self) -> usize {
        WRITES_AT_ONCE
    }

    /// Creates the topic where we may, with the broker's own number of partitions and replicas.
    fn prepare(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            let admin: AdminClient<DefaultClientContext> =
                client(&self.config.brokers).create().map_err(|error| judge(&self.config, &error))?;
            let topic = NewTopic::new(&self.config.topic, -1, TopicReplication::Fixed(-1));
            let options =
                AdminOptions::new().request_timeout(Some(ADMIN_TIMEOUT)).operation_timeout(Some(ADMIN_TIMEOUT));
            let created = admin.create_topics([&topic], &options).await;
            match created.map_err(|error| judge(&self.config, &error))?.pop() {
                None | Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
                Some(Err((topic, error))) => {
                    // Who may not create it may well write to it: the first write tells.
                    tracing::info!(topic, %error, "the topic was not created");
                    Ok(())
                }
            }
        })
    }
}
