//! One stream: who it speaks for, and what its messages are as deliveries.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tonic::Status;

use super::agents::{Answers, Protocol};
use super::{AgentEvent, StreamState};
use crate::wire::monitoring as wire;
use heartwatch_domain::beat::Heartbeat;
use heartwatch_domain::beat::Way;
use heartwatch_domain::command::CommandResult;
use heartwatch_domain::deadline::PROMISES_MIN;
use heartwatch_domain::error_metric;
use heartwatch_domain::publisher::{HostName, Incarnation, PublisherId};
use heartwatch_domain::reading::{FieldValue, Reading, Sequence};
use heartwatch_domain::time::{Monotonic, Timestamp};
use heartwatch_formats::envelope::{self, HeartbeatNote, LastWill, Message, PAYLOAD_BYTES_MAX, TopicKind};
use heartwatch_formats::monitoring_data::{host_of, publisher_of};
use heartwatch_ports::Delivery;
use heartwatch_ports::{Receipt, TransportEvent};

/// What a stream has said of one publisher.
#[derive(Default)]
struct Speaker {
    /// Its host and life, as soon as they are known.
    life: Option<(HostName, Incarnation)>,
    goodbye: bool,
    /// The last number that we gave, where it has none of its own.
    numbered: Sequence,
    pace: Pace,
}

/// How often an existing agent sends what it sent first: it promises nothing, so that is learned.
#[derive(Default)]
struct Pace {
    metric: String,
    last: Option<Monotonic>,
    longest: Option<Duration>,
}

impl Pace {
    fn heard(&mut self, metric: &str, now: Monotonic) {
        if self.last.is_none() {
            metric.clone_into(&mut self.metric);
        } else if self.metric != metric {
            return;
        }
        let before = self.last.replace(now);
        self.longest = self.longest.max(before.map(|before| now.since(before)));
    }

    /// Whether it is right that nothing comes: by how it was, or because that is not known.
    fn is_idle(&self, now: Monotonic) -> bool {
        let (Some(last), Some(longest)) = (self.last, self.longest) else { return true };
        now.since(last) <= longest * PROMISES_MIN
    }
}

/// One stream, from its beginning to its end.
pub(super) struct Intake {
    shared: Arc<StreamState>,
    events: mpsc::Sender<TransportEvent>,
    answers: Answers,
    protocol: Protocol,
    stream: u64,
    incarnation: Incarnation,
    /// The names under which commands reach who is at the other end; the first is its own.
    client_ids: Vec<String>,
    speakers: HashMap<PublisherId, Speaker>,
}

impl Intake {
    /// None: there are too many streams, or the server ends.
    pub(super) fn begin(shared: Arc<StreamState>, answers: Answers, protocol: Protocol) -> Result<Self, Status> {
        let Some(events) = shared.events() else { return Err(Status::unavailable("the server is ending")) };
        let (stream, incarnation) = {
            let mut registry = shared.registry();
            let streams_max = shared.config.streams_max;
            if registry.streams >= streams_max {
                registry.refused += 1;
                if registry.refused.is_power_of_two() {
                    tracing::warn!(streams_max, refused = registry.refused, "too many agents: a stream was refused");
                }
                return Err(Status::resource_exhausted(format!("this server takes {streams_max} streams at most")));
            }
            registry.begin(shared.clock.wall())
        };
        let incarnation = Incarnation(incarnation);
        let (client_ids, speakers) = (Vec::new(), HashMap::new());
        Ok(Self { shared, events, answers, protocol, stream, incarnation, client_ids, speakers })
    }

    /// The other end says who it is.
    pub(super) async fn named(&mut self, client_id: &str) {
        if self.client_ids.iter().any(|known| known == client_id) {
            return;
        }
        let now = self.shared.clock.wall();
        self.shared.registry().join(self.stream, client_id, self.protocol, self.answers.clone(), now);
        self.client_ids.push(client_id.to_owned());
        let _ = self.shared.agent_events.send(AgentEvent::Joined { client_id: client_id.to_owned() }).await;
    }

