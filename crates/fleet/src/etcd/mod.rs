//! [`ConfigSource`] in etcd, over its v3 gRPC API (`proto/etcd.proto`).
//!
//! - It knows several members. A request that one does not answer in time goes to the next, and the one
//!   that answered is asked first from then on. A member that is stopped, or cut off from the others, costs
//!   one attempt's time, at most.
//! - Everything here may be asked twice: a put or a grant whose answer was lost is made again. A lease that
//!   was granted twice expires by itself; a comparison that is made twice fails, and is answered as a change.
//! - A watch is one question: "has this changed after that revision?". It ends at the first event, at a
//!   compaction, at a lost connection, and after [`EtcdConfig::watch_max`] in any case, because a member can
//!   be cut off and not know it.
//! - `https://` members are spoken to with TLS; a user and its password give a token ([`heartwatch_ports::credentials::Login`]).

mod convert;
mod login;

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use url::Url;

use self::convert::{key_range, lease_seconds, snapshot};
use self::login::{AuthedChannel, Session};
use crate::tls::{self, TlsError};
use crate::wire::etcd::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::wire::etcd::kv_client::KvClient;
use crate::wire::etcd::lease_client::LeaseClient;
use crate::wire::etcd::request_op::Request as Operation;
use crate::wire::etcd::watch_client::WatchClient;
use crate::wire::etcd::watch_request::RequestUnion;
use crate::wire::etcd::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, PutRequest,
    RangeRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchRequest,
};
use heartwatch_ports::servers::EtcdConfig;
use heartwatch_ports::{BoxFuture, ConfigSource, Keys, LeaseId, Snapshot, StoreError};

/// Most keys that one read brings.
const KEYS_MAX: i64 = 100_000;
/// Largest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most members.
const ENDPOINTS_MAX: usize = 16;

