//! What came out: for each kind of fault, how many rows were produced, stored, doubled and lost.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::audit::Tally;
use super::plan::{Round, RowFault};
use crate::console::tables::Drawing;
use crate::domain::time::describe_duration;
use crate::roles::cli::ProveArgs;

/// Most complaints that are told.
const COMPLAINTS_TOLD_MAX: usize = 60;

/// One round, as it was played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The plan.
    pub round: Round,
    /// What came of it.
    pub tally: Tally,
    /// From healing until every row was stored or named.
    pub settled_within: Duration,
}

/// The rounds of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct OfKind {
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
pub struct Report {
    /// The plan follows from it.
    pub seed: u64,
    /// Faults injected.
    pub faults: u32,
    /// Where rows end up: `influxdb` or `embedded`.
    pub store: &'static str,
    /// The brokers.
    pub brokers: Vec<&'static str>,
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
    /// Whether nothing is lost unnamed, nothing doubled, and nothing else wrong.
    pub passed: bool,
}

impl OfKind {
    fn add(&mut self, outcome: &Outcome) {
        self.injected += outcome.round.injections.len() as u64;
        self.tally = self.tally.plus(outcome.tally);
        let settled = u64::try_from(outcome.settled_within.as_millis()).unwrap_or(u64::MAX);
        self.settled_within_ms = self.settled_within_ms.max(settled);
    }
}

impl Report {
    /// The sum of all rounds.
    #[must_use]
    pub fn new(
        args: &ProveArgs,
        (store, brokers): (&'static str, Vec<&'static str>),
        (outcomes, tally): (&[Outcome], Tally),
        skipped: BTreeMap<RowFault, &'static str>,
        complaints: Vec<String>,
        took: Duration,
    ) -> Self {
        let (mut kinds, mut mixed_kinds) = (BTreeMap::<RowFault, OfKind>::new(), BTreeMap::new());
        let (mut mixed, mut total) = (OfKind::default(), OfKind::default());
        for outcome in outcomes {
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
        total.tally = tally;
        Self {
            seed: args.seed,
            faults: args.faults,
            store,
            brokers,
            seconds: took.as_secs(),
            kinds,
            mixed,
            mixed_kinds,
            total,
            skipped,
            passed: complaints.is_empty() && total.tally.is_whole(),
            complaints,
        }
    }

    /// For a person.
    #[must_use]
    pub fn text(&self, drawing: Drawing) -> String {
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
            "\nseed {}, {} faults in {}, brokers: {}, rows counted in: {}",
            self.seed,
            self.total.injected,
            describe_duration(Duration::from_secs(self.seconds)),
            self.brokers.join(" and "),
            self.store
        );
        if !self.mixed_kinds.is_empty() {
            let kinds: Vec<_> =
                self.mixed_kinds.iter().map(|(kind, count)| format!("{} {count}", kind.words())).collect();
            let _ = writeln!(text, "several at once: {}", kinds.join(", "));
        }
        if self.total.tally.found_after_all > 0 {
            let _ = writeln!(
                text,
                "{} rows that the ledger calls lost are in the store after all: damage took only their record",
                self.total.tally.found_after_all
            );
        }
        if self.total.tally.never_kept > 0 {
            let _ = writeln!(
                text,
                "{} readings were in a commit that a kill interrupted, and their file was damaged right after: they do not count as produced",
                self.total.tally.never_kept
            );
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
        let verdict = if self.passed { "passed: every row is in the store once, or lost by name" } else { "FAILED" };
        let _ = writeln!(text, "{verdict}");
        text
    }
}

fn add_line(table: &mut Table, name: &str, of_kind: &OfKind) {
    let Tally { produced, stored, doubled, lost_named, lost_unnamed, .. } = of_kind.tally;
    let settled = describe_duration(Duration::from_millis(of_kind.settled_within_ms / 100 * 100));
    let mut row = vec![name.to_owned()];
    row.extend(
        [of_kind.injected, produced, stored, doubled, lost_named, lost_unnamed].map(|number| number.to_string()),
    );
    row.push(settled);
    table.add_row(row);
}
