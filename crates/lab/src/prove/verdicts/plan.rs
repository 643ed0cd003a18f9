//! What is injected, how often, and in which order: all of it from the seed.

use std::collections::BTreeMap;

use super::subject::Make;
use crate::args::FaultKind;

/// One in so many faults of the schedule is one that hits everybody: it takes everybody's time.
const FAULTS_A_SHARED_ONE: u32 = 100;
/// One round in which nothing is injected for so many faults.
const FAULTS_A_CONTROL: u32 = 10;

/// Whom a fault hits, which says who can carry it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
    /// One publisher alone, of this make.
    One(Make),
    /// Everybody at once: nothing else may happen meanwhile.
    Everybody,
    /// A broker of its own, with the monitor and the publishers that use it.
    Broker,
    /// A Kafka, with the monitor and the agents that are heard over it.
    Kafka,
    /// Nobody: it cannot be injected by this program.
    Nobody,
}

impl FaultKind {
    /// Every kind, in the order of the report.
    pub const ALL: [Self; 24] = [
        Self::Control,
        Self::Kill,
        Self::Zombie,
        Self::ContainerKill,
        Self::ExitSilently,
        Self::PidReuse,
        Self::Goodbye,
        Self::FalseGoodbye,
        Self::Impostor,
        Self::TwoSpeakers,
        Self::SeldomBeats,
        Self::Stop,
        Self::WedgedBeating,
        Self::WedgedSilent,
        Self::MainThreadEnded,
        Self::OutboxStall,
        Self::NetworkCut,
        Self::EveryoneSilent,
        Self::BrokerKill,
        Self::KafkaAway,
        Self::MonitorStop,
        Self::JournalStall,
        Self::CpuLoad,
        Self::ClockStep,
    ];

    /// Whom it hits.
    #[must_use]
    pub const fn reach(self) -> Reach {
        match self {
            Self::Control
            | Self::Kill
            | Self::Stop
            | Self::Goodbye
            | Self::Zombie
            | Self::OutboxStall
            | Self::NetworkCut => Reach::One(Make::Real),
            Self::ContainerKill => Reach::One(Make::Contained),
            Self::FalseGoodbye
            | Self::Impostor
            | Self::TwoSpeakers
            | Self::SeldomBeats
            | Self::ExitSilently
            | Self::PidReuse
            | Self::WedgedBeating
            | Self::WedgedSilent
            | Self::MainThreadEnded => Reach::One(Make::Faulty),
            Self::MonitorStop | Self::JournalStall | Self::CpuLoad | Self::EveryoneSilent => Reach::Everybody,
            Self::BrokerKill => Reach::Broker,
            Self::KafkaAway => Reach::Kafka,
            Self::ClockStep => Reach::Nobody,
        }
    }

    /// In words, for the report.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Control => "nothing",
            Self::Kill => "SIGKILL",
            Self::Stop => "SIGSTOP, SIGCONT",
            Self::Goodbye => "end with goodbye",
            Self::FalseGoodbye => "goodbye by mistake",
            Self::Impostor => "one word of an impostor",
            Self::TwoSpeakers => "two under one id",
            Self::SeldomBeats => "beats as seldom as its deadline",
            Self::ExitSilently => "exit 0 without goodbye",
            Self::Zombie => "zombie",
            Self::ContainerKill => "SIGKILL in a container",
            Self::PidReuse => "PID reused",
            Self::WedgedBeating => "wedged, still beating",
            Self::WedgedSilent => "wedged, doing nothing",
            Self::MainThreadEnded => "main thread ended, then wedged",
            Self::OutboxStall => "its disk stalls",
            Self::NetworkCut => "network cut",
            Self::BrokerKill => "broker killed",
            Self::KafkaAway => "Kafka killed or stopped",
            Self::MonitorStop => "SIGSTOP to the monitor",
            Self::JournalStall => "monitor's disk stalls",
            Self::ClockStep => "clock step",
            Self::CpuLoad => "CPU load",
            Self::EveryoneSilent => "everyone silent at once",
        }
    }
}

/// Faults that single publishers go through side by side, and then one that hits everybody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Act {
    /// For single publishers of each make, in order.
    pub single: BTreeMap<Make, Vec<FaultKind>>,
    /// The one that ends the act.
    pub everybody: Option<FaultKind>,
}

/// The whole schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// In order.
    pub acts: Vec<Act>,
    /// How often the other broker is killed.
    pub broker_kills: u32,
    /// How often Kafka is killed or stopped.
    pub kafka_outages: u32,
}

