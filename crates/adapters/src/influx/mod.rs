//! InfluxDB 1.x, 2.x and 3.x: the [`Sink`](heartwatch_ports::Sink) that rows go to, and a reader for export.
//!
//! Which API is spoken ([`InfluxVersion::Auto`]), the first that holds:
//! 1. a bucket is configured: `/api/v2/write` (2.x, 3.x, 1.8, and others that copy it);
//! 2. `GET /ping` answers with `X-Influxdb-Version`: its first number;
//! 3. `GET /health` answers with JSON that has a `version`: its first number;
//! 4. a token is configured: 2.x; otherwise 1.x.
//!
//! | version | writes to | who we are | where rows go |
//! |---|---|---|---|
//! | 1.x | `/write?db=…&rp=…` | user and password | the database, which is created |
//! | 2.x | `/api/v2/write?org=…&bucket=…` | token | the bucket, or the one named as the database |
//! | 3.x | `/api/v2/write?bucket=…` | token | the database, which 3.x creates itself |

mod answer;
mod connection;
mod reader;
mod sink;

use std::fmt;
use std::time::Duration;

use url::Url;

use heartwatch_ports::credentials::Secret;

pub use reader::{InfluxReader, ReadError};
pub use sink::InfluxSink;

/// Which InfluxDB it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InfluxVersion {
    /// Found out from the configuration and the server, as written above.
    #[default]
    Auto,
    /// 1.x
    V1,
    /// 2.x
    V2,
    /// 3.x
    V3,
}

/// How to reach an InfluxDB.
#[derive(Clone, PartialEq, Eq)]
pub struct InfluxConfig {
    /// Where it answers, `http://` or `https://`; a path before `/write` is kept (a proxy).
    pub url: Url,
    /// Which InfluxDB it is.
    pub version: InfluxVersion,
    /// The database (1.x, 3.x).
    pub database: String,
    /// The retention policy (1.x); none is the database's default.
    pub retention_policy: Option<String>,
    /// The user (1.x).
    pub user: Option<String>,
    /// The user's password (1.x).
    pub password: Option<Secret>,
    /// The organisation (2.x).
    pub org: Option<String>,
    /// The bucket (2.x).
    pub bucket: Option<String>,
    /// The token (2.x, 3.x).
    pub token: Option<Secret>,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for the whole answer to a write.
    pub request_timeout: Duration,
    /// Whether bodies are compressed.
    pub gzip: bool,
}

impl InfluxConfig {
    /// The defaults for a server: no credentials, found-out version, database `heartwatch`.
    #[must_use]
    pub fn at(url: Url) -> Self {
        Self {
            url,
            version: InfluxVersion::Auto,
            database: "heartwatch".to_owned(),
            retention_policy: None,
            user: None,
            password: None,
            org: None,
            bucket: None,
            token: None,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
            gzip: true,
        }
    }
}

impl fmt::Debug for InfluxConfig {
    /// Without the password and the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InfluxConfig")
            .field("url", &self.url.as_str())
            .field("version", &self.version)
            .field("database", &self.database)
            .field("user", &self.user)
            .field("org", &self.org)
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

/// The HTTP client cannot be made (for `https://`: no root certificates on this machine).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot make an HTTP client for {url}: {reason}")]
pub struct InfluxClientError {
    /// The server.
    pub url: String,
    /// The library's words.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_in_a_log_has_no_secret() {
        let mut config = InfluxConfig::at(Url::parse("http://127.0.0.1:8086").unwrap());
        config.password = Some(Secret::new("hunter2"));
        config.token = Some(Secret::new("hunter3"));
        assert!(!format!("{config:?}").contains("hunter"));
    }
}
