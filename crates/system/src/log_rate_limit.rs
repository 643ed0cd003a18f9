//! How many lines of one kind are logged within a period: the rest is counted, and said when the period is over.

use std::time::Duration;

use heartwatch_domain::time::Monotonic;

/// At most so many lines in each period. A period begins with the first line after the one before it.
#[derive(Debug)]
pub struct LogRateLimit {
    lines_max: u64,
    period: Duration,
    since: Option<Monotonic>,
    logged: u64,
    left_out: u64,
}

impl LogRateLimit {
    /// At most `lines_max` lines in each `period`.
    #[must_use]
    pub const fn new(lines_max: u64, period: Duration) -> Self {
        Self { lines_max, period, since: None, logged: 0, left_out: 0 }
    }

    /// Whether a line may be logged now; one that may not is counted.
    pub fn admits(&mut self, now: Monotonic) -> bool {
        if self.is_over(now) {
            (self.since, self.logged) = (Some(now), 0);
        }
        let admitted = self.logged < self.lines_max;
        if admitted {
            self.logged += 1;
        } else {
            self.left_out += 1;
        }
        admitted
    }

    /// How many lines were left out in a period that is over now: once, and none when it was none.
    pub fn left_out(&mut self, now: Monotonic) -> Option<u64> {
        if self.left_out == 0 || !self.is_over(now) {
            return None;
        }
        self.left_out_at_end()
    }

    /// The same when no more lines come, and nobody waits for the end of the period.
    pub fn left_out_at_end(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.left_out)).filter(|lines| *lines > 0)
    }

    /// When what was left out is to be said; none when nothing was.
    #[must_use]
    pub fn over_at(&self) -> Option<Monotonic> {
        self.since.filter(|_| self.left_out > 0).map(|since| since + self.period)
    }

    fn is_over(&self, now: Monotonic) -> bool {
        self.since.is_none_or(|since| now.since(since) >= self.period)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_the_limit_is_counted_and_said_once_when_the_period_is_over() {
        let mut limit = LogRateLimit::new(3, Duration::from_secs(10));
        let at = |seconds: u64| Monotonic::START + Duration::from_secs(seconds);
        let admitted = |limit: &mut LogRateLimit, now, lines| (0..lines).filter(|_| limit.admits(now)).count();
        assert_eq!(admitted(&mut limit, at(100), 5), 3);
        assert_eq!(limit.over_at(), Some(at(110)));
        assert_eq!(admitted(&mut limit, at(109), 2), 0, "the period began with the first line");
        assert_eq!(limit.left_out(at(109)), None, "it is not over");
        assert_eq!(limit.left_out(at(110)), Some(4));
        assert_eq!((limit.left_out(at(110)), limit.over_at()), (None, None), "said once");
        assert_eq!(admitted(&mut limit, at(110), 4), 3, "a new period");
        assert_eq!((limit.left_out_at_end(), limit.left_out_at_end()), (Some(1), None));
    }
}
