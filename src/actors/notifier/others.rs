//! The other targets: they are told when one fails, and when it is well again.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify as Wake;

use crate::messages::notice::Target;
use heartwatch_domain::notice::{Notice, TargetNotice, TargetState};
use heartwatch_domain::publisher::PublisherId;
use heartwatch_system::clock::Clock;

/// All targets of a notifier as one target's loop sees them. Clones share everything.
#[derive(Clone)]
pub(super) struct Others {
    pub(super) monitor: PublisherId,
    pub(super) clock: Clock,
    targets: Rc<RefCell<Arc<Vec<Target>>>>,
    wakes: Rc<RefCell<Vec<Rc<Wake>>>>,
}

impl Others {
    pub(super) fn new(monitor: PublisherId, clock: Clock, targets: Arc<Vec<Target>>) -> Self {
        Self { monitor, clock, targets: Rc::new(RefCell::new(targets)), wakes: Rc::default() }
    }

    /// Everyone who is told.
    pub(super) fn targets(&self) -> Arc<Vec<Target>> {
        self.targets.borrow().clone()
    }

    /// Tells others from now on, whose loops are yet to be started.
    pub(super) fn set_targets(&self, targets: Arc<Vec<Target>>) {
        *self.targets.borrow_mut() = targets;
    }

    /// How the loops of the targets are woken.
    pub(super) fn set_wakes(&self, wakes: Vec<Rc<Wake>>) {
        *self.wakes.borrow_mut() = wakes;
    }

    /// Has every loop look for what was taken for its target.
    pub(super) fn wake_all(&self) {
        for wake in self.wakes.borrow().iter() {
            wake.notify_one();
        }
    }

    /// What all targets but this one are to be told of it. While it is the only one, its account and the log say it.
    pub(super) fn told_of(&self, target: &str, state: TargetState, reason: &str) -> Vec<(String, Notice)> {
        let summary = match state {
            TargetState::Failing => format!("the target {target} does not get what it is to be told: {reason}"),
            TargetState::Delivering => format!("the target {target} gets what it is to be told again"),
        };
        let notice = Notice::Target(TargetNotice {
            target: target.to_owned(),
            state,
            publisher: self.monitor.clone(),
            at: self.clock.wall(),
            summary,
        });
        let targets = self.targets();
        let others = targets.iter().filter(|other| other.config.name != target && other.config.filter.wants(&notice));
        others.map(|other| (other.config.name.clone(), notice.clone())).collect()
    }
}
