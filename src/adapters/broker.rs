//! The embedded MQTT broker (rumqttd), so that a laptop needs no server.
//!
//! - It keeps everything in memory and forgets it when the program ends: readings are safe in the
//!   publishers' outboxes until the monitor has confirmed them, not here.
//! - Memory is bounded. Messages are kept per subscription filter, in segments, and at the limit
//!   the oldest segment is dropped without a word. By default 8 segments of 4 MiB (and the one
//!   being filled) for a filter, so a monitor may be 32 MiB of readings behind; 2 of 256 KiB for
//!   heartbeats, goodbyes, last wills and given-up notes; 1 of 16 KiB for each publisher's
//!   confirmations, which are repeated anyway. A small message costs some 250 bytes more than its size.
//!   Kept messages are not freed when they are delivered, only when newer ones push them out.
//! - rumqttd has no call to stop it: it lives until the process ends.
//! - rumqttd logs a bind that failed, and goes on. So the address is tried first, and in the end a
//!   word of ours must come back over TCP from this very broker.
//! - A topic or filter that begins with a letter beyond ASCII makes rumqttd 0.20 panic (it cuts the text after its
//!   first byte). [`EmbeddedBroker::died`] tells, so that the program can end and be started again.
//! - There is no password: listen on loopback, or use a broker of your own.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Packet, QoS};
use rumqttd::local::{LinkRx, LinkTx};
use rumqttd::{Broker, Config, ConnectionSettings, Notification, RouterConfig, SegmentConfig, ServerSettings};
use tokio::sync::watch;

use crate::formats::envelope::{Prefix, TopicKind};

/// How long the broker may take until our own word comes back from it.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long what holds a taken port may take to say whether it is a broker.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);
/// With port 0 another program may take the port that was chosen: so many are tried.
const FREE_PORTS_TRIED: u32 = 3;

/// Where the embedded broker listens, and what bounds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerConfig {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The prefix of our topics: most of them need little memory.
    pub prefix: Prefix,
    /// Most clients at a time.
    pub connections_max: usize,
    /// Largest packet; a client that sends a larger one is disconnected.
    pub packet_bytes_max: usize,
    /// Size of a segment.
    pub segment_bytes_max: usize,
    /// Full segments kept for a filter.
    pub segments_max: usize,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1883),
            prefix: Prefix::default(),
            connections_max: 2_000,
            packet_bytes_max: 16 * 1024 * 1024,
            segment_bytes_max: 4 * 1024 * 1024,
            segments_max: 8,
        }
    }
}

