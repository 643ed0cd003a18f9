//! From layers to [`Settings`]: which keys there are, what each may be, and what must fit together.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use super::Overrides;
use super::deadlines::deadline_keys;
use super::document::Given;
use super::foreign::foreign;
use super::kinds::{Settled as _, boolean, duration, name, positive_duration, same_layer};
use super::maintenance::maintenance;
use super::notify::{mail, monitor, notify};
use super::publishers::publishers;
use super::reader::{Origin, Reader, Scope, Sourced};
use super::rules::rules;
use super::secret::Secret;
use super::settings::{
    BrokerSettings, BufferSettings, ClientCertificate, EtcdSettings, InfluxSettings, InfluxVersion, KafkaSettings,
    LogSettings, MqttSettings, Settings, WatchSettings, WebSettings,
};
use heartwatch_domain::deadline::{DeadlineOverride, DeadlineRules};
use heartwatch_domain::flapping::FlappingLimits;
use heartwatch_domain::time::describe_duration;
use heartwatch_formats::broker_user::{Authority, BrokerUser, Role};
use heartwatch_formats::envelope::PAYLOAD_BYTES_MAX;
use heartwatch_formats::values;

/// Fewest characters of a token that opens the page. With fewer it can be found by trying.
const TOKEN_CHARS_MIN: usize = 16;

/// Most changes within a period that are told one by one.
const FLAPPING_CHANGES_LIMIT: u64 = 1_000;
/// Most rows in one request.
const BATCH_ROWS_LIMIT: u64 = 1_000_000;

const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

const VERSIONS: [(&str, InfluxVersion); 4] =
    [("auto", InfluxVersion::Auto), ("1", InfluxVersion::V1), ("2", InfluxVersion::V2), ("3", InfluxVersion::V3)];

/// All settings; wrong ones stand at their default, and the reader knows them.
pub(super) fn settings(reader: &mut Reader<'_>, flags: &Overrides, notes: &mut Vec<String>) -> Settings {
    let default = Settings::default();
    let root = reader.root();
    let data_dir = reader.path(&root, "data_dir", named("--data-dir", &flags.data_dir));
    let grace = reader.read(&root, "grace", None, duration).or_default(default.grace);
    let log = reader.table("log");
    let level = reader.read(&log, "level", None, |given| given.choice(&LEVELS)).or_default(default.log.level);
    let mqtt = mqtt(reader, flags, &default.mqtt, notes);
    let influx = influx(reader, flags, &default.influx, notes);
    let kafka = kafka(reader, flags, &default.kafka);
    let etcd = etcd(reader, flags, notes);
    let buffer = buffer(reader, &default.buffer);
    let watch = watch(reader, flags, &default.watch);
    let web = web(reader, flags, &default.web);
    let maintenance = maintenance(reader);
    let publishers = publishers(reader, &watch);
    let foreign = foreign(reader, &mqtt, watch.deadlines.default, &publishers, notes);
    let monitor = monitor(reader, &default.monitor, &publishers);
    let rules = rules(reader);
    for rule in rules.iter().filter(|rule| rule.window > buffer.history) {
        let (window, history) = (describe_duration(rule.window), describe_duration(buffer.history));
        notes.push(format!(
            "the rule {} looks back over {window}, and rows are kept for {history} after they are delivered \
             (buffer.history): it may miss some",
            rule.name
        ));
    }
    let mail_configured = mail(reader, notes);
    let notify = notify(reader, mail_configured.is_some());
    Settings {
        data_dir: data_dir.or_default(default.data_dir),
        grace,
        log: LogSettings { level },
        mqtt,
        influx,
        kafka,
        etcd,
        buffer,
        watch,
        web,
        maintenance,
        publishers,
        foreign,
        rules,
        monitor,
        mail: mail_configured,
        notify,
    }
}

