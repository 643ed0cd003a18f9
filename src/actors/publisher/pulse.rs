//! What a publisher says of itself, again and again, whatever its disk does.
//!
//! The publisher's loop waits for its outbox and its source; this one waits for nothing but the time and what comes over the
//! connection, which it looks at first and passes on. So a disk that takes nothing silences nobody: heartbeats go on and say
//! for how long it has stood.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::PublisherConfig;
use super::errors::Errors;
use super::pace::every;
use heartwatch_domain::beat::Heartbeat;
use heartwatch_domain::deadline::BEATS_PER_DEADLINE;
use heartwatch_domain::error_metric::{CONNECTIVITY_ERROR, DROPPED_ERROR};
use heartwatch_domain::process::ProcessIdentity;
use heartwatch_domain::publisher::Incarnation;
use heartwatch_domain::reading::Sequence;
use heartwatch_domain::time::Timestamp;
use heartwatch_formats::envelope::{self, HeartbeatNote, TopicKind};
use heartwatch_ports::{Outgoing, Transport, TransportError, TransportEvent};
use heartwatch_system::clock::Clock;

/// How long a connection may take to come before its absence is counted.
const CONNECTING_GRACE: Duration = Duration::from_secs(1);
/// However short its deadline, a publisher does not beat more often than that.
const HEARTBEAT_MIN: Duration = Duration::from_millis(100);
/// How often the monitor is told of earlier lives, which it may not have heard.
const EARLIER_EVERY: Duration = Duration::from_secs(3);
/// A step of the outbox that takes longer is told.
const STALL_TOLD_FROM: Duration = Duration::from_secs(1);
/// Most events of the connection that wait for the publisher's loop. At the limit none is taken from the connection until one is
/// done with, and heartbeats go by what was known of it last.
pub(super) const EVENTS_MAX: usize = 1_024;

/// Whether it is right that nothing moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Idle {
    /// There is nothing to read, or what is there has to go out first.
    Always,
    /// The next reading is not due before.
    Until(Instant),
}

/// How far source and outbox are, as the last finished step has left them.
#[derive(Debug, Default)]
pub(super) struct Position {
    /// The last number given out to a reading that is kept. One that is only held does not count: it is gone with this
    /// process, and a number that was told would be missed for ever.
    pub sequence: Sequence,
    /// How far the source has been read.
    pub cursor: u64,
    /// Rows that the source is known to have dropped.
    pub dropped: u64,
    /// Error metrics that became readings with this step.
    pub erred: BTreeSet<String>,
}

struct State {
    connected: bool,
    /// It has said goodbye, or is about to: nothing follows that.
    stopped: bool,
    /// Since when there is no connection, while there is none.
    offline_since: Instant,
    /// Time between two heartbeats: what is configured, or less where the monitor's deadline wants that.
    heartbeat: Duration,
    confirmed: Sequence,
    idle: Idle,
    position: Position,
    /// When the step of the disk began that has not ended yet.
    step_began: Option<Instant>,
    /// Whether one has ended: before that nobody knows whether anything went wrong in what there is to read.
    has_read: bool,
    earlier_told: Option<Instant>,
    errors: Errors,
}

/// The heartbeat. Both loops run on one thread, and neither holds its state while it waits.
pub(super) struct Pulse {
    config: Rc<PublisherConfig>,
    transport: Arc<dyn Transport>,
    clock: Clock,
    process: Option<ProcessIdentity>,
    /// Earlier lives and the last number of each.
    pub earlier: Vec<(Incarnation, Sequence)>,
    /// Whether the step of the disk that is under way reads the source.
    reads_source: Arc<AtomicBool>,
    state: RefCell<State>,
    hurry: Notify,
}

/// What a heartbeat is made from at the start of a life.
pub(super) struct Beginning {
    pub config: Rc<PublisherConfig>,
    pub transport: Arc<dyn Transport>,
    pub clock: Clock,
    pub process: Option<ProcessIdentity>,
    pub earlier: Vec<(Incarnation, Sequence)>,
    pub reads_source: Arc<AtomicBool>,
    pub position: Position,
    pub errors: Errors,
}

impl Pulse {
    pub(super) fn new(beginning: Beginning) -> Self {
        let Beginning { config, transport, clock, process, earlier, reads_source, position, errors } = beginning;
        let state = State {
            connected: false,
            stopped: false,
            offline_since: Instant::now(),
            heartbeat: config.heartbeat,
            confirmed: 0,
            idle: Idle::Always,
            position,
            step_began: None,
            has_read: false,
            earlier_told: None,
            errors,
        };
        let state = RefCell::new(state);
        Self { config, transport, clock, process, earlier, reads_source, state, hurry: Notify::new() }
    }

    /// Beats, and passes on what comes over the connection, until it is dropped.
    pub(super) async fn run(&self, events: &mut mpsc::Receiver<TransportEvent>, onward: mpsc::Sender<TransportEvent>) {
        let mut onward = Some(onward);
        let mut beats = every(self.heartbeat());
        loop {
            if beats.period() != self.heartbeat() {
                // its first tick is at once: the new promise is told
                beats = every(self.heartbeat());
            }
            tokio::select! {
                biased;
                event = next(events, onward.as_ref()) => match event {
                    Some(event) => {
                        self.notice(&event);
                        // There is room: it was waited for.
                        onward = onward.filter(|onward| onward.try_send(event).is_ok());
                    }
                    None => onward = None,
                },
                _ = beats.tick() => self.beat(),
                () = self.hurry.notified() => {}
            }
        }
    }

