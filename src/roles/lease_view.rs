//! The global view of agents: whose heartbeat is in etcd, and since when. Level-triggered: an event means "look",
//! everything is read again, and at least twice a minute in any case.
//!
//! A heartbeat that is gone has the watchdog look at whoever belongs to that node. While etcd does not answer nobody
//! is gone: what was seen last stands, and it is said that it is old.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::config::Settings;
use crate::messages::beats::{LeasesEnded, LeasesPromise};
use crate::runtime::outlet::Outlet;
use crate::runtime::supervisor::{Guarded, Supervisor};
use heartwatch_domain::nodes::{Node, NodeBeat, Nodes};
use heartwatch_domain::publisher::HostName;
use heartwatch_domain::time::Timestamp;
use heartwatch_formats::agent::{self, CONFIG_PREFIX, Completed, HEARTBEAT_PREFIX};
use heartwatch_ports::servers::EtcdConfig;
use heartwatch_ports::{ConfigSource, Keys, Snapshot, StoreError};
use heartwatch_system::clock::Clock;

/// Between two looks: every agent writes its heartbeat again and again, and one look sees all of them.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// How often it is looked at what the agents' configurations promise.
const CONFIGS_EVERY: Duration = Duration::from_secs(5);
/// What a lease promises whose node has no configuration that says it: so often its agent is heard.
const LEASE_PROMISES: Duration = Duration::from_secs(60);
/// How often a configuration is tried to be written that others write at the same time.
const WRITE_TRIES_MAX: usize = 32;
/// Longest wait between two of these tries.
const WRITE_PAUSE_MAX: Duration = Duration::from_millis(50);
/// Wait before etcd is asked again that did not answer.
const RETRY: Duration = Duration::from_secs(1);

/// The view. Clones are handles to the same.
#[derive(Clone)]
pub struct LeaseView {
    shared: Rc<RefCell<ViewState>>,
    clock: Clock,
    supervisor: Supervisor,
    ended: Outlet<LeasesEnded>,
    promised: Outlet<LeasesPromise>,
}

#[derive(Default)]
struct ViewState {
    store: Option<Arc<dyn ConfigSource>>,
    endpoints: String,
    nodes: Nodes,
    /// Why etcd does not answer; empty while it does.
    error: String,
    read_at: Option<Timestamp>,
    following: Option<Guarded>,
}

impl LeaseView {
    /// Nobody is seen yet; who has gone, and what those promise who are there, is told through these outlets.
    #[must_use]
    pub fn new(
        clock: Clock,
        supervisor: Supervisor,
        ended: Outlet<LeasesEnded>,
        promised: Outlet<LeasesPromise>,
    ) -> Self {
        Self { shared: Rc::default(), clock, supervisor, ended, promised }
    }

    /// Looks into the etcd of the settings from now on, where they name one.
    ///
    /// # Errors
    /// When this can work with no etcd at all; then what was followed before is followed on.
    pub fn follow(&self, settings: &Settings) -> anyhow::Result<()> {
        let store = settings.etcd.as_ref().map(store).transpose()?;
        self.close();
        let following = store
            .clone()
            .map(|store| self.supervisor.guard("view of the leases in etcd", self.clone().look_for_ever(store)));
        let endpoints = settings.etcd.as_ref().map(EtcdConfig::members).unwrap_or_default();
        *self.shared.borrow_mut() = ViewState { store, endpoints, following, ..ViewState::default() };
        Ok(())
    }

    /// Looks no more.
    pub fn close(&self) {
        if let Some(following) = self.shared.borrow_mut().following.take() {
            following.abort();
        }
    }

