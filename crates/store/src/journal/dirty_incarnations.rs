//! The incarnations that one group commit touches. Each is looked up by its name once a message; from there on it is
//! a number: with a thousand publishers that send one reading a message, looking up is what a commit would cost most.

use hashbrown::{DefaultHashBuilder, HashMap};
use indexmap::IndexMap;

use super::block::Owner;
use super::incarnation::IncarnationState;
use heartwatch_domain::intake::DeliveryState;

/// All incarnations. None is ever taken out, so that each keeps its place.
pub(super) type Incarnations = IndexMap<Owner, IncarnationState, DefaultHashBuilder>;

/// One of them, and what will be true of it when the commit is.
#[derive(Debug)]
pub(super) struct DirtyIncarnation {
    pub(super) owner: Owner,
    pub(super) state: IncarnationState,
    /// Its place among all; none where it is new.
    pub(super) place: Option<usize>,
    /// The write that it was last answered in, and its place among the answers.
    answered: (usize, usize),
}

/// Those that are touched, in the order in which they were.
#[derive(Debug, Default)]
pub(super) struct DirtyIncarnations {
    all: Vec<DirtyIncarnation>,
    /// Their numbers, by their places among all.
    by_place: HashMap<usize, usize>,
    new: HashMap<Owner, usize>,
    last: usize,
}

impl DirtyIncarnations {
    /// The number of an incarnation, which is touched from now on.
    pub(super) fn number_of(&mut self, known: &Incarnations, owner: &Owner) -> usize {
        // a publisher's messages often come one after the other
        if self.all.get(self.last).is_some_and(|last| last.owner == *owner) {
            return self.last;
        }
        let next = self.all.len();
        let place = known.get_index_of(owner);
        let number = match place {
            Some(place) => *self.by_place.entry(place).or_insert(next),
            None => *self.new.entry_ref(owner).or_insert(next),
        };
        if number == next {
            let known = place.and_then(|place| known.get_index(place));
            let state = known.map(|(_, state)| state.clone()).unwrap_or_default();
            self.all.push(DirtyIncarnation { owner: owner.clone(), state, place, answered: (0, 0) });
        }
        self.last = number;
        number
    }

    /// One by its number.
    #[expect(clippy::indexing_slicing, reason = "its number was given out here, and none is taken away")]
    pub(super) fn get_mut(&mut self, number: usize) -> &mut DirtyIncarnation {
        &mut self.all[number]
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut DirtyIncarnation> {
        self.all.iter_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Owner, &IncarnationState)> {
        self.all.iter().map(|touched| (&touched.owner, &touched.state))
    }

    pub(super) fn into_iter(self) -> impl Iterator<Item = DirtyIncarnation> {
        self.all.into_iter()
    }
}

/// Whom one write answers, each once, and how many of its readings were refused.
#[derive(Debug)]
pub(super) struct Answers {
    /// The number of the write in its group, from 1 on.
    write: usize,
    of: Vec<(usize, u64)>,
}

impl Answers {
    pub(super) fn to_write(write: usize, entries: usize) -> Self {
        Self { write, of: Vec::with_capacity(entries) }
    }

    /// It is answered, and so many more readings of it were refused.
    pub(super) fn add(&mut self, touched: &mut DirtyIncarnations, number: usize, refused: u64) {
        let answered = &mut touched.get_mut(number).answered;
        if answered.0 != self.write {
            *answered = (self.write, self.of.len());
            self.of.push((number, 0));
        }
        if let Some((_, count)) = self.of.get_mut(answered.1) {
            *count += refused;
        }
    }

    /// What they are told.
    pub(super) fn states(self, touched: &mut DirtyIncarnations) -> Vec<DeliveryState> {
        let state = |(number, refused)| {
            let DirtyIncarnation { owner, state, .. } = touched.get_mut(number);
            state.delivery_state(owner, refused)
        };
        self.of.into_iter().map(state).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heartwatch_domain::publisher::{Incarnation, PublisherId};

    fn owner(name: &str) -> Owner {
        (PublisherId::parse(name).unwrap(), Incarnation(1))
    }

    #[test]
    fn one_in_turn_with_others_is_touched_once_known_or_new() {
        let mut known = Incarnations::default();
        for (name, stored) in [("a", 1), ("b", 2)] {
            known.insert(owner(name), IncarnationState { stored, ..IncarnationState::default() });
        }
        let mut touched = DirtyIncarnations::default();
        let numbers = ["b", "x", "a", "y", "x", "b", "y", "a"].map(|name| touched.number_of(&known, &owner(name)));
        assert_eq!(numbers, [0, 1, 2, 3, 1, 0, 3, 2]);
        let of = |touched: DirtyIncarnation| (touched.owner.0.to_string(), touched.place, touched.state.stored);
        let all: Vec<_> = touched.into_iter().map(of).collect();
        let expected = [("b", Some(1), 2), ("x", None, 0), ("a", Some(0), 1), ("y", None, 0)];
        assert_eq!(all, expected.map(|(name, place, stored)| (name.to_owned(), place, stored)));
    }

    #[test]
    fn a_write_answers_each_once_and_the_next_one_again() {
        let (known, mut touched) = (Incarnations::default(), DirtyIncarnations::default());
        let (a, b) = (touched.number_of(&known, &owner("a")), touched.number_of(&known, &owner("b")));
        for write in 1..=2 {
            let mut answers = Answers::to_write(write, 3);
            for (number, refused) in [(a, 1), (b, 0), (a, 2)] {
                answers.add(&mut touched, number, refused);
            }
            let told = answers.states(&mut touched);
            let told: Vec<_> = told.iter().map(|state| (state.publisher.as_str(), state.refused)).collect();
            assert_eq!(told, [("a", 3), ("b", 0)]);
        }
    }
}
