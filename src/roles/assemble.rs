//! Settings → the parts' own configurations. The one place that knows both.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use crate::actors::influx_writer::WriterConfig;
use crate::actors::publisher::PublisherConfig;
use crate::actors::subscriber::SetTopics;
use crate::config::{
    BrokerSettings, FeedSettings, FeedSource, InfluxVersion, MqttSettings, RunAs, Settings, WebSettings,
};
#[cfg(feature = "hosts")]
use crate::config::{ClientCertificate, EtcdSettings};
use crate::sources::SourceConfig;
use crate::sources::csv::CsvConfig;
use crate::sources::exec::ExecConfig;
use crate::sources::system::SystemConfig;
use crate::web::WebConfig;
use heartwatch_adapters::broker::BrokerConfig;
use heartwatch_adapters::influx::{InfluxConfig, InfluxSink, InfluxVersion as SinkVersion};
use heartwatch_adapters::mqtt::{MqttConfig, Secret};
use heartwatch_domain::publisher::{HostName, Incarnation, PublisherId};
use heartwatch_domain::retransmitter::DeliveryLimits;
use heartwatch_domain::roster::RosterConfig;
use heartwatch_domain::watch::LocalHost;
#[cfg(feature = "hosts")]
use heartwatch_fleet::etcd::{EtcdConfig, Login, Password};
#[cfg(feature = "hosts")]
use heartwatch_fleet::tls::ClientFiles;
use heartwatch_ports::{ProcessTable, Sink};
use heartwatch_store::journal::JournalConfig;
use heartwatch_system::descriptors::{self, Shares};

/// Entries that may wait for the journal's next commit.
const JOURNAL_QUEUE_ENTRIES_MAX: usize = 20_000;
/// Readings in one message of a publisher that reads as fast as it goes.
const BATCH_READINGS_MAX: usize = 500;
/// How long a publisher waits for its last confirmations.
const CONFIRM_GRACE: std::time::Duration = std::time::Duration::from_secs(10);

/// This host and boot.
///
/// # Errors
/// When the system's host name has no letter that a host name may have.
pub(super) fn home(table: &dyn ProcessTable) -> anyhow::Result<LocalHost> {
    let (boot_id, pid) = table.own_identity().map(|identity| (identity.boot_id, identity.pid)).unzip();
    Ok(LocalHost { host: heartwatch_system::host::host_name()?, boot_id, pid })
}

/// The embedded broker's configuration, or none when another one is used.
#[must_use]
pub(super) fn broker(mqtt: &MqttSettings) -> Option<BrokerConfig> {
    match mqtt.broker {
        BrokerSettings::Embedded { listen } => {
            // A test of the whole program makes its broker panic; nobody else can.
            let panics_at = std::env::var("HEARTWATCH_TEST_BROKER_PANICS_AT").ok().filter(|_| cfg!(debug_assertions));
            let default = BrokerConfig::default();
            let share = Shares::of(descriptors::limit()).publisher_connections_max;
            let authority = mqtt.authority.clone();
            let connections_max = default.connections_max.min(share);
            Some(BrokerConfig { listen, prefix: mqtt.prefix.clone(), connections_max, panics_at, authority, ..default })
        }
        BrokerSettings::At(_) => None,
    }
}

/// A connection to the broker at `url`.
#[must_use]
pub(super) fn mqtt(settings: &MqttSettings, url: &str, client_id: &str) -> MqttConfig {
    let mut config = MqttConfig::new(url, client_id);
    config.user = settings.user.clone();
    config.password = settings.password.as_ref().map(|secret| Secret::new(secret.expose()));
    config.ca_file = settings.ca_file.clone();
    if let Some(own) = &settings.client_certificate {
        config.client_certificate_file = Some(own.certificate_file.clone());
        config.client_key_file = Some(own.key_file.clone());
    }
    config.keep_alive = settings.keep_alive;
    config.message_bytes_max = usize::try_from(settings.message_bytes_max).unwrap_or(usize::MAX);
    config.backoff_min = settings.backoff_min;
    config.backoff_max = settings.backoff_max;
    config
}

/// What the subscriber listens to: ours but what `own` says, and foreign devices.
#[must_use]
pub(super) fn topics(settings: &Settings, own: &PublisherId) -> SetTopics {
    let foreign = settings.foreign.iter().map(|foreign| foreign.device.clone()).collect();
    let (prefix, own) = (settings.mqtt.prefix.clone(), own.clone());
    SetTopics { prefix, own, foreign: Arc::new(foreign), numbers_in_rows: false, deadlines: settings.deadline_rules() }
}

