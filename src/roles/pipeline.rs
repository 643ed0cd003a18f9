//! The monitor, wired: journal ← writer ← watchdog ← subscriber ← broker, with the probe and the notifier
//! beside the watchdog, and the watchman and the page before all of them. `run` and `demo` start the same one.
//!
//! Parts are started downstream first and stopped upstream first, both from the one list in
//! `Parts`.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{broadcast, mpsc};

use crate::actors::alarms::{self, Alarms, AlarmsParts};
use crate::actors::influx_writer::{InfluxWriter, SetSink, WriterParts};
use crate::actors::notifier::Notifier;
use crate::actors::process_probe::{ProcessProbe, ProcessProbeConfig};
use crate::actors::self_monitor::{self, SelfMonitor, SetSelfMonitor};
use crate::actors::subscriber::{self, SetTopics, Subscriber};
use crate::actors::watchdog::{self, Watchdog};
use crate::config::Settings;
use crate::messages::alarms::SetRules;
use crate::messages::ask::AskStatus;
use crate::messages::change::SetDeadlines;
use crate::messages::drain::StopWithMonitor;
use crate::messages::notice::SetTargets;
use crate::roles::connection::{Connection, IngestOutlets};
use crate::roles::kafka_intake::KafkaIntake;
use crate::roles::lease_view::LeaseView;
use crate::roles::managed_publishers::{self, ManagedPublishers};
use crate::roles::notification_wiring;
use crate::roles::notification_wiring::Identity;
use crate::roles::queues::queues;
use crate::roles::session::{ask_agents, look_for_damage, wanted};
use crate::roles::takeover::Guard;
use crate::runtime::outlet::Outlet;
use crate::runtime::outlet_registry::OutletRegistry;
use crate::runtime::parts::Parts;
use crate::runtime::supervisor::{Escalation, Guarded};
use crate::web;
use heartwatch_adapters::broker::{self, EmbeddedBroker};
use heartwatch_adapters::influx::InfluxSink;
use heartwatch_adapters::process::HostProcesses;
use heartwatch_adapters::service_manager::SystemdNotify;
use heartwatch_domain::roster::ObserverState;
use heartwatch_domain::roster::{Roster, RosterConfig};
use heartwatch_domain::watch::LocalHost;
use heartwatch_fleet::agents::Agents;
use heartwatch_ports::{
    AgentAnswer, AgentChannel, ProcessTable, ReceivedRows, RemoteProbe, ServiceManager, Sink, Transport, TransportEvent,
};
use heartwatch_store::journal::{Journal, JournalConfig};
use heartwatch_store::last_seen::LastSeenFile;
use heartwatch_store::maintenance::MaintenanceFile;
use heartwatch_system::clock::Clock;
use heartwatch_system::damage_log::DamageLog;

/// Verdict changes that a slow listener may be behind before it is told that it missed some.
const LIVE_CHANGES_MAX: usize = 4_096;

/// How often a monitor that starts looks whether it hears.
const HEARS_LOOK_EVERY: Duration = Duration::from_millis(5);

/// A running monitor.
pub struct Pipeline {
    /// The clock that all of its parts share.
    pub clock: Clock,
    /// Whom to ask.
    pub ports: web::Ports,
    /// The publishers that it has started.
    pub feeds: ManagedPublishers,
    /// Where its broker is.
    pub mqtt_url: String,
    /// Where its page is, when it is on.
    pub page: Option<String>,
    /// Whom to tell that all of it runs.
    pub service_manager: Arc<dyn ServiceManager>,
    /// What has failed for good.
    pub escalations: mpsc::Receiver<Escalation>,
    /// What a reload may change while all of this runs.
    pub(super) changeable: Changeable,
    pub(super) broker: Option<EmbeddedBroker>,
    parts: Parts,
}

/// What stands before and behind the parts that every monitor has.
pub struct Ends {
    /// Where publishers come in.
    pub front: Front,
    /// Where rows go beyond the journal.
    pub sink: Option<Arc<dyn Sink>>,
    /// Whether rows carry their numbers, for a sink that hands them on to another monitor.
    pub numbers_in_rows: bool,
    /// Where each reading is written down for a person.
    pub received: Option<Arc<dyn ReceivedRows>>,
}

/// Where publishers come in.
pub enum Front {
    /// By the broker of the settings.
    Broker,
    /// By a transport that is there already.
    Given {
        /// What confirmations go over.
        transport: Arc<dyn Transport>,
        /// What comes over it.
        events: mpsc::Receiver<TransportEvent>,
        /// Where it is, for a person.
        url: String,
    },
}

