//! The watchdog: a deadline for every publisher, a question to the probe when one passes, a verdict.
//!
//! It decides nothing itself: [`Roster`] does, a value. This actor reads the clock, carries out what comes of that, and
//! nothing else. The roster lives outside the actor's lives, so a panic forgets nobody.

mod log;
mod wakeup;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use actix::fut::{ActorFutureExt, WrapFuture};
use actix::{Actor, ActorFuture, AsyncContext, Context, Handler, MessageResult, ResponseActFuture, ResponseFuture};

use tokio::sync::broadcast;

use self::log::Log;
use self::wakeup::Wakeup;
use crate::messages::ask::{AskObserver, AskPublisher, AskStatus, AskUnrecorded};
use crate::messages::beats::{Beats, LeasesEnded, LeasesPromise, LinkState};
use crate::messages::change::{RecordChanges, RecordStanding, SetDeadlines};
use crate::messages::child::ChildEnded;
use crate::messages::drain::{Drain, StopWithMonitor};
use crate::messages::maintenance::{AskMaintenance, ChangeMaintenance};
use crate::messages::notice::ChangesRecorded;
use crate::messages::page::{ProbeNow, ProbeReport};
use crate::messages::probe::{AwaitExit, Probe};
use crate::runtime::outlet::Outlet;
use heartwatch_domain::maintenance::{WINDOW_MAX, Window};
use heartwatch_domain::process::{ProbeAnswer, ProcessIdentity, ProcessState};
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::roster::MaintenanceReply;
use heartwatch_domain::roster::TICK;
use heartwatch_domain::roster::{Effect, Question, Roster};
use heartwatch_domain::roster::{PublisherStatus, StatusReply};
use heartwatch_domain::time::{Monotonic, Timestamp};
use heartwatch_domain::verdict::Change;
use heartwatch_ports::{KeepLastSeen, KeepMaintenance};
use heartwatch_system::clock::Clock;

/// How long after the end of a process its goodbye may still come.
const GOODBYE_GRACE: Duration = Duration::from_millis(20);
/// Most publishers looked at in one turn of the actor.
const LOOKS_A_TURN_MAX: usize = 128;
/// Most changes handed on in one message.
const CHANGES_A_MESSAGE_MAX: usize = 1_000;

/// Most publishers named as covered by maintenance windows.
const COVERED_MAX: usize = 100;

/// Whom the watchdog talks to, all of them downstream.
#[derive(Debug, Clone)]
pub(crate) struct Outlets {
    /// The process probe, for a look at a process.
    pub probe: Outlet<Probe>,
    /// The process probe, for the end of a process.
    pub exits: Outlet<AwaitExit>,
    /// The writer, for changes.
    pub changes: Outlet<RecordChanges>,
    /// The writer, for standing verdicts.
    pub standing: Outlet<RecordStanding>,
    /// The notifier, to have it look for changes that were recorded.
    pub recorded: Outlet<ChangesRecorded>,
    /// Where maintenance windows survive a restart.
    pub windows: Arc<dyn KeepMaintenance>,
    /// Where it survives a restart when everybody was heard last.
    pub last_seen: Arc<dyn KeepLastSeen>,
    /// Changes as they come, for whoever listens at the moment.
    pub live: broadcast::Sender<Change>,
}

/// The actor. Build each of its lives with the same [`Roster`].
pub(crate) struct Watchdog {
    roster: Rc<RefCell<Roster>>,
    clock: Clock,
    outlets: Outlets,
    wakeup: Wakeup,
    log: Log,
    handing_on: bool,
    repeating: bool,
    keeping: bool,
    /// The highest epoch that the notifier is being told of.
    telling: Option<u64>,
}

impl Watchdog {
    /// A life of the watchdog over a roster that outlives it.
    #[must_use]
    pub(crate) fn new(roster: Rc<RefCell<Roster>>, clock: Clock, outlets: Outlets) -> Self {
        let (wakeup, log) = (Wakeup::default(), Log::default());
        Self { roster, clock, outlets, wakeup, log, handing_on: false, repeating: false, keeping: false, telling: None }
    }