/// Why the embedded broker could not be started.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// Another program listens there.
    #[error("cannot start the embedded MQTT broker on {address}: {}", taken(*.address, *.by_broker))]
    Taken {
        /// The address.
        address: SocketAddr,
        /// Whether what listens there speaks MQTT.
        by_broker: bool,
    },
    /// The system does not let us listen there.
    #[error("cannot listen on {address} for the embedded MQTT broker: {source}; choose another with --mqtt-listen")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        source: io::Error,
    },
    /// A broker answers there, and it is another one.
    #[error(
        "the MQTT broker that answers on {address} is not the embedded one: another program took the port; \
         choose another with --mqtt-listen"
    )]
    NotOurs {
        /// The address.
        address: SocketAddr,
    },
    /// Nothing answers there as a broker should.
    #[error("the embedded MQTT broker does not answer on {address}: {reason}")]
    NoAnswer {
        /// The address.
        address: SocketAddr,
        /// What happened last.
        reason: String,
    },
    /// It could not be set up at all.
    #[error("cannot set up the embedded MQTT broker: {reason}")]
    Setup {
        /// What went wrong.
        reason: String,
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

/// The broker that runs in this process, until the process ends.
#[derive(Debug)]
pub struct EmbeddedBroker {
    address: SocketAddr,
    died: watch::Receiver<bool>,
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

    /// Waits until it has died, which only its own failure brings about: end the program then.
    pub async fn died(&self) {
        let mut died = self.died.clone();
        let _ = died.wait_for(|died| *died).await;
    }
}

/// Starts the broker and makes sure that it is the one that answers.
///
/// # Errors
/// [`BrokerError`], which says what to do.
pub async fn start(config: BrokerConfig) -> Result<EmbeddedBroker, BrokerError> {
    let mut tried = 1;
    loop {
        match start_once(&config).await {
            Err(BrokerError::NotOurs { .. } | BrokerError::NoAnswer { .. })
                if config.listen.port() == 0 && tried < FREE_PORTS_TRIED =>
            {
                tried += 1;
            }
            other => return other,
        }
    }
}

async fn start_once(config: &BrokerConfig) -> Result<EmbeddedBroker, BrokerError> {
    let address = match free(config.listen) {
        Ok(address) => address,
        Err(source) if source.kind() == io::ErrorKind::AddrInUse => {
            let by_broker = speaks_mqtt(config.listen).await;
            return Err(BrokerError::Taken { address: config.listen, by_broker });
        }
        Err(source) => return Err(BrokerError::Bind { address: config.listen, source }),
    };
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "the embedded MQTT broker has no password and listens to other hosts");
    }
    let settings = rumqttd_config(config, address);
    let mut broker = Broker::new(settings);
    let nonce = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    let (mut sends, receives) =
        broker.link(&format!("heartwatch-inside-{nonce}")).map_err(|error| setup(&error.to_string()))?;
    let topic = format!("heartwatch-check/{nonce}");
    sends.subscribe(topic.as_str()).map_err(|error| setup(&error.to_string()))?;
    std::thread::Builder::new()
        .name("mqtt-broker".to_owned())
        .spawn(move || {
            if let Err(error) = broker.start() {
                tracing::error!(%error, "the embedded MQTT broker has ended");
            }
        })
        .map_err(|error| setup(&error.to_string()))?;
    let receives = is_ours(reachable(address), &topic, receives).await?;
    tracing::info!(%address, "the embedded MQTT broker listens");
    Ok(EmbeddedBroker { address, died: watch_over(sends, receives) })
}

fn setup(reason: &str) -> BrokerError {
    BrokerError::Setup { reason: reason.to_owned() }
}

