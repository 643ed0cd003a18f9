//! Rows → `monitoring-data`, one message a value, keyed by host, each acknowledged by all replicas.
//!
//! A write ends only when every message of it has its delivery report. Where one failed, all rows of the batch are
//! written again: who reads them knows a copy by its number.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _};

use super::{BadKafka, client};
use crate::formats::line_protocol::Rows;
use crate::formats::monitoring_data::{encode, messages_of_row};
use crate::ports::{BoxFuture, Sink, SinkError};

/// How long Kafka may take to create the topic.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait for room in librdkafka's queue.
const QUEUE_PAUSE: Duration = Duration::from_millis(10);

/// Where rows go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaSinkConfig {
    /// `HOST:PORT`, with commas between several.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// How long a message may take before the batch counts as failed and is tried again.
    pub timeout: Duration,
}

/// The sink.
pub struct KafkaSink {
    config: KafkaSinkConfig,
    /// None after an error that this producer cannot recover from.
    producer: Mutex<Option<FutureProducer>>,
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

    fn producer(&self) -> Result<FutureProducer, SinkError> {
        let mut kept = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(producer) = &*kept {
            return Ok(producer.clone());
        }
        let made = producer(&self.config).map_err(|error| SinkError::Misconfigured { reason: error.to_string() })?;
        Ok(kept.insert(made).clone())
    }

    async fn send(&self, lines: &[u8]) -> Result<(), SinkError> {
        // All of them before the first is sent: a bad row is found without doubling its neighbours.
        let mut payloads = Vec::new();
        for row in Rows::of(lines) {
            let messages = messages_of_row(row).map_err(|reason| SinkError::Refused { reason })?;
            payloads.extend(messages.iter().map(|message| (message.hostname.clone(), encode(message))));
        }
        let producer = self.producer()?;
        let mut reports = Vec::with_capacity(payloads.len());
        let mut failed = None;
        'sending: for (host, payload) in &payloads {
            loop {
                let record = FutureRecord::to(&self.config.topic).key(host).payload(payload);
                match producer.send_result(record) {
                    Ok(report) => {
                        reports.push(report);
                        break;
                    }
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                        tokio::time::sleep(QUEUE_PAUSE).await;
                    }
                    Err((error, _)) => {
                        failed = Some(error);
                        break 'sending;
                    }
                }
            }
        }
        for report in reports {
            if let Err(error) = reported(report).await {
                // The worst of them decides what to do: one that is refused is refused at every attempt.
                if failed.as_ref().is_none_or(|before| !is_refusal(before)) {
                    failed = Some(error);
                }
            }
        }
        let Some(error) = failed else { return Ok(()) };
        if producer.client().fatal_error().is_some() {
            self.producer.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        Err(judge(&self.config, &error))
    }
}

fn producer(config: &KafkaSinkConfig) -> Result<FutureProducer, BadKafka> {
    let mut client = client(&config.brokers);
    client
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "5")
        .set("message.max.bytes", "4000000")
        .set("message.timeout.ms", config.timeout.as_millis().to_string());
    client.create().map_err(|error| BadKafka::of(&config.brokers, &error))
}

async fn reported(report: DeliveryFuture) -> Result<(), KafkaError> {
    match report.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err((error, _))) => Err(error),
        Err(_) => Err(KafkaError::Canceled),
    }
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
        Box::pin(async move { self.send(&lines).await })
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