    async fn look_for_ever(self, store: Arc<dyn ConfigSource>) {
        let heartbeats = || Keys::Prefix(HEARTBEAT_PREFIX.to_owned());
        let (mut told, mut configs_read) = (Vec::new(), None);
        loop {
            let read = store.read(heartbeats()).await;
            let looked = self.note(&read);
            match read {
                Ok(snapshot) => {
                    self.tell(looked).await;
                    let now = Instant::now();
                    if configs_read.is_none_or(|at| now.duration_since(at) >= CONFIGS_EVERY) {
                        configs_read = Some(now);
                        self.tell_promises(store.as_ref(), &mut told).await;
                    }
                    // What comes of the wait makes no difference: we look.
                    let changed = store.await_change(heartbeats(), snapshot.revision).await;
                    tokio::time::sleep(if changed.is_ok() { LOOK_PAUSE } else { RETRY }).await;
                }
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// Notes what was read; answers whose heartbeats are gone.
    fn note(&self, read: &Result<Snapshot, StoreError>) -> Vec<NodeBeat> {
        let now = self.clock.wall();
        let mut shared = self.shared.borrow_mut();
        match read {
            Ok(snapshot) => {
                if !std::mem::take(&mut shared.error).is_empty() {
                    tracing::info!("etcd answers again");
                }
                shared.read_at = Some(now);
                let beats = snapshot.values.iter();
                let beats = beats.filter_map(|stored| agent::read_heartbeat(&stored.key, &stored.value)).collect();
                let forgotten = shared.nodes.forgotten();
                let gone = shared.nodes.seen(beats, now);
                if shared.nodes.forgotten() > forgotten {
                    tracing::warn!(
                        forgotten = shared.nodes.forgotten(),
                        "nodes that are gone were forgotten: too many"
                    );
                }
                gone
            }
            Err(error) => {
                if shared.error.is_empty() {
                    tracing::warn!(%error, "etcd is missing: whose lease is there is not seen until it answers");
                }
                shared.error = error.to_string();
                Vec::new()
            }
        }
    }

    async fn tell(&self, gone: Vec<NodeBeat>) {
        if gone.is_empty() {
            return;
        }
        for beat in &gone {
            tracing::warn!(node = %beat.node, "its heartbeat in etcd is gone: we look");
        }
        if let Err(error) = self.ended.deliver(LeasesEnded(Arc::new(gone))).await {
            tracing::error!(%error, "the watchdog was not told of leases that have ended");
        }
    }

    /// What the living leases promise, where that has changed since it was `told`.
    async fn tell_promises(&self, store: &dyn ConfigSource, told: &mut Vec<(NodeBeat, Duration)>) {
        // etcd has just answered; where it does not now, what was promised stands
        let Ok(configs) = store.read(Keys::Prefix(CONFIG_PREFIX.to_owned())).await else { return };
        let intervals: HashMap<HostName, Duration> =
            configs.values.iter().filter_map(|stored| agent::read_interval(&stored.key, &stored.value)).collect();
        let promise = |node: &Node| {
            let every = intervals.get(&node.beat.node).copied().unwrap_or(LEASE_PROMISES);
            // when it was written says nothing about who it is
            (NodeBeat { at: None, ..node.beat.clone() }, every)
        };
        let promises: Vec<_> = self.shared.borrow().nodes.all().filter(|node| node.is_here).map(promise).collect();
        if promises == *told {
            return;
        }
        match self.promised.deliver(LeasesPromise(Arc::new(promises.clone()))).await {
            Ok(()) => *told = promises,
            Err(error) => tracing::error!(%error, "the watchdog was not told what leases promise"),
        }
    }

    /// The etcd and every node, for a program: `null` without etcd.
    #[must_use]
    pub fn json(&self) -> (Value, Value) {
        let shared = self.shared.borrow();
        let nodes: Vec<Value> = shared
            .nodes
            .all()
            .map(|Node { beat, is_here, since }| {
                json!({
                    "node": beat.node, "host": beat.host, "client_id": beat.client_id, "heartbeat": is_here,
                    "since": since, "written": beat.at,
                })
            })
            .collect();
        let etcd = json!({
            "endpoints": shared.endpoints, "connected": shared.error.is_empty() && shared.read_at.is_some(),
            "error": shared.error, "read_at": shared.read_at,
        });
        (if shared.store.is_some() { etcd } else { Value::Null }, json!(nodes))
    }

    /// The rows of a table for a person: node, agent, heartbeat, since.
    #[must_use]
    pub fn rows(&self) -> Vec<Vec<String>> {
        let row = |node: &Node| {
            vec![
                node.beat.node.to_string(),
                node.beat.client_id.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
                if node.is_here { "there" } else { "gone" }.to_owned(),
                node.since.to_string(),
            ]
        };
        self.shared.borrow().nodes.all().map(row).collect()
    }

    /// How etcd itself does, in words; none without one.
    #[must_use]
    pub fn said(&self) -> Option<String> {
        let shared = self.shared.borrow();
        shared.store.as_ref()?;
        let how = match (shared.error.as_str(), shared.read_at) {
            ("", Some(_)) => "answers".to_owned(),
            ("", None) => "was not asked yet".to_owned(),
            (error, Some(read_at)) => format!("does not answer, the leases are as of {read_at} ({error})"),
            (error, None) => format!("does not answer ({error})"),
        };
        Some(format!("etcd: {how}"))
    }

    /// Changes what a document names in a node's configuration, and writes the whole of it: what only stood in
    /// an earlier document would be forgotten when the agent starts again. Two who write at once both find their
    /// keys there.
    ///
    /// # Errors
    /// What is wrong with the document or the node's name, or why etcd did not take it; nothing was written then, as
    /// far as etcd has said.
    pub async fn configure(&self, node: &str, document: &str) -> Result<(String, Value), String> {
        let store = self.shared.borrow().store.clone();
        let Some(store) = store else {
            return Err(format!("{node} was not configured: the server has no etcd, start it with --etcd"));
        };
        let node = HostName::parse(node).map_err(|error| error.to_string())?;
        let completed = write(store.as_ref(), &node, document.as_bytes()).await;
        let Completed { keys, ignored, .. } = completed.map_err(|error| format!("{node} was not configured{error}"))?;
        let key = agent::config_key(&node);
        let is_here = self.shared.borrow().nodes.get(&node).is_some_and(|node| node.is_here);
        let mut text = format!("{key} is written");
        if !is_here {
            text.push_str("; no agent has its lease there, it will read this when it comes");
        }
        if !ignored.is_empty() {
            text.push_str(&format!("; not known and without effect: {}", ignored.join(", ")));
        }
        let json = json!({ "key": key, "written": true, "heartbeat": is_here, "ignored": ignored, "config": keys });
        Ok((text, json))
    }
}

/// Reads, completes and writes a node's configuration, again where somebody else has written it meanwhile.
async fn write(store: &dyn ConfigSource, node: &HostName, document: &[u8]) -> Result<Completed, String> {
    let (key, status) = (agent::config_key(node), agent::status_key(node));
    let not_taken = |error: StoreError| format!(", etcd did not take it: {error}");
    for _ in 0..WRITE_TRIES_MAX {
        let in_force = store.read(Keys::One(status.clone())).await.map_err(not_taken)?;
        let in_force = in_force.values.first().and_then(|stored| agent::in_force(&stored.value));
        let stored = store.read(Keys::One(key.clone())).await.map_err(not_taken)?.values.into_iter().next();
        let below = stored.as_ref().map(|stored| stored.value.as_slice());
        let completed = agent::complete(in_force.as_deref(), below, document).map_err(|error| format!(": {error}"))?;
        let revision = stored.as_ref().map_or(0, |stored| stored.revision);
        if store.replace(key.clone(), completed.document.clone(), revision).await.map_err(not_taken)? {
            return Ok(completed);
        }
        // not all of them at the same moment again
        tokio::time::sleep(WRITE_PAUSE_MAX.mul_f64(fastrand::f64())).await;
    }
    Err(format!(": others have written {key} {WRITE_TRIES_MAX} times meanwhile, try again"))
}

#[cfg(feature = "hosts")]
fn store(config: &EtcdConfig) -> anyhow::Result<Arc<dyn ConfigSource>> {
    Ok(Arc::new(heartwatch_fleet::etcd::Etcd::new(config.clone())?))
}

#[cfg(not(feature = "hosts"))]
fn store(_: &EtcdConfig) -> anyhow::Result<Arc<dyn ConfigSource>> {
    anyhow::bail!("etcd: this program was built without the feature 'hosts'")
}
