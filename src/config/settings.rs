//! The settings, fully resolved and parsed: what comes out of here needs no second check.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use lettre::message::Mailbox;
use tracing::level_filters::LevelFilter;
use url::Url;

use super::secret::Secret;
use crate::buffer::outbox::FullPolicy;
use crate::domain::deadline::{DeadlineKind, DeadlineOverride, DeadlineRules, IdPattern};
use crate::domain::flapping::FlappingLimits;
use crate::domain::maintenance::Scheduled;
use crate::domain::metrics::MetricSet;
use crate::domain::notice::NoticeFilter;
use crate::domain::publisher::PublisherId;
use crate::domain::restart::{RestartLimits, RestartPolicy};
use crate::domain::rule::Rule;
use crate::formats::envelope::{PAYLOAD_BYTES_MAX, Prefix};
use crate::formats::foreign::{Foreign, covers};
use crate::formats::source_time::TimeFormat;
use crate::sources::csv::TimeColumn;
use crate::sources::exec::ExecOptions;
use crate::web::users::User;

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where the journal and the outboxes are (`data_dir`).
    pub data_dir: PathBuf,
    /// How long a shutdown drains before what is left stays in the buffer (`grace`).
    pub grace: Duration,
    /// What is logged (`[log]`).
    pub log: LogSettings,
    /// The broker (`[mqtt]`).
    pub mqtt: MqttSettings,
    /// The database (`[influx]`).
    pub influx: InfluxSettings,
    /// Where readings come from beside the broker (`[kafka]`).
    pub kafka: KafkaSettings,
    /// Where agents keep their leases and find their configuration (`[etcd]`).
    pub etcd: EtcdSettings,
    /// What is kept on disk (`[buffer]`).
    pub buffer: BufferSettings,
    /// When silence is too long (`[watch]`).
    pub watch: WatchSettings,
    /// The web page (`[web]`).
    pub web: WebSettings,
    /// When nobody is called about some publishers (`[[maintenance]]`), in the file's order.
    pub maintenance: Vec<Scheduled>,
    /// The publishers that are started or expected (`[[publisher]]`), in the file's order; ids are distinct.
    pub publishers: Vec<PublisherSettings>,
    /// Devices that know nothing of heartwatch (`[[foreign]]`), in the file's order; no two have a topic in common
    /// unless one has all of the other's.
    pub foreign: Vec<ForeignSettings>,
    /// Alarms on readings (`[[rule]]`), in the file's order; names are distinct.
    pub rules: Vec<Rule>,
    /// Who watches the watchman (`[monitor]`).
    pub monitor: MonitorSettings,
    /// The mail server (`[mail]`), when there is one.
    pub mail: Option<MailSettings>,
    /// Who is told of verdict changes (`[[notify]]`), in the file's order; names are distinct.
    pub notify: Vec<NotifySettings>,
}

/// How the monitor itself is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitorSettings {
    /// The id under which another monitor can watch it; none: made of the host's name.
    pub id: Option<PublisherId>,
    /// Time between its own heartbeats.
    pub heartbeat: Duration,
    /// What is asked for while it is well; none: nothing.
    pub ping_url: Option<Url>,
    /// Time between two such requests.
    pub ping_interval: Duration,
    /// How often its own actors are asked whether they still handle messages, and how long they may take.
    pub check_interval: Duration,
}

/// The server that takes our mail.
#[derive(Debug, Clone, PartialEq)]
pub struct MailSettings {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub encryption: MailEncryption,
    /// The user at the server.
    pub user: Option<String>,
    /// Its password, from a file or the environment.
    pub password: Option<Secret>,
    /// Certificates (PEM) that the server's must chain to; none uses the system's.
    pub ca_file: Option<PathBuf>,
    /// The sender.
    pub from: Mailbox,
}

/// How the connection to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailEncryption {
    /// TLS from the first byte (`smtps://`).
    Tls,
    /// STARTTLS, or no mail.
    StartTls,
    /// Not at all.
    None,
}

/// Someone who is told of verdict changes.
#[derive(Debug, Clone, PartialEq)]
pub struct NotifySettings {
    /// Its name in logs, accounts and numbers.
    pub name: String,
    /// How it is reached.
    pub way: WaySettings,
    /// What it is told.
    pub filter: NoticeFilter,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Most messages a minute.
    pub per_minute_max: usize,
    /// What could not be delivered for so long is given up.
    pub age_max: Duration,
    /// Wait after the first failed attempt.
    pub backoff_min: Duration,
    /// Longest wait after a failed attempt.
    pub backoff_max: Duration,
}

impl Default for NotifySettings {
    /// What a table has where it says nothing; its name and way stand for none.
    fn default() -> Self {
        Self {
            name: String::new(),
            way: WaySettings::Email { to: Vec::new() },
            filter: NoticeFilter::default(),
            timeout: Duration::from_secs(10),
            per_minute_max: 10,
            age_max: Duration::from_secs(86_400),
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
        }
    }
}

