//! Keeps an actor alive: a panic or a stop leads to a new life, with backoff and a limit.
//!
//! actix's own `Supervisor` restarts on `ctx.stop()` but not on a panic, without backoff or limit.
//! Here the actor's context runs as a future whose end is awaited, and a factory builds the next
//! life. When the limit is reached the failure is escalated: whoever runs the program decides.
//!
//! A life can also be ended from outside (`ActorHealth::end_life`), for an actor
//! that is there and handles nothing any more. That is a restart like any other.

use std::cell::Cell;
use std::rc::Rc;

use actix::{Actor, AsyncContext, Context, Handler};
use tokio::sync::mpsc;

use crate::messages::progress::AskProgress;
use crate::runtime::actor_health::{ActorHealth, Register};
use crate::runtime::outlet::Address;
use heartwatch_domain::restart::{RestartDecision, RestartIntensity, RestartLimits};
use heartwatch_system::clock::Clock;

/// Messages that wait in an actor's mailbox before its senders wait.
pub const MAILBOX_MESSAGES_MAX: usize = 64;

/// An actor was restarted too often, or a part that cannot be restarted is gone: the program cannot go on as it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {actor} has failed for good: {reason}")]
pub struct Escalation {
    /// The actor's or the task's name.
    pub actor: &'static str,
    /// Why, in words.
    pub reason: String,
}

/// What every supervised actor of one program shares.
#[derive(Debug, Clone)]
pub struct Supervisor {
    clock: Clock,
    limits: RestartLimits,
    escalations: mpsc::Sender<Escalation>,
    register: Register,
}

/// A supervised actor: its address over all its lives, and the way to end it.
pub struct Supervised<A: Actor> {
    /// Its address over all its lives.
    pub address: Address<A>,
    stopping: Rc<Cell<bool>>,
    task: tokio::task::JoinHandle<()>,
}

impl<A: Actor> Supervised<A> {
    /// Ends it for good; what is in its mailbox is dropped, so ask it to drain first.
    pub fn stop(self) {
        self.stopping.set(true);
        self.task.abort();
    }
}

/// A task that is no actor and goes on until somebody ends it. Its own end, or its panic, is an [`Escalation`]: what it held
/// is gone, so there is no next life of it.
#[derive(Debug)]
pub struct Guarded {
    may_end: Rc<Cell<bool>>,
    task: tokio::task::JoinHandle<()>,
}

impl Guarded {
    /// Marks its end as expected: it is no escalation from now on.
    pub fn may_end(&self) {
        self.may_end.set(true);
    }

    /// Waits until it has ended.
    pub async fn ended(self) {
        self.may_end();
        let _ = self.task.await;
    }

    /// Ends it where it stands.
    pub fn abort(self) {
        self.task.abort();
    }
}

impl Supervisor {
    /// A supervisor, and where it reports what it had to give up. At most one report an actor comes.
    #[must_use]
    pub fn new(clock: Clock, limits: RestartLimits) -> (Self, mpsc::Receiver<Escalation>) {
        let (escalations, receiver) = mpsc::channel(64);
        (Self { clock, limits, escalations, register: Register::default() }, receiver)
    }

    /// Everyone whom this supervisor has started and not stopped.
    #[must_use]
    pub fn register(&self) -> Register {
        self.register.clone()
    }

    /// Runs a task on this thread that must not end before somebody ends it.
    pub fn guard(&self, name: &'static str, task: impl Future<Output = ()> + 'static) -> Guarded {
        let may_end = Rc::new(Cell::new(false));
        let (is_meant, escalations) = (may_end.clone(), self.escalations.clone());
        let task = actix_rt::spawn(async move {
            let mut task = AbortOnDrop(actix_rt::spawn(task));
            let reason = match (&mut task.0).await {
                Ok(()) if is_meant.get() => return,
                Ok(()) => "it ended".to_owned(),
                Err(error) => describe_panic(error),
            };
            tracing::error!(task = name, reason, "a part of the program is gone");
            let _ = escalations.send(Escalation { actor: name, reason }).await;
        });
        Guarded { may_end, task }
    }

