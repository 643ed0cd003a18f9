//! Says that the broker is away once, and that it is back once, not at every attempt.

use std::time::Duration;

use rumqttc::{ConnectReturnCode, ConnectionError};

use heartwatch_domain::time::{Monotonic, describe_duration};

/// A connection that lasted this long was one; a shorter one does not end the backoff.
pub(super) const STABLE_AFTER: Duration = Duration::from_secs(5);

/// What kind of failure it is: a change is worth another line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// No connection, or it broke off.
    Network,
    /// The broker does not want us.
    Refused,
    /// No trust between us.
    Tls,
}

/// The outage that is going on, if one is.
#[derive(Debug, Default)]
pub(super) struct Outage {
    since: Option<Monotonic>,
    attempts: u32,
    said: Vec<Kind>,
}

impl Outage {
    /// A connection broke off, or an attempt failed. Returns whether that is news.
    pub(super) fn failed(&mut self, broker: &str, kind: Kind, reason: &str, now: Monotonic) -> bool {
        let begins = self.since.is_none();
        let news = !self.said.contains(&kind);
        if begins {
            self.since = Some(now);
            tracing::warn!(%broker, %reason, "no connection to the MQTT broker; trying again until there is one");
        } else if news {
            tracing::warn!(%broker, %reason, "the MQTT broker cannot be used; trying again until it can");
        } else {
            tracing::debug!(%broker, %reason, attempts = self.attempts, "still no connection to the MQTT broker");
        }
        if news {
            self.said.push(kind);
        }
        self.attempts = self.attempts.saturating_add(1);
        news
    }

    /// The connection is up.
    pub(super) fn ended(&mut self, broker: &str, now: Monotonic) {
        match self.since.take() {
            Some(since) => {
                let away = describe_duration(now.since(since));
                tracing::info!(%broker, attempts = self.attempts, "connected to the MQTT broker again after {away}");
            }
            None => tracing::info!(%broker, "connected to the MQTT broker"),
        }
        *self = Self::default();
    }
}

/// A failure in words, with its kind.
pub(super) fn describe(error: &ConnectionError) -> (Kind, String) {
    match error {
        ConnectionError::ConnectionRefused(code) => (Kind::Refused, refused(*code).to_owned()),
        ConnectionError::Tls(error) => (Kind::Tls, format!("TLS failed: {error}")),
        ConnectionError::NetworkTimeout => (Kind::Network, "no answer in time".to_owned()),
        ConnectionError::FlushTimeout => (Kind::Network, "it takes no more bytes".to_owned()),
        ConnectionError::NotConnAck(_) => (Kind::Refused, "what answers there does not speak MQTT 3.1.1".to_owned()),
        ConnectionError::Io(error) => (Kind::Network, error.to_string()),
        ConnectionError::MqttState(error) => (Kind::Network, error.to_string()),
        ConnectionError::RequestsDone => (Kind::Network, "the transport has ended".to_owned()),
    }
}

const fn refused(code: ConnectReturnCode) -> &'static str {
    match code {
        ConnectReturnCode::BadUserNamePassword => "the broker refuses our user or password",
        ConnectReturnCode::NotAuthorized => "the broker does not let us in: check user, password and certificate",
        ConnectReturnCode::BadClientId => "the broker refuses our client id",
        ConnectReturnCode::ServiceUnavailable => "the broker says that it is not available",
        ConnectReturnCode::RefusedProtocolVersion => "the broker does not speak MQTT 3.1.1",
        ConnectReturnCode::Success => "the broker accepted us and broke off",
    }
}
