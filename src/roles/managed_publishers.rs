//! The publishers that the monitor starts itself, as child processes or in its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::actors::child::{Child, ChildConfig};
use crate::actors::publisher::{self, Feed, Life, Publisher, PublisherConfig};
use crate::config::{Mqtt, PublisherEntry, RunAs, Settings};
use crate::messages::child::{AskChild, ChildEnded, ChildSignal, Signal};
use crate::messages::notice::Announce;
use crate::roles::cli::PublishArgs;
use crate::roles::session::random_hex;
use crate::runtime::outlet::Outlet;
use crate::runtime::outlet_registry::OutletRegistry;
use crate::runtime::parts::drain;
use crate::runtime::supervisor::{Supervised, Supervisor};
use crate::web::ChildProcess;
use heartwatch_adapters::mqtt::{self, Will};
use heartwatch_domain::publisher::PublisherId;
use heartwatch_formats::envelope::{LastWill, TopicKind, encode_last_will};
use heartwatch_ports::ProcessTable;
use heartwatch_system::clock::Clock;

/// Who is told what becomes of the children.
pub struct Told {
    /// The watchdog: how a process ended.
    pub ended: Outlet<ChildEnded>,
    /// The notifier: that one is not started again.
    pub gave_up: Outlet<Announce>,
    /// Whoever shows the status, or wants one started again.
    pub children: OutletRegistry<Arc<dyn ChildProcess>>,
}

enum Started {
    Child(Supervised<Child>),
    Here(Supervised<Publisher>),
}

/// The publishers that the monitor has started.
pub struct ManagedPublishers {
    supervisor: Supervisor,
    clock: Clock,
    processes: Arc<dyn ProcessTable>,
    told: Told,
    started: BTreeMap<PublisherId, Started>,
    /// The program that is started as a child: this one, found once, so that an upgrade that replaces the
    /// file takes no publisher away.
    pub program: PathBuf,
}

impl ManagedPublishers {
    /// None yet.
    #[must_use]
    pub fn new(
        supervisor: Supervisor,
        clock: Clock,
        processes: Arc<dyn ProcessTable>,
        told: Told,
        program: PathBuf,
    ) -> Self {
        Self { supervisor, clock, processes, told, started: BTreeMap::new(), program }
    }

    /// Starts one, when there is something to start.
    ///
    /// # Errors
    /// When its file cannot be read; a child says so itself, in the log.
    pub async fn start(
        &mut self,
        settings: &Settings,
        mqtt_url: &str,
        publisher: &PublisherEntry,
    ) -> anyhow::Result<()> {
        let Some(managed) = &publisher.managed else { return Ok(()) };
        let heartbeat = settings.heartbeat_of(publisher);
        let id = publisher.id.clone();
        let started = match managed.run {
            RunAs::Child => {
                let mut config = ChildConfig::new(id.clone(), self.program.clone());
                let arguments = PublishArgs::for_child(settings, publisher, &mqtt_url.parse()?);
                config.arguments = arguments.context("it has no source")?.to_arguments();
                config.environment = PublishArgs::child_environment(settings);
                config.policy = managed.restart;
                config.limits = managed.restart_limits;
                config.report = Some(self.told.ended.clone());
                config.gave_up = Some((heartwatch_system::host::host_name()?, self.told.gave_up.clone()));
                let (clock, processes) = (self.clock, self.processes.clone());
                let child =
                    self.supervisor.start("child", move |_| Child::new(config.clone(), clock, processes.clone()));
                self.told.children.insert(id.clone(), Arc::new(child.address.clone()));
                Started::Child(child)
            }
            RunAs::InProcess => {
                let config = with_outbox(settings, id.clone(), managed.feed.clone(), heartbeat)?;
                Started::Here(start_here(
                    &self.supervisor,
                    self.clock,
                    self.processes.as_ref(),
                    &settings.mqtt,
                    mqtt_url,
                    config,
                    watch::Sender::new(None),
                )?)
            }
        };
        self.started.insert(id, started);
        Ok(())
    }

    /// Sends a signal to a child; answers with the PID that got it.
    pub async fn signal(&self, id: &PublisherId, signal: ChildSignal) -> Option<u32> {
        let Some(Started::Child(child)) = self.started.get(id) else { return None };
        child.address.outlet::<Signal>().deliver(Signal(signal)).await.ok().flatten()
    }

    /// The PID of a child, once it runs.
    pub async fn pid(&self, id: &PublisherId) -> Option<u32> {
        let Some(Started::Child(child)) = self.started.get(id) else { return None };
        let status = child.address.outlet::<AskChild>().deliver(AskChild).await.ok()?;
        status.identity.map(|identity| identity.pid)
    }

