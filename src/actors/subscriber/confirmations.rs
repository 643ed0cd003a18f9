//! What each publisher is told about its safe record: at most about once a second, only on change,
//! and again when its heartbeat shows that it has not heard.

use std::collections::BTreeSet;
use std::time::Duration;

use hashbrown::HashMap;

use heartwatch_domain::intake::DeliveryState;
use heartwatch_domain::publisher::{Incarnation, PublisherId};
use heartwatch_domain::reading::Sequence;
use heartwatch_domain::time::Monotonic;

/// Least time between two confirmations to one publisher about one of its incarnations.
pub(super) const CONFIRM_EVERY: Duration = Duration::from_millis(900);
/// A state with missing numbers is told again after this, also when nothing has changed: its publisher
/// sends what it has and gives up what it no longer has.
pub(super) const RETELL_MISSING_EVERY: Duration = Duration::from_secs(3);

#[derive(Debug)]
struct Told {
    state: DeliveryState,
    /// See [`AppendReceipt::number`](heartwatch_domain::intake::AppendReceipt::number).
    number: u64,
    /// Whether it waits to be told.
    due: bool,
    told_at: Option<Monotonic>,
    changed_at: Monotonic,
}

impl Told {
    /// It has to be told: says from when on it may, where it does not wait already.
    fn wait(&mut self) -> Option<Monotonic> {
        let is_new = !std::mem::replace(&mut self.due, true);
        is_new.then(|| self.told_at.map_or(Monotonic::START, |at| at + CONFIRM_EVERY))
    }
}

/// The confirmations of all publishers.
#[derive(Debug, Default)]
pub struct Confirmations {
    told: HashMap<(PublisherId, Incarnation), Told>,
    /// What waits to be told, by when it may be.
    waiting: BTreeSet<(Monotonic, (PublisherId, Incarnation))>,
}

impl Confirmations {
    /// Incarnations whose state is remembered; beyond it the ones that were quiet longest are forgotten.
    /// A forgotten one is remembered again with its next reading or heartbeat.
    pub const INCARNATIONS_MAX: usize = 1_000_000;

    /// The writer reports a state, with the number of its report. One that was overtaken is no news: told, it would take
    /// back what was confirmed until the next heartbeat.
    pub fn changed(&mut self, state: DeliveryState, number: u64, now: Monotonic) {
        let key = (state.publisher.clone(), state.incarnation);
        match self.told.get_mut(&key) {
            Some(told) if number < told.number => {}
            Some(told) => {
                told.number = number;
                // A report that says nothing new but refuses rows is news: its publisher waits for it.
                let asked_long_ago = told.told_at.is_some_and(|at| now.since(at) >= RETELL_MISSING_EVERY);
                let news = told.state != state || state.refused > 0 || (state.has_missing() && asked_long_ago);
                if !news {
                    return;
                }
                told.state = state;
                told.changed_at = now;
                self.waiting.extend(told.wait().map(|due| (due, key)));
            }
            None => {
                self.make_room();
                self.told.insert(key.clone(), Told { state, number, due: true, told_at: None, changed_at: now });
                self.waiting.insert((now, key));
            }
        }
    }

    /// A heartbeat shows how much its publisher knows to be confirmed; so do readings of a life that has
    /// ended, which has no heartbeats: their publisher sends what it takes for unconfirmed.
    pub fn known_to_publisher(&mut self, publisher: &PublisherId, incarnation: Incarnation, confirmed: Sequence) {
        let key = (publisher.clone(), incarnation);
        if let Some(told) = self.told.get_mut(&key)
            && told.state.through > confirmed
        {
            self.waiting.extend(told.wait().map(|due| (due, key)));
        }
    }

    /// A publisher says what it has given up, and says it again until it hears that this is known.
    pub fn asked(&mut self, publisher: &PublisherId, incarnation: Incarnation) {
        let key = (publisher.clone(), incarnation);
        if let Some(told) = self.told.get_mut(&key) {
            self.waiting.extend(told.wait().map(|due| (due, key)));
        }
    }

    /// The states that may be told now.
    pub fn due(&mut self, now: Monotonic) -> Vec<DeliveryState> {
        let mut states = Vec::new();
        while self.waiting.first().is_some_and(|(due, _)| *due <= now) {
            let told = self.waiting.pop_first().and_then(|(_, key)| self.told.get_mut(&key));
            if let Some(told) = told {
                told.told_at = Some(now);
                told.due = false;
                states.push(told.state.clone());
            }
        }
        states
    }

