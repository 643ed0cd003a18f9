//! Every verdict change that the monitor under test makes, as it comes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use heartwatch_adapters::monitor::Monitor;
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::verdict::{Change, Verdict};

/// What the monitor has said so far.
#[derive(Debug)]
pub(super) struct Record {
    changes: RefCell<HashMap<PublisherId, Vec<Change>>>,
    last_epoch: watch::Sender<u64>,
}

/// A place in the record of one publisher: what comes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(usize);

impl Record {
    /// Nothing yet.
    #[must_use]
    pub(super) fn new() -> Self {
        Self { changes: RefCell::default(), last_epoch: watch::Sender::new(0) }
    }

    /// Listens until the monitor goes away, which is an error: it is not meant to.
    ///
    /// # Errors
    /// When the monitor has gone away, or a change was missed.
    pub(super) async fn listen(&self, monitor: &Monitor) -> anyhow::Result<std::convert::Infallible> {
        let mut stream = std::pin::pin!(monitor.follow(0).await?);
        while let Some(change) = stream.next().await {
            self.add(change)?;
        }
        anyhow::bail!("the monitor under test has ended")
    }

    fn add(&self, change: Change) -> anyhow::Result<()> {
        let (before, epoch) = (*self.last_epoch.borrow(), change.epoch);
        anyhow::ensure!(epoch == before + 1, "verdict change {} was not told, only {epoch}", before + 1);
        self.changes.borrow_mut().entry(change.publisher.clone()).or_default().push(change);
        self.last_epoch.send_replace(epoch);
        Ok(())
    }

    /// Where the record of a publisher ends now.
    #[must_use]
    pub(super) fn mark(&self, publisher: &PublisherId) -> Mark {
        Mark(self.changes.borrow().get(publisher).map_or(0, Vec::len))
    }

    /// The verdict that stands.
    #[must_use]
    pub(super) fn standing(&self, publisher: &PublisherId) -> Option<Verdict> {
        self.changes.borrow().get(publisher).and_then(|changes| changes.last()).map(|change| change.to)
    }

    /// What has come since.
    #[must_use]
    pub(super) fn since(&self, publisher: &PublisherId, mark: Mark) -> Vec<Change> {
        let changes = self.changes.borrow();
        changes.get(publisher).and_then(|changes| changes.get(mark.0..)).map(<[Change]>::to_vec).unwrap_or_default()
    }

    /// Waits until the publisher has got this verdict since the mark; `false` when it has not in time.
    pub(super) async fn wait(&self, publisher: &PublisherId, mark: Mark, wanted: Verdict, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        let mut epochs = self.last_epoch.subscribe();
        loop {
            epochs.mark_unchanged();
            if self.since(publisher, mark).iter().any(|change| change.to == wanted) {
                return true;
            }
            match timeout_at(end, epochs.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return false,
            }
        }
    }

    /// Waits until this verdict stands; `false` when it does not in time.
    pub(super) async fn wait_standing(&self, publisher: &PublisherId, wanted: Verdict, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        let mut epochs = self.last_epoch.subscribe();
        loop {
            epochs.mark_unchanged();
            if self.standing(publisher) == Some(wanted) {
                return true;
            }
            if !matches!(timeout_at(end, epochs.changed()).await, Ok(Ok(()))) {
                return false;
            }
        }
    }
}
