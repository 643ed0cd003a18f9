//! What an agent does when it is told to, whichever way the command came: a short list, and never a shell.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context, Handler, ResponseFuture};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

use crate::messages::agent::{
    AskCollector, AskRegistration, CollectorStatus, Execute, LookAgain, RegistrationStatus, ReloadPlugins,
};
use crate::runtime::outlet::Outlet;
use heartwatch_domain::command::{Command, CommandResult};
use heartwatch_domain::process::{ProbeAnswer, ProcessState};
use heartwatch_domain::publisher::{HostName, PublisherId};
use heartwatch_domain::time::Monotonic;
use heartwatch_formats::agent;
use heartwatch_formats::command::{self, ProbeOutput, ProbeTarget, parse_probe_data};
use heartwatch_formats::envelope::Prefix;
use heartwatch_ports::{Outgoing, ProcessTable, Transport, TransportEvent};
use heartwatch_system::clock::Clock;

/// What there is to do, for a refusal.
const KNOWN: &str = "status, get_config, probe <pid>, ping, reload";
/// Most commands at the same time; further ones wait.
const COMMANDS_IN_FLIGHT_MAX: usize = 16;
/// Most commands that wait; further ones are refused. A host that loses many publishers at once is asked after
/// each of them.
const COMMANDS_WAITING_MAX: usize = 4_096;
/// Longest time for one command, with its wait.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// Whom the executor asks.
#[derive(Clone)]
pub(crate) struct ExecutorParts {
    /// Who we are.
    pub client_id: PublisherId,
    /// The host that we run on.
    pub host: HostName,
    /// The collector, for its status.
    pub collector: Outlet<AskCollector>,
    /// The collector, to read its plugins again.
    pub reload: Outlet<ReloadPlugins>,
    /// The registration in etcd, where there is one: how it stands, and to have it look again.
    pub registration: Option<(Outlet<AskRegistration>, Outlet<LookAgain>)>,
    /// The processes of this host.
    pub processes: Arc<dyn ProcessTable>,
    /// Both clocks.
    pub clock: Clock,
    /// When the agent was started.
    pub started: Monotonic,
}

/// The actor. It holds nothing between two commands.
pub(crate) struct Executor {
    parts: ExecutorParts,
    places: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Executor {
    /// A life of the executor.
    #[must_use]
    pub(crate) fn new(parts: ExecutorParts) -> Self {
        let places = Arc::new(Semaphore::new(COMMANDS_IN_FLIGHT_MAX));
        Self { parts, places, waiting: Arc::new(Semaphore::new(COMMANDS_WAITING_MAX)) }
    }
}

impl ExecutorParts {
    async fn execute(&self, kind: &str, data: &str) -> Result<String, String> {
        match kind {
            "ping" => Ok("pong".to_owned()),
            "status" => self.status().await,
            "get_config" => {
                let status = self.collector().await?;
                Ok(agent::as_json(&status.settings).to_string())
            }
            "reload" => {
                if let Some((_, look)) = &self.registration {
                    look.deliver(LookAgain).await.map_err(|error| error.to_string())?;
                }
                let status = self.reload.deliver(ReloadPlugins).await.map_err(|error| error.to_string())?;
                Ok(json!({ "plugins": status.plugins }).to_string())
            }
            "probe" => self.probe(data).await,
            other => {
                let other: String = other.chars().take(60).collect();
                Err(format!("'{other}' is not on the list of what this agent does: {KNOWN}"))
            }
        }
    }

    async fn collector(&self) -> Result<CollectorStatus, String> {
        self.collector.deliver(AskCollector).await.map_err(|error| error.to_string())
    }

    async fn status(&self) -> Result<String, String> {
        let CollectorStatus { settings, samples, readings, events, skipped, dropped, plugins } =
            self.collector().await?;
        let etcd: Option<RegistrationStatus> = match &self.registration {
            Some((ask, _)) => Some(ask.deliver(AskRegistration).await.map_err(|error| error.to_string())?),
            None => None,
        };
        let uptime = self.clock.monotonic().since(self.started).as_secs();
        let status = json!({
            "client_id": self.client_id.as_str(),
            "hostname": self.host.as_str(),
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "uptime_s": uptime,
            "config": agent::as_json(&settings),
            "samples": samples, "readings": readings, "events": events, "skipped": skipped, "dropped": dropped,
            "plugins": plugins,
            "etcd": etcd,
        });
        Ok(status.to_string())
    }

