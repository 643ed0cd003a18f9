//! The publisher's loop: reads at its interval, sends what is new first and what waits behind it,
//! beats, listens for confirmations, and in the end waits for the last ones.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::errors::Errors;
use super::pace::Pace;
use super::pace::every;
use super::packet_limit::{NotCarried, PacketLimit};
use super::pulse::{Beginning, EVENTS_MAX, Idle, Pulse};
use super::setback::Setback;
use super::worker::{Produced, Worker};
use super::{Ended, Prepared, PublisherConfig};
use crate::sources::arrivals::Arrivals;
use heartwatch_domain::confirmers::Confirmer;
use heartwatch_domain::error_metric::{BATCH_SENDING_ERROR, DROPPED_ERROR};
use heartwatch_domain::intake::DeliveryState;
use heartwatch_domain::process::ProcessIdentity;
use heartwatch_domain::publisher::Incarnation;
use heartwatch_domain::reading::Sequence;
use heartwatch_domain::retransmitter::{Retransmitter, SequenceRange, safe_runs};
use heartwatch_formats::envelope::{self, Confirmation, GivenUp, Goodbye, TopicKind};
use heartwatch_ports::{Transport, TransportEvent};
use heartwatch_store::outbox::{GivenUpRange, OutboxError};
use heartwatch_system::clock::Clock;

/// How often the backlog is looked at when the connection could not take more.
const BACKLOG_TICK: Duration = Duration::from_millis(20);
/// How often it is looked at whether confirmations stay away for too long.
const PROGRESS_TICK: Duration = Duration::from_millis(500);
/// How often an outbox that has refused readings is asked again.
const REFUSED_RETRY: Duration = Duration::from_millis(100);
/// How often the monitor is told again what was given up, which it may not have heard.
const TELL_AGAIN_EVERY: Duration = Duration::from_secs(3);
/// Why readings that the monitor asks for will never come.
const REASON_CONFIRMED: &str = "they had been confirmed, so that their publisher has them no more: the monitor's own record of them was damaged or removed";
const REASON_ELSEWHERE: &str = "another monitor has confirmed them, or a server that does not say which it is";
const REASON_NOT_HELD: &str =
    "the publisher's outbox does not hold them any more: it was damaged or removed, or they had been confirmed";
/// How long one that has nothing left to send waits to hear what the monitor has of its earlier lives: it may lack what nobody
/// but this publisher can say will never come.
const ANSWER_WAIT: Duration = Duration::from_secs(1);
/// Most wait for an orderly DISCONNECT at the end.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct SendLoop {
    pub config: Rc<PublisherConfig>,
    pub pulse: Rc<Pulse>,
    pub worker: Arc<Mutex<Worker>>,
    pub delivery: Retransmitter,
    /// What keeps everything that waits from being sent.
    pub setback: Setback,
    /// What the broker was seen to take.
    pub packet_limit: PacketLimit,
    pub given_up: Vec<GivenUpRange>,
    /// When the monitor was last told what was given up.
    pub given_up_told: Instant,
    /// Of these earlier lives the monitor has not said yet what it has.
    pub unanswered: BTreeSet<Incarnation>,
    pub transport: Arc<dyn Transport>,
    pub clock: Clock,
    pub produced: u64,
    pub refused: bool,
    /// Whether the monitor has answered over this connection.
    pub answered: bool,
    pub ending: bool,
    /// When rows were read last.
    pub last_read: Instant,
    /// Tells when rows come; none is read at an interval.
    pub arrivals: Option<Arrivals>,
    /// How often in a row readings were sent again because nobody had confirmed them in time.
    pub sent_again: u32,
    /// Whether it was said that somebody else uses numbers of this life.
    pub warned_of_another: bool,
}