fn kafka(reader: &mut Reader<'_>, flags: &Overrides, default: &KafkaSettings) -> KafkaSettings {
    let table = reader.table("kafka");
    let brokers = reader.read(&table, "brokers", named("--kafka", &flags.kafka), |given| {
        given.text("127.0.0.1:9092", values::kafka_brokers)
    });
    let group = reader.read(&table, "group", None, name);
    KafkaSettings { brokers: brokers.value(), group: group.or_default(default.group.clone()) }
}

fn etcd(reader: &mut Reader<'_>, flags: &Overrides, notes: &mut Vec<String>) -> EtcdSettings {
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
    EtcdSettings {
        endpoints: endpoints.value().map(|endpoints| endpoints.0).unwrap_or_default(),
        user: user.value(),
        password: password.value(),
        ca_file: ca_file.value(),
        client_certificate,
    }
}

fn web(reader: &mut Reader<'_>, flags: &Overrides, default: &WebSettings) -> WebSettings {
    let table = reader.table("web");
    let listen = |given: Given<'_>| given.text("127.0.0.1:8080", |text| text.parse::<values::WebListen>());
    let listen = reader.read(&table, "listen", named("--web", &flags.web), listen);
    let token = reader.secret(&table, "token", "token_file", None);
    let read_only_token = reader.secret(&table, "read_only_token", "read_only_token_file", None);
    for (name, token) in [("token_file", &token), ("read_only_token_file", &read_only_token)] {
        // none at all is one that could not be read, which was said
        if let Some(Sourced { value, origin }) = token
            && (1..TOKEN_CHARS_MIN).contains(&value.expose().chars().count())
        {
            let message = format!(
                "the token is too short to be unguessable: at least {TOKEN_CHARS_MIN} characters, like those of \
                 `openssl rand -hex 16`"
            );
            reader.mistake(origin, &table.key(name), message);
        }
    }
    let users = reader.users(&table, "users_file");
    let secure_cookies = reader.read(&table, "secure_cookies", None, boolean);
    let trusted_proxies =
        reader.list(&table, "trusted_proxies", |given| given.text("10.0.0.5", values::network)).unwrap_or_default();
    let (has_token, has_users) = (token.is_some() || read_only_token.is_some(), users.is_some());
    if let Some(Sourced { value: values::WebListen(Some(address)), origin }) = &listen
        && !address.ip().is_loopback()
        && !has_token
        && !has_users
    {
        let message = format!(
            "{address} is not a loopback address, and nobody would have to log in: set token_file or users_file under \
             [web], or listen on 127.0.0.1"
        );
        reader.mistake(origin, "web.listen", message);
    }
    let secret = |found: Option<Sourced<Secret>>| found.map(|found| found.value);
    WebSettings {
        listen: listen.or_default(values::WebListen(default.listen)).0,
        token: secret(token),
        read_only_token: secret(read_only_token),
        users: users.unwrap_or_default(),
        secure_cookies: secure_cookies.or_default(default.secure_cookies),
        trusted_proxies,
    }
}

