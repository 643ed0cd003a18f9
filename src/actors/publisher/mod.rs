//! The publisher: a source of readings, an outbox that keeps each one until the monitor has confirmed
//! it, heartbeats, and a goodbye at the end.
//!
//! It runs in a program of its own (`heartwatch publish`) or inside the monitor. A panic loses
//! nothing: the next life starts a new incarnation and finds the unconfirmed readings in the outbox.

mod errors;
mod messages;
mod pace;
mod packet_limit;
mod pulse;
mod send_loop;
mod sending;
mod setback;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::{ActorFutureExt, WrapFuture};
use actix::{Actor, ActorContext, AsyncContext, Context, Handler, ResponseFuture};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::send_loop::SendLoop;
use self::worker::Worker;
use crate::messages::drain::Drain;
use crate::sources::arrivals::Arrivals;
use crate::sources::{Opened, Owner, SourceConfig, SourceError};
use heartwatch_domain::process::ProcessIdentity;
use heartwatch_domain::publisher::{HostName, Incarnation, PublisherId};
use heartwatch_domain::retransmitter::DeliveryLimits;
use heartwatch_formats::envelope::{PAYLOAD_BYTES_MAX, Prefix};
use heartwatch_ports::{Transport, TransportEvent};
use heartwatch_store::outbox::{FullPolicy, Outbox, OutboxConfig, OutboxError};
use heartwatch_system::clock::Clock;

/// Readings in one message of a publisher that reads as fast as it goes.
const BATCH_READINGS_MAX: usize = 500;
/// How long a publisher waits for its last confirmations.
const CONFIRM_GRACE: Duration = Duration::from_secs(10);
/// Most bytes of an outbox where nothing else is said: 64 MiB.
pub(crate) const OUTBOX_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The smallest outbox: the largest reading fits into it.
pub(crate) const OUTBOX_BYTES_MIN: u64 = 256 * 1024;

/// What a publisher reads, and how it publishes that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feed {
    /// What it reads.
    pub source: SourceConfig,
    /// The measurement of its readings; none: its id.
    pub measurement: Option<String>,
    /// Time between two readings; zero is as fast as the monitor confirms. A source with a pace of its own is read as
    /// rows come: it promises one at least this often, and zero promises nothing.
    pub interval: Duration,
    /// Whether it starts again at the end of the source.
    pub looping: bool,
    /// Most readings of this life; none: no end.
    pub limit: Option<u64>,
    /// Most bytes of its outbox.
    pub outbox_bytes_max: u64,
    /// What happens at that limit.
    pub full_policy: FullPolicy,
}

impl Feed {
    /// Of this source: a reading a second, again from the start at its end, an outbox of [`OUTBOX_BYTES_MAX`].
    #[must_use]
    pub fn new(source: SourceConfig) -> Self {
        Self {
            source,
            measurement: None,
            interval: Duration::from_secs(1),
            looping: true,
            limit: None,
            outbox_bytes_max: OUTBOX_BYTES_MAX,
            full_policy: FullPolicy::default(),
        }
    }
}

/// What a publisher does, and within which limits.
#[derive(Debug, Clone)]
pub(crate) struct PublisherConfig {
    pub id: PublisherId,
    /// The host that it runs on.
    pub host: HostName,
    /// The first part of its topics.
    pub prefix: Prefix,
    /// Which of its lives this is; set by [`prepare`].
    pub incarnation: Incarnation,
    /// What it reads, and how it publishes that.
    pub feed: Feed,
    /// Whether it is its host's agent, which answers questions after other processes there.
    pub is_agent: bool,
    /// Time between two heartbeats: what it promises.
    pub heartbeat: Duration,
    /// Most readings in one message.
    pub batch_readings_max: usize,
    /// Most bytes of one message. A reading that is longer counts as a bad row: no broker would take it.
    pub message_bytes_max: usize,
    /// What bounds sending.
    pub delivery: DeliveryLimits,
    /// How long it waits for the last confirmations at its end.
    pub confirm_grace: Duration,
    /// Its outbox; none keeps readings in memory.
    pub outbox: Option<PathBuf>,
}

impl PublisherConfig {
    /// A publisher of this feed at a broker, with the usual limits, and without an outbox on disk.
    pub(crate) fn new(id: PublisherId, host: HostName, prefix: Prefix, feed: Feed, heartbeat: Duration) -> Self {
        Self {
            id,
            host,
            prefix,
            incarnation: Incarnation(0),
            feed,
            is_agent: false,
            heartbeat,
            batch_readings_max: BATCH_READINGS_MAX,
            message_bytes_max: PAYLOAD_BYTES_MAX,
            delivery: DeliveryLimits::default(),
            confirm_grace: CONFIRM_GRACE,
            outbox: None,
        }
    }

    /// The measurement of its readings.
    fn measurement(&self) -> String {
        self.feed.measurement.clone().unwrap_or_else(|| self.id.to_string())
    }