    fn notice(&self, event: &TransportEvent) {
        let mut state = self.state.borrow_mut();
        match event {
            TransportEvent::Connected { .. } => {
                (state.connected, state.earlier_told) = (true, None);
                drop(state);
                self.beat();
            }
            TransportEvent::Disconnected { at, .. } => {
                if std::mem::replace(&mut state.connected, false) {
                    state.offline_since = Instant::now();
                    state.errors.happened(CONNECTIVITY_ERROR, 1, *at);
                }
            }
            TransportEvent::Delivery(_) => {}
        }
    }

    /// The monitor has told how long we may be silent.
    pub(super) fn beat_within(&self, deadline: Option<Duration>) {
        let Some(deadline) = deadline else { return };
        let often_enough = (deadline / BEATS_PER_DEADLINE).max(HEARTBEAT_MIN);
        let heartbeat = self.config.heartbeat.min(often_enough);
        if std::mem::replace(&mut self.state.borrow_mut().heartbeat, heartbeat) != heartbeat {
            let (heartbeat_ms, deadline_ms) = (heartbeat.as_millis(), deadline.as_millis());
            tracing::info!(heartbeat_ms, deadline_ms, "heartbeats follow the deadline that the monitor has told");
            self.hurry.notify_one();
        }
    }

    /// Time between two heartbeats.
    pub(super) fn heartbeat(&self) -> Duration {
        self.state.borrow().heartbeat
    }

    pub(super) fn is_connected(&self) -> bool {
        self.state.borrow().connected
    }

    /// No heartbeat from now on: what comes after a goodbye would refute it.
    pub(super) fn stop(&self) {
        self.state.borrow_mut().stopped = true;
    }

    /// The last number of a reading that is kept.
    pub(super) fn last_sequence(&self) -> Sequence {
        self.state.borrow().position.sequence
    }

    /// So much of this life is safe.
    pub(super) fn confirmed_through(&self, through: Sequence) {
        let mut state = self.state.borrow_mut();
        state.confirmed = state.confirmed.max(through);
    }

    pub(super) fn set_idle(&self, idle: Idle) {
        self.state.borrow_mut().idle = idle;
    }

    /// Something went wrong; it is told with the next heartbeats.
    pub(super) fn happened(&self, metric: &str, value: u64, at: Timestamp) {
        self.state.borrow_mut().errors.happened(metric, value, at);
    }

    /// A step of the disk begins.
    pub(super) fn step_begins(&self) {
        self.state.borrow_mut().step_began = Some(Instant::now());
    }

    /// It has ended, and has left this; none where it failed.
    pub(super) fn step_ended(&self, position: Option<Position>) {
        let mut state = self.state.borrow_mut();
        (state.step_began, state.has_read) = (None, true);
        if let Some(mut position) = position {
            state.errors.were_readings(std::mem::take(&mut position.erred));
            let dropped = position.dropped.saturating_sub(state.position.dropped);
            state.errors.happened(DROPPED_ERROR, dropped, self.clock.wall());
            state.position = position;
        }
    }

    pub(super) fn beat(&self) {
        let mut state = self.state.borrow_mut();
        if state.stopped {
            return;
        }
        if !state.connected {
            // the first connection takes a moment, and that is no error
            if state.offline_since.elapsed() >= state.heartbeat.max(CONNECTING_GRACE) {
                state.errors.happened(CONNECTIVITY_ERROR, 1, self.clock.wall());
            }
            return;
        }
        let bytes_max = self.config.message_bytes_max.min(self.transport.payload_bytes_max());
        // What the first step brings is not known yet: it may be errors.
        let quiet = state.has_read || state.step_began.is_none();
        let errors = state.errors.tell(self.clock.monotonic(), self.clock.wall(), bytes_max / 2, quiet);
        let outbox_stalled = state
            .step_began
            .map(|began| began.elapsed())
            .filter(|stalled| *stalled >= STALL_TOLD_FROM && !self.reads_source.load(Ordering::Relaxed));
        let idle = match state.idle {
            _ if outbox_stalled.is_some() => false,
            Idle::Always => true,
            Idle::Until(due) => Instant::now() < due,
        };
        let heartbeat = Heartbeat {
            incarnation: self.config.incarnation,
            process: self.process.clone(),
            sequence: state.position.sequence,
            cursor: state.position.cursor,
            idle,
            interval: state.heartbeat,
            is_agent: self.config.is_agent,
            outbox_stalled,
        };
        let due = state.earlier_told.is_none_or(|told| told.elapsed() >= EARLIER_EVERY);
        let earlier = if due { self.earlier.clone() } else { Vec::new() };
        if due {
            state.earlier_told = Some(Instant::now());
        }
        let (host, confirmed) = (self.config.host.clone(), state.confirmed);
        let note = HeartbeatNote { host, heartbeat, confirmed, earlier, errors };
        drop(state);
        self.tell(TopicKind::Heartbeat, envelope::encode_heartbeat(&note), false);
    }

    pub(super) fn publish(&self, kind: TopicKind, payload: Vec<u8>, at_least_once: bool) -> Result<(), TransportError> {
        let topic = self.config.prefix.topic(&self.config.id, kind);
        self.transport.try_publish(Outgoing { topic, payload, at_least_once })
    }

    /// Says something that is said again when it was not heard: one that finds no room is no news.
    pub(super) fn tell(&self, kind: TopicKind, payload: Vec<u8>, at_least_once: bool) {
        if let Err(error) = self.publish(kind, payload, at_least_once) {
            tracing::debug!(%error, %kind, "a message was not sent");
        }
    }
}

/// The next event, when there is room for it; pending for ever when nobody takes events any more.
async fn next(
    events: &mut mpsc::Receiver<TransportEvent>,
    onward: Option<&mpsc::Sender<TransportEvent>>,
) -> Option<TransportEvent> {
    let Some(onward) = onward else { return std::future::pending().await };
    let _room = onward.reserve().await.ok()?;
    events.recv().await
}
