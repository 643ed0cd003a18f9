//! The subscriber: what comes over MQTT is read once, handed to the watchdog as signs of life and to
//! the writer as rows, and confirmed to its publisher when it is safe on disk.
//!
//! Its reply to a batch means that the batch may be acknowledged to the broker.

mod confirmations;
mod pump;
mod recent;
mod translate;

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::{ActorFutureExt, WrapFuture};
use actix::{Actor, AsyncContext, Context, Handler, Message, MessageResult, ResponseActFuture};

pub use self::confirmations::Confirmations;
pub use self::pump::pump;
use self::recent::Recent;
pub use self::translate::{Rules, Unreadable, translate};
use crate::messages::ask::AskSubscriber;
use crate::messages::beats::Beats;
use crate::messages::deliveries::{Deliveries, ReportBad};
use crate::messages::intake::Intake;
use crate::messages::page::{AskRecent, RecentValues};
use crate::runtime::outlet::Outlet;
use heartwatch_domain::beat::{Beat, BeatKind};
use heartwatch_domain::deadline::{BEATS_PER_DEADLINE, DeadlineRules};
use heartwatch_domain::intake::{AppendReceipt, IntakeEntry};
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::status::{BadMessage, SubscriberStatus};
use heartwatch_domain::time::Monotonic;
use heartwatch_formats::envelope::{Confirmation, Prefix, TopicError, TopicKind, encode_confirm};
use heartwatch_formats::foreign::{Foreign, TopicPattern};
use heartwatch_ports::Delivery;
use heartwatch_ports::{Outgoing, ReceivedRows, Transport};
use heartwatch_system::clock::Clock;
use heartwatch_system::poll_once::poll_once;

/// Bad messages kept for a person to look at.
const BAD_MESSAGES_KEPT_MAX: usize = 20;
/// Of these, those of one topic.
const BAD_MESSAGES_PER_TOPIC_MAX: usize = 5;
/// Topic patterns of earlier configurations that are remembered, the latest ones.
const TOPICS_OVER_MAX: usize = 200;
/// Characters of a bad message that are kept.
const EXCERPT_CHARS_MAX: usize = 200;
/// How often confirmations that had to wait are looked at.
const CONFIRM_TICK: Duration = Duration::from_millis(100);

/// Whom the subscriber talks to.
#[derive(Clone)]
pub struct Outlets {
    /// The watchdog.
    pub beats: Outlet<Beats>,
    /// The writer.
    pub intake: Outlet<Intake>,
    /// The broker, for confirmations.
    pub transport: Arc<dyn Transport>,
    /// Where each reading is written down for a person.
    pub received: Option<Arc<dyn ReceivedRows>>,
}

/// What its topics start with, from now on: a configuration that was read again.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct SetTopics {
    /// What the publishers' topics start with.
    pub prefix: Prefix,
    /// Under which id the monitor publishes itself: that is not for itself.
    pub own: PublisherId,
    /// How devices are read that know nothing of heartwatch; the first whose topic matches counts.
    pub foreign: Arc<Vec<Foreign>>,
    /// Whether rows carry their numbers, for a sink that hands them on to another monitor.
    pub numbers_in_rows: bool,
    /// How long each publisher may be silent: it is told.
    pub deadlines: DeadlineRules,
}

/// What the subscriber knows, over all its lives.
#[derive(Debug)]
pub struct Record {
    prefix: Prefix,
    foreign: Arc<Vec<Foreign>>,
    numbers_in_rows: bool,
    deadlines: DeadlineRules,
    /// The shortest of them.
    deadline_min: Duration,
    /// Topics of an earlier configuration: rumqttd goes on sending them to a session after UNSUBSCRIBE.
    topics_over: Vec<TopicPattern>,
    /// What our own heartbeats' topics start with: the broker sends them to us as well.
    own_topics: String,
    status: SubscriberStatus,
    bad: VecDeque<BadMessage>,
    confirmations: Confirmations,
    last_heartbeat: HashMap<PublisherId, Monotonic>,
    recent: Recent,
}

