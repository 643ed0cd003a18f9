//! The servers that the monitor uses: `[mqtt]`, `[influx]`, `[kafka]` and `[etcd]`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::loopback;
use crate::config::secret::Secret;
use heartwatch_formats::broker_user::Authority;
use heartwatch_formats::envelope::{PAYLOAD_BYTES_MAX, Prefix};

/// The broker and how to talk to it.
#[derive(Debug, Clone, PartialEq)]
pub struct MqttSettings {
    /// Ours or yours.
    pub broker: BrokerSettings,
    /// What stands before the version in every topic.
    pub prefix: Prefix,
    /// The client id of the monitor's persistent session; none lets the monitor choose one and keep it.
    pub client_id: Option<String>,
    /// The users of the embedded broker; none lets everybody do everything.
    pub authority: Option<Arc<Authority>>,
    /// The user at the broker.
    pub user: Option<String>,
    /// Its password, from a file or the environment.
    pub password: Option<Secret>,
    /// Certificates (PEM) that the broker's must chain to, for `mqtts://`; none uses the system's.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate for `mqtts://`.
    pub client_certificate: Option<ClientCertificate>,
    /// The MQTT keep-alive interval.
    pub keep_alive: Duration,
    /// Largest message either way, in bytes.
    pub message_bytes_max: u64,
    /// First wait before a reconnect.
    pub backoff_min: Duration,
    /// Longest wait before a reconnect.
    pub backoff_max: Duration,
}

impl Default for MqttSettings {
    fn default() -> Self {
        Self {
            broker: BrokerSettings::Embedded { listen: loopback(1883) },
            prefix: Prefix::default(),
            client_id: None,
            authority: None,
            user: None,
            password: None,
            ca_file: None,
            client_certificate: None,
            keep_alive: Duration::from_secs(10),
            message_bytes_max: PAYLOAD_BYTES_MAX as u64,
            backoff_min: Duration::from_millis(250),
            backoff_max: Duration::from_secs(10),
        }
    }
}

/// Whose broker is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerSettings {
    /// Our own, inside this program, on this address.
    Embedded {
        /// Where it listens.
        listen: SocketAddr,
    },
    /// One that runs already: `mqtt://` or `mqtts://` with a host.
    At(Url),
}

/// A client certificate and its key, both PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate chain.
    pub certificate_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// The database and how to write to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InfluxSettings {
    /// Where it answers (`http://` or `https://`); none: rows stay in the embedded store.
    pub url: Option<Url>,
    /// Which write API.
    pub version: InfluxVersion,
    /// The database (1.x, 3.x).
    pub db: String,
    /// The user (1.x).
    pub user: Option<String>,
    /// Its password (1.x), from a file or the environment.
    pub password: Option<Secret>,
    /// The organisation (2.x).
    pub org: Option<String>,
    /// The bucket (2.x); none: the same name as `db`.
    pub bucket: Option<String>,
    /// The token (2.x, 3.x), from a file or the environment.
    pub token: Option<Secret>,
    /// Most rows in one request.
    pub batch_rows_max: u64,
    /// Most bytes of rows in one request, before compression.
    pub batch_bytes_max: u64,
    /// Longest time that a row waits for others.
    pub flush_interval: Duration,
    /// How long one request may take.
    pub timeout: Duration,
    /// Whether bodies are compressed.
    pub gzip: bool,
    /// First wait after a failed request.
    pub backoff_min: Duration,
    /// Longest wait after a failed request.
    pub backoff_max: Duration,
}

impl Default for InfluxSettings {
    fn default() -> Self {
        Self {
            url: None,
            version: InfluxVersion::Auto,
            db: "heartwatch".to_owned(),
            user: None,
            password: None,
            org: None,
            bucket: None,
            token: None,
            batch_rows_max: 20_000,
            batch_bytes_max: 4 * 1024 * 1024,
            flush_interval: Duration::from_secs(1),
            timeout: Duration::from_secs(10),
            gzip: true,
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(1),
        }
    }
}

/// Which write API of InfluxDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InfluxVersion {
    /// Found out from the server, and from which of org, bucket and token are there.
    #[default]
    Auto,
    /// 1.x
    V1,
    /// 2.x
    V2,
    /// 3.x
    V3,
}

/// Kafka, from which a monitor takes readings, and to which a server hands them on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaSettings {
    /// `HOST:PORT`, with commas between several; none uses no Kafka.
    pub brokers: Option<String>,
    /// The consumer group as which the monitor reads: those with the same one share the topic.
    pub group: String,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self { brokers: None, group: "heartwatch".to_owned() }
    }
}

/// etcd, where agents keep their leases and find their configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EtcdSettings {
    /// Its members; empty uses no etcd.
    pub endpoints: Vec<Url>,
    /// The user; none asks for no login.
    pub user: Option<String>,
    /// Its password, from a file or the environment.
    pub password: Option<Secret>,
    /// The certificates to trust with `https://`; none: the system's.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate for `https://`.
    pub client_certificate: Option<ClientCertificate>,
}