    /// Something has happened: the roster is told, with the time, and what comes of it is carried out.
    fn happened<T>(
        &mut self,
        ctx: &mut Context<Self>,
        event: impl FnOnce(&mut Roster, Monotonic, Timestamp) -> T,
    ) -> T {
        let (now, wall) = (self.clock.monotonic(), self.clock.wall());
        let mut roster = self.roster.borrow_mut();
        let answer = event(&mut roster, now, wall);
        roster.took(self.clock.monotonic().since(now));
        let next = roster.next_due();
        drop(roster);
        self.wakeup.hurry(next);
        self.carry_out(now, ctx);
        answer
    }

    /// One by one: what a life did not come to is carried out by the next one.
    fn carry_out(&mut self, now: Monotonic, ctx: &mut Context<Self>) {
        loop {
            let Some(effect) = self.roster.borrow_mut().next_effect() else { break };
            fail::fail_point!("watchdog::effect");
            match effect {
                Effect::Ask(Question::Look(publisher, process, agent)) => {
                    self.ask_probe(publisher, process, agent, ctx);
                }
                Effect::Ask(Question::AwaitExit(publisher, process)) => self.await_exit(publisher, process, ctx),
                Effect::Ask(Question::User(publisher, process)) => self.ask_user(publisher, process, ctx),
                Effect::Say(remark) => log::say(&remark),
                Effect::Tell(change) => {
                    self.log.verdict(&change, now);
                    // Nobody listening is ordinary.
                    let _ = self.outlets.live.send(*change);
                }
            }
        }
        self.log.left_out(now);
        self.hand_on(ctx);
    }

    fn ask_probe(
        &self,
        publisher: PublisherId,
        process: ProcessIdentity,
        agent: Option<PublisherId>,
        ctx: &mut Context<Self>,
    ) {
        let probe = self.outlets.probe.clone();
        let clock = self.clock;
        let question = async move {
            let question = Probe { process: process.clone(), agent };
            let answer = probe.deliver(question).await.unwrap_or_else(|error| ProbeAnswer {
                state: ProcessState::ProbeFailed { reason: error.to_string() },
                cpu_time: None,
                looked_at: clock.wall(),
                host_pid: None,
                user: None,
            });
            (publisher, process, answer)
        };
        ctx.spawn(question.into_actor(self).map(|(publisher, process, answer), actor, ctx| {
            actor.happened(ctx, |roster, now, wall| roster.answered(&publisher, &process, &answer, now, wall));
        }));
    }

    fn ask_user(&self, publisher: PublisherId, process: ProcessIdentity, ctx: &mut Context<Self>) {
        let probe = self.outlets.probe.clone();
        let question = async move {
            let answer = probe.deliver(Probe { process: process.clone(), agent: None }).await;
            (publisher, process, answer)
        };
        ctx.spawn(question.into_actor(self).map(|(publisher, process, answer), actor, _| {
            // who cannot be looked at has no user that we know
            if let Some(user) = answer.ok().and_then(|answer| answer.user) {
                actor.roster.borrow_mut().user_found(&publisher, &process, user);
            }
        }));
    }

    fn await_exit(&self, publisher: PublisherId, process: ProcessIdentity, ctx: &mut Context<Self>) {
        let outlet = self.outlets.exits.clone();
        let question = async move {
            let answer = outlet.deliver(AwaitExit(process.clone())).await;
            // A goodbye that was sent just before the end may still be on its way.
            tokio::time::sleep(GOODBYE_GRACE).await;
            (publisher, process, answer)
        };
        ctx.spawn(question.into_actor(self).map(|(publisher, process, answer), actor, ctx| match answer {
            Ok(Ok(answer)) => {
                actor.happened(ctx, |roster, now, wall| roster.exited(&publisher, &process, &answer, now, wall));
            }
            Ok(Err(reason)) => {
                tracing::debug!(%publisher, reason, "its end is noticed at its deadline, not at once");
            }
            Err(error) => tracing::debug!(%publisher, %error, "its end is noticed at its deadline, not at once"),
        }));
    }

