//! What came out: for each kind of fault, how many rows were produced, stored, doubled and lost.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::kinds::RowFault;
use super::play::{Findings, RoundOutcome};
use super::tally::Tally;
use crate::args::ProveArgs;
use heartwatch_console::tables::Drawing;
use heartwatch_domain::time::describe_duration;

/// Most complaints that are told.
const COMPLAINTS_TOLD_MAX: usize = 60;
/// The exit code when nothing is wrong with the rows, and the laboratory could not do everything.
const EXIT_INCOMPLETE: u8 = 3;

/// The rounds of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(super) struct OfKind {
    /// Faults injected.
    pub injected: u64,
    /// What was counted in those rounds.
    #[serde(flatten)]
    pub tally: Tally,
    /// The longest time from healing until every row was stored or named, in milliseconds.
    pub settled_within_ms: u64,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    /// The plan follows from it.
    pub seed: u64,
    /// Faults injected.
    pub faults: u32,
    /// Where rows end up: `influxdb` or `embedded`. On the stage `kept-here` it is always the monitor's journal.
    pub store: &'static str,
    pub brokers: Vec<&'static str>,
    pub stages: Vec<&'static str>,
    /// How long it took, in seconds.
    pub seconds: u64,
    /// By kind, in rounds of that kind alone.
    pub kinds: BTreeMap<RowFault, OfKind>,
    /// Rounds in which faults of any kind fall together.
    pub mixed: OfKind,
    /// How often each kind fell in those.
    pub mixed_kinds: BTreeMap<RowFault, u64>,
    /// Everything together.
    pub total: OfKind,
    /// What could not be injected, and why.
    pub skipped: BTreeMap<RowFault, &'static str>,
    /// What is wrong.
    pub complaints: Vec<String>,
    /// What the laboratory could not do: the run went on without it.
    pub laboratory: Vec<String>,
    /// Faults that were not injected, because a stage had ended.
    pub not_injected: u64,
    /// Whether nothing is lost unnamed, nothing doubled, nothing else wrong, and everything was injected and counted.
    pub passed: bool,
}

impl OfKind {
    fn add(&mut self, outcome: &RoundOutcome) {
        self.injected += outcome.round.injections.len() as u64;
        self.tally = self.tally.plus(outcome.tally);
        let settled = u64::try_from(outcome.settled_within.as_millis()).unwrap_or(u64::MAX);
        self.settled_within_ms = self.settled_within_ms.max(settled);
    }
}

impl Report {
    /// The sum of all rounds.
    #[must_use]
    pub(super) fn new(
        args: &ProveArgs,
        (store, stages): (&'static str, Vec<&'static str>),
        findings: Vec<Findings>,
        skipped: BTreeMap<RowFault, &'static str>,
        took: Duration,
    ) -> Self {
        let (mut kinds, mut mixed_kinds) = (BTreeMap::<RowFault, OfKind>::new(), BTreeMap::new());
        let (mut mixed, mut total) = (OfKind::default(), OfKind::default());
        for outcome in findings.iter().flat_map(|found| &found.outcomes) {
            total.add(outcome);
            match outcome.round.kind {
                Some(kind) => kinds.entry(kind).or_default().add(outcome),
                None => {
                    mixed.add(outcome);
                    for injection in &outcome.round.injections {
                        *mixed_kinds.entry(injection.fault).or_default() += 1;
                    }
                }
            }
        }
        // what was lost in one round may have been found in a later one
        total.tally = findings.iter().fold(Tally::default(), |sum, found| sum.plus(found.tally));
        let not_injected = findings.iter().map(|found| found.not_injected).sum();
        let (complaints, laboratory): (Vec<_>, Vec<_>) =
            findings.into_iter().map(|found| (found.complaints, found.laboratory)).unzip();
        let (complaints, laboratory) = (complaints.concat(), laboratory.concat());
        Self {
            seed: args.seed,
            faults: args.faults,
            store,
            brokers: stages.iter().copied().filter(|stage| *stage != "kept-here").collect(),
            stages,
            seconds: took.as_secs(),
            kinds,
            mixed,
            mixed_kinds,
            total,
            skipped,
            passed: complaints.is_empty() && laboratory.is_empty() && total.tally.is_whole(),
            complaints,
            laboratory,
            not_injected,
        }
    }