/// A way to reach someone.
#[derive(Clone, PartialEq)]
pub enum WaySettings {
    /// A POST.
    Webhook {
        /// Where. It may be a secret itself.
        url: Url,
        /// What signs it.
        secret: Option<Secret>,
    },
    /// A local command.
    Command {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<String>,
    },
    /// Mail.
    Email {
        /// To whom.
        to: Vec<Mailbox>,
    },
}

impl fmt::Debug for WaySettings {
    /// Without the path of a webhook, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Webhook { url, .. } => write!(f, "Webhook({})", url.host_str().unwrap_or_default()),
            Self::Command { program, .. } => write!(f, "Command({})", program.display()),
            Self::Email { to } => write!(f, "Email({to:?})"),
        }
    }
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

/// What is logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// The least important level that is shown.
    pub level: LevelFilter,
}

/// The broker and how to talk to it.
#[derive(Debug, Clone, PartialEq)]
pub struct MqttSettings {
    /// Ours or yours.
    pub broker: BrokerSettings,
    /// What stands before the version in every topic.
    pub prefix: Prefix,
    /// The client id of the monitor's persistent session; none lets the monitor choose one and keep it.
    pub client_id: Option<String>,
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

/// What is kept on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BufferSettings {
    /// Most bytes of rows.
    pub bytes_max: u64,
    /// How long delivered rows stay for the page and `export`.
    pub history: Duration,
}

/// When silence is too long.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WatchSettings {
    /// How long a publisher may be silent: `deadline`, and each `[[watch.override]]`. A publisher's own
    /// deadline is not in here: see [`Settings::deadline_rules`].
    pub deadlines: DeadlineRules,
    /// When a publisher is flapping (`flapping_changes_max`, `flapping_period`, `flapping_steady`).
    pub flapping: FlappingLimits,
}

/// The web page and the JSON behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSettings {
    /// Where it listens; none: off. An address that is not loopback comes with a token or users.
    pub listen: Option<SocketAddr>,
    /// The token of operators, from a file or the environment.
    pub token: Option<Secret>,
    /// The token of those who may look and not change, from a file or the environment.
    pub read_only_token: Option<Secret>,
    /// Who may log in with a password, from a file.
    pub users: Vec<User>,
}

/// One publisher that is started or expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublisherSettings {
    /// Its id.
    pub id: PublisherId,
    /// Whether it is `never-started` when it is never heard.
    pub expected: bool,
    /// Its own deadline, before any override.
    pub deadline: Option<DeadlineKind>,
    /// Its own grace, before any override.
    pub grace: Option<Duration>,
    /// What the monitor starts for it; none: someone else starts it, we only expect it.
    pub feed: Option<FeedSettings>,
}

/// Devices of one kind that know nothing of heartwatch.
#[derive(Debug, Clone, PartialEq)]
pub struct ForeignSettings {
    /// Their topics and how they are read.
    pub device: Foreign,
    /// Their deadline, after any override.
    pub deadline: Option<DeadlineKind>,
    /// Their grace, after any override.
    pub grace: Option<Duration>,
}

/// What a publisher that we start reads, and how it publishes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedSettings {
    /// What it reads.
    pub source: FeedSource,
    /// Time between readings; zero is as fast as it goes. A program has a pace of its own: it prints a line at
    /// least this often, and zero promises nothing.
    pub interval: Duration,
    /// Time between heartbeats; none: see [`Settings::heartbeat_of`].
    pub heartbeat: Option<Duration>,
    /// A process of its own, or inside the monitor.
    pub run: RunAs,
    /// Whether it starts again at the end of the file (`loop`).
    pub looping: bool,
    /// Most readings to publish; none: no end.
    pub limit: Option<u64>,
    /// The column with the time.
    pub time_column: TimeColumn,
    /// How the times are written; none: found by looking at the file.
    pub time_format: Option<TimeFormat>,
    /// The measurement; none: the publisher's id.
    pub measurement: Option<String>,
    /// Most bytes of unconfirmed readings in its outbox.
    pub outbox_bytes_max: u64,
    /// What it does when its outbox is full.
    pub outbox_full: FullPolicy,
    /// What happens when its process ends ([`RunAs::Child`]).
    pub restart: RestartSettings,
}

/// Where the readings of a publisher that we start come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedSource {
    /// A CSV file (`csv`).
    Csv(PathBuf),
    /// What a program prints (`exec`).
    Exec(Box<ExecOptions>),
    /// These metrics of this host (`system`, `metrics`).
    System(MetricSet),
}

/// Whether, how often and after which wait a child is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RestartSettings {
    /// Which ends ask for a new start (`restart`).
    pub policy: RestartPolicy,
    /// How often (`restarts_max` within `restart_period`), after which wait (`restart_backoff_min`, `…_max`).
    pub limits: RestartLimits,
}

/// How a configured publisher runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RunAs {
    /// As a process of its own, tied to ours.
    #[default]
    Child,
    /// As an actor in the monitor's process.
    InProcess,
}

