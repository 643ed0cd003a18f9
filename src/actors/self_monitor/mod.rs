//! Who watches the watchman: it asks every actor of this program whether it still handles messages,
//! has those ended that do not, and says outside that the monitor is well, for as long as it is.
//!
//! - To another heartwatch: a heartbeat over MQTT, under an id of its own.
//! - To systemd: `WATCHDOG=1`, twice within its patience.
//! - To a URL: a GET, whose absence raises the alarm elsewhere.
//!
//! It also writes down our own numbers: `heartwatch_internal`, and the account of every publisher.
//!
//! All actors share one thread. One that *waits* for ever is ended and started again; one that *blocks*
//! the thread stops the watchman with all the others. Then nothing of the above is said any more, and
//! systemd ends the program: that is what its watchdog is for.

mod ledger;
mod rows;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::{ActorFutureExt, WrapFuture};
use actix::{Actor, AsyncContext, Context, Handler, Message, MessageResult, ResponseFuture};
use futures_util::future::join_all;

pub use self::ledger::Written;
use self::rows::DatabaseErrors;
pub use self::rows::internal_rows;
use crate::messages::ask::{AskLedger, AskObserver, AskStatus};
use crate::messages::drain::Drain;
use crate::messages::intake::Intake;
use crate::messages::notice::AskNotifications;
use crate::messages::progress::{AskMonitor, AskProgress};
use crate::runtime::actor_health::Register;
use crate::runtime::outlet::{Outlet, Undelivered};
use heartwatch_domain::beat::Heartbeat;
use heartwatch_domain::process::ProcessIdentity;
use heartwatch_domain::publisher::{HostName, Incarnation, PublisherId};
use heartwatch_domain::roster::ObserverState;
use heartwatch_domain::status::MonitorStatus;
use heartwatch_formats::api::accounts_by_publisher;
use heartwatch_formats::envelope::{Goodbye, HeartbeatNote, Prefix, TopicKind, encode_goodbye, encode_heartbeat};
use heartwatch_ports::{Outgoing, Ping, ServiceManager, Transport};
use heartwatch_system::clock::Clock;

/// How long an actor may take to answer a question for a snapshot.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the monitor looks after itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelfMonitorPace {
    /// How often it says that it lives.
    pub heartbeat: Duration,
    /// How often the configured URL is told that it is well.
    pub ping_interval: Duration,
    /// How often its own actors are asked whether they still handle messages, and how long one may take to answer.
    pub check_interval: Duration,
}

impl Default for SelfMonitorPace {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(5),
            ping_interval: Duration::from_secs(60),
            check_interval: Duration::from_secs(5),
        }
    }
}

/// Who we are and how often we look.
#[derive(Debug, Clone)]
pub struct SelfMonitorConfig {
    /// Under which id other monitors watch us.
    pub id: PublisherId,
    /// Where we run.
    pub host: HostName,
    /// Which of our lives this is.
    pub incarnation: Incarnation,
    /// Our own PID, start time and boot; none where the system does not tell.
    pub process: Option<ProcessIdentity>,
    /// What our topics start with.
    pub prefix: Prefix,
    /// How often it beats, asks and pings.
    pub pace: SelfMonitorPace,
    /// One that did not answer so often in a row is ended and started again.
    pub unanswered_max: u32,
    /// How often our own numbers are written to `heartwatch_internal`.
    pub internal_every: Duration,
    /// How often the ledger is looked at for changes, which are written to `heartwatch_ledger`.
    pub ledger_every: Duration,
}

impl SelfMonitorConfig {
    /// The defaults.
    #[must_use]
    pub fn new(id: PublisherId, host: HostName, incarnation: Incarnation) -> Self {
        Self {
            id,
            host,
            incarnation,
            process: None,
            prefix: Prefix::default(),
            pace: SelfMonitorPace::default(),
            unanswered_max: 3,
            internal_every: Duration::from_secs(30),
            ledger_every: Duration::from_secs(5),
        }
    }
}