    /// Whether a state waits to be told.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn make_room(&mut self) {
        if self.told.len() < Self::INCARNATIONS_MAX {
            return;
        }
        let mut ages: Vec<_> = self.told.values().map(|told| told.changed_at).collect();
        let (_, middle, _) = ages.select_nth_unstable(Self::INCARNATIONS_MAX / 2);
        let middle = *middle;
        self.told.retain(|_, told| told.due || told.changed_at > middle);
        tracing::warn!(
            incarnations_max = Self::INCARNATIONS_MAX,
            "too many incarnations: the quietest half was forgotten"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic::START + Duration::from_millis(millis)
    }

    fn state(through: Sequence) -> DeliveryState {
        let publisher = PublisherId::parse("light").unwrap();
        DeliveryState {
            publisher,
            incarnation: Incarnation(1),
            through,
            highest: through,
            gaps: vec![],
            produced: through,
            refused: 0,
            journal: None,
        }
    }

    #[test]
    fn a_change_is_told_at_once_and_then_once_a_second_at_most() {
        let mut confirmations = Confirmations::default();
        confirmations.changed(state(1), 0, at(0));
        assert_eq!(confirmations.due(at(0)), [state(1)]);
        confirmations.changed(state(1), 10, at(10));
        assert_eq!(confirmations.due(at(5_000)), [], "nothing new");
        confirmations.changed(state(2), 5_000, at(5_000));
        assert_eq!(confirmations.due(at(5_000)), [state(2)]);
        confirmations.changed(state(3), 5_100, at(5_100));
        confirmations.changed(state(4), 5_200, at(5_200));
        assert_eq!(confirmations.due(at(5_300)), []);
        assert!(confirmations.is_waiting());
        assert_eq!(confirmations.due(at(5_900)), [state(4)]);
    }

    #[test]
    fn a_report_that_was_overtaken_takes_nothing_back() {
        let mut confirmations = Confirmations::default();
        confirmations.changed(state(9), 2, at(0));
        confirmations.changed(state(5), 1, at(0));
        assert_eq!(confirmations.due(at(0)), [state(9)]);
        confirmations.changed(state(5), 1, at(5_000));
        assert_eq!(confirmations.due(at(5_000)), []);
        // What a damaged disk has lost may be less, and is new.
        confirmations.changed(state(8), 3, at(6_000));
        assert_eq!(confirmations.due(at(6_000)), [state(8)]);
    }

    #[test]
    fn what_is_missing_is_asked_for_again_until_it_is_settled() {
        let mut confirmations = Confirmations::default();
        let missing = DeliveryState { produced: 9, ..state(7) };
        for (millis, told) in [(0, true), (1_000, false), (2_900, false), (3_000, true), (4_000, false), (6_000, true)]
        {
            confirmations.changed(missing.clone(), millis, at(millis));
            assert_eq!(confirmations.due(at(millis)).len(), usize::from(told), "{millis}");
        }
        confirmations.changed(state(9), 20_000, at(20_000));
        confirmations.changed(state(9), 30_000, at(30_000));
        assert_eq!(confirmations.due(at(30_000)), [state(9)]);
        confirmations.changed(state(9), 40_000, at(40_000));
        assert_eq!(confirmations.due(at(40_000)), []);
    }

    #[test]
    fn a_publisher_that_has_not_heard_is_told_again() {
        let mut confirmations = Confirmations::default();
        confirmations.changed(state(7), 0, at(0));
        assert_eq!(confirmations.due(at(0)), [state(7)]);
        let light = PublisherId::parse("light").unwrap();
        confirmations.known_to_publisher(&light, Incarnation(1), 7);
        assert_eq!(confirmations.due(at(2_000)), []);
        confirmations.known_to_publisher(&light, Incarnation(1), 5);
        assert_eq!(confirmations.due(at(3_000)), [state(7)]);
        // The number 3 of it comes again: whoever sends it knows of 2 at most.
        confirmations.known_to_publisher(&light, Incarnation(1), 2);
        confirmations.changed(state(7), 4_000, at(4_000));
        assert_eq!(confirmations.due(at(4_000)), [state(7)]);
        confirmations.changed(state(7), 6_000, at(6_000));
        assert_eq!(confirmations.due(at(6_000)), []);
        confirmations.asked(&light, Incarnation(1));
        confirmations.changed(state(7), 6_000, at(6_000));
        assert_eq!(confirmations.due(at(6_000)), [state(7)], "a question is answered, also when nothing has changed");
    }
}
