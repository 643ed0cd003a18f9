//! The parts of one program: a line starts one, and with it come its health and its stop.
//!
//! They are started downstream first and stopped upstream first, both from the one list in [`Shutdown`].

use std::future::Future;
use std::time::Duration;

use actix::dev::ToEnvelope;
use actix::{Actor, Context, Handler};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::messages::drain::Drain;
use crate::messages::progress::AskProgress;
use crate::runtime::outlet::Address;
use crate::runtime::shutdown::Shutdown;
use crate::runtime::supervisor::{Escalation, Supervised, Supervisor};
use heartwatch_domain::restart::RestartLimits;
use heartwatch_system::clock::Clock;

/// What has been started.
pub(crate) struct Parts {
    supervisor: Supervisor,
    shutdown: Shutdown,
}

impl Parts {
    /// None yet, and where it is said which of them failed too often.
    #[must_use]
    pub(crate) fn new(clock: Clock) -> (Self, mpsc::Receiver<Escalation>) {
        let (supervisor, escalations) = Supervisor::new(clock, RestartLimits::default());
        (Self { supervisor, shutdown: Shutdown::new() }, escalations)
    }

    /// Who keeps the actors alive, for those that come and go.
    #[must_use]
    pub(crate) const fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// Starts an actor that holds nothing at the end; the factory builds each of its lives.
    pub(crate) fn start<A, F>(&mut self, name: &'static str, factory: F) -> Address<A>
    where
        A: Actor<Context = Context<A>> + Handler<AskProgress>,
        F: FnMut(&mut Context<A>) -> A + 'static,
    {
        let actor = self.supervisor.start(name, factory);
        let address = actor.address.clone();
        self.shutdown.started(name, move |_| async move { actor.stop() });
        address
    }

    /// Starts an actor that finishes what it holds before it is stopped.
    pub(crate) fn start_draining<A, F>(&mut self, name: &'static str, factory: F) -> Address<A>
    where
        A: Actor<Context = Context<A>> + Handler<AskProgress> + Handler<Drain>,
        F: FnMut(&mut Context<A>) -> A + 'static,
    {
        let actor = self.supervisor.start(name, factory);
        let address = actor.address.clone();
        self.shutdown.started(name, move |deadline| drain(actor, deadline));
        address
    }

    /// Notes a part that is no actor, and how to stop it by an instant.
    pub(crate) fn started<F, S>(&mut self, name: &'static str, stop: S)
    where
        S: FnOnce(Instant) -> F + 'static,
        F: Future<Output = ()> + 'static,
    {
        self.shutdown.started(name, stop);
    }

    /// Stops all of them as [`Shutdown::stop`] does, and names those that were left behind.
    pub(crate) async fn stop(self, grace: Duration) -> Vec<&'static str> {
        self.shutdown.stop(grace).await
    }
}

/// Lets an actor finish what it holds, and stops it.
pub(crate) async fn drain<A>(actor: Supervised<A>, deadline: Instant)
where
    A: Actor + Handler<Drain>,
    A::Context: ToEnvelope<A, Drain>,
{
    // Stopped already is as good as stopped now.
    let _ = actor.address.outlet().deliver(Drain { deadline }).await;
    actor.stop();
}