/// The parts that take a new configuration while they run.
pub(super) struct Changeable {
    pub identity: Identity,
    pub processes: Arc<dyn ProcessTable>,
    pub journal: Journal,
    pub aim: Outlet<SetSink>,
    pub deadlines: Outlet<SetDeadlines>,
    pub stopping: Outlet<StopWithMonitor>,
    pub targets: Outlet<SetTargets>,
    pub topics: Outlet<SetTopics>,
    pub rules: Outlet<SetRules>,
    pub watchman: Outlet<SetSelfMonitor>,
    pub connection: Connection,
    pub agents: Agents,
    pub takers: IngestOutlets,
    pub kafka: KafkaIntake,
    pub nodes: LeaseView,
    pub server: PageServer,
}

/// The page's server, when it is on.
pub(super) type PageServer = Rc<RefCell<Option<web::Server>>>;

/// Starts a monitor on this thread, which must live as long as the program: children are tied to it.
///
/// # Errors
/// When a part cannot start: a taken port, a file in use, a wrong certificate. Its message says which
/// and what to do.
pub async fn start(settings: &Settings) -> anyhow::Result<Pipeline> {
    let sink = influx_sink(settings)?;
    let ends = Ends { front: Front::Broker, sink, numbers_in_rows: false, received: None };
    start_between(settings, ends, Clock::start()).await
}

/// Where rows end up beyond the journal.
///
/// # Errors
/// When the HTTP client cannot be made.
pub(super) fn influx_sink(settings: &Settings) -> anyhow::Result<Option<Arc<dyn Sink>>> {
    let Some(config) = &settings.influx else { return Ok(None) };
    Ok(Some(Arc::new(InfluxSink::new(config.clone())?)))
}

/// This host and boot.
///
/// # Errors
/// When the system's host name has no letter that a host name may have.
fn home(table: &dyn ProcessTable) -> anyhow::Result<LocalHost> {
    let (boot_id, pid) = table.own_identity().map(|identity| (identity.boot_id, identity.pid)).unzip();
    Ok(LocalHost { host: heartwatch_system::host::host_name()?, boot_id, pid })
}