/// Why this can be no etcd.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EtcdConfigError {
    /// No member was named, or too many.
    #[error("name 1 to {ENDPOINTS_MAX} members of etcd, such as http://127.0.0.1:2379, with commas between them")]
    Endpoints,
    /// One of them is no address of etcd.
    #[error("'{url}' is no address of etcd: {reason}; it should be like http://127.0.0.1:2379")]
    Endpoint {
        /// The text.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// TLS cannot be spoken.
    #[error("etcd: {0}")]
    Tls(#[from] TlsError),
}

/// A client of etcd. It connects when it is first asked.
#[derive(Debug)]
pub struct Etcd {
    config: EtcdConfig,
    members: Vec<Member>,
    session: Session,
    /// The member that answered last.
    current: AtomicUsize,
}

#[derive(Debug)]
struct Member {
    name: String,
    channel: Channel,
}

impl Etcd {
    /// A client of these members.
    ///
    /// # Errors
    /// [`EtcdConfigError`], when it could not work with any etcd.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(config: EtcdConfig) -> Result<Self, EtcdConfigError> {
        if config.endpoints.is_empty() || config.endpoints.len() > ENDPOINTS_MAX {
            return Err(EtcdConfigError::Endpoints);
        }
        let members = config.endpoints.iter().map(|url| member(url, &config)).collect::<Result<_, _>>()?;
        let session = Session::new(config.login.clone());
        Ok(Self { config, members, session, current: AtomicUsize::new(0) })
    }

    /// Its members as they were named.
    #[must_use]
    pub fn describe(&self) -> String {
        self.members.iter().map(|member| member.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Asks one member after the other, the one that answered last first.
    async fn ask<T, F>(&self, question: impl Fn(AuthedChannel) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let first = self.current.load(Ordering::Relaxed);
        let mut reasons = Vec::new();
        for turn in 0..self.members.len() {
            let index = (first + turn) % self.members.len();
            let Some(member) = self.members.get(index) else { continue };
            let asked = async {
                let token = self.session.token(&member.channel).await?;
                match question(AuthedChannel::new(member.channel.clone(), token.clone())).await {
                    // once more with a token of now
                    Err(status) if self.session.is_over(&token, &status).await => {
                        let token = self.session.token(&member.channel).await?;
                        question(AuthedChannel::new(member.channel.clone(), token)).await
                    }
                    answer => answer,
                }
            };
            let answer = tokio::time::timeout(self.config.attempt_timeout, asked).await;
            let reason = match answer {
                Ok(Ok(answer)) => {
                    self.current.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Ok(Err(status)) if is_refusal(&status) => return Err(refusal(&status)),
                Ok(Err(status)) => short(&status),
                Err(_) => format!("no answer within {:?}", self.config.attempt_timeout),
            };
            reasons.push(format!("{}: {reason}", member.name));
        }
        Err(StoreError::Away(reasons.join("; ")))
    }

    async fn watch(&self, keys: &Keys, after_revision: i64) -> Result<(), StoreError> {
        let (key, range_end) = key_range(keys);
        let start_revision = after_revision.saturating_add(1);
        let create = WatchCreateRequest { key, range_end, start_revision, progress_notify: false };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let opened = self.ask(|channel| {
            let request = request.clone();
            async move {
                // The stream of requests stays open, or the watch would end with it.
                let requests = futures_util::StreamExt::chain(
                    futures_util::stream::iter([request]),
                    futures_util::stream::pending(),
                );
                let mut answers = WatchClient::new(channel)
                    .max_decoding_message_size(ANSWER_BYTES_MAX)
                    .watch(requests)
                    .await?
                    .into_inner();
                // The first answer says that it is watched.
                let first = answers.message().await?;
                Ok((answers, first))
            }
        });
        let (mut answers, first) = opened.await?;
        let mut answer = first;
        let until_news = async {
            loop {
                let Some(news) = answer.take() else {
                    return Err(StoreError::Away("etcd ended the watch".to_owned()));
                };
                if news.canceled || news.compact_revision > 0 || !news.events.is_empty() {
                    return Ok(());
                }
                answer = answers.message().await.map_err(|status| StoreError::Away(short(&status)))?;
            }
        };
        tokio::time::timeout(self.config.watch_max, until_news).await.unwrap_or(Ok(()))
    }
}

impl ConfigSource for Etcd {
    fn read(&self, keys: Keys) -> BoxFuture<'_, Result<Snapshot, StoreError>> {
        Box::pin(async move {
            let (key, range_end) = key_range(&keys);
            let request = RangeRequest { key, range_end, limit: KEYS_MAX, revision: 0 };
            let read = self.ask(|channel| {
                let request = request.clone();
                async move { KvClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX).range(request).await }
            });
            snapshot(read.await?.into_inner())
        })
    }

    fn put(&self, key: String, value: Vec<u8>, lease: Option<LeaseId>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let request = PutRequest { key: key.into_bytes(), value, lease: lease.map_or(0, |lease| lease.0) };
            self.ask(|channel| {
                let request = request.clone();
                async move { KvClient::new(channel).put(request).await }
            })
            .await
            .map(drop)
        })
    }

    fn create(&self, key: String, value: Vec<u8>) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.replace(key, value, 0)
    }

    fn replace(&self, key: String, value: Vec<u8>, revision: i64) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async move {
            let key = key.into_bytes();
            // a key that is not there has 0
            let unchanged = Compare {
                result: CompareResult::Equal.into(),
                target: CompareTarget::Mod.into(),
                key: key.clone(),
                target_union: Some(TargetUnion::ModRevision(revision)),
            };
            let put = Operation::RequestPut(PutRequest { key, value, lease: 0 });
            let request = TxnRequest {
                compare: vec![unchanged],
                success: vec![RequestOp { request: Some(put) }],
                failure: Vec::new(),
            };
            let done = self.ask(|channel| {
                let request = request.clone();
                async move { KvClient::new(channel).txn(request).await }
            });
            Ok(done.await?.into_inner().succeeded)
        })
    }

    fn delete(&self, key: String) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async move {
            let request = DeleteRangeRequest { key: key.into_bytes(), range_end: Vec::new() };
            let done = self.ask(|channel| {
                let request = request.clone();
                async move { KvClient::new(channel).delete_range(request).await }
            });
            Ok(done.await?.into_inner().deleted > 0)
        })
    }

    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, StoreError>> {
        Box::pin(async move {
            let request = LeaseGrantRequest { ttl: lease_seconds(ttl), id: 0 };
            let granted = self.ask(|channel| async move { LeaseClient::new(channel).lease_grant(request).await });
            let granted = granted.await?.into_inner();
            if granted.error.is_empty() { Ok(LeaseId(granted.id)) } else { Err(StoreError::Refused(granted.error)) }
        })
    }

    fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let request = LeaseKeepAliveRequest { id: lease.0 };
            let kept = self.ask(|channel| async move {
                let one = futures_util::stream::iter([request]);
                LeaseClient::new(channel).lease_keep_alive(one).await?.into_inner().message().await
            });
            match kept.await? {
                Some(answer) if answer.ttl > 0 => Ok(()),
                Some(_) => Err(StoreError::LeaseGone),
                None => Err(StoreError::Away("etcd did not say whether the lease lives".to_owned())),
            }
        })
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let request = LeaseRevokeRequest { id: lease.0 };
            let revoked = self.ask(|channel| async move { LeaseClient::new(channel).lease_revoke(request).await });
            revoked.await.map(drop)
        })
    }

    fn await_change(&self, keys: Keys, after_revision: i64) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.watch(&keys, after_revision).await })
    }
}