    /// Everyone that it has started.
    #[must_use]
    pub fn ids(&self) -> Vec<PublisherId> {
        self.started.keys().cloned().collect()
    }

    /// Ends one in order.
    pub async fn end(&mut self, id: &PublisherId, deadline: Instant) {
        self.told.children.remove(id);
        if let Some(started) = self.started.remove(id) {
            stop_one(started, deadline).await;
        }
    }

    /// Ends these in order, side by side.
    pub async fn end_some(&mut self, ids: &[PublisherId], deadline: Instant) {
        let ending: Vec<Started> = ids.iter().filter_map(|id| self.started.remove(id)).collect();
        for id in ids {
            self.told.children.remove(id);
        }
        futures_util::future::join_all(ending.into_iter().map(|started| stop_one(started, deadline))).await;
    }

    /// Ends all of them in order, side by side.
    pub async fn stop(self, deadline: Instant) {
        futures_util::future::join_all(self.started.into_values().map(|started| stop_one(started, deadline))).await;
    }
}

async fn stop_one(started: Started, deadline: Instant) {
    match started {
        Started::Child(child) => drain(child, deadline).await,
        Started::Here(publisher) => drain(publisher, deadline).await,
    }
}

/// A publisher of this feed on this host, with its outbox in the data directory.
///
/// # Errors
/// When this host has no usable name.
pub(super) fn with_outbox(
    settings: &Settings,
    id: PublisherId,
    feed: Feed,
    heartbeat: Duration,
) -> anyhow::Result<PublisherConfig> {
    let host = heartwatch_system::host::host_name()?;
    let outbox = settings.data_dir.join("outbox").join(format!("{id}.sqlite"));
    let mqtt = &settings.mqtt;
    Ok(PublisherConfig {
        outbox: Some(outbox),
        message_bytes_max: mqtt.options.message_bytes_max,
        ..PublisherConfig::new(id, host, mqtt.prefix.clone(), feed, heartbeat)
    })
}

/// Starts a publisher in this process.
///
/// # Errors
/// When its file or its outbox cannot be opened, or the connection cannot be configured.
pub(super) fn start_here(
    supervisor: &Supervisor,
    clock: Clock,
    processes: &dyn ProcessTable,
    mqtt: &Mqtt,
    mqtt_url: &str,
    config: PublisherConfig,
    ended: watch::Sender<Option<publisher::Ended>>,
) -> anyhow::Result<Supervised<Publisher>> {
    let process = processes.own_identity();
    // Who could guess it could throw it off its broker; its session ends with its connection anyway.
    let client_id = format!("heartwatch-publisher-{}-{}", config.id, random_hex()?);
    let mut connection = mqtt.client(mqtt_url, &client_id);
    // Readings that the broker would keep for us while we are away do not exist: it only sends confirmations.
    connection.clean_session = true;
    connection.send_queue_messages_max = SEND_QUEUE_MESSAGES_MAX;
    // It has promised a sign of life: after an outage of the broker it does not wait for longer than that.
    let options = &mut connection.options;
    options.backoff_max = options.backoff_max.min(config.heartbeat.max(options.backoff_min));
    connection.validate()?;
    let mut first = match publisher::prepare(config.clone(), clock) {
        Err(error) if error.waits_for_disk() => {
            tracing::error!("{error}");
            None
        }
        prepared => Some(prepared?),
    };
    let mut starts = 0_u64;
    let factory = move |_: &mut actix::Context<Publisher>| {
        let prepared = match first.take() {
            Some(prepared) => Ok(prepared),
            None => publisher::prepare(config.clone(), clock),
        };
        starts += 1;
        if let Err(error) = &prepared
            && error.waits_for_disk()
        {
            tracing::info!(tried = starts, "{error}");
            return Publisher::waiting_for_disk(clock, ended.clone());
        }
        let incarnation = prepared.as_ref().map_or(config.incarnation, |prepared| prepared.config().incarnation);
        let last_will = LastWill { host: config.host.clone(), incarnation };
        let topic = config.prefix.topic(&config.id, TopicKind::LastWill);
        let will = Will { topic, payload: encode_last_will(&last_will) };
        let filters = config.prefix.publisher_filters(&config.id);
        match mqtt::connect(connection.clone(), filters, Some(will), clock) {
            Ok((transport, events)) => {
                Publisher::new(Some(Life { prepared, transport, events }), clock, process.clone(), ended.clone())
            }
            Err(error) => {
                tracing::error!(%error, "the publisher cannot connect");
                Publisher::new(None, clock, process.clone(), ended.clone())
            }
        }
    };
    Ok(supervisor.start("publisher", factory))
}

/// Messages that wait for the connection; readings beyond it wait in the outbox.
const SEND_QUEUE_MESSAGES_MAX: usize = 1_000;