    /// A message of Relay.
    pub(super) async fn relayed(&mut self, message: wire::FromAgent) -> Result<(), Status> {
        match message.message {
            Some(wire::from_agent::Message::Envelope(envelope)) => self.enveloped(envelope).await,
            Some(wire::from_agent::Message::Result(result)) => {
                let wire::CommandResponse { command_id: id, success, output, client_id, .. } = result;
                // The stream has a name, or it was asked nothing: whose name stands in the result decides nothing.
                let Some(client_id) = self.client_ids.first().cloned() else {
                    tracing::warn!(client_id, id, "a result came on a stream that has not said whose it is");
                    return Ok(());
                };
                let result = CommandResult { id, success, output };
                let event = AgentEvent::Result { client_id, result, known: None };
                let _ = self.shared.agent_events.send(event).await;
                Ok(())
            }
            None => Ok(()),
        }
    }

    async fn enveloped(&mut self, envelope: wire::Envelope) -> Result<(), Status> {
        let wire::Envelope { publisher: name, kind, payload } = envelope;
        let publisher = PublisherId::parse(&name).ok().filter(|_| payload.len() <= PAYLOAD_BYTES_MAX);
        let kind_known = TopicKind::FROM_PUBLISHERS
            .into_iter()
            .find(|known| known.as_str() == kind && *known != TopicKind::LastWill);
        let (Some(publisher), Some(kind)) = (publisher, kind_known) else {
            // The subscriber says what is wrong with it, counts it, and keeps it for a person.
            let excerpt = |text: &str| text.chars().take(200).collect::<String>();
            return self
                .deliver(format!("{}/v1/{}/{}", self.shared.config.prefix, excerpt(&name), excerpt(&kind)), payload)
                .await;
        };
        if self.client_ids.is_empty() {
            self.named(publisher.as_str()).await;
        }
        let publishers_max = self.shared.config.publishers_per_stream_max;
        if !self.speakers.contains_key(&publisher) && self.speakers.len() >= publishers_max {
            return Err(Status::resource_exhausted(format!(
                "one stream speaks for {publishers_max} publishers at most"
            )));
        }
        let speaker = self.speakers.entry(publisher.clone()).or_default();
        // Heartbeats are small and say it all; readings are looked into only as long as it is not known.
        if kind != TopicKind::Readings || speaker.life.is_none() {
            match envelope::decode(kind, &publisher, &payload) {
                Ok(Message::Readings(batch)) => speaker.life = Some((batch.host, batch.incarnation)),
                Ok(Message::Heartbeat(note)) => speaker.life = Some((note.host, note.heartbeat.incarnation)),
                Ok(Message::Goodbye(goodbye)) => {
                    speaker.life = Some((goodbye.host, goodbye.incarnation));
                    speaker.goodbye = true;
                }
                Ok(Message::GivenUp(_) | Message::LastWill(_)) | Err(_) => {}
            }
            if kind != TopicKind::Goodbye {
                speaker.goodbye = false;
            }
        }
        let host = speaker.life.as_ref().map(|(host, _)| host.clone());
        {
            let mut registry = self.shared.registry();
            registry.route(&publisher, self.stream, &self.answers);
            let now = self.shared.clock.wall();
            if let Some(own) = self.client_ids.first() {
                registry.heard(self.stream, own, host.as_ref().map(HostName::as_str), now);
            }
        }
        self.deliver(self.shared.config.prefix.topic(&publisher, kind), payload).await
    }

