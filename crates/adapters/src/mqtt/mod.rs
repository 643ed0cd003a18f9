//! [`Transport`] over any MQTT 3.1.1 broker, by rumqttc.
//!
//! What holds, whatever the broker does:
//!
//! - It reconnects for ever, with exponential backoff and jitter. An outage is logged once when it
//!   begins and once when it ends, and again only when the *kind* of the failure changes (no
//!   connection, refused by the broker, TLS).
//! - It subscribes at every connection, also when the broker kept the session: that is harmless and
//!   survives a change of the filters. [`TransportEvent::Connected`] comes after the broker's SUBACK,
//!   and before the deliveries of its connection (unless they fill the queue before the SUBACK comes).
//! - An acknowledgement goes out only over the connection that its delivery came by, and only in
//!   the order of delivery (rumqttd disconnects a client that does otherwise). A receipt that comes
//!   before an earlier one waits for it; a receipt of an earlier connection is ignored, because the
//!   broker sends that message again under a new id. So every QoS 1 delivery has to be acknowledged
//!   in the end, also one that could not be read.
//! - Nothing waits while it polls the connection: messages to send and acknowledgements are handed
//!   to rumqttc only when it has room, and the window of unconfirmed messages is kept here, so that
//!   the two cannot block each other. One coupling is left, and it is rumqttd's: it confirms no
//!   QoS 1 message of a client that has 100 deliveries unacknowledged. So who publishes must not
//!   wait for that before it acknowledges; a monitor publishes at QoS 0.
//! - Keep-alive goes on while the consumer of events is slow. Deliveries wait in a queue of
//!   `event_queue_messages_max` messages and `event_queue_bytes_max` bytes; at the limit a QoS 0 message is
//!   dropped, counted and logged, and at a QoS 1 message reading stops until half of it is taken: the rest waits at
//!   the broker. That limit lies far above the window of messages that brokers leave
//!   unacknowledged (rumqttd 100, mosquitto 20), so it takes a broker with a larger one to reach it.
//!   If such a broker then loses its patience, we reconnect, and it sends them again.
//! - A message of any size that MQTT allows (256 MiB) is taken and given to the consumer. A smaller
//!   limit here would end in a loop: the connection breaks, and the broker sends it again.
//!
//! What does not hold: a message that was handed over may be lost when the broker forgets our
//! session (rumqttc then forgets what it had sent, too). Readings are safe from that in the
//! publisher's outbox until the monitor has confirmed them.

mod config;
mod content_hash;
mod link;
mod outage;
mod overlap;
mod pending_acks;
mod queue;
mod replaceable;
mod tls;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rumqttc::{AsyncClient, LastWill, MqttOptions, QoS};
use tokio::sync::{Notify, mpsc, oneshot, watch};

pub use config::{ConnectionOptions, MqttConfig, MqttConfigError, Will};
pub use overlap::Overlap;
pub use pending_acks::Unacknowledged;
pub use replaceable::ReplaceableTransport;

use config::Endpoint;
use heartwatch_ports::credentials::Login;
use heartwatch_ports::{BoxFuture, Outgoing, Receipt, Transport, TransportError, TransportEvent, TransportWaiting};
use heartwatch_system::clock::Clock;
use pending_acks::PendingAcks;

/// What MQTT itself allows, in bytes. See the module's documentation for why it is not less.
const INCOMING_BYTES_MAX: usize = 268_435_455;

/// Requests that rumqttc holds before it sends them; the queue that counts is ours.
const CLIENT_QUEUE_MESSAGES: usize = 64;

/// rumqttc sends no acknowledgement while its own window is full or a packet id is still taken, and
/// rumqttd confirms nothing to a client whose window is full of what it has not acknowledged: with messages
/// both ways they wait for each other for ever. So we keep the window, and rumqttc's is never full.
const PACKET_IDS_PER_MESSAGE: u16 = 4;

/// Events in the channel to the consumer; the queue that counts is before it.
const EVENT_CHANNEL_MESSAGES: usize = 128;

/// Longest topic that MQTT allows, in bytes.
const TOPIC_BYTES_MAX: usize = 65_535;

/// A connection to a broker. When the last handle is dropped without [`Transport::disconnect`],
/// the connection breaks off and the broker publishes the last will.
#[derive(Debug)]
pub struct MqttTransport {
    sends: mpsc::Sender<Outgoing>,
    stop: mpsc::Sender<oneshot::Sender<()>>,
    shared: Arc<TransportState>,
    send_queue_messages_max: usize,
    event_queue_messages_max: usize,
    message_bytes_max: usize,
    disconnect_timeout: Duration,
}

/// What the handle and the task that polls the connection share.
#[derive(Debug, Default)]
struct TransportState {
    receipts: Mutex<PendingAcks>,
    acknowledged: Notify,
    dropped: AtomicU64,
    /// Messages that the consumer has not taken, before its channel.
    to_take: AtomicU64,
    /// How often the broker closed the connection and took us back at once.
    taken_over: watch::Sender<u64>,
}

