//! `heartwatch agent`: a publisher whose source is its host, with a live configuration, plugins and commands.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::actors::collector::{Collector, CollectorParts};
use crate::actors::executor::{self, Executor, ExecutorParts};
use crate::actors::publisher::{Feed, Publisher, PublisherConfig};
use crate::config::{Broker, Settings};
use crate::messages::agent::{Apply, AskRegistration, Execute, LookAgain};
use crate::roles::cli::AgentArgs;
use crate::roles::managed_publishers;
use crate::runtime::outlet::Outlet;
use crate::runtime::parts::{Parts, drain};
use crate::runtime::supervisor::{Supervised, Supervisor};
use crate::sources::SourceConfig;
use crate::sources::arrivals::{Arrivals, ROWS_MAX};
use heartwatch_adapters::mqtt;
use heartwatch_adapters::process::HostProcesses;
use heartwatch_domain::agent_settings::AgentSettings;
use heartwatch_domain::publisher::HostName;
use heartwatch_fleet::plugin_folder::LocalFolder;
use heartwatch_ports::servers::EtcdConfig;
use heartwatch_ports::{PluginFolder, ProcessTable};
use heartwatch_store::outbox::FullPolicy;
use heartwatch_system::clock::Clock;
use heartwatch_system::signals::Request;

/// How long the end in order may take.
const GRACE: Duration = Duration::from_secs(10);

/// Runs the agent until a signal; the answer is the exit code.
///
/// # Errors
/// When its outbox, its broker's certificates or an address cannot be used.
pub(super) async fn agent(
    args: &AgentArgs,
    settings: &Settings,
    mut requests: mpsc::Receiver<Request>,
) -> anyhow::Result<u8> {
    let clock = Clock::start();
    let processes: Arc<dyn ProcessTable> = Arc::new(HostProcesses::new(clock));
    let (mut parts, mut escalations) = Parts::new(clock);
    let host = match &args.host {
        Some(host) => host.clone(),
        None => heartwatch_system::host::host_name()?,
    };
    let agent_settings = AgentSettings::default();

    // What somebody asks over the publisher's own connection finds the executor here, once there is one.
    let (execute_sender, execute) = watch::channel(None::<Outlet<Execute>>);
    let mqtt_url = match &settings.mqtt.broker {
        Broker::At(url) => Some(url.to_string()),
        Broker::Embedded { listen } => args.server.is_none().then(|| format!("mqtt://{listen}")),
    };
    let mut queues = Vec::new();
    if let Some(mqtt_url) = &mqtt_url {
        let (arrivals, config) = publisher(args, settings, &host, "");
        let ended = watch::Sender::new(None);
        let started = managed_publishers::start_here(
            parts.supervisor(),
            clock,
            processes.as_ref(),
            &settings.mqtt,
            mqtt_url,
            config,
            ended,
        )?;
        parts.started("publisher", move |deadline| stop(started, deadline));
        queues.push(arrivals);
    }
    if let Some(server) = &args.server {
        let (arrivals, config) = publisher(args, settings, &host, ".server");
        let started = over_grpc(
            parts.supervisor(),
            clock,
            processes.as_ref(),
            (server, args.server_ca_file.as_deref()),
            config,
            execute,
        )?;
        parts.started("publisher over gRPC", move |deadline| stop(started, deadline));
        queues.push(arrivals);
    }

    let folder: Arc<dyn PluginFolder> = Arc::new(LocalFolder::new(&args.plugins_dir));
    let state = CollectorParts::new(queues, clock, agent_settings.clone(), Some(folder))?;
    let collector = parts.start_draining("collector", move |_| Collector::new(state.clone()));
    let apply = collector.outlet();
    let registration = register(args, settings.etcd.as_ref(), &host, (agent_settings, apply), clock, &mut parts)?;
    let state = ExecutorParts {
        client_id: args.id.clone(),
        host: host.clone(),
        collector: collector.outlet(),
        reload: collector.outlet(),
        registration: registration.clone(),
        processes: processes.clone(),
        clock,
        started: clock.monotonic(),
    };
    let executor = parts.start("executor", move |_| Executor::new(state.clone()));
    execute_sender.send_replace(Some(executor.outlet()));

    if let Some(mqtt_url) = &mqtt_url {
        let mut connection = settings.mqtt.client(mqtt_url, &format!("heartwatch-agent-{}", args.id));
        // A question that nobody took is not kept for later.
        connection.clean_session = true;
        let prefix = settings.mqtt.prefix.clone();
        let (transport, events) = mqtt::connect(connection, vec![prefix.ask(&args.id)], None, clock)?;
        let closing = transport.clone();
        let whose = (prefix, args.id.clone());
        let pump = executor::pump(events, transport, whose, executor.outlet(), clock);
        let pump = parts.supervisor().guard("reader of commands over MQTT", pump);
        parts.started("commands over MQTT", move |_| async move {
            pump.may_end();
            heartwatch_ports::Transport::disconnect(closing.as_ref()).await;
            pump.abort();
        });
    }

    let node = args.name.as_ref().unwrap_or(&host);
    let (broker, server) = (mqtt_url.as_deref().unwrap_or("none"), args.server.as_deref().unwrap_or("none"));
    let etcd = settings.etcd.as_ref().map(EtcdConfig::members).unwrap_or_default();
    tracing::info!(agent = %args.id, %node, %host, broker, server, etcd, "the agent runs");
    if etcd.is_empty() {
        tracing::warn!("no etcd is named: no heartbeat there, and the configuration is the default one");
    }

    let failed = loop {
        tokio::select! {
            escalation = escalations.recv() => {
                break escalation.map(|escalation| escalation.to_string());
            }
            request = requests.recv() => match request {
                Some(Request::Reload) => {
                    let _ = collector.outlet().deliver(crate::messages::agent::ReloadPlugins).await;
                    if let Some((_, look)) = &registration {
                        let _ = look.deliver(LookAgain).await;
                    }
                }
                Some(Request::Stop) | None => break None,
            }
        }
    };
    tracing::info!("the agent ends; a second signal ends it at once");
    parts.stop(GRACE).await;
    match failed {
        Some(reason) => anyhow::bail!(reason),
        None => Ok(0),
    }
}

