//! The publisher's loop: reads at its interval, sends what is new first and what waits behind it,
//! beats, listens for confirmations, and in the end waits for the last ones.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::errors::Errors;
use super::packet_limit::{NotCarried, PacketLimit};
use super::setback::Setback;
use super::worker::{Produced, Worker};
use super::{Ended, PublisherConfig};
use crate::buffer::outbox::GivenUpRange;
use crate::domain::beat::Heartbeat;
use crate::domain::confirmers::Confirmer;
use crate::domain::deadline::BEATS_PER_DEADLINE;
use crate::domain::delivery::{Delivery, Run, safe_runs};
use crate::domain::error_metric::{BATCH_SENDING_ERROR, CONNECTIVITY_ERROR, DROPPED_ERROR};
use crate::domain::process::ProcessIdentity;
use crate::domain::publisher::Incarnation;
use crate::domain::reading::Sequence;
use crate::formats::envelope::{self, Confirmation, GivenUp, Goodbye, HeartbeatNote, TopicKind};
use crate::messages::intake::DeliveryState;
use crate::ports::{Transport, TransportEvent};
use crate::runtime::clock::Clock;
use crate::sources::arrivals::Arrivals;

/// How often the backlog is looked at when the connection could not take more.
const BACKLOG_TICK: Duration = Duration::from_millis(20);
/// How often it is looked at whether confirmations stay away for too long.
const PROGRESS_TICK: Duration = Duration::from_millis(500);
/// How often an outbox that has refused readings is asked again.
const REFUSED_RETRY: Duration = Duration::from_millis(100);
/// How often the monitor is told again what it may not have heard: what was given up, and earlier lives.
const TELL_AGAIN_EVERY: Duration = Duration::from_secs(3);
/// Why readings that the monitor asks for will never come.
const REASON_CONFIRMED: &str = "they had been confirmed, so that their publisher has them no more: the monitor's own record of them was damaged or removed";
const REASON_ELSEWHERE: &str = "another monitor has confirmed them, or a server that does not say which it is";
const REASON_NOT_HELD: &str =
    "the publisher's outbox does not hold them any more: it was damaged or removed, or they had been confirmed";
/// How long one that has nothing left to send waits to hear what the monitor has of its earlier lives: it may lack what nobody
/// but this publisher can say will never come.
const ANSWER_WAIT: Duration = Duration::from_secs(1);
/// How long a connection may take to come before its absence is counted.
const CONNECTING_GRACE: Duration = Duration::from_secs(1);
/// However short its deadline, a publisher does not beat more often than that.
const HEARTBEAT_MIN: Duration = Duration::from_millis(100);
/// Most wait for an orderly DISCONNECT at the end.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct Engine {
    pub config: PublisherConfig,
    pub worker: Arc<Mutex<Worker>>,
    pub delivery: Delivery,
    /// What keeps everything that waits from being sent.
    pub setback: Setback,
    /// What the broker was seen to take.
    pub packet_limit: PacketLimit,
    pub given_up: Vec<GivenUpRange>,
    /// When the monitor was last told what was given up.
    pub given_up_told: Instant,
    /// Earlier lives and the last number of each; the monitor is told now and then.
    pub earlier: Vec<(Incarnation, Sequence)>,
    pub earlier_told: Option<Instant>,
    /// Of these lives the monitor has not said yet what it has.
    pub unanswered: BTreeSet<Incarnation>,
    pub transport: Arc<dyn Transport>,
    pub clock: Clock,
    pub process: Option<ProcessIdentity>,
    pub confirmed: Sequence,
    pub produced: u64,
    pub refused: bool,
    pub connected: bool,
    /// Whether the monitor has answered over this connection.
    pub answered: bool,
    pub ending: bool,
    /// Time between two heartbeats: what is configured, or less where the monitor's deadline wants that.
    pub heartbeat: Duration,
    /// When rows were read last.
    pub last_read: Instant,
    /// Tells when rows come; none is read at an interval.
    pub arrivals: Option<Arrivals>,
    /// What went wrong, to be told.
    pub errors: Errors,
    /// Since when there is no connection, while there is none.
    pub offline_since: Instant,
    /// How often in a row readings were sent again because nobody had confirmed them in time.
    pub sent_again: u32,
    /// Whether it was said that somebody else uses numbers of this life.
    pub warned_of_another: bool,
    /// Rows that the source is known to have dropped.
    pub dropped: u64,
}