/// A configuration that was read again: it counts from now on, over all lives.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub struct SetSelfMonitor {
    /// Who we are and how often we look.
    pub config: SelfMonitorConfig,
    /// The URL to ping, when there is one.
    pub ping: Option<Arc<dyn Ping>>,
}

/// Whom the watchman asks and tells.
#[derive(Clone)]
pub struct Outlets {
    /// Every supervised actor.
    pub register: Register,
    /// The watchdog: whether we hear anything.
    pub observer: Outlet<AskObserver>,
    /// The watchdog: on which host each publisher is.
    pub status: Outlet<AskStatus>,
    /// The writer: whether the journal answers.
    pub ledger: Outlet<AskLedger>,
    /// The notifier, for its account.
    pub notifications: Outlet<AskNotifications>,
    /// The writer, for our own numbers.
    pub intake: Outlet<Intake>,
    /// The broker.
    pub transport: Arc<dyn Transport>,
    /// systemd.
    pub service_manager: Arc<dyn ServiceManager>,
}

/// What the watchman knows, over all its lives.
pub struct Record {
    settings: SetSelfMonitor,
    healthy: bool,
    beats: u64,
    pings: u64,
    pings_failed: u64,
    ping_error: String,
    accounts: Written,
    database_errors: DatabaseErrors,
}

impl Record {
    /// Nothing done yet.
    #[must_use]
    pub fn new(settings: SetSelfMonitor) -> Self {
        // Well until somebody does not answer: the program has just started all of them.
        Self {
            settings,
            healthy: true,
            beats: 0,
            pings: 0,
            pings_failed: 0,
            ping_error: String::new(),
            accounts: Written::default(),
            database_errors: DatabaseErrors::default(),
        }
    }
}

/// The actor. Build each of its lives with the same [`Record`].
pub struct SelfMonitor {
    config: SelfMonitorConfig,
    ping: Option<Arc<dyn Ping>>,
    outlets: Outlets,
    clock: Clock,
    record: Rc<RefCell<Record>>,
    /// Whether the next ping is due some time.
    pings: bool,
}

impl SelfMonitor {
    /// A life of the watchman.
    #[must_use]
    pub fn new(outlets: Outlets, clock: Clock, record: Rc<RefCell<Record>>) -> Self {
        let SetSelfMonitor { config, ping } = record.borrow().settings.clone();
        Self { config, ping, outlets, clock, record, pings: false }
    }

    /// Asks everyone at once, ends those that are stuck, and comes again.
    fn check(&mut self, ctx: &mut Context<Self>) {
        let (everyone, timeout) = (self.outlets.register.everyone(), self.config.pace.check_interval);
        let asked = everyone.into_iter().map(|vitals| async move {
            let answer = vitals.outlet().ask(AskProgress, timeout).await;
            (vitals, answer)
        });
        ctx.spawn(join_all(asked).into_actor(self).map(|answers, actor, ctx| {
            let mut healthy = true;
            fail::fail_point!("watchman::answers");
            for (vitals, answer) in answers {
                match answer {
                    Ok(()) => vitals.answered(),
                    // It is between two lives: the supervisor is at it already.
                    Err(Undelivered::Stopped { .. } | Undelivered::Poison { .. }) => {}
                    Err(Undelivered::TimedOut { .. }) => {
                        healthy = false;
                        let (name, unanswered) = (vitals.name(), vitals.did_not_answer());
                        tracing::warn!(actor = name, unanswered, "an actor does not answer");
                        if unanswered >= actor.config.unanswered_max {
                            vitals.end_life();
                        }
                    }
                }
            }
            actor.record.borrow_mut().healthy = healthy;
            ctx.run_later(actor.config.pace.check_interval, Self::check);
        }));
    }

    fn is_healthy(&self) -> bool {
        self.record.borrow().healthy
    }

