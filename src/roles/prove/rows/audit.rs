//! The count: what the store has against what was produced and what the ledger calls lost.

use std::collections::HashMap;

use anyhow::Context as _;
use serde::Serialize;

use super::stage::Stage;
use super::truth::Truth;
use crate::buffer::journal::{self, History};
use crate::domain::ledger::NamedLoss;
use crate::domain::reading::FieldValue;
use crate::formats::line_protocol::{Rows, decode};

/// Most single rows that are named in a complaint.
const ROWS_TOLD_MAX: usize = 8;

/// What came out, over all publishers and lives so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Tally {
    /// Readings that publishers kept.
    pub produced: u64,
    /// Of those, the ones that the store has.
    pub stored: u64,
    /// Rows that the store has more than once, counted without the first.
    pub doubled: u64,
    /// Readings that are not in the store and that the ledger calls lost, with the reason.
    pub lost_named: u64,
    /// Readings that are not in the store and of which the ledger does not know.
    pub lost_unnamed: u64,
    /// Rows in the store that nobody is known to have produced.
    pub unexpected: u64,
    /// Readings that the ledger calls lost and that the store has after all: damage took their record only.
    pub found_after_all: u64,
    /// Readings in a commit that a kill interrupted, before the publisher was told that they are kept, and
    /// whose file was damaged right after: they are nowhere, and do not count as produced.
    pub never_kept: u64,
}

impl Tally {
    /// What has come since an earlier count.
    #[must_use]
    pub const fn since(self, before: Self) -> Self {
        Self {
            produced: self.produced.saturating_sub(before.produced),
            stored: self.stored.saturating_sub(before.stored),
            doubled: self.doubled.saturating_sub(before.doubled),
            lost_named: self.lost_named.saturating_sub(before.lost_named),
            lost_unnamed: self.lost_unnamed.saturating_sub(before.lost_unnamed),
            unexpected: self.unexpected.saturating_sub(before.unexpected),
            found_after_all: self.found_after_all.saturating_sub(before.found_after_all),
            never_kept: self.never_kept.saturating_sub(before.never_kept),
        }
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            produced: self.produced.saturating_add(other.produced),
            stored: self.stored.saturating_add(other.stored),
            doubled: self.doubled.saturating_add(other.doubled),
            lost_named: self.lost_named.saturating_add(other.lost_named),
            lost_unnamed: self.lost_unnamed.saturating_add(other.lost_unnamed),
            unexpected: self.unexpected.saturating_add(other.unexpected),
            found_after_all: self.found_after_all.saturating_add(other.found_after_all),
            never_kept: self.never_kept.saturating_add(other.never_kept),
        }
    }

    /// Whether every row is there once, or named.
    #[must_use]
    pub const fn is_whole(self) -> bool {
        self.doubled == 0 && self.lost_unnamed == 0 && self.unexpected == 0
    }
}

/// How often each row is in the store: start → row → times.
type StoredRows = HashMap<u64, Vec<u32>>;

/// Counts everything; what is wrong is appended to `complaints` with its numbers.
///
/// # Errors
/// When the store or the ledger cannot be read.
pub async fn audit(stage: &Stage, complaints: &mut Vec<String>) -> anyhow::Result<Tally> {
    let mut stored = stored_rows(stage).await?;
    let losses = journal::snapshot(&stage.journal, stage.reader.is_some())?.losses;
    let mut tally = Tally::default();
    for publisher in &stage.publishers {
        let mut state = publisher.state.lock().await;
        publisher.look(&mut state)?;
        let rows = stored.remove(&publisher.id).unwrap_or_default();
        let losses: Vec<_> = losses.iter().filter(|loss| loss.publisher.as_str() == publisher.id).collect();
        let (of_publisher, said) = compare(&state.truth, &rows, &losses);
        complaints.extend(said.into_iter().map(|said| format!("{} on stage {}: {said}", publisher.id, stage.name)));
        tally = tally.plus(of_publisher);
    }
    Ok(tally)
}

fn compare(truth: &Truth, rows: &StoredRows, losses: &[&NamedLoss]) -> (Tally, Vec<String>) {
    let mut tally = Tally::default();
    let mut complaints = Vec::new();
    // a panic makes two incarnations of one start: each gives out the same rows again
    let mut expected: HashMap<u64, Vec<u32>> = HashMap::new();
    for life in truth.lives.values() {
        let of_start = expected.entry(life.start).or_default();
        let last = usize::try_from(life.last).unwrap_or(usize::MAX);
        if of_start.len() < last {
            of_start.resize(last, 0);
        }
        of_start.iter_mut().take(last).for_each(|times| *times += 1);
    }
    for (start, times) in rows {
        let of_start = expected.get(start).map(Vec::as_slice).unwrap_or_default();
        for (index, times) in times.iter().enumerate() {
            let wanted = of_start.get(index).copied().unwrap_or(0);
            let (extra, unexpected) = if wanted == 0 { (0, *times) } else { (times.saturating_sub(wanted), 0) };
            tally.doubled += u64::from(extra);
            tally.unexpected += u64::from(unexpected);
            if extra + unexpected > 0 && complaints.len() < ROWS_TOLD_MAX {
                complaints
                    .push(format!("start {start}, row {}: {times} times in the store, {wanted} produced", index + 1));
            }
        }
    }
    for (incarnation, life) in &truth.lives {
        tally.produced += life.last;
        let named: Vec<_> = losses.iter().filter(|loss| loss.incarnation == *incarnation).collect();
        let exact = |row: u64| {
            named.iter().any(|loss| loss.count == loss.last - loss.first + 1 && (loss.first..=loss.last).contains(&row))
        };
        // of a loss whose numbers are not known only their count is
        let mut by_count: u64 =
            named.iter().filter(|loss| loss.count < loss.last - loss.first + 1).map(|loss| loss.count).sum();
        let there = rows.get(&life.start);
        let mut unnamed = Vec::new();
        for row in 1..=life.last {
            let index = usize::try_from(row - 1).unwrap_or(usize::MAX);
            if there.and_then(|there| there.get(index)).copied().unwrap_or(0) > 0 {
                tally.stored += 1;
                tally.found_after_all += u64::from(exact(row));
            } else if exact(row) {
                tally.lost_named += 1;
            } else if by_count > 0 {
                by_count -= 1;
                tally.lost_named += 1;
            } else if row > life.said && life.damaged {
                tally.never_kept += 1;
                tally.produced -= 1;
            } else {
                unnamed.push(row);
            }
        }
        tally.lost_unnamed += unnamed.len() as u64;
        if let (Some(first), Some(last)) = (unnamed.first(), unnamed.last()) {
            complaints.push(format!(
                "start {} (incarnation {incarnation}, {} produced): {} rows from {first} to {last} are neither stored nor named lost",
                life.start,
                life.last,
                unnamed.len()
            ));
        }
    }
    (tally, complaints)
}

