//! What a connection needs to know, checked before the first attempt.

use std::time::Duration;

use url::Url;

use super::overlap::Overlap;
use super::pending_acks::Unacknowledged;
pub(super) use super::tls::TlsError;
use super::tls::client_config;
use heartwatch_formats::envelope::PAYLOAD_BYTES_MAX;
use heartwatch_ports::credentials::{ClientFiles, Login, Secret};

/// Largest window of messages that the broker has not confirmed.
const INFLIGHT_MESSAGES_MAX: u16 = 10_000;

/// Who we are at a broker, and how a connection to it is kept, whatever it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// User and password; none: those of the URL, or nobody.
    pub login: Option<Login>,
    /// Whom to trust with `mqtts://`, and our own certificate.
    pub tls: ClientFiles,
    /// A ping goes out this often; a broker that does not answer within it is given up. 1 s to 65535 s.
    pub keep_alive: Duration,
    /// Largest payload that is sent.
    pub message_bytes_max: usize,
    /// The wait after the first failed attempt; it doubles with each, plus up to as much again at random.
    pub backoff_min: Duration,
    /// The longest wait, before the random part.
    pub backoff_max: Duration,
}

impl Default for ConnectionOptions {
    /// Nobody, keep-alive 10 s, payloads up to 1 MiB, backoff 250 ms to 10 s.
    fn default() -> Self {
        Self {
            login: None,
            tls: ClientFiles::default(),
            keep_alive: Duration::from_secs(10),
            message_bytes_max: PAYLOAD_BYTES_MAX,
            backoff_min: Duration::from_millis(250),
            backoff_max: Duration::from_secs(10),
        }
    }
}

/// Where the broker is, who we are, and what bounds the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttConfig {
    /// `mqtt://host[:1883]` or `mqtts://host[:8883]`.
    pub url: String,
    /// Who we are there, and how the connection is kept.
    pub options: ConnectionOptions,
    /// Names our session at the broker: unique among its clients, the same at every start.
    pub client_id: String,
    /// Whether the broker is to forget us when the connection ends. Then it keeps no messages for us.
    pub clean_session: bool,
    /// Filters of earlier subscriptions, which the broker's session of ours may still hold: it is told that
    /// they are over, at every connection.
    pub filters_over: Vec<String>,
    /// What the connection that this one replaces has left; one of its own where it replaces none.
    pub unacknowledged: Unacknowledged,
    /// Where it is noted what comes, while another session of ours is subscribed, too; nowhere by default.
    pub overlap: Overlap,
    /// Most QoS 1 messages that we send before the broker confirms the first.
    pub inflight_messages_max: u16,
    /// Most messages that wait to be sent.
    pub send_queue_messages_max: usize,
    /// Most messages that wait for the consumer of events.
    pub event_queue_messages_max: usize,
    /// Most bytes of messages that wait for the consumer of events (one message more may be there).
    pub event_queue_bytes_max: usize,
    /// An attempt to connect is given up after this, and so is the wait for SUBACK. Whole seconds.
    pub connect_timeout: Duration,
    /// How long [`heartwatch_ports::Transport::disconnect`] takes at most.
    pub disconnect_timeout: Duration,
}

impl MqttConfig {
    /// The defaults: a persistent session with the usual [`ConnectionOptions`], 100 messages in flight, 1,024 queued
    /// to send, 4,096 messages or 8 MiB queued for the consumer, 5 s to connect, 3 s to disconnect.
    #[must_use]
    pub fn new(url: impl Into<String>, client_id: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            options: ConnectionOptions::default(),
            client_id: client_id.into(),
            clean_session: false,
            filters_over: Vec::new(),
            unacknowledged: Unacknowledged::default(),
            overlap: Overlap::default(),
            inflight_messages_max: 100,
            send_queue_messages_max: 1_024,
            event_queue_messages_max: 4_096,
            event_queue_bytes_max: 8 * 1024 * 1024,
            connect_timeout: Duration::from_secs(5),
            disconnect_timeout: Duration::from_secs(3),
        }
    }

    /// Whether this can work with any broker at all, without connecting.
    ///
    /// # Errors
    /// The first [`MqttConfigError`], certificates and keys included.
    pub fn validate(&self) -> Result<(), MqttConfigError> {
        if self.check()?.tls {
            client_config(&self.options.tls)?;
        }
        Ok(())
    }

    pub(super) fn check(&self) -> Result<Endpoint, MqttConfigError> {
        let bad = |key, right: &str| Err(MqttConfigError::Value { key, right: right.to_owned() });
        if self.client_id.is_empty() || self.client_id.len() > 65_535 || self.client_id.chars().any(char::is_control) {
            return bad("client_id", "1 to 65535 bytes without control characters");
        }
        if self.options.keep_alive < Duration::from_secs(1) || self.options.keep_alive > Duration::from_secs(65_535) {
            return bad("keep_alive", "1s to 65535s");
        }
        if self.inflight_messages_max == 0 || self.inflight_messages_max > INFLIGHT_MESSAGES_MAX {
            return bad("inflight_messages_max", "1 to 10000");
        }
        if self.send_queue_messages_max == 0 || self.event_queue_messages_max == 0 || self.event_queue_bytes_max == 0 {
            return bad("send_queue_messages_max, event_queue_messages_max, event_queue_bytes_max", "at least 1");
        }
        if self.options.backoff_min.is_zero() || self.options.backoff_max < self.options.backoff_min {
            return bad("backoff_min, backoff_max", "more than 0, and the larger one last");
        }
        let endpoint = self.endpoint()?;
        if self.options.tls != ClientFiles::default() && !endpoint.tls {
            return bad("url", "mqtts://… when there are certificates to use");
        }
        Ok(endpoint)
    }

    fn endpoint(&self) -> Result<Endpoint, MqttConfigError> {
        let wrong = |reason: &str| MqttConfigError::Url { reason: reason.to_owned() };
        let url = Url::parse(&self.url).map_err(|error| wrong(&error.to_string()))?;
        let (tls, default_port) = match url.scheme() {
            "mqtt" | "tcp" => (false, 1883),
            "mqtts" | "ssl" => (true, 8883),
            other => return Err(wrong(&format!("'{other}://' is neither mqtt:// nor mqtts://"))),
        };
        let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
            return Err(wrong("it names no host"));
        };
        if tls && host.starts_with('[') {
            return Err(wrong("TLS to an IPv6 address is not possible here: use the host's name"));
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("nothing may follow the port"));
        }
        let port = url.port().unwrap_or(default_port);
        let decode = |text: &str| {
            // the url crate escapes, and has no public function to undo it
            url::form_urlencoded::parse(text.replace('+', "%2B").as_bytes()).next().map(|(name, _)| name.into_owned())
        };
        let login_of_url = || {
            let password = url.password().and_then(decode).unwrap_or_default();
            Some(Login { user: decode(url.username())?, password: Secret::new(password) })
        };
        let login = self.options.login.clone().or_else(login_of_url);
        let display = format!("{}://{host}:{port}", url.scheme());
        Ok(Endpoint { tls, host: host.to_owned(), port, login, display })
    }
}

