//! What is injected where and when: all of it from the seed, and from what is installed.

use std::time::Duration;

use super::kinds::RowFault;

/// Faults of one kind in a round of that kind alone.
const PURE_FAULTS: u32 = 5;
/// Faults of any kind in a round where they fall together.
const MIXED_FAULTS: u32 = 10;
/// Within so much time the faults of a round begin.
const WINDOW: Duration = Duration::from_millis(2_500);

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Injection {
    /// Which.
    pub fault: RowFault,
    /// Counted from the beginning of its round.
    pub after: Duration,
    /// How long until it is healed.
    pub lasting: Duration,
    /// What else is by chance: which publisher, which byte.
    pub chance: u64,
}

/// Faults that fall together; after them everything is healed and counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Round {
    /// The kind, in a round of one kind.
    pub kind: Option<RowFault>,
    /// What happens.
    pub injections: Vec<Injection>,
}

/// The rounds of each stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// In the order of the stages.
    pub stages: Vec<Vec<Round>>,
}

impl Plan {
    /// Deals `faults` out to stages, each with the kinds that are possible on it: half of them in rounds of
    /// one kind, half in rounds where kinds fall together.
    #[must_use]
    pub(super) fn new(faults: u32, seed: u64, possible: &[Vec<RowFault>]) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut deck: Vec<RowFault> = Vec::new();
        let mut stages = vec![Vec::new(); possible.len()];
        let stage_count = u32::try_from(possible.len()).unwrap_or(1).max(1);
        for (index, kinds) in possible.iter().enumerate() {
            let index_number = u32::try_from(index).unwrap_or(0);
            let mut left = faults / stage_count + u32::from(index_number < faults % stage_count);
            let mut pure = true;
            while left > 0 && !kinds.is_empty() {
                let kind = if pure { deal(&mut deck, kinds, &mut random) } else { None };
                let count = left.min(if kind.is_some() { PURE_FAULTS } else { MIXED_FAULTS });
                left -= count;
                let injections = (0..count).filter_map(|_| {
                    injection(kind.or_else(|| random.choice(kinds.iter().copied()))?, &mut random).into()
                });
                let injections = injections.collect();
                if let Some(rounds) = stages.get_mut(index) {
                    rounds.push(Round { kind, injections });
                }
                pure = !pure;
            }
        }
        Self { stages }
    }
}

/// The next kind of a shuffled deck that is possible here, so that each has its turn before one comes again.
fn deal(deck: &mut Vec<RowFault>, kinds: &[RowFault], random: &mut fastrand::Rng) -> Option<RowFault> {
    let possible = |deck: &[RowFault]| deck.iter().position(|kind| kinds.contains(kind));
    let position = possible(deck).or_else(|| {
        let mut fresh = RowFault::ALL.to_vec();
        random.shuffle(&mut fresh);
        deck.extend(fresh);
        possible(deck)
    })?;
    Some(deck.remove(position))
}

fn injection(fault: RowFault, random: &mut fastrand::Rng) -> Injection {
    let millis = |from: u64, to: Duration, random: &mut fastrand::Rng| {
        Duration::from_millis(random.u64(from..=u64::try_from(to.as_millis()).unwrap_or(from).max(from)))
    };
    let after = millis(100, WINDOW, random);
    let longest = match fault {
        // what takes time to fill
        RowFault::OutboxFull | RowFault::JournalFull => Duration::from_millis(1_500),
        _ => Duration::from_millis(800),
    };
    Injection { fault, after, lasting: millis(30, longest, random), chance: random.u64(..) }
}

#[cfg(test)]
mod tests {
    use super::super::kinds::Equipment;
    use super::*;

    fn possible() -> Vec<Vec<RowFault>> {
        let stages = [(true, false), (true, true), (false, false)];
        let kinds = |(influxdb, own_broker)| {
            let equipment = Equipment { influxdb, own_broker };
            RowFault::ALL.into_iter().filter(|kind| kind.is_possible_with(equipment)).collect()
        };
        stages.map(kinds).into()
    }

    #[test]
    fn a_seed_gives_the_same_plan_with_so_many_faults() {
        let plan = Plan::new(201, 7, &possible());
        assert_eq!(plan, Plan::new(201, 7, &possible()));
        assert_ne!(plan, Plan::new(201, 8, &possible()));
        let count: usize = plan.stages.iter().flatten().map(|round| round.injections.len()).sum();
        assert_eq!(count, 201);
        let embedded = plan.stages[0].iter().flat_map(|round| &round.injections);
        assert!(embedded.into_iter().all(|injection| !injection.fault.needs_own_broker()));
    }

    #[test]
    fn every_kind_has_its_turn() {
        let plan = Plan::new(1_000, 1, &possible());
        for kind in RowFault::ALL {
            let rounds = plan.stages.iter().flatten();
            assert!(rounds.into_iter().any(|round| round.kind == Some(kind)), "{kind:?}");
        }
    }
}
