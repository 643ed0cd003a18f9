//! What to do next after each answer of the sink: pure, every function takes `now`.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use heartwatch_domain::time::Monotonic;

/// Smallest batch that a refusal for its size leads to.
const BATCH_BYTES_FLOOR: usize = 4 * 1024;
/// Batches in a row that must pass before larger ones are tried again.
const BATCHES_BEFORE_GROWING: u32 = 32;

/// How the sink is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Health {
    /// The last batch was taken, or none was sent yet.
    #[default]
    Ok,
    /// It cannot be reached or cannot write.
    Retrying,
    /// It refuses us: a person has to do something.
    Misconfigured,
}

impl Health {
    /// The name in JSON.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Retrying => "retrying",
            Self::Misconfigured => "misconfigured",
        }
    }
}

/// Why nothing can be written at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// It may work later.
    Retry {
        /// Why.
        reason: String,
        /// How long the server asked us to wait.
        retry_after: Option<Duration>,
    },
    /// Nothing listens there.
    NotListening {
        /// What was tried.
        reason: String,
    },
    /// A person has to do something.
    Misconfigured {
        /// What.
        reason: String,
    },
}

/// What a person is told, once each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SinkEvent {
    /// Nothing can be written from now on.
    OutageBegan {
        /// Why.
        reason: String,
    },
    /// The configuration is wrong.
    Misconfigured {
        /// What is wrong and what to do.
        reason: String,
    },
    /// Rows are written again.
    Recovered {
        /// How long they were not.
        outage: Duration,
    },
}

/// How long to wait after failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waits {
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    pub misconfigured_retry: Duration,
}

/// The state of the conversation with the sink.
#[derive(Debug)]
pub(super) struct SinkHealth {
    waits: Waits,
    health: Health,
    since: Monotonic,
    last_error: String,
    backoff: ExponentialBackoff,
}

impl SinkHealth {
    pub(super) fn new(waits: Waits) -> Self {
        let (health, since) = (Health::Ok, Monotonic::START);
        Self { waits, health, since, last_error: String::new(), backoff: backoff(waits) }
    }

    pub(super) const fn health(&self) -> Health {
        self.health
    }

    /// The last error of the outage that lasts; empty when there is none.
    pub(super) fn last_error(&self) -> &str {
        if matches!(self.health, Health::Ok) { "" } else { &self.last_error }
    }

    /// The sink took rows, or judged them.
    pub(super) fn reached(&mut self, now: Monotonic) -> Option<SinkEvent> {
        let before = std::mem::take(&mut self.health);
        self.backoff = backoff(self.waits);
        (before != Health::Ok).then(|| SinkEvent::Recovered { outage: now.since(self.since) })
    }

    /// The sink took nothing: how long to wait, and what to say.
    pub(super) fn failed(&mut self, failure: Failure, now: Monotonic) -> (Duration, Option<SinkEvent>) {
        let before = self.health;
        if before == Health::Ok {
            self.since = now;
        }
        match failure {
            Failure::Retry { reason, retry_after } => {
                let pace = self.pace();
                let asked = retry_after.filter(|wait| !wait.is_zero());
                // the server's own wish, and a little more so that not everyone comes at once
                let wait = asked.map_or(pace, |wait| wait + pace.min(self.waits.backoff_min));
                (wait, self.retrying(reason))
            }
            Failure::NotListening { reason } => {
                // whoever starts it should not wait for us, and nobody is there to be spared
                self.backoff = backoff(self.waits);
                (self.pace(), self.retrying(reason))
            }
            Failure::Misconfigured { reason } => {
                let news = before != Health::Misconfigured || self.last_error != reason;
                self.health = Health::Misconfigured;
                self.last_error.clone_from(&reason);
                (self.waits.misconfigured_retry, news.then_some(SinkEvent::Misconfigured { reason }))
            }
        }
    }

    fn pace(&mut self) -> Duration {
        self.backoff.next().unwrap_or(self.waits.backoff_max)
    }

    fn retrying(&mut self, reason: String) -> Option<SinkEvent> {
        let before = std::mem::replace(&mut self.health, Health::Retrying);
        self.last_error.clone_from(&reason);
        (before != Health::Retrying).then_some(SinkEvent::OutageBegan { reason })
    }
}

/// Between `backoff_min` and `backoff_max`, doubled each time, with jitter of as much again.
fn backoff(waits: Waits) -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(waits.backoff_min.min(waits.backoff_max / 2))
        .with_max_delay(waits.backoff_max / 2)
        .with_jitter()
        .without_max_times()
        .build()
}

/// How large batches may be: what the configuration says, or what the server took of late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchSize {
    configured: usize,
    current: usize,
    passed: u32,
}

impl BatchSize {
    pub(super) const fn new(configured: usize) -> Self {
        Self { configured, current: configured, passed: 0 }
    }

    /// Most bytes of the next batch.
    pub(super) const fn bytes_max(self) -> usize {
        self.current
    }

    /// A batch passed.
    pub(super) fn passed(&mut self) {
        self.passed += 1;
        if self.current < self.configured && self.passed >= BATCHES_BEFORE_GROWING {
            self.current = self.current.saturating_mul(2).min(self.configured);
            self.passed = 0;
        }
    }

