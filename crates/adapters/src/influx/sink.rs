//! Rows → InfluxDB, one request a batch, and what came of it.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use url::Host;

use super::connection::Connection;
use super::{InfluxClientError, InfluxConfig, InfluxVersion};
use heartwatch_ports::{BoxFuture, Sink, SinkError};

/// Smaller bodies are sent as they are: they fit into one packet anyway.
const GZIP_BYTES_MIN: usize = 1_024;
/// Requests under way: while the server works on some, the next one is on its way to it. A third one is worth 6 % of
/// what InfluxDB 1.6 takes on two cores, a fourth one nothing.
const WRITES_AT_ONCE: usize = 3;

/// Writes to one InfluxDB. Clones share the connection.
#[derive(Debug, Clone)]
pub struct InfluxSink {
    connection: Arc<Connection>,
    gzip: bool,
    /// Nothing listened at the last attempt: no batch is compressed before something does.
    is_gone: Arc<AtomicBool>,
}

impl InfluxSink {
    /// Makes the client; nothing is sent yet.
    ///
    /// # Errors
    /// [`InfluxClientError`].
    pub fn new(config: InfluxConfig) -> Result<Self, InfluxClientError> {
        let gzip = config.gzip && !is_this_machine(&config);
        Ok(Self { connection: Arc::new(Connection::new(config)?), gzip, is_gone: Arc::default() })
    }

    async fn send(&self, lines: Bytes) -> Result<(), SinkError> {
        let connection = &self.connection;
        let version = connection.version().await?;
        if self.gzip && self.is_gone.load(Ordering::Relaxed) {
            connection.ping().await?;
        }
        let (body, gzipped) = self.packed(lines).await?;
        let mut answer = connection.post_rows(version, body.clone(), gzipped).await?;
        if version == InfluxVersion::V1 && answer.is_missing_database() {
            // somebody dropped it while we ran: once again with a new one
            self.create_database().await?;
            answer = connection.post_rows(version, body, gzipped).await?;
        }
        answer.judge(&connection.config, version)
    }

    async fn packed(&self, lines: Bytes) -> Result<(Bytes, bool), SinkError> {
        if !self.gzip || lines.len() < GZIP_BYTES_MIN {
            return Ok((lines, false));
        }
        let packed = tokio::task::spawn_blocking(move || {
            let mut encoder = GzEncoder::new(Vec::with_capacity(lines.len() / 4), Compression::fast());
            encoder.write_all(&lines).and_then(|()| encoder.finish())
        });
        let failed = |reason: String| SinkError::Retry { reason, retry_after: None };
        let body = packed.await.map_err(|error| failed(error.to_string()))?;
        Ok((body.map_err(|error| failed(error.to_string()))?.into(), true))
    }

    /// Creates the database where we may. A user who may not create one may well write into it: then
    /// the first write tells.
    async fn create_database(&self) -> Result<(), SinkError> {
        let config = &self.connection.config;
        let name = config.database.replace('\\', "\\\\").replace('"', "\\\"");
        match self.connection.ask(format!("CREATE DATABASE \"{name}\"")).await {
            Ok(_) => Ok(()),
            Err(influxdb::Error::ApiError(403)) => {
                tracing::info!(database = config.database, "the InfluxDB user may not create databases");
                Ok(())
            }
            Err(influxdb::Error::ApiError(status)) => {
                super::answer::Answer { status, is_influx: true, ..Default::default() }.judge(config, InfluxVersion::V1)
            }
            // no answer, or one that broke off: it may later
            Err(
                influxdb::Error::ConnectionError { error }
                | influxdb::Error::ProtocolError { error }
                | influxdb::Error::DeserializationError { error },
            ) => Err(SinkError::Retry { reason: format!("{}: {error}", config.url), retry_after: None }),
            Err(error) => Err(SinkError::Misconfigured {
                reason: format!("cannot create the database '{}' on {}: {error}", config.database, config.url),
            }),
        }
    }
}

/// On this machine compressing would cost both ends and save nothing.
fn is_this_machine(config: &InfluxConfig) -> bool {
    match config.url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

impl Sink for InfluxSink {
    fn name(&self) -> &'static str {
        "influxdb"
    }

    fn write(&self, lines: Bytes) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async {
            let result = self.send(lines).await;
            self.is_gone.store(matches!(result, Err(SinkError::NotListening { .. })), Ordering::Relaxed);
            result
        })
    }

    fn writes_at_once(&self) -> usize {
        WRITES_AT_ONCE
    }

    fn prepare(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            match self.connection.version().await? {
                InfluxVersion::V1 => self.create_database().await,
                // 2.x: buckets belong to people; 3.x makes its databases itself
                _ => Ok(()),
            }
        })
    }
}
