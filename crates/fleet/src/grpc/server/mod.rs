//! The server's end: agents' streams in, as one [`Transport`] with its events.
//!
//! - `Relay`: a publisher's messages become deliveries under its topic, as over MQTT; a confirmation goes back over the
//!   stream that spoke last for that publisher. When a stream ends without a goodbye, each of its publishers gets
//!   a last will, as a broker would say it: a reason to look.
//! - `MonitorStream`: an existing agent. Who it is says the `client_id` of each `MonitoringData` (characters that
//!   cannot be in a publisher's id become `-`; an empty one ends the stream with INVALID_ARGUMENT). Its readings get
//!   numbers from us: the incarnation is when its stream began, in microseconds, and a counter. It has no
//!   acknowledgement, so what is in the sockets when either end is killed is lost, and only the agent could know.
//! - Back pressure: a stream is read only when there is room for what it brings; the rest waits at the agent.
//! - When there are as many connections as are taken, the idlest one that has sent nothing makes room.
//! - What cannot be read is handed on all the same: the subscriber counts it and keeps it for a person.

mod agents;
mod incoming;
mod intake;
mod streams;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::transport::Server;

pub use agents::{AgentSnapshot, Agents, Protocol, SendCommandError};

use crate::grpc::MESSAGE_BYTES_MAX;
use crate::grpc::console::Moved;
use crate::tls::{self, TlsError};
use crate::wire::monitoring::agent_service_server::AgentServiceServer;
use crate::wire::monitoring::console_service_server::ConsoleServiceServer;
use crate::wire::monitoring::monitoring_service_server::MonitoringServiceServer;
use agents::Registry;
use heartwatch_domain::command::CommandResult;
use heartwatch_domain::connections::ConnectionLimits;
use heartwatch_formats::envelope::{Prefix, Topic, TopicKind};
use heartwatch_ports::credentials::KeyPair;
use heartwatch_ports::{BoxFuture, Outgoing, Receipt, Transport, TransportError, TransportEvent};
use heartwatch_system::clock::Clock;
use heartwatch_system::connections::Connections;
use streams::Streams;

/// Connections that wait to be accepted.
const CONNECTIONS_IN_LINE_MAX: u32 = 8_192;

/// Where the server listens, and within which limits.
#[derive(Debug, Clone)]
pub struct GrpcServerConfig {
    /// Where.
    pub listen: SocketAddr,
    /// Our certificate and its key: agents connect with TLS then, and not without.
    pub tls: Option<KeyPair>,
    /// What the topics of the deliveries start with.
    pub prefix: Prefix,
    /// Connections at once; for a further one the idlest of those that have sent nothing is closed.
    pub connections_max: usize,
    /// Streams at once; a further one is refused with RESOURCE_EXHAUSTED.
    pub streams_max: usize,
    /// Publishers that one stream may speak for; readings of further ones are refused.
    pub publishers_per_stream_max: usize,
    /// Messages that wait for one agent: confirmations, which are repeated, and commands.
    pub agent_queue_messages_max: usize,
    /// Messages that wait for the subscriber; beyond them no stream is read.
    pub event_queue_messages_max: usize,
    /// How often a quiet connection is tested; one that does not answer for as long is broken.
    pub keep_alive: Duration,
    /// How often an open stream of an existing agent, which has no heartbeats, counts as one.
    pub open_stream_every: Duration,
    /// How long streams have to end at the end.
    pub disconnect_timeout: Duration,
    /// How long a connection may take to agree on TLS.
    pub handshake_timeout: Duration,
}

