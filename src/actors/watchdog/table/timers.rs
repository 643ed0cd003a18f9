//! When to look at whom again: every deadline in one order, with one timer for the first of them.
//!
//! `tokio_util`'s `DelayQueue` needs 40 bytes an entry, and a key of 16 beside each publisher to set it anew. Here an entry is its
//! time and its place, about 30 bytes with what the tree needs, and its time is all that finds it again. An entry is
//! touched when it is due, not with every sign of life, so the logarithm does not matter.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::time::{Sleep, sleep_until};

use crate::domain::time::Monotonic;
use crate::runtime::clock::Clock;

/// The places that are to be looked at, each at most once.
#[derive(Debug)]
pub(super) struct Timers {
    clock: Clock,
    due: BTreeSet<(Monotonic, u32)>,
    /// For the first of them; made when it is first waited for.
    sleep: Option<Pin<Box<Sleep>>>,
    /// Who waits for the first of them.
    waiting: Option<Waker>,
}

impl Timers {
    pub(super) const fn new(clock: Clock) -> Self {
        Self { clock, due: BTreeSet::new(), sleep: None, waiting: None }
    }

    /// Looks at `place` at `wanted`, and no longer at `before`.
    pub(super) fn set(&mut self, place: u32, before: Option<Monotonic>, wanted: Option<Monotonic>) {
        if before == wanted {
            return;
        }
        if let Some(before) = before {
            self.due.remove(&(before, place));
        }
        let Some(wanted) = wanted else { return };
        if self.due.first().is_none_or(|(first, _)| wanted < *first)
            && let Some(waiting) = self.waiting.take()
        {
            waiting.wake();
        }
        self.due.insert((wanted, place));
    }

    /// The next place that is due by `now`. When none is, the task is woken at the time of the next.
    pub(super) fn poll_due(&mut self, task: &mut Context<'_>, now: Monotonic) -> Poll<u32> {
        let Some((first, _)) = self.due.first().copied() else {
            self.waiting = Some(task.waker().clone());
            return Poll::Pending;
        };
        if first <= now
            && let Some((_, place)) = self.due.pop_first()
        {
            return Poll::Ready(place);
        }
        let at = self.clock.instant(first);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        self.waiting = Some(task.waker().clone());
        if sleep.as_mut().poll(task).is_ready() {
            // Its time came between `now` and this line.
            task.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic::START + Duration::from_millis(millis)
    }

    #[tokio::test(start_paused = true)]
    async fn places_come_in_the_order_of_their_times_and_only_as_they_were_set_last() {
        let clock = Clock::start();
        let mut timers = Timers::new(clock);
        timers.set(1, None, Some(at(300)));
        timers.set(2, None, Some(at(100)));
        timers.set(3, None, Some(at(200)));
        timers.set(2, Some(at(100)), Some(at(400)));
        timers.set(3, Some(at(200)), None);
        let mut seen = Vec::new();
        for _ in 0..2 {
            let place = poll_fn(|task| timers.poll_due(task, clock.monotonic())).await;
            seen.push((place, clock.monotonic()));
        }
        assert_eq!(seen, [(1, at(300)), (2, at(400))]);
        assert!(timers.due.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_a_later_one_is_woken_for_an_earlier_one() {
        let clock = Clock::start();
        let timers = std::cell::RefCell::new(Timers::new(clock));
        timers.borrow_mut().set(1, None, Some(at(60_000)));
        let next = poll_fn(|task| timers.borrow_mut().poll_due(task, clock.monotonic()));
        let earlier = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            timers.borrow_mut().set(2, None, Some(at(20)));
        };
        let (place, ()) = futures_util::future::join(next, earlier).await;
        assert_eq!((place, clock.monotonic()), (2, at(20)));
    }
}