/// Starts the same parts between other ends.
///
/// # Errors
/// As [`start`].
pub async fn start_between(settings: &Settings, ends: Ends, clock: Clock) -> anyhow::Result<Pipeline> {
    let identity = notification_wiring::identity(settings, clock)?;
    let (mut parts, escalations) = Parts::new(clock);
    let processes: Arc<dyn ProcessTable> = Arc::new(HostProcesses::new(clock));
    std::fs::create_dir_all(&settings.data_dir)
        .with_context(|| format!("cannot make the data directory {}", settings.data_dir.display()))?;

    let damage = DamageLog::new(clock);
    let config = JournalConfig { has_sink: ends.sink.is_some(), ..settings.journal() };
    let (journal, recovery) = Journal::open_with(config, damage.clone())?;
    let opened = journal.clone();
    if recovery.undelivered_rows > 0 {
        tracing::info!(rows = recovery.undelivered_rows, "rows of an earlier run wait on disk");
    }
    let closing = journal.clone();
    parts.started("journal", move |_| async move { closing.close().await });

    let state = WriterParts::new(journal, ends.sink, clock, settings.writer);
    let writer = parts.start_draining("influx writer", move |_| InfluxWriter::new(state.clone()));

    let table = processes.clone();
    let agents = Agents::new(clock);
    let remote: Arc<dyn RemoteProbe> = Arc::new(agents.clone());
    let probe = parts.start("process probe", move |_| {
        ProcessProbe::new(table.clone(), clock, ProcessProbeConfig::default()).with_agents(remote.clone())
    });

    let history = Arc::new(opened.clone());
    let state =
        notification_wiring::notifier(settings, &identity, recovery.last_epoch, history.clone(), &damage, clock)?;
    let notifier = parts.start_draining("notifier", move |_| Notifier::new(state.clone()));

    let (live, _) = broadcast::channel(LIVE_CHANGES_MAX);
    let (windows, open_windows) = MaintenanceFile::open(&settings.data_dir.join("maintenance.json"), &damage);
    let home = home(processes.as_ref())?;
    let (last_seen_file, last_seen) = LastSeenFile::open(&settings.data_dir.join("last-seen.json"), &damage);
    let config =
        RosterConfig { windows: open_windows, last_seen, monitor: Some(identity.id.clone()), ..settings.roster(home) };
    let (now, wall) = (clock.monotonic(), clock.wall());
    let roster = Roster::new(config, &recovery.last_changes, recovery.last_epoch, now, wall);
    let roster = Rc::new(RefCell::new(roster));
    let outlets = watchdog::Outlets {
        probe: probe.outlet(),
        exits: probe.outlet(),
        changes: writer.outlet(),
        standing: writer.outlet(),
        recorded: notifier.outlet(),
        windows: Arc::new(windows),
        last_seen: Arc::new(last_seen_file),
        live: live.clone(),
    };
    let watchdog = parts.start_draining("watchdog", move |_| Watchdog::new(roster.clone(), clock, outlets.clone()));

    let outlets = alarms::Outlets {
        observer: watchdog.outlet(),
        publisher: watchdog.outlet(),
        notices: notifier.outlet(),
        intake: writer.outlet(),
    };
    let state = AlarmsParts::new(
        &opened,
        (&settings.data_dir.join("alarms.json"), &damage),
        (identity.id.clone(), identity.host.clone()),
        Arc::new(settings.rules.clone()),
        clock,
        outlets,
    );
    let alarms = parts.start("alarms", move |_| Alarms::new(state.clone()));

    let (broker, mqtt_url, connection) = match ends.front {
        Front::Given { transport, events, url } => (None, url, Connection::over(transport, events, clock)),
        Front::Broker => {
            let broker = match settings.mqtt.embedded() {
                Some(config) => Some(broker::start(config).await?),
                None => None,
            };
            let mqtt_url = broker.as_ref().map_or_else(|| settings.mqtt.broker.url(), EmbeddedBroker::url);
            look_for_damage(&settings.data_dir, &damage);
            let connection = Connection::open(wanted(settings, &mqtt_url, &identity)?, clock)?;
            ask_agents(&agents, settings, &mqtt_url, clock)?;
            (broker, mqtt_url, connection)
        }
    };
    let closing = agents.clone();
    parts.started("questions to agents", move |_| async move { closing.close().await });
    let transport = connection.transport();

    let outlets = subscriber::Outlets {
        beats: watchdog.outlet(),
        intake: writer.outlet(),
        transport: transport.clone(),
        received: ends.received,
    };
    let numbers_in_rows = ends.numbers_in_rows;
    let topics = SetTopics { numbers_in_rows, ..settings.topics(&identity.id) };
    let record = Rc::new(RefCell::new(subscriber::Record::new(topics)));
    let reader = parts.start("subscriber", move |_| Subscriber::new(record.clone(), clock, outlets.clone()));

    let takers = IngestOutlets {
        deliveries: reader.outlet(),
        reports: reader.outlet(),
        hearing: watchdog.outlet(),
        supervisor: parts.supervisor().clone(),
    };
    connection.pump(&takers);
    let takeovers = Arc::<AtomicU64>::default();
    if connection.wanted().is_some() {
        let guard = Guard {
            connection: connection.clone(),
            takers: takers.clone(),
            data_dir: settings.data_dir.clone(),
            id_is_given: settings.mqtt.client_id.is_some(),
            counted: takeovers.clone(),
            clock,
        };
        let guarding = parts.supervisor().guard("guard of the session", guard.run());
        parts.started("guard of the session", move |_| async move { guarding.abort() });
    }
    let closing = connection.clone();
    parts.started("broker connection", move |_| async move { closing.close().await });
    let kafka = KafkaIntake::new(agents.clone(), clock);
    if !numbers_in_rows {
        kafka.read(settings, &takers)?;
    }
    let closing = kafka.clone();
    parts.started("Kafka connection", move |_| async move { closing.close().await });

    let nodes = LeaseView::new(clock, parts.supervisor().clone(), watchdog.outlet(), watchdog.outlet());
    nodes.follow(settings)?;
    let closing = nodes.clone();
    parts.started("leases in etcd", move |_| async move { closing.close() });

    let service_manager: Arc<dyn ServiceManager> = Arc::new(SystemdNotify);
    let outlets = self_monitor::Outlets {
        register: parts.supervisor().register(),
        observer: watchdog.outlet(),
        status: watchdog.outlet(),
        ledger: writer.outlet(),
        notifications: notifier.outlet(),
        intake: writer.outlet(),
        transport,
        service_manager: service_manager.clone(),
    };
    let as_configured = notification_wiring::set_watchman(settings, &identity, processes.as_ref())?;
    let record = Rc::new(RefCell::new(self_monitor::Record::new(as_configured)));
    let watchman = parts.start_draining("watchman", move |_| SelfMonitor::new(outlets.clone(), clock, record.clone()));

    let children = OutletRegistry::default();
    let ports = web::Ports {
        verdicts: Arc::new(watchdog.clone()),
        arrivals: Arc::new(reader.clone()),
        ledger: Arc::new(writer.clone()),
        history,
        notices: Arc::new(notifier.clone()),
        alarms: Arc::new(alarms.clone()),
        monitor: Arc::new(watchman.clone()),
        children: children.clone(),
        live,
        queues: queues(&opened, &connection.transport()),
        broker: broker.as_ref().map(EmbeddedBroker::counts),
        takeovers,
        damage: damage.clone(),
    };
    let server: PageServer = Rc::default();
    if let Some(config) = &settings.web {
        *server.borrow_mut() = Some(web::serve(config, ports.clone(), clock)?);
    }
    let page = server.borrow().as_ref().map(web::Server::url);
    let serving = server.clone();
    parts.started("page", move |_| async move {
        let server = serving.borrow_mut().take();
        if let Some(server) = server {
            server.stop().await;
        }
    });

    let program = std::env::current_exe().context("cannot find this program's file")?;
    let told = managed_publishers::Told { ended: watchdog.outlet(), gave_up: notifier.outlet(), children };
    let feeds = ManagedPublishers::new(parts.supervisor().clone(), clock, processes.clone(), told, program);
    let changeable = Changeable {
        identity,
        processes,
        journal: opened,
        aim: writer.outlet(),
        deadlines: watchdog.outlet(),
        stopping: watchdog.outlet(),
        targets: notifier.outlet(),
        topics: reader.outlet(),
        rules: alarms.outlet(),
        watchman: watchman.outlet(),
        connection,
        agents,
        takers,
        kafka,
        nodes,
        server,
    };
    let mut pipeline =
        Pipeline { clock, ports, feeds, mqtt_url, page, service_manager, escalations, changeable, broker, parts };
    for publisher in &settings.publishers {
        let started = pipeline.feeds.start(settings, &pipeline.mqtt_url, publisher).await;
        if let Err(error) = started {
            pipeline.stop(settings.grace).await;
            return Err(error);
        }
    }
    Ok(pipeline)
}