    /// Starts an actor on this thread. The factory builds each of its lives.
    pub fn start<A, F>(&self, name: &'static str, mut factory: F) -> Supervised<A>
    where
        A: Actor<Context = Context<A>> + Handler<AskProgress>,
        F: FnMut(&mut Context<A>) -> A + 'static,
    {
        let (lives, address) = Address::new(name);
        let stopping = Rc::new(Cell::new(false));
        let Self { clock, limits, escalations, register } = self.clone();
        let registered = Registered::new(register, ActorHealth::new(name, address.outlet()));
        let ends = stopping.clone();
        let task = actix_rt::spawn(async move {
            let mut intensity = RestartIntensity::new(limits);
            loop {
                let mut context = Context::new();
                context.set_mailbox_capacity(MAILBOX_MESSAGES_MAX);
                let actor = factory(&mut context);
                lives.begin(context.address());
                let mut life = AbortOnDrop(actix_rt::spawn(context.into_future(actor)));
                let reason = tokio::select! {
                    end = &mut life.0 => match end {
                        Ok(()) => "it stopped".to_owned(),
                        Err(error) => describe_panic(error),
                    },
                    () = registered.vitals.life_must_end() => {
                        life.0.abort();
                        let _ = (&mut life.0).await;
                        "it was stuck".to_owned()
                    }
                };
                lives.ended();
                if ends.get() {
                    return;
                }
                match intensity.ended(clock.monotonic()) {
                    RestartDecision::After(wait) => {
                        registered.vitals.restarts_again();
                        tracing::error!(actor = name, reason, wait_ms = wait.as_millis(), "actor ended, restarting");
                        tokio::time::sleep(wait).await;
                    }
                    RestartDecision::GiveUp => {
                        tracing::error!(actor = name, reason, "actor ended too often, giving up");
                        let _ = escalations.send(Escalation { actor: name, reason }).await;
                        return;
                    }
                }
            }
        });
        Supervised { address, stopping, task }
    }
}

/// An actor is in the register for as long as its supervisor's task lives.
struct Registered {
    register: Register,
    vitals: Rc<ActorHealth>,
}

impl Registered {
    fn new(register: Register, vitals: Rc<ActorHealth>) -> Self {
        register.add(vitals.clone());
        Self { register, vitals }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.register.remove(&self.vitals);
    }
}

/// Aborting the supervisor's task ends the life that it awaits as well.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn describe_panic(error: tokio::task::JoinError) -> String {
    if !error.is_panic() {
        return "its task was cancelled".to_owned();
    }
    let payload = error.into_panic();
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    format!("it panicked: {text}")
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use actix::fut::WrapFuture as _;
    use actix::{AsyncContext as _, Message};

    use super::*;
    use crate::runtime::outlet::Undelivered;

    struct Counter {
        handled: Rc<Cell<u64>>,
    }

    impl Actor for Counter {
        type Context = Context<Self>;
    }

    crate::messages::progress::answers_progress!(Counter);

    #[derive(Clone, Message)]
    #[rtype(result = "u64")]
    enum Do {
        Count,
        Hang,
        PanicUntil(Rc<Cell<u32>>),
    }
    // Only ever sent within one thread here.
    #[expect(unsafe_code, reason = "the test runs on one thread; Send is asked for by actix's mailbox")]
    unsafe impl Send for Do {}

    impl Handler<Do> for Counter {
        type Result = u64;
        fn handle(&mut self, message: Do, ctx: &mut Context<Self>) -> u64 {
            if let Do::Hang = message {
                ctx.wait(std::future::pending::<()>().into_actor(self));
            }
            if let Do::PanicUntil(left) = message
                && left.get() > 0
            {
                left.set(left.get() - 1);
                panic!("on purpose");
            }
            self.handled.set(self.handled.get() + 1);
            self.handled.get()
        }
    }

    fn limits(restarts_max: usize) -> RestartLimits {
        RestartLimits {
            restarts_max,
            period: Duration::from_secs(60),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(1),
        }
    }

    fn on_one_thread(test: impl Future<Output = ()>) {
        actix_rt::System::with_tokio_rt(|| {
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
        })
        .block_on(test);
    }

    #[test]
    fn a_message_survives_the_panic_of_its_receiver() {
        on_one_thread(async {
            let (supervisor, _escalations) = Supervisor::new(Clock::start(), limits(5));
            let handled = Rc::new(Cell::new(0));
            let counter = supervisor.start("counter", move |_| Counter { handled: handled.clone() });
            let outlet = counter.address.outlet::<Do>();
            assert_eq!(outlet.deliver(Do::Count).await, Ok(1));
            let panics = Rc::new(Cell::new(2));
            let poisoned = outlet.deliver(Do::PanicUntil(panics));
            let waiting = outlet.deliver(Do::Count);
            let (poisoned, waiting) = tokio::join!(poisoned, waiting);
            assert!(poisoned.is_ok() && waiting.is_ok(), "{poisoned:?} {waiting:?}");
        });
    }

