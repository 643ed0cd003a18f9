//! The task that polls the connection. Nothing in it waits except for several things at once.

mod client_state;
mod incoming;
mod marks;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use rumqttc::{AsyncClient, ClientError, ConnectionError, Event, EventLoop, Packet, PubAck, Publish, QoS, Request};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use self::client_state::ClientState as _;
use self::marks::{Arrivals, Marks};
use super::TransportState;
use super::config::MqttConfig;
use super::outage::{Kind, Outage, STABLE_AFTER, describe};
use super::queue::EventQueue;
use crate::mqtt::content_hash::content_hash;
use heartwatch_domain::marks::SourceMark;
use heartwatch_domain::time::Monotonic;
use heartwatch_ports::{Outgoing, TransportEvent};
use heartwatch_system::clock::Clock;

/// After our DISCONNECT the broker gets this long to read it and close the connection.
const CLOSING_MAX: Duration = Duration::from_millis(500);

/// The ends of the channels that the task holds.
pub(super) struct Ends {
    pub client: AsyncClient,
    pub sends: mpsc::Receiver<Outgoing>,
    pub stop: mpsc::Receiver<oneshot::Sender<()>>,
    pub events: mpsc::Sender<TransportEvent>,
    pub shared: Arc<TransportState>,
}

/// How far the connection is.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// There is none.
    Down,
    /// The broker took us; its SUBACK is due by then, unless something else comes before.
    Subscribing { session_present: bool, due: Instant },
    /// It works, since then.
    Up { since: Monotonic },
}

/// How far an end in order is.
enum Stopping {
    /// It goes on.
    No,
    /// What is queued still goes out, until then.
    Flushing { until: Instant, done: oneshot::Sender<()> },
    /// DISCONNECT is on its way; the broker closes, or we do then.
    Closing { until: Instant, done: oneshot::Sender<()> },
}

/// What ended a wait.
enum Woken {
    Polled(Result<Event, ConnectionError>),
    /// Acknowledgements are due, and no poll is under way.
    Acknowledged,
    /// Nothing is read, and the broker has not heard of us for long.
    PingDue,
    /// No SUBACK came.
    Unsubscribed,
    /// The owner wants an end in order, or has gone.
    Stop(Option<oneshot::Sender<()>>),
    /// The time for the end in order is over.
    TimeIsUp,
}

/// Connections in a row that end without a message confirmed, before those that wait for it are dropped.
const FRUITLESS_MAX: u32 = 2;

pub(super) struct Link {
    config: MqttConfig,
    /// The broker's address, for logs.
    broker: String,
    filters: Vec<String>,
    client: AsyncClient,
    sends: mpsc::Receiver<Outgoing>,
    stop: mpsc::Receiver<oneshot::Sender<()>>,
    shared: Arc<TransportState>,
    clock: Clock,
    connection_epoch: u64,
    phase: Phase,
    stopping: Stopping,
    outage: Outage,
    /// Whether the latest failure was that a connection broke off which the broker had accepted.
    broke_off: bool,
    backoff: ExponentialBackoff,
    queue: EventQueue,
    /// QoS 0 messages dropped since the queue was last empty.
    dropped_now: u64,
    /// Whether reading stopped because the queue is full.
    paused: bool,
    /// Until then the broker has heard of us, where reading stopped: rumqttc, which does not run meanwhile, sends no pings.
    ping_due: Option<Instant>,
    /// That it did was said, and the queue has not been empty since.
    said_paused: bool,
    /// Taken from the queue while there was no room.
    held: Option<Outgoing>,
    /// QoS 1 messages that rumqttc has and the broker has not confirmed.
    unconfirmed: usize,
    /// Whether the broker has confirmed a message over this connection.
    confirms: bool,
    /// Connections in a row that ended with messages of ours unconfirmed and none confirmed.
    fruitless: u32,
    /// An acknowledgement is in rumqttc's own queue: no other may overtake it.
    acknowledging: bool,
    /// What comes is left to gather until then.
    rests_until: Option<Instant>,
    marks: Marks,
    arrivals: Arrivals,
}

