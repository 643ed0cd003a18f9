//! Verdicts and other words of the roster in the log: of a crowd of verdicts the first, and how many more there were.

use std::time::Duration;

use heartwatch_domain::roster::Remark;
use heartwatch_domain::time::Monotonic;
use heartwatch_domain::verdict::{Change, Verdict};
use heartwatch_system::log_rate_limit::LogRateLimit;

/// For how long the verdicts in the log are counted together: a host with many publishers may end at once.
const LOG_PERIOD: Duration = Duration::from_secs(10);
/// Most verdicts in the log in that time; how many more there were is logged afterwards.
const LINES_MAX: u64 = 1_000;

/// What limits the verdicts in the log.
#[derive(Debug)]
pub(super) struct Log(LogRateLimit);

impl Default for Log {
    fn default() -> Self {
        Self(LogRateLimit::new(LINES_MAX, LOG_PERIOD))
    }
}

impl Log {
    pub(super) fn verdict(&mut self, change: &Change, now: Monotonic) {
        self.left_out(now);
        if !self.0.admits(now) {
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
    pub(super) fn left_out(&mut self, now: Monotonic) {
        if let Some(verdicts) = self.0.left_out(now) {
            let lines_max = LINES_MAX;
            tracing::warn!(verdicts, lines_max, "more verdicts within 10 s: `heartwatch events` has them all");
        }
    }
}

/// Says what is no verdict.
pub(super) fn say(remark: &Remark) {
    match remark {
        Remark::StoodStill { gap } => {
            let paused_ms = gap.as_millis();
            tracing::warn!(paused_ms, "the monitor itself stood still; silence counts from now");
        }
        Remark::TwoAgents { agent, other, host } => {
            tracing::warn!(%agent, %other, %host, "two agents speak for one boot: one of them may not be what it says");
        }
        Remark::NotWatched { publisher, publishers_max, count } => {
            tracing::error!(%publisher, publishers_max, count, "too many publishers: not watched");
        }
        Remark::ChangesGivenUp { count } => {
            tracing::error!(count, "too many verdict changes wait: the oldest were given up");
        }
        Remark::MaintenanceBegins { publisher, until, reason } => {
            tracing::info!(publisher, %until, reason, "maintenance begins");
        }
        Remark::MaintenanceEnds { publisher, ended } => tracing::info!(publisher, ended, "maintenance ends"),
    }
}