/// The actor. Build each of its lives with the same [`Record`].
pub struct Subscriber {
    record: Rc<RefCell<Record>>,
    clock: Clock,
    outlets: Outlets,
}

impl Subscriber {
    /// A life of the subscriber over a record that outlives it.
    #[must_use]
    pub const fn new(record: Rc<RefCell<Record>>, clock: Clock, outlets: Outlets) -> Self {
        Self { record, clock, outlets }
    }

    fn read(&self, deliveries: &[Delivery]) -> (Beats, Intake) {
        let record = &mut *self.record.borrow_mut();
        let (mut beats, mut entries) = (Vec::with_capacity(deliveries.len()), Vec::with_capacity(deliveries.len()));
        // All of them are read before anything is noted: a batch on which this life fails is taken by the next one again.
        let mut meanings = Vec::with_capacity(deliveries.len());
        for delivery in deliveries.iter().filter(|delivery| !delivery.topic.starts_with(&record.own_topics)) {
            fail::fail_point!("subscriber::read");
            let last = &mut record.last_heartbeat;
            let rules =
                Rules { prefix: &record.prefix, foreign: &record.foreign, numbers_in_rows: record.numbers_in_rows };
            let lag = |publisher: &_, now, interval| lag(last, publisher, now, interval);
            meanings.push((delivery, translate(&rules, delivery, lag)));
        }
        for (delivery, meaning) in meanings {
            record.status.messages += 1;
            match meaning {
                Ok(meaning) => {
                    record.answer_seldom(meaning.beat.as_ref());
                    // What the broker had kept from before we subscribed is data, not a sign of life.
                    beats.extend(meaning.beat.filter(|_| !delivery.retained));
                    for entry in &meaning.entries {
                        if let IntakeEntry::Readings { publisher, lines, .. } = entry
                            && let Some(last) = lines.last()
                        {
                            record.recent.note(publisher, last, delivery.at);
                            let received = self.outlets.received.iter();
                            received.for_each(|log| lines.iter().for_each(|row| log.row(row.line)));
                        }
                    }
                    if let Some((publisher, row)) = meaning.newest {
                        record.recent.note(&publisher, &row, delivery.at);
                    }
                    meaning.entries.into_iter().for_each(|entry| add(&mut entries, entry));
                    if let Some((publisher, incarnation, confirmed)) = meaning.confirmed {
                        record.confirmations.known_to_publisher(&publisher, incarnation, confirmed);
                    }
                    if let Some((publisher, incarnation)) = meaning.asked {
                        record.confirmations.asked(&publisher, incarnation);
                    }
                    for (number, reason) in meaning.unstorable {
                        record.keep_bad(delivery, format!("reading {number} cannot be stored: {reason}"));
                    }
                    if let Some(problem) = meaning.problem {
                        record.keep_bad(delivery, problem);
                    }
                }
                Err(Unreadable::Topic(TopicError::Foreign { .. }))
                    if record.topics_over.iter().any(|topic| topic.captures(&delivery.topic).is_some()) => {}
                Err(error) => {
                    if error.is_oversized() {
                        record.status.oversized += 1;
                    }
                    record.keep_bad(delivery, error.to_string());
                }
            }
        }
        (Beats(Arc::new(beats)), Intake(Arc::new(entries)))
    }