    /// For whom its source is read.
    fn owner(&self) -> Owner {
        Owner {
            publisher: self.id.clone(),
            host: self.host.clone(),
            measurement: self.measurement(),
            interval: self.feed.interval,
            looping: self.feed.looping,
        }
    }
}

/// How a publisher ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Readings that it has produced in this life.
    pub produced: u64,
    /// Readings in its outbox that nobody has confirmed: the next start sends them.
    pub left: u64,
}

/// Why a publisher cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublisherError {
    /// Its source cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Its outbox cannot be opened.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

/// How long it is until a disk that takes nothing is tried again: so seldom that the supervisor does not give up.
const DISK_RETRY: Duration = Duration::from_secs(7);

/// A publisher that is ready to run: source and outbox are open, its incarnation is known.
pub(crate) struct Prepared {
    config: PublisherConfig,
    worker: Worker,
    arrivals: Option<Arrivals>,
}

impl Prepared {
    /// The configuration, with the incarnation.
    #[must_use]
    pub(crate) const fn config(&self) -> &PublisherConfig {
        &self.config
    }
}

/// Opens source and outbox. Blocks on the disk.
///
/// # Errors
/// [`PublisherError`], which names the file.
pub(crate) fn prepare(mut config: PublisherConfig, clock: Clock) -> Result<Prepared, PublisherError> {
    let Opened { source, arrivals } = config.feed.source.open(&config.owner(), clock)?;
    let outbox = OutboxConfig {
        path: config.outbox.clone(),
        bytes_max: config.feed.outbox_bytes_max,
        full_policy: config.feed.full_policy,
    };
    let now_micros = u64::try_from(clock.wall().as_nanos() / 1_000).unwrap_or(0);
    let (outbox, incarnation) = Outbox::open(outbox, now_micros)?;
    config.incarnation = incarnation;
    let worker = Worker::new(source, outbox, &config);
    Ok(Prepared { config, worker, arrivals })
}

impl PublisherError {
    /// Whether only the disk is in the way, so that it is tried again and again.
    #[must_use]
    pub(crate) const fn waits_for_disk(&self) -> bool {
        matches!(self, Self::Outbox(OutboxError::DiskFull { .. }))
    }
}

/// What one life of the actor runs on; a factory makes it anew for the next.
pub(crate) struct Life {
    /// Source and outbox, or why they could not be opened this time.
    pub prepared: Result<Prepared, PublisherError>,
    /// The connection.
    pub transport: Arc<dyn Transport>,
    /// What comes over it.
    pub events: mpsc::Receiver<TransportEvent>,
}

/// The actor.
pub(crate) struct Publisher {
    life: Option<Life>,
    clock: Clock,
    process: Option<ProcessIdentity>,
    stop: watch::Sender<Option<Instant>>,
    ended: watch::Sender<Option<Ended>>,
    /// How long a life without anything to run on lasts.
    waits: Duration,
}

impl Publisher {
    /// A life in which the disk takes nothing: it ends when it is time to look again.
    #[must_use]
    pub(crate) fn waiting_for_disk(clock: Clock, ended: watch::Sender<Option<Ended>>) -> Self {
        Self { waits: DISK_RETRY, ..Self::new(None, clock, None, ended) }
    }

    /// A life of the publisher; without anything to run on it ends at once, and its supervisor tries
    /// again. `ended` is told once, when it has ended in order.
    #[must_use]
    pub(crate) fn new(
        life: Option<Life>,
        clock: Clock,
        process: Option<ProcessIdentity>,
        ended: watch::Sender<Option<Ended>>,
    ) -> Self {
        Self { life, clock, process, stop: watch::Sender::new(None), ended, waits: Duration::ZERO }
    }
}

impl Actor for Publisher {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let Some(Life { prepared, transport, mut events }) = self.life.take() else {
            ctx.run_later(self.waits, |_, ctx| ctx.stop());
            return;
        };
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                tracing::error!(%error, "the publisher cannot start");
                return ctx.stop();
            }
        };
        let engine = match SendLoop::new(prepared, transport, self.clock, self.process.clone()) {
            Ok(engine) => engine,
            Err(error) => {
                tracing::error!(%error, "the publisher cannot read what it left in its outbox");
                return ctx.stop();
            }
        };
        let stop = self.stop.subscribe();
        let run = async move { engine.run(&mut events, stop).await };
        ctx.spawn(run.into_actor(self).map(|ended, actor, _| {
            actor.ended.send_replace(Some(ended));
        }));
    }
}

crate::messages::progress::answers_progress!(Publisher);

impl Handler<Drain> for Publisher {
    type Result = ResponseFuture<()>;
    fn handle(&mut self, drain: Drain, _: &mut Context<Self>) -> ResponseFuture<()> {
        self.stop.send_replace(Some(drain.deadline));
        let mut ended = self.ended.subscribe();
        Box::pin(async move {
            // The sender is this actor: when it is gone, so is what we wait for.
            let _ = ended.wait_for(Option::is_some).await;
        })
    }
}

#[cfg(test)]
mod tests;
