//! What other deadlines would have said of a real run: its arrivals are lived through again.
//!
//! The truth is what the run's own verdicts say. A silence of which the history says nothing bad was
//! none of the publisher's fault, or none at all: a deadline that would have fired in it is too short.

use std::time::Duration;

use serde::Serialize;

use crate::time::Timestamp;
use crate::verdict::{Change, Verdict};

/// What one publisher sent, and what was said of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordedRun {
    /// When it was heard, in any order.
    pub arrivals: Vec<Timestamp>,
    /// Its verdict changes, oldest first.
    pub changes: Vec<Change>,
}

/// What a deadline would have done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeadlineOutcome {
    /// The deadline.
    pub deadline_ms: u64,
    /// Silences that were longer.
    pub fired: u64,
    /// Those in which the history says that something was wrong.
    pub truly: u64,
    /// Those of which it says nothing bad.
    pub falsely: u64,
    /// Those in which the monitor doubted itself: nobody knows.
    pub doubted: u64,
    /// Bad verdicts of the history in whose silence it would not have fired.
    pub missed: u64,
    /// Of those that were true: how much sooner than the verdict it would have fired, half of them at
    /// least; negative when the verdict was there first. None when there were none.
    pub sooner_median_ms: Option<f64>,
    /// The largest of the same.
    pub sooner_max_ms: Option<f64>,
}

/// A stretch of time in which no sign of life came.
struct Silence {
    from: Timestamp,
    /// None at the end of the record.
    to: Option<Timestamp>,
    /// The first bad verdict that was decided in it.
    bad: Option<Timestamp>,
    left: bool,
    doubted: bool,
}

/// Lives through the runs under each deadline; `end` is when the record ends.
#[must_use]
pub fn backtest(runs: &mut [RecordedRun], deadlines: &[Duration], end: Timestamp) -> Vec<DeadlineOutcome> {
    let silences: Vec<Silence> = runs.iter_mut().flat_map(silences).collect();
    deadlines.iter().map(|deadline| outcome(&silences, *deadline, end)).collect()
}

fn silences(run: &mut RecordedRun) -> Vec<Silence> {
    run.arrivals.sort_unstable();
    run.arrivals.dedup();
    let ends = run.arrivals.iter().skip(1).copied().map(Some).chain([None]);
    let mut silences: Vec<Silence> = run
        .arrivals
        .iter()
        .zip(ends)
        .map(|(from, to)| Silence { from: *from, to, bad: None, left: false, doubted: false })
        .collect();
    for change in &run.changes {
        let after = silences.partition_point(|silence| silence.from <= change.decided_at);
        let Some(silence) = after.checked_sub(1).and_then(|index| silences.get_mut(index)) else { continue };
        match change.to {
            Verdict::Unknown => silence.doubted = true,
            Verdict::Ended => silence.left = true,
            // A wedge that beats is no silence.
            verdict if verdict.level() >= 2 && change.from.level() < 2 => {
                silence.bad.get_or_insert(change.decided_at);
            }
            _ => {}
        }
    }
    silences
}