    /// 0 where everything was injected, counted and whole; 1 where something is wrong with the rows; 3 where nothing is,
    /// and the laboratory could not do everything.
    #[must_use]
    pub(super) const fn exit_code(&self) -> u8 {
        match (self.passed, self.complaints.is_empty() && self.total.tally.is_whole()) {
            (true, _) => 0,
            (false, true) => EXIT_INCOMPLETE,
            (false, false) => 1,
        }
    }

    /// For a person.
    #[must_use]
    pub(super) fn text(&self, drawing: Drawing) -> String {
        let mut table = Table::new();
        table.load_style(NOTHING);
        if let Some(width) = drawing.width {
            table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
            table.set_width(width);
        }
        table.set_header([
            "FAULT",
            "INJECTED",
            "PRODUCED",
            "STORED",
            "DOUBLED",
            "LOST, NAMED",
            "EXPIRED",
            "LOST, UNNAMED",
            "WHOLE WITHIN",
        ]);
        for (kind, of_kind) in &self.kinds {
            add_line(&mut table, kind.words(), of_kind);
        }
        add_line(&mut table, "several at once", &self.mixed);
        add_line(&mut table, "total", &self.total);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = String::new();
        for line in table.to_string().lines() {
            let _ = writeln!(text, "{}", line.trim_end());
        }
        let _ = writeln!(
            text,
            "\nseed {}, {} faults in {}, stages: {}, rows counted in: {}",
            self.seed,
            self.total.injected,
            describe_duration(Duration::from_secs(self.seconds)),
            self.stages.join(", "),
            self.store
        );
        if !self.mixed_kinds.is_empty() {
            let kinds: Vec<_> =
                self.mixed_kinds.iter().map(|(kind, count)| format!("{} {count}", kind.words())).collect();
            let _ = writeln!(text, "several at once: {}", kinds.join(", "));
        }
        let Tally {
            found_after_all,
            never_kept,
            known_from_store,
            overstated,
            again_after_damage,
            in_anothers_place,
            ..
        } = self.total.tally;
        for (count, what) in [
            (
                found_after_all,
                "rows that the ledger calls lost are in the store after all: damage took only their record",
            ),
            (
                never_kept,
                "readings were in a commit that a kill interrupted, and their file was damaged right after: they do not count as produced",
            ),
            (
                known_from_store,
                "rows are known from the store alone: their publisher's outbox could not be read at its end",
            ),
            (
                overstated,
                "rows are called stored by the ledger, and are not in the store: damage took more than their account",
            ),
            (
                in_anothers_place,
                "readings got lost on their way while somebody else had used their number: the confirmation was for the other one",
            ),
            (
                again_after_damage,
                "messages of a device are there a second time: damage took the record of them before their broker knew that the monitor had them",
            ),
        ] {
            if count > 0 {
                let _ = writeln!(text, "{count} {what}");
            }
        }
        for (kind, reason) in &self.skipped {
            let _ = writeln!(text, "skipped: {}: {reason}", kind.words());
        }
        for complaint in self.complaints.iter().take(COMPLAINTS_TOLD_MAX) {
            let _ = writeln!(text, "wrong: {complaint}");
        }
        let more = self.complaints.len().saturating_sub(COMPLAINTS_TOLD_MAX);
        if more > 0 {
            let _ = writeln!(text, "wrong: and {more} more, see --json");
        }
        for trouble in self.laboratory.iter().take(COMPLAINTS_TOLD_MAX) {
            let _ = writeln!(text, "laboratory: {trouble}");
        }
        if self.not_injected > 0 {
            let _ = writeln!(text, "{} faults were not injected", self.not_injected);
        }
        let verdict = if self.exit_code() == EXIT_INCOMPLETE {
            "INCOMPLETE: nothing is wrong with the rows that were counted"
        } else if self.passed {
            "passed: every row is in the store once, or lost by name"
        } else {
            "FAILED"
        };
        let _ = writeln!(text, "{verdict}");
        text
    }
}

fn add_line(table: &mut Table, name: &str, of_kind: &OfKind) {
    let Tally { produced, stored, doubled, lost_named, expired, lost_unnamed, .. } = of_kind.tally;
    let settled = describe_duration(Duration::from_millis(of_kind.settled_within_ms / 100 * 100));
    let mut row = vec![name.to_owned()];
    row.extend(
        [of_kind.injected, produced, stored, doubled, lost_named, expired, lost_unnamed]
            .map(|number| number.to_string()),
    );
    row.push(settled);
    table.add_row(row);
}