impl Default for Settings {
    /// What holds where nothing is configured.
    fn default() -> Self {
        let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        Self {
            data_dir: PathBuf::from("data"),
            grace: Duration::from_secs(10),
            log: LogSettings { level: LevelFilter::INFO },
            mqtt: MqttSettings {
                broker: BrokerSettings::Embedded { listen: loopback(1883) },
                prefix: Prefix::default(),
                client_id: None,
                user: None,
                password: None,
                ca_file: None,
                client_certificate: None,
                keep_alive: Duration::from_secs(10),
                message_bytes_max: PAYLOAD_BYTES_MAX as u64,
                backoff_min: Duration::from_millis(250),
                backoff_max: Duration::from_secs(10),
            },
            influx: InfluxSettings {
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
                backoff_min: Duration::from_millis(250),
                backoff_max: Duration::from_secs(1),
            },
            kafka: KafkaSettings::default(),
            etcd: EtcdSettings::default(),
            buffer: BufferSettings { bytes_max: 1024 * 1024 * 1024, history: Duration::from_secs(7 * 86_400) },
            watch: WatchSettings::default(),
            maintenance: Vec::new(),
            web: WebSettings { listen: Some(loopback(8080)), token: None, read_only_token: None, users: Vec::new() },
            publishers: Vec::new(),
            foreign: Vec::new(),
            rules: Vec::new(),
            monitor: MonitorSettings {
                id: None,
                heartbeat: Duration::from_secs(5),
                ping_url: None,
                ping_interval: Duration::from_secs(60),
                check_interval: Duration::from_secs(5),
            },
            mail: None,
            notify: Vec::new(),
        }
    }
}

/// What a feed has where its table says nothing.
pub(super) const FEED_INTERVAL: Duration = Duration::from_secs(1);
/// What an outbox may hold where nothing else is said: 64 MiB.
pub const OUTBOX_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The smallest outbox: the largest reading fits into it.
pub const OUTBOX_BYTES_MIN: u64 = 256 * 1024;

impl Settings {
    /// The same for a server, which has agents where a monitor has a broker and publishers, and Kafka where that has
    /// InfluxDB. What nobody has set elsewhere does not collide with a monitor on the same host.
    #[must_use]
    pub fn for_server(mut self) -> Self {
        let default = Self::default();
        if self.data_dir == default.data_dir {
            self.data_dir = default.data_dir.join("server");
        }
        if self.web.listen == default.web.listen {
            self.web.listen = Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081));
        }
        self.influx.url = None;
        (self.publishers, self.foreign) = (Vec::new(), Vec::new());
        self
    }

    /// The deadline of every publisher: its own one first, then the overrides in their order, then those of foreign
    /// devices, then the general one.
    #[must_use]
    pub fn deadline_rules(&self) -> DeadlineRules {
        let has_own = |publisher: &&PublisherSettings| publisher.deadline.is_some() || publisher.grace.is_some();
        let own = self.publishers.iter().filter(has_own).map(|publisher| DeadlineOverride {
            // an id has no '*' in it, so that as a pattern it matches only itself
            publishers: IdPattern::new(publisher.id.as_str()),
            kind: publisher.deadline,
            grace: publisher.grace,
        });
        let foreign = self.foreign.iter().filter(|foreign| foreign.deadline.is_some() || foreign.grace.is_some());
        let foreign = foreign.map(|foreign| DeadlineOverride {
            publishers: IdPattern::new(foreign.device.publisher.wildcard()),
            kind: foreign.deadline,
            grace: foreign.grace,
        });
        let overrides = own.chain(self.watch.deadlines.overrides.iter().cloned()).chain(foreign).collect();
        DeadlineRules { overrides, ..self.watch.deadlines }
    }

    /// What the monitor subscribes to: what publishers of ours say, and foreign devices. A filter that another one
    /// covers is left out, because a broker may deliver a message once for each.
    #[must_use]
    pub fn mqtt_filters(&self) -> Vec<String> {
        let foreign: Vec<String> = self.foreign.iter().map(|foreign| foreign.device.topic.filter()).collect();
        let covered = |index: usize, filter: &String| {
            foreign.iter().enumerate().any(|(other, wider)| {
                // of two equal ones the first stays
                other != index && covers(wider, filter) && (other < index || !covers(filter, wider))
            })
        };
        let needed = foreign.iter().enumerate().filter(|(index, filter)| !covered(*index, filter));
        self.mqtt.prefix.monitor_filters().into_iter().chain(needed.map(|(_, filter)| filter.clone())).collect()
    }

    /// How often a publisher that we start sends a heartbeat: what its table says, else five times within its
    /// deadline, but no more often than every 100 ms and no less than every 10 s.
    #[must_use]
    pub fn heartbeat_of(&self, publisher: &PublisherSettings) -> Duration {
        let configured = publisher.feed.as_ref().and_then(|feed| feed.heartbeat);
        configured.unwrap_or_else(|| {
            let deadline = publisher.deadline.unwrap_or_else(|| self.watch.deadlines.of(&publisher.id).kind);
            heartbeat_within(deadline.initial())
        })
    }
}

/// How often to send a heartbeat where only the deadline is known.
#[must_use]
pub fn heartbeat_within(deadline: Duration) -> Duration {
    (deadline / 5).clamp(Duration::from_millis(100), Duration::from_secs(10))
}