async fn stored_rows(stage: &Stage) -> anyhow::Result<HashMap<String, StoredRows>> {
    let mut stored: HashMap<String, StoredRows> = HashMap::new();
    let mut note = |publisher: &str, start: u64, row: u64| {
        let index = usize::try_from(row.saturating_sub(1)).unwrap_or(usize::MAX).min(1 << 20);
        let times = stored.entry(publisher.to_owned()).or_default().entry(start).or_default();
        if times.len() <= index {
            times.resize(index + 1, 0);
        }
        if let Some(times) = times.get_mut(index) {
            *times += 1;
        }
    };
    let Some(reader) = &stage.reader else {
        let mut history = History::open(&stage.journal, None, None)?;
        while let Some(block) = history.next_block()? {
            for row in Rows::of(&block.lines).filter_map(|line| decode(line).ok()) {
                let number = |key: &str| match row.fields.iter().find(|(name, _)| name == key)?.1 {
                    FieldValue::Integer(number) => u64::try_from(number).ok(),
                    _ => None,
                };
                if let (Some(start), Some(number)) = (number("life"), number("row")) {
                    note(&row.measurement, start, number);
                }
            }
        }
        return Ok(stored);
    };
    for publisher in &stage.publishers {
        let series = reader.query(&format!("SELECT \"life\", \"row\" FROM \"{}\"", publisher.id)).await?;
        for values in series.iter().flat_map(|series| &series.values) {
            let number = |index: usize| values.get(index).and_then(serde_json::Value::as_u64);
            let (start, row) = number(1).zip(number(2)).context("a row in InfluxDB without its numbers")?;
            note(&publisher.id, start, row);
        }
    }
    Ok(stored)
}

#[cfg(test)]
mod tests {
    use super::super::truth::Life;
    use super::*;
    use crate::domain::publisher::{Incarnation, PublisherId};

    fn loss(incarnation: u64, first: u64, last: u64, count: u64) -> NamedLoss {
        let publisher = PublisherId::parse("rows-1").unwrap();
        NamedLoss { publisher, incarnation: Incarnation(incarnation), first, last, count, reason: "gone".to_owned() }
    }

    #[test]
    fn every_row_is_stored_once_or_named_and_the_rest_is_complained_about() {
        let mut truth = Truth::default();
        truth.lives.insert(Incarnation(50), Life { start: 1, last: 6, said: 6, damaged: true });
        truth.lives.insert(Incarnation(60), Life { start: 2, last: 4, said: 4, damaged: false });
        let rows = StoredRows::from([(1, vec![1, 0, 0, 2, 1, 1, 1]), (2, vec![1, 1])]);
        let (tally, complaints) = compare(&truth, &rows, &[&loss(50, 2, 2, 1), &loss(50, 5, 5, 1), &loss(60, 1, 4, 1)]);
        let expected = Tally {
            produced: 10,
            stored: 6,
            doubled: 1,
            lost_named: 2,
            lost_unnamed: 2,
            unexpected: 1,
            found_after_all: 1,
            never_kept: 0,
        };
        assert_eq!(tally, expected);
        assert!(!tally.is_whole());
        assert_eq!(complaints.len(), 4, "{complaints:?}");
        // found: a kill interrupts the commit of a reading, and then the end of its file is torn off
        let mut torn = Truth::default();
        torn.lives.insert(Incarnation(50), Life { start: 1, last: 3, said: 2, damaged: true });
        let two = StoredRows::from([(1, vec![1; 2])]);
        let (tally, _) = compare(&torn, &two, &[]);
        assert!(tally.is_whole() && (tally.produced, tally.stored, tally.never_kept) == (2, 2, 1), "{tally:?}");
        torn.lives.values_mut().for_each(|life| life.damaged = false);
        assert_eq!(compare(&torn, &two, &[]).0.lost_unnamed, 1, "an undamaged file keeps what it had");
        let whole = StoredRows::from([(1, vec![1; 6]), (2, vec![1; 4])]);
        let (tally, complaints) = compare(&truth, &whole, &[]);
        assert!(tally.is_whole() && complaints.is_empty() && tally.stored == 10);
    }
}
