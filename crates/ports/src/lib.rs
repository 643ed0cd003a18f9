//! The traits through which actors reach the outside world. Adapters implement them;
//! a test implements one only for a fault that the real part can't be made to show.

pub mod credentials;
pub mod servers;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

use heartwatch_domain::beat::Way;
use heartwatch_domain::command::{Command, CommandResult};
use heartwatch_domain::history::{ChangesQuery, Gone, NewestQuery, ReadingsPlot, ReadingsQuery};
use heartwatch_domain::marks::SourceMark;
use heartwatch_domain::process::{ProbeAnswer, ProcessIdentity};
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::time::{Monotonic, Timestamp};
use heartwatch_domain::verdict::Change;
use heartwatch_formats::notification::NotifyMessage;

/// A boxed future, so that ports stay object-safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What acknowledges one delivery. It belongs to one connection: after a reconnect it is stale,
/// and the transport ignores it, because the broker sends the message again under a new id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// Which connection it came over, counted from 1.
    pub connection_epoch: u64,
    /// The packet id on that connection; 0 for QoS 0, which has nothing to acknowledge.
    pub packet_id: u16,
}

/// One MQTT message as it came, before anything in it is believed.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The topic, as text from outside.
    pub topic: String,
    /// The payload, as bytes from outside.
    pub payload: Vec<u8>,
    /// Whether the broker had kept it from before our subscription.
    pub retained: bool,
    /// When it arrived, on the clock that decides.
    pub at: Monotonic,
    /// When it arrived, on the clock that is written down.
    pub wall: Timestamp,
    /// On which way it came.
    pub way: Way,
    /// How it is known when it comes again; none where it has no such mark.
    pub mark: Option<SourceMark>,
    /// What to hand back to the transport when its content is safe on disk.
    pub receipt: Receipt,
}

/// What a transport tells its owner.
#[derive(Debug, Clone)]
pub enum TransportEvent {
    /// The connection and the subscriptions are up. It comes before the deliveries of its connection.
    Connected {
        /// Which connection this is, counted from 1.
        connection_epoch: u64,
        /// Whether the broker still had our session.
        session_present: bool,
    },
    /// The connection is gone; the transport goes on trying.
    Disconnected {
        /// Why, in words.
        reason: String,
        /// When the transport knew: whoever takes its events may come to this one later.
        at: Timestamp,
    },
    /// A message came.
    Delivery(Delivery),
}

/// A message to publish, always at QoS 1 unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Where to, without wildcards.
    pub topic: String,
    /// Sent as it is.
    pub payload: Vec<u8>,
    /// Whether the broker confirms it. Level-triggered messages that are repeated anyway need no confirmation.
    pub at_least_once: bool,
}

/// Why a message could not be handed to the transport.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// Its queue is full: the other end takes messages more slowly than we publish.
    #[error("the send queue is full ({messages_max} messages)")]
    Full {
        /// The queue's limit.
        messages_max: usize,
    },
    /// No broker would take it: sending it would only break the connection.
    #[error("a message to '{topic}' cannot be sent: {reason}")]
    Unsendable {
        /// Where it was to go.
        topic: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The transport has ended.
    #[error("the transport has ended")]
    Closed,
}

/// Messages that wait at a [`Transport`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransportWaiting {
    /// Until they are sent.
    pub to_send: u64,
    /// Most of these.
    pub to_send_max: u64,
    /// Until they are taken.
    pub to_take: u64,
    /// Most of these.
    pub to_take_max: u64,
}

/// A connection to a broker that reconnects for ever.
pub trait Transport: Send + Sync + 'static {
    /// Hands a message to the connection; waits while its queue is full.
    fn publish(&self, message: Outgoing) -> BoxFuture<'_, Result<(), TransportError>>;
    /// Hands a message over or says at once that the queue is full.
    ///
    /// # Errors
    /// [`TransportError::Full`], [`TransportError::Unsendable`] or [`TransportError::Closed`].
    fn try_publish(&self, message: Outgoing) -> Result<(), TransportError>;
    /// Acknowledges deliveries in the order given; stale receipts are ignored.
    fn acknowledge(&self, receipts: Vec<Receipt>);
    /// Sends what is queued, says DISCONNECT (so that no last will is published) and ends.
    fn disconnect(&self) -> BoxFuture<'_, ()>;
    /// Most bytes of one payload: a larger one is [`TransportError::Unsendable`].
    fn payload_bytes_max(&self) -> usize {
        usize::MAX
    }
    /// What waits at this moment; none where the transport does not tell.
    fn waiting(&self) -> Option<TransportWaiting> {
        None
    }
}