impl Plan {
    /// `faults` faults of these kinds in an order that follows from the seed, with controls between them.
    #[must_use]
    pub(super) fn new(faults: u32, kinds: &[FaultKind], random: &mut fastrand::Rng) -> Self {
        let single = |kind: &FaultKind| matches!(kind.reach(), Reach::One(_));
        let (singles, shared): (Vec<_>, Vec<_>) =
            kinds.iter().copied().filter(|kind| *kind != FaultKind::Control).partition(single);
        let a_shared_one = if singles.is_empty() { 1 } else { FAULTS_A_SHARED_ONE };
        let each = if singles.is_empty() {
            faults.div_ceil(u32::try_from(shared.len()).unwrap_or(u32::MAX).max(1))
        } else {
            (faults / a_shared_one).max(1)
        };
        let mut order: Vec<FaultKind> = Vec::new();
        let (mut broker_kills, mut kafka_outages) = (0, 0);
        let mut left = faults;
        for kind in &shared {
            let each = each.min(left);
            left -= each;
            match kind.reach() {
                Reach::Broker => broker_kills = each,
                Reach::Kafka => kafka_outages = each,
                _ => order.extend(std::iter::repeat_n(*kind, each as usize)),
            }
        }
        order.extend(singles.iter().cycle().take(if singles.is_empty() { 0 } else { left as usize }).copied());
        if kinds.contains(&FaultKind::Control) {
            let controls = (faults / FAULTS_A_CONTROL).max(1);
            order.extend(std::iter::repeat_n(FaultKind::Control, controls as usize));
        }
        random.shuffle(&mut order);
        let mut acts = vec![Act::default()];
        for kind in order {
            let Some(act) = acts.last_mut() else { continue };
            match kind.reach() {
                Reach::One(make) => act.single.entry(make).or_default().push(kind),
                _ => {
                    act.everybody = Some(kind);
                    acts.push(Act::default());
                }
            }
        }
        Self { acts, broker_kills, kafka_outages }
    }

    /// Rounds in all, with the controls.
    #[must_use]
    pub(super) fn rounds(&self) -> u64 {
        self.rounds_on_the_embedded_broker() + u64::from(self.broker_kills) + u64::from(self.kafka_outages)
    }

    /// Those of the acts.
    #[must_use]
    pub(super) fn rounds_on_the_embedded_broker(&self) -> u64 {
        let singles = |act: &Act| act.single.values().map(Vec::len).sum::<usize>();
        let of_act = |act: &Act| singles(act) + usize::from(act.everybody.is_some());
        self.acts.iter().map(of_act).sum::<usize>() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(plan: &Plan, kind: FaultKind) -> usize {
        let act =
            |act: &Act| act.single.values().flatten().chain(&act.everybody).filter(|found| **found == kind).count();
        plan.acts.iter().map(act).sum()
    }

    #[test]
    fn every_kind_gets_its_share_and_the_seed_says_the_order() {
        let kinds: Vec<_> = FaultKind::ALL.into_iter().filter(|kind| kind.reach() != Reach::Nobody).collect();
        let plan = |seed| Plan::new(500, &kinds, &mut fastrand::Rng::with_seed(seed));
        let one = plan(1);
        let controls = count(&one, FaultKind::Control) as u64;
        assert_eq!((one.rounds() - controls, controls), (500, 50));
        assert_eq!((one.broker_kills, one.kafka_outages), (5, 5));
        for kind in &kinds {
            let wanted = match kind.reach() {
                Reach::Everybody => 5..=5,
                Reach::Broker | Reach::Kafka => 0..=0,
                _ => 26..=55,
            };
            assert!(wanted.contains(&count(&one, *kind)), "{kind:?}: {}", count(&one, *kind));
        }
        assert_eq!(one, plan(1));
        assert_ne!(one, plan(2));
    }

    #[test]
    fn a_few_kinds_alone_are_possible() {
        let plan = |kinds: &[FaultKind]| Plan::new(40, kinds, &mut fastrand::Rng::with_seed(1));
        assert_eq!(count(&plan(&[FaultKind::Kill]), FaultKind::Kill), 40);
        assert_eq!(plan(&[FaultKind::MonitorStop]).acts.len(), 41);
        assert_eq!(plan(&[FaultKind::BrokerKill]).broker_kills, 40);
        assert_eq!(plan(&[]).rounds(), 0);
    }
}
