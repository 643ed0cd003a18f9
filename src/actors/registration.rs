//! An agent's place in etcd: its heartbeat under a lease, its live configuration, and what it reports back.
//!
//! - The lease is refreshed at half its time. One that has expired (a partition, a restart of etcd) is granted
//!   anew at once. At an end in order it is given back, so that the key goes at once.
//! - A change of the configuration's key means "look": the document is read, and again after at most
//!   half a minute in any case. A document counts once, by its revision. What it does not name stays as it is,
//!   also over a restart: what was in force stands in the status.
//! - Without etcd everything goes on as it is, and it is said once that etcd is missing.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::WrapFuture;
use actix::{Actor, AsyncContext, Context, Handler, MessageResult, ResponseFuture};
use tokio::sync::Notify;

use crate::messages::agent::{Apply, AskRegistration, LookAgain, RegistrationStatus};
use crate::messages::drain::Drain;
use crate::runtime::outlet::Outlet;
use heartwatch_domain::agent_settings::AgentSettings;
use heartwatch_domain::publisher::{HostName, PublisherId};
use heartwatch_formats::agent::{self, StatusDocument, Understood};
use heartwatch_ports::{ConfigSource, Keys, LeaseId, StoreError};
use heartwatch_system::clock::Clock;

/// Wait before etcd is asked again after it did not answer, at most; less with a short lease.
const RETRY_MAX: Duration = Duration::from_secs(1);
/// Longest time for giving the lease back at the end.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(2);

/// Who registers, and how.
#[derive(Debug, Clone)]
pub(crate) struct RegistrationConfig {
    /// Its name in the keys.
    pub node: HostName,
    /// Its id as a publisher.
    pub client_id: PublisherId,
    /// The host that it runs on.
    pub host: HostName,
    /// How long the lease lasts without a refresh; whole seconds.
    pub ttl: Duration,
}

/// What every life of one registration is built from. Clones share everything.
#[derive(Clone)]
pub(crate) struct RegistrationParts {
    config: Rc<RegistrationConfig>,
    store: Arc<dyn ConfigSource>,
    clock: Clock,
    apply: Outlet<Apply>,
    known: Rc<RefCell<Remembered>>,
    look: Rc<Notify>,
}

/// What outlives the actor.
struct Remembered {
    settings: Arc<AgentSettings>,
    status: RegistrationStatus,
    lease: Option<LeaseId>,
    ending: bool,
    /// Whether it was said that etcd is missing.
    missing_said: bool,
    /// What the status key should say, until it does.
    report: Option<Vec<u8>>,
}

impl RegistrationParts {
    /// A registration that applies what it reads through this outlet; `settings` are in force until then.
    #[must_use]
    pub(crate) fn new(
        config: RegistrationConfig,
        store: Arc<dyn ConfigSource>,
        clock: Clock,
        settings: AgentSettings,
        apply: Outlet<Apply>,
    ) -> Self {
        let known = Remembered {
            settings: Arc::new(settings),
            status: RegistrationStatus::default(),
            lease: None,
            ending: false,
            missing_said: false,
            report: None,
        };
        Self { config: Rc::new(config), store, clock, apply, known: Rc::new(RefCell::new(known)), look: Rc::default() }
    }

    fn key(&self, kind: &str) -> String {
        format!("/monitor/{kind}/{}", self.config.node)
    }

    fn retry(&self) -> Duration {
        (self.config.ttl / 4).clamp(Duration::from_millis(100), RETRY_MAX)
    }

    /// Notes whether etcd answers, and says it when that has changed.
    fn heard<T>(&self, answer: &Result<T, StoreError>) {
        let mut known = self.known.borrow_mut();
        match answer {
            Err(StoreError::Away(reason)) => {
                known.status.connected = false;
                known.status.error = reason.clone();
                if !std::mem::replace(&mut known.missing_said, true) {
                    tracing::warn!(reason, "etcd is missing: no heartbeat and no live configuration until it answers");
                }
            }
            Err(StoreError::Refused(reason)) => {
                if known.status.error != *reason {
                    tracing::error!(reason, "etcd refuses what this agent asks");
                }
                known.status.error = reason.clone();
            }
            Ok(_) | Err(StoreError::LeaseGone) => {
                if std::mem::take(&mut known.missing_said) {
                    tracing::info!("etcd answers again");
                }
                known.status.connected = true;
                known.status.error = String::new();
            }
        }
    }

    async fn beat_for_ever(self) {
        loop {
            let began = self.clock.monotonic();
            let beat = self.beat().await;
            self.heard(&beat);
            let wait = match beat {
                // From where it began: while members choose a leader a beat takes seconds, and the lease runs on.
                Ok(()) => (self.config.ttl / 2).saturating_sub(self.clock.monotonic().since(began)).max(self.retry()),
                Err(StoreError::LeaseGone) => {
                    self.known.borrow_mut().lease = None;
                    continue;
                }
                Err(_) => self.retry(),
            };
            tokio::time::sleep(wait).await;
        }
    }

    async fn beat(&self) -> Result<(), StoreError> {
        if self.known.borrow().ending {
            return Ok(());
        }
        let lease = self.known.borrow().lease;
        let lease = match lease {
            Some(lease) => {
                self.store.keep_alive(lease).await?;
                lease
            }
            None => {
                let lease = self.store.grant(self.config.ttl).await?;
                let mut known = self.known.borrow_mut();
                known.lease = Some(lease);
                known.status.leases += 1;
                if known.status.leases > 1 {
                    tracing::warn!(leases = known.status.leases, "the lease had expired: a new one was granted");
                }
                lease
            }
        };
        // Again each time: it says when, and comes back if somebody has removed it.
        let RegistrationConfig { host, client_id, .. } = &*self.config;
        let value = agent::heartbeat(host.as_str(), client_id.as_str(), self.clock.wall());
        self.store.put(self.key("heartbeat"), value, Some(lease)).await
    }