impl Link {
    pub(super) fn new(config: MqttConfig, broker: String, filters: Vec<String>, ends: Ends, clock: Clock) -> Self {
        let backoff = backoff(&config);
        let marks = Marks::new(&broker, &config.client_id);
        let Ends { client, sends, stop, events, shared } = ends;
        shared.receipts().follow(config.unacknowledged.take(marks.session()));
        let queue = EventQueue::new(events, config.event_queue_messages_max, config.event_queue_bytes_max);
        Self {
            config,
            broker,
            filters,
            client,
            sends,
            stop,
            shared,
            clock,
            connection_epoch: 0,
            phase: Phase::Down,
            stopping: Stopping::No,
            outage: Outage::default(),
            broke_off: false,
            backoff,
            queue,
            dropped_now: 0,
            paused: false,
            ping_due: None,
            said_paused: false,
            held: None,
            unconfirmed: 0,
            confirms: false,
            fruitless: 0,
            acknowledging: false,
            rests_until: None,
            marks,
            arrivals: Arrivals::default(),
        }
    }

    /// Runs until the owner disconnects or drops its handle.
    pub(super) async fn run(mut self, mut eventloop: EventLoop) {
        loop {
            let woken = match self.acknowledge(&mut eventloop).await {
                Ok(()) => self.wait(&mut eventloop).await,
                Err(error) => Woken::Polled(Err(error)),
            };
            let failure = match woken {
                Woken::Polled(Ok(event)) => self.read(&mut eventloop, event).await,
                Woken::Acknowledged => None,
                Woken::PingDue => self.ping(&mut eventloop).await.err().map(|error| describe(&error)),
                Woken::Polled(Err(_)) if matches!(self.stopping, Stopping::Closing { .. }) => break,
                Woken::Polled(Err(error)) => Some(describe(&error)),
                Woken::Unsubscribed => Some((Kind::Refused, "it does not answer our subscription".to_owned())),
                Woken::Stop(done) => {
                    if self.end(done) {
                        break;
                    }
                    None
                }
                Woken::TimeIsUp => break,
            };
            if let Some((kind, reason)) = failure {
                if matches!(self.stopping, Stopping::Closing { .. }) {
                    break;
                }
                eventloop.clean();
                self.down(&mut eventloop, kind, &reason);
                if self.back_off().await.is_break() {
                    break;
                }
            }
        }
        let dropped = self.queue.left().filter(|delivery| delivery.mark != Some(SourceMark::HandedOn));
        let dropped = dropped.map(|delivery| content_hash(delivery.topic.as_bytes(), &delivery.payload));
        self.shared.receipts().leave(self.marks.session(), &self.config.unacknowledged, dropped);
        if let Stopping::Flushing { done, .. } | Stopping::Closing { done, .. } = self.stopping {
            let _ = done.send(());
        }
    }

    /// Sends all acknowledgements that are due in one piece; rumqttc would send each one alone.
    async fn acknowledge(&mut self, eventloop: &mut EventLoop) -> Result<(), ConnectionError> {
        if self.acknowledging || !self.may_acknowledge() {
            return Ok(());
        }
        if !eventloop.is_connected() {
            return Ok(());
        }
        let mut due = Vec::new();
        {
            let mut receipts = self.shared.receipts();
            while let Some(packet_id) = receipts.next() {
                due.push(packet_id);
                receipts.sent();
            }
        }
        self.send_at_once(eventloop, due.into_iter().map(|packet_id| Packet::PubAck(PubAck::new(packet_id)))).await
    }

    /// Tells the broker that we are there.
    async fn ping(&mut self, eventloop: &mut EventLoop) -> Result<(), ConnectionError> {
        self.ping_due = Some(self.later(self.config.options.keep_alive / 2));
        self.send_at_once(eventloop, [Packet::PingReq]).await
    }

    fn may_acknowledge(&self) -> bool {
        !matches!(self.phase, Phase::Down) && !matches!(self.stopping, Stopping::Closing { .. })
    }