    /// Hands changes on, one message at a time and in order; they stay in the roster until they are durable.
    fn hand_on(&mut self, ctx: &mut Context<Self>) {
        if self.handing_on {
            return;
        }
        let changes = self.roster.borrow().changes_to_record(CHANGES_A_MESSAGE_MAX);
        if changes.is_empty() {
            return;
        }
        self.handing_on = true;
        let (count, through_epoch) = (changes.len(), changes.last().map_or(0, |change| change.epoch));
        let outlet = self.outlets.changes.clone();
        let hand_on = async move { outlet.deliver(RecordChanges(Arc::new(changes))).await };
        ctx.spawn(hand_on.into_actor(self).map(move |handed_on, actor, ctx| {
            actor.handing_on = false;
            if let Err(error) = handed_on {
                tracing::error!(%error, changes = count, "verdict changes could not be recorded");
            }
            actor.roster.borrow_mut().recorded(count);
            actor.tell(through_epoch, ctx);
            actor.hand_on(ctx);
        }));
    }

    /// Has the notifier look for changes, one message at a time; one that is under way covers what
    /// comes meanwhile only up to its epoch, so a higher one follows it.
    fn tell(&mut self, through_epoch: u64, ctx: &mut Context<Self>) {
        let told = self.telling.replace(through_epoch);
        if told.is_some() {
            return;
        }
        let outlet = self.outlets.recorded.clone();
        let tell = async move { outlet.deliver(ChangesRecorded { through_epoch }).await };
        ctx.spawn(tell.into_actor(self).map(move |told, actor, ctx| {
            if let Err(error) = told {
                tracing::error!(%error, "the notifier does not know that verdicts have changed");
            }
            if let Some(higher) = actor.telling.take().filter(|higher| *higher > through_epoch) {
                actor.tell(higher, ctx);
            }
        }));
    }

    fn repeat_standing(&mut self, ctx: &mut Context<Self>) {
        if self.repeating {
            return;
        }
        let Some(standing) = self.roster.borrow_mut().standing_due(self.clock.monotonic(), self.clock.wall()) else {
            return;
        };
        self.repeating = true;
        let outlet = self.outlets.standing.clone();
        let repeat = async move { outlet.deliver(RecordStanding(Arc::new(standing))).await };
        ctx.spawn(repeat.into_actor(self).map(|repeated, actor, _| {
            actor.repeating = false;
            if let Err(error) = repeated {
                tracing::warn!(%error, "standing verdicts could not be repeated");
            }
        }));
    }

    /// Writes down when everybody was heard last, every now and then.
    fn keep_last_seen(&mut self, ctx: &mut Context<Self>) {
        if self.keeping {
            return;
        }
        let due = self.roster.borrow_mut().last_seen_due(self.clock.monotonic(), self.clock.wall());
        let Some(last_seen) = due else { return };
        self.keeping = true;
        let file = self.outlets.last_seen.clone();
        let keep = async move { tokio::task::spawn_blocking(move || file.keep(&last_seen)).await };
        ctx.spawn(keep.into_actor(self).map(|kept, actor, _| {
            actor.keeping = false;
            if let Err(error) = kept.unwrap_or_else(|error| Err(error.to_string())) {
                tracing::warn!(error, "when publishers were heard last will not survive a restart");
            }
        }));
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        self.happened(ctx, Roster::tick);
        self.repeat_standing(ctx);
        self.keep_last_seen(ctx);
        // Not run_interval: after a stall it would fire once for every tick that was missed.
        ctx.run_later(TICK, Self::tick);
    }
}

impl Actor for Watchdog {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        // Questions that a former life had asked were lost with it: ask again.
        let (now, wall) = (self.clock.monotonic(), self.clock.wall());
        self.roster.borrow_mut().resume(now, wall);
        ctx.spawn(Expiries);
        self.tick(ctx);
    }
}

crate::messages::progress::answers_progress!(Watchdog);

/// The deadlines, as a future of the actor: it never ends.
struct Expiries;

impl ActorFuture<Watchdog> for Expiries {
    type Output = ();