    #[test]
    fn a_message_that_always_kills_is_handed_back() {
        on_one_thread(async {
            let (supervisor, _escalations) = Supervisor::new(Clock::start(), limits(50));
            let counter = supervisor.start("counter", |_| Counter { handled: Rc::new(Cell::new(0)) });
            let outlet = counter.address.outlet::<Do>();
            let poison = outlet.deliver(Do::PanicUntil(Rc::new(Cell::new(u32::MAX)))).await;
            assert_eq!(poison, Err(Undelivered::Poison { receiver: "counter" }));
            assert_eq!(outlet.deliver(Do::Count).await, Ok(1), "the receiver lives on");
        });
    }

    #[test]
    fn too_many_restarts_are_escalated_and_senders_are_told() {
        on_one_thread(async {
            let (supervisor, mut escalations) = Supervisor::new(Clock::start(), limits(1));
            let counter = supervisor.start("counter", |_| Counter { handled: Rc::new(Cell::new(0)) });
            let outlet = counter.address.outlet::<Do>();
            let gone = outlet.deliver(Do::PanicUntil(Rc::new(Cell::new(u32::MAX)))).await;
            assert_eq!(gone, Err(Undelivered::Stopped { receiver: "counter" }));
            let escalation = escalations.recv().await.unwrap();
            assert_eq!((escalation.actor, escalation.reason.as_str()), ("counter", "it panicked: on purpose"));
        });
    }

    #[test]
    fn a_stuck_life_can_be_ended_and_what_waited_goes_to_the_next_one() {
        on_one_thread(async {
            let (supervisor, _escalations) = Supervisor::new(Clock::start(), limits(5));
            let handled = Rc::new(Cell::new(0));
            let counter = supervisor.start("counter", move |_| Counter { handled: handled.clone() });
            let outlet = counter.address.outlet::<Do>();
            assert_eq!(outlet.deliver(Do::Hang).await, Ok(1));
            let everyone = supervisor.register().everyone();
            let [vitals] = everyone.as_slice() else { panic!("{everyone:?}") };
            let silence = vitals.outlet().ask(AskProgress, Duration::from_secs(1)).await;
            assert!(matches!(silence, Err(Undelivered::TimedOut { .. })), "{silence:?}");
            let (waiting, ()) = tokio::join!(outlet.deliver(Do::Count), async { vitals.end_life() });
            assert_eq!(waiting, Ok(2));
            assert_eq!(vitals.outlet().ask(AskProgress, Duration::from_secs(1)).await, Ok(()));
            assert_eq!((vitals.status().restarts, vitals.status().stuck), (1, 1));
            counter.stop();
            tokio::task::yield_now().await;
            assert!(supervisor.register().everyone().is_empty(), "nobody watches over what was stopped");
        });
    }

    #[test]
    fn a_task_that_ends_by_itself_is_escalated_and_one_that_is_ended_is_not() {
        on_one_thread(async {
            let (supervisor, mut escalations) = Supervisor::new(Clock::start(), limits(5));
            let (end, ended) = tokio::sync::oneshot::channel::<()>();
            let meant = supervisor.guard("meant", async move { drop(ended.await) });
            meant.may_end();
            end.send(()).unwrap();
            meant.ended().await;
            supervisor.guard("aborted", std::future::pending()).abort();
            let _quiet = supervisor.guard("quiet", async {});
            let _loud = supervisor.guard("loud", async { panic!("on purpose") });
            let quiet = escalations.recv().await.unwrap().to_string();
            assert_eq!(quiet, "the quiet has failed for good: it ended");
            let loud = escalations.recv().await.unwrap().to_string();
            assert_eq!(loud, "the loud has failed for good: it panicked: on purpose");
            assert!(escalations.try_recv().is_err());
        });
    }

    #[test]
    fn stop_ends_it_for_good() {
        on_one_thread(async {
            let (supervisor, _escalations) = Supervisor::new(Clock::start(), limits(5));
            let counter = supervisor.start("counter", |_| Counter { handled: Rc::new(Cell::new(0)) });
            let outlet = counter.address.outlet::<Do>();
            assert_eq!(outlet.deliver(Do::Count).await, Ok(1));
            counter.stop();
            assert_eq!(outlet.deliver(Do::Count).await, Err(Undelivered::Stopped { receiver: "counter" }));
        });
    }
}
