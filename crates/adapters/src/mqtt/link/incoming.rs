//! What comes over the connection: it is read, and put into the queue for the consumer.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rumqttc::{
    ConnectionError, Event, EventLoop, Packet, Publish, QoS, Request, SubAck, Subscribe, SubscribeFilter,
    SubscribeReasonCode, Unsubscribe,
};

use super::client_state::ClientState as _;
use super::{CLOSING_MAX, Link, Phase, Stopping};
use crate::mqtt::content_hash::content_hash;
use crate::mqtt::outage::{Kind, describe};
use heartwatch_domain::beat::Way;
use heartwatch_domain::marks::SourceMark;
use heartwatch_domain::time::{Monotonic, Timestamp};
use heartwatch_ports::Delivery;
use heartwatch_ports::{Receipt, TransportEvent};

/// Packets that are read in one turn beyond what rumqttc reads: acknowledgements and what we send wait meanwhile.
const READ_ON_PACKETS_MAX: usize = 512;

/// With so many messages that the broker waits for, what comes is left to gather for a moment: a broker that writes each
/// message alone would wake us for each. More than rumqttd (100) and mosquitto (20) send without an acknowledgement.
const REST_FROM_MESSAGES: usize = 128;
/// For so long.
const REST: Duration = Duration::from_millis(2);

impl Link {
    /// Takes all that has come, without waiting for more. Returns why the connection is of no use, where it is not.
    pub(super) async fn read(&mut self, eventloop: &mut EventLoop, first: Event) -> Option<(Kind, String)> {
        let came = (self.clock.monotonic(), self.clock.wall());
        if let Phase::Subscribing { session_present, .. } = self.phase {
            // what waits for us at the broker comes first, however long that takes
            self.phase = self.subscribing(session_present);
        }
        let mut heard = matches!(first, Event::Incoming(_));
        let mut failure = self.events(eventloop, Some(first), came);
        if failure.is_none() {
            failure = self.send_pending(eventloop).await.err().map(|error| describe(&error));
        }
        // rumqttc reads ten packets a turn, and copies each of them for its own events
        for _ in 0..READ_ON_PACKETS_MAX {
            if failure.is_some() || self.paused {
                break;
            }
            let read = eventloop.read_now();
            heard |= matches!(read, Some(Ok(_)));
            match read {
                None => break,
                // nothing for rumqttc to do: it is we who acknowledge
                Some(Ok(Packet::Publish(publish))) if publish.qos != QoS::ExactlyOnce => self.delivery(publish, came),
                Some(Ok(packet)) => match self.answer(eventloop, packet).await {
                    Ok(()) => failure = self.events(eventloop, None, came),
                    Err(error) => failure = Some(describe(&error)),
                },
                Some(Err(error)) => failure = Some(describe(&error)),
            }
        }
        if heard {
            eventloop.ping_is_answered();
        }
        if self.shared.receipts().waiting() >= REST_FROM_MESSAGES {
            self.rests_until = Some(self.later(REST));
        }
        failure
    }

    /// Takes all that rumqttc has to tell. Returns why the connection is of no use, where it is not.
    fn events(
        &mut self,
        eventloop: &mut EventLoop,
        first: Option<Event>,
        came: (Monotonic, Timestamp),
    ) -> Option<(Kind, String)> {
        let mut next = first.or_else(|| eventloop.next_event());
        while let Some(event) = next {
            let failure = self.event(eventloop, event, came);
            if failure.is_some() {
                return failure;
            }
            // what else it has read; reading stops where the queue is full
            next = if self.paused { None } else { eventloop.next_event() };
        }
        None
    }

    /// Takes one thing that rumqttc tells. Returns why the connection is of no use, where it is not.
    fn event(
        &mut self,
        eventloop: &mut EventLoop,
        event: Event,
        came: (Monotonic, Timestamp),
    ) -> Option<(Kind, String)> {
        match event {
            Event::Incoming(Packet::ConnAck(connack)) => {
                self.connection_epoch += 1;
                self.confirms = false;
                let session_present = connack.session_present;
                self.shared.receipts().begin(self.connection_epoch, session_present);
                if !session_present {
                    self.marks.session_began(self.clock.wall());
                }
                if std::mem::take(&mut self.broke_off) {
                    self.shared.taken_over.send_modify(|times| *times += 1);
                }
                // what rumqttc still has of an earlier connection goes out again; nothing without a session
                let again =
                    |request: &&Request| matches!(request, Request::Publish(publish) if publish.qos != QoS::AtMostOnce);
                self.unconfirmed = eventloop.requests().iter().filter(again).count();
                if self.filters.is_empty() {
                    self.up(session_present);
                    return None;
                }
                self.queue.hold();
                let filters = self.filters.iter().map(|path| SubscribeFilter::new(path.clone(), QoS::AtLeastOnce));
                // first of all, and not through the queue, which may be full (see `send_pending`)
                eventloop.requests().push_front(Request::Subscribe(Subscribe::new_many(filters)));
                if !self.config.filters_over.is_empty() {
                    let topics = self.config.filters_over.clone();
                    eventloop.requests().push_front(Request::Unsubscribe(Unsubscribe { pkid: 0, topics }));
                }
                self.phase = self.subscribing(session_present);
            }
            Event::Incoming(Packet::SubAck(suback)) => return self.subscribed(&suback),
            Event::Incoming(Packet::Publish(publish)) => self.delivery(publish, came),
            Event::Incoming(Packet::PubAck(_)) => {
                self.unconfirmed = self.unconfirmed.saturating_sub(1);
                self.confirms = true;
            }
            Event::Outgoing(rumqttc::Outgoing::PubAck(_)) => self.acknowledging = false,
            Event::Outgoing(rumqttc::Outgoing::Disconnect) => {
                let until = self.later(CLOSING_MAX);
                if let Stopping::Closing { until: due, .. } = &mut self.stopping {
                    *due = (*due).min(until);
                }
            }
            _ => {}
        }
        None
    }