/// The InfluxDB, when one is configured.
#[must_use]
pub(super) fn influx(settings: &Settings) -> Option<InfluxConfig> {
    let influx = &settings.influx;
    let mut config = InfluxConfig::at(influx.url.clone()?);
    config.version = match influx.version {
        InfluxVersion::Auto => SinkVersion::Auto,
        InfluxVersion::V1 => SinkVersion::V1,
        InfluxVersion::V2 => SinkVersion::V2,
        InfluxVersion::V3 => SinkVersion::V3,
    };
    config.database = influx.db.clone();
    config.user = influx.user.clone();
    config.password = influx.password.as_ref().map(|secret| secret.expose().to_owned());
    config.org = influx.org.clone();
    config.bucket = influx.bucket.clone();
    config.token = influx.token.as_ref().map(|secret| secret.expose().to_owned());
    config.request_timeout = influx.timeout;
    config.gzip = influx.gzip;
    Some(config)
}

/// Where rows end up beyond the journal.
///
/// # Errors
/// When the HTTP client cannot be made.
pub(super) fn sink(settings: &Settings) -> anyhow::Result<Option<Arc<dyn Sink>>> {
    let Some(config) = influx(settings) else { return Ok(None) };
    Ok(Some(Arc::new(InfluxSink::new(config)?)))
}

/// Messages from Kafka that wait for the subscriber.
#[cfg(feature = "kafka")]
const KAFKA_QUEUE_MESSAGES_MAX: usize = 1_024;

/// The Kafka that readings come from, when one is configured.
#[cfg(feature = "kafka")]
#[must_use]
pub(super) fn kafka(settings: &Settings) -> Option<heartwatch_fleet::kafka::KafkaConfig> {
    Some(heartwatch_fleet::kafka::KafkaConfig {
        brokers: settings.kafka.brokers.clone()?,
        topic: heartwatch_formats::monitoring_data::TOPIC.to_owned(),
        signs_topic: heartwatch_formats::monitoring_sign::SIGNS_TOPIC.to_owned(),
        prefix: settings.mqtt.prefix.clone(),
        group: settings.kafka.group.clone(),
        messages_max: KAFKA_QUEUE_MESSAGES_MAX,
    })
}

/// How rows are delivered.
#[must_use]
pub(super) fn writer(settings: &Settings) -> WriterConfig {
    let influx = &settings.influx;
    WriterConfig {
        batch_rows_max: influx.batch_rows_max,
        batch_bytes_max: usize::try_from(influx.batch_bytes_max).unwrap_or(usize::MAX),
        flush_interval: influx.flush_interval,
        backoff_min: influx.backoff_min,
        backoff_max: influx.backoff_max,
        ..WriterConfig::default()
    }
}

/// The page, where it is on.
#[must_use]
pub(super) fn web(settings: &Settings) -> Option<WebConfig> {
    let WebSettings { listen, token, read_only_token, users, secure_cookies, trusted_proxies } = &settings.web;
    let text = |secret: &Option<crate::config::Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
    listen.map(|listen| WebConfig {
        listen,
        token: text(token),
        read_only_token: text(read_only_token),
        users: users.clone(),
        secure_cookies: *secure_cookies,
        trusted_proxies: trusted_proxies.clone(),
        connections_max: Shares::of(descriptors::limit()).page_connections_max,
    })
}

/// The monitor's journal.
#[must_use]
pub(super) fn journal(settings: &Settings) -> JournalConfig {
    JournalConfig {
        path: settings.data_dir.join("journal.sqlite"),
        bytes_max: settings.buffer.bytes_max,
        history: settings.buffer.history,
        has_sink: settings.influx.url.is_some(),
        queue_entries_max: JOURNAL_QUEUE_ENTRIES_MAX,
    }
}

/// The publishers that the configuration expects.
#[must_use]
pub(super) fn expected(settings: &Settings) -> Vec<PublisherId> {
    settings.publishers.iter().filter(|publisher| publisher.expected).map(|publisher| publisher.id.clone()).collect()
}

/// The publishers that run in the monitor's own process.
#[must_use]
pub(super) fn inside(settings: &Settings) -> Vec<PublisherId> {
    let is_inside = |feed: &FeedSettings| feed.run == RunAs::InProcess;
    let inside = settings.publishers.iter().filter(|publisher| publisher.feed.as_ref().is_some_and(is_inside));
    inside.map(|publisher| publisher.id.clone()).collect()
}

