//! What of a demo is not as its scenario says: on the way, and at the end.

use super::publishers::FIXTURES;
use crate::roles::cli::Scenario;
use heartwatch_domain::evidence::EvidenceKind;
use heartwatch_domain::verdict::{Change, Verdict};
use heartwatch_formats::api::StatusView;

/// What the story has told so far.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub changes: Vec<Change>,
    /// Changes that came faster than they could be told.
    pub missed: u64,
}

/// The verdicts of [`FIXTURES`] at the end.
const fn verdicts_of(scenario: Scenario) -> [Verdict; 2] {
    match scenario {
        Scenario::BothWork => [Verdict::Alive, Verdict::Alive],
        Scenario::OneKilled => [Verdict::Dead, Verdict::Alive],
        Scenario::BothKilled => [Verdict::Dead, Verdict::Dead],
    }
}

/// What happened on the way that the scenario has not: a survivor that was ever taken for anything
/// but alive or late, a death without its evidence.
pub(super) fn story_mismatches(scenario: Scenario, told: &Told) -> Vec<String> {
    let mut mismatches = Vec::new();
    if told.missed > 0 {
        mismatches.push(format!("{} changes of verdicts were not seen", told.missed));
    }
    for ((name, _), end) in FIXTURES.iter().zip(verdicts_of(scenario)) {
        for change in told.changes.iter().filter(|change| change.publisher.as_str() == *name) {
            let fits = match change.to {
                Verdict::Alive | Verdict::Late => true,
                Verdict::Dead => end == Verdict::Dead,
                _ => false,
            };
            let at = change.decided_at.time_of_day();
            if !fits {
                mismatches.push(format!("{name} was taken for {} at {at}: {}", change.to, change.summary));
            }
            let proved = change
                .evidence
                .iter()
                .any(|evidence| matches!(evidence.kind, EvidenceKind::Process | EvidenceKind::Exit));
            if fits && change.to == Verdict::Dead && !proved {
                mismatches.push(format!("{name} was called dead at {at} without evidence of its process"));
            }
        }
    }
    mismatches
}

/// What of this status is not the scenario's.
pub(super) fn mismatches(scenario: Scenario, view: &StatusView) -> Vec<String> {
    let mut mismatches = Vec::new();
    for ((name, _), verdict) in FIXTURES.iter().zip(verdicts_of(scenario)) {
        match view.publishers.iter().find(|publisher| publisher.id.as_str() == *name) {
            None => mismatches.push(format!("{name} is not known")),
            Some(publisher) if publisher.verdict != verdict => {
                mismatches
                    .push(format!("{name} should be {verdict} and is {}: {}", publisher.verdict, publisher.summary));
            }
            Some(publisher) if publisher.ledger.received == 0 => mismatches.push(format!("no reading of {name} came")),
            Some(publisher) if publisher.ledger.lost > 0 => {
                mismatches.push(format!("{} readings of {name} are lost", publisher.ledger.lost));
            }
            Some(_) => {}
        }
    }
    if view.publishers.len() != FIXTURES.len() {
        mismatches.push(format!("{} publishers are known instead of {}", view.publishers.len(), FIXTURES.len()));
    }
    mismatches
}

#[cfg(test)]
mod tests {
    use super::*;
    use heartwatch_domain::evidence::Evidence;
    use heartwatch_domain::ledger::Account;
    use heartwatch_domain::publisher::{HostName, PublisherId};
    use heartwatch_domain::time::Timestamp;
    use heartwatch_domain::verdict::Trigger;
    use heartwatch_formats::api::PublisherView;

    fn view(verdicts: [Verdict; 2]) -> StatusView {
        let publisher = |(name, verdict): (&str, Verdict)| PublisherView {
            id: PublisherId::parse(name).unwrap(),
            host: HostName::parse("here").unwrap(),
            pid: None,
            verdict,
            since: Timestamp::default(),
            last_seen: None,
            deadline_ms: 5_000,
            deadline_kind: String::new(),
            deadline_basis: None,
            maintenance: None,
            flapping: false,
            because: None,
            summary: String::new(),
            child: None,
            ledger: Account { received: 1, ..Account::default() },
        };
        let publishers = FIXTURES.iter().map(|(name, _)| *name).zip(verdicts).map(publisher).collect();
        StatusView { publishers, ..StatusView::default() }
    }

    #[test]
    fn only_the_scenarios_own_verdicts_pass() {
        use Verdict::{Alive, Dead, Silent};
        let table = [
            (Scenario::BothWork, [Alive, Alive]),
            (Scenario::OneKilled, [Dead, Alive]),
            (Scenario::BothKilled, [Dead, Dead]),
        ];
        for (scenario, right) in table {
            assert_eq!(mismatches(scenario, &view(right)), Vec::<String>::new());
            for wrong in [[Alive, Dead], [Dead, Silent], [Silent, Alive]] {
                assert!(!mismatches(scenario, &view(wrong)).is_empty(), "{scenario:?} {wrong:?}");
            }
        }
    }

    fn change(to: Verdict, evidence: Vec<Evidence>) -> Change {
        Change {
            epoch: 1,
            publisher: PublisherId::parse("light-2").unwrap(),
            host: HostName::parse("here").unwrap(),
            from: Verdict::Alive,
            to,
            at: Timestamp::default(),
            decided_at: Timestamp::default(),
            trigger: Trigger::Deadline,
            summary: format!("{to}: so"),
            evidence,
            process: None,
            maintenance: false,
            flapping: None,
            because: None,
        }
    }

    #[test]
    fn a_survivor_that_was_doubted_on_the_way_fails_the_scenario() {
        let told = |to, evidence| Told { changes: vec![change(to, evidence)], missed: 0 };
        let proof = || vec![Evidence::new(EvidenceKind::Process, "PID 812 is gone")];
        assert_eq!(story_mismatches(Scenario::OneKilled, &told(Verdict::Late, vec![])), Vec::<String>::new());
        for wrong in [Verdict::Dead, Verdict::Silent, Verdict::Unknown, Verdict::Ended] {
            let mismatches = story_mismatches(Scenario::OneKilled, &told(wrong, proof()));
            assert_eq!(mismatches.len(), 1, "{wrong}: {mismatches:?}");
        }
        assert!(story_mismatches(Scenario::BothKilled, &told(Verdict::Dead, proof())).is_empty());
        assert_eq!(story_mismatches(Scenario::BothKilled, &told(Verdict::Dead, vec![])).len(), 1);
        assert_eq!(story_mismatches(Scenario::BothWork, &Told { changes: vec![], missed: 1 }).len(), 1);
    }
}
