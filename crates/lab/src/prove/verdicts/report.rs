//! What came out, for a person and for a program: the confusion matrix, precision and recall, how fast,
//! what was skipped, and whether the limits hold.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::finding::{Finding, Truth};
use super::plan::Reach;
use crate::args::{FaultKind, ProveArgs};
use heartwatch_console::paint;
use heartwatch_console::tables::Drawing;
use heartwatch_domain::simulation::SimulationResult;
use heartwatch_domain::time::{Monotonic, describe_duration};
use heartwatch_domain::verdict::Verdict;

/// Most wrong findings that are told one by one.
const WRONG_TOLD_MAX: usize = 50;

/// How long something took, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Latency {
    /// How often it was measured.
    pub count: usize,
    /// The shortest.
    pub min_ms: f64,
    /// Half of them took at most so long.
    pub median_ms: f64,
    /// 99 of 100 took at most so long (the nearest rank: of fewer than 100, the longest).
    pub p99_ms: f64,
}

impl Latency {
    fn of(mut all: Vec<Duration>) -> Option<Self> {
        all.sort_unstable();
        let rank = |hundredths: usize| {
            let index = (all.len() * hundredths).div_ceil(100).max(1) - 1;
            all.get(index).map(|latency| latency.as_secs_f64() * 1_000.0)
        };
        let first = all.first()?.as_secs_f64() * 1_000.0;
        Some(Self { count: all.len(), min_ms: first, median_ms: rank(50)?, p99_ms: rank(99)? })
    }
}

/// One line of the confusion matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct MatrixLine {
    /// What was true.
    pub truth: Truth,
    /// How often the monitor said what.
    pub verdicts: BTreeMap<Verdict, u64>,
}

/// How good one verdict is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Quality {
    pub verdict: Verdict,
    /// How often it was given.
    pub given: u64,
    /// How often it would have been right to give it.
    pub due: u64,
    /// Of those given, how many were right; none when it was never given.
    pub precision: Option<f64>,
    /// Of those due, how many were given; none when it was never due.
    pub recall: Option<f64>,
}

/// What came of one kind of fault.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct OfFault {
    /// Which.
    pub fault: FaultKind,
    /// How many publishers were judged for it, recoveries included.
    pub judged: u64,
    /// How many of those wrongly.
    pub wrong: u64,
    /// From the injection to the right verdict.
    pub latency: Option<Latency>,
}

/// A verdict that was wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Wrong {
    /// What was done.
    pub fault: FaultKind,
    /// To whom.
    pub publisher: String,
    /// What was true.
    pub truth: Truth,
    /// What was said.
    pub verdict: Verdict,
    /// Why it is wrong.
    pub why: String,
}

/// One limit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Limit {
    /// What is limited.
    pub what: &'static str,
    /// The most that is allowed.
    pub at_most: String,
    /// What came out.
    pub measured: String,
    /// Whether it holds.
    pub holds: bool,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Report {
    /// The order follows from it.
    pub seed: u64,
    /// Faults that were to be injected.
    pub faults: u32,
    /// Publishers side by side.
    pub publishers: u16,
    /// Their deadline.
    pub deadline_ms: u128,
    /// Their heartbeats.
    pub heartbeat_ms: u128,
    /// How long it took.
    pub took_ms: u128,
    /// True state × verdict.
    pub matrix: Vec<MatrixLine>,
    /// Each verdict.
    pub verdicts: Vec<Quality>,
    /// Each kind of fault.
    pub by_fault: Vec<OfFault>,
    /// From a deadline to the verdict that was due.
    pub deadline_to_verdict: Option<Latency>,
    /// The same, where the monitor doubted itself at the deadline, said so, and judged when the doubt ended.
    pub held_by_doubt: Option<Latency>,
    /// What was wrong, one by one.
    pub wrong: Vec<Wrong>,
    /// What was not injected, and why.
    pub skipped: BTreeMap<FaultKind, String>,
    /// What was said in a simulated world of publishers; none where it was left out.
    pub simulation: Option<SimulationResult>,
    pub limits: Vec<Limit>,
    /// Whether all of them hold.
    pub passed: bool,
}

