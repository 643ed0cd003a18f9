//! Readings for a server that knows only `MonitorStream`: one `MonitoringData` for each numeric field.
//!
//! The stream confirms nothing, so what it has taken counts as confirmed: that is weaker than Relay, and all
//! that this protocol can do.

use std::collections::{HashMap, VecDeque};

use crate::wire::monitoring::{Envelope, MonitoringData};
use heartwatch_domain::intake::{DeliveryState, GAPS_REPORTED_MAX};
use heartwatch_domain::publisher::{Incarnation, PublisherId};
use heartwatch_domain::reading::Sequence;
use heartwatch_domain::sequence::SequenceTracker;
use heartwatch_formats::envelope::{self, Confirmation, Message, TopicKind, encode_confirm};
use heartwatch_formats::monitoring_data::{Part, has_number, parts};

/// Lives whose numbers are remembered; beyond it all are forgotten, and their readings sent again.
const LIVES_MAX: usize = 10_000;

/// Readings on their way to the stream, and what it has taken.
pub(super) struct Plain {
    /// Under which name the server knows this agent: its own id, also for what other publishers here say.
    client_id: PublisherId,
    waiting: VecDeque<(MonitoringData, Option<LastPart>)>,
    taken: HashMap<(PublisherId, Incarnation), SequenceTracker>,
    /// The life that each publisher's heartbeats are of.
    living: HashMap<PublisherId, Incarnation>,
    to_confirm: Vec<(PublisherId, Incarnation)>,
    said: bool,
}

/// The reading whose last part was taken.
struct LastPart {
    publisher: PublisherId,
    incarnation: Incarnation,
    sequence: Sequence,
    /// Whether the message that it came in ends with it.
    last: bool,
}

impl Plain {
    pub(super) fn new(client_id: PublisherId) -> Self {
        Self {
            client_id,
            waiting: VecDeque::new(),
            taken: HashMap::new(),
            living: HashMap::new(),
            to_confirm: Vec::new(),
            said: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The stream is over: what it has not taken is sent again by its publisher.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Takes apart what a publisher says.
    pub(super) fn take(&mut self, message: &Envelope) {
        let Ok(publisher) = PublisherId::parse(&message.publisher) else { return };
        let said = TopicKind::FROM_PUBLISHERS.into_iter().find(|kind| kind.as_str() == message.kind);
        let Some(kind) = said else { return };
        match envelope::decode(kind, &publisher, &message.payload) {
            Ok(Message::Readings(batch)) => {
                let readings = batch.readings.len();
                for (number, _) in &batch.refused {
                    let _ = self.tracker(&publisher, batch.incarnation).mark_lost(*number, *number, "");
                }
                for (index, reading) in batch.readings.iter().enumerate() {
                    let data = |part: Part<'_>| MonitoringData {
                        timestamp: reading.time.as_nanos().div_euclid(1_000_000_000),
                        hostname: batch.host.as_str().to_owned(),
                        metric: part.metric.into_owned(),
                        value: part.value,
                        client_id: self.client_id.as_str().to_owned(),
                    };
                    let mut parts: Vec<_> = parts(reading.measurement.as_ref(), &reading.fields).map(data).collect();
                    // A text has no place in this protocol, and a made-up 0 is worse than nothing.
                    if !has_number(&reading.fields) {
                        parts.clear();
                        if !std::mem::replace(&mut self.said, true) {
                            tracing::warn!(
                                metric = &*reading.measurement,
                                "this server takes only numbers: readings of texts are left out"
                            );
                        }
                    }
                    let taken = LastPart {
                        publisher: publisher.clone(),
                        incarnation: batch.incarnation,
                        sequence: reading.sequence,
                        last: index + 1 == readings,
                    };
                    let Some(last) = parts.pop() else {
                        self.note(taken);
                        continue;
                    };
                    self.waiting.extend(parts.into_iter().map(|part| (part, None)));
                    self.waiting.push_back((last, Some(taken)));
                }
            }
            Ok(Message::Heartbeat(note)) => {
                let life = note.heartbeat.incarnation;
                self.living.insert(publisher.clone(), life);
                let tracker = self.tracker(&publisher, life);
                // It knows these to be confirmed, by whom ever: nobody asks for them.
                let _ = tracker.mark_lost(1, note.confirmed, "");
                if tracker.through() > note.confirmed {
                    self.to_confirm.push((publisher, life));
                }
            }
            Ok(Message::GivenUp(given_up)) => {
                let _ = self.tracker(&publisher, given_up.incarnation).mark_lost(given_up.first, given_up.last, "");
                self.to_confirm.push((publisher, given_up.incarnation));
            }
            Ok(Message::Goodbye(_) | Message::LastWill(_)) => {}
            Err(error) => tracing::warn!(%error, "not sent"),
        }
    }

    /// The next part for the stream, which has room for it.
    pub(super) fn next(&mut self) -> Option<MonitoringData> {
        let (data, taken) = self.waiting.pop_front()?;
        if let Some(taken) = taken {
            self.note(taken);
        }
        Some(data)
    }

    fn note(&mut self, LastPart { publisher, incarnation, sequence, last }: LastPart) {
        let earlier_life = self.living.get(&publisher).is_some_and(|living| incarnation < *living);
        let known = self.taken.contains_key(&(publisher.clone(), incarnation));
        let tracker = self.tracker(&publisher, incarnation);
        if earlier_life && !known {
            // What an earlier life left is sent lowest first: what is below was confirmed to that life.
            let _ = tracker.mark_lost(1, sequence.saturating_sub(1), "");
        }
        tracker.accept(sequence);
        if last {
            self.to_confirm.push((publisher, incarnation));
        }
    }

    fn tracker(&mut self, publisher: &PublisherId, incarnation: Incarnation) -> &mut SequenceTracker {
        if self.taken.len() >= LIVES_MAX {
            self.taken.clear();
        }
        self.taken.entry((publisher.clone(), incarnation)).or_default()
    }

    /// What to confirm to whom, as payloads.
    pub(super) fn confirmations(&mut self) -> Vec<(PublisherId, Vec<u8>)> {
        let mut payloads = Vec::new();
        for (publisher, incarnation) in std::mem::take(&mut self.to_confirm) {
            let Some(tracker) = self.taken.get(&(publisher.clone(), incarnation)) else { continue };
            let report = tracker.report(GAPS_REPORTED_MAX);
            let state = DeliveryState {
                publisher: publisher.clone(),
                incarnation,
                through: report.through,
                highest: report.highest,
                gaps: report.gaps,
                produced: report.highest,
                refused: 0,
                // it confirms nothing: what was handed over is in nobody's journal that we know
                journal: None,
            };
            payloads.push((publisher, encode_confirm(&Confirmation { state, deadline: None })));
        }
        payloads
    }
}