async fn stop(publisher: Supervised<Publisher>, deadline: Instant) {
    // Some time is left for the goodbye after the last confirmation has not come.
    let deadline = deadline - (deadline.saturating_duration_since(Instant::now()) / 4);
    drain(publisher, deadline).await;
}

/// A publisher of what is pushed into the queue, with an outbox of its own.
fn publisher(args: &AgentArgs, settings: &Settings, host: &HostName, outbox: &str) -> (Arrivals, PublisherConfig) {
    let arrivals = Arrivals::new(format!("host {host}"), ROWS_MAX);
    let feed = Feed {
        interval: Duration::ZERO,
        looping: false,
        outbox_bytes_max: args.outbox_bytes_max.0,
        // What is measured now is worth more than what was measured first.
        full_policy: FullPolicy::GiveUpOldest,
        ..Feed::new(SourceConfig::Arrivals(arrivals.clone()))
    };
    let mqtt = &settings.mqtt;
    let config = PublisherConfig {
        is_agent: true,
        message_bytes_max: mqtt.options.message_bytes_max,
        outbox: Some(settings.data_dir.join("outbox").join(format!("{}{outbox}.sqlite", args.id))),
        ..PublisherConfig::new(args.id.clone(), host.clone(), mqtt.prefix.clone(), feed, args.heartbeat)
    };
    (arrivals, config)
}

/// Whom to ask about etcd.
type Registered = Option<(Outlet<AskRegistration>, Outlet<LookAgain>)>;

#[cfg(feature = "hosts")]
fn register(
    args: &AgentArgs,
    etcd: Option<&EtcdConfig>,
    host: &HostName,
    (settings, apply): (AgentSettings, Outlet<Apply>),
    clock: Clock,
    parts: &mut Parts,
) -> anyhow::Result<Registered> {
    use crate::actors::registration::{Registration, RegistrationConfig, RegistrationParts};
    use heartwatch_fleet::etcd::Etcd;

    let Some(mut config) = etcd.cloned() else { return Ok(None) };
    // All members are asked within half of a lease.
    let members = u32::try_from(config.endpoints.len()).unwrap_or(u32::MAX).max(1);
    config.attempt_timeout = config.attempt_timeout.min(args.lease / 4 / members).max(Duration::from_millis(100));
    let etcd = Arc::new(Etcd::new(config)?);
    let config = RegistrationConfig {
        node: args.name.clone().unwrap_or_else(|| host.clone()),
        client_id: args.id.clone(),
        host: host.clone(),
        ttl: args.lease,
    };
    let state = RegistrationParts::new(config, etcd, clock, settings, apply);
    let registration = parts.start_draining("registration", move |_| Registration::new(state.clone()));
    Ok(Some((registration.outlet(), registration.outlet())))
}