fn mqtt(reader: &mut Reader<'_>, flags: &Overrides, default: &MqttSettings, notes: &mut Vec<String>) -> MqttSettings {
    let table = reader.table("mqtt");
    let listen = reader.read(&table, "listen", named("--mqtt-listen", &flags.mqtt_listen), |given| {
        given.text("127.0.0.1:1883", values::address)
    });
    let url = reader.read(&table, "url", named("--mqtt", &flags.mqtt), |given| {
        given.text("mqtt://127.0.0.1:1883", values::mqtt_url)
    });
    let url_given = url.is_some();
    // the higher layer says whose broker it is; both in one layer is a contradiction
    let broker = match (listen, url) {
        (Some(listen), Some(url)) => match (same_layer(&listen.origin, &url.origin), listen.origin > url.origin) {
            (true, _) => {
                let message = "a broker of your own and 'listen' for the embedded one exclude each other: keep one";
                reader.mistake(&url.origin, "mqtt.url", message);
                BrokerSettings::At(url.value)
            }
            (false, true) => BrokerSettings::Embedded { listen: listen.value },
            (false, false) => BrokerSettings::At(url.value),
        },
        (Some(listen), None) => BrokerSettings::Embedded { listen: listen.value },
        (None, Some(url)) => BrokerSettings::At(url.value),
        (None, None) => default.broker.clone(),
    };
    let prefix = reader.read(&table, "prefix", named("--mqtt-prefix", &flags.mqtt_prefix), |given| {
        given.text("heartwatch", values::topic_prefix)
    });
    let client_id = reader.read(&table, "client_id", None, name);
    let users: Option<Vec<BrokerUser>> = reader.users(&table, "users_file");
    let user = reader.read(&table, "user", named("--mqtt-user", &flags.mqtt_user), name);
    let password_file = named("--mqtt-password-file", &flags.mqtt_password_file);
    let password = reader.secret(&table, "password", "password_file", password_file);
    let ca_file = reader.existing_file(&table, "ca_file", named("--mqtt-ca-file", &flags.mqtt_ca_file));
    let certificate = named("--mqtt-client-certificate-file", &flags.mqtt_client_certificate_file);
    let certificate = reader.existing_file(&table, "client_certificate_file", certificate);
    let key = named("--mqtt-client-key-file", &flags.mqtt_client_key_file);
    let key = reader.existing_file(&table, "client_key_file", key);

    // with a URL that is wrong nobody knows whose broker was meant
    let unclear = !url_given && reader.has(&table, "url");
    let embedded = !unclear && matches!(broker, BrokerSettings::Embedded { .. });
    let encrypted = unclear || matches!(&broker, BrokerSettings::At(url) if url.scheme() == "mqtts");
    let tls_keys = [("ca_file", &ca_file), ("client_certificate_file", &certificate), ("client_key_file", &key)];
    for (name, file) in tls_keys {
        if let Some(file) = file.as_ref().filter(|_| !encrypted) {
            reader.mistake(&file.origin, &table.key(name), "is for a broker at an mqtts:// URL: set mqtt.url to one");
        }
    }
    let client_certificate = reader.pair(&table, certificate, key);
    if let Some(user) = user.as_ref().filter(|_| embedded && users.is_none()) {
        let message = "is for a broker of your own: the embedded one asks for no password, set mqtt.url or users_file";
        reader.mistake(&user.origin, "mqtt.user", message);
    }
    // MQTT 3.1.1 wants both
    let password = reader.password_of(&user, password, "mqtt", notes);
    if let BrokerSettings::Embedded { listen } = &broker
        && !listen.ip().is_loopback()
    {
        notes.push(match &users {
            None => format!("the embedded broker asks for no password: whoever reaches {listen} can publish"),
            Some(_) => format!("the embedded broker has no TLS: passwords can be read on their way to {listen}"),
        });
    }
    if let Some(users) = &users {
        let given = password.as_ref().map(|password| password.value.expose());
        if let Err((key, message)) = own_user(users, embedded, user.as_ref().map(|user| &*user.value), given) {
            reader.mistake_at(&table, key, message);
        }
    }
    let (backoff_min, backoff_max) = reader.backoff(&table, (default.backoff_min, default.backoff_max));
    let prefix = prefix.or_default(default.prefix.clone());
    MqttSettings {
        broker,
        authority: users.map(|users| Arc::new(Authority::new(prefix.clone(), users))),
        prefix,
        client_id: client_id.value(),
        user: user.value(),
        password: password.value(),
        ca_file: ca_file.value(),
        client_certificate,
        keep_alive: reader.read(&table, "keep_alive", None, keep_alive).or_default(default.keep_alive),
        message_bytes_max: reader
            .read(&table, "message_bytes_max", None, |given| given.bytes(4096, PAYLOAD_BYTES_MAX as u64))
            .or_default(default.message_bytes_max),
        backoff_min,
        backoff_max,
    }
}

