//! The embedded MQTT 3.1.1 broker, so that a laptop needs no server. It is our own (docs/adr/0017).
//!
//! What holds, whatever a client sends:
//!
//! - A packet is read strictly before anything is done with it, and what breaks the rules costs the client that sent it
//!   its connection, and nobody else anything. Any topic that MQTT allows works, also one that begins beyond ASCII.
//! - Everything is in memory, and bounded: what waits for a filter of a session, for all sessions together, retained
//!   messages, sessions, filters, packets that are not whole. At a limit the oldest messages of the subscriber that is
//!   behind are dropped, counted and logged: readings are safe in the publishers' outboxes until the monitor has confirmed
//!   them, not here. A subscriber that does not read costs nobody else anything.
//! - When there are as many connections as it takes, or the system has no descriptor left, the idlest client that has
//!   published nothing makes room, one that has subscribed to something last. Publishers are not closed for others.
//! - One thread of its own does all of it. If it panics, it starts again on the same listener: its clients find their
//!   connections closed, connect again, and have no session; publishers send again what is not confirmed. That is logged
//!   and counted, and the monitor shows the gap.
//! - It ends with its handle.
//!
//! What it does: QoS 0, 1 and 2 from clients, 0 and 1 to them; persistent sessions, last wills, retained messages,
//! wildcards; at most 100 messages at QoS 1 that a client has not acknowledged. It serves the subscriptions of a session in
//! turn, so that heartbeats do not wait behind readings. What it does not: shared subscriptions (`$share/…` is
//! refused), topics with `$` from clients, MQTT 3.1 and 5 (refused with their codes), TLS.
//!
//! It has users where it is given some (docs/adr/0019): then everybody logs in, and says and hears what is its own.

mod connection;
mod encode;
mod hub;
mod malformed;
mod packet;
mod session;
mod topic;
mod users;

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{AsyncClient, ConnectionError, Event, MqttOptions, Packet};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinError, JoinSet, LocalSet};

use connection::{Inside, serve};
use heartwatch_domain::connections::ConnectionLimits;
use heartwatch_formats::broker_user::Authority;
use heartwatch_formats::envelope::Prefix;
pub use heartwatch_system::broker_counts::BrokerCounts;
use heartwatch_system::clock::Clock;
use heartwatch_system::connections::Connections;
use hub::Hub;
pub use topic::matches;
use users::Users;

/// How long what holds a taken port may take to say whether it is a broker.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);
/// After a failure of its own it waits so long before it starts again, and twice as long after each one more at once.
const RESTART_WAIT_MIN: Duration = Duration::from_millis(10);
const RESTART_WAIT_MAX: Duration = Duration::from_secs(1);

/// Where the embedded broker listens, and what bounds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerConfig {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The prefix of our topics: most of them need little memory.
    pub prefix: Prefix,
    /// Most connections at a time. One more closes the idlest of those that have published nothing; where all have, it is
    /// refused.
    pub connections_max: usize,
    /// Most sessions, with those whose client is away.
    pub sessions_max: usize,
    /// Largest packet; a client that sends a larger one is disconnected.
    pub packet_bytes_max: usize,
    /// Most bytes that wait for one filter of one session.
    pub queue_bytes_max: usize,
    /// Most bytes that wait for all sessions together.
    pub queued_bytes_max: usize,
    /// Most bytes of packets that are not whole, of all connections together.
    pub partial_bytes_max: usize,
    /// Its users: nobody else is let in, and each says and hears what is its own. None lets everybody do everything.
    pub authority: Option<Arc<Authority>>,
    /// A publication to this topic makes the broker panic: tests see whether that is survived.
    pub panics_at: Option<String>,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1883),
            prefix: Prefix::default(),
            connections_max: 2_000,
            sessions_max: 4_000,
            packet_bytes_max: 16 * 1024 * 1024,
            queue_bytes_max: 48 * 1024 * 1024,
            queued_bytes_max: 256 * 1024 * 1024,
            partial_bytes_max: 64 * 1024 * 1024,
            authority: None,
            panics_at: None,
        }
    }
}