impl Report {
    /// Counts.
    #[must_use]
    pub(super) fn new(
        args: &ProveArgs,
        findings: &[Finding],
        skipped: BTreeMap<FaultKind, String>,
        simulation: Option<SimulationResult>,
        took: Monotonic,
    ) -> Self {
        let matrix: Vec<_> = Truth::ALL.into_iter().filter_map(|truth| matrix_line(truth, findings)).collect();
        let latencies = |kind: FaultKind| {
            let of_kind = findings.iter().filter(|finding| finding.fault == kind);
            of_kind.filter_map(|finding| finding.latency).collect::<Vec<_>>()
        };
        // While the machine is overloaded or the monitor stopped on purpose, nobody is on time.
        let undisturbed =
            findings.iter().filter(|finding| !matches!(finding.fault, FaultKind::CpuLoad | FaultKind::MonitorStop));
        let deadline_to_verdict = Latency::of(undisturbed.flat_map(|finding| finding.deadlines.clone()).collect());
        let held_by_doubt = Latency::of(findings.iter().flat_map(|finding| finding.held.clone()).collect());
        let mut limits = limits(args, findings, Latency::of(latencies(FaultKind::Kill)), deadline_to_verdict);
        limits.extend(simulation.iter().flat_map(|simulated| {
            [
                none("false verdicts in simulated publisher-hours", simulated.false_verdicts),
                none("deaths and silences missed in simulated publisher-hours", simulated.missed_deaths),
                none("false notifications there", simulated.false_notifications),
                none("notifications missed there", simulated.missed_notifications),
                none("notifications doubled there", simulated.doubled_notifications),
            ]
        }));
        let by_fault = FaultKind::ALL.into_iter().filter_map(|fault| {
            let of_kind = findings.iter().filter(|finding| finding.fault == fault);
            let judged = of_kind.clone().count() as u64;
            let wrong = of_kind.filter(|finding| finding.is_wrong()).count() as u64;
            (judged > 0).then(|| OfFault { fault, judged, wrong, latency: Latency::of(latencies(fault)) })
        });
        Self {
            seed: args.seed,
            faults: args.faults,
            publishers: args.publishers(),
            deadline_ms: args.deadline.as_millis(),
            heartbeat_ms: args.heartbeat.as_millis(),
            took_ms: took.since(Monotonic::START).as_millis(),
            verdicts: qualities(&matrix),
            by_fault: by_fault.collect(),
            deadline_to_verdict,
            held_by_doubt,
            wrong: findings.iter().filter_map(wrong).collect(),
            skipped,
            simulation,
            passed: limits.iter().all(|limit| limit.holds),
            limits,
            matrix,
        }
    }

    /// For a person.
    #[must_use]
    pub(super) fn text(&self, drawing: Drawing) -> String {
        let heading = |text: &str| if drawing.colour { paint::bold(text) } else { text.to_owned() };
        let duration =
            |millis: u128| describe_duration(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)));
        let mut text = format!(
            "{} faults in the order of seed {}, {} publishers, deadline {}, heartbeats every {}, in {}\n",
            self.faults,
            self.seed,
            self.publishers,
            duration(self.deadline_ms),
            duration(self.heartbeat_ms),
            duration(self.took_ms),
        );
        let _ = write!(
            text,
            "\n{}\n{}",
            heading("What was true (lines) and what the monitor said (columns)"),
            self.matrix_table()
        );
        let _ = write!(text, "\n{}\n{}", heading("Each verdict"), self.verdict_table());
        let _ =
            write!(text, "\n{}\n{}", heading("Each fault: from its injection to its verdict, ms"), self.fault_table());
        if let Some(latency) = self.deadline_to_verdict {
            let Latency { count, min_ms, median_ms, p99_ms } = latency;
            let _ = writeln!(
                text,
                "\nFrom a deadline to its verdict, {count} times: min {min_ms:.1} ms, median {median_ms:.1} ms, p99 {p99_ms:.1} ms"
            );
        }
        if let Some(latency) = self.held_by_doubt {
            let Latency { count, min_ms, median_ms, p99_ms } = latency;
            let _ = writeln!(
                text,
                "Held by doubt (unknown at the deadline, judged when the doubt ended), {count} times: min {min_ms:.1} ms, median {median_ms:.1} ms, p99 {p99_ms:.1} ms"
            );
        }
        for (fault, why) in &self.skipped {
            let _ = writeln!(text, "\nskipped: {}: {why}", fault.words());
        }
        for wrong in self.wrong.iter().take(WRONG_TOLD_MAX) {
            let Wrong { fault, publisher, truth, verdict, why } = wrong;
            let (fault, truth) = (fault.words(), truth.words());
            let _ = writeln!(text, "\nwrong: {fault}: {publisher} was {truth}, and was called {verdict}: {why}");
        }
        if self.wrong.len() > WRONG_TOLD_MAX {
            let _ = writeln!(text, "\n… and {} more; --json has all", self.wrong.len() - WRONG_TOLD_MAX);
        }
        let _ = writeln!(text, "\n{}", heading("Limits"));
        for Limit { what, at_most, measured, holds } in &self.limits {
            let held = if *holds { "holds" } else { "BROKEN" };
            let _ = writeln!(text, "{held:<7} {what}: {measured} (at most {at_most})");
        }
        if let Some(simulation) = &self.simulation {
            let _ = writeln!(text, "\n{simulation}");
        }
        text
    }

    fn matrix_table(&self) -> String {
        let said: Vec<_> = Verdict::ALL.into_iter().filter(|verdict| self.said(*verdict) > 0).collect();
        let header = std::iter::once("").chain(said.iter().map(|verdict| verdict.as_str()));
        table(
            header,
            self.matrix.iter().map(|line| {
                let counts = said.iter().map(|verdict| match line.verdicts.get(verdict) {
                    Some(count) => count.to_string(),
                    None => "·".to_owned(),
                });
                std::iter::once(line.truth.words().to_owned()).chain(counts).collect()
            }),
        )
    }

    fn said(&self, verdict: Verdict) -> u64 {
        self.matrix.iter().filter_map(|line| line.verdicts.get(&verdict)).sum()
    }

    fn verdict_table(&self) -> String {
        let percent =
            |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{:.2} %", share * 100.0));
        table(
            ["", "given", "due", "precision", "recall"],
            self.verdicts.iter().map(|quality| {
                let Quality { verdict, given, due, precision, recall } = quality;
                vec![verdict.to_string(), given.to_string(), due.to_string(), percent(*precision), percent(*recall)]
            }),
        )
    }

    fn fault_table(&self) -> String {
        table(
            ["", "judged", "wrong", "min", "median", "p99"],
            self.by_fault.iter().map(|of| {
                let mut line = vec![of.fault.words().to_owned(), of.judged.to_string(), of.wrong.to_string()];
                line.extend(match of.latency {
                    Some(latency) => {
                        [latency.min_ms, latency.median_ms, latency.p99_ms].map(|millis| format!("{millis:.1}"))
                    }
                    None => ["-"; 3].map(str::to_owned),
                });
                line
            }),
        )
    }
}

