//! web and console → actors: questions whose replies are snapshots.

use actix::Message;
use heartwatch_domain::ledger::LedgerReply;
use heartwatch_domain::roster::{ObserverStatus, PublisherStatus, StatusReply};
use heartwatch_domain::status::SubscriberStatus;

use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::verdict::Change;

/// watchdog: every publisher with its verdict, as it stands.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "StatusReply")]
pub struct AskStatus;

/// watchdog: one publisher, for an explanation.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Option<PublisherStatus>")]
pub struct AskPublisher(pub PublisherId);

/// watchdog: whether the monitor trusts its own ears.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "ObserverStatus")]
pub struct AskObserver;

/// influx writer: the account of every row and the state of the sinks.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "LedgerReply")]
pub struct AskLedger;

/// watchdog: verdict changes after an epoch that were told to whoever listened and are not in the journal yet, oldest first.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<Change>")]
pub struct AskUnrecorded {
    /// Only changes with a larger epoch.
    pub since_epoch: u64,
    /// Most changes to return.
    pub changes_max: usize,
}

/// subscriber: what it has counted and the last message that it could not read.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "SubscriberStatus")]
pub struct AskSubscriber;