impl SendLoop {
    /// One at the start of a life.
    ///
    /// # Errors
    /// When what earlier lives have left in the outbox cannot be read.
    pub(super) fn new(
        prepared: Prepared,
        transport: Arc<dyn Transport>,
        clock: Clock,
        process: Option<ProcessIdentity>,
    ) -> Result<Self, OutboxError> {
        let Prepared { config, mut worker, arrivals } = prepared;
        let (left, given_up, earlier) = (worker.left_by_earlier_lives()?, worker.given_up()?, worker.earlier_lives()?);
        if !left.is_empty() {
            let readings: u64 = left.iter().map(SequenceRange::len).sum();
            tracing::info!(publisher = %config.id, readings, "the outbox holds readings of earlier lives, they are sent behind live ones");
        }
        let (metrics, env) = worker.error_metrics();
        let config = Rc::new(config);
        let pulse = Rc::new(Pulse::new(Beginning {
            config: config.clone(),
            transport: transport.clone(),
            clock,
            process,
            reads_source: worker.reads_source(),
            position: worker.take_position(),
            errors: Errors::new(metrics, env),
            earlier,
        }));
        Ok(Self {
            delivery: Retransmitter::new(config.delivery, &left, clock.monotonic()),
            worker: Arc::new(Mutex::new(worker)),
            setback: Setback::default(),
            packet_limit: PacketLimit::default(),
            given_up,
            given_up_told: Instant::now(),
            unanswered: pulse.earlier.iter().map(|(life, _)| *life).collect(),
            pulse,
            transport,
            clock,
            produced: 0,
            refused: false,
            answered: false,
            ending: false,
            last_read: Instant::now(),
            arrivals,
            sent_again: 0,
            warned_of_another: false,
            config,
        })
    }

    /// Runs to the end of the source, the limit, or the request to stop, and then until the last
    /// confirmation or the end of the grace period; it beats all the time.
    pub(super) async fn run(
        self,
        events: &mut mpsc::Receiver<TransportEvent>,
        stop: watch::Receiver<Option<Instant>>,
    ) -> Ended {
        let (onward, mut noticed) = mpsc::channel(EVENTS_MAX);
        let pulse = self.pulse.clone();
        tokio::select! {
            ended = self.publish_all(&mut noticed, stop) => ended,
            () = pulse.run(events, onward) => unreachable!("a heartbeat has no end"),
        }
    }

    async fn publish_all(
        mut self,
        events: &mut mpsc::Receiver<TransportEvent>,
        mut stop: watch::Receiver<Option<Instant>>,
    ) -> Ended {
        let mut reads = every(self.config.feed.interval.max(Duration::from_millis(1)));
        let mut backlog = every(BACKLOG_TICK);
        let mut progress = every(PROGRESS_TICK);
        let mut retries = every(REFUSED_RETRY);
        let (mut end_by, mut answer_by): (Option<Instant>, Option<Instant>) = (None, None);
        loop {
            if end_by.is_some() && self.delivery.unconfirmed() == 0 && self.given_up.is_empty() {
                let answer_by = *answer_by.get_or_insert_with(|| Instant::now() + ANSWER_WAIT);
                if self.unanswered.is_empty() || Instant::now() >= answer_by {
                    break;
                }
            }
            self.ending = end_by.is_some();
            self.pulse.set_idle(self.idle());
            let reading = !self.ending && self.may_read();
            let pace = match (&self.arrivals, self.config.feed.interval.is_zero()) {
                _ if self.refused => Pace::Every(&mut retries),
                (Some(arrivals), _) => Pace::AsTheyCome(arrivals.clone()),
                (None, true) => Pace::AtOnce,
                (None, false) => Pace::Every(&mut reads),
            };
            tokio::select! {
                biased;
                () = at(end_by) => break,
                () = at(answer_by), if answer_by.is_some_and(|by| Instant::now() < by) => {}
                changed = stop.changed(), if end_by.is_none_or(|by| stop.borrow().is_none_or(|asked| asked < by)) => {
                    let first = end_by.is_none();
                    end_by = match (changed, *stop.borrow_and_update()) {
                        (Ok(()), by) => by.or(end_by),
                        (Err(_), _) => Some(Instant::now()),
                    };
                    if first && end_by.is_some() {
                        self.stop_source().await;
                    }
                }
                event = events.recv() => match event {
                    Some(event) => self.heard(event).await,
                    None => break,
                },
                _ = progress.tick() => self.check_progress(),
                _ = backlog.tick(), if self.delivery.backlog() > 0 => self.send_backlog().await,
                () = pace.next(), if reading => {
                    if self.read().await {
                        end_by = Some(Instant::now() + self.config.confirm_grace);
                        tracing::info!(readings = self.produced, "the source has ended; waiting for the last confirmations");
                    }
                }
            }
        }
        self.say_goodbye().await;
        Ended { produced: self.produced, left: self.delivery.unconfirmed() }
    }