impl GrpcServerConfig {
    /// With the default limits.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            tls: None,
            prefix: Prefix::default(),
            connections_max: 40_000,
            streams_max: 20_000,
            publishers_per_stream_max: 1_000,
            agent_queue_messages_max: 64,
            event_queue_messages_max: 1_024,
            keep_alive: Duration::from_secs(10),
            open_stream_every: Duration::from_secs(5),
            disconnect_timeout: Duration::from_secs(3),
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

/// The server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// At this address.
    #[error("cannot listen for agents on {listen}: {reason}; choose another address with --listen")]
    Listen {
        /// Which.
        listen: SocketAddr,
        /// Why not.
        reason: String,
    },
    /// With this certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What agents do, beside what they publish.
#[derive(Debug)]
pub enum AgentEvent {
    /// An agent can be reached.
    Joined {
        /// Under which name.
        client_id: String,
    },
    /// A result of a command.
    Result {
        /// Who answers.
        client_id: String,
        /// What.
        result: CommandResult,
        /// Who wants to know whether a command waited for it.
        known: Option<oneshot::Sender<bool>>,
    },
}

/// A running server.
pub struct GrpcServer {
    /// Confirmations go back through it.
    pub transport: Arc<GrpcServerTransport>,
    /// What the agents publish.
    pub events: mpsc::Receiver<TransportEvent>,
    /// Who comes, and what they answer.
    pub agent_events: mpsc::Receiver<AgentEvent>,
    /// Who is there; and commands for them.
    pub agents: Agents,
    /// Where it listens.
    pub listen: SocketAddr,
}

/// What all streams share.
pub(super) struct StreamState {
    config: GrpcServerConfig,
    clock: Clock,
    registry: Mutex<Registry>,
    agent_events: mpsc::Sender<AgentEvent>,
    /// Gone when the server ends, so that the subscriber's pump does.
    events: Mutex<Option<mpsc::Sender<TransportEvent>>>,
    stop: watch::Sender<bool>,
}

impl StreamState {
    fn registry(&self) -> std::sync::MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn events(&self) -> Option<mpsc::Sender<TransportEvent>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Listens, on the current tokio runtime.
///
/// # Errors
/// [`ServeError`] when the address is taken, or the certificate cannot be used.
///
/// # Panics
/// Outside a tokio runtime.
pub async fn serve(config: GrpcServerConfig, clock: Clock) -> Result<GrpcServer, ServeError> {
    let fail = |error: std::io::Error| ServeError::Listen { listen: config.listen, reason: error.to_string() };
    let mut builder = Server::builder();
    if let Some(pair) = &config.tls {
        let tls = tls::server(pair)?.timeout(config.handshake_timeout);
        builder = builder.tls_config(tls).map_err(|error| TlsError::Unusable(super::innermost(&error)))?;
    }
    let listener = listener(config.listen).map_err(fail)?;
    let listen = listener.local_addr().map_err(fail)?;
    let limits = ConnectionLimits {
        connections_max: config.connections_max,
        connections_per_address_max: config.connections_max,
    };
    let connections = Connections::new("the server for agents", limits, Arc::default(), clock);
    let incoming = incoming::incoming(listener, connections);
    let (events, events_end) = mpsc::channel(config.event_queue_messages_max);
    let (agent_events, agent_events_end) = mpsc::channel(config.event_queue_messages_max);
    let (stop, mut stopped) = watch::channel(false);
    // Nobody else has it yet, so there is room.
    let _ = events.send(TransportEvent::Connected { connection_epoch: 1, session_present: false }).await;
    let shared = Arc::new(StreamState {
        clock,
        registry: Mutex::new(Registry::default()),
        agent_events,
        events: Mutex::new(Some(events)),
        stop,
        config,
    });
    let relay = AgentServiceServer::new(Streams(shared.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let plain = MonitoringServiceServer::new(Streams(shared.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let encrypted = shared.config.tls.is_some();
    let serving = builder
        .http2_keepalive_interval(Some(shared.config.keep_alive))
        .http2_keepalive_timeout(Some(shared.config.keep_alive))
        .add_service(relay)
        .add_service(plain)
        .add_service(ConsoleServiceServer::new(Moved));
    let (done, ended) = watch::channel(false);
    tokio::spawn(async move {
        let asked = async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        if let Err(error) = serving.serve_with_incoming_shutdown(incoming, asked).await {
            tracing::error!(%error, "the server for agents has ended");
        }
        done.send_replace(true);
    });
    tracing::info!(%listen, tls = encrypted, "agents are served");
    let agents = Agents::new(shared.clone());
    let transport = Arc::new(GrpcServerTransport { shared, ended });
    Ok(GrpcServer { transport, events: events_end, agent_events: agent_events_end, agents, listen })
}

/// After a restart all agents come at once: the usual 128 in line are too few.
fn listener(listen: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if listen.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    socket.listen(CONNECTIONS_IN_LINE_MAX)
}

/// [`Transport`] to all agents: what it publishes are confirmations.
pub struct GrpcServerTransport {
    shared: Arc<StreamState>,
    ended: watch::Receiver<bool>,
}

impl Transport for GrpcServerTransport {
    fn publish(&self, message: Outgoing) -> BoxFuture<'_, Result<(), TransportError>> {
        // What goes to an agent is repeated until it is heard: a slow one is not waited for.
        Box::pin(async move { self.try_publish(message) })
    }

    fn try_publish(&self, message: Outgoing) -> Result<(), TransportError> {
        let unsendable =
            |reason: String| TransportError::Unsendable { topic: message.topic.chars().take(200).collect(), reason };
        let topic =
            Topic::parse(&self.shared.config.prefix, &message.topic).map_err(|error| unsendable(error.to_string()))?;
        if topic.kind != TopicKind::Confirm {
            // Our own heartbeat, for whoever else is at a broker: nobody is here.
            return Ok(());
        }
        let sent = self.shared.registry().confirm(&topic.publisher, message.payload);
        let messages_max = self.shared.config.agent_queue_messages_max;
        if sent { Ok(()) } else { Err(TransportError::Full { messages_max }) }
    }

    /// Nothing waits for it: whoever publishes waits for the confirmation.
    fn acknowledge(&self, _: Vec<Receipt>) {}

    fn disconnect(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.shared.stop.send_replace(true);
            self.shared.events.lock().unwrap_or_else(PoisonError::into_inner).take();
            let mut ended = self.ended.clone();
            let limit = self.shared.config.disconnect_timeout;
            if tokio::time::timeout(limit, ended.wait_for(|ended| *ended)).await.is_err() {
                tracing::warn!("some agents did not end their streams in time");
            }
        })
    }
}
