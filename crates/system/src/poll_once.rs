//! What an actor has to begin in the order of its mailbox. actix polls the futures of a context in no particular order:
//! when one ends, the last one takes its place.

use std::future::Future;

use futures_util::FutureExt as _;

/// Polls a future once, here and now: what it does before it waits for the first time is done when this returns. What is
/// returned waits for its end.
pub fn poll_once<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let mut future = Box::pin(future);
    let ended = (&mut future).now_or_never();
    async move {
        match ended {
            Some(output) => output,
            None => future.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn it_begins_at_once_and_ends_when_it_is_waited_for() {
        let steps = Cell::new(0);
        let both = poll_once(async {
            steps.set(1);
            tokio::task::yield_now().await;
            steps.set(2);
            "end"
        });
        assert_eq!(steps.get(), 1);
        assert_eq!((both.await, steps.get()), ("end", 2));
        let first = poll_once(async { 7 });
        assert_eq!(first.await, 7);
    }
}