/// Runs a blocking step of the worker off this thread.
pub(super) async fn off_thread<T: Send + 'static>(
    worker: &Arc<Mutex<Worker>>,
    step: impl FnOnce(&mut Worker) -> T + Send + 'static,
) -> Option<T> {
    let worker = worker.clone();
    let done = tokio::task::spawn_blocking(move || step(&mut worker.lock().unwrap_or_else(PoisonError::into_inner)));
    match done.await {
        Ok(result) => Some(result),
        Err(error) => {
            tracing::error!(%error, "a step of the publisher failed");
            None
        }
    }
}

impl Engine {
    /// Runs to the end of the source, the limit, or the request to stop, and then until the last
    /// confirmation or the end of the grace period.
    pub async fn run(
        mut self,
        events: &mut mpsc::Receiver<TransportEvent>,
        mut stop: watch::Receiver<Option<Instant>>,
    ) -> Ended {
        let mut beats = every(self.heartbeat);
        let mut reads = every(self.config.interval.max(Duration::from_millis(1)));
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
            if beats.period() != self.heartbeat {
                // its first tick is at once: the new promise is told
                beats = every(self.heartbeat);
            }
            let reading = !self.ending && self.may_read();
            let pace = match (&self.arrivals, self.config.interval.is_zero()) {
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
                _ = beats.tick() => self.beat().await,
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

    /// Whether it is right that nothing moves: the next reading is not due, or it may not be read because
    /// what is there already has to go out first, or there is none to come.
    fn is_idle(&self) -> bool {
        let interval = match &self.arrivals {
            None => self.config.interval,
            Some(arrivals) => match arrivals.expected_every() {
                Some(expected) => expected,
                None => return true,
            },
        };
        let due = interval + self.heartbeat;
        self.refused || self.ending || !self.may_read() || self.last_read.elapsed() < due
    }

    /// As fast as it goes means: as fast as the monitor confirms.
    fn may_read(&self) -> bool {
        self.arrivals.is_some()
            || !self.config.interval.is_zero()
            || self.delivery.unconfirmed() < self.config.delivery.in_flight_max
    }

    async fn read(&mut self) -> bool {
        let many = self.arrivals.is_some() || self.config.interval.is_zero();
        let rows_max = if many { self.config.batch_readings_max } else { 1 };
        let now = self.clock.wall();
        if self.arrivals.as_ref().is_none_or(|arrivals| arrivals.waiting() > 0) {
            self.last_read = Instant::now();
        }
        let Some(produced) = off_thread(&self.worker, move |worker| worker.produce(rows_max, now)).await else {
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
            self.delivery.forget(Run { incarnation: range.incarnation, first: range.first, last: range.last });
            tracing::error!(first = range.first, last = range.last, "the outbox is full: readings were given up");
            self.errors.happened(DROPPED_ERROR, range.last - range.first + 1, self.clock.wall());
            self.given_up.push(range);
            self.tell_given_up();
        }
        self.produced += readings.len() as u64;
        if let (Some(first), Some(last)) = (readings.first(), readings.last()) {
            let incarnation = self.config.incarnation;
            let run = Run { incarnation, first: first.sequence, last: last.sequence };
            if self.delivery.produced(run, self.clock.monotonic()) && !self.send(run, &readings).await {
                self.delivery.put_back(run);
            }
        }
        finished
    }

    /// Takes what has come already from a source with a pace of its own, and nothing more.
    async fn stop_source(&mut self) {
        if self.arrivals.is_some() {
            off_thread(&self.worker, Worker::stop_source).await;
            self.read().await;
        }
    }

    async fn heard(&mut self, event: TransportEvent) {
        let now = self.clock.monotonic();
        match event {
            TransportEvent::Connected { .. } => {
                (self.connected, self.answered) = (true, false);
                self.delivery.connected(now);
                self.earlier_told = None;
                self.beat().await;
                self.tell_given_up();
            }
            TransportEvent::Disconnected { at, .. } => {
                if std::mem::replace(&mut self.connected, false) {
                    self.offline_since = Instant::now();
                    self.errors.happened(CONNECTIVITY_ERROR, 1, at);
                }
                self.delivery.disconnected();
                if let Some(NotCarried { incarnation, sequence, reason }) = self.packet_limit.disconnected(now) {
                    self.give_up(incarnation, vec![(sequence, reason)]).await;
                }
            }
            TransportEvent::Delivery(delivery) => {
                match envelope::decode_confirm(&self.config.id, &delivery.payload) {
                    Ok(Confirmation { state, deadline }) => {
                        self.beat_within(deadline);
                        self.confirmed(state).await;
                    }
                    Err(error) => tracing::warn!(%error, topic = delivery.topic, "a confirmation could not be read"),
                }
                self.transport.acknowledge(vec![delivery.receipt]);
            }
        }
    }

    /// The monitor has told how long we may be silent.
    fn beat_within(&mut self, deadline: Option<Duration>) {
        let Some(deadline) = deadline else { return };
        let often_enough = (deadline / BEATS_PER_DEADLINE).max(HEARTBEAT_MIN);
        let heartbeat = self.config.heartbeat.min(often_enough);
        if std::mem::replace(&mut self.heartbeat, heartbeat) != heartbeat {
            let (heartbeat_ms, deadline_ms) = (heartbeat.as_millis(), deadline.as_millis());
            tracing::info!(heartbeat_ms, deadline_ms, "heartbeats follow the deadline that the monitor has told");
        }
    }

    async fn confirmed(&mut self, state: DeliveryState) {
        let (life, through, highest) = (state.incarnation, state.through, state.highest);
        self.sent_again = 0;
        if !std::mem::replace(&mut self.answered, true) {
            // It hears us now, and may have missed what we said of ourselves before it did: which process we are.
            self.beat().await;
        }
        let now = self.clock.monotonic();
        let believed = self.delivery.reported(life, through, highest, &state.gaps, now);
        self.packet_limit.confirmed(&self.delivery);
        self.give_up_what_is_not_held(&state).await;
        let safe = safe_runs(life, through, highest, &state.gaps);
        if life == self.config.incarnation {
            let believed_through = believed.first().filter(|run| run.first == 1).map_or(0, |run| run.last);
            self.confirmed = self.confirmed.max(believed_through);
            self.warn_of_another(&safe, &believed);
        }
        let by = Confirmer::of(state.journal);
        self.nothing_to_hear_of(life, by).await;
        let (told, untold): (Vec<_>, Vec<_>) = self.given_up.drain(..).partition(|range| {
            safe.iter()
                .any(|run| run.incarnation == range.incarnation && run.first <= range.first && range.last <= run.last)
        });
        self.given_up = untold;
        let forgotten = off_thread(&self.worker, move |worker| {
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
        let open = self.earlier.iter().filter(|(life, _)| self.unanswered.contains(life));
        let open: Vec<Run> = open.map(|&(incarnation, last)| Run { incarnation, first: 1, last }).collect();
        if open.is_empty() {
            return;
        }
        if let Some(pieces) = off_thread(&self.worker, move |worker| worker.confirmed_by(&open)).await {
            let not_by_it =
                |life: &Incarnation| pieces.iter().any(|(run, of)| run.incarnation == *life && *of != Some(by));
            self.unanswered.retain(not_by_it);
        }
    }

    /// Numbers of this life are called safe that were never sent.
    fn warn_of_another(&mut self, safe: &[Run], believed: &[Run]) {
        let count = |runs: &[Run]| runs.iter().map(Run::len).sum::<u64>();
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
        let Some(last) = off_thread(&self.worker, |worker| worker.last_sequence()).await else { return };
        let given_out = if life == self.config.incarnation { last } else { Sequence::MAX };
        let asked = state.missing().into_iter().map(|(first, last)| (first, last.min(given_out)));
        let runs =
            asked.filter(|(first, last)| first <= last).map(|(first, last)| Run { incarnation: life, first, last });
        let mut gone: Vec<Run> = runs.flat_map(|run| self.delivery.not_held(run)).collect();
        // what is being told already keeps its own reason
        let being_told = |run: &Run| {
            self.given_up
                .iter()
                .any(|range| range.incarnation == run.incarnation && range.first <= run.last && run.first <= range.last)
        };
        gone.retain(|run| !being_told(run));
        if gone.is_empty() {
            return;
        }
        let Some(pieces) = off_thread(&self.worker, move |worker| worker.confirmed_by(&gone)).await else { return };
        let asks = Confirmer::of(state.journal);
        for (Run { first, last, .. }, confirmed_by) in pieces {
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
        let again = self.delivery.check_progress(self.clock.monotonic());
        if again > 0 {
            self.sent_again += 1;
            // once is a monitor that has much to do
            if self.sent_again > 1 {
                self.errors.happened(BATCH_SENDING_ERROR, 1, self.clock.wall());
            }
            tracing::debug!(readings = again, "no confirmation for too long, sending again");
            self.tell_given_up();
        }
    }

    async fn beat(&mut self) {
        if !self.connected {
            // the first connection takes a moment, and that is no error
            if self.offline_since.elapsed() >= self.heartbeat.max(CONNECTING_GRACE) {
                self.errors.happened(CONNECTIVITY_ERROR, 1, self.clock.wall());
            }
            return;
        }
        if !self.given_up.is_empty() && self.given_up_told.elapsed() >= TELL_AGAIN_EVERY {
            self.tell_given_up();
        }
        let position = off_thread(&self.worker, |worker| {
            (worker.last_sequence(), worker.cursor(), worker.take_erred(), worker.dropped())
        });
        let (sequence, cursor, erred, dropped) = position.await.unwrap_or_default();
        let (now, at) = (self.clock.monotonic(), self.clock.wall());
        self.errors.were_readings(erred);
        self.errors.happened(DROPPED_ERROR, dropped.saturating_sub(self.dropped), at);
        self.dropped = self.dropped.max(dropped);
        let bytes_max = self.config.message_bytes_max.min(self.transport.payload_bytes_max());
        let errors = self.errors.tell(now, at, bytes_max / 2);
        let heartbeat = Heartbeat {
            incarnation: self.config.incarnation,
            process: self.process.clone(),
            sequence,
            cursor,
            idle: self.is_idle(),
            interval: self.heartbeat,
            is_agent: self.config.is_agent,
        };
        let due = self.earlier_told.is_none_or(|told| told.elapsed() >= TELL_AGAIN_EVERY);
        let earlier = if due { self.earlier.clone() } else { Vec::new() };
        if due {
            self.earlier_told = Some(Instant::now());
        }
        let note =
            HeartbeatNote { host: self.config.host.clone(), heartbeat, confirmed: self.confirmed, earlier, errors };
        self.tell(TopicKind::Heartbeat, envelope::encode_heartbeat(&note), false);
    }

    pub(super) fn tell_given_up(&mut self) {
        if !self.connected {
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
            self.tell(TopicKind::GivenUp, envelope::encode_given_up(&given_up), true);
        }
    }

    async fn say_goodbye(&self) {
        if !self.connected {
            return;
        }
        let sequence = off_thread(&self.worker, |worker| worker.last_sequence()).await.unwrap_or_default();
        let goodbye = Goodbye { host: self.config.host.clone(), incarnation: self.config.incarnation, sequence };
        self.tell(TopicKind::Goodbye, envelope::encode_goodbye(&goodbye), true);
        if tokio::time::timeout(DISCONNECT_TIMEOUT, self.transport.disconnect()).await.is_err() {
            tracing::warn!("the broker did not take the goodbye in time");
        }
    }
}

fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// When the next reading is due.
enum Pace<'a> {
    /// As fast as it goes.
    AtOnce,
    /// With the next tick.
    Every(&'a mut Interval),
    /// When rows have come.
    AsTheyCome(Arrivals),
}

impl Pace<'_> {
    async fn next(self) {
        match self {
            // Lets the connection and the confirmations have their turn.
            Self::AtOnce => tokio::task::yield_now().await,
            Self::Every(ticks) => {
                ticks.tick().await;
            }
            Self::AsTheyCome(arrivals) => arrivals.arrived().await,
        }
    }
}
