//! The settings, fully resolved and parsed: what comes out of here needs no second check. Here is the whole, and what
//! follows from several of its tables; the larger tables are in files of their own.

mod mqtt;
mod notify;
mod publishers;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

pub use self::mqtt::{Broker, Mqtt};
pub use self::notify::{Monitor, NotifyEntry, Way};
pub use self::publishers::{ForeignEntry, Managed, PublisherEntry, RunAs};
use crate::actors::influx_writer::WriterConfig;
use crate::actors::subscriber::SetTopics;
use crate::web::WebConfig;
use heartwatch_adapters::influx::InfluxConfig;
use heartwatch_adapters::mail::MailServer;
use heartwatch_domain::deadline::{DeadlineOverride, DeadlineRules, IdPattern};
use heartwatch_domain::flapping::FlappingLimits;
use heartwatch_domain::maintenance::Scheduled;
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::roster::RosterConfig;
use heartwatch_domain::rule::Rule;
use heartwatch_domain::watch::LocalHost;
use heartwatch_formats::foreign::covers;
use heartwatch_ports::servers::{EtcdConfig, KafkaConfig};
use heartwatch_store::journal::{BufferLimits, JournalConfig};

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where the journal and the outboxes are (`data_dir`).
    pub data_dir: PathBuf,
    /// How long a shutdown drains before what is left stays in the buffer (`grace`).
    pub grace: Duration,
    /// The least important level that is logged (`[log]`).
    pub log_level: LevelFilter,
    /// The broker (`[mqtt]`).
    pub mqtt: Mqtt,
    /// The database (`[influx]`); none: rows stay in the embedded store.
    pub influx: Option<InfluxConfig>,
    /// How rows are delivered to it (`[influx]`, too).
    pub writer: WriterConfig,
    /// Where readings come from beside the broker (`[kafka]`); none: from nowhere.
    pub kafka: Option<KafkaConfig>,
    /// Where agents keep their leases and find their configuration (`[etcd]`); none: nowhere.
    pub etcd: Option<EtcdConfig>,
    /// What is kept on disk (`[buffer]`).
    pub buffer: BufferLimits,
    /// How long a publisher may be silent (`[watch]`): `deadline`, and each `[[watch.override]]`. A publisher's own
    /// deadline is not in here: see [`Settings::deadline_rules`].
    pub deadlines: DeadlineRules,
    /// When a publisher is flapping (`flapping_changes_max`, `flapping_period`, `flapping_steady` of `[watch]`).
    pub flapping: FlappingLimits,
    /// The web page (`[web]`); none: off. At an address that is not loopback it has a token or users.
    pub web: Option<WebConfig>,
    /// When nobody is called about some publishers (`[[maintenance]]`), in the file's order.
    pub maintenance: Vec<Scheduled>,
    /// The publishers that are started or expected (`[[publisher]]`), in the file's order; ids are distinct.
    pub publishers: Vec<PublisherEntry>,
    /// Devices that know nothing of heartwatch (`[[foreign]]`), in the file's order; no two have a topic in common
    /// unless one has all of the other's.
    pub foreign: Vec<ForeignEntry>,
    /// Alarms on readings (`[[rule]]`), in the file's order; names are distinct.
    pub rules: Vec<Rule>,
    /// Who watches the watchman (`[monitor]`).
    pub monitor: Monitor,
    /// The mail server (`[mail]`), when there is one.
    pub mail: Option<MailServer>,
    /// Who is told of verdict changes (`[[notify]]`), in the file's order; names are distinct.
    pub notify: Vec<NotifyEntry>,
}

impl Default for Settings {
    /// What holds where nothing is configured.
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data"),
            grace: Duration::from_secs(10),
            log_level: LevelFilter::INFO,
            mqtt: Mqtt::default(),
            influx: None,
            writer: WriterConfig::default(),
            kafka: None,
            etcd: None,
            buffer: BufferLimits::default(),
            deadlines: DeadlineRules::default(),
            flapping: FlappingLimits::default(),
            web: Some(WebConfig::at(loopback(8080))),
            maintenance: Vec::new(),
            publishers: Vec::new(),
            foreign: Vec::new(),
            rules: Vec::new(),
            monitor: Monitor::default(),
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
        if let Some(web) = &mut self.web
            && default.web.is_some_and(|default| default.listen == web.listen)
        {
            web.listen = loopback(8081);
        }
        self.influx = None;
        (self.publishers, self.foreign) = (Vec::new(), Vec::new());
        self
    }

    /// The deadline of every publisher: its own one first, then the overrides in their order, then those of foreign
    /// devices, then the general one.
    #[must_use]
    pub fn deadline_rules(&self) -> DeadlineRules {
        let has_own = |publisher: &&PublisherEntry| publisher.deadline.is_some() || publisher.grace.is_some();
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
        let overrides = own.chain(self.deadlines.overrides.iter().cloned()).chain(foreign).collect();
        DeadlineRules { overrides, ..self.deadlines }
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
    pub fn heartbeat_of(&self, publisher: &PublisherEntry) -> Duration {
        let configured = publisher.managed.as_ref().and_then(|managed| managed.heartbeat);
        configured.unwrap_or_else(|| {
            let deadline = publisher.deadline.unwrap_or_else(|| self.deadlines.of(&publisher.id).kind);
            heartbeat_within(deadline.initial())
        })
    }

    /// The monitor's journal.
    #[must_use]
    pub fn journal(&self) -> JournalConfig {
        JournalConfig::within(&self.data_dir, self.buffer.with_sink(self.influx.is_some()))
    }

    /// What the subscriber listens to: ours but what `own` says, and foreign devices.
    #[must_use]
    pub fn topics(&self, own: &PublisherId) -> SetTopics {
        let foreign = self.foreign.iter().map(|foreign| foreign.device.clone()).collect();
        let (prefix, own) = (self.mqtt.prefix.clone(), own.clone());
        SetTopics { prefix, own, foreign: Arc::new(foreign), numbers_in_rows: false, deadlines: self.deadline_rules() }
    }

    /// The publishers that the configuration expects.
    #[must_use]
    pub fn expected(&self) -> Vec<PublisherId> {
        self.ids(|publisher| publisher.expected)
    }

    /// The publishers that run in the monitor's own process.
    #[must_use]
    pub fn inside(&self) -> Vec<PublisherId> {
        self.ids(|publisher| publisher.managed.as_ref().is_some_and(|managed| managed.run == RunAs::InProcess))
    }

    fn ids(&self, wanted: impl Fn(&PublisherEntry) -> bool) -> Vec<PublisherId> {
        self.publishers.iter().filter(|publisher| wanted(publisher)).map(|publisher| publisher.id.clone()).collect()
    }

    /// The roster that the watchdog keeps.
    #[must_use]
    pub fn roster(&self, home: LocalHost) -> RosterConfig {
        RosterConfig {
            rules: self.deadline_rules(),
            expected: self.expected(),
            inside: self.inside(),
            started_by_us: self.ids(|publisher| publisher.managed.is_some()).into_iter().collect(),
            scheduled: self.maintenance.clone(),
            flapping: self.flapping,
            ..RosterConfig::new(home)
        }
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
