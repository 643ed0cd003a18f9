//! The status as the page shows it, asked for once for all who look at it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Mutex;

use super::{ASK_TIMEOUT, Outlets};
use crate::domain::time::{Monotonic, Timestamp};
use crate::formats::api::StatusView;
use crate::messages::alarms::AskAlarms;
use crate::messages::ask::{AskLedger, AskStatus, AskSubscriber};
use crate::messages::child::{AskChild, ChildStatus};
use crate::messages::notice::AskNotifications;
use crate::messages::progress::AskMonitor;
use crate::runtime::clock::Clock;
use crate::runtime::outlet::Undelivered;

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
    outlets: Outlets,
    clock: Clock,
    last: Mutex<Option<Arc<Snapshot>>>,
}

/// The verdicts, joined with what everybody else knows.
pub(super) async fn status(outlets: &Outlets) -> Result<StatusView, Undelivered> {
    let (status, ledger, subscriber, notifications, monitor, children, alarms) = tokio::join!(
        outlets.status.ask(AskStatus, ASK_TIMEOUT),
        outlets.ledger.ask(AskLedger, ASK_TIMEOUT),
        outlets.subscriber.ask(AskSubscriber, ASK_TIMEOUT),
        outlets.notifications.ask(AskNotifications, ASK_TIMEOUT),
        outlets.monitor.ask(AskMonitor, ASK_TIMEOUT),
        children(outlets),
        outlets.alarms.ask(AskAlarms, ASK_TIMEOUT),
    );
    // The verdicts are worth showing even while the writer is being restarted.
    let view = StatusView::new(status?, ledger.unwrap_or_default(), subscriber.unwrap_or_default());
    let view = view.with(children, notifications.unwrap_or_default(), monitor.unwrap_or_default());
    Ok(StatusView { alarms: alarms.unwrap_or_default(), damage: outlets.damage.found(), ..view })
}

/// The publishers' processes that the monitor has started.
async fn children(outlets: &Outlets) -> Vec<ChildStatus> {
    let children = outlets.children.borrow().clone();
    let asked = children.values().map(|child| child.ask(AskChild, ASK_TIMEOUT));
    join_all(asked).await.into_iter().filter_map(Result::ok).collect()
}

impl Snapshots {
    pub(super) fn new(outlets: Outlets, clock: Clock) -> Self {
        Self { outlets, clock, last: Mutex::default() }
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
        let status = status(&self.outlets).await?;
        let (at, taken) = (self.clock.wall(), self.clock.monotonic());
        let snapshot = Arc::new(Snapshot { at, taken, status });
        *last = Some(Arc::clone(&snapshot));
        Ok(snapshot)
    }
}