impl Pipeline {
    /// Whose lease is in etcd.
    #[must_use]
    pub fn nodes(&self) -> LeaseView {
        self.changeable.nodes.clone()
    }

    /// Runs a task beside the monitor that must go on as long as it.
    pub fn guard(&self, name: &'static str, task: impl Future<Output = ()> + 'static) -> Guarded {
        self.parts.supervisor().guard(name, task)
    }

    /// Asks agents on this way, too.
    pub fn ask_over(&self, way: Arc<dyn AgentChannel>, answers: mpsc::Receiver<AgentAnswer>) {
        self.changeable.agents.ask_over(way, answers);
    }

    /// Waits until the monitor hears its own broker, so long at most: what is published before that reaches nobody.
    pub async fn until_it_hears(&self, at_most: Duration) {
        if self.broker.is_none() {
            return;
        }
        let hears = async || {
            let status = self.ports.verdicts.ask(AskStatus, at_most).await;
            status.is_ok_and(|status| status.observer.state == ObserverState::Ok)
        };
        let heard = async {
            while !hears().await {
                tokio::time::sleep(HEARS_LOOK_EVERY).await;
            }
        };
        let _ = tokio::time::timeout(at_most, heard).await;
    }

    /// Resolves when something that the monitor cannot do without has failed for good, with the reason.
    pub async fn failed(&mut self) -> String {
        let broker = self.broker.as_ref();
        let broker_died = async {
            match broker {
                Some(broker) => broker.died().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = broker_died => "the embedded broker cannot be started again".to_owned(),
            escalation = self.escalations.recv() => match escalation {
                Some(escalation) => escalation.to_string(),
                None => std::future::pending().await,
            },
        }
    }

    /// Stops everything, publishers first, within the grace period. Returns what was left behind.
    pub async fn stop(self, grace: Duration) -> Vec<&'static str> {
        let Self { feeds, mut parts, changeable, .. } = self;
        let stopping = changeable.stopping.clone();
        parts.started("publishers", move |deadline| async move {
            // An error: the watchdog is gone, and says nothing of anybody any more.
            let _ = stopping.deliver(StopWithMonitor(feeds.ids())).await;
            feeds.stop(deadline).await;
        });
        parts.stop(grace).await
    }
}
