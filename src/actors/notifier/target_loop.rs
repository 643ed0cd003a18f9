//! The conversation with one target: what to send next, and how long to wait after which answer.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::sync::{Notify as Wake, watch};
use tokio::time::Instant;

use super::blocking;
use super::log::Log;
use super::others::Others;
use crate::messages::notice::Target;
use heartwatch_domain::notice::{MINUTE, Notice, Pace, Step, TargetState};
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::status::{Attempt, AttemptOutcome};
use heartwatch_domain::time::{Monotonic, Timestamp, describe_duration};
use heartwatch_formats::notification::message;
use heartwatch_ports::NotifyError;
use heartwatch_store::notifications::{MESSAGE_NOTICES_MAX, Notifications, NotificationsError, Outgoing, Selection};
use heartwatch_system::clock::Clock;

/// Wait before the disk is asked again after it refused.
const DISK_RETRY: Duration = Duration::from_secs(5);
/// So many failed attempts of one message, and the others go before it.
const OVERTAKEN_AFTER: u64 = 5;
/// So many more while others are delivered, and it is known that it will never be.
const GIVEN_UP_AFTER: u64 = 3;
/// Publishers of a digest that its line in the log names.
const PUBLISHERS_NAMED_MAX: usize = 10;

/// One target's loop.
pub(super) struct TargetLoop {
    target: Target,
    store: Notifications,
    monitor: PublisherId,
    clock: Clock,
    log: Rc<RefCell<Log>>,
    others: Others,
    wake: Rc<Wake>,
    draining: watch::Receiver<bool>,
    failures: u64,
    backoff: ExponentialBackoff,
    /// The message that failed last, until it or another one is delivered for good.
    stuck: Option<Stuck>,
    /// Most notices of a message: fewer after one of several was refused.
    notices_max: u64,
}

/// A message that its target does not take. When it takes others meanwhile, it is the message's fault.
struct Stuck {
    number: u64,
    attempts: u64,
    /// Attempts of it since another message was delivered; none before that.
    after_others: Option<u64>,
    retry_at: Instant,
}

impl Stuck {
    /// Whether others go before it at this moment.
    fn is_overtaken(&self) -> bool {
        self.attempts >= OVERTAKEN_AFTER && Instant::now() < self.retry_at
    }
}

/// When to look again.
enum Rest {
    /// Then, or when something new was taken.
    UntilOrWoken(Instant),
    /// At once.
    None,
    /// When something new was taken.
    UntilWoken,
    /// Then.
    Until(Instant),
}

/// What a target is still to be sent this minute, of what is urgent and of the rest.
struct Paces {
    urgent: Pace,
    rest: Pace,
}

impl Paces {
    fn sent(&mut self, is_urgent: bool, now: Monotonic) {
        if is_urgent { self.urgent.sent(now) } else { self.rest.sent(now) }
    }
}

impl TargetLoop {
    pub(super) fn new(
        target: Target,
        store: Notifications,
        log: Rc<RefCell<Log>>,
        others: Others,
        wake: Rc<Wake>,
        draining: watch::Receiver<bool>,
    ) -> Self {
        let backoff = backoff(&target);
        let (monitor, clock) = (others.monitor.clone(), others.clock);
        Self {
            target,
            store,
            monitor,
            clock,
            log,
            others,
            wake,
            draining,
            failures: 0,
            backoff,
            stuck: None,
            notices_max: MESSAGE_NOTICES_MAX,
        }
    }

    /// Goes on until it is asked to drain and has nothing to do at once.
    pub(super) async fn run(mut self) {
        let mut paces = self.paces().await;
        loop {
            let rest = match self.step(&mut paces).await {
                Ok(rest) => rest,
                Err(error) => {
                    tracing::error!(target_name = self.target.config.name, %error, "notifications wait");
                    Rest::Until(Instant::now() + DISK_RETRY)
                }
            };
            let wake = self.wake.clone();
            let rest = async move {
                match rest {
                    Rest::None => {}
                    Rest::UntilWoken => wake.notified().await,
                    Rest::Until(at) => tokio::time::sleep_until(at).await,
                    Rest::UntilOrWoken(at) => {
                        let _ = tokio::time::timeout_at(at, wake.notified()).await;
                    }
                }
            };
            tokio::select! {
                biased;
                () = rest => {}
                // An error: whoever could ask is gone, and with him this loop.
                _ = self.draining.wait_for(|draining| *draining) => return,
            }
        }
    }

    /// The paces, with what was sent before a restart.
    async fn paces(&self) -> Paces {
        let store = self.store.clone();
        let accounts = blocking(move || store.accounts()).await.unwrap_or_default();
        let account =
            accounts.into_iter().find(|account| account.target == self.target.config.name).unwrap_or_default();
        let (now, wall) = (self.clock.monotonic(), self.clock.wall());
        // The clock may have been set since; one that was set back makes it wait a minute at most.
        let pace = |recent: Vec<Timestamp>| {
            let ages = recent.into_iter().map(|at| age(at, wall)).filter(|age| *age < MINUTE);
            let sent = ages.map(|age| {
                let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
                Monotonic::from_nanos(now.as_nanos().saturating_sub(age))
            });
            Pace::new(self.target.config.per_minute_max, sent)
        };
        Paces { urgent: pace(account.recent_urgent), rest: pace(account.recent) }
    }

