//! The influx writer: makes rows and verdicts durable, confirms them, and has them delivered.
//!
//! Rows go into the journal, and the reply comes after the commit. A loop of its own takes them
//! from there to the sink (`delivery_loop.rs`); without a sink the journal is where they stay. Everything
//! that must survive is in the journal, so a new life of the writer goes on where the last one was.

mod bisection;
mod delivery_loop;
mod sink_health;
mod writer_state;

use std::cell::{OnceCell, RefCell};
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::{ActorFutureExt, WrapFuture};
use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, ResponseActFuture};
use tokio::sync::watch;
use tokio::time::Instant;

use self::delivery_loop::DeliveryLoop;
use self::sink_health::Health;
pub use self::writer_state::WriterCounters;
use self::writer_state::WriterState;
use crate::messages::ask::AskLedger;
use crate::messages::change::{RecordChanges, RecordStanding};
use crate::messages::drain::Drain;
use crate::messages::intake::Intake;
use heartwatch_domain::intake::AppendReceipt;
use heartwatch_domain::ledger::{LOSSES_MAX, LedgerReply, SinkStatus};
use heartwatch_ports::Sink;
use heartwatch_store::journal::{Journal, JournalError};
use heartwatch_system::clock::Clock;
use heartwatch_system::dedicated_thread::DedicatedThread;
use heartwatch_system::poll_once::poll_once;

/// First and longest wait before the journal is asked again after it refused.
const JOURNAL_RETRY_MIN: Duration = Duration::from_millis(100);
const JOURNAL_RETRY_MAX: Duration = Duration::from_secs(5);

/// How rows are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterConfig {
    /// Most rows in one request.
    pub batch_rows_max: u64,
    /// Most bytes of rows in one request, before compression.
    pub batch_bytes_max: usize,
    /// Longest time that a row waits for others.
    pub flush_interval: Duration,
    /// First wait after a failed request, and the only one while nothing listens.
    pub backoff_min: Duration,
    /// Longest wait after a failed request.
    pub backoff_max: Duration,
    /// Wait while the configuration is wrong (token, database).
    pub misconfigured_retry: Duration,
}

impl Default for WriterConfig {
    fn default() -> Self {
        Self {
            batch_rows_max: 20_000,
            batch_bytes_max: 4 * 1024 * 1024,
            flush_interval: Duration::from_secs(1),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(1),
            misconfigured_retry: Duration::from_secs(30),
        }
    }
}

/// Where rows go from now on, and how: a configuration that was read again. A request that is under way is
/// given up and its rows are sent again; writing a row twice changes nothing.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub struct SetSink {
    /// Where; `None`: rows stay in the journal.
    pub sink: Option<Arc<dyn Sink>>,
    /// How.
    pub config: WriterConfig,
}

/// What every life of one writer is built from. Clones share everything.
#[derive(Clone)]
pub struct WriterParts {
    journal: Journal,
    aim: Rc<RefCell<SetSink>>,
    clock: Clock,
    shared: Arc<WriterState>,
    /// Where the loop runs; none before the first one.
    thread: Rc<OnceCell<DedicatedThread>>,
}

impl WriterParts {
    /// Parts for a writer on this thread; without a sink rows stay in the journal.
    #[must_use]
    pub fn new(journal: Journal, sink: Option<Arc<dyn Sink>>, clock: Clock, config: WriterConfig) -> Self {
        let aim = Rc::new(RefCell::new(SetSink { sink, config }));
        Self { journal, aim, clock, shared: Arc::default(), thread: Rc::default() }
    }

    /// The counters over all lives so far.
    #[must_use]
    pub fn counters(&self) -> WriterCounters {
        self.shared.counters()
    }

    fn thread(&self) -> io::Result<&DedicatedThread> {
        match self.thread.get() {
            Some(thread) => Ok(thread),
            None => DedicatedThread::start("delivery").map(|thread| self.thread.get_or_init(|| thread)),
        }
    }
}

/// The actor. Build each of its lives with clones of the same [`WriterParts`].
pub struct InfluxWriter {
    parts: WriterParts,
    delivery: Option<DeliveryTask>,
}

/// The loop of one life; it ends when this is dropped.
struct DeliveryTask {
    abort: tokio::task::AbortHandle,
    drain: watch::Sender<Option<Instant>>,
    ended: watch::Receiver<bool>,
}

impl Drop for DeliveryTask {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

impl InfluxWriter {
    /// A life of the writer.
    #[must_use]
    pub const fn new(parts: WriterParts) -> Self {
        Self { parts, delivery: None }
    }

    fn start_delivery(&mut self, ctx: &mut Context<Self>) {
        let SetSink { sink: Some(sink), config } = self.parts.aim.borrow().clone() else { return };
        let runtime = match self.parts.thread() {
            Ok(thread) => &thread.runtime,
            Err(error) => {
                tracing::error!(%error, "rows stay on disk: there is no thread to deliver them; trying again");
                return ctx.stop();
            }
        };
        let (drain, draining) = watch::channel(None);
        let (ends, ended) = watch::channel(false);
        let delivery = DeliveryLoop::new(&self.parts, sink, config, draining);
        let task = runtime.spawn(async move {
            delivery.run().await;
            ends.send_replace(true);
        });
        self.delivery = Some(DeliveryTask { abort: task.abort_handle(), drain, ended });
        ctx.spawn(task.into_actor(self).map(|end, _, ctx| {
            if end.is_err_and(|error| error.is_panic()) {
                tracing::error!("the delivery loop panicked: the writer starts again");
                ctx.stop();
            }
        }));
    }