    /// Polls the connection, and meanwhile hands over what can be handed over.
    async fn wait(&mut self, eventloop: &mut EventLoop) -> Woken {
        // once begun, a poll goes on until it is done: rumqttc may lose a packet when it is cut off
        let mut poll = std::pin::pin!(eventloop.poll());
        loop {
            self.pump();
            let subscribe_due = self.subscribe_due();
            let stop_due = self.stop_due();
            let takes_sends = self.takes_sends() && self.held.is_none();
            tokio::select! {
                biased;
                stop = self.stop.recv(), if matches!(self.stopping, Stopping::No) => return Woken::Stop(stop),
                () = sleep_until(stop_due) => return Woken::TimeIsUp,
                polled = &mut poll, if !self.paused && self.rests_until.is_none() => return Woken::Polled(polled),
                () = sleep_until(self.rests_until) => self.rests_until = None,
                () = sleep_until(subscribe_due), if !self.paused => return Woken::Unsubscribed,
                // a poll that stands here was never begun: reading does not stop while one is under way
                () = sleep_until(self.ping_due), if self.paused && self.may_acknowledge() => return Woken::PingDue,
                () = self.shared.acknowledged.notified() => {
                    if self.rests_until.is_some() {
                        return Woken::Acknowledged;
                    }
                }
                () = self.queue.room() => {}
                message = self.sends.recv(), if takes_sends => match message {
                    Some(message) => self.held = Some(message),
                    None => return Woken::Stop(None),
                },
            }
        }
    }

