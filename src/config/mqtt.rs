//! `[mqtt]`: the broker, ours or the user's, and as whom we go there.

use std::sync::Arc;
use std::time::Duration;

use super::Overrides;
use super::document::Given;
use super::kinds::{Settled as _, duration, name, named, same_layer};
use super::reader::Reader;
use super::settings::{Broker, Mqtt};
use heartwatch_adapters::mqtt::ConnectionOptions;
use heartwatch_formats::broker_user::{Authority, BrokerUser, Role};
use heartwatch_formats::envelope::PAYLOAD_BYTES_MAX;
use heartwatch_formats::values;
use heartwatch_ports::credentials::{ClientFiles, Login, Secret};

/// `[mqtt]`.
pub(super) fn mqtt(reader: &mut Reader<'_>, flags: &Overrides, notes: &mut Vec<String>) -> Mqtt {
    let default = Mqtt::default();
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
                Broker::At(url.value)
            }
            (false, true) => Broker::Embedded { listen: listen.value },
            (false, false) => Broker::At(url.value),
        },
        (Some(listen), None) => Broker::Embedded { listen: listen.value },
        (None, Some(url)) => Broker::At(url.value),
        (None, None) => default.broker,
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
    let embedded = !unclear && matches!(broker, Broker::Embedded { .. });
    let encrypted = unclear || matches!(&broker, Broker::At(url) if url.scheme() == "mqtts");
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
    if let Broker::Embedded { listen } = &broker
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
    let usual = default.options;
    let (backoff_min, backoff_max) = reader.backoff(&table, (usual.backoff_min, usual.backoff_max));
    let message_bytes_max =
        reader.read(&table, "message_bytes_max", None, |given| given.bytes(4096, PAYLOAD_BYTES_MAX as u64));
    let password = password.value().unwrap_or_else(|| Secret::new(""));
    let options = ConnectionOptions {
        login: user.value().map(|user| Login { user, password }),
        tls: ClientFiles { ca_file: ca_file.value(), own: client_certificate },
        keep_alive: reader.read(&table, "keep_alive", None, keep_alive).or_default(usual.keep_alive),
        message_bytes_max: message_bytes_max
            .map_or(usual.message_bytes_max, |most| usize::try_from(most.value).unwrap_or(usize::MAX)),
        backoff_min,
        backoff_max,
    };
    let prefix = prefix.or_default(default.prefix);
    let authority = users.map(|users| Arc::new(Authority::new(prefix.clone(), users)));
    Mqtt { broker, authority, prefix, client_id: client_id.value(), options }
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

fn keep_alive(given: Given<'_>) -> Result<Duration, String> {
    let keep_alive = duration(given)?;
    // two bytes of seconds in the MQTT packet
    if (1..=65_535).contains(&keep_alive.as_secs()) {
        Ok(keep_alive)
    } else {
        Err("MQTT keeps a connection alive with 1s to 18h".to_owned())
    }
}