/// The publishers that the monitor starts itself.
#[must_use]
pub(super) fn started(settings: &Settings) -> HashSet<PublisherId> {
    let started = settings.publishers.iter().filter(|publisher| publisher.feed.is_some());
    started.map(|publisher| publisher.id.clone()).collect()
}

/// The watchdog's configuration.
#[must_use]
pub(super) fn watchdog(settings: &Settings, home: LocalHost) -> RosterConfig {
    RosterConfig {
        rules: settings.deadline_rules(),
        expected: expected(settings),
        inside: inside(settings),
        started_by_us: started(settings),
        scheduled: settings.maintenance.clone(),
        flapping: settings.watch.flapping,
        ..RosterConfig::new(home)
    }
}

/// The etcd of the settings: who we are there, and whom we trust.
#[cfg(feature = "hosts")]
#[must_use]
pub(super) fn etcd(settings: &EtcdSettings) -> EtcdConfig {
    let EtcdSettings { endpoints, user, password, ca_file, client_certificate } = settings.clone();
    let own = client_certificate.map(|ClientCertificate { certificate_file, key_file }| {
        heartwatch_fleet::tls::KeyPair { certificate_file, key_file }
    });
    EtcdConfig {
        tls: ClientFiles { ca_file, own },
        login: user.zip(password).map(|(user, password)| Login { user, password: Password::new(password.expose()) }),
        ..EtcdConfig::new(endpoints)
    }
}

/// A publisher that this process runs.
///
/// # Errors
/// When this host has no usable name.
pub(super) fn publisher(
    mqtt: &MqttSettings,
    data_dir: &Path,
    id: &PublisherId,
    feed: &FeedSettings,
    heartbeat: std::time::Duration,
) -> anyhow::Result<PublisherConfig> {
    let host = heartwatch_system::host::host_name()?;
    let measurement = feed.measurement.clone().unwrap_or_else(|| id.to_string());
    let source = match &feed.source {
        FeedSource::Csv(csv) => {
            let mut source = CsvConfig::new(csv);
            source.time_format = feed.time_format;
            source.time_column = feed.time_column.clone();
            SourceConfig::Csv(source)
        }
        FeedSource::Exec(options) => {
            let source = ExecConfig::new(options.as_ref().clone(), id.clone(), host.clone(), feed.interval);
            SourceConfig::Exec(Box::new(ExecConfig { measurement: measurement.clone(), ..source }))
        }
        FeedSource::System(metrics) => {
            SourceConfig::System(SystemConfig { metrics: metrics.clone(), once: !feed.looping })
        }
    };
    Ok(PublisherConfig {
        measurement,
        interval: feed.interval,
        looping: feed.looping,
        limit: feed.limit,
        outbox: Some(data_dir.join("outbox").join(format!("{id}.sqlite"))),
        outbox_bytes_max: feed.outbox_bytes_max,
        full_policy: feed.outbox_full,
        ..publisher_of(mqtt, id, host, source, heartbeat)
    })
}

/// A publisher of this source with the usual limits, and without an outbox on disk.
#[must_use]
pub(super) fn publisher_of(
    mqtt: &MqttSettings,
    id: &PublisherId,
    host: HostName,
    source: SourceConfig,
    heartbeat: std::time::Duration,
) -> PublisherConfig {
    PublisherConfig {
        id: id.clone(),
        host,
        prefix: mqtt.prefix.clone(),
        incarnation: Incarnation(0),
        measurement: id.to_string(),
        source,
        interval: std::time::Duration::ZERO,
        is_agent: false,
        heartbeat,
        looping: false,
        limit: None,
        batch_readings_max: BATCH_READINGS_MAX,
        message_bytes_max: usize::try_from(mqtt.message_bytes_max).unwrap_or(usize::MAX),
        delivery: DeliveryLimits::default(),
        confirm_grace: CONFIRM_GRACE,
        outbox: None,
        outbox_bytes_max: crate::config::OUTBOX_BYTES_MAX,
        full_policy: heartwatch_store::outbox::FullPolicy::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_bucket_the_server_is_asked_for_its_version() {
        let mut settings = Settings::default();
        settings.influx.url = Some("http://127.0.0.1:8086".parse().unwrap());
        // a bucket would mean the API of 2.x, which a 1.x does not have
        assert_eq!(influx(&settings).unwrap().bucket, None);
        settings.influx.bucket = Some("plant".to_owned());
        assert_eq!(influx(&settings).unwrap().bucket.as_deref(), Some("plant"));
    }
}
