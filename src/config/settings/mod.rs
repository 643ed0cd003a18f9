//! The settings, fully resolved and parsed: what comes out of here needs no second check. Here is the whole, and what
//! follows from several of its tables; the larger tables are in files of their own.

mod notify;
mod publishers;
mod servers;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use tracing::level_filters::LevelFilter;

pub use self::notify::{MailEncryption, MailSettings, MonitorSettings, NotifySettings, WaySettings};
pub(super) use self::publishers::FEED_INTERVAL;
pub use self::publishers::{
    FeedSettings, FeedSource, ForeignSettings, OUTBOX_BYTES_MAX, OUTBOX_BYTES_MIN, PublisherSettings, RestartSettings,
    RunAs,
};
pub use self::servers::{
    BrokerSettings, ClientCertificate, EtcdSettings, InfluxSettings, InfluxVersion, KafkaSettings, MqttSettings,
};
use super::secret::Secret;
use crate::web::users::User;
use heartwatch_domain::deadline::{DeadlineOverride, DeadlineRules, IdPattern};
use heartwatch_domain::flapping::FlappingLimits;
use heartwatch_domain::maintenance::Scheduled;
use heartwatch_domain::rule::Rule;
use heartwatch_formats::foreign::covers;

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

/// What is logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// The least important level that is shown.
    pub level: LevelFilter,
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
    /// Whether a browser gets its session for HTTPS only, although we listen on loopback: a proxy with TLS stands before us.
    pub secure_cookies: bool,
    /// Proxies that are believed when they say whom they speak for (`X-Forwarded-For`).
    pub trusted_proxies: Vec<IpNet>,
}

impl Default for Settings {
    /// What holds where nothing is configured.
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data"),
            grace: Duration::from_secs(10),
            log: LogSettings { level: LevelFilter::INFO },
            mqtt: MqttSettings::default(),
            influx: InfluxSettings::default(),
            kafka: KafkaSettings::default(),
            etcd: EtcdSettings::default(),
            buffer: BufferSettings { bytes_max: 1024 * 1024 * 1024, history: Duration::from_secs(7 * 86_400) },
            watch: WatchSettings::default(),
            maintenance: Vec::new(),
            web: WebSettings {
                listen: Some(loopback(8080)),
                token: None,
                read_only_token: None,
                users: Vec::new(),
                secure_cookies: false,
                trusted_proxies: Vec::new(),
            },
            publishers: Vec::new(),
            foreign: Vec::new(),
            rules: Vec::new(),
            monitor: MonitorSettings::default(),
            mail: None,
            notify: Vec::new(),
        }
    }
}

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
            self.web.listen = Some(loopback(8081));
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

/// An address that only programs on this host reach.
const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}