/// Why the embedded broker could not be started.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// Another program listens there.
    #[error("cannot start the embedded MQTT broker on {address}: {}", taken(*.address, *.by_broker))]
    Taken {
        /// Where it was to listen.
        address: SocketAddr,
        /// Whether what listens there speaks MQTT.
        by_broker: bool,
    },
    /// The system does not let us listen there.
    #[error("cannot listen on {address} for the embedded MQTT broker: {source}; choose another with --mqtt-listen")]
    Bind {
        /// Where it listens.
        address: SocketAddr,
        /// The system's words.
        source: io::Error,
    },
    /// It could not be set up at all.
    #[error("cannot set up the embedded MQTT broker: {source}")]
    Setup {
        /// The system's words.
        source: io::Error,
    },
}

fn taken(address: SocketAddr, by_broker: bool) -> String {
    let other = SocketAddr::new(address.ip(), 0);
    if by_broker {
        format!(
            "an MQTT broker that is not ours already answers there; \
             use it with --mqtt mqtt://{address}, or let this one take a free port with --mqtt-listen {other}"
        )
    } else {
        format!("another program has this port; take a free one with --mqtt-listen {other}")
    }
}

/// The broker that runs in this process, until this handle is dropped.
#[derive(Debug)]
pub struct EmbeddedBroker {
    address: SocketAddr,
    died: watch::Receiver<bool>,
    counts: Arc<BrokerCounts>,
    users: Arc<Users>,
    _stop: oneshot::Sender<()>,
}

impl EmbeddedBroker {
    /// Where it listens, with the port that it really has.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL for clients on this host.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://{}", reachable(self.address))
    }

    /// It has other users from now on, or none.
    pub fn set_users(&self, authority: Option<Arc<Authority>>) {
        self.users.set(authority);
    }

    /// What it has counted.
    #[must_use]
    pub fn counts(&self) -> Arc<BrokerCounts> {
        self.counts.clone()
    }

    /// Waits until it cannot be started again, because the system has nothing left for it: end the program then.
    pub async fn died(&self) {
        let mut died = self.died.clone();
        let _ = died.wait_for(|died| *died).await;
    }
}

/// Starts the broker.
///
/// # Errors
/// [`BrokerError`], which says what to do.
pub async fn start(config: BrokerConfig) -> Result<EmbeddedBroker, BrokerError> {
    let listener = match TcpListener::bind(config.listen) {
        Ok(listener) => listener,
        Err(source) if source.kind() == io::ErrorKind::AddrInUse => {
            let by_broker = speaks_mqtt(config.listen).await;
            return Err(BrokerError::Taken { address: config.listen, by_broker });
        }
        Err(source) => return Err(BrokerError::Bind { address: config.listen, source }),
    };
    let setup = |source| BrokerError::Setup { source };
    let address = listener.local_addr().map_err(setup)?;
    listener.set_nonblocking(true).map_err(setup)?;
    if !address.ip().is_loopback() {
        let what = if config.authority.is_some() {
            "has no TLS, passwords can be read on their way,"
        } else {
            "has no password"
        };
        tracing::warn!(%address, "the embedded MQTT broker {what} and listens to other hosts");
    }
    let (stop, stopped) = oneshot::channel();
    let (say, died) = watch::channel(false);
    let counts = Arc::<BrokerCounts>::default();
    let users = Arc::new(Users::new(config.authority.clone()));
    let (counted, asked) = (counts.clone(), users.clone());
    let run = move || {
        if let Err(error) = run(&listener, &config, &counted, &asked, stopped) {
            tracing::error!(%error, "the embedded MQTT broker cannot be started again; start heartwatch again");
            let _ = say.send(true);
        }
    };
    std::thread::Builder::new().name("mqtt-broker".to_owned()).spawn(run).map_err(setup)?;
    tracing::info!(%address, "the embedded MQTT broker listens");
    Ok(EmbeddedBroker { address, died, counts, users, _stop: stop })
}