    async fn follow_for_ever(self) {
        loop {
            let looked = self.look().await;
            self.heard(&looked);
            let changed = async {
                match looked {
                    // What comes of the wait makes no difference: we look.
                    Ok(revision) => match self.store.await_change(Keys::One(self.key("config")), revision).await {
                        Ok(()) => {}
                        Err(_) => tokio::time::sleep(self.retry()).await,
                    },
                    Err(_) => tokio::time::sleep(self.retry()).await,
                }
            };
            tokio::select! {
                () = changed => {}
                () = self.look.notified() => {}
            }
        }
    }

    /// Reads the configuration and applies it if it is new; answers the revision to watch from.
    async fn look(&self) -> Result<i64, StoreError> {
        let snapshot = self.store.read(Keys::One(self.key("config"))).await?;
        let Some(stored) = snapshot.values.into_iter().next() else {
            let settings = self.known.borrow().settings.clone();
            if self.store.create(self.key("config"), agent::document(&settings)).await? {
                tracing::info!(
                    key = self.key("config"),
                    "there was no configuration: this agent's own was written there"
                );
            }
            // Whoever wrote it, it is read next: the watch begins before it.
            return Ok(snapshot.revision);
        };
        let before = self.known.borrow().status.config_revision;
        if before == 0 {
            self.remember(stored.revision).await?;
        }
        if before != stored.revision {
            self.apply(stored.revision, &stored.value).await;
        }
        let report = self.known.borrow().report.clone();
        if let Some(report) = report {
            self.store.put(self.key("status"), report.clone(), None).await?;
            self.known.borrow_mut().report.take_if(|newest| *newest == report);
        }
        Ok(snapshot.revision)
    }

    /// What was in force before this start, as this node's status says: a document that names only a part of the
    /// configuration leaves the rest as it was, also over a restart.
    async fn remember(&self, revision: i64) -> Result<(), StoreError> {
        let status = self.store.read(Keys::One(self.key("status"))).await?;
        let Some(before) = status.values.first().and_then(|stored| agent::in_force(&stored.value)) else {
            return Ok(());
        };
        let current = self.known.borrow().settings.clone();
        match agent::merge(&current, &before) {
            Ok(Understood { settings, .. }) => {
                tracing::debug!(revision, "what the configuration does not name is as it was before the start");
                self.known.borrow_mut().settings = Arc::new(settings);
            }
            Err(error) => tracing::warn!(%error, "what was in force before the start cannot be used: it is forgotten"),
        }
        Ok(())
    }

    async fn apply(&self, revision: i64, document: &[u8]) {
        let current = self.known.borrow().settings.clone();
        let (error, ignored) = match agent::merge(&current, document) {
            Ok(Understood { settings, ignored }) => {
                self.known.borrow_mut().settings = Arc::new(settings);
                if !ignored.is_empty() {
                    tracing::warn!(keys = ignored.join(", "), "the configuration has keys that are not known");
                }
                (String::new(), ignored)
            }
            Err(error) => {
                let key = self.key("config");
                tracing::error!(key, revision, %error, "the configuration is wrong: nothing of it is used");
                (error.to_string(), Vec::new())
            }
        };
        // Also an old one is applied again: a document may be put right by one that says what is in force.
        let settings = self.known.borrow().settings.clone();
        let applied = self.apply.deliver(Apply(settings.clone())).await;
        let plugins = match applied {
            Ok(status) => status.plugins,
            Err(error) => {
                tracing::error!(%error, "the configuration could not be applied");
                return;
            }
        };
        let report = StatusDocument {
            ts: agent::seconds(self.clock.wall()),
            revision,
            applied: error.is_empty(),
            error: error.clone(),
            ignored,
            config: agent::as_json(&settings),
            plugins,
        };
        let mut known = self.known.borrow_mut();
        known.report = serde_json::to_vec(&report).ok();
        known.status.config_revision = revision;
        known.status.config_error = error;
    }
}

/// The actor. Build each of its lives with clones of the same [`RegistrationParts`].
pub(crate) struct Registration {
    parts: RegistrationParts,
}

impl Registration {
    /// A life of the registration.
    #[must_use]
    pub(crate) const fn new(parts: RegistrationParts) -> Self {
        Self { parts }
    }
}

impl Actor for Registration {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.spawn(self.parts.clone().beat_for_ever().into_actor(self));
        ctx.spawn(self.parts.clone().follow_for_ever().into_actor(self));
    }
}

crate::messages::progress::answers_progress!(Registration);

impl Handler<LookAgain> for Registration {
    type Result = ();
    fn handle(&mut self, _: LookAgain, _: &mut Context<Self>) {
        self.parts.look.notify_one();
    }
}

impl Handler<AskRegistration> for Registration {
    type Result = MessageResult<AskRegistration>;
    fn handle(&mut self, _: AskRegistration, _: &mut Context<Self>) -> MessageResult<AskRegistration> {
        MessageResult(self.parts.known.borrow().status.clone())
    }
}

impl Handler<Drain> for Registration {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, _: &mut Context<Self>) -> ResponseFuture<()> {
        let parts = self.parts.clone();
        Box::pin(async move {
            parts.known.borrow_mut().ending = true;
            let Some(lease) = parts.known.borrow_mut().lease.take() else { return };
            let revoked = tokio::time::timeout(REVOKE_TIMEOUT, parts.store.revoke(lease)).await;
            if !matches!(revoked, Ok(Ok(()))) {
                tracing::info!("etcd did not take the lease back; it expires by itself");
            }
        })
    }
}