    /// Asks the journal until it has done it. The reply of a message waits for that, so nothing is
    /// confirmed that is not on disk, and its senders slow down.
    fn until_done<T: 'static, F: Future<Output = Result<T, JournalError>> + 'static>(
        &self,
        attempt: impl Fn(Journal) -> F + 'static,
    ) -> ResponseActFuture<Self, T> {
        let (journal, shared) = (self.parts.journal.clone(), self.parts.shared.clone());
        let done = async move {
            let mut wait = JOURNAL_RETRY_MIN;
            loop {
                match attempt(journal.clone()).await {
                    Ok(reply) => {
                        fail::fail_point!("writer::written");
                        shared.journal_worked();
                        return reply;
                    }
                    // the end of the program: no reply is the honest one, the sender keeps what it has
                    Err(JournalError::Closed) => std::future::pending().await,
                    Err(error) => shared.journal_failed(&error),
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(JOURNAL_RETRY_MAX);
            }
        };
        // in the order in which it came: readings that overtake others leave gaps, and cost the journal more
        Box::pin(poll_once(done).into_actor(self))
    }

    fn sink_status(&self) -> SinkStatus {
        let (level, shared) = (self.parts.journal.level(), &self.parts.shared);
        let aim = self.parts.aim.borrow();
        let sink = aim.sink.as_ref();
        let counters = shared.counters();
        SinkStatus {
            name: sink.map_or("embedded", |sink| sink.name()).to_owned(),
            state: shared.health().as_str().to_owned(),
            buffered_rows: sink.map_or(0, |_| level.undelivered_rows),
            buffered_bytes: sink.map_or(0, |_| level.undelivered_bytes),
            last_error: shared.last_error(),
            dead_letters: level.dead_letters,
            moved_rows: level.moved_rows,
            rows_stored: counters.rows_stored,
            writes: counters.writes,
            write_ms: u64::try_from(counters.write_time.as_millis()).unwrap_or(u64::MAX),
            retries: counters.retries,
            absences: counters.absences,
        }
    }
}

impl Actor for InfluxWriter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.start_delivery(ctx);
    }
}

crate::messages::progress::answers_progress!(InfluxWriter);

impl Handler<SetSink> for InfluxWriter {
    type Result = ();
    fn handle(&mut self, aim: SetSink, ctx: &mut Context<Self>) {
        *self.parts.aim.borrow_mut() = aim;
        self.parts.shared.set_sink(Health::Ok, "");
        self.delivery = None;
        self.start_delivery(ctx);
    }
}

impl Handler<Intake> for InfluxWriter {
    type Result = ResponseActFuture<Self, AppendReceipt>;
    fn handle(&mut self, intake: Intake, _: &mut Context<Self>) -> Self::Result {
        self.until_done(move |journal| {
            let entries = intake.0.clone();
            async move { journal.append(entries).await }
        })
    }
}

impl Handler<RecordChanges> for InfluxWriter {
    type Result = ResponseActFuture<Self, ()>;
    fn handle(&mut self, changes: RecordChanges, _: &mut Context<Self>) -> Self::Result {
        self.until_done(move |journal| {
            let changes = changes.0.clone();
            async move { journal.record_changes(changes).await }
        })
    }
}

impl Handler<RecordStanding> for InfluxWriter {
    type Result = ResponseActFuture<Self, ()>;
    fn handle(&mut self, standing: RecordStanding, _: &mut Context<Self>) -> Self::Result {
        let (journal, shared) = (self.parts.journal.clone(), self.parts.shared.clone());
        let once = async move {
            // repeated every few seconds anyway: a failed one is counted and not tried again
            match journal.record_standing(standing.0).await {
                Ok(()) => shared.journal_worked(),
                Err(error) => shared.journal_failed(&error),
            }
        };
        Box::pin(once.into_actor(self))
    }
}

impl Handler<AskLedger> for InfluxWriter {
    type Result = ResponseActFuture<Self, LedgerReply>;
    fn handle(&mut self, _: AskLedger, _: &mut Context<Self>) -> Self::Result {
        let journal = self.parts.journal.clone();
        let asked = async move { (journal.accounts().await, journal.losses().await) };
        Box::pin(asked.into_actor(self).map(|(accounts, losses), actor, _| {
            let mut status = actor.sink_status();
            let accounts = accounts.unwrap_or_else(|error| {
                status.last_error = error.to_string();
                Vec::new()
            });
            let mut losses = losses.unwrap_or_default();
            let losses_left_out = losses.len().saturating_sub(LOSSES_MAX) as u64;
            losses.truncate(LOSSES_MAX);
            let since = Some(actor.parts.journal.accounts_since());
            LedgerReply { accounts, losses, losses_left_out, since, sinks: vec![status] }
        }))
    }
}

impl Handler<Drain> for InfluxWriter {
    type Result = ResponseActFuture<Self, ()>;
    fn handle(&mut self, drain: Drain, _: &mut Context<Self>) -> Self::Result {
        let ended = self.delivery.as_ref().map(|delivery| {
            delivery.drain.send_replace(Some(drain.deadline));
            delivery.ended.clone()
        });
        let journal = self.parts.journal.clone();
        let done = async move {
            let Some(mut ended) = ended else { return };
            // an error: the loop is gone, which is an end as well
            let end = tokio::time::timeout_at(drain.deadline, ended.wait_for(|ended| *ended)).await;
            let waiting_rows = journal.level().undelivered_rows;
            if waiting_rows > 0 {
                tracing::info!(waiting_rows, in_time = end.is_ok(), "rows stay on disk for the next start");
            }
        };
        Box::pin(done.into_actor(self))
    }
}