    /// A value of an existing agent.
    pub(super) async fn measured(&mut self, data: wire::MonitoringData) -> Result<(), Status> {
        let wire::MonitoringData { timestamp, hostname, metric, value, client_id } = data;
        let refuse = |reason: String| {
            let mut registry = self.shared.registry();
            registry.refused += 1;
            tracing::warn!(reason, "an agent was refused");
            Status::invalid_argument(reason)
        };
        let publisher = publisher_of(&client_id).map_err(|error| refuse(error.to_string()))?;
        let host = host_of(&hostname).map_err(|error| refuse(error.to_string()))?;
        let publishers_max = self.shared.config.publishers_per_stream_max;
        if !self.speakers.contains_key(&publisher) {
            if self.speakers.len() >= publishers_max {
                return Err(Status::resource_exhausted(format!(
                    "one stream speaks for {publishers_max} clients at most"
                )));
            }
            self.named(client_id.trim()).await;
            self.shared.registry().route(&publisher, self.stream, &self.answers);
        }
        self.shared.registry().heard(self.stream, client_id.trim(), Some(host.as_str()), self.shared.clock.wall());
        let now = self.shared.clock.monotonic();
        let speaker = self.speakers.entry(publisher.clone()).or_default();
        speaker.life = Some((host.clone(), self.incarnation));
        let reading = Reading {
            sequence: speaker.numbered + 1,
            time: timestamp.checked_mul(1_000_000_000).map_or_else(|| self.shared.clock.wall(), Timestamp::from_nanos),
            measurement: metric,
            tags: Vec::new(),
            fields: vec![("value".to_owned(), FieldValue::Float(value))],
        };
        let encode =
            || envelope::encode_readings(&host, self.incarnation, std::slice::from_ref(&reading), PAYLOAD_BYTES_MAX);
        let allowed = error_metric::reserved(&reading.measurement).map_or(Ok(()), Err);
        let payloads = allowed.and_then(|()| encode().map_err(|problem| problem.to_string()));
        match payloads {
            Ok(payloads) => {
                speaker.numbered = reading.sequence;
                speaker.pace.heard(&reading.measurement, now);
                let topic = self.shared.config.prefix.topic(&publisher, TopicKind::Readings);
                for payload in payloads {
                    self.deliver(topic.clone(), payload).await?;
                }
                Ok(())
            }
            Err(error) => {
                // It gets no number, so nobody waits for it; counted and kept like any message that cannot be read.
                let topic = self.shared.config.prefix.topic(&publisher, TopicKind::Readings);
                let said = format!("metric {:?}, value {value}: {error}", reading.measurement);
                self.deliver(topic, said.into_bytes()).await
            }
        }
    }

    /// How often [`Intake::is_open`] is to be said.
    pub(super) fn open_stream_every(&self) -> Duration {
        self.shared.config.open_stream_every
    }

    /// The stream of an existing agent is open: it answers our tests of the connection. That is its heartbeat, since it has no
    /// other. What it should have sent by now, as far as that is known, is not there to be read.
    pub(super) async fn is_open(&self) -> Result<(), Status> {
        let (now, interval) = (self.shared.clock.monotonic(), self.open_stream_every());
        for (publisher, speaker) in &self.speakers {
            let Some((host, incarnation)) = &speaker.life else { continue };
            if !self.shared.registry().is_routed(publisher, self.stream) {
                // a later stream speaks for it
                continue;
            }
            let (sequence, idle) = (speaker.numbered, speaker.pace.is_idle(now));
            let heartbeat = Heartbeat { sequence, cursor: sequence, idle, ..Heartbeat::idle(*incarnation, interval) };
            let note = HeartbeatNote { confirmed: sequence, ..HeartbeatNote::new(host.clone(), heartbeat) };
            let topic = self.shared.config.prefix.topic(publisher, TopicKind::Heartbeat);
            self.deliver(topic, envelope::encode_heartbeat(&note)).await?;
        }
        Ok(())
    }

    async fn deliver(&self, topic: String, payload: Vec<u8>) -> Result<(), Status> {
        let delivery = Delivery {
            topic,
            payload,
            retained: false,
            at: self.shared.clock.monotonic(),
            wall: self.shared.clock.wall(),
            way: Way::default(),
            mark: None,
            receipt: Receipt { connection_epoch: 1, packet_id: 0 },
        };
        let sent = self.events.send(TransportEvent::Delivery(delivery)).await;
        sent.map_err(|_| Status::unavailable("the server is ending"))
    }

    /// The stream is over: whoever has not said goodbye gets a last will, unless we end it ourselves.
    pub(super) async fn end(self, by_us: bool) {
        let publishers: Vec<PublisherId> = self.speakers.keys().cloned().collect();
        let orphans = self.shared.registry().end(self.stream, &self.client_ids, &publishers);
        if by_us {
            return;
        }
        for publisher in orphans {
            let Some(Speaker { life: Some((host, incarnation)), goodbye: false, .. }) = self.speakers.get(&publisher)
            else {
                continue;
            };
            let will = LastWill { host: host.clone(), incarnation: *incarnation };
            let topic = self.shared.config.prefix.topic(&publisher, TopicKind::LastWill);
            let _ = self.deliver(topic, envelope::encode_last_will(&will)).await;
        }
    }
}
