//! One HTTP client for writes and reads: who we are, which InfluxDB answers, how its answers are read.

use bytes::Bytes;
use futures_util::StreamExt;
use reqwest::header::{CONTENT_ENCODING, DATE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, redirect};
use tokio::sync::OnceCell;
use url::Url;

use super::answer::{Answer, retry_after, words_of};
use super::{InfluxClientError, InfluxConfig, InfluxVersion};
use heartwatch_ports::SinkError;
use heartwatch_ports::credentials::Secret;
use heartwatch_system::rustls_provider;

/// How much of an error body is read.
const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;

const VERSION_HEADER: &str = "x-influxdb-version";

/// The client and what it has found out.
#[derive(Debug)]
pub(super) struct Connection {
    pub config: InfluxConfig,
    client: Client,
    version: OnceCell<InfluxVersion>,
}

impl Connection {
    pub(super) fn new(config: InfluxConfig) -> Result<Self, InfluxClientError> {
        rustls_provider::install();
        let client = Client::builder()
            .user_agent(concat!("heartwatch/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(config.connect_timeout)
            // a redirected POST may become a GET, and its rows would be gone
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| InfluxClientError { url: config.url.to_string(), reason: causes(&error) })?;
        Ok(Self { config, client, version: OnceCell::new() })
    }

    /// The address below the configured URL, whose own path is kept.
    pub(super) fn address(&self, path: &str, query: &[(&str, &str)]) -> Url {
        let mut url = self.config.url.clone();
        url.set_path(&format!("{}/{path}", self.config.url.path().trim_end_matches('/')));
        url.query_pairs_mut().clear().extend_pairs(query);
        url
    }

    /// Says who we are.
    pub(super) fn signed(&self, request: RequestBuilder) -> RequestBuilder {
        match (&self.config.token, &self.config.user) {
            (Some(token), _) => request.header("authorization", format!("Token {}", token.expose())),
            (None, Some(user)) => request.basic_auth(user, self.config.password.as_ref().map(Secret::expose)),
            (None, None) => request,
        }
    }

    pub(super) fn get(&self, url: Url) -> RequestBuilder {
        self.signed(self.client.get(url))
    }

    /// Which InfluxDB this is; asked once, as soon as it answers.
    pub(super) async fn version(&self) -> Result<InfluxVersion, SinkError> {
        self.version.get_or_try_init(|| self.find_version()).await.copied()
    }

    /// Finds out whether it takes a connection, with nothing to carry.
    pub(super) async fn ping(&self) -> Result<(), SinkError> {
        self.ask_at("ping").await.map(|_| ())
    }

    async fn ask_at(&self, path: &str) -> Result<Response, SinkError> {
        let answer = self.get(self.address(path, &[])).timeout(self.config.request_timeout).send().await;
        answer.map_err(|error| self.unreachable(&error))
    }

    async fn find_version(&self) -> Result<InfluxVersion, SinkError> {
        match (self.config.version, &self.config.bucket) {
            (InfluxVersion::Auto, Some(_)) => return Ok(InfluxVersion::V2),
            (InfluxVersion::Auto, None) => {}
            (version, _) => return Ok(version),
        }
        let ping = self.ask_at("ping").await?;
        let mut found = ping.headers().get(VERSION_HEADER).and_then(|text| version_of(text.to_str().ok()?));
        if found.is_none() {
            let health: Option<serde_json::Value> = self.ask_at("health").await?.json().await.ok();
            found = health.and_then(|json| version_of(json.get("version")?.as_str()?));
        }
        let guess = if self.config.token.is_some() { InfluxVersion::V2 } else { InfluxVersion::V1 };
        let version = found.unwrap_or(guess);
        tracing::info!(url = %self.config.url, ?version, said_so = found.is_some(), "InfluxDB answers");
        Ok(version)
    }

    /// Sends rows once and says what the server answered.
    pub(super) async fn post_rows(
        &self,
        version: InfluxVersion,
        body: Bytes,
        gzipped: bool,
    ) -> Result<Answer, SinkError> {
        let config = &self.config;
        let url = match version {
            InfluxVersion::V2 | InfluxVersion::V3 => {
                let mut query = vec![("bucket", config.target()), ("precision", "ns")];
                query.extend(config.org.as_deref().map(|org| ("org", org)));
                self.address("api/v2/write", &query)
            }
            InfluxVersion::V1 | InfluxVersion::Auto => {
                let mut query = vec![("db", config.database.as_str()), ("precision", "ns")];
                query.extend(config.retention_policy.as_deref().map(|policy| ("rp", policy)));
                self.address("write", &query)
            }
        };
        let mut request = self.signed(self.client.post(url)).timeout(config.request_timeout);
        request = request.header("content-type", "text/plain; charset=utf-8");
        if gzipped {
            request = request.header(CONTENT_ENCODING, "gzip");
        }
        let response = request.body(body).send().await.map_err(|error| self.unreachable(&error))?;
        Ok(read_answer(response).await)
    }

    /// The `influxdb` crate's client, for administration and small queries, over our HTTP client.
    /// It has no timeout of its own: put one around it.
    pub(super) fn administration(&self) -> influxdb::Client {
        let config = &self.config;
        let url = config.url.as_str().trim_end_matches('/');
        let client = influxdb::Client::new(url, config.target()).with_http_client(self.client.clone());
        match (&config.token, &config.user) {
            (Some(token), _) => client.with_token(token.expose()),
            (None, Some(user)) => client.with_auth(user, config.password.as_ref().map_or("", Secret::expose)),
            (None, None) => client,
        }
    }

    /// Runs a query through the `influxdb` crate, within the request timeout.
    pub(super) async fn ask(&self, influxql: String) -> Result<String, influxdb::Error> {
        let client = self.administration();
        let query = client.query(influxdb::ReadQuery::new(influxql));
        tokio::time::timeout(self.config.request_timeout, query).await.unwrap_or_else(|_| {
            let error = format!("no answer within {} ms", self.config.request_timeout.as_millis());
            Err(influxdb::Error::ConnectionError { error })
        })
    }

    /// No answer came: it may later.
    pub(super) fn unreachable(&self, error: &reqwest::Error) -> SinkError {
        let url = self.config.url.as_str().trim_end_matches('/');
        let reason = if error.is_connect() {
            format!("{url} can't be reached: {}", causes(error))
        } else if error.is_timeout() {
            format!("{url} gave no answer within {} ms", self.config.request_timeout.as_millis())
        } else {
            format!("the connection to {url} broke: {}", causes(error))
        };
        if is_refused(error) {
            return SinkError::NotListening { reason };
        }
        SinkError::Retry { reason, retry_after: None }
    }
}

/// Whether the host answered that nothing listens there.
fn is_refused(error: &reqwest::Error) -> bool {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let mut codes = causes.filter_map(|error| error.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    codes.any(|kind| kind == std::io::ErrorKind::ConnectionRefused)
}

async fn read_answer(response: Response) -> Answer {
    let status = response.status().as_u16();
    let text = |headers: &HeaderMap, name| -> Option<String> {
        headers.get(name).and_then(|value: &reqwest::header::HeaderValue| value.to_str().ok()).map(str::to_owned)
    };
    let headers = response.headers().clone();
    let date = text(&headers, DATE);
    let retry_after = text(&headers, RETRY_AFTER).and_then(|header| retry_after(&header, date.as_deref()));
    let location = text(&headers, LOCATION).unwrap_or_default();
    let is_influx = headers.contains_key(VERSION_HEADER);
    let words = if status == 204 { String::new() } else { words_of(&read_some(response).await) };
    Answer { status, words, is_influx, retry_after, location }
}

/// The beginning of a body; what can't be read is left out.
pub(super) async fn read_some(response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(Ok(chunk)) = chunks.next().await {
        body.extend_from_slice(&chunk);
        if body.len() >= ERROR_BODY_BYTES_MAX {
            body.truncate(ERROR_BODY_BYTES_MAX);
            break;
        }
    }
    body
}

/// `1.6.7~rc0`, `v2.7.1`, `3.0.1`: what counts is the first number.
fn version_of(text: &str) -> Option<InfluxVersion> {
    let number = text.trim().trim_start_matches('v').split('.').next()?;
    match number.parse().ok()? {
        0_u32..=1 => Some(InfluxVersion::V1),
        2 => Some(InfluxVersion::V2),
        _ => Some(InfluxVersion::V3),
    }
}

/// The innermost cause, which is the one that helps: "Connection refused" rather than "error sending request".
pub(super) fn causes(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_of_the_version_counts() {
        assert_eq!(version_of("1.6.7~rc0"), Some(InfluxVersion::V1));
        assert_eq!(version_of("v2.7.1"), Some(InfluxVersion::V2));
        assert_eq!(version_of("3.0.1"), Some(InfluxVersion::V3));
        assert_eq!(version_of("nightly"), None);
    }

    #[test]
    fn the_path_of_the_url_is_kept() {
        let config = InfluxConfig::at(Url::parse("https://proxy.example/influx/").unwrap());
        let connection = Connection::new(config).unwrap();
        let address = connection.address("write", &[("db", "a b")]);
        assert_eq!(address.as_str(), "https://proxy.example/influx/write?db=a+b");
        assert_eq!(connection.address("ping", &[]).as_str(), "https://proxy.example/influx/ping?");
    }
}