    fn subscribe_due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Subscribing { due, .. } => Some(due),
            Phase::Down | Phase::Up { .. } => None,
        }
    }

    fn stop_due(&self) -> Option<Instant> {
        match self.stopping {
            Stopping::Flushing { until, .. } | Stopping::Closing { until, .. } => Some(until),
            Stopping::No => None,
        }
    }

    fn takes_sends(&self) -> bool {
        matches!(self.phase, Phase::Up { .. }) && !matches!(self.stopping, Stopping::Closing { .. })
    }

    /// Hands over, without waiting, as much as there is room for: acknowledgements and messages to
    /// rumqttc, events to the consumer.
    fn pump(&mut self) {
        if self.may_acknowledge() && !self.acknowledging && self.rests_until.is_none() {
            // this one ends the poll that is under way, and with it go the others
            let mut receipts = self.shared.receipts();
            if let Some(packet_id) = receipts.next() {
                let mut acknowledged = Publish::new("", QoS::AtLeastOnce, Vec::new());
                acknowledged.pkid = packet_id;
                if self.client.try_ack(&acknowledged).is_ok() {
                    receipts.sent();
                    self.acknowledging = true;
                }
            }
        }
        if self.takes_sends() {
            while let Some(message) = self.held.take().or_else(|| self.sends.try_recv().ok()) {
                let counted = usize::from(message.at_least_once);
                self.held = if self.unconfirmed + counted > usize::from(self.config.inflight_messages_max) {
                    Some(message)
                } else {
                    self.send(message)
                };
                if self.held.is_some() {
                    break;
                }
                self.unconfirmed += counted;
            }
            self.say_goodbye();
        }
        self.queue.pump();
        self.shared.to_take.store(self.queue.messages() as u64, Ordering::Relaxed);
        if self.paused && !self.queue.is_half_full() {
            self.paused = false;
        }
        if self.said_paused && self.queue.is_empty() {
            self.said_paused = false;
            tracing::info!(broker = %self.broker, "what came from the MQTT broker is taken");
        }
        if self.dropped_now > 0 && self.queue.is_empty() {
            let dropped = std::mem::take(&mut self.dropped_now);
            tracing::warn!(broker = %self.broker, dropped, "QoS 0 messages were dropped: they came faster than they were taken");
        }
    }

    /// Gives a message to rumqttc, or gives it back when there is no room.
    fn send(&self, message: Outgoing) -> Option<Outgoing> {
        let Outgoing { topic, payload, at_least_once } = message;
        let qos = if at_least_once { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        match self.client.try_publish(topic, qos, false, payload) {
            Err(ClientError::TryRequest(Request::Publish(back)) | ClientError::Request(Request::Publish(back))) => {
                Some(Outgoing { topic: back.topic, payload: back.payload.into(), at_least_once })
            }
            _ => None,
        }
    }

    /// When everything queued was handed over, acknowledgements too: DISCONNECT, behind it in the same queue.
    fn say_goodbye(&mut self) {
        if !matches!(self.stopping, Stopping::Flushing { .. }) || self.held.is_some() || !self.sends.is_empty() {
            return;
        }
        let acknowledgements_wait = self.shared.receipts().next().is_some();
        if acknowledgements_wait {
            return;
        }
        if self.client.try_disconnect().is_err() {
            return;
        }
        if let Stopping::Flushing { until, done } = std::mem::replace(&mut self.stopping, Stopping::No) {
            self.stopping = Stopping::Closing { until, done };
        }
    }

    /// An end is wanted. Returns whether it is at once.
    fn end(&mut self, done: Option<oneshot::Sender<()>>) -> bool {
        let Some(done) = done else {
            return true;
        };
        let until = self.later(self.config.disconnect_timeout);
        self.stopping = Stopping::Flushing { until, done };
        matches!(self.phase, Phase::Down) && self.held.is_none() && self.sends.is_empty()
    }

    fn up(&mut self, session_present: bool) {
        let now = self.clock.monotonic();
        self.phase = Phase::Up { since: now };
        self.outage.ended(&self.broker, now);
        let connected = TransportEvent::Connected { connection_epoch: self.connection_epoch, session_present };
        self.queue.release(Some(connected));
    }

    /// The connection is gone, or could not be made.
    fn down(&mut self, eventloop: &mut EventLoop, kind: Kind, reason: &str) {
        // rumqttc keeps what it had read: given out later, it would look like the next connection's
        let came = (self.clock.monotonic(), self.clock.wall());
        while let Some(event) = eventloop.next_event() {
            if let Event::Incoming(Packet::Publish(publish)) = event {
                self.delivery(publish, came);
            }
        }
        self.queue.release(None);
        self.shared.receipts().end();
        self.acknowledging = false;
        self.rests_until = None;
        let per_connection = |request: &Request| {
            matches!(request, Request::Subscribe(_) | Request::Unsubscribe(_) | Request::Disconnect(_))
        };
        eventloop.requests().retain(|request| !per_connection(request));
        // rumqttc would wait for this acknowledgement for ever, and send nothing, when the broker has no session
        if let Some(mut publish) = eventloop.take_blocked() {
            publish.pkid = 0;
            eventloop.requests().push_back(Request::Publish(publish));
        }
        self.drop_what_ends_connections(eventloop);
        let now = self.clock.monotonic();
        if let Phase::Up { since } = self.phase
            && now.since(since) >= STABLE_AFTER
        {
            self.backoff = backoff(&self.config);
        }
        self.broke_off = kind == Kind::Network && !matches!(self.phase, Phase::Down);
        self.phase = Phase::Down;
        if self.outage.failed(&self.broker, kind, reason, now) {
            let at = self.clock.wall();
            self.queue.push(TransportEvent::Disconnected { reason: reason.to_owned(), at });
        }
    }

    /// rumqttc sends over each connection what the one before left unconfirmed. A message that the broker ends the
    /// connection for would be sent so for ever: whoever published it says again, as it sees fit, what is not confirmed.
    fn drop_what_ends_connections(&mut self, eventloop: &mut EventLoop) {
        let is_message = |request: &Request| matches!(request, Request::Publish(_));
        if matches!(self.phase, Phase::Down) {
            return;
        }
        let waits = eventloop.requests().iter().any(is_message);
        self.fruitless = if waits && !self.confirms { self.fruitless + 1 } else { 0 };
        if self.fruitless >= FRUITLESS_MAX {
            self.fruitless = 0;
            eventloop.requests().retain(|request| !is_message(request));
            tracing::warn!(
                broker = self.broker,
                "connections end before the broker has confirmed a message: what was sent is not repeated as it was"
            );
        }
    }

    /// Waits before the next attempt, or breaks when it is the end.
    async fn back_off(&mut self) -> ControlFlow<()> {
        let wait = self.backoff.next().unwrap_or(self.config.options.backoff_max);
        let until = self.later(wait);
        loop {
            self.pump();
            let stop_due = self.stop_due();
            tokio::select! {
                biased;
                stop = self.stop.recv(), if matches!(self.stopping, Stopping::No) => {
                    if self.end(stop) {
                        return ControlFlow::Break(());
                    }
                }
                () = sleep_until(stop_due) => return ControlFlow::Break(()),
                () = sleep_until(Some(until)), if !self.paused => return ControlFlow::Continue(()),
                () = self.queue.room() => {}
            }
        }
    }

    fn later(&self, after: Duration) -> Instant {
        self.clock.instant(self.clock.monotonic() + after)
    }
}

fn backoff(config: &MqttConfig) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(config.options.backoff_min)
        .with_max_delay(config.options.backoff_max)
        .with_jitter()
        .without_max_times()
        .build()
}

/// Waits until then, or for ever.
async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
