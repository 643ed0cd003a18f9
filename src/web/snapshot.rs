//! The status as the page shows it, asked for once for all who look at it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Mutex;

use super::{ASK_TIMEOUT, Ports};
use crate::messages::alarms::AskAlarms;
use crate::messages::ask::{AskLedger, AskStatus, AskSubscriber};
use crate::messages::child::AskChild;
use crate::messages::notice::AskNotifications;
use crate::messages::progress::AskMonitor;
use crate::runtime::outlet::Undelivered;
use heartwatch_domain::status::ChildStatus;
use heartwatch_domain::time::{Monotonic, Timestamp};
use heartwatch_formats::api::StatusView;
use heartwatch_system::clock::Clock;

/// A snapshot is shared for this long.
const AGE_MAX: Duration = Duration::from_millis(300);

/// The status at an instant.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) at: Timestamp,
    taken: Monotonic,
    pub(super) status: StatusView,
}

/// The last snapshot, and how to take the next one.
pub(super) struct Snapshots {
    ports: Ports,
    clock: Clock,
    last: Mutex<Option<Arc<Snapshot>>>,
}

/// The verdicts, joined with what everybody else knows.
pub(super) async fn status(ports: &Ports) -> Result<StatusView, Undelivered> {
    let (status, ledger, subscriber, notifications, monitor, children, alarms) = tokio::join!(
        ports.verdicts.ask(AskStatus, ASK_TIMEOUT),
        ports.ledger.ask(AskLedger, ASK_TIMEOUT),
        ports.arrivals.ask(AskSubscriber, ASK_TIMEOUT),
        ports.notices.ask(AskNotifications, ASK_TIMEOUT),
        ports.monitor.ask(AskMonitor, ASK_TIMEOUT),
        children(ports),
        ports.alarms.ask(AskAlarms, ASK_TIMEOUT),
    );
    // The verdicts are worth showing even while the writer is being restarted.
    let view = StatusView::new(status?, ledger.unwrap_or_default(), subscriber.unwrap_or_default());
    let view = view.with(children, notifications.unwrap_or_default(), monitor.unwrap_or_default());
    Ok(StatusView { alarms: alarms.unwrap_or_default(), damage: ports.damage.found(), ..view })
}

/// The publishers' processes that the monitor has started.
async fn children(ports: &Ports) -> Vec<ChildStatus> {
    let asked = ports.children.all().into_iter().map(|child| child.ask(AskChild, ASK_TIMEOUT));
    join_all(asked).await.into_iter().filter_map(Result::ok).collect()
}

impl Snapshots {
    pub(super) fn new(ports: Ports, clock: Clock) -> Self {
        Self { ports, clock, last: Mutex::default() }
    }

    /// The status, at most a few tenths of a second old.
    ///
    /// # Errors
    /// When the watchdog does not answer.
    pub(super) async fn take(&self) -> Result<Arc<Snapshot>, Undelivered> {
        let mut last = self.last.lock().await;
        let now = self.clock.monotonic();
        if let Some(last) = last.as_ref().filter(|last| now.since(last.taken) < AGE_MAX) {
            return Ok(Arc::clone(last));
        }
        let status = status(&self.ports).await?;
        let (at, taken) = (self.clock.wall(), self.clock.monotonic());
        let snapshot = Arc::new(Snapshot { at, taken, status });
        *last = Some(Arc::clone(&snapshot));
        Ok(snapshot)
    }
}
