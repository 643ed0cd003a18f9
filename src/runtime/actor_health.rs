//! How the supervised actors do: one entry each, made and removed by the supervisor.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::sync::Notify;

use crate::messages::progress::AskProgress;
use crate::runtime::outlet::Outlet;
use heartwatch_domain::status::ActorStatus;

/// One supervised actor, over all its lives.
#[derive(Debug)]
pub struct ActorHealth {
    name: &'static str,
    outlet: Outlet<AskProgress>,
    end_life: Notify,
    restarts: Cell<u64>,
    stuck: Cell<u64>,
    unanswered: Cell<u32>,
}

impl ActorHealth {
    pub(super) fn new(name: &'static str, outlet: Outlet<AskProgress>) -> Rc<Self> {
        let (end_life, restarts, stuck, unanswered) = Default::default();
        Rc::new(Self { name, outlet, end_life, restarts, stuck, unanswered })
    }

    /// The actor's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The way to ask whether it still handles messages.
    #[must_use]
    pub const fn outlet(&self) -> &Outlet<AskProgress> {
        &self.outlet
    }

    /// It answered.
    pub fn answered(&self) {
        self.unanswered.set(0);
    }

    /// It did not answer in time; the answer is how many times in a row by now.
    pub fn did_not_answer(&self) -> u32 {
        self.unanswered.set(self.unanswered.get().saturating_add(1));
        self.unanswered.get()
    }

    /// Whether it has answered the latest question.
    #[must_use]
    pub const fn is_answering(&self) -> bool {
        self.unanswered.get() == 0
    }

    /// Ends its present life; the supervisor starts another, within the limits of all restarts. A life
    /// that blocks its thread cannot be ended: nothing else runs on that thread either.
    pub fn end_life(&self) {
        self.stuck.set(self.stuck.get() + 1);
        self.unanswered.set(0);
        self.end_life.notify_one();
    }

    pub(super) async fn life_must_end(&self) {
        self.end_life.notified().await;
    }

    pub(super) fn restarts_again(&self) {
        self.restarts.set(self.restarts.get() + 1);
    }

    /// The numbers.
    #[must_use]
    pub fn status(&self) -> ActorStatus {
        ActorStatus {
            actor: self.name.to_owned(),
            restarts: self.restarts.get(),
            stuck: self.stuck.get(),
            unanswered: self.unanswered.get(),
            waiting: self.outlet.waiting(),
        }
    }
}

/// The actors of one program that have not been stopped for good.
#[derive(Debug, Clone, Default)]
pub struct Register {
    entries: Rc<RefCell<Vec<Rc<ActorHealth>>>>,
}

impl Register {
    pub(super) fn add(&self, vitals: Rc<ActorHealth>) {
        self.entries.borrow_mut().push(vitals);
    }

    pub(super) fn remove(&self, vitals: &Rc<ActorHealth>) {
        self.entries.borrow_mut().retain(|entry| !Rc::ptr_eq(entry, vitals));
    }

    /// Everyone at this moment, in the order in which they were started.
    #[must_use]
    pub fn everyone(&self) -> Vec<Rc<ActorHealth>> {
        self.entries.borrow().clone()
    }
}