/// Runs the broker until it is stopped; after a panic it starts again.
fn run(
    listener: &TcpListener,
    config: &BrokerConfig,
    counts: &Arc<BrokerCounts>,
    users: &Arc<Users>,
    mut stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let clock = Clock::start();
    let mut wait = Duration::ZERO;
    loop {
        let begin = clock.monotonic();
        // nothing of the old life is used again except the listener
        let life = AssertUnwindSafe(|| live(listener, config, counts, users, clock, wait, &mut stopped));
        match catch_unwind(life) {
            Ok(ended) => return ended,
            Err(panic) => {
                counts.clients.store(0, std::sync::atomic::Ordering::Relaxed);
                BrokerCounts::add(&counts.restarts);
                let restarts = BrokerCounts::get(&counts.restarts);
                let lasted = clock.monotonic().since(begin) >= RESTART_WAIT_MAX;
                wait = if lasted { RESTART_WAIT_MIN } else { (wait * 2).clamp(RESTART_WAIT_MIN, RESTART_WAIT_MAX) };
                let reason = words(&*panic);
                tracing::error!(
                    restarts,
                    reason,
                    "the embedded MQTT broker has failed and starts again: clients connect again, and publishers send again what was not confirmed"
                );
            }
        }
    }
}

/// What a panic said.
fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    match panic.downcast_ref::<String>() {
        Some(words) => words,
        None => panic.downcast_ref::<&str>().copied().unwrap_or("no reason"),
    }
}

/// From one start to its end: a stop, or a panic.
fn live(
    listener: &TcpListener,
    config: &BrokerConfig,
    counts: &Arc<BrokerCounts>,
    users: &Arc<Users>,
    clock: Clock,
    wait: Duration,
    stopped: &mut oneshot::Receiver<()>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let inside = Rc::new(Inside {
        hub: RefCell::new(Hub::new(config.clone(), counts.clone(), clock)),
        counts: counts.clone(),
        users: users.clone(),
        packet_bytes_max: config.packet_bytes_max,
        panics_at: config.panics_at.clone(),
    });
    LocalSet::new().block_on(&runtime, async {
        tokio::time::sleep(wait).await;
        let listener = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
        let mut clients = JoinSet::new();
        // publishers of one host have one address: they are not bounded by it
        let limits = ConnectionLimits {
            connections_max: config.connections_max,
            connections_per_address_max: config.connections_max,
        };
        let connections = Connections::new("the embedded MQTT broker", limits, counts.connections.clone(), clock);
        loop {
            tokio::select! {
                _ = &mut *stopped => return Ok(()),
                Some(ended) = clients.join_next() => {
                    BrokerCounts::subtract(&counts.clients);
                    pass_on(ended);
                }
                (stream, peer, connection) = connections.accept(&listener, |_| true) => {
                    BrokerCounts::add(&counts.clients);
                    clients.spawn_local(serve(stream, peer, connection, inside.clone()));
                }
            }
        }
    })
}

/// A panic in a connection may have left half of something behind: it is one of the whole broker.
fn pass_on(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        resume_unwind(panic);
    }
}

/// The address by which this host reaches it.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Whether what listens there answers an MQTT CONNECT, in whatever way.
async fn speaks_mqtt(address: SocketAddr) -> bool {
    let address = reachable(address);
    let id = format!("heartwatch-check-{:016x}", fastrand::u64(..));
    let host = match address.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let (_client, mut eventloop) = AsyncClient::new(MqttOptions::new(id, host, address.port()), 4);
    let answer = tokio::time::timeout(LOOK_TIMEOUT, eventloop.poll()).await;
    matches!(answer, Ok(Ok(Event::Incoming(Packet::ConnAck(_))) | Err(ConnectionError::ConnectionRefused(_))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_a_free_port() -> BrokerConfig {
        BrokerConfig { listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0), ..BrokerConfig::default() }
    }

    #[tokio::test]
    async fn a_taken_port_is_named_with_what_to_do() {
        let other = start(on_a_free_port()).await.unwrap();
        let error = start(BrokerConfig { listen: other.address(), ..on_a_free_port() }).await.unwrap_err().to_string();
        assert!(error.contains(&other.address().to_string()) && error.contains("--mqtt mqtt://"), "{error}");

        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        let error = start(BrokerConfig { listen: address, ..on_a_free_port() }).await.unwrap_err().to_string();
        assert!(error.contains("--mqtt-listen 127.0.0.1:0") && !error.contains("--mqtt mqtt://"), "{error}");
    }

    #[tokio::test]
    async fn it_ends_with_its_handle() {
        let broker = start(on_a_free_port()).await.unwrap();
        let address = broker.address();
        drop(broker);
        let free = async {
            while TcpListener::bind(address).is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), free).await.expect("the port is free again");
    }
}
