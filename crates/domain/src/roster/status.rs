//! What the roster answers: how everybody stands, and whether the monitor trusts its ears.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::entry::Entry;
use crate::judge::standing_words;
use crate::maintenance::{Open, Window};
use crate::publisher::{HostName, PublisherId};
use crate::time::Timestamp;
use crate::verdict::{Change, Verdict};

/// One publisher as the monitor sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct PublisherStatus {
    /// Who it is.
    pub id: PublisherId,
    /// Where it runs, as it says itself.
    pub host: HostName,
    /// Its process id, where known.
    pub pid: Option<u32>,
    /// What is true of it now.
    pub verdict: Verdict,
    /// Since when.
    pub since: Timestamp,
    /// When it was last heard.
    pub last_seen: Option<Timestamp>,
    /// Its deadline as it stands.
    pub deadline: Duration,
    /// How it is found: `fixed`, `intervals` or `adaptive`.
    pub deadline_kind: &'static str,
    /// What it rests on, in words; none when it is fixed.
    pub deadline_basis: Option<String>,
    /// The interval that it promises, once known.
    pub interval: Option<Duration>,
    /// The change that led to the verdict; none before the first.
    pub change: Option<Change>,
    /// Why it has its verdict, as of now; empty before the first.
    pub summary: String,
    /// The maintenance window that it is in.
    pub maintenance: Option<Open>,
    /// Whether it flaps: its changes are held back until it is steady.
    pub flapping: bool,
    /// The host whose loss speaks for its verdict (`host:NAME`).
    pub because: Option<PublisherId>,
}

/// Whether the monitor trusts its own ears.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ObserverStatus {
    /// `ok` or `suspect`.
    pub state: ObserverState,
    /// Why, in words; empty when ok.
    pub reason: String,
}

/// The observer's state in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObserverState {
    /// It hears; its verdicts can be trusted.
    #[default]
    Ok,
    /// It may have missed something; verdicts that rest on silence wait.
    Suspect,
}

/// A standing verdict, written every 10 s so that a query always has an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Whose.
    pub publisher: PublisherId,
    /// Where.
    pub host: HostName,
    /// As it was last told.
    pub verdict: Verdict,
    /// The epoch of the change that led to it.
    pub epoch: u64,
    /// When it is repeated.
    pub at: Timestamp,
}

impl Standing {
    /// The verdict that a change has led to.
    pub(super) fn of(change: &Change, at: Timestamp) -> Self {
        let (publisher, host) = (change.publisher.clone(), change.host.clone());
        Self { publisher, host, verdict: change.to, epoch: change.epoch, at }
    }

    /// One publisher's.
    pub(super) fn of_entry(entry: &Entry, at: Timestamp) -> Self {
        let (publisher, host) = (entry.id.clone(), entry.watch.host().clone());
        Self { publisher, host, verdict: entry.watch.verdict(), epoch: entry.epoch(), at }
    }
}

/// The maintenance windows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MaintenanceReply {
    /// Those that a command opened.
    pub windows: Vec<Window>,
    /// Those of the configuration that are open now.
    pub scheduled: Vec<Window>,
    /// Whom the open ones cover, at most 100 of them.
    pub covered: Vec<PublisherId>,
    /// How many the command ended.
    #[serde(default)]
    pub ended: usize,
}

/// How one stands; what is around it is filled in by who knows that.
pub(super) fn status_of(entry: &Entry, now: Timestamp) -> PublisherStatus {
    let change = entry.change();
    PublisherStatus {
        id: entry.id.clone(),
        host: entry.watch.host().clone(),
        pid: entry.watch.process().map(|process| process.pid),
        verdict: entry.watch.verdict(),
        since: entry.since,
        last_seen: entry.watch.last_heard().map(|(_, wall)| wall),
        deadline: entry.watch.deadline(),
        deadline_kind: entry.watch.deadline_kind().as_str(),
        deadline_basis: entry.watch.deadline_basis(),
        interval: entry.watch.interval(),
        summary: change.as_deref().map(|change| standing_words(change, now)).unwrap_or_default(),
        change: change.map(Cow::into_owned),
        maintenance: None,
        flapping: entry.flaps(),
        because: entry.because().cloned(),
    }
}

/// Everybody, and whether the monitor trusts itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StatusReply {
    /// Whether the monitor trusts itself, and why not.
    pub observer: ObserverStatus,
    /// Every publisher, ordered by id.
    pub publishers: Vec<PublisherStatus>,
}