/// The skipped ones in one line.
#[must_use]
pub(super) fn said_skipped(skipped: &BTreeMap<FaultKind, String>) -> String {
    skipped.iter().map(|(fault, why)| format!("{}: {why}", fault.words())).collect::<Vec<_>>().join("; ")
}

fn matrix_line(truth: Truth, findings: &[Finding]) -> Option<MatrixLine> {
    let mut verdicts = BTreeMap::new();
    for finding in findings.iter().filter(|finding| finding.truth == truth) {
        *verdicts.entry(finding.verdict).or_insert(0) += 1;
    }
    (!verdicts.is_empty()).then_some(MatrixLine { truth, verdicts })
}

fn qualities(matrix: &[MatrixLine]) -> Vec<Quality> {
    let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
    // Where the monitor was disturbed, `alive` and `unknown` are both right: that line counts for neither.
    let told = |line: &&MatrixLine| line.truth != Truth::Disturbed;
    let of = |truth: Truth| {
        let verdict = truth.verdict();
        let given = matrix.iter().filter(told).filter_map(|line| line.verdicts.get(&verdict)).sum();
        let line = matrix.iter().find(|line| line.truth == truth);
        let due = line.map_or(0, |line| line.verdicts.values().sum());
        let right = line.and_then(|line| line.verdicts.get(&verdict)).copied().unwrap_or(0);
        Quality { verdict, given, due, precision: share(right, given), recall: share(right, due) }
    };
    Truth::ALL
        .into_iter()
        .filter(|truth| *truth != Truth::Disturbed)
        .map(of)
        .filter(|quality| quality.given + quality.due > 0)
        .collect()
}

fn wrong(finding: &Finding) -> Option<Wrong> {
    (finding.is_wrong()).then(|| Wrong {
        fault: finding.fault,
        publisher: finding.publisher.to_string(),
        truth: finding.truth,
        verdict: finding.verdict,
        why: finding.objection.clone().unwrap_or_default(),
    })
}

fn none(what: &'static str, measured: u64) -> Limit {
    Limit { what, at_most: "0".to_owned(), measured: measured.to_string(), holds: measured == 0 }
}

fn limits(args: &ProveArgs, findings: &[Finding], kill: Option<Latency>, deadline: Option<Latency>) -> Vec<Limit> {
    let count = |counts: &dyn Fn(&Finding) -> bool| findings.iter().filter(|finding| counts(finding)).count() as u64;
    let is_false_dead = |finding: &Finding| finding.verdict == Verdict::Dead && finding.truth != Truth::Dead;
    let is_missed = |finding: &Finding| !finding.truth.is_well() && finding.verdict != finding.truth.verdict();
    let is_false_alarm =
        |finding: &Finding| finding.fault.reach() != Reach::Nobody && finding.truth.is_well() && finding.is_wrong();
    let mut limits = vec![
        none("false verdicts of dead", count(&is_false_dead)),
        none("faults missed or called something else", count(&is_missed)),
        none("false verdicts on publishers that were well", count(&is_false_alarm)),
        none(
            "doubts that were not said",
            count(&|finding| finding.truth == Truth::NotToBeKnown && finding.objection.is_some()),
        ),
    ];
    let timed = [
        ("SIGKILL to its verdict, p99", args.kill_p99_max, kill),
        ("deadline to its verdict, p99", args.deadline_p99_max, deadline),
    ];
    for (what, at_most, latency) in timed {
        if let (false, Some(latency)) = (at_most.is_zero(), latency) {
            limits.push(Limit {
                what,
                at_most: describe_duration(at_most),
                measured: format!("{:.1} ms", latency.p99_ms),
                holds: latency.p99_ms <= at_most.as_secs_f64() * 1_000.0,
            });
        }
    }
    limits
}

fn table<'a>(header: impl IntoIterator<Item = &'a str>, lines: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(header);
    for line in lines {
        table.add_row(line);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let text = table.to_string();
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}