    fn subscribing(&self, session_present: bool) -> Phase {
        Phase::Subscribing { session_present, due: self.later(self.config.connect_timeout) }
    }

    /// Sends what a connection begins with: our subscriptions, and what the broker has not confirmed on the one before.
    /// rumqttc has that wait for a millisecond in which nothing comes, and everything else of ours wait behind it: where a
    /// backlog comes without a pause, neither a subscription nor an acknowledgement would ever be sent.
    async fn send_pending(&self, eventloop: &mut EventLoop) -> Result<(), ConnectionError> {
        let packets = eventloop.take_requests()?;
        self.send_at_once(eventloop, packets).await
    }

    fn subscribed(&mut self, suback: &SubAck) -> Option<(Kind, String)> {
        let Phase::Subscribing { session_present, .. } = self.phase else {
            return None;
        };
        let refused: Vec<&str> = (self.filters.iter().zip(&suback.return_codes))
            .filter(|(_, code)| matches!(code, SubscribeReasonCode::Failure))
            .map(|(filter, _)| filter.as_str())
            .collect();
        for filter in &refused {
            tracing::error!(broker = %self.broker, %filter, "the MQTT broker refuses our subscription: check its access rules");
        }
        if refused.len() == self.filters.len() {
            return Some((Kind::Refused, format!("the broker refuses our subscriptions to {}", refused.join(", "))));
        }
        self.up(session_present);
        None
    }

    pub(super) fn delivery(&mut self, publish: Publish, (at, wall): (Monotonic, Timestamp)) {
        let acknowledged = publish.qos != QoS::AtMostOnce;
        if !acknowledged && self.queue.is_full() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            if self.dropped_now == 0 {
                tracing::warn!(broker = %self.broker, messages = self.queue.messages(), "dropping QoS 0 messages: they come faster than they are taken");
            }
            self.dropped_now += 1;
            return;
        }
        let packet_id = if acknowledged { publish.pkid } else { 0 };
        let mark = self.mark(&publish);
        let wall = self.arrivals.distinct(wall);
        self.queue.push(TransportEvent::Delivery(Delivery {
            topic: publish.topic,
            payload: publish.payload.into(),
            retained: publish.retain,
            at,
            wall,
            way: Way::Mqtt,
            mark,
            receipt: Receipt { connection_epoch: self.connection_epoch, packet_id },
        }));
        if self.queue.is_full() {
            // the announcement is further behind than there is room for
            self.queue.release(None);
        }
        if self.queue.is_full() && acknowledged && !self.paused {
            self.paused = true;
            self.ping_due = Some(self.later(self.config.options.keep_alive / 2));
            if !std::mem::replace(&mut self.said_paused, true) {
                tracing::warn!(
                    broker = %self.broker, messages = self.queue.messages(), bytes = self.queue.bytes(),
                    "messages come faster than they are taken: the rest stays with the MQTT broker until there is room"
                );
            }
        }
    }

    /// How a message is known when it comes again.
    fn mark(&mut self, publish: &Publish) -> Option<SourceMark> {
        let Publish { qos, dup, retain, topic, payload, pkid, .. } = publish;
        let mut mark = None;
        if *qos != QoS::AtMostOnce {
            let content = content_hash(topic.as_bytes(), payload);
            self.config.overlap.note(content);
            mark = Some(SourceMark::Mqtt(self.marks.next(*pkid, *dup, content)));
            if self.shared.receipts().delivered(*pkid, content) {
                return Some(SourceMark::HandedOn);
            }
        }
        if *retain { Some(SourceMark::Retained) } else { mark }
    }

    /// Gives a packet to rumqttc, and sends what it answers.
    async fn answer(&self, eventloop: &mut EventLoop, packet: Packet) -> Result<(), ConnectionError> {
        let answer = eventloop.take(packet)?;
        self.send_at_once(eventloop, answer).await
    }

    /// Sends packets in one piece: one by one, each would be a system call for us and a wake-up of the broker.
    pub(super) async fn send_at_once(
        &self,
        eventloop: &mut EventLoop,
        packets: impl IntoIterator<Item = Packet>,
    ) -> Result<(), ConnectionError> {
        let send = eventloop.write(packets.into_iter().collect());
        tokio::time::timeout(self.config.connect_timeout, send).await.map_err(|_| ConnectionError::FlushTimeout)?
    }
}
