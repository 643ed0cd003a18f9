//! `monitoring-data` and `monitoring-signs` as a transport: each message is a delivery, acknowledged when it is safe.
//!
//! Invariants:
//! 1. An offset is committed only when the receipts of it and of everything delivered before it have come.
//! 2. A receipt of another assignment of partitions is harmless: its message comes again, and is recognised
//!    by its number, or by its offset where it has none.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::Message as _;
use rdkafka::consumer::Consumer as _;
use tokio::sync::{Notify, mpsc, watch};

use super::BadKafka;
use super::consumer::{StartAt, consumer};
use super::marks::{Marks, Source};
use super::outage::Outage;
use super::questions::AgentsHeard;
use super::reception::{Listener, Reception};
use heartwatch_domain::beat::Way;
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::time::Timestamp;
use heartwatch_formats::envelope::{self, Message, Prefix, Topic, TopicKind};
use heartwatch_formats::monitoring_data::{DELIVERY_TOPIC, TOPIC};
use heartwatch_formats::monitoring_sign::{self, SIGNS_TOPIC, STALE_AFTER};
use heartwatch_ports::Delivery;
use heartwatch_ports::servers::KafkaConfig;
use heartwatch_ports::{BoxFuture, Outgoing, Receipt, Transport, TransportError, TransportEvent};
use heartwatch_system::clock::Clock;

/// Wait after an error: librdkafka itself goes on connecting.
const ERROR_PAUSE: Duration = Duration::from_millis(200);
/// How long the end may take: the last offsets are committed.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Messages that may wait to be taken; fewer than the 65,536 ids of receipts, together with those on their way.
const QUEUE_MESSAGES_MAX: usize = 1_024;

/// One message on its way.
struct Pending {
    packet_id: u16,
    is_sign: bool,
    partition: i32,
    offset: i64,
    received: bool,
}

struct ReceptionState {
    source: Arc<Source>,
    pending: Mutex<VecDeque<Pending>>,
    agents_heard: AgentsHeard,
}

/// The connection. Nothing can be published over it.
pub struct KafkaTransport {
    shared: Arc<ReceptionState>,
    stop: Arc<Notify>,
    ended: watch::Receiver<bool>,
}

/// Starts to read, on the current tokio runtime, and returns at once: whether Kafka is there is told by the events.
///
/// # Errors
/// [`BadKafka`] when the configuration cannot work with any Kafka.
///
/// # Panics
/// Outside a tokio runtime.
pub fn connect(
    config: KafkaConfig,
    prefix: Prefix,
    clock: Clock,
) -> Result<(Arc<KafkaTransport>, mpsc::Receiver<TransportEvent>), BadKafka> {
    let (listener, reception) = Listener::new();
    let consumer = consumer(&config.brokers, &config.group, StartAt::Beginning, listener)?;
    consumer.subscribe(&[TOPIC, SIGNS_TOPIC]).map_err(|error| BadKafka::of(&config.brokers, &error))?;
    let shared = Arc::new(ReceptionState {
        source: Arc::new(Source { consumer, topic: TOPIC.to_owned() }),
        pending: Mutex::default(),
        agents_heard: AgentsHeard::default(),
    });
    let (events, events_end) = mpsc::channel(QUEUE_MESSAGES_MAX);
    let stop = Arc::new(Notify::new());
    let (done, ended) = watch::channel(false);
    let (reading, stopped) = (shared.clone(), stop.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = stopped.notified() => {}
            () = read(&reading, (&config, &prefix), reception, events, clock) => {}
        }
        done.send_replace(true);
    });
    Ok((Arc::new(KafkaTransport { shared, stop, ended }), events_end))
}

