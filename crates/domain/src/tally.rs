//! Count, average, minimum and maximum for each client and metric.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Pairs of client and metric that are counted; what comes for further ones is left out, and said.
pub const PAIRS_MAX: usize = 100_000;

/// One client's values of one metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// Their average.
    pub average: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Tally {
    const fn of(value: f64) -> Self {
        Self { count: 1, average: value, min: value, max: value }
    }

    fn add(&mut self, value: f64) {
        self.count += 1;
        // Welford: the sum of many would lose the small ones.
        self.average += (value - self.average) / self.count as f64;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }
}

/// All of them, by client and metric.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tallies {
    pairs: BTreeMap<(String, String), Tally>,
    /// Values that came for more than [`PAIRS_MAX`] pairs.
    pub left_out: u64,
}

impl Tallies {
    /// A value came.
    pub fn add(&mut self, client: &str, metric: &str, value: f64) {
        let full = self.pairs.len() >= PAIRS_MAX;
        match self.pairs.entry((client.to_owned(), metric.to_owned())) {
            Entry::Occupied(mut tally) => tally.get_mut().add(value),
            Entry::Vacant(_) if full => self.left_out += 1,
            Entry::Vacant(place) => {
                place.insert(Tally::of(value));
            }
        }
    }

    /// Client, metric and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, Tally)> {
        self.pairs.iter().map(|((client, metric), tally)| (client.as_str(), metric.as_str(), *tally))
    }

    /// Whose names are known.
    #[must_use]
    pub fn clients(&self) -> Vec<String> {
        let mut clients: Vec<String> = self.pairs.keys().map(|(client, _)| client.clone()).collect();
        clients.dedup();
        clients
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_by_client_and_metric() {
        let mut tallies = Tallies::default();
        for value in [3.0, 1.0, 2.0] {
            tallies.add("a", "cpu", value);
        }
        tallies.add("b", "cpu", -1.0);
        tallies.add("a", "memory", 7.5);
        let all: Vec<_> = tallies.iter().collect();
        assert_eq!(all[0], ("a", "cpu", Tally { count: 3, average: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!((all[1].1, all[2].0), ("memory", "b"));
        assert_eq!(tallies.clients(), ["a", "b"]);
    }
}
