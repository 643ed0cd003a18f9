//! Which broker, and as whom: `[mqtt]`.

use std::net::SocketAddr;
use std::sync::Arc;

use url::Url;

use super::loopback;
use heartwatch_adapters::broker::BrokerConfig;
use heartwatch_adapters::mqtt::{ConnectionOptions, MqttConfig};
use heartwatch_formats::broker_user::Authority;
use heartwatch_formats::envelope::Prefix;
use heartwatch_system::descriptors::{self, Shares};

/// The broker and how to talk to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Mqtt {
    /// Ours or yours.
    pub broker: Broker,
    /// What stands before the version in every topic.
    pub prefix: Prefix,
    /// The client id of the monitor's persistent session; none lets the monitor choose one and keep it.
    pub client_id: Option<String>,
    /// The users of the embedded broker; none lets everybody do everything.
    pub authority: Option<Arc<Authority>>,
    /// Who we are at the broker, and how each of our connections is kept.
    pub options: ConnectionOptions,
}

/// Whose broker is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broker {
    /// Our own, inside this program, on this address.
    Embedded {
        /// Where it listens.
        listen: SocketAddr,
    },
    /// One that runs already: `mqtt://` or `mqtts://` with a host.
    At(Url),
}

impl Broker {
    /// Its URL, as its configuration says it.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::At(url) => url.to_string(),
            Self::Embedded { listen } => format!("mqtt://{listen}"),
        }
    }
}

impl Default for Mqtt {
    fn default() -> Self {
        Self {
            broker: Broker::Embedded { listen: loopback(1883) },
            prefix: Prefix::default(),
            client_id: None,
            authority: None,
            options: ConnectionOptions::default(),
        }
    }
}

impl Mqtt {
    /// A connection to the broker at `url`.
    #[must_use]
    pub fn client(&self, url: &str, client_id: &str) -> MqttConfig {
        MqttConfig { options: self.options.clone(), ..MqttConfig::new(url, client_id) }
    }

    /// The embedded broker, or none when another one is used.
    #[must_use]
    pub fn embedded(&self) -> Option<BrokerConfig> {
        let Broker::Embedded { listen } = self.broker else { return None };
        // A test of the whole program makes its broker panic; nobody else can.
        let panics_at = std::env::var("HEARTWATCH_TEST_BROKER_PANICS_AT").ok().filter(|_| cfg!(debug_assertions));
        let default = BrokerConfig::default();
        let connections_max = default.connections_max.min(Shares::of(descriptors::limit()).publisher_connections_max);
        let (prefix, authority) = (self.prefix.clone(), self.authority.clone());
        Some(BrokerConfig { listen, prefix, connections_max, panics_at, authority, ..default })
    }
}