    /// The server would not take one of this size.
    pub(super) fn too_large(&mut self, bytes: usize) {
        self.current = (bytes / 2).clamp(BATCH_BYTES_FLOOR.min(self.configured), self.configured);
        self.passed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITS: Waits = Waits {
        backoff_min: Duration::from_millis(250),
        backoff_max: Duration::from_secs(30),
        misconfigured_retry: Duration::from_secs(20),
    };

    fn at(seconds: u64) -> Monotonic {
        Monotonic::START + Duration::from_secs(seconds)
    }

    fn gone(retry_after: Option<u64>) -> Failure {
        Failure::Retry { reason: "refused".to_owned(), retry_after: retry_after.map(Duration::from_secs) }
    }

    #[test]
    fn an_outage_is_said_when_it_begins_and_when_it_ends() {
        let mut course = SinkHealth::new(WAITS);
        assert_eq!(course.reached(at(1)), None);
        let (_, said) = course.failed(gone(None), at(10));
        assert_eq!(said, Some(SinkEvent::OutageBegan { reason: "refused".to_owned() }));
        for second in 11..50 {
            assert_eq!(course.failed(gone(None), at(second)).1, None);
        }
        assert_eq!((course.health().as_str(), course.last_error()), ("retrying", "refused"));
        assert_eq!(course.reached(at(52)), Some(SinkEvent::Recovered { outage: Duration::from_secs(42) }));
        assert_eq!((course.health().as_str(), course.last_error()), ("ok", ""));
        assert_eq!(course.reached(at(53)), None);
    }

    #[test]
    fn waits_grow_with_jitter_up_to_their_limit_and_start_again_after_a_success() {
        let mut course = SinkHealth::new(WAITS);
        let waits: Vec<Duration> = (0..20).map(|_| course.failed(gone(None), at(1)).0).collect();
        assert!(waits[0] >= WAITS.backoff_min && waits[0] <= WAITS.backoff_min * 2, "{waits:?}");
        assert!(waits[3] >= WAITS.backoff_min * 8, "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= WAITS.backoff_max), "{waits:?}");
        assert!(waits[19] >= WAITS.backoff_max / 2, "{waits:?}");
        course.reached(at(2));
        assert!(course.failed(gone(None), at(3)).0 <= WAITS.backoff_min * 2);
    }

    #[test]
    fn the_servers_own_wish_counts() {
        let mut course = SinkHealth::new(WAITS);
        for _ in 0..8 {
            let (wait, _) = course.failed(gone(Some(3)), at(1));
            assert!(wait >= Duration::from_secs(3) && wait <= Duration::from_millis(3_500), "{wait:?}");
        }
        assert!(course.failed(gone(Some(0)), at(1)).0 >= WAITS.backoff_min, "never a busy loop");
    }

    #[test]
    fn where_nothing_listens_the_wait_stays_short_and_grows_once_something_does() {
        let mut course = SinkHealth::new(WAITS);
        let not_listening = || Failure::NotListening { reason: "refused".to_owned() };
        let (wait, said) = course.failed(not_listening(), at(1));
        assert_eq!(said, Some(SinkEvent::OutageBegan { reason: "refused".to_owned() }));
        let waits: Vec<Duration> = (2..50).map(|second| course.failed(not_listening(), at(second)).0).collect();
        let short = WAITS.backoff_min..=WAITS.backoff_min * 2;
        assert!(short.contains(&wait) && waits.iter().all(|wait| short.contains(wait)), "{wait:?} {waits:?}");
        assert_eq!((course.health().as_str(), course.last_error()), ("retrying", "refused"));
        for _ in 0..8 {
            course.failed(gone(None), at(50));
        }
        assert!(course.failed(gone(None), at(51)).0 >= WAITS.backoff_max / 2);
        assert_eq!(course.reached(at(52)), Some(SinkEvent::Recovered { outage: Duration::from_secs(51) }));
    }

    #[test]
    fn a_wrong_configuration_is_said_once_for_each_thing_that_is_wrong() {
        let mut course = SinkHealth::new(WAITS);
        let wrong = |reason: &str| Failure::Misconfigured { reason: reason.to_owned() };
        let (wait, said) = course.failed(wrong("token"), at(1));
        assert_eq!((wait, said.is_some()), (WAITS.misconfigured_retry, true));
        assert_eq!(course.failed(wrong("token"), at(2)).1, None);
        assert!(course.failed(wrong("database"), at(3)).1.is_some());
        assert!(course.failed(gone(None), at(4)).1.is_some());
        assert_eq!(course.reached(at(5)), Some(SinkEvent::Recovered { outage: Duration::from_secs(4) }));
    }

    #[test]
    fn batches_shrink_at_once_and_grow_again_slowly() {
        let mut size = BatchSize::new(1_000_000);
        size.too_large(1_000_000);
        assert_eq!(size.bytes_max(), 500_000);
        for _ in 0..BATCHES_BEFORE_GROWING {
            size.passed();
        }
        assert_eq!(size.bytes_max(), 1_000_000);
        for _ in 0..40 {
            size.too_large(size.bytes_max());
        }
        assert_eq!(size.bytes_max(), BATCH_BYTES_FLOOR);
    }
}
