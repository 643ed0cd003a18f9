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

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tonic::transport::Endpoint;

use crate::domain::command::{Command, CommandResult};
use crate::domain::publisher::PublisherId;
use crate::formats::envelope::Prefix;
use crate::ports::{BoxFuture, Outgoing, Receipt, Transport, TransportError, TransportEvent};
use crate::runtime::clock::Clock;

/// Where the server is, and within which limits it is used.
#[derive(Debug, Clone)]
pub struct GrpcClientConfig {
    /// `HOST:PORT`, or `http://HOST:PORT`.
    pub server: String,
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

/// The server's address cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{server}' is not a server's address: {reason}; right is HOST:PORT, like 127.0.0.1:50052")]
pub struct BadServer {
    server: String,
    reason: String,
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
    sends: mpsc::Sender<Outgoing>,
    stop: mpsc::Sender<oneshot::Sender<()>>,
    send_queue_messages_max: usize,
    disconnect_timeout: Duration,
}

/// Starts the task that keeps the connection, on the current tokio runtime, and returns at once: whether the
/// server is there is told by the events.
///
/// # Errors
/// [`BadServer`] when the address cannot be one.
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
    let bad = |reason: String| BadServer { server: config.server.chars().take(200).collect(), reason };
    let address = config.server.strip_prefix("http://").unwrap_or(&config.server).trim_end_matches('/');
    let port =
        address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
    if port.is_none_or(|port| port == 0) {
        return Err(bad("it has no port".to_owned()));
    }
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| bad(error.to_string()))?;
    Ok(endpoint
        .connect_timeout(config.connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(config.keep_alive)
        .keep_alive_timeout(config.keep_alive)
        .keep_alive_while_idle(true))
}

impl GrpcTransport {
    fn check(&self, message: &Outgoing) -> Result<(), TransportError> {
        // Read once more by the task; here so that its publisher hears of it.
        super::envelope(&self.prefix, message.clone()).map(|_| ())
    }
}

impl Transport for GrpcTransport {
    fn publish(&self, message: Outgoing) -> BoxFuture<'_, Result<(), TransportError>> {
        Box::pin(async move {
            self.check(&message)?;
            self.sends.send(message).await.map_err(|_| TransportError::Closed)
        })
    }

    fn try_publish(&self, message: Outgoing) -> Result<(), TransportError> {
        self.check(&message)?;
        self.sends.try_send(message).map_err(|error| match error {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_port_is_named() {
        let id = PublisherId::parse("a").unwrap();
        for wrong in ["", "host", "host:", ":50052", "host:0", "host:70000", "ho st:1"] {
            let error = endpoint(&GrpcClientConfig::new(wrong, id.clone())).unwrap_err().to_string();
            assert!(error.contains("HOST:PORT"), "{error}");
        }
        for right in ["127.0.0.1:50052", "http://server:50051", "[::1]:50052"] {
            assert!(endpoint(&GrpcClientConfig::new(right, id.clone())).is_ok(), "{right}");
        }
    }
}