/// What is kept of the past: the journal. Errors are in words, for a person.
pub trait History: Send + Sync + 'static {
    /// Verdict changes after an epoch, oldest first.
    fn changes(&self, query: ChangesQuery) -> BoxFuture<'_, Result<Vec<Change>, String>>;
    /// The newest verdict changes, newest first.
    fn newest_changes(&self, query: NewestQuery) -> BoxFuture<'_, Result<Vec<Change>, String>>;
    /// One publisher's readings, for a plot.
    fn readings(&self, query: ReadingsQuery) -> BoxFuture<'_, Result<ReadingsPlot, String>>;
    /// What was refused or is gone for good: at most so many dead letters, and so many losses.
    fn gone(&self, entries_max: usize) -> BoxFuture<'_, Result<Gone, String>>;
}

/// Where what was received is written down for a person, beside the record that counts.
pub trait ReceivedRows: Send + Sync + 'static {
    /// A reading as a row in line protocol. Does not wait.
    fn row(&self, row: &[u8]);
}

/// Where rows go in the end.
pub trait Sink: Send + Sync + 'static {
    /// Its name in status and logs.
    fn name(&self) -> &'static str;
    /// Writes rows in line protocol, one a line. Writing the same rows again changes nothing.
    fn write(&self, lines: Bytes) -> BoxFuture<'_, Result<(), SinkError>>;
    /// How many writes it may have under way: more than one where the order of rows means nothing to it.
    fn writes_at_once(&self) -> usize {
        1
    }
    /// Makes it ready: creates the database where that is possible.
    fn prepare(&self) -> BoxFuture<'_, Result<(), SinkError>>;
}

/// Why a write failed, by what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// It may work later: no connection, a timeout, 429, 5xx.
    #[error("{reason}")]
    Retry {
        /// What went wrong.
        reason: String,
        /// How long the server asked us to wait, where it did.
        retry_after: Option<Duration>,
    },
    /// Nothing listens at its address (`ECONNREFUSED`): an attempt costs nobody anything, so the next may come soon.
    #[error("{reason}")]
    NotListening {
        /// What was tried.
        reason: String,
    },
    /// The batch is too large for the server: halve it.
    #[error("the batch is too large: {reason}")]
    TooLarge {
        /// The server's words.
        reason: String,
    },
    /// Some rows of the batch were refused, the good ones may be stored: find the bad ones.
    #[error("{reason}")]
    Refused {
        /// The server's words.
        reason: String,
    },
    /// Our configuration is wrong (token, database, organisation): keep the data, say it once, retry slowly.
    #[error("{reason}")]
    Misconfigured {
        /// What is wrong and what to do.
        reason: String,
    },
}

/// The table of processes on this host. Its calls may block: call them off the actors' threads.
pub trait ProcessTable: Send + Sync + 'static {
    /// What has become of a process that was seen on this host.
    fn look(&self, identity: &ProcessIdentity) -> ProbeAnswer;
    /// The identity of this very program, for its own heartbeats.
    fn own_identity(&self) -> Option<ProcessIdentity>;
    /// The identity of a process by its PID, where it exists and may be looked at.
    fn identity(&self, pid: u32) -> Option<ProcessIdentity>;
    /// Resolves when this process, which exists, has ended. Does not block. An error says why its end cannot be waited for:
    /// not on this system, or it was not there any more. That is no evidence: whoever named it may have named a wrong one.
    fn await_exit(&self, identity: ProcessIdentity) -> BoxFuture<'static, Result<(), String>> {
        let pid = identity.pid;
        Box::pin(async move { Err(format!("the end of PID {pid} cannot be waited for on this system")) })
    }
}

/// A way to tell someone outside.
pub trait Notify: Send + Sync + 'static {
    /// What kind of way it is: `webhook`, `command`, `email`.
    fn kind(&self) -> &'static str;
    /// Delivers a message, within a time limit of its own. Dropping the future gives it up.
    fn deliver<'a>(&'a self, message: &'a NotifyMessage) -> BoxFuture<'a, Result<(), NotifyError>>;
}

/// Why a message was not delivered. The text names no secret: an address may be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotifyError {
    /// It may work later.
    #[error("{reason}")]
    Retry {
        /// What went wrong.
        reason: String,
        /// How long the receiver asked us to wait, where it did.
        retry_after: Option<Duration>,
    },
    /// This very message will never be taken.
    #[error("{reason}")]
    Refused {
        /// The receiver's words.
        reason: String,
    },
}

/// A URL that is asked for as long as we are well: who no longer hears from us raises the alarm.
pub trait Ping: Send + Sync + 'static {
    /// Asks for it once.
    fn ping(&self) -> BoxFuture<'_, Result<(), String>>;
}

/// The service manager that started the program, where there is one.
pub trait ServiceManager: Send + Sync + 'static {
    /// Everything runs.
    fn ready(&self);
    /// The configuration is being read again; [`ServiceManager::ready`] ends it.
    fn reloading(&self);
    /// The end in order has begun.
    fn stopping(&self);
    /// We are well.
    fn alive(&self);
    /// How long it may not hear that we are well before it ends us; none: it does not watch.
    fn patience(&self) -> Option<Duration>;
}

/// Where the maintenance windows that a command opened are kept over a restart. It may block.
pub trait KeepMaintenance: Send + Sync + std::fmt::Debug {
    /// Keeps these, unless a list with a larger revision is kept already.
    ///
    /// # Errors
    /// Why not, in words.
    fn keep(&self, revision: u64, windows: &[heartwatch_domain::maintenance::Window]) -> Result<(), String>;
}