async fn read(
    shared: &Arc<ReceptionState>,
    (config, prefix): (&KafkaConfig, &Prefix),
    mut reception: watch::Receiver<Reception>,
    events: mpsc::Sender<TransportEvent>,
    clock: Clock,
) {
    let outage = Outage::default();
    let mut packet_id: u16 = 0;
    let mut marks = Marks::default();
    loop {
        let received = tokio::select! {
            received = shared.source.consumer.recv() => received,
            Ok(()) = reception.changed() => {
                let now = *reception.borrow_and_update();
                if events.send(changed(now, config, &outage, clock)).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let event = match received {
            Ok(message) => {
                outage.ended(&config.brokers);
                packet_id = packet_id.wrapping_add(1);
                let (partition, offset) = (message.partition(), message.offset());
                let is_sign = message.topic() == SIGNS_TOPIC;
                let pending = Pending { packet_id, is_sign, partition, offset, received: false };
                shared.pending.lock().unwrap_or_else(PoisonError::into_inner).push_back(pending);
                let payload = message.payload().unwrap_or_default();
                let written_at = message.timestamp().to_millis();
                let written_at = written_at.map(|millis| Timestamp::from_nanos(millis.saturating_mul(1_000_000)));
                let sign = if is_sign { monitoring_sign::decode(prefix, payload) } else { None };
                if let Some((topic, payload)) = &sign
                    && let Some(agent) = agent_heard(prefix, topic, payload)
                {
                    shared.agents_heard.note(&agent);
                }
                // A sign that cannot be read goes on as a reading that cannot: it is counted and kept for a person.
                let (topic, payload) = sign.unwrap_or_else(|| (DELIVERY_TOPIC.to_owned(), payload.to_vec()));
                let wall = clock.wall();
                let stale = written_at.is_some_and(|written_at| written_at < wall.earlier_by(STALE_AFTER));
                drop(message);
                let mark =
                    if is_sign { None } else { Some(marks.of(&shared.source, partition, offset, written_at).await) };
                TransportEvent::Delivery(Delivery {
                    topic,
                    payload,
                    // It was kept while we did not read: data, and no sign of life.
                    retained: stale,
                    at: clock.monotonic(),
                    wall,
                    way: Way::Kafka,
                    mark,
                    receipt: Receipt { connection_epoch: 1, packet_id },
                })
            }
            Err(error) => {
                // Whether that means that nothing is read is told by the reception.
                outage.failed(&config.brokers, &error.to_string());
                tokio::time::sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

/// What it means for those who take what comes.
fn changed(now: Reception, config: &KafkaConfig, outage: &Outage, clock: Clock) -> TransportEvent {
    let brokers = &config.brokers;
    match now {
        Reception::Open => {
            outage.ended(brokers);
            tracing::info!(brokers, topic = TOPIC, "readings come from Kafka");
            TransportEvent::Connected { connection_epoch: 1, session_present: true }
        }
        Reception::Lost(reason) => {
            outage.failed(brokers, reason);
            let reason = format!("Kafka at {brokers} is not read from ({reason}): who is heard there is not known");
            TransportEvent::Disconnected { reason, at: clock.wall() }
        }
    }
}

/// How the heartbeat of an agent, and hardly any other, can be told without reading all of it.
const AGENT_KEY: &[u8] = b"\"agent\":true";

/// Whose heartbeat this is, when it is an agent's.
fn agent_heard(prefix: &Prefix, topic: &str, payload: &[u8]) -> Option<PublisherId> {
    if !payload.windows(AGENT_KEY.len()).any(|part| part == AGENT_KEY) {
        return None;
    }
    let topic = Topic::parse(prefix, topic).ok().filter(|topic| topic.kind == TopicKind::Heartbeat)?;
    match envelope::decode(topic.kind, &topic.publisher, payload) {
        Ok(Message::Heartbeat(note)) if note.heartbeat.is_agent => Some(topic.publisher),
        _ => None,
    }
}

impl KafkaTransport {
    /// The agents whose heartbeats came, so that they are asked on this way.
    #[must_use]
    pub fn agents_heard(&self) -> AgentsHeard {
        self.shared.agents_heard.clone()
    }
}

impl Transport for KafkaTransport {
    fn publish(&self, message: Outgoing) -> BoxFuture<'_, Result<(), TransportError>> {
        Box::pin(async move { self.try_publish(message) })
    }

    fn try_publish(&self, message: Outgoing) -> Result<(), TransportError> {
        Err(TransportError::Unsendable { topic: message.topic, reason: "readings only come from Kafka".to_owned() })
    }

    fn acknowledge(&self, receipts: Vec<Receipt>) {
        let mut pending = self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
        for receipt in receipts {
            // They come in the order of delivery, so that it is the first one that is still open.
            if let Some(found) = pending.iter_mut().find(|one| !one.received && one.packet_id == receipt.packet_id) {
                found.received = true;
            }
        }
        while pending.front().is_some_and(|first| first.received) {
            let Some(Pending { is_sign, partition, offset, .. }) = pending.pop_front() else { break };
            let topic = if is_sign { SIGNS_TOPIC } else { TOPIC };
            if let Err(error) = self.shared.source.consumer.store_offset(topic, partition, offset) {
                tracing::debug!(%error, "an offset was not noted: the partition is another's now");
            }
        }
    }

    /// Ends reading; what is acknowledged from now on is still committed, with the last handle.
    fn disconnect(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.stop.notify_one();
            let mut ended = self.ended.clone();
            let _ = tokio::time::timeout(DISCONNECT_TIMEOUT, ended.wait_for(|ended| *ended)).await;
        })
    }
}