    fn poll(
        self: std::pin::Pin<&mut Self>,
        actor: &mut Watchdog,
        ctx: &mut Context<Watchdog>,
        task: &mut std::task::Context<'_>,
    ) -> Poll<()> {
        let mut looked_at = 0;
        while looked_at < LOOKS_A_TURN_MAX && actor.happened(ctx, Roster::look) {
            looked_at += 1;
        }
        if looked_at == LOOKS_A_TURN_MAX {
            // Signs of life that wait are heard before the others are judged.
            task.waker().wake_by_ref();
        } else {
            let next = actor.roster.borrow().next_due();
            actor.wakeup.wait(next, actor.clock, task);
        }
        Poll::Pending
    }
}

impl Handler<Beats> for Watchdog {
    type Result = ();
    fn handle(&mut self, beats: Beats, ctx: &mut Context<Self>) {
        self.happened(ctx, |roster, now, wall| roster.hear(&beats.0, now, wall));
    }
}

impl Handler<LeasesEnded> for Watchdog {
    type Result = ();
    fn handle(&mut self, ended: LeasesEnded, ctx: &mut Context<Self>) {
        self.happened(ctx, |roster, now, wall| roster.leases_ended(&ended.0, now, wall));
    }
}

impl Handler<LeasesPromise> for Watchdog {
    type Result = ();
    fn handle(&mut self, promises: LeasesPromise, ctx: &mut Context<Self>) {
        self.happened(ctx, |roster, _, _| roster.leases_promise(&promises.0));
    }
}

impl Handler<LinkState> for Watchdog {
    type Result = ();
    fn handle(&mut self, LinkState { way, reception, at, reason }: LinkState, ctx: &mut Context<Self>) {
        self.happened(ctx, |roster, _, _| roster.receives(way, reception, &reason, at));
    }
}

impl Handler<ChildEnded> for Watchdog {
    type Result = ();
    fn handle(&mut self, ended: ChildEnded, ctx: &mut Context<Self>) {
        let ChildEnded { publisher, exit } = ended;
        self.happened(ctx, |roster, now, wall| roster.parent_told(&publisher, exit, now, wall));
    }
}

impl Handler<SetDeadlines> for Watchdog {
    type Result = ();
    fn handle(&mut self, SetDeadlines(expectations): SetDeadlines, ctx: &mut Context<Self>) {
        self.happened(ctx, |roster, now, wall| roster.set_expectations(expectations, now, wall));
    }
}

impl Handler<ChangeMaintenance> for Watchdog {
    type Result = ResponseFuture<Result<MaintenanceReply, String>>;
    fn handle(&mut self, command: ChangeMaintenance, ctx: &mut Context<Self>) -> Self::Result {
        let (changed, reply) = self.happened(ctx, |roster, _, wall| {
            let changed = match command {
                ChangeMaintenance::Begin { publisher, lasts, reason } => {
                    let window = Window { publisher, from: wall, to: wall + lasts.min(WINDOW_MAX), reason };
                    roster.begin_maintenance(window, wall).map(|save| (0, save))
                }
                ChangeMaintenance::End { publisher } => Ok(roster.end_maintenance(&publisher, wall)),
            };
            (changed, roster.maintenance(COVERED_MAX, wall))
        });
        let keep = self.outlets.windows.clone();
        Box::pin(async move {
            let (ended, (revision, windows)) = changed?;
            let kept = tokio::task::spawn_blocking(move || keep.keep(revision, &windows)).await;
            kept.unwrap_or_else(|error| Err(error.to_string()))
                .map_err(|reason| format!("it is in force, but will not survive a restart: {reason}"))?;
            Ok(MaintenanceReply { ended, ..reply })
        })
    }
}

impl Handler<AskMaintenance> for Watchdog {
    type Result = MessageResult<AskMaintenance>;
    fn handle(&mut self, _: AskMaintenance, _: &mut Context<Self>) -> MessageResult<AskMaintenance> {
        MessageResult(self.roster.borrow().maintenance(COVERED_MAX, self.clock.wall()))
    }
}

