//! The flags of whoever is a client of a broker: a publisher, an agent.

use std::path::PathBuf;

use clap::Args;

use crate::config::Overrides;
use heartwatch_formats::envelope::Prefix;
use heartwatch_formats::values::{name, topic_prefix};

/// How a broker is spoken to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct BrokerArgs {
    /// What every topic starts with [default: heartwatch] [env: HEARTWATCH_MQTT_PREFIX]
    #[arg(long, value_name = "PREFIX", value_parser = topic_prefix)]
    pub mqtt_prefix: Option<Prefix>,
    /// The user at the broker; the password is in HEARTWATCH_MQTT_PASSWORD or a file [env: HEARTWATCH_MQTT_USER]
    #[arg(long, value_name = "USER", value_parser = name)]
    pub mqtt_user: Option<String>,
    /// A file with the user's password [env: HEARTWATCH_MQTT_PASSWORD_FILE]
    #[arg(long, value_name = "FILE")]
    pub mqtt_password_file: Option<PathBuf>,
    /// The certificates (PEM) to trust with mqtts:// [env: HEARTWATCH_MQTT_CA_FILE]
    #[arg(long, value_name = "FILE")]
    pub mqtt_ca_file: Option<PathBuf>,
    /// Our certificate (PEM) for mqtts:// [env: HEARTWATCH_MQTT_CLIENT_CERTIFICATE_FILE]
    #[arg(long, value_name = "FILE")]
    pub mqtt_client_certificate_file: Option<PathBuf>,
    /// The key (PEM) of our certificate [env: HEARTWATCH_MQTT_CLIENT_KEY_FILE]
    #[arg(long, value_name = "FILE")]
    pub mqtt_client_key_file: Option<PathBuf>,
}

impl BrokerArgs {
    /// What they set over the environment.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        Overrides {
            mqtt_prefix: self.mqtt_prefix.clone(),
            mqtt_user: self.mqtt_user.clone(),
            mqtt_password_file: self.mqtt_password_file.clone(),
            mqtt_ca_file: self.mqtt_ca_file.clone(),
            mqtt_client_certificate_file: self.mqtt_client_certificate_file.clone(),
            mqtt_client_key_file: self.mqtt_client_key_file.clone(),
            ..Overrides::default()
        }
    }
}