    fn tell_service_manager(&mut self, ctx: &mut Context<Self>) {
        let Some(patience) = self.outlets.service_manager.patience() else { return };
        if self.is_healthy() {
            let service_manager = self.outlets.service_manager.clone();
            // Off this thread: its socket may be full.
            tokio::task::spawn_blocking(move || service_manager.alive());
        }
        ctx.run_later(patience / 2, Self::tell_service_manager);
    }

    fn beat(&mut self, ctx: &mut Context<Self>) {
        if self.is_healthy() {
            let beats = {
                let mut record = self.record.borrow_mut();
                record.beats += 1;
                record.beats
            };
            let config = &self.config;
            let heartbeat = Heartbeat {
                is_agent: false,
                outbox_stalled: None,
                incarnation: config.incarnation,
                process: config.process.clone(),
                sequence: 0,
                cursor: beats,
                // It has no readings, and it is right that there are none.
                idle: true,
                interval: config.pace.heartbeat,
            };
            let note = HeartbeatNote {
                host: config.host.clone(),
                heartbeat,
                confirmed: 0,
                earlier: Vec::new(),
                errors: Default::default(),
            };
            let topic = config.prefix.topic(&config.id, TopicKind::Heartbeat);
            let beat = Outgoing { topic, payload: encode_heartbeat(&note), at_least_once: false };
            if let Err(error) = self.outlets.transport.try_publish(beat) {
                tracing::debug!(%error, "our own heartbeat was not sent");
            }
        }
        ctx.run_later(self.config.pace.heartbeat, Self::beat);
    }

    /// Well is: every actor answers, the journal too, and we hear our broker.
    fn ping(&mut self, ctx: &mut Context<Self>) {
        self.pings = self.ping.is_some();
        let Some(ping) = self.ping.clone() else { return };
        let (healthy, outlets) = (self.is_healthy(), self.outlets.clone());
        let ping = async move {
            if !healthy {
                return Err("an actor of the monitor does not answer".to_owned());
            }
            let (observer, ledger) = tokio::join!(
                outlets.observer.ask(AskObserver, ASK_TIMEOUT),
                outlets.ledger.ask(AskLedger, ASK_TIMEOUT)
            );
            let observer = observer.map_err(|error| error.to_string())?;
            ledger.map_err(|error| error.to_string())?;
            if observer.state != ObserverState::Ok {
                return Err(format!("the monitor doubts itself: {}", observer.reason));
            }
            ping.ping().await
        };
        ctx.spawn(ping.into_actor(self).map(|pinged, actor, ctx| {
            let mut record = actor.record.borrow_mut();
            match pinged {
                Ok(()) => {
                    record.pings += 1;
                    if !std::mem::take(&mut record.ping_error).is_empty() {
                        tracing::info!("the ping URL is told again that we are well");
                    }
                }
                Err(reason) => {
                    record.pings_failed += 1;
                    if record.ping_error.is_empty() {
                        tracing::warn!(reason, "the ping URL was not told that we are well");
                    }
                    record.ping_error = reason;
                }
            }
            drop(record);
            ctx.run_later(actor.config.pace.ping_interval, Self::ping);
        }));
    }

    fn write_numbers(&mut self, ctx: &mut Context<Self>) {
        let (monitor, outlets, time) = (self.status(), self.outlets.clone(), self.clock.wall());
        let (record, id, host) = (self.record.clone(), self.config.id.clone(), self.config.host.clone());
        let write = async move {
            let targets = outlets.notifications.ask(AskNotifications, ASK_TIMEOUT).await.unwrap_or_default();
            let ledger = outlets.ledger.ask(AskLedger, ASK_TIMEOUT).await.ok();
            let mut rows: Vec<_> = internal_rows(&monitor, &targets, ledger.as_ref(), time).into_iter().collect();
            if let Some(ledger) = &ledger {
                rows.extend(record.borrow_mut().database_errors.rows(&id, &host, ledger, time));
            }
            if rows.is_empty() {
                return;
            }
            if let Err(error) = outlets.intake.deliver(Intake(Arc::new(rows))).await {
                tracing::debug!(%error, "the monitor's own numbers were not written");
            }
        };
        ctx.spawn(write.into_actor(self).map(|(), actor, ctx| {
            ctx.run_later(actor.config.internal_every, Self::write_numbers);
        }));
    }

