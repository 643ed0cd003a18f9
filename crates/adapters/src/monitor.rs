//! A running monitor, asked over HTTP by `status`, `explain`, `events` and `ledger`.

use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use serde::de::DeserializeOwned;
use url::Url;

use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::roster::MaintenanceReply;
use heartwatch_domain::verdict::Change;
use heartwatch_formats::api::{BeginMaintenance, EndMaintenance, ErrorView, ExplanationView, LedgerView, StatusView};

/// How long the monitor may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a question is asked again that came too often, and how long that may take each time.
const ASKED_AGAIN_MAX: u32 = 3;
const ASK_AGAIN_WAIT_MAX: Duration = Duration::from_secs(5);
/// Longest line of the event stream.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// Why a running monitor could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nothing answers there.
    #[error("no monitor answers at {url}: {reason}; start one with `heartwatch run`, or name another with --url")]
    Unreachable {
        /// Where we asked.
        url: Url,
        /// What went wrong.
        reason: String,
    },
    /// It answered that it cannot.
    #[error("the monitor at {url} says: {reason}")]
    Refused {
        /// Where we asked.
        url: Url,
        /// Its words.
        reason: String,
    },
    /// It wants to know who asks.
    #[error("the monitor at {url} wants a token: set HEARTWATCH_TOKEN, or name its file with --token-file")]
    NeedsToken {
        /// Where we asked.
        url: Url,
    },
    /// What answers is no monitor.
    #[error("what answers at {url} is no heartwatch monitor: {reason}")]
    NotAMonitor {
        /// Where we asked.
        url: Url,
        /// What was wrong with the answer.
        reason: String,
    },
}

/// A running monitor.
#[derive(Clone)]
pub struct Monitor {
    url: Url,
    client: reqwest::Client,
    token: Option<String>,
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Monitor({})", self.url)
    }
}

fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

impl Monitor {
    /// The monitor whose page is at this URL.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn at(url: Url) -> Result<Self, AskError> {
        heartwatch_system::rustls_provider::install();
        let client = reqwest::Client::builder().connect_timeout(ANSWER_TIMEOUT).build();
        let client = client.map_err(|error| AskError::Unreachable { url: url.clone(), reason: innermost(&error) })?;
        Ok(Self { url, client, token: None })
    }

    /// Shows this token with every question.
    #[must_use]
    pub fn with_token(self, token: Option<String>) -> Self {
        Self { token, ..self }
    }

    fn request(&self, method: reqwest::Method, url: Url) -> reqwest::RequestBuilder {
        let request = self.client.request(method, url);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Everybody with their verdicts.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn status(&self) -> Result<StatusView, AskError> {
        self.get("api/status").await
    }

    /// Why one publisher has its verdict.
    ///
    /// # Errors
    /// [`AskError`]; [`AskError::Refused`] when it is not known.
    pub async fn explain(&self, id: &PublisherId) -> Result<ExplanationView, AskError> {
        self.get(&format!("api/publishers/{id}")).await
    }

    /// The account of every row.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn ledger(&self) -> Result<LedgerView, AskError> {
        self.get("api/ledger").await
    }

    /// The maintenance windows.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn maintenance(&self) -> Result<MaintenanceReply, AskError> {
        self.get("api/maintenance").await
    }

    /// Opens a maintenance window from now on.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn begin_maintenance(&self, window: &BeginMaintenance) -> Result<MaintenanceReply, AskError> {
        self.post("api/maintenance", window).await
    }

    /// Ends the windows of a pattern.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn end_maintenance(&self, window: &EndMaintenance) -> Result<MaintenanceReply, AskError> {
        self.post("api/maintenance/end", window).await
    }

    /// Past verdict changes with a larger epoch, oldest first.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn changes(&self, since_epoch: u64) -> Result<Vec<Change>, AskError> {
        self.get(&format!("api/events?since={since_epoch}")).await
    }

    /// Verdict changes after an epoch as they happen, until the connection ends or was too slow for all of them: then
    /// [`Self::changes`] has what came since.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn follow(&self, since_epoch: u64) -> Result<impl Stream<Item = Change> + use<>, AskError> {
        let url = self.address("api/stream");
        let request = self.request(reqwest::Method::GET, url.clone()).header("Last-Event-ID", since_epoch.to_string());
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        if answer.status() == reqwest::StatusCode::UNAUTHORIZED {
            return Err(AskError::NeedsToken { url });
        }
        if !answer.status().is_success() {
            return Err(AskError::NotAMonitor { url, reason: answer.status().to_string() });
        }
        let bytes = Box::pin(answer.bytes_stream());
        Ok(stream::unfold((bytes, Vec::new()), |(mut bytes, mut held)| async move {
            loop {
                if let Some(end) = held.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = held.drain(..=end).collect();
                    if line == b"event: missed\n" {
                        return None;
                    }
                    let change = line.strip_prefix(b"data: ").and_then(|json| serde_json::from_slice(json).ok());
                    match change {
                        Some(change) => return Some((change, (bytes, held))),
                        None => continue,
                    }
                }
                let more = bytes.next().await?.ok()?;
                if held.len() + more.len() > EVENT_BYTES_MAX {
                    return None;
                }
                held.extend_from_slice(&more);
            }
        }))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AskError> {
        let url = self.address(path);
        self.answer(self.request(reqwest::Method::GET, url.clone()), url).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl serde::Serialize) -> Result<T, AskError> {
        let url = self.address(path);
        self.answer(self.request(reqwest::Method::POST, url.clone()).json(body), url).await
    }

    async fn answer<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder, url: Url) -> Result<T, AskError> {
        let answer = self.send_again_while_it_is_too_often(request.timeout(ANSWER_TIMEOUT)).await;
        let answer = answer.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|error| self.unreachable(&error))?;
        if status.is_success() {
            return serde_json::from_slice(&body)
                .map_err(|error| AskError::NotAMonitor { url, reason: error.to_string() });
        }
        if status == reqwest::StatusCode::UNAUTHORIZED {
            return Err(AskError::NeedsToken { url });
        }
        match serde_json::from_slice::<ErrorView>(&body) {
            Ok(view) => Err(AskError::Refused { url, reason: view.error }),
            Err(_) => Err(AskError::NotAMonitor { url, reason: status.to_string() }),
        }
    }

    /// Others who cannot be told from us may have asked too often: then we wait as long as the monitor says.
    async fn send_again_while_it_is_too_often(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, reqwest::Error> {
        for _ in 0..ASKED_AGAIN_MAX {
            let Some(again) = request.try_clone() else { break };
            let answer = again.send().await?;
            if answer.status() != reqwest::StatusCode::TOO_MANY_REQUESTS {
                return Ok(answer);
            }
            let seconds =
                answer.headers().get(reqwest::header::RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse().ok());
            let wait = Duration::from_secs(seconds.unwrap_or(1)).min(ASK_AGAIN_WAIT_MAX);
            tracing::warn!(wait_ms = wait.as_millis(), "the monitor is asked too often from here; asking again");
            tokio::time::sleep(wait).await;
        }
        request.send().await
    }

    fn address(&self, path: &str) -> Url {
        self.url.join(path).unwrap_or_else(|_| self.url.clone())
    }

    fn unreachable(&self, error: &reqwest::Error) -> AskError {
        AskError::Unreachable { url: self.url.clone(), reason: innermost(error) }
    }
}