fn outcome(silences: &[Silence], deadline: Duration, end: Timestamp) -> DeadlineOutcome {
    let (mut fired, mut truly, mut falsely, mut doubted, mut missed) = (0, 0, 0, 0, 0);
    let mut sooner = Vec::new();
    for silence in silences {
        let fires_at = silence.from + deadline;
        if silence.left {
            continue;
        }
        if fires_at >= silence.to.unwrap_or(end) {
            missed += u64::from(silence.bad.is_some());
            continue;
        }
        fired += 1;
        match silence.bad {
            Some(decided_at) => {
                truly += 1;
                sooner.push(decided_at.as_nanos().saturating_sub(fires_at.as_nanos()));
            }
            None if silence.doubted => doubted += 1,
            None => falsely += 1,
        }
    }
    sooner.sort_unstable();
    let millis = |nanos: &i64| *nanos as f64 / 1e6;
    DeadlineOutcome {
        deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
        fired,
        truly,
        falsely,
        doubted,
        missed,
        sooner_median_ms: sooner.get(sooner.len() / 2).map(millis),
        sooner_max_ms: sooner.last().map(millis),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::publisher::{HostName, PublisherId};
    use crate::verdict::Trigger;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos(0) + Duration::from_millis(millis)
    }

    fn change(millis: u64, from: Verdict, to: Verdict) -> Change {
        Change {
            epoch: millis,
            publisher: PublisherId::parse("p").unwrap(),
            host: HostName::parse("h").unwrap(),
            from,
            to,
            at: at(millis),
            decided_at: at(millis),
            trigger: Trigger::Deadline,
            summary: String::new(),
            evidence: Vec::new(),
            process: None,
            maintenance: false,
            flapping: None,
            because: None,
        }
    }

    fn run() -> RecordedRun {
        use Verdict::{Alive, Dead, Ended, Late, Silent, Unknown};
        RecordedRun {
            arrivals: [0, 1_000, 4_000, 5_000, 15_000, 16_000, 30_000, 31_000].map(at).to_vec(),
            changes: vec![
                change(2_500, Alive, Late),
                change(10_000, Late, Silent),
                change(15_000, Silent, Alive),
                change(21_000, Late, Unknown),
                change(30_000, Unknown, Alive),
                change(31_500, Alive, Dead),
                change(31_600, Dead, Ended),
            ],
        }
    }

    #[test]
    fn shorter_deadlines_fire_sooner_and_more_often_in_vain() {
        // Gaps: 3 s (nothing was wrong), 10 s (silent, said after 5 s), 14 s (doubted), and the end.
        let mut dies = run();
        dies.changes.pop();
        let deadlines = [2, 4, 12].map(Duration::from_secs);
        let out = backtest(&mut [dies, RecordedRun::default()], &deadlines, at(60_000));
        let figures = |outcome: &DeadlineOutcome| {
            (outcome.fired, outcome.truly, outcome.falsely, outcome.doubted, outcome.missed)
        };
        assert_eq!(figures(&out[0]), (4, 2, 1, 1, 0));
        assert_eq!((out[0].sooner_median_ms, out[0].sooner_max_ms), (Some(3_000.0), Some(3_000.0)));
        assert_eq!(figures(&out[1]), (3, 2, 0, 1, 0));
        assert_eq!(out[1].sooner_max_ms, Some(1_000.0));
        assert_eq!(figures(&out[2]), (2, 1, 0, 1, 1), "it would have slept through one");
        assert_eq!(out[2].sooner_median_ms, Some(-11_500.0), "its process was seen to end long before");
        let left = backtest(&mut [run()], &deadlines, at(60_000));
        assert_eq!(left[0].fired, 3, "who said goodbye is no longer expected");
    }

    proptest! {
        /// Whatever came and was said: a longer deadline fires no more often, misses no less, and every
        /// silence in which one fires is of one kind.
        #[test]
        fn a_longer_deadline_fires_no_more_often(
            gaps in prop::collection::vec(1_u64..20_000, 1..100),
            said in prop::collection::vec((0_u64..1_000_000, 0_usize..10, 0_usize..10), 0..30),
        ) {
            let mut now = 0;
            let arrivals = gaps.iter().map(|gap| { now += gap; at(now) }).collect();
            let mut said = said;
            said.sort_unstable();
            let changes = said.iter().map(|(when, from, to)| change(*when, Verdict::ALL[*from], Verdict::ALL[*to]));
            let mut runs = [RecordedRun { arrivals, changes: changes.collect() }];
            let deadlines: Vec<_> = (1..20).map(Duration::from_secs).collect();
            let out = backtest(&mut runs, &deadlines, at(now + 5_000));
            for outcome in &out {
                prop_assert_eq!(outcome.fired, outcome.truly + outcome.falsely + outcome.doubted);
                prop_assert_eq!(outcome.truly + outcome.missed, out[0].truly + out[0].missed);
            }
            for pair in out.windows(2) {
                prop_assert!(pair[1].fired <= pair[0].fired && pair[1].missed >= pair[0].missed);
            }
        }
    }
}