    async fn step(&mut self, paces: &mut Paces) -> Result<Rest, NotificationsError> {
        let name = self.target.config.name.clone();
        let oldest = self.clock.wall().earlier_by(self.target.config.age_max);
        let reason = format!("could not be delivered within {}", describe_duration(self.target.config.age_max));
        let overtaken = self.stuck.as_ref().filter(|stuck| stuck.is_overtaken());
        let (besides, mut next) = match overtaken {
            Some(stuck) => (Some(stuck.number), Some(stuck.retry_at)),
            None => (None, None),
        };
        let failing = self.others.told_of(&name, TargetState::Failing, &reason);
        let (waiting, too_old) = self
            .with_store(move |store| {
                let too_old = store.give_up_older(&name, oldest, &reason, &failing)?;
                Ok((store.waiting(&name, besides)?, too_old))
            })
            .await?;
        if too_old > 0 {
            self.others.wake_all();
            tracing::error!(
                target_name = self.target.config.name,
                notices = too_old,
                "notifications given up: too old"
            );
            let age_max = describe_duration(self.target.config.age_max);
            self.log.borrow_mut().note(Attempt {
                at: self.clock.wall(),
                target: self.target.config.name.clone(),
                outcome: AttemptOutcome::GivenUp,
                publishers: Vec::new(),
                summary: "too old to be told".to_owned(),
                notices: usize::try_from(too_old).unwrap_or(usize::MAX),
                reason: format!("could not be delivered within {age_max}"),
            });
        }
        let mut of = Selection { urgent: true, notices: 1, notices_max: self.notices_max };
        if !waiting.begun {
            let now = self.clock.monotonic();
            let rest = waiting.notices.saturating_sub(waiting.urgent);
            let mut begins = false;
            for (urgent, pace, count) in [(true, &mut paces.urgent, waiting.urgent), (false, &mut paces.rest, rest)] {
                let step = pace.next(usize::try_from(count).unwrap_or(usize::MAX), now);
                match step {
                    Step::Idle => {}
                    Step::WaitUntil(at) => {
                        let at = self.clock.instant(at);
                        next = Some(next.map_or(at, |next| next.min(at)));
                    }
                    Step::One | Step::Digest => {
                        of.urgent = urgent;
                        of.notices = if step == Step::One { 1 } else { self.notices_max };
                        begins = true;
                        break;
                    }
                }
            }
            if !begins {
                return Ok(next.map_or(Rest::UntilWoken, Rest::UntilOrWoken));
            }
        }
        let name = self.target.config.name.clone();
        match self.with_store(move |store| store.begin_message(&name, of, besides)).await? {
            None => Ok(next.map_or(Rest::UntilWoken, Rest::UntilOrWoken)),
            Some(outgoing) => {
                if besides.is_none() && self.stuck.as_ref().is_some_and(|stuck| stuck.number != outgoing.number) {
                    self.stuck = None;
                }
                self.send(outgoing, paces).await
            }
        }
    }

