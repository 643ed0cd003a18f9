//! The order of the end: what was started last (upstream) stops first, all within one deadline.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;

type Stop = Box<dyn FnOnce(Instant) -> Pin<Box<dyn Future<Output = ()>>>>;

/// What was started, downstream first. The one list that both the start and the end follow.
#[derive(Default)]
pub(crate) struct Shutdown {
    stages: Vec<(&'static str, Stop)>,
}

impl Shutdown {
    /// Nothing started yet.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Notes that a part was started and how to stop it; the closure gets the instant by which it
    /// has to be done.
    pub(crate) fn started<F, S>(&mut self, name: &'static str, stop: S)
    where
        S: FnOnce(Instant) -> F + 'static,
        F: Future<Output = ()> + 'static,
    {
        self.stages.push((name, Box::new(move |deadline| Box::pin(stop(deadline)))));
    }

    /// Stops everything, last started first, within `grace` in all. Each part may use half of what is
    /// left (the last one all of it), so that one that is stuck does not take the others' time to
    /// save what they hold. Returns the names of the parts that were not done in time; they were left
    /// behind where they stood.
    pub(crate) async fn stop(self, grace: Duration) -> Vec<&'static str> {
        let end = Instant::now() + grace;
        let mut stragglers = Vec::new();
        for (index, (name, stop)) in self.stages.into_iter().enumerate().rev() {
            let left = end.saturating_duration_since(Instant::now());
            let deadline = if index == 0 { end } else { end - left / 2 };
            tracing::debug!(part = name, "stopping");
            if tokio::time::timeout_at(deadline, stop(deadline)).await.is_err() {
                tracing::warn!(part = name, grace_ms = grace.as_millis(), "did not stop in time, left behind");
                stragglers.push(name);
            }
        }
        stragglers
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn upstream_stops_first_and_a_straggler_is_named() {
        let order = Rc::new(RefCell::new(Vec::new()));
        let begin = Instant::now();
        let mut shutdown = Shutdown::new();
        for name in ["writer", "stuck", "subscriber"] {
            let order = order.clone();
            shutdown.started(name, move |_| async move {
                order.borrow_mut().push(name);
                if name == "stuck" {
                    std::future::pending::<()>().await;
                }
            });
        }
        let stragglers = shutdown.stop(Duration::from_secs(10)).await;
        assert_eq!(*order.borrow(), ["subscriber", "stuck", "writer"]);
        assert_eq!(stragglers, ["stuck"]);
        assert_eq!(begin.elapsed(), Duration::from_secs(5), "half of the grace was left for the writer");
    }
}
