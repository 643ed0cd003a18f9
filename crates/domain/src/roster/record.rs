//! The changes of verdicts in their order, until they are durable.

use std::collections::VecDeque;

use super::effect::{Effect, Remark};
use crate::verdict::Change;

/// Numbers changes and keeps them until somebody has recorded them.
#[derive(Debug)]
pub(super) struct Record {
    epoch: u64,
    waiting: VecDeque<Change>,
    waiting_max: usize,
    given_up: u64,
}

impl Record {
    /// One that goes on after this number, and keeps at most so many changes.
    pub(super) const fn new(last_epoch: u64, waiting_max: usize) -> Self {
        Self { epoch: last_epoch, waiting: VecDeque::new(), waiting_max, given_up: 0 }
    }

    /// The number of the last change.
    pub(super) const fn last_epoch(&self) -> u64 {
        self.epoch
    }

    /// Numbers a change, keeps it, and has it told. At the limit the oldest one is given up.
    pub(super) fn publish(&mut self, change: &mut Change, effects: &mut VecDeque<Effect>) {
        change.epoch = self.epoch + 1;
        if self.waiting.len() >= self.waiting_max {
            self.waiting.pop_front();
            self.given_up += 1;
            if self.given_up.is_power_of_two() {
                effects.push_back(Effect::Say(Remark::ChangesGivenUp { count: self.given_up }));
            }
        }
        self.waiting.push_back(change.clone());
        self.epoch = change.epoch;
        effects.push_back(Effect::Tell(Box::new(change.clone())));
    }

    /// The oldest changes that are not durable yet.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Change> {
        self.waiting.iter()
    }

    /// The oldest `count` changes are durable.
    pub(super) fn recorded(&mut self, count: usize) {
        self.waiting.drain(..count.min(self.waiting.len()));
    }
}