    async fn send(&mut self, outgoing: Outgoing, paces: &mut Paces) -> Result<Rest, NotificationsError> {
        let (name, number, notices) = (self.target.config.name.clone(), outgoing.number, outgoing.notices.len());
        let is_urgent = outgoing.is_urgent();
        let id = format!("{}-{number}", self.monitor);
        let sent = match message(id, &self.monitor, &outgoing.notices) {
            Some(message) => self.target.way.deliver(&message).await,
            None => Err(NotifyError::Refused { reason: "it cannot be written as JSON".to_owned() }),
        };
        let (outcome, reason) = match &sent {
            Ok(()) => (AttemptOutcome::Delivered, ""),
            Err(NotifyError::Refused { reason }) if notices == 1 => (AttemptOutcome::GivenUp, reason.as_str()),
            Err(NotifyError::Refused { reason }) => (AttemptOutcome::Failed, reason.as_str()),
            Err(NotifyError::Retry { reason, .. }) => (AttemptOutcome::Failed, reason.as_str()),
        };
        self.note(&outgoing.notices, outcome, reason);
        let target_name = self.target.config.name.as_str();
        match sent {
            Ok(()) => {
                tracing::debug!(target_name, number, notices, "notification delivered");
                self.notices_max = self.notices_max.saturating_mul(2).min(MESSAGE_NOTICES_MAX);
                if self.stuck.as_ref().is_some_and(|stuck| stuck.number == number) {
                    self.stuck = None;
                }
                match &mut self.stuck {
                    Some(stuck) => {
                        stuck.after_others.get_or_insert(0);
                    }
                    None => {
                        if self.failures > 0 {
                            tracing::info!(target_name, failures = self.failures, "notifications are delivered again");
                        }
                        (self.failures, self.backoff) = (0, backoff(&self.target));
                    }
                }
                paces.sent(is_urgent, self.clock.monotonic());
                let at = self.clock.wall();
                let again = self.others.told_of(&name, TargetState::Delivering, "");
                if self.with_store(move |store| store.delivered(&name, number, at, &again)).await? {
                    self.others.wake_all();
                }
                Ok(Rest::None)
            }
            Err(NotifyError::Refused { reason }) if notices > 1 => {
                tracing::warn!(target_name, reason, notices, "a digest was refused: it is told in smaller ones");
                self.notices_max = (notices as u64 / 2).max(1);
                paces.sent(is_urgent, self.clock.monotonic());
                self.with_store(move |store| store.take_apart(&name, number)).await?;
                Ok(Rest::None)
            }
            Err(NotifyError::Refused { reason }) => {
                tracing::error!(target_name, reason, notices, "notification refused: given up");
                paces.sent(is_urgent, self.clock.monotonic());
                self.give_up(number, reason).await?;
                Ok(Rest::None)
            }
            Err(NotifyError::Retry { reason, retry_after }) => {
                self.failures += 1;
                let wait =
                    self.backoff.next().unwrap_or(self.target.config.backoff_max).max(retry_after.unwrap_or_default());
                if let Some(reason) = self.not_taken(number, wait, &reason) {
                    tracing::error!(target_name = self.target.config.name, reason, notices, "notification given up");
                    self.note(&outgoing.notices, AttemptOutcome::GivenUp, &reason);
                    self.give_up(number, reason).await?;
                    return Ok(Rest::None);
                }
                let target_name = self.target.config.name.as_str();
                if self.failures == 1 {
                    tracing::warn!(target_name, reason, "notification not delivered; trying again until it is too old");
                } else {
                    let (failures, wait_ms) = (self.failures, wait.as_millis());
                    tracing::debug!(target_name, reason, failures, wait_ms, "notification not delivered");
                }
                let failing = self.others.told_of(&name, TargetState::Failing, &reason);
                if self.with_store(move |store| store.failed(&name, &reason, &failing)).await? {
                    self.others.wake_all();
                }
                let overtaken = self.stuck.as_ref().is_some_and(Stuck::is_overtaken);
                Ok(if overtaken { Rest::None } else { Rest::Until(Instant::now() + wait) })
            }
        }
    }

    /// A message will never be delivered: the target fails, and the others are told so.
    async fn give_up(&self, number: u64, reason: String) -> Result<(), NotificationsError> {
        let name = self.target.config.name.clone();
        let failing = self.others.told_of(&name, TargetState::Failing, &reason);
        self.with_store(move |store| store.give_up_message(&name, number, &reason, &failing)).await?;
        self.others.wake_all();
        Ok(())
    }

    /// A message was not taken: where that is its own fault, it says why it is given up.
    fn not_taken(&mut self, number: u64, wait: Duration, reason: &str) -> Option<String> {
        let retry_at = Instant::now() + wait;
        let stuck = self.stuck.get_or_insert(Stuck { number, attempts: 0, after_others: None, retry_at });
        if stuck.number != number {
            // Another one fails as well: it is the target, and the oldest is tried first.
            (stuck.attempts, stuck.after_others, stuck.retry_at) = (0, None, retry_at);
            return None;
        }
        stuck.attempts += 1;
        stuck.retry_at = retry_at;
        if stuck.attempts == OVERTAKEN_AFTER {
            tracing::warn!(
                target_name = self.target.config.name,
                reason,
                "a notification is not taken: others go before it"
            );
        }
        let after_others = stuck.after_others.as_mut()?;
        *after_others += 1;
        if *after_others < GIVEN_UP_AFTER {
            return None;
        }
        let attempts = stuck.attempts;
        self.stuck = None;
        (self.failures, self.backoff) = (0, backoff(&self.target));
        Some(format!("not taken in {attempts} attempts, while others were: {reason}"))
    }

    fn note(&self, notices: &[Notice], outcome: AttemptOutcome, reason: &str) {
        let mut publishers: Vec<PublisherId> = Vec::new();
        for notice in notices {
            if publishers.len() < PUBLISHERS_NAMED_MAX && !publishers.contains(notice.publisher()) {
                publishers.push(notice.publisher().clone());
            }
        }
        self.log.borrow_mut().note(Attempt {
            at: self.clock.wall(),
            target: self.target.config.name.clone(),
            outcome,
            publishers,
            summary: notices.first().map(|notice| notice.summary().to_owned()).unwrap_or_default(),
            notices: notices.len(),
            reason: reason.to_owned(),
        });
    }

    async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Notifications) -> Result<T, NotificationsError> + Send + 'static,
    ) -> Result<T, NotificationsError> {
        let store = self.store.clone();
        blocking(move || work(&store)).await
    }
}

fn backoff(target: &Target) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(target.config.backoff_min)
        .with_max_delay(target.config.backoff_max)
        .with_jitter()
        .without_max_times()
        .build()
}

fn age(then: Timestamp, now: Timestamp) -> Duration {
    Duration::from_nanos(u64::try_from(now.as_nanos().saturating_sub(then.as_nanos())).unwrap_or(0))
}