    fn confirm(&self, kept: AppendReceipt) {
        let now = self.clock.monotonic();
        let mut record = self.record.borrow_mut();
        for state in kept.states {
            record.confirmations.changed(state, kept.number, now);
        }
        let due = record.confirmations.due(now);
        for state in due {
            let deadline = Some(record.deadlines.of(&state.publisher).kind.longest());
            let confirmation = Confirmation { state, deadline };
            let publisher = &confirmation.state.publisher;
            let message = Outgoing {
                topic: record.prefix.topic(publisher, TopicKind::Confirm),
                payload: encode_confirm(&confirmation),
                // A lost one is repeated when the next heartbeat shows it.
                at_least_once: false,
            };
            if let Err(error) = self.outlets.transport.try_publish(message) {
                tracing::debug!(%error, %publisher, "confirmation not sent; the next heartbeat repeats it");
            }
        }
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        if self.record.borrow().confirmations.is_waiting() {
            self.confirm(AppendReceipt::default());
        }
        ctx.run_later(CONFIRM_TICK, Self::tick);
    }
}

/// Adds what is to be kept; readings of the same life as the ones before join them.
fn add(entries: &mut Vec<IntakeEntry>, entry: IntakeEntry) {
    if let IntakeEntry::Readings { publisher, incarnation, host, lines } = &entry
        && let Some(IntakeEntry::Readings { publisher: of, incarnation: life, host: at, lines: before }) =
            entries.last_mut()
        && (publisher, incarnation, host) == (of, life, at)
    {
        before.append(lines);
    } else {
        entries.push(entry);
    }
}

/// How much later than promised a heartbeat comes.
fn lag(
    last: &mut HashMap<PublisherId, Monotonic>,
    publisher: &PublisherId,
    now: Monotonic,
    interval: Duration,
) -> Duration {
    match last.get_mut(publisher) {
        Some(before) => now.since(std::mem::replace(before, now)).saturating_sub(interval),
        None => {
            if last.len() >= Confirmations::INCARNATIONS_MAX {
                last.clear();
            }
            last.insert(publisher.clone(), now);
            Duration::ZERO
        }
    }
}

impl Record {
    /// An empty one.
    #[must_use]
    pub fn new(topics: SetTopics) -> Self {
        let mut record = Self {
            prefix: topics.prefix.clone(),
            foreign: Arc::default(),
            numbers_in_rows: false,
            deadlines: DeadlineRules::default(),
            deadline_min: Duration::ZERO,
            topics_over: Vec::new(),
            own_topics: String::new(),
            status: SubscriberStatus::default(),
            bad: VecDeque::new(),
            confirmations: Confirmations::default(),
            last_heartbeat: HashMap::new(),
            recent: Recent::default(),
        };
        record.set_topics(topics);
        record
    }

    fn set_topics(&mut self, SetTopics { prefix, own, foreign, numbers_in_rows, deadlines }: SetTopics) {
        (self.deadline_min, self.deadlines) = (deadlines.shortest(), deadlines);
        let heartbeat = prefix.topic(&own, TopicKind::Heartbeat);
        heartbeat.trim_end_matches(TopicKind::Heartbeat.as_str()).clone_into(&mut self.own_topics);
        self.topics_over.extend(self.foreign.iter().map(|device| device.topic.clone()));
        self.topics_over.retain(|topic| foreign.iter().all(|device| device.topic != *topic));
        let excess = self.topics_over.len().saturating_sub(TOPICS_OVER_MAX);
        self.topics_over.drain(..excess);
        (self.prefix, self.foreign, self.numbers_in_rows) = (prefix, foreign, numbers_in_rows);
    }

    /// A heartbeat that promises fewer than [`BEATS_PER_DEADLINE`] of them within its publisher's deadline: that one was not told,
    /// or has not heard.
    fn answer_seldom(&mut self, beat: Option<&Beat>) {
        let Some(Beat { publisher, kind: BeatKind::Heartbeat(heartbeat), .. }) = beat else { return };
        let within = heartbeat.interval.saturating_mul(BEATS_PER_DEADLINE);
        if within > self.deadline_min && within > self.deadlines.of(publisher).kind.longest() {
            self.confirmations.asked(publisher, heartbeat.incarnation);
        }
    }

