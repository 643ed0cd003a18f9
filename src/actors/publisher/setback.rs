//! What keeps all readings from being sent, whatever is in them: said once an episode, and tried again after waits
//! that double.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

const WAIT_MIN: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(30);

/// An episode in which nothing can be sent, or none.
#[derive(Debug, Default)]
pub(super) struct Setback {
    /// Until when nothing is tried, and after which wait.
    episode: Option<(Instant, Duration)>,
}

impl Setback {
    /// An attempt failed.
    pub(super) fn happened(&mut self, error: &impl Display) {
        let wait = match self.episode {
            Some((_, wait)) => (wait * 2).min(WAIT_MAX),
            None => {
                tracing::error!(%error, "readings cannot be sent now; they wait in the outbox");
                WAIT_MIN
            }
        };
        self.episode = Some((Instant::now() + wait, wait));
    }

    /// Whether it is too early for another attempt.
    pub(super) fn lasts(&self) -> bool {
        self.episode.is_some_and(|(until, _)| Instant::now() < until)
    }

    /// An attempt succeeded.
    pub(super) fn ended(&mut self) {
        if self.episode.take().is_some() {
            tracing::info!("readings are sent again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_setback_that_lasts_is_tried_less_and_less_often_and_its_end_is_an_end() {
        let mut setback = Setback::default();
        let mut attempts = 0;
        for _ in 0..10 * 60 * 50 {
            if !setback.lasts() {
                attempts += 1;
                setback.happened(&"the disk is gone");
            }
            tokio::time::advance(Duration::from_millis(20)).await;
        }
        assert!((10..40).contains(&attempts), "{attempts} attempts in 10 minutes");
        setback.ended();
        assert!(!setback.lasts());
    }
}
