//! A webhook: one POST with the JSON of a message, signed with a shared secret; and the plain GET that
//! says that the monitor itself is well.
//!
//! | header | |
//! |---|---|
//! | `Content-Type` | `application/json` |
//! | `X-Heartwatch-Delivery` | the message's id, the same at every attempt: drop what you have seen |
//! | `X-Heartwatch-Signature` | `sha256=` and the HMAC-SHA256 of the body in hexadecimal, where there is a secret |
//!
//! The signature is made as GitHub makes its `X-Hub-Signature-256`, so its receivers' code works here
//! (<https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>).
//! An address may be a secret itself (chat services put a token into it): no error repeats it.

use std::fmt;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, redirect};
use sha2::Sha256;
use url::Url;

use heartwatch_formats::notification::NotifyMessage;
use heartwatch_ports::credentials::Secret;
use heartwatch_ports::{BoxFuture, Notify, NotifyError, Ping};
use heartwatch_system::rustls_provider;

/// How much of the body of a refusal is read, in bytes.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// How much of it is repeated, in characters.
const ANSWER_CHARS_MAX: usize = 200;
/// The longest wait that a receiver may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// Where to post, and how.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookConfig {
    /// The address.
    pub url: Url,
    /// The shared secret; none leaves the message unsigned.
    pub secret: Option<Secret>,
    /// How long one attempt may take.
    pub timeout: Duration,
}

impl fmt::Debug for WebhookConfig {
    /// Without the path, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookConfig({})", self.url.host_str().unwrap_or_default())
    }
}

/// The HTTP client cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot make an HTTP client: {0}")]
pub struct NoClient(String);

/// Posts each message to one address.
pub struct Webhook {
    config: WebhookConfig,
    client: Client,
}

impl Webhook {
    /// A webhook; it connects to nothing yet.
    ///
    /// # Errors
    /// [`NoClient`].
    pub fn new(config: WebhookConfig) -> Result<Self, NoClient> {
        let client = client(config.timeout)?;
        Ok(Self { config, client })
    }

    async fn post(&self, message: &NotifyMessage) -> Result<(), NotifyError> {
        let mut request = self
            .client
            .post(self.config.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("x-heartwatch-delivery", &message.id);
        if let Some(secret) = &self.config.secret {
            request = request.header("x-heartwatch-signature", signature(secret.expose().as_bytes(), &message.json));
        }
        let answer = request.body(message.json.clone()).send().await;
        let answer =
            answer.map_err(|error| NotifyError::Retry { reason: without_address(error), retry_after: None })?;
        judge(answer).await
    }
}

impl Notify for Webhook {
    fn kind(&self) -> &'static str {
        "webhook"
    }

    fn deliver<'a>(&'a self, message: &'a NotifyMessage) -> BoxFuture<'a, Result<(), NotifyError>> {
        Box::pin(self.post(message))
    }
}

/// A URL that is asked for while the monitor is well.
pub struct PingUrl {
    url: Url,
    client: Client,
}

impl PingUrl {
    /// A URL to ask for, each time within this limit.
    ///
    /// # Errors
    /// [`NoClient`].
    pub fn new(url: Url, timeout: Duration) -> Result<Self, NoClient> {
        Ok(Self { url, client: client(timeout)? })
    }
}

impl Ping for PingUrl {
    fn ping(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            let answer = self.client.get(self.url.clone()).send().await.map_err(without_address)?;
            match answer.status() {
                status if status.is_success() => Ok(()),
                status => Err(format!("it answers {status}")),
            }
        })
    }
}

/// What stands after `X-Heartwatch-Signature:`.
#[must_use]
pub fn signature(secret: &[u8], body: &[u8]) -> String {
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length (RFC 2104)")]
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key of any length");
    mac.update(body);
    let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={digits}")
}

fn client(timeout: Duration) -> Result<Client, NoClient> {
    rustls_provider::install();
    Client::builder()
        .user_agent(concat!("heartwatch/", env!("CARGO_PKG_VERSION")))
        .timeout(timeout)
        // a redirected POST may become a GET, and its body would be gone
        .redirect(redirect::Policy::none())
        .build()
        .map_err(|error| NoClient(without_address(error)))
}

async fn judge(answer: Response) -> Result<(), NotifyError> {
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let retry_after = answer
        .headers()
        .get(RETRY_AFTER)
        .and_then(|seconds| seconds.to_str().ok()?.trim().parse().ok())
        .map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
    let mut reason = format!("it answers {status}");
    let words = words_of(answer).await;
    if !words.is_empty() {
        reason.push_str(&format!(": {words}"));
    }
    // What a change of the configuration can mend (here or there) is worth waiting for.
    let mendable = [
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
        StatusCode::NOT_FOUND,
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::GONE,
        StatusCode::TOO_EARLY,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    if status.is_client_error() && !mendable.contains(&status) {
        return Err(NotifyError::Refused { reason });
    }
    Err(NotifyError::Retry { reason, retry_after })
}

/// The beginning of the body, as one line.
async fn words_of(mut answer: Response) -> String {
    let mut body = Vec::new();
    while body.len() < ANSWER_BYTES_MAX
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    let text = String::from_utf8_lossy(&body);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(ANSWER_CHARS_MAX).collect()
}

/// An error and its causes, without the address that it happened at.
fn without_address(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(&format!(": {more}"));
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_of_rfc_4231() {
        // test case 2: key "Jefe", data "what do ya want for nothing?"
        let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature(b"Jefe", b"what do ya want for nothing?"), expected);
    }
}