    fn keep_bad(&mut self, delivery: &Delivery, reason: String) {
        self.status.malformed += 1;
        if self.status.malformed.is_power_of_two() {
            tracing::warn!(topic = delivery.topic, reason, count = self.status.malformed, "bad message, skipped");
        }
        // One device that says nothing else must not push out what the others have said.
        let of_it = |bad: &BadMessage| delivery.topic.chars().take(EXCERPT_CHARS_MAX).eq(bad.topic.chars());
        if self.bad.iter().filter(|bad| of_it(bad)).count() >= BAD_MESSAGES_PER_TOPIC_MAX {
            let oldest = self.bad.iter().position(of_it);
            self.bad.remove(oldest.unwrap_or_default());
        } else if self.bad.len() >= BAD_MESSAGES_KEPT_MAX {
            self.bad.pop_front();
        }
        let head = &delivery.payload[..delivery.payload.len().min(4 * EXCERPT_CHARS_MAX)];
        self.bad.push_back(BadMessage {
            topic: delivery.topic.chars().take(EXCERPT_CHARS_MAX).collect(),
            excerpt: String::from_utf8_lossy(head).chars().take(EXCERPT_CHARS_MAX).collect(),
            reason,
            at: delivery.wall,
        });
    }

    /// The counters and the last bad messages.
    #[must_use]
    pub fn status(&self) -> SubscriberStatus {
        SubscriberStatus { bad_messages: self.bad.iter().cloned().collect(), ..self.status.clone() }
    }
}

impl Actor for Subscriber {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Context<Self>) {
        self.tick(ctx);
    }
}

crate::messages::progress::answers_progress!(Subscriber);

impl Handler<Deliveries> for Subscriber {
    type Result = ResponseActFuture<Self, ()>;
    fn handle(&mut self, deliveries: Deliveries, _: &mut Context<Self>) -> Self::Result {
        let (beats, intake) = self.read(&deliveries.0);
        let outlets = self.outlets.clone();
        let hand_on = async move {
            let watch = async {
                if !beats.0.is_empty()
                    && let Err(error) = outlets.beats.deliver(beats).await
                {
                    tracing::error!(%error, "signs of life could not be handed on");
                }
            };
            let keep = async {
                if intake.0.is_empty() {
                    return AppendReceipt::default();
                }
                outlets.intake.deliver(intake).await.unwrap_or_else(|error| {
                    // Unconfirmed, so every numbered reading in it comes again.
                    tracing::error!(%error, "rows could not be handed on");
                    AppendReceipt::default()
                })
            };
            tokio::join!(watch, keep).1
        };
        Box::pin(poll_once(hand_on).into_actor(self).map(|kept, actor, _| {
            fail::fail_point!("subscriber::confirm");
            actor.confirm(kept);
        }))
    }
}

impl Handler<SetTopics> for Subscriber {
    type Result = ();
    fn handle(&mut self, topics: SetTopics, _: &mut Context<Self>) {
        self.record.borrow_mut().set_topics(topics);
    }
}

impl Handler<ReportBad> for Subscriber {
    type Result = ();
    fn handle(&mut self, report: ReportBad, _: &mut Context<Self>) {
        self.record.borrow_mut().keep_bad(&report.delivery, report.reason);
    }
}

impl Handler<AskSubscriber> for Subscriber {
    type Result = MessageResult<AskSubscriber>;
    fn handle(&mut self, _: AskSubscriber, _: &mut Context<Self>) -> MessageResult<AskSubscriber> {
        MessageResult(self.record.borrow().status())
    }
}

impl Handler<AskRecent> for Subscriber {
    type Result = MessageResult<AskRecent>;
    fn handle(&mut self, ask: AskRecent, _: &mut Context<Self>) -> MessageResult<AskRecent> {
        let record = self.record.borrow();
        let values: Vec<RecentValues> = ask.0.iter().filter_map(|publisher| record.recent.of(publisher)).collect();
        MessageResult(values)
    }
}