/// Whether we may listen there, and on which port: rumqttd itself would not say.
fn free(listen: SocketAddr) -> io::Result<SocketAddr> {
    TcpListener::bind(listen)?.local_addr()
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

fn rumqttd_config(config: &BrokerConfig, listen: SocketAddr) -> Config {
    let small = SegmentConfig { max_segment_size: 256 * 1024, max_segment_count: 2 };
    let smallest = SegmentConfig { max_segment_size: 16 * 1024, max_segment_count: 1 };
    let custom_segment = [
        (TopicKind::Heartbeat, &small),
        (TopicKind::Goodbye, &small),
        (TopicKind::LastWill, &small),
        (TopicKind::GivenUp, &small),
        (TopicKind::Confirm, &smallest),
    ];
    let server = ServerSettings {
        name: "mqtt-listener".to_owned(),
        listen,
        tls: None,
        next_connection_delay_ms: 0,
        connections: ConnectionSettings {
            connection_timeout_ms: 5_000,
            max_payload_size: config.packet_bytes_max,
            // packets that it reads from one connection in one go
            max_inflight_count: 100,
            auth: None,
            external_auth: None,
            dynamic_filters: true,
        },
    };
    Config {
        id: 0,
        router: RouterConfig {
            max_connections: config.connections_max,
            max_outgoing_packet_count: 200,
            max_segment_size: config.segment_bytes_max,
            max_segment_count: config.segments_max,
            custom_segment: Some(
                custom_segment.into_iter().map(|(kind, size)| (config.prefix.filter(kind), size.clone())).collect(),
            ),
            initialized_filters: None,
            ..RouterConfig::default()
        },
        v4: Some(HashMap::from([("v4".to_owned(), server)])),
        ..Config::default()
    }
}

/// Sends a word to the address over TCP and waits until it comes out of our broker from inside.
async fn is_ours(address: SocketAddr, topic: &str, mut receives: LinkRx) -> Result<LinkRx, BrokerError> {
    let came = async {
        loop {
            match receives.next().await {
                Ok(Some(Notification::Forward(forward))) if forward.publish.topic == topic.as_bytes() => return,
                Ok(_) => {}
                Err(_) => std::future::pending().await,
            }
        }
    };
    let mut last_reason = "no answer".to_owned();
    let said = async {
        let (client, mut eventloop) = client(address);
        loop {
            match eventloop.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    // its queue is empty: there is room
                    let _ = client.try_publish(topic, QoS::AtLeastOnce, false, Vec::new());
                }
                // it took the word; ours would have given it to us by now, or does so very soon
                Ok(Event::Incoming(Packet::PubAck(_))) => {
                    tokio::time::sleep(LOOK_TIMEOUT).await;
                    return true;
                }
                Ok(_) => {}
                Err(error) => {
                    last_reason = error.to_string();
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    };
    let taken_by_other = tokio::select! {
        biased;
        () = came => None,
        taken = tokio::time::timeout(CHECK_TIMEOUT, said) => Some(taken.unwrap_or(false)),
    };
    match taken_by_other {
        None => Ok(receives),
        Some(true) => Err(BrokerError::NotOurs { address }),
        Some(false) => Err(BrokerError::NoAnswer { address, reason: last_reason }),
    }
}

/// Whether what listens there answers an MQTT CONNECT, in whatever way.
async fn speaks_mqtt(address: SocketAddr) -> bool {
    let (_client, mut eventloop) = client(reachable(address));
    let answer = tokio::time::timeout(LOOK_TIMEOUT, eventloop.poll()).await;
    matches!(answer, Ok(Ok(Event::Incoming(Packet::ConnAck(_))) | Err(ConnectionError::ConnectionRefused(_))))
}

fn client(address: SocketAddr) -> (AsyncClient, EventLoop) {
    let id = format!("heartwatch-check-{:016x}", fastrand::u64(..));
    let host = match address.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    AsyncClient::new(MqttOptions::new(id, host, address.port()), 4)
}

/// The link inside ends when the broker's own thread does.
fn watch_over(sends: LinkTx, mut receives: LinkRx) -> watch::Receiver<bool> {
    let (say, died) = watch::channel(false);
    tokio::spawn(async move {
        let _kept_open = sends;
        while receives.next().await.is_ok() {}
        tracing::error!("the embedded MQTT broker has died; start heartwatch again");
        let _ = say.send(true);
    });
    died
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_a_free_port() -> BrokerConfig {
        BrokerConfig { listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0), ..BrokerConfig::default() }
    }

    #[tokio::test]
    async fn a_broker_that_answers_and_is_not_ours_is_noticed() {
        let other = start(on_a_free_port()).await.unwrap();
        // our own broker lives inside, and the port belongs to the other
        let broker = Broker::new(rumqttd_config(&on_a_free_port(), on_a_free_port().listen));
        let (mut sends, receives) = broker.link("inside").unwrap();
        sends.subscribe("heartwatch-check/1").unwrap();
        let error = is_ours(other.address(), "heartwatch-check/1", receives).await.unwrap_err();
        assert!(matches!(error, BrokerError::NotOurs { .. }), "{error}");
        assert!(error.to_string().contains(&other.address().to_string()), "{error}");
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
    async fn its_death_is_told() {
        let broker = start(on_a_free_port()).await.unwrap();
        let (client, mut eventloop) = client(broker.address());
        client.try_subscribe("x/#", QoS::AtLeastOnce).unwrap();
        client.try_publish("ä", QoS::AtLeastOnce, false, Vec::new()).unwrap();
        let polling = async { while eventloop.poll().await.is_ok() {} };
        tokio::select! {
            () = broker.died() => {}
            () = async { polling.await; std::future::pending::<()>().await } => {}
            () = tokio::time::sleep(Duration::from_secs(10)) => panic!("rumqttd survived: mend the documentation"),
        }
    }
}