impl Handler<AskStatus> for Watchdog {
    type Result = MessageResult<AskStatus>;
    fn handle(&mut self, _: AskStatus, ctx: &mut Context<Self>) -> MessageResult<AskStatus> {
        MessageResult(self.happened(ctx, |roster, now, wall| {
            // The question may be the first thing after a standstill of ours.
            roster.tick(now, wall);
            StatusReply { observer: roster.observer_status(now), publishers: roster.status(wall) }
        }))
    }
}

impl Handler<AskObserver> for Watchdog {
    type Result = MessageResult<AskObserver>;
    fn handle(&mut self, _: AskObserver, _: &mut Context<Self>) -> MessageResult<AskObserver> {
        MessageResult(self.roster.borrow().observer_status(self.clock.monotonic()))
    }
}

impl Handler<AskUnrecorded> for Watchdog {
    type Result = Vec<Change>;
    fn handle(&mut self, ask: AskUnrecorded, _: &mut Context<Self>) -> Vec<Change> {
        self.roster.borrow().unrecorded(ask.since_epoch, ask.changes_max)
    }
}

impl Handler<AskPublisher> for Watchdog {
    type Result = Option<PublisherStatus>;
    fn handle(&mut self, ask: AskPublisher, _: &mut Context<Self>) -> Option<PublisherStatus> {
        self.roster.borrow().status_of(&ask.0, self.clock.wall())
    }
}

impl Handler<ProbeNow> for Watchdog {
    type Result = ResponseActFuture<Self, Option<ProbeReport>>;

    /// A process that is found to have ended is evidence like any other.
    fn handle(&mut self, ProbeNow(publisher): ProbeNow, _: &mut Context<Self>) -> Self::Result {
        let process = self.roster.borrow().process_to_probe(&publisher);
        let (probe, clock) = (self.outlets.probe.clone(), self.clock);
        let look = async move {
            Some(match process? {
                Err(reason) => Err(reason),
                Ok((process, agent)) => match probe.deliver(Probe { process: process.clone(), agent }).await {
                    Ok(answer) => Ok((process, answer)),
                    Err(error) => Err(format!("the probe could not look: {error}")),
                },
            })
        };
        Box::pin(look.into_actor(self).map(move |found, actor, ctx| {
            let found = match found? {
                Ok((process, answer)) => {
                    if answer.has_ended() {
                        actor.happened(ctx, |roster, now, wall| {
                            roster.found_ended(&publisher, &process, &answer, now, wall);
                        });
                    }
                    (answer.describe(process.pid), answer.looked_at)
                }
                Err(reason) => (reason, clock.wall()),
            };
            let verdict = actor.roster.borrow().status_of(&publisher, clock.wall())?.verdict;
            Some(ProbeReport { found: found.0, looked_at: found.1, verdict })
        }))
    }
}

impl Handler<StopWithMonitor> for Watchdog {
    type Result = ();
    fn handle(&mut self, StopWithMonitor(publishers): StopWithMonitor, _: &mut Context<Self>) {
        self.roster.borrow_mut().stop_with_monitor(publishers);
    }
}

impl Handler<Drain> for Watchdog {
    type Result = ResponseFuture<()>;
    fn handle(&mut self, _: Drain, _: &mut Context<Self>) -> ResponseFuture<()> {
        // The message in flight holds its own copy; both may record a change, which is idempotent.
        let changes = self.roster.borrow().changes_to_record(usize::MAX);
        let last_seen = self.roster.borrow().last_seen(self.clock.wall(), true);
        let (outlet, file) = (self.outlets.changes.clone(), self.outlets.last_seen.clone());
        Box::pin(async move {
            if !changes.is_empty()
                && let Err(error) = outlet.deliver(RecordChanges(Arc::new(changes))).await
            {
                tracing::error!(%error, "verdict changes could not be recorded at the end");
            }
            let kept = tokio::task::spawn_blocking(move || file.keep(&last_seen)).await;
            if let Err(error) = kept.unwrap_or_else(|error| Err(error.to_string())) {
                tracing::warn!(error, "when publishers were heard last will not survive the end of the monitor");
            }
        })
    }
}

#[cfg(test)]
mod tests;