impl TransportState {
    fn receipts(&self) -> std::sync::MutexGuard<'_, PendingAcks> {
        self.receipts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the task that keeps the connection, on the current tokio runtime, and returns at once:
/// whether the broker is there is told by the events. `subscriptions` are filters, all at QoS 1.
///
/// # Errors
/// [`MqttConfigError`] when the configuration cannot work with any broker.
///
/// # Panics
/// Outside a tokio runtime.
pub fn connect(
    config: MqttConfig,
    subscriptions: Vec<String>,
    will: Option<Will>,
    clock: Clock,
) -> Result<(Arc<MqttTransport>, mpsc::Receiver<TransportEvent>), MqttConfigError> {
    let endpoint = config.check()?;
    for filter in &subscriptions {
        if !rumqttc::valid_filter(filter) || filter.len() > TOPIC_BYTES_MAX {
            return Err(MqttConfigError::Filter { filter: filter.clone() });
        }
    }
    let options = options(&config, &endpoint, will)?;
    let (client, mut eventloop) = AsyncClient::new(options, CLIENT_QUEUE_MESSAGES);
    let mut network = eventloop.network_options();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(config.connect_timeout.as_secs().max(1));
    eventloop.set_network_options(network);

    let (sends, sends_end) = mpsc::channel(config.send_queue_messages_max);
    let (stop, stop_end) = mpsc::channel(1);
    let (events, events_end) = mpsc::channel(EVENT_CHANNEL_MESSAGES);
    let shared = Arc::new(TransportState::default());
    let transport = MqttTransport {
        sends,
        stop,
        shared: Arc::clone(&shared),
        send_queue_messages_max: config.send_queue_messages_max,
        event_queue_messages_max: config.event_queue_messages_max,
        message_bytes_max: config.options.message_bytes_max,
        disconnect_timeout: config.disconnect_timeout,
    };
    let ends = link::Ends { client, sends: sends_end, stop: stop_end, events, shared };
    let link = link::Link::new(config, endpoint.display, subscriptions, ends, clock);
    tokio::spawn(link.run(eventloop));
    Ok((Arc::new(transport), events_end))
}

fn options(config: &MqttConfig, endpoint: &Endpoint, will: Option<Will>) -> Result<MqttOptions, MqttConfigError> {
    let mut options = MqttOptions::new(config.client_id.as_str(), endpoint.host.as_str(), endpoint.port);
    options
        .set_keep_alive(config.options.keep_alive)
        .set_clean_session(config.clean_session)
        .set_manual_acks(true)
        .set_inflight(config.inflight_messages_max.saturating_mul(PACKET_IDS_PER_MESSAGE).saturating_add(1))
        // rumqttc counts the whole packet: leave room for the topic and the header
        .set_max_packet_size(INCOMING_BYTES_MAX, config.options.message_bytes_max.saturating_add(TOPIC_BYTES_MAX + 16));
    if endpoint.tls {
        options.set_transport(rumqttc::Transport::tls_with_config(tls::client_config(&config.options.tls)?.into()));
    }
    if let Some(Login { user, password }) = &endpoint.login {
        options.set_credentials(user.as_str(), password.expose());
    }
    if let Some(will) = will {
        if !rumqttc::valid_topic(&will.topic) || will.topic.is_empty() {
            return Err(MqttConfigError::Filter { filter: will.topic });
        }
        options.set_last_will(LastWill::new(will.topic, will.payload, QoS::AtLeastOnce, false));
    }
    Ok(options)
}

impl MqttTransport {
    /// QoS 0 deliveries that were dropped because the consumer of the events was too slow.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// How often the broker closed the connection and took us back at once, as it does when another client comes with our
    /// client id (or when it was restarted in a moment). It ends with the transport.
    #[must_use]
    pub fn taken_over(&self) -> watch::Receiver<u64> {
        self.shared.taken_over.subscribe()
    }

    fn check(&self, message: &Outgoing) -> Result<(), TransportError> {
        let topic = &message.topic;
        let reason = if topic.is_empty() || topic.len() > TOPIC_BYTES_MAX {
            format!("a topic has 1 to {TOPIC_BYTES_MAX} bytes")
        } else if !rumqttc::valid_topic(topic) || topic.contains('\0') {
            "a topic has no '+', '#' or NUL".to_owned()
        } else if message.payload.len() > self.message_bytes_max {
            format!("it has {} bytes, the limit is {} bytes", message.payload.len(), self.message_bytes_max)
        } else {
            return Ok(());
        };
        Err(TransportError::Unsendable { topic: topic.chars().take(200).collect(), reason })
    }
}

impl Transport for MqttTransport {
    fn payload_bytes_max(&self) -> usize {
        self.message_bytes_max
    }

    fn waiting(&self) -> Option<TransportWaiting> {
        Some(TransportWaiting {
            to_send: self.send_queue_messages_max.saturating_sub(self.sends.capacity()) as u64,
            to_send_max: self.send_queue_messages_max as u64,
            to_take: self.shared.to_take.load(Ordering::Relaxed),
            to_take_max: self.event_queue_messages_max as u64,
        })
    }

    fn publish(&self, message: Outgoing) -> BoxFuture<'_, Result<(), TransportError>> {
        Box::pin(async move {
            self.check(&message)?;
            self.sends.send(message).await.map_err(|_| TransportError::Closed)
        })
    }

    fn try_publish(&self, message: Outgoing) -> Result<(), TransportError> {
        self.check(&message)?;
        self.sends.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => TransportError::Full { messages_max: self.send_queue_messages_max },
            mpsc::error::TrySendError::Closed(_) => TransportError::Closed,
        })
    }

    fn acknowledge(&self, receipts: Vec<Receipt>) {
        self.shared.receipts().acknowledge(&receipts);
        self.shared.acknowledged.notify_one();
    }

    fn disconnect(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let (done, ended) = oneshot::channel();
            if self.stop.send(done).await.is_ok() {
                // the task keeps the timeout itself; this one is for a runtime that no longer runs it
                let _ = tokio::time::timeout(self.disconnect_timeout * 2, ended).await;
            }
        })
    }
}
