//! The one timer of the watchdog: for whatever its roster has due first.

use std::pin::Pin;
use std::task::{Context, Waker};

use tokio::time::{Sleep, sleep_until};

use heartwatch_domain::time::Monotonic;
use heartwatch_system::clock::Clock;

/// Wakes the task that looks, when the first of all is due.
#[derive(Debug, Default)]
pub(super) struct Wakeup {
    /// Made when it is first waited for.
    sleep: Option<Pin<Box<Sleep>>>,
    /// Who waits, and until when.
    waiting: Option<(Option<Monotonic>, Waker)>,
}

impl Wakeup {
    /// Nothing is due before `next`: the task is woken then.
    pub(super) fn wait(&mut self, next: Option<Monotonic>, clock: Clock, task: &mut Context<'_>) {
        self.waiting = Some((next, task.waker().clone()));
        let Some(next) = next else { return };
        let at = clock.instant(next);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        if sleep.as_mut().poll(task).is_ready() {
            // Its time came between the last look and this line.
            task.waker().wake_by_ref();
        }
    }

    /// Something else may be due first: whoever waits for a later time is woken to look again.
    pub(super) fn hurry(&mut self, next: Option<Monotonic>) {
        let is_sooner = |until: Option<Monotonic>| next.is_some_and(|next| until.is_none_or(|until| next < until));
        if let Some((_, waiting)) = self.waiting.take_if(|(until, _)| is_sooner(*until)) {
            waiting.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::poll_fn;
    use std::task::Poll;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_a_later_time_is_woken_for_an_earlier_one() {
        let clock = Clock::start();
        let at = |millis| Monotonic::START + Duration::from_millis(millis);
        for first in [None, Some(at(60_000))] {
            let (wakeup, next) = (RefCell::new(Wakeup::default()), RefCell::new(first));
            let due = clock.monotonic() + Duration::from_millis(20);
            let waits = poll_fn(|task| {
                let now = clock.monotonic();
                if next.borrow().is_some_and(|next| next <= now) {
                    return Poll::Ready(now);
                }
                wakeup.borrow_mut().wait(*next.borrow(), clock, task);
                Poll::Pending
            });
            let earlier = async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                *next.borrow_mut() = Some(due);
                wakeup.borrow_mut().hurry(Some(due));
            };
            let (woken, ()) = futures_util::future::join(waits, earlier).await;
            assert_eq!(woken, due);
        }
    }
}