/// Where it is kept over a restart when everybody was heard last. It may block.
pub trait KeepLastSeen: Send + Sync + std::fmt::Debug {
    /// Keeps this, unless the last word of this run ([`LastSeen::in_order`](heartwatch_domain::last_seen::LastSeen::in_order))
    /// is kept already.
    ///
    /// # Errors
    /// Why not, in words.
    fn keep(&self, last_seen: &heartwatch_domain::last_seen::LastSeen) -> Result<(), String>;
}

/// A value in a store of configurations, and the revision of the store at which it was put there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its name in the store.
    pub key: String,
    /// As it stands there, text or not.
    pub value: Vec<u8>,
    /// When it was last changed.
    pub revision: i64,
}

/// What was read at one revision of the whole store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// What was found, ordered by key.
    pub values: Vec<Stored>,
    /// The store's revision then: a watch that begins after it misses nothing.
    pub revision: i64,
}

/// Which keys a question is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    /// One key.
    One(String),
    /// Every key that begins so.
    Prefix(String),
}

/// A lease: what is put under it goes when nobody keeps it alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseId(pub i64);

/// Why a store did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No member of it answers: it may later.
    #[error("{0}")]
    Away(String),
    /// It answers, and refuses this.
    #[error("{0}")]
    Refused(String),
    /// The lease is gone: grant another.
    #[error("the lease has expired")]
    LeaseGone,
}

/// A store that several programs read and write, such as etcd. What it tells of a change means "look":
/// whoever is told reads again.
pub trait ConfigSource: Send + Sync + 'static {
    /// What stands there now.
    fn read(&self, keys: Keys) -> BoxFuture<'_, Result<Snapshot, StoreError>>;
    /// Writes a value, under a lease where one is given.
    fn put(&self, key: String, value: Vec<u8>, lease: Option<LeaseId>) -> BoxFuture<'_, Result<(), StoreError>>;
    /// Writes a value unless the key is there; whether it was written.
    fn create(&self, key: String, value: Vec<u8>) -> BoxFuture<'_, Result<bool, StoreError>>;
    /// Writes a value unless the key has changed since this revision, or has come or gone (0: it was not there);
    /// whether it was written.
    fn replace(&self, key: String, value: Vec<u8>, revision: i64) -> BoxFuture<'_, Result<bool, StoreError>>;
    /// Removes a key; whether it was there.
    fn delete(&self, key: String) -> BoxFuture<'_, Result<bool, StoreError>>;
    /// Asks for a lease of this length.
    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, StoreError>>;
    /// Keeps a lease alive; [`StoreError::LeaseGone`] when it is too late.
    fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>>;
    /// Ends a lease and removes what is under it.
    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>>;
    /// Resolves when something may have changed after this revision. Also when it can no longer be told
    /// (a compaction): read again, and watch from the revision that comes with it.
    fn await_change(&self, keys: Keys, after_revision: i64) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// A user's plugin: a file of the plugins' folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptFile {
    /// The file's name without its ending: the plugin's name.
    pub name: String,
    /// What is in it, or why it cannot be read.
    pub text: Result<String, String>,
}

/// The folder with the plugins that a user wrote. It may block.
pub trait PluginFolder: Send + Sync + 'static {
    /// Every plugin in it, ordered by name; one that cannot be read says why.
    fn read(&self) -> Vec<ScriptFile>;
}

/// Asks the agent on another host about a process there.
pub trait RemoteProbe: Send + Sync + 'static {
    /// What the agent with this id says of a process on its host; an error says why it cannot be asked. It is there
    /// within this time.
    fn probe<'a>(
        &'a self,
        agent: &'a PublisherId,
        process: &'a ProcessIdentity,
        within: Duration,
    ) -> BoxFuture<'a, Result<ProbeAnswer, String>>;
}

/// One way on which agents get commands: a broker, Kafka, the streams of a server. What they answer comes back beside
/// it, as [`AgentAnswer`].
pub trait AgentChannel: Send + Sync + 'static {
    /// What it is called, distinct among the ways of a monitor: `MQTT`, `Kafka`, `gRPC`.
    fn name(&self) -> &'static str;
    /// Whether this agent is known to be there. A way that cannot tell says no, and is asked all the same.
    fn knows(&self, agent: &PublisherId) -> bool;
    /// Hands a command over that is to be answered within this time. An error says why this agent cannot be asked on
    /// this way.
    fn hand<'a>(
        &'a self,
        agent: &'a PublisherId,
        command: &'a Command,
        within: Duration,
    ) -> BoxFuture<'a, Result<(), String>>;
    /// Ends it.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// What came back on an [`AgentChannel`]: nobody has checked yet whether it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentAnswer {
    /// Who answers, as the way knows it.
    pub agent: PublisherId,
    /// What.
    pub result: CommandResult,
}