fn member(url: &Url, config: &EtcdConfig) -> Result<Member, EtcdConfigError> {
    let name = url.as_str().trim_end_matches('/').to_owned();
    let wrong = |reason: &str| EtcdConfigError::Endpoint { url: name.clone(), reason: reason.to_owned() };
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("only http:// and https:// are spoken"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("it names no host"));
    }
    let mut endpoint = Endpoint::from_shared(name.clone()).map_err(|error| wrong(&error.to_string()))?;
    if url.scheme() == "https" {
        let unusable = |error: tonic::transport::Error| TlsError::Unusable(innermost(&error));
        endpoint = endpoint.tls_config(tls::client(&config.tls)?).map_err(unusable)?;
    }
    let channel = endpoint
        .connect_timeout(config.attempt_timeout)
        // a member that is stopped keeps its connections and says nothing
        .http2_keep_alive_interval(config.attempt_timeout * 2)
        .keep_alive_timeout(config.attempt_timeout * 2)
        .keep_alive_while_idle(true)
        .connect_lazy();
    Ok(Member { name, channel })
}

/// The error at the bottom says what has happened.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Whether another member would say the same.
fn is_refusal(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::ResourceExhausted
    )
}

fn refusal(status: &Status) -> StoreError {
    if status.code() == Code::NotFound && status.message().contains("lease") {
        return StoreError::LeaseGone;
    }
    StoreError::Refused(format!("etcd refuses it: {}", short(status)))
}

/// A status without its metadata, in one line. A lost connection's reason is in its sources.
fn short(status: &Status) -> String {
    let mut text = if status.message().is_empty() { status.code().to_string() } else { status.message().to_owned() };
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = error.source();
    }
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_can_be_no_etcd_is_named() {
        assert_eq!(Etcd::new(EtcdConfig::new(vec![])).unwrap_err(), EtcdConfigError::Endpoints);
        for wrong in ["ftp://x", "unix:///run/etcd"] {
            let error = Etcd::new(EtcdConfig::new(vec![wrong.parse().unwrap()])).unwrap_err().to_string();
            assert!(error.contains(wrong) && error.contains("http://127.0.0.1:2379"), "{error}");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_said_of_every_member() {
        let ports: Vec<_> = (0..2).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let urls: Vec<Url> =
            ports.iter().map(|port| format!("http://{}", port.local_addr().unwrap()).parse().unwrap()).collect();
        drop(ports);
        let etcd = Etcd::new(EtcdConfig::new(urls.clone())).unwrap();
        let error = etcd.read(Keys::One("/a".to_owned())).await.unwrap_err();
        let StoreError::Away(reason) = error else { panic!("{error:?}") };
        assert!(urls.iter().all(|url| reason.contains(url.as_str().trim_end_matches('/'))), "{reason}");
    }
}
