//! The notifier: what verdict changes have to be told to whom, and whether it was.
//!
//! The watchdog only says that changes are durable; the notifier reads them from the journal and notes
//! them for its targets in a store of its own ([`heartwatch_store::notifications`]). So nothing waits for
//! it, and neither a slow target nor a kill of the monitor loses a change. Each target has a loop of
//! its own ([`course`]): a target that hangs delays nobody else.

mod log;
mod others;
mod target_loop;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::{ActorFutureExt, WrapFuture};
use actix::{Actor, ActorContext, AsyncContext, Context, Handler, MessageResult, ResponseActFuture, ResponseFuture};
use tokio::sync::{Notify as Wake, watch};
use tokio::task::AbortHandle;

use self::log::Log;
use self::others::Others;
use self::target_loop::TargetLoop;
use crate::messages::drain::Drain;
use crate::messages::notice::{Announce, AskAttempts, AskNotifications, ChangesRecorded, SetTargets, Target};
use heartwatch_domain::history::ChangesQuery;
use heartwatch_domain::notice::Notice;
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::status::TargetStatus;
use heartwatch_ports::History;
use heartwatch_store::notifications::{Account, Notifications, NotificationsError};
use heartwatch_system::clock::Clock;

/// Most changes read from the journal at once.
const PAGE_CHANGES_MAX: usize = 500;
/// How long the journal may take to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait before the journal or the disk is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// What every life of one notifier is built from. Clones share everything.
#[derive(Clone)]
pub(crate) struct NotifierParts {
    store: Notifications,
    history: Arc<dyn History>,
    others: Others,
    log: Rc<RefCell<Log>>,
}

impl NotifierParts {
    /// Parts for a notifier on this thread. `monitor` signs the messages, `history` is the journal.
    #[must_use]
    pub(crate) fn new(
        store: Notifications,
        monitor: PublisherId,
        clock: Clock,
        history: Arc<dyn History>,
        targets: Arc<Vec<Target>>,
    ) -> Self {
        let others = Others::new(monitor, clock, targets);
        Self { store, history, others, log: Rc::default() }
    }

    fn for_targets(&self, notices: &[Notice]) -> Vec<(String, Notice)> {
        let targets = self.others.targets();
        let wanted = |notice: &'_ Notice| {
            let wanting = targets.iter().filter(|target| target.config.filter.wants(notice));
            wanting.map(|target| (target.config.name.clone(), notice.clone())).collect::<Vec<_>>()
        };
        notices.iter().flat_map(wanted).collect()
    }

    /// Takes every change that the journal has beyond the mark. Returns the mark.
    async fn take_changes(self) -> Result<u64, NotTaken> {
        loop {
            let store = self.store.clone();
            let mark = blocking(move || store.mark()).await?;
            let query = ChangesQuery { since_epoch: mark, publisher: None, changes_max: PAGE_CHANGES_MAX };
            let answer = tokio::time::timeout(ASK_TIMEOUT, self.history.changes(query)).await;
            let changes = answer.map_err(|_| NotTaken::JournalIsSilent)?.map_err(NotTaken::Journal)?;
            let Some(last) = changes.last() else { return Ok(mark) };
            let last = last.epoch;
            let notices: Vec<_> = changes.into_iter().map(Notice::Change).collect();
            let (store, wanted) = (self.store.clone(), self.for_targets(&notices));
            blocking(move || store.take_between(mark, last, &wanted)).await?;
            fail::fail_point!("notifier::taken");
        }
    }
}

/// Why changes were not taken now.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error(transparent)]
    Store(#[from] NotificationsError),
    #[error("{0}")]
    Journal(String),
    #[error("the journal did not answer within {} s", ASK_TIMEOUT.as_secs())]
    JournalIsSilent,
}

/// The actor. Build each of its lives with clones of the same [`NotifierParts`].
pub(crate) struct Notifier {
    parts: NotifierParts,
    courses: Vec<TargetTask>,
    through_epoch: u64,
    taking: bool,
    failures: u64,
}

