//! An agent's connection to a server.
//!
//! - It reconnects for ever, with exponential backoff and jitter. An outage is logged once when it begins and
//!   once when it ends.
//! - It speaks `AgentService.Relay`: a publisher's messages go out, its confirmations come back as deliveries.
//!   What was handed over and not confirmed is sent again by whoever published it: a stream that breaks loses
//!   only what nobody counts on.
//! - A server that does not know Relay (an existing one: it says UNIMPLEMENTED) gets `MonitorStream` instead, one
//!   `MonitoringData` for each numeric field of each reading. That protocol has no acknowledgement, so a
//!   reading counts as confirmed when the stream has taken it: one that is in the sockets when the connection
//!   breaks is lost, and nobody can know it. Heartbeats and texts cannot be said in it, nor results of commands.
//! - Heartbeats that wait when a connection ends are dropped: they speak of a time that has passed.

mod link;
mod plain;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tonic::transport::Endpoint;

use crate::wire::monitoring::Envelope;
use heartwatch_domain::command::{Command, CommandResult};
use heartwatch_domain::publisher::PublisherId;
use heartwatch_formats::envelope::Prefix;
use heartwatch_ports::{BoxFuture, Outgoing, Receipt, Transport, TransportError, TransportEvent};
use heartwatch_system::clock::Clock;

pub use super::address::BadServer;

/// Where the server is, and within which limits it is used.
#[derive(Debug, Clone)]
pub struct GrpcClientConfig {
    /// `HOST:PORT` or `http://HOST:PORT`; `https://HOST:PORT` for TLS.
    pub server: String,
    /// The certificates (PEM) to trust with `https://`; none: those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// Under which id commands reach this agent.
    pub client_id: PublisherId,
    /// What the topics of the messages start with; the other end may use another prefix.
    pub prefix: Prefix,
    /// Messages that wait to be sent.
    pub send_queue_messages_max: usize,
    /// Commands that wait to be taken; one more is answered as refused.
    pub commands_max: usize,
    /// How long an attempt to connect may take.
    pub connect_timeout: Duration,
    /// How often a quiet connection is tested; one that does not answer for as long is broken.
    pub keep_alive: Duration,
    /// Wait after the first failed attempt; doubles with each further one.
    pub backoff_min: Duration,
    /// Longest wait after a failed attempt.
    pub backoff_max: Duration,
    /// How long [`Transport::disconnect`] may take.
    pub disconnect_timeout: Duration,
}

impl GrpcClientConfig {
    /// With the default limits.
    #[must_use]
    pub fn new(server: impl Into<String>, client_id: PublisherId) -> Self {
        Self {
            server: server.into(),
            ca_file: None,
            client_id,
            prefix: Prefix::default(),
            send_queue_messages_max: 1_024,
            commands_max: 64,
            connect_timeout: Duration::from_secs(5),
            keep_alive: Duration::from_secs(10),
            backoff_min: Duration::from_millis(200),
            backoff_max: Duration::from_secs(10),
            disconnect_timeout: Duration::from_secs(5),
        }
    }
}

/// A connection to a server, and what comes and goes over it.
pub struct GrpcClient {
    /// What a publisher publishes with.
    pub transport: Arc<GrpcTransport>,
    /// What it hears: connected, confirmed, disconnected.
    pub events: mpsc::Receiver<TransportEvent>,
    /// What somebody asks this agent to do.
    pub commands: mpsc::Receiver<Command>,
    /// What came of it. A result waits while there is no connection.
    pub results: mpsc::Sender<CommandResult>,
}

/// [`Transport`] over gRPC. The connection ends with the last handle.
#[derive(Debug)]
pub struct GrpcTransport {
    prefix: Prefix,
    sends: mpsc::Sender<Envelope>,
    stop: mpsc::Sender<oneshot::Sender<()>>,
    send_queue_messages_max: usize,
    disconnect_timeout: Duration,
}

/// Starts the task that keeps the connection, on the current tokio runtime, and returns at once: whether the
/// server is there is told by the events.
///
/// # Errors
/// [`BadServer`] when the address cannot be one, or its CA file cannot be used.
///
/// # Panics
/// Outside a tokio runtime.
pub fn connect(config: GrpcClientConfig, clock: Clock) -> Result<GrpcClient, BadServer> {
    let endpoint = endpoint(&config)?;
    let (sends, sends_end) = mpsc::channel(config.send_queue_messages_max);
    let (stop, stop_end) = mpsc::channel(1);
    let (events, events_end) = mpsc::channel(64);
    let (commands, commands_end) = mpsc::channel(config.commands_max);
    let (results, results_end) = mpsc::channel(config.commands_max);
    let transport = GrpcTransport {
        prefix: config.prefix.clone(),
        sends,
        stop,
        send_queue_messages_max: config.send_queue_messages_max,
        disconnect_timeout: config.disconnect_timeout,
    };
    let ends = link::Ends { sends: sends_end, stop: stop_end, events, commands, results: results_end };
    tokio::spawn(link::Link::new(config, endpoint, ends, clock).run());
    Ok(GrpcClient { transport: Arc::new(transport), events: events_end, commands: commands_end, results })
}

fn endpoint(config: &GrpcClientConfig) -> Result<Endpoint, BadServer> {
    Ok(super::address::endpoint(&config.server, config.ca_file.as_deref())?
        .connect_timeout(config.connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(config.keep_alive)
        .keep_alive_timeout(config.keep_alive)
        .keep_alive_while_idle(true))
}

impl Transport for GrpcTransport {
    fn publish(&self, message: Outgoing) -> BoxFuture<'_, Result<(), TransportError>> {
        Box::pin(async move {
            let envelope = super::envelope(&self.prefix, message)?;
            self.sends.send(envelope).await.map_err(|_| TransportError::Closed)
        })
    }

    fn try_publish(&self, message: Outgoing) -> Result<(), TransportError> {
        let envelope = super::envelope(&self.prefix, message)?;
        self.sends.try_send(envelope).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => TransportError::Full { messages_max: self.send_queue_messages_max },
            mpsc::error::TrySendError::Closed(_) => TransportError::Closed,
        })
    }

    /// Confirmations are repeated until they are heard: there is nothing to acknowledge.
    fn acknowledge(&self, _: Vec<Receipt>) {}

    fn disconnect(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let (done, ended) = oneshot::channel();
            if self.stop.send(done).await.is_ok() {
                // the task keeps the timeout itself; this one is for a runtime that no longer runs it
                let _ = tokio::time::timeout(self.disconnect_timeout * 2, ended).await;
            }
        })
    }
}
