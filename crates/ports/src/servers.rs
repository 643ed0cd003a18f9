//! Where etcd and Kafka are, and as whom we go there: known to the configuration also in a program that is built
//! without their clients.

use std::time::Duration;

use url::Url;

use crate::credentials::{ClientFiles, Login};

/// Where etcd is, and how long it may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdConfig {
    /// Its members, `http://host:2379` or `https://host:2379`.
    pub endpoints: Vec<Url>,
    /// Whom to trust with `https://`, and our own certificate.
    pub tls: ClientFiles,
    /// Who we are; none where etcd asks for no login.
    pub login: Option<Login>,
    /// Longest wait for one member's answer, with the connection to it.
    pub attempt_timeout: Duration,
    /// Longest watch before it ends and its owner reads again.
    pub watch_max: Duration,
}

impl EtcdConfig {
    /// These members, a second for each, and a watch of half a minute at most.
    #[must_use]
    pub fn new(endpoints: Vec<Url>) -> Self {
        Self {
            endpoints,
            tls: ClientFiles::default(),
            login: None,
            attempt_timeout: Duration::from_secs(1),
            watch_max: Duration::from_secs(30),
        }
    }

    /// The members with commas between them, for a person.
    #[must_use]
    pub fn members(&self) -> String {
        self.endpoints.iter().map(|url| url.as_str().trim_end_matches('/')).collect::<Vec<_>>().join(",")
    }
}

/// Where Kafka is, and as whom a monitor reads from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaConfig {
    /// `HOST:PORT`, with commas between several.
    pub brokers: String,
    /// The consumer group: monitors with the same one share the topic.
    pub group: String,
}

impl KafkaConfig {
    /// These brokers, and the usual consumer group.
    #[must_use]
    pub fn new(brokers: impl Into<String>) -> Self {
        Self { brokers: brokers.into(), group: "heartwatch".to_owned() }
    }
}