/// The loop of one target; it ends when this is dropped.
struct TargetTask {
    abort: AbortHandle,
    drain: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
}

impl Drop for TargetTask {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

impl Notifier {
    /// A life of the notifier.
    #[must_use]
    pub(crate) const fn new(parts: NotifierParts) -> Self {
        Self { parts, courses: Vec::new(), through_epoch: 0, taking: false, failures: 0 }
    }

    /// Gives up what waits for targets that are gone, and starts a loop for each that is there.
    fn start_courses(&mut self, ctx: &mut Context<Self>) {
        self.courses.clear();
        let mut wakes = Vec::new();
        let targets = self.parts.others.targets();
        let names: Vec<_> = targets.iter().map(|target| target.config.name.clone()).collect();
        let store = self.parts.store.clone();
        let forget = blocking(move || store.give_up_others(&names, "the target is no longer configured"));
        ctx.spawn(forget.into_actor(self).map(|gone, _, _| match gone {
            Ok(gone) => {
                for (target_name, notices) in gone {
                    tracing::error!(target_name, notices, "notifications given up: the target is no longer configured");
                }
            }
            Err(error) => tracing::error!(%error, "what waits for removed targets stays"),
        }));
        for target in targets.iter() {
            let wake = Rc::new(Wake::new());
            let (drain, draining) = watch::channel(false);
            let (ends, ended) = watch::channel(false);
            let parts = &self.parts;
            let course = TargetLoop::new(
                target.clone(),
                parts.store.clone(),
                parts.log.clone(),
                parts.others.clone(),
                wake.clone(),
                draining,
            );
            let task = actix_rt::spawn(async move {
                course.run().await;
                ends.send_replace(true);
            });
            self.courses.push(TargetTask { abort: task.abort_handle(), drain, ended });
            wakes.push(wake);
            ctx.spawn(task.into_actor(self).map(|end, _, ctx| {
                if end.is_err_and(|error| error.is_panic()) {
                    tracing::error!("the loop of a target panicked: the notifier starts again");
                    ctx.stop();
                }
            }));
        }
        self.parts.others.set_wakes(wakes);
    }

    /// Looks for changes in the journal, one look at a time.
    fn look(&mut self, ctx: &mut Context<Self>) {
        if self.taking {
            return;
        }
        self.taking = true;
        let known_before = self.through_epoch;
        let take = self.parts.clone().take_changes();
        ctx.spawn(take.into_actor(self).map(move |taken, actor, ctx| {
            actor.taking = false;
            actor.parts.others.wake_all();
            match taken {
                Ok(mark) if mark >= actor.through_epoch => actor.failures = 0,
                // More came meanwhile: nothing that is durable waits for a timer.
                Ok(mark) if mark >= known_before => actor.look(ctx),
                // The journal could not read what is durable.
                Ok(_) => {
                    ctx.run_later(RETRY, Self::look);
                }
                Err(error) => {
                    actor.failures += 1;
                    if actor.failures.is_power_of_two() {
                        tracing::error!(%error, failures = actor.failures, "verdict changes wait to be told");
                    }
                    ctx.run_later(RETRY, Self::look);
                }
            }
        }));
    }

    fn status(targets: &[Target], accounts: &[Account]) -> Vec<TargetStatus> {
        let status = |target: &Target| {
            let account =
                accounts.iter().find(|account| account.target == target.config.name).cloned().unwrap_or_default();
            TargetStatus {
                target: target.config.name.clone(),
                way: target.way.kind().to_owned(),
                state: state_of(&account).to_owned(),
                taken: account.taken,
                sent: account.sent,
                waiting: account.waiting,
                given_up: account.given_up,
                messages: account.messages,
                last_error: account.last_error,
                last_sent: account.last_sent,
                last_given_up: account.last_given_up,
            }
        };
        targets.iter().map(status).collect()
    }
}

/// Whether the last attempt to tell a target worked, and what follows if it did not.
const fn state_of(account: &Account) -> &'static str {
    match (account.last_error.is_empty(), account.waiting) {
        (true, _) => "ok",
        (false, 0) => "failed",
        (false, _) => "retrying",
    }
}

