//! The monitor's ears on each way: one that is down makes nobody silent who is heard on it, and says nothing of the others.

use std::time::Duration;

use super::{Reception, SelfCheck};
use crate::beat::Way;
use crate::time::Monotonic;

/// The ways on which somebody was heard last: the last one, and another one on which it was heard as well not long before.
pub type HeardOn = (Way, Option<Way>);

/// One [`SelfCheck`] a way.
#[derive(Debug, Clone)]
pub struct SelfChecks {
    mqtt: SelfCheck,
    /// None while the monitor reads from no Kafka.
    kafka: Option<Box<SelfCheck>>,
    pause_max: Duration,
}

impl SelfChecks {
    /// Of a monitor that is not connected yet, and listens on MQTT alone until it is told of another way.
    #[must_use]
    pub fn new(pause_max: Duration, now: Monotonic) -> Self {
        Self { mqtt: SelfCheck::new(pause_max, now), kafka: None, pause_max }
    }

    /// See [`SelfCheck::set_pause_max`].
    pub fn set_pause_max(&mut self, pause_max: Duration) {
        self.pause_max = pause_max;
        self.mqtt.set_pause_max(pause_max);
        if let Some(kafka) = &mut self.kafka {
            kafka.set_pause_max(pause_max);
        }
    }

    /// See [`SelfCheck::receives`]; of one way.
    pub fn receives(&mut self, way: Way, reception: Reception, reason: &str, now: Monotonic) {
        let observer = match way {
            Way::Mqtt => &mut self.mqtt,
            Way::Kafka => self.kafka.get_or_insert_with(|| Box::new(SelfCheck::new(self.pause_max, now))),
        };
        observer.receives(reception, reason, now);
    }

    /// See [`SelfCheck::tick`].
    pub fn tick(&mut self, now: Monotonic) -> Option<Duration> {
        if let Some(kafka) = &mut self.kafka {
            kafka.tick(now);
        }
        self.mqtt.tick(now)
    }

    /// The ears for one publisher: those of its way, or of another of its ways where that is the one that lives. Of somebody
    /// who was not heard yet nobody knows the way: all of them have to be up.
    #[must_use]
    pub fn of(&self, heard_on: Option<HeardOn>) -> &SelfCheck {
        match heard_on {
            None => self.deaf().map_or(&self.mqtt, |(_, deaf)| deaf),
            Some((way, other)) => {
                let last = self.on(way);
                match other.map(|other| self.on(other)) {
                    Some(other) if !last.hears() && other.hears() => other,
                    _ => last,
                }
            }
        }
    }

    /// A way that is down or held up, where there is one.
    #[must_use]
    pub fn deaf(&self) -> Option<(Way, &SelfCheck)> {
        let kafka = self.kafka.as_deref().map(|kafka| (Way::Kafka, kafka));
        [(Way::Mqtt, &self.mqtt)].into_iter().chain(kafka).find(|(_, observer)| !observer.hears())
    }

    /// Whether there is more than one way: then the ears for one publisher may change with what comes of another way.
    #[must_use]
    pub const fn are_many(&self) -> bool {
        self.kafka.is_some()
    }

    fn on(&self, way: Way) -> &SelfCheck {
        match way {
            Way::Mqtt => &self.mqtt,
            Way::Kafka => self.kafka.as_deref().unwrap_or(&self.mqtt),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_judged_by_the_way_that_lives_and_who_was_never_heard_by_all() {
        let at = |seconds| Monotonic::START + Duration::from_secs(seconds);
        let mut observers = SelfChecks::new(Duration::from_secs(2), at(0));
        let (mqtt, kafka) = (Some((Way::Mqtt, None)), Some((Way::Kafka, None)));
        let both = [Some((Way::Mqtt, Some(Way::Kafka))), Some((Way::Kafka, Some(Way::Mqtt)))];
        observers.receives(Way::Mqtt, Reception::Open, "", at(1));
        assert!(observers.of(None).hears() && observers.of(mqtt).hears() && !observers.are_many());
        observers.receives(Way::Kafka, Reception::Lost, "Kafka is not reached", at(2));
        assert!(!observers.of(None).hears(), "it may speak there");
        assert_eq!((observers.of(mqtt).hears(), observers.of(kafka).hears()), (true, false));
        assert_eq!(observers.of(kafka).reason(), "Kafka is not reached");
        assert!(both.iter().all(|both| observers.of(*both).hears()));
        assert_eq!(observers.deaf().map(|(way, _)| way), Some(Way::Kafka));
        observers.receives(Way::Kafka, Reception::Open, "", at(9));
        observers.receives(Way::Mqtt, Reception::Lost, "connection refused", at(9));
        assert_eq!((observers.of(mqtt).hears(), observers.of(kafka).hears()), (false, true));
        assert!(both.iter().all(|both| observers.of(*both).hears()));
        assert_eq!(observers.of(kafka).counts_from(at(3)), at(9), "silence counts from when it could be heard again");
        assert_eq!(observers.tick(at(60)), Some(Duration::from_secs(60)));
        assert_eq!(observers.of(kafka).counts_from(at(3)), at(60), "a standstill is one for all of them");
    }
}