/// The monitor is a client of its own broker, and so are the publishers that it starts: it is one of the users. Else the key that is
/// wrong, and what would be right.
fn own_user(
    users: &[BrokerUser],
    embedded: bool,
    user: Option<&str>,
    password: Option<&str>,
) -> Result<(), (&'static str, &'static str)> {
    if !embedded {
        return Err(("users_file", "is for the embedded broker: one at mqtt.url has its own users"));
    }
    // a file that cannot be read has been complained about
    if users.is_empty() {
        return Ok(());
    }
    let own = users.iter().find(|known| Some(&*known.name) == user && known.role == Role::Monitor).ok_or((
        "users_file",
        "wants mqtt.user to be one of its users with the role monitor: `heartwatch mqtt-user NAME --role monitor` makes one",
    ))?;
    if !password.is_some_and(|password| own.has_password(password.as_bytes())) {
        return Err((
            "users_file",
            "does not have the password of mqtt.user (mqtt.password_file): the monitor could not log in",
        ));
    }
    Ok(())
}

fn influx(
    reader: &mut Reader<'_>,
    flags: &Overrides,
    default: &InfluxSettings,
    notes: &mut Vec<String>,
) -> InfluxSettings {
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
    let (backoff_min, backoff_max) = reader.backoff(&table, (default.backoff_min, default.backoff_max));
    InfluxSettings {
        url: url.value(),
        version: version.or_default(default.version),
        db: db.or_default(default.db.clone()),
        user: user.value(),
        password: password.value(),
        org: org.value(),
        bucket: bucket.value(),
        token: token.value(),
        batch_rows_max: reader
            .read(&table, "batch_rows_max", None, |given| given.number(1, BATCH_ROWS_LIMIT))
            .or_default(default.batch_rows_max),
        batch_bytes_max: reader
            .read(&table, "batch_bytes_max", None, |given| given.bytes(1 << 10, 1 << 30))
            .or_default(default.batch_bytes_max),
        flush_interval: reader
            .read(&table, "flush_interval", None, positive_duration)
            .or_default(default.flush_interval),
        timeout: reader.read(&table, "timeout", None, positive_duration).or_default(default.timeout),
        gzip: reader.read(&table, "gzip", None, boolean).or_default(default.gzip),
        backoff_min,
        backoff_max,
    }
}

fn buffer(reader: &mut Reader<'_>, default: &BufferSettings) -> BufferSettings {
    let table = reader.table("buffer");
    BufferSettings {
        bytes_max: reader
            .read(&table, "bytes_max", None, |given| given.bytes(1 << 20, 1 << 50))
            .or_default(default.bytes_max),
        history: reader.read(&table, "history", None, duration).or_default(default.history),
    }
}

fn watch(reader: &mut Reader<'_>, flags: &Overrides, default: &WatchSettings) -> WatchSettings {
    let table = reader.table("watch");
    let deadline = reader.read(&table, "deadline", named("--deadline", &flags.deadline), positive_duration);
    let general = deadline.or_default(default.deadlines.default);
    let grace = reader.read(&table, "grace", None, duration).or_default(default.deadlines.grace);
    let mut overrides = Vec::new();
    for entry in reader.tables(&table, "override") {
        let publisher =
            reader.read(&entry, "publisher", None, |given| given.text("light-*", values::id_pattern)).value();
        let keys = deadline_keys(reader, &entry, general);
        if !reader.has(&entry, "publisher") {
            reader.missing(
                &entry,
                "publisher",
                "is missing: whose deadline is it? Write an id or a pattern like 'light-*'",
            );
        }
        if !keys.given {
            let message = "is missing: write a duration like 10s, or deadline_intervals, adaptive or grace";
            reader.missing(&entry, "deadline", message);
        }
        let (kind, grace) = (keys.kind, keys.grace);
        overrides.extend(publisher.map(|publishers| DeadlineOverride { publishers, kind, grace }));
    }
    let calm = &default.flapping;
    let changes_max =
        reader.read(&table, "flapping_changes_max", None, |given| given.number(0, FLAPPING_CHANGES_LIMIT));
    let flapping = FlappingLimits {
        changes_max: changes_max
            .map_or(calm.changes_max, |changes| u32::try_from(changes.value).unwrap_or(calm.changes_max)),
        period: reader.read(&table, "flapping_period", None, positive_duration).or_default(calm.period),
        steady: reader.read(&table, "flapping_steady", None, positive_duration).or_default(calm.steady),
    };
    WatchSettings { deadlines: DeadlineRules { default: general, grace, overrides }, flapping }
}