    async fn probe(&self, data: &str) -> Result<String, String> {
        let target = parse_probe_data(data).map_err(|error| error.to_string())?;
        let (table, looked_at) = (self.processes.clone(), self.clock.wall());
        let look = tokio::task::spawn_blocking(move || {
            let identity = match target {
                ProbeTarget::Process(identity) => Some(identity),
                ProbeTarget::Pid(pid) => table.identity(pid),
            };
            let answer = match &identity {
                Some(identity) => table.look(identity),
                None => {
                    ProbeAnswer { state: ProcessState::Gone, cpu_time: None, looked_at, host_pid: None, user: None }
                }
            };
            ProbeOutput::of(&answer, identity)
        });
        let output = look.await.map_err(|error| format!("the look failed: {error}"))?;
        serde_json::to_string(&output).map_err(|error| error.to_string())
    }
}

impl Actor for Executor {
    type Context = Context<Self>;
}

crate::messages::progress::answers_progress!(Executor);

impl Handler<Execute> for Executor {
    type Result = ResponseFuture<CommandResult>;

    fn handle(&mut self, Execute(command): Execute, _: &mut Context<Self>) -> Self::Result {
        let (parts, places, waiting) = (self.parts.clone(), self.places.clone(), self.waiting.clone());
        Box::pin(async move {
            let Command { id, kind, data } = command;
            let execute = async {
                let _place = places.acquire().await.map_err(|_| "the agent ends".to_owned())?;
                parts.execute(&kind, &data).await
            };
            let done = match waiting.try_acquire() {
                Ok(_waits) => tokio::time::timeout(COMMAND_TIMEOUT, execute)
                    .await
                    .unwrap_or_else(|_| Err(format!("it was not done within {COMMAND_TIMEOUT:?}"))),
                Err(_) => Err(format!("{COMMANDS_WAITING_MAX} commands wait already")),
            };
            let (success, output) = match done {
                Ok(output) => (true, output),
                Err(reason) => (false, reason),
            };
            let kind: String = kind.chars().take(60).collect();
            // The monitor asks by itself, and often when much has fallen silent.
            if kind == "probe" {
                tracing::debug!(id, kind, success, "a command");
            } else {
                tracing::info!(id, kind, success, "a command");
            }
            CommandResult { id, success, output }
        })
    }
}

/// Executes what is asked over MQTT and answers there, until the events end.
pub(crate) async fn pump(
    mut events: mpsc::Receiver<TransportEvent>,
    transport: Arc<dyn Transport>,
    (prefix, id): (Prefix, PublisherId),
    execute: Outlet<Execute>,
    clock: Clock,
) {
    let topic = prefix.answer(&id);
    while let Some(event) = events.recv().await {
        let TransportEvent::Delivery(delivery) = event else { continue };
        transport.acknowledge(vec![delivery.receipt]);
        if delivery.retained {
            // Left at the broker by a mistake: it would be done at every connection.
            tracing::warn!(topic = delivery.topic, "a retained command is not done");
            continue;
        }
        let (command, deadline) = match command::decode_ask(&delivery.payload) {
            Ok(asked) => asked,
            Err(error) => {
                tracing::warn!(%error, topic = delivery.topic, "a command could not be read");
                continue;
            }
        };
        let (execute, transport, topic) = (execute.clone(), transport.clone(), topic.clone());
        let late = deadline.filter(|deadline| *deadline < clock.wall());
        actix_rt::spawn(async move {
            let id = command.id.clone();
            let result = match late {
                Some(deadline) => {
                    let output = format!("its deadline {deadline} has passed, by this host's clock: {}", clock.wall());
                    CommandResult { id, success: false, output }
                }
                None => execute.deliver(Execute(command)).await.unwrap_or_else(|error| CommandResult {
                    id,
                    success: false,
                    output: error.to_string(),
                }),
            };
            let payload = command::encode_answer(&result);
            if let Err(error) = transport.try_publish(Outgoing { topic, payload, at_least_once: false }) {
                tracing::warn!(%error, "the answer to a command could not be sent");
            }
        });
    }
}