    fn write_accounts(&mut self, ctx: &mut Context<Self>) {
        let (outlets, record, clock) = (self.outlets.clone(), self.record.clone(), self.clock);
        let write = async move {
            let asked =
                tokio::join!(outlets.ledger.ask(AskLedger, ASK_TIMEOUT), outlets.status.ask(AskStatus, ASK_TIMEOUT));
            let (Ok(ledger), Ok(status)) = asked else { return };
            let hosts = status.publishers.into_iter().map(|publisher| (publisher.id, publisher.host)).collect();
            let accounts = accounts_by_publisher(&ledger.accounts);
            let rows = record.borrow_mut().accounts.due(accounts, &hosts, clock.monotonic(), clock.wall());
            let Some(rows) = rows else { return };
            if let Err(error) = outlets.intake.deliver(Intake(Arc::new(vec![rows]))).await {
                tracing::debug!(%error, "accounts were not written");
            }
        };
        ctx.spawn(write.into_actor(self).map(|(), actor, ctx| {
            ctx.run_later(actor.config.ledger_every, Self::write_accounts);
        }));
    }

    fn status(&self) -> MonitorStatus {
        let record = self.record.borrow();
        MonitorStatus {
            id: self.config.id.to_string(),
            healthy: record.healthy,
            actors: self.outlets.register.everyone().iter().map(|vitals| vitals.status()).collect(),
            pings: record.pings,
            pings_failed: record.pings_failed,
            ping_error: record.ping_error.clone(),
        }
    }
}

impl Actor for SelfMonitor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.check(ctx);
        self.tell_service_manager(ctx);
        self.beat(ctx);
        self.ping(ctx);
        ctx.run_later(self.config.internal_every, Self::write_numbers);
        ctx.run_later(self.config.ledger_every, Self::write_accounts);
    }
}

crate::messages::progress::answers_progress!(SelfMonitor);
impl Handler<AskMonitor> for SelfMonitor {
    type Result = MessageResult<AskMonitor>;
    fn handle(&mut self, _: AskMonitor, _: &mut Context<Self>) -> MessageResult<AskMonitor> {
        MessageResult(self.status())
    }
}

impl Handler<SetSelfMonitor> for SelfMonitor {
    type Result = ();

    /// Each of the loops goes by it from its next turn on.
    fn handle(&mut self, settings: SetSelfMonitor, ctx: &mut Context<Self>) {
        self.config = settings.config.clone();
        self.ping = settings.ping.clone();
        self.record.borrow_mut().settings = settings;
        if !self.pings {
            self.ping(ctx);
        }
    }
}

impl Handler<Drain> for SelfMonitor {
    type Result = ResponseFuture<()>;

    /// Says goodbye, so that a monitor that ends in order is not taken for a dead one.
    fn handle(&mut self, Drain { deadline }: Drain, _: &mut Context<Self>) -> Self::Result {
        let config = &self.config;
        let goodbye = Goodbye { host: config.host.clone(), incarnation: config.incarnation, sequence: 0 };
        let topic = config.prefix.topic(&config.id, TopicKind::Goodbye);
        let goodbye = Outgoing { topic, payload: encode_goodbye(&goodbye), at_least_once: true };
        let transport = self.outlets.transport.clone();
        Box::pin(async move {
            match tokio::time::timeout_at(deadline, transport.publish(goodbye)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "our goodbye was not sent"),
                Err(_) => tracing::debug!("our goodbye was not sent in time"),
            }
        })
    }
}