/// What several parts read in the same way.
impl<'a> Reader<'a> {
    /// The waits between attempts, in order.
    pub(super) fn backoff(&mut self, scope: &Scope<'a>, default: (Duration, Duration)) -> (Duration, Duration) {
        let min = self.read(scope, "backoff_min", None, positive_duration);
        let max = self.read(scope, "backoff_max", None, positive_duration);
        let (low, high) =
            (min.as_ref().map_or(default.0, |min| min.value), max.as_ref().map_or(default.1, |max| max.value));
        if low > high
            && let Some(culprit) = max.or(min)
        {
            let message = "the shortest wait (backoff_min) is longer than the longest one (backoff_max)";
            self.mistake(&culprit.origin, &scope.key("backoff_max"), message);
        }
        (low, high)
    }

    /// The password, when there is a user for it. One in the environment may be meant for another program
    /// that runs in the same shell, so without a user it is only left alone.
    pub(super) fn password_of(
        &mut self,
        user: &Option<Sourced<String>>,
        password: Option<Sourced<Secret>>,
        table: &str,
        notes: &mut Vec<String>,
    ) -> Option<Sourced<Secret>> {
        match password? {
            password if user.is_some() => return Some(password),
            Sourced { origin: Origin::Variable(name), .. } => {
                notes.push(format!("{name} is not used, because {table}.user is not set"));
            }
            Sourced { origin, .. } => {
                self.mistake(&origin, &format!("{table}.password_file"), format!("is of no use without {table}.user"));
            }
        }
        None
    }

    /// A certificate and its key; one without the other is a mistake.
    fn pair(
        &mut self,
        table: &Scope<'_>,
        certificate: Option<Sourced<PathBuf>>,
        key: Option<Sourced<PathBuf>>,
    ) -> Option<ClientCertificate> {
        match (&certificate, &key) {
            (Some(file), None) => {
                self.mistake(&file.origin, &table.key("client_certificate_file"), "needs client_key_file, too");
            }
            (None, Some(file)) => {
                self.mistake(&file.origin, &table.key("client_key_file"), "needs client_certificate_file, too");
            }
            _ => {}
        }
        let (certificate_file, key_file) = (certificate.value()?, key.value()?);
        self.note_readable(table, "client_key_file", &key_file);
        Some(ClientCertificate { certificate_file, key_file })
    }

    /// Remembers that a value asks for another one that is missing.
    fn missing_for<T>(&mut self, value: &Sourced<T>, key: &str, message: String) {
        self.mistake(&value.origin, key, message);
    }
}

/// A flag's value with its name.
pub(super) fn named<T: Clone>(flag: &'static str, value: &Option<T>) -> Option<(&'static str, T)> {
    value.clone().map(|value| (flag, value))
}

fn keep_alive(given: Given<'_>) -> Result<Duration, String> {
    let keep_alive = duration(given)?;
    // two bytes of seconds in the MQTT packet
    if (1..=65_535).contains(&keep_alive.as_secs()) {
        Ok(keep_alive)
    } else {
        Err("MQTT keeps a connection alive with 1s to 18h".to_owned())
    }
}