/// Work on the disk, off the actors' thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NotificationsError> + Send + 'static,
) -> Result<T, NotificationsError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(NotificationsError::Write { reason: error.to_string() }),
    }
}

impl Actor for Notifier {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.start_courses(ctx);
        // What was recorded before a kill and not taken is taken now.
        self.look(ctx);
    }
}

crate::messages::progress::answers_progress!(Notifier);
impl Handler<ChangesRecorded> for Notifier {
    type Result = ();
    fn handle(&mut self, recorded: ChangesRecorded, ctx: &mut Context<Self>) {
        self.through_epoch = self.through_epoch.max(recorded.through_epoch);
        self.look(ctx);
    }
}

impl Handler<Announce> for Notifier {
    type Result = ResponseActFuture<Self, ()>;
    fn handle(&mut self, announce: Announce, _: &mut Context<Self>) -> Self::Result {
        let wanted = self.parts.for_targets(&announce.0);
        let store = self.parts.store.clone();
        let keep = async move {
            loop {
                let (store, wanted) = (store.clone(), wanted.clone());
                match blocking(move || store.take(&wanted)).await {
                    Ok(()) => return,
                    Err(error) => tracing::error!(%error, "a notice waits to be told"),
                }
                tokio::time::sleep(RETRY).await;
            }
        };
        Box::pin(keep.into_actor(self).map(|(), actor, _| actor.parts.others.wake_all()))
    }
}

impl Handler<SetTargets> for Notifier {
    type Result = ();
    fn handle(&mut self, targets: SetTargets, ctx: &mut Context<Self>) {
        // A message in flight is sent again, under the same id.
        self.parts.others.set_targets(targets.0);
        self.start_courses(ctx);
    }
}

impl Handler<AskNotifications> for Notifier {
    type Result = ResponseActFuture<Self, Vec<TargetStatus>>;
    fn handle(&mut self, _: AskNotifications, _: &mut Context<Self>) -> Self::Result {
        let (store, targets) = (self.parts.store.clone(), self.parts.others.targets());
        let accounts = blocking(move || store.accounts());
        Box::pin(accounts.into_actor(self).map(move |accounts, _, _| {
            let accounts = accounts.unwrap_or_else(|error| {
                tracing::warn!(%error, "the account of the notifications cannot be read");
                Vec::new()
            });
            Self::status(&targets, &accounts)
        }))
    }
}

impl Handler<AskAttempts> for Notifier {
    type Result = MessageResult<AskAttempts>;
    fn handle(&mut self, AskAttempts(attempts_max): AskAttempts, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.parts.log.borrow().newest(attempts_max))
    }
}

impl Handler<Drain> for Notifier {
    type Result = ResponseFuture<()>;

    /// Takes the last changes and lets the targets have what can be had at once; the rest is on disk.
    fn handle(&mut self, Drain { deadline }: Drain, _: &mut Context<Self>) -> Self::Result {
        let parts = self.parts.clone();
        let courses: Vec<_> = self.courses.iter().map(|course| (course.drain.clone(), course.ended.clone())).collect();
        Box::pin(async move {
            let finish = async {
                if let Err(error) = parts.clone().take_changes().await {
                    tracing::warn!(%error, "the last verdict changes are told after the next start");
                }
                parts.others.wake_all();
                for (drain, _) in &courses {
                    drain.send_replace(true);
                }
                for (_, mut ended) in courses {
                    // An error: the loop is gone, which is an end as well.
                    let _ = ended.wait_for(|ended| *ended).await;
                }
            };
            if tokio::time::timeout_at(deadline, finish).await.is_err() {
                tracing::info!("notifications stay on disk for the next start");
            }
        })
    }
}