/// The URL, taken apart.
pub(super) struct Endpoint {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    pub login: Option<Login>,
    /// For logs: without user and password.
    pub display: String,
}

/// A message that the broker publishes when our connection is lost without a goodbye, at QoS 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Where.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
}

/// Why a configuration cannot work with any broker.
#[derive(Debug, thiserror::Error)]
pub enum MqttConfigError {
    /// The URL. It is not repeated here: it may hold a password.
    #[error("the MQTT URL cannot be used: {reason}; write it like mqtt://host:1883 or mqtts://host:8883")]
    Url {
        /// What is wrong.
        reason: String,
    },
    /// Another value.
    #[error("MQTT: {key} should be {right}")]
    Value {
        /// The keys.
        key: &'static str,
        /// What would be right.
        right: String,
    },
    /// A topic filter, or the last will's topic.
    #[error("'{filter}' cannot be subscribed or published to")]
    Filter {
        /// The text.
        filter: String,
    },
    /// TLS, for which there are files.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(config: &MqttConfig) -> String {
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn a_url_is_taken_apart() {
        let endpoint = MqttConfig::new("mqtt://u%40x:p%2Bw@broker", "id").endpoint().unwrap();
        assert_eq!((endpoint.host.as_str(), endpoint.port, endpoint.tls), ("broker", 1883, false));
        let Login { user, password } = endpoint.login.unwrap();
        assert_eq!((user.as_str(), password.expose()), ("u@x", "p+w"));
        assert_eq!(endpoint.display, "mqtt://broker:1883");
        let endpoint = MqttConfig::new("mqtts://127.0.0.1:1/", "id").endpoint().unwrap();
        assert_eq!((endpoint.port, endpoint.tls, endpoint.login.is_none()), (1, true, true));
        assert_eq!(MqttConfig::new("mqtt://[::1]", "id").endpoint().unwrap().host, "[::1]");
    }

    #[test]
    fn what_cannot_work_is_said_at_once() {
        let good = MqttConfig::new("mqtt://h", "id");
        assert!(good.validate().is_ok());
        for (url, words) in [
            ("http://h", "neither mqtt:// nor mqtts://"),
            ("localhost", "mqtt://host:1883"),
            ("mqtt://h/topic", "nothing may follow"),
            ("mqtt:///", "host"),
            ("mqtts://[::1]", "IPv6"),
        ] {
            let text = said(&MqttConfig { url: url.to_owned(), ..good.clone() });
            assert!(text.contains(words), "{url}: {text}");
        }
        let with = |change: fn(&mut ConnectionOptions)| {
            let mut config = good.clone();
            change(&mut config.options);
            config
        };
        let no_file = with(|options| options.tls.ca_file = Some("/nowhere/ca.pem".into()));
        assert!(said(&no_file).contains("mqtts://"), "a CA without TLS");
        let no_file = MqttConfig { url: "mqtts://h".to_owned(), ..no_file };
        assert!(said(&no_file).contains("/nowhere/ca.pem"));
        assert!(said(&with(|options| options.keep_alive = Duration::ZERO)).contains("keep_alive"));
        assert!(said(&MqttConfig { client_id: String::new(), ..good }).contains("client_id"));
    }
}