    /// Runs a blocking step of the worker off this thread. Meanwhile nothing else of this loop goes on; the heartbeat does.
    pub(super) async fn on_disk<T: Send + 'static>(
        &self,
        step: impl FnOnce(&mut Worker) -> T + Send + 'static,
    ) -> Option<T> {
        let worker = self.worker.clone();
        self.pulse.step_begins();
        let done = tokio::task::spawn_blocking(move || {
            let mut worker = worker.lock().unwrap_or_else(PoisonError::into_inner);
            let result = step(&mut worker);
            (result, worker.take_position())
        });
        match done.await {
            Ok((result, position)) => {
                self.pulse.step_ended(Some(position));
                Some(result)
            }
            Err(error) => {
                self.pulse.step_ended(None);
                tracing::error!(%error, "a step of the publisher failed");
                None
            }
        }
    }

    /// Whether it is right that nothing moves: the next reading is not due, or it may not be read because
    /// what is there already has to go out first, or there is none to come.
    fn idle(&self) -> Idle {
        if self.refused || self.ending || !self.may_read() {
            return Idle::Always;
        }
        let interval = match &self.arrivals {
            None => self.config.feed.interval,
            Some(arrivals) => match arrivals.expected_every() {
                Some(expected) => expected,
                None => return Idle::Always,
            },
        };
        Idle::Until(self.last_read + interval + self.pulse.heartbeat())
    }

    /// As fast as it goes means: as fast as the monitor confirms.
    fn may_read(&self) -> bool {
        self.arrivals.is_some()
            || !self.config.feed.interval.is_zero()
            || self.delivery.unconfirmed() < self.config.delivery.in_flight_max
    }

    async fn read(&mut self) -> bool {
        let many = self.arrivals.is_some() || self.config.feed.interval.is_zero();
        let rows_max = if many { self.config.batch_readings_max } else { 1 };
        let now = self.clock.wall();
        if self.arrivals.as_ref().is_none_or(|arrivals| arrivals.waiting() > 0) {
            self.last_read = Instant::now();
        }
        let Some(produced) = self.on_disk(move |worker| worker.produce(rows_max, now)).await else {
            return false;
        };
        let Produced { readings, given_up, finished, refused } = produced;
        match (&refused, self.refused) {
            (Some(error), false) => tracing::error!(%error, "readings wait: the outbox takes no more"),
            (None, true) => tracing::info!("the outbox takes readings again"),
            _ => {}
        }
        self.refused = refused.is_some();
        if let Some(arrivals) = &self.arrivals {
            arrivals.wake_if_waiting();
        }
        for range in given_up {
            self.delivery.forget(SequenceRange {
                incarnation: range.incarnation,
                first: range.first,
                last: range.last,
            });
            tracing::error!(first = range.first, last = range.last, "the outbox is full: readings were given up");
            self.pulse.happened(DROPPED_ERROR, range.last - range.first + 1, self.clock.wall());
            self.given_up.push(range);
            self.tell_given_up();
        }
        self.produced += readings.len() as u64;
        if let (Some(first), Some(last)) = (readings.first(), readings.last()) {
            let incarnation = self.config.incarnation;
            let run = SequenceRange { incarnation, first: first.sequence, last: last.sequence };
            if self.delivery.produced(run, self.clock.monotonic()) && !self.send(run, &readings).await {
                self.delivery.put_back(run);
            }
        }
        finished
    }

    /// Takes what has come already from a source with a pace of its own, and nothing more.
    async fn stop_source(&mut self) {
        if self.arrivals.is_some() {
            self.on_disk(Worker::stop_source).await;
            self.read().await;
        }
    }

    async fn heard(&mut self, event: TransportEvent) {
        let now = self.clock.monotonic();
        match event {
            TransportEvent::Connected { .. } => {
                self.answered = false;
                self.delivery.connected(now);
                self.tell_given_up();
            }
            TransportEvent::Disconnected { .. } => {
                self.delivery.disconnected();
                if let Some(NotCarried { incarnation, sequence, reason }) = self.packet_limit.disconnected(now) {
                    self.give_up(incarnation, vec![(sequence, reason)]).await;
                }
            }
            TransportEvent::Delivery(delivery) => {
                match envelope::decode_confirm(&self.config.id, &delivery.payload) {
                    Ok(Confirmation { state, deadline }) => {
                        self.pulse.beat_within(deadline);
                        self.confirmed(state).await;
                    }
                    Err(error) => tracing::warn!(%error, topic = delivery.topic, "a confirmation could not be read"),
                }
                self.transport.acknowledge(vec![delivery.receipt]);
            }
        }
    }

    async fn confirmed(&mut self, state: DeliveryState) {
        let (life, through, highest) = (state.incarnation, state.through, state.highest);
        self.sent_again = 0;
        if !std::mem::replace(&mut self.answered, true) {
            // It hears us now, and may have missed what we said of ourselves before it did: which process we are.
            self.pulse.beat();
        }
        let now = self.clock.monotonic();
        let believed = self.delivery.reported(life, through, highest, &state.gaps, now);
        self.packet_limit.confirmed(&self.delivery);
        self.give_up_what_is_not_held(&state).await;
        let safe = safe_runs(life, through, highest, &state.gaps);
        if life == self.config.incarnation {
            let believed_through = believed.first().filter(|run| run.first == 1).map_or(0, |run| run.last);
            self.pulse.confirmed_through(believed_through);
            self.warn_of_another(&safe, &believed);
        }
        let by = Confirmer::of(state.journal);
        self.nothing_to_hear_of(life, by).await;
        let (told, untold): (Vec<_>, Vec<_>) = self.given_up.drain(..).partition(|range| {
            safe.iter()
                .any(|run| run.incarnation == range.incarnation && run.first <= range.first && range.last <= run.last)
        });
        self.given_up = untold;
        let forgotten = self.on_disk(move |worker| {
            told.iter().try_for_each(|range| worker.given_up_told(range))?;
            worker.confirmed(life, &believed, by)
        });
        if let Some(Err(error)) = forgotten.await {
            tracing::warn!(%error, "confirmed readings stay in the outbox for now");
        }
        self.send_backlog().await;
    }

    /// The monitor has said what it has of this life; and of those that it had confirmed whole before there is nothing to hear.
    async fn nothing_to_hear_of(&mut self, life: Incarnation, by: Confirmer) {
        self.unanswered.remove(&life);
        let open = self.pulse.earlier.iter().filter(|(life, _)| self.unanswered.contains(life));
        let open: Vec<SequenceRange> =
            open.map(|&(incarnation, last)| SequenceRange { incarnation, first: 1, last }).collect();
        if open.is_empty() {
            return;
        }
        if let Some(pieces) = self.on_disk(move |worker| worker.confirmed_by(&open)).await {
            let not_by_it =
                |life: &Incarnation| pieces.iter().any(|(run, of)| run.incarnation == *life && *of != Some(by));
            self.unanswered.retain(not_by_it);
        }
    }

    /// Numbers of this life are called safe that were never sent.
    fn warn_of_another(&mut self, safe: &[SequenceRange], believed: &[SequenceRange]) {
        let count = |runs: &[SequenceRange]| runs.iter().map(SequenceRange::len).sum::<u64>();
        let readings = count(safe) - count(believed);
        if readings > 0 && !std::mem::replace(&mut self.warned_of_another, true) {
            tracing::warn!(
                readings,
                "the monitor has readings under numbers that were not sent yet: does somebody else publish under this id? They are sent all the same, and kept beside the others"
            );
        }
    }

    /// The monitor lacks numbers. Those that nobody holds any more will never come: it is told so, and
    /// why, until it counts them as lost, or leaves them to the monitor that has confirmed them. A number that it
    /// has after all stays what it is.
    async fn give_up_what_is_not_held(&mut self, state: &DeliveryState) {
        let life = state.incarnation;
        if life > self.config.incarnation || !state.has_missing() {
            return;
        }
        let given_out = if life == self.config.incarnation { self.pulse.last_sequence() } else { Sequence::MAX };
        let asked = state.missing().into_iter().map(|(first, last)| (first, last.min(given_out)));
        let runs = asked.filter(|(first, last)| first <= last).map(|(first, last)| SequenceRange {
            incarnation: life,
            first,
            last,
        });
        let mut gone: Vec<SequenceRange> = runs.flat_map(|run| self.delivery.not_held(run)).collect();
        // what is being told already keeps its own reason
        let being_told = |run: &SequenceRange| {
            self.given_up
                .iter()
                .any(|range| range.incarnation == run.incarnation && range.first <= run.last && run.first <= range.last)
        };
        gone.retain(|run| !being_told(run));
        if gone.is_empty() {
            return;
        }
        let Some(pieces) = self.on_disk(move |worker| worker.confirmed_by(&gone)).await else { return };
        let asks = Confirmer::of(state.journal);
        for (SequenceRange { first, last, .. }, confirmed_by) in pieces {
            let reason = match confirmed_by {
                Some(by) if by != asks => REASON_ELSEWHERE,
                Some(_) => REASON_CONFIRMED,
                None => REASON_NOT_HELD,
            };
            if reason == REASON_ELSEWHERE {
                tracing::info!(incarnation = %life, first, last, "the monitor asks for readings that another one has confirmed");
            } else {
                tracing::error!(incarnation = %life, first, last, reason, "the monitor lacks readings that cannot be sent again");
            }
            let reason = reason.to_owned();
            self.given_up.push(GivenUpRange { incarnation: life, first, last, reason, confirmed_by });
        }
        self.tell_given_up();
    }

    fn check_progress(&mut self) {
        if !self.given_up.is_empty() && self.given_up_told.elapsed() >= TELL_AGAIN_EVERY {
            self.tell_given_up();
        }
        let again = self.delivery.check_progress(self.clock.monotonic());
        if again > 0 {
            self.sent_again += 1;
            // once is a monitor that has much to do
            if self.sent_again > 1 {
                self.pulse.happened(BATCH_SENDING_ERROR, 1, self.clock.wall());
            }
            tracing::debug!(readings = again, "no confirmation for too long, sending again");
            self.tell_given_up();
        }
    }

    pub(super) fn tell_given_up(&mut self) {
        if !self.pulse.is_connected() {
            return;
        }
        self.given_up_told = Instant::now();
        for range in &self.given_up {
            let given_up = GivenUp {
                host: self.config.host.clone(),
                incarnation: range.incarnation,
                first: range.first,
                last: range.last,
                reason: range.reason.clone(),
                confirmed_by: range.confirmed_by,
            };
            self.pulse.tell(TopicKind::GivenUp, envelope::encode_given_up(&given_up), true);
        }
    }

    async fn say_goodbye(&self) {
        self.pulse.stop();
        if !self.pulse.is_connected() {
            return;
        }
        let sequence = self.pulse.last_sequence();
        let goodbye = Goodbye { host: self.config.host.clone(), incarnation: self.config.incarnation, sequence };
        self.pulse.tell(TopicKind::Goodbye, envelope::encode_goodbye(&goodbye), true);
        if tokio::time::timeout(DISCONNECT_TIMEOUT, self.transport.disconnect()).await.is_err() {
            tracing::warn!("the broker did not take the goodbye in time");
        }
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