#[cfg(not(feature = "hosts"))]
fn register(
    _: &AgentArgs,
    etcd: Option<&EtcdConfig>,
    _: &HostName,
    _: (AgentSettings, Outlet<Apply>),
    _: Clock,
    _: &mut Parts,
) -> anyhow::Result<Registered> {
    anyhow::ensure!(etcd.is_none(), "--etcd: this program was built without the feature 'hosts'");
    Ok(None)
}

/// The publisher over gRPC. Commands come over the same stream, and their results go back there.
#[cfg(feature = "hosts")]
fn over_grpc(
    supervisor: &Supervisor,
    clock: Clock,
    processes: &dyn ProcessTable,
    (server, ca_file): (&str, Option<&Path>),
    config: PublisherConfig,
    execute: watch::Receiver<Option<Outlet<Execute>>>,
) -> anyhow::Result<Supervised<Publisher>> {
    use crate::actors::publisher::{self, Life};
    use heartwatch_fleet::grpc::client::{self, GrpcClient, GrpcClientConfig};

    let process = processes.own_identity();
    let mut connection = GrpcClientConfig::new(server, config.id.clone());
    connection.ca_file = ca_file.map(Path::to_owned);
    connection.prefix = config.prefix.clone();
    connection.backoff_max = connection.backoff_max.min(config.heartbeat.max(connection.backoff_min));
    // What can work with no server is said before anything is started.
    let mut first_client = Some(client::connect(connection.clone(), clock)?);
    let mut first = Some(publisher::prepare(config.clone(), clock)?);
    let ended = watch::Sender::new(None);
    let factory = move |_: &mut actix::Context<Publisher>| {
        let prepared = match first.take() {
            Some(prepared) => Ok(prepared),
            None => publisher::prepare(config.clone(), clock),
        };
        let client = first_client.take().map_or_else(|| client::connect(connection.clone(), clock), Ok);
        match client {
            Ok(GrpcClient { transport, events, commands, results }) => {
                actix_rt::spawn(execute_all(commands, results, execute.clone()));
                Publisher::new(Some(Life { prepared, transport, events }), clock, process.clone(), ended.clone())
            }
            Err(error) => {
                tracing::error!(%error, "the publisher cannot connect");
                Publisher::new(None, clock, process.clone(), ended.clone())
            }
        }
    };
    Ok(supervisor.start("publisher over gRPC", factory))
}

/// Executes what comes, each command beside the others, until the connection's task ends.
#[cfg(feature = "hosts")]
async fn execute_all(
    mut commands: mpsc::Receiver<heartwatch_domain::command::Command>,
    results: mpsc::Sender<heartwatch_domain::command::CommandResult>,
    mut execute: watch::Receiver<Option<Outlet<Execute>>>,
) {
    use heartwatch_domain::command::CommandResult;

    while let Some(command) = commands.recv().await {
        let Ok(outlet) = execute.wait_for(Option::is_some).await.map(|outlet| outlet.clone()) else { return };
        let Some(outlet) = outlet else { continue };
        let results = results.clone();
        actix_rt::spawn(async move {
            let id = command.id.clone();
            let result = outlet.deliver(Execute(command)).await;
            let failed =
                |error: &dyn std::fmt::Display| CommandResult { id, success: false, output: error.to_string() };
            let result = result.unwrap_or_else(|error| failed(&error));
            let _ = results.send(result).await;
        });
    }
}

#[cfg(not(feature = "hosts"))]
fn over_grpc(
    _: &Supervisor,
    _: Clock,
    _: &dyn ProcessTable,
    _: (&str, Option<&Path>),
    _: PublisherConfig,
    _: watch::Receiver<Option<Outlet<Execute>>>,
) -> anyhow::Result<Supervised<Publisher>> {
    anyhow::bail!("--server: this program was built without the feature 'hosts'")
}
