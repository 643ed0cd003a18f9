//! Verdicts in the log: of a crowd of them the first, and how many more there were.

use super::*;

/// For how long the verdicts in the log are counted together: a host with many publishers may end at once.
pub(super) const LOG_PERIOD: Duration = Duration::from_secs(10);

impl Table {
    pub(super) fn log(&mut self, change: &Change) {
        let now = self.clock.monotonic();
        self.log_left_out(now);
        if !self.log.admits(now) {
            return;
        }
        let (publisher, from, to) = (&change.publisher, change.from, change.to);
        match to {
            Verdict::Alive | Verdict::Ended | Verdict::Late => {
                tracing::info!(%publisher, %from, %to, summary = change.summary, "verdict");
            }
            _ => tracing::warn!(%publisher, %from, %to, summary = change.summary, "verdict"),
        }
    }

    /// Says how many verdicts are not in the log, once those that count together are over.
    pub(super) fn log_left_out(&mut self, now: Monotonic) {
        if let Some(verdicts) = self.log.left_out(now) {
            let lines_max = self.config.log_lines_max;
            tracing::warn!(verdicts, lines_max, "more verdicts within 10 s: `heartwatch events` has them all");
        }
    }
}
