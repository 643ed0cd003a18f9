//! What each message is known by, and when it came.

use std::sync::Arc;
use std::time::Duration;

use heartwatch_domain::marks::MqttMark;
use heartwatch_domain::time::Timestamp;

/// Gives messages at QoS 1 their marks.
#[derive(Debug)]
pub(super) struct Marks {
    session: Arc<str>,
    began: Option<u64>,
    number: u64,
}

impl Marks {
    pub(super) fn new(broker: &str, client_id: &str) -> Self {
        Self { session: format!("{client_id} at {broker}").into(), began: None, number: 0 }
    }

    /// Which session.
    pub(super) fn session(&self) -> &str {
        &self.session
    }

    /// The broker had no session of ours: it makes one.
    pub(super) fn session_began(&mut self, now: Timestamp) {
        // distinct from the one before, also where the clock stands still
        self.began = Some(now.as_nanos().cast_unsigned().max(self.began.map_or(0, |began| began + 1)));
    }

    pub(super) fn next(&mut self, packet_id: u16, duplicate: bool, content: u64) -> MqttMark {
        self.number += 1;
        MqttMark {
            session: Arc::clone(&self.session),
            began: self.began,
            number: self.number,
            packet_id,
            duplicate,
            content,
        }
    }
}

/// Between two messages that are read in one turn: one of several rows without a time has that many nanoseconds.
const BETWEEN_NANOS: i64 = 1_000;
/// A clock that is further behind was set back.
const BEHIND_MAX: Duration = Duration::from_secs(1);

/// When messages came: each a little later than the one before, so that their rows are told apart.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    last: Option<Timestamp>,
}

impl Arrivals {
    pub(super) fn distinct(&mut self, now: Timestamp) -> Timestamp {
        let next = self.last.map(|last| Timestamp::from_nanos(last.as_nanos().saturating_add(BETWEEN_NANOS)));
        let time = next.filter(|next| *next > now && next.earlier_by(BEHIND_MAX) < now).unwrap_or(now);
        self.last = Some(time);
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_one_after_the_other_and_a_clock_that_was_set_back_is_followed() {
        let mut arrivals = Arrivals::default();
        let mut at = |nanos: i64| arrivals.distinct(Timestamp::from_nanos(nanos)).as_nanos();
        assert_eq!(
            [at(10_000_000_000), at(10_000_000_000), at(10_000_000_500)],
            [10_000_000_000, 10_000_001_000, 10_000_002_000]
        );
        assert_eq!(at(10_000_900_000), 10_000_900_000);
        assert_eq!([at(7_000_000_000), at(7_000_000_000)], [7_000_000_000, 7_000_001_000]);
    }

    #[test]
    fn sessions_are_told_apart() {
        let mut marks = Marks::new("b", "c");
        assert_eq!(marks.next(1, false, 7).began, None);
        let now = Timestamp::from_nanos(5);
        marks.session_began(now);
        let first = marks.next(1, false, 7);
        marks.session_began(now);
        let second = marks.next(1, false, 7);
        assert!(first.began.is_some() && first.began != second.began);
        assert_eq!((first.number, second.number, &*second.session), (2, 3, "c at b"));
    }
}
