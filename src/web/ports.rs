//! Whom the page asks: a port is what one part answers, and whoever answers that implements it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::broadcast;

use crate::messages::alarms::AskAlarms;
use crate::messages::ask::{AskLedger, AskPublisher, AskStatus, AskSubscriber, AskUnrecorded};
use crate::messages::child::{AskChild, Restart};
use crate::messages::maintenance::{AskMaintenance, ChangeMaintenance};
use crate::messages::notice::{AskAttempts, AskNotifications};
use crate::messages::page::{AskRecent, ProbeNow};
use crate::messages::progress::AskMonitor;
use crate::runtime::outlet::Answers;
use crate::runtime::outlet_registry::OutletRegistry;
use heartwatch_domain::verdict::Change;
use heartwatch_ports::{BoxFuture, History};
use heartwatch_system::broker_counts::BrokerCounts;
use heartwatch_system::damage_log::DamageLog;
use heartwatch_system::queues::Queues;

/// Makes a trait of the questions that one part answers, for everyone who answers all of them.
macro_rules! port {
    ($(#[$words:meta])* $name:ident: $($question:ty),+) => {
        $(#[$words])*
        pub trait $name: $(Answers<$question> +)+ {}
        impl<T: $(Answers<$question> +)+> $name for T {}
    };
}

port! {
    /// The verdicts, and what an operator may have done about them: the watchdog.
    Verdicts: AskStatus, AskPublisher, AskUnrecorded, ProbeNow, AskMaintenance, ChangeMaintenance
}
port! {
    /// What came: the subscriber.
    Arrivals: AskSubscriber, AskRecent
}
port! {
    /// Who was told what: the notifier.
    Notices: AskNotifications, AskAttempts
}
port! {
    /// A publisher that the monitor has started as a process.
    ChildProcess: AskChild, Restart
}

/// Waits so long for an answer of the journal. An error is logged, too, for callers that cannot show it.
pub(super) async fn in_time<T>(timeout: Duration, answer: BoxFuture<'_, Result<T, String>>) -> Result<T, String> {
    let silent = |_| Err(format!("the journal did not answer within {} ms", timeout.as_millis()));
    let answer = tokio::time::timeout(timeout, answer).await.unwrap_or_else(silent);
    answer.inspect_err(|error| tracing::warn!(error, "what is recorded can't be read"))
}

/// Everyone whom the page asks.
#[derive(Clone)]
pub struct Ports {
    /// The watchdog.
    pub verdicts: Arc<dyn Verdicts>,
    /// The subscriber.
    pub arrivals: Arc<dyn Arrivals>,
    /// The writer, for the account of every row.
    pub ledger: Arc<dyn Answers<AskLedger>>,
    /// The journal.
    pub history: Arc<dyn History>,
    /// The notifier.
    pub notices: Arc<dyn Notices>,
    /// The alarms of the rules.
    pub alarms: Arc<dyn Answers<AskAlarms>>,
    /// The watchman, for how the monitor itself does.
    pub monitor: Arc<dyn Answers<AskMonitor>>,
    /// The publishers that run as the monitor's children at the moment.
    pub children: OutletRegistry<Arc<dyn ChildProcess>>,
    /// Verdict changes as they happen.
    pub live: broadcast::Sender<Change>,
    /// How full the queues are.
    pub queues: Queues,
    /// What the embedded broker counts, when there is one.
    pub broker: Option<Arc<BrokerCounts>>,
    /// How often the broker closed the monitor's connection and took it back at once, as at a takeover of its session.
    pub takeovers: Arc<AtomicU64>,
    /// What was found damaged on disk.
    pub damage: DamageLog,
}
