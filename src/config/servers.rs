//! `[influx]`, `[kafka]` and `[etcd]`: the servers beside the broker.

use super::Overrides;
use super::kinds::{Settled as _, boolean, name, named, positive_duration};
use super::reader::Reader;
use crate::actors::influx_writer::WriterConfig;
use heartwatch_adapters::influx::{InfluxConfig, InfluxVersion};
use heartwatch_formats::values;
use heartwatch_ports::credentials::{ClientFiles, Login};
use heartwatch_ports::servers::{EtcdConfig, KafkaConfig};

/// Most rows in one request.
const BATCH_ROWS_LIMIT: u64 = 1_000_000;

const VERSIONS: [(&str, InfluxVersion); 4] =
    [("auto", InfluxVersion::Auto), ("1", InfluxVersion::V1), ("2", InfluxVersion::V2), ("3", InfluxVersion::V3)];

/// `[influx]`: the database, where it is named, and how rows are delivered to it.
pub(super) fn influx(
    reader: &mut Reader<'_>,
    flags: &Overrides,
    notes: &mut Vec<String>,
) -> (Option<InfluxConfig>, WriterConfig) {
    let table = reader.table("influx");
    let url = reader.read(&table, "url", named("--influx-url", &flags.influx_url), |given| {
        given.text("http://127.0.0.1:8086", values::influx_url)
    });
    let version = reader.read(&table, "version", None, |given| given.choice(&VERSIONS));
    let db = reader.read(&table, "db", named("--influx-db", &flags.influx_db), name);
    let user = reader.read(&table, "user", None, name);
    let password = reader.secret(&table, "password", "password_file", None);
    let org = reader.read(&table, "org", named("--influx-org", &flags.influx_org), name);
    let bucket = reader.read(&table, "bucket", named("--influx-bucket", &flags.influx_bucket), name);
    let token = reader.secret(&table, "token", "token_file", named("--influx-token-file", &flags.influx_token_file));

    let password = reader.password_of(&user, password, "influx", notes);
    if let Some(version) = &version {
        let number = if version.value == InfluxVersion::V2 { "2.x" } else { "3.x" };
        if matches!(version.value, InfluxVersion::V2 | InfluxVersion::V3) && token.is_none() {
            let message = format!("InfluxDB {number} needs a token: set token_file or HEARTWATCH_INFLUX_TOKEN");
            reader.missing_for(version, "influx.version", message);
        }
        if version.value == InfluxVersion::V2 && org.is_none() {
            reader.missing_for(version, "influx.version", "InfluxDB 2.x needs an organisation: set org".to_owned());
        }
    }
    let default = WriterConfig::default();
    let (backoff_min, backoff_max) = reader.backoff(&table, (default.backoff_min, default.backoff_max));
    let batch_bytes_max = reader.read(&table, "batch_bytes_max", None, |given| given.bytes(1 << 10, 1 << 30));
    let writer = WriterConfig {
        batch_rows_max: reader
            .read(&table, "batch_rows_max", None, |given| given.number(1, BATCH_ROWS_LIMIT))
            .or_default(default.batch_rows_max),
        batch_bytes_max: batch_bytes_max
            .map_or(default.batch_bytes_max, |most| usize::try_from(most.value).unwrap_or(usize::MAX)),
        flush_interval: reader
            .read(&table, "flush_interval", None, positive_duration)
            .or_default(default.flush_interval),
        backoff_min,
        backoff_max,
        misconfigured_retry: default.misconfigured_retry,
    };
    let timeout = reader.read(&table, "timeout", None, positive_duration);
    let gzip = reader.read(&table, "gzip", None, boolean);
    let config = url.value().map(|url| {
        let default = InfluxConfig::at(url);
        InfluxConfig {
            version: version.or_default(default.version),
            database: db.or_default(default.database),
            user: user.value(),
            password: password.value(),
            org: org.value(),
            bucket: bucket.value(),
            token: token.value(),
            request_timeout: timeout.or_default(default.request_timeout),
            gzip: gzip.or_default(default.gzip),
            url: default.url,
            retention_policy: default.retention_policy,
            connect_timeout: default.connect_timeout,
        }
    });
    (config, writer)
}

/// `[kafka]`, where it names a broker.
pub(super) fn kafka(reader: &mut Reader<'_>, flags: &Overrides) -> Option<KafkaConfig> {
    let table = reader.table("kafka");
    let brokers = reader.read(&table, "brokers", named("--kafka", &flags.kafka), |given| {
        given.text("127.0.0.1:9092", values::kafka_brokers)
    });
    let group = reader.read(&table, "group", None, name);
    let default = KafkaConfig::new(brokers.value()?);
    Some(KafkaConfig { group: group.or_default(default.group), brokers: default.brokers })
}

/// `[etcd]`, where it names a member.
pub(super) fn etcd(reader: &mut Reader<'_>, flags: &Overrides, notes: &mut Vec<String>) -> Option<EtcdConfig> {
    let table = reader.table("etcd");
    let endpoints = reader.read(&table, "endpoints", named("--etcd", &flags.etcd), |given| {
        given.text("http://127.0.0.1:2379", |text| text.parse::<values::EtcdEndpoints>())
    });
    let user = reader.read(&table, "user", None, name);
    let password = reader.secret(&table, "password", "password_file", None);
    let ca_file = reader.existing_file(&table, "ca_file", None);
    let certificate = reader.existing_file(&table, "client_certificate_file", None);
    let key = reader.existing_file(&table, "client_key_file", None);
    if let Some(endpoints) = &endpoints
        && endpoints.value.0.iter().all(|url| url.scheme() != "https")
    {
        let files = [("ca_file", &ca_file), ("client_certificate_file", &certificate), ("client_key_file", &key)];
        for (name, file) in files {
            if let Some(file) = file {
                reader.mistake(&file.origin, &table.key(name), "is for https:// endpoints: write them so");
            }
        }
    }
    let client_certificate = reader.pair(&table, certificate, key);
    let password = reader.password_of(&user, password, "etcd", notes);
    if let Some(user) = user.as_ref().filter(|_| password.is_none()) {
        let message = "needs a password: set etcd.password_file, or HEARTWATCH_ETCD_PASSWORD";
        reader.mistake(&user.origin, "etcd.user", message);
    }
    let login = user.value().zip(password.value()).map(|(user, password)| Login { user, password });
    let tls = ClientFiles { ca_file: ca_file.value(), own: client_certificate };
    Some(EtcdConfig { tls, login, ..EtcdConfig::new(endpoints.value()?.0) })
}
