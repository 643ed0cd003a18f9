//! The count: what the store has against what was produced and what the ledger calls lost.

use std::collections::HashMap;

use anyhow::Context as _;
use serde::Serialize;

use super::by_hand::Fate;
use super::stage::{DEVICE, PROGRAM, Stage};
use super::truth::Truth;
use crate::buffer::journal::{self, History};
use crate::domain::ledger::{Account, NamedLoss};
use crate::domain::publisher::Incarnation;
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
    /// Readings that were stored here, and have made room since; the ledger knows how many.
    pub expired: u64,
    /// Rows in the store of a publisher whose outbox could not be read at its end: they count as produced, and what
    /// else it may have kept is not known.
    pub known_from_store: u64,
    /// Rows that the ledger calls stored beyond those that are in the store.
    pub overstated: u64,
    /// Messages of devices that a broker had confirmed and, killed, has never handed on. They do not count as produced.
    pub gone_with_broker: u64,
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
            expired: self.expired.saturating_sub(before.expired),
            known_from_store: self.known_from_store.saturating_sub(before.known_from_store),
            overstated: self.overstated.saturating_sub(before.overstated),
            gone_with_broker: self.gone_with_broker.saturating_sub(before.gone_with_broker),
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
            expired: self.expired.saturating_add(other.expired),
            known_from_store: self.known_from_store.saturating_add(other.known_from_store),
            overstated: self.overstated.saturating_add(other.overstated),
            gone_with_broker: self.gone_with_broker.saturating_add(other.gone_with_broker),
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

/// What the ledger says.
#[derive(Debug, Default)]
struct Said<'a> {
    losses: Vec<&'a NamedLoss>,
    accounts: HashMap<Incarnation, Account>,
}

impl Said<'_> {
    /// A count of an account by its public name.
    fn count(&self, incarnation: Incarnation, name: &str) -> u64 {
        count(self.accounts.get(&incarnation).copied().unwrap_or_default(), name)
    }

    /// Whether a number is in a loss that names each of its numbers.
    fn names(&self, incarnation: Incarnation, number: u64) -> bool {
        let mut named = self.losses.iter().filter(|loss| loss.incarnation == incarnation);
        named.any(|loss| loss.count == loss.last - loss.first + 1 && (loss.first..=loss.last).contains(&number))
    }
}

fn count(account: Account, name: &str) -> u64 {
    account.counts().into_iter().find(|(of, _)| *of == name).map_or(0, |(_, count)| count)
}

/// Counts everything; what is wrong is appended to `complaints` with its numbers.
///
/// # Errors
/// When the store or the ledger cannot be read.
pub async fn audit(stage: &Stage, broker_died: bool, complaints: &mut Vec<String>) -> anyhow::Result<Tally> {
    let mut stored = stored_rows(stage).await?;
    let mut ledger = stage.api.ledger().await?;
    if ledger.losses_left_out > 0 {
        ledger.losses = journal::snapshot(&stage.journal, stage.reader.is_some())?.losses;
    }
    let mut tally = Tally::default();
    let mut count = |id: &str, truth: &mut Truth| {
        let rows = stored.remove(id).unwrap_or_default();
        let accounts = ledger.accounts.iter().filter(|line| line.publisher.as_str() == id);
        let said = Said {
            losses: ledger.losses.iter().filter(|loss| loss.publisher.as_str() == id).collect(),
            accounts: accounts.map(|line| (line.incarnation, line.account)).collect(),
        };
        let (of_publisher, wrong) = compare(truth, &rows, &said, broker_died);
        complaints.extend(wrong.into_iter().map(|wrong| format!("{id} on stage {}: {wrong}", stage.name)));
        tally = tally.plus(of_publisher);
    };
    for publisher in &stage.publishers {
        let mut state = publisher.state.lock().await;
        publisher.look(&mut state);
        count(&publisher.id, &mut state.truth);
    }
    count(PROGRAM, &mut stage.program.state.lock().await.truth);
    count(DEVICE, &mut *stage.device.lock().await);
    Ok(tally)
}

fn compare(truth: &mut Truth, rows: &StoredRows, said: &Said<'_>, broker_died: bool) -> (Tally, Vec<String>) {
    let mut tally = Tally::default();
    let mut complaints = Vec::new();
    for life in truth.lives.values_mut().filter(|life| life.unread) {
        let stored = rows.get(&life.start).map_or(0, |times| times.len() as u64);
        life.from_store += stored.saturating_sub(life.last);
        life.last = life.last.max(stored);
        tally.known_from_store += life.from_store;
    }
    // a panic makes two incarnations of one start: each gives out the same rows again
    let mut expected: HashMap<u64, Vec<u32>> = HashMap::new();
    let mut called_stored: HashMap<u64, u64> = HashMap::new();
    for (incarnation, life) in &truth.lives {
        *called_stored.entry(life.start).or_default() += said.count(*incarnation, "stored");
        let of_start = expected.entry(life.start).or_default();
        let last = usize::try_from(life.last).unwrap_or(usize::MAX);
        if of_start.len() < last {
            of_start.resize(last, 0);
        }
        of_start.iter_mut().take(last).for_each(|times| *times += 1);
    }
    for (start, called) in called_stored {
        let there = rows.get(&start).map_or(0, |times| times.iter().map(|times| u64::from(*times)).sum());
        tally.overstated += called.saturating_sub(there);
        if called > there && complaints.len() < ROWS_TOLD_MAX {
            complaints.push(format!("start {start}: the ledger calls {called} rows stored, and {there} are there"));
        }
    }
    for (start, row) in truth.by_hand.keys() {
        let of_start = expected.entry(*start).or_default();
        let index = usize::try_from(row - 1).unwrap_or(usize::MAX);
        if of_start.len() <= index {
            of_start.resize(index + 1, 0);
        }
        of_start.get_mut(index).into_iter().for_each(|times| *times += 1);
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
    // losses of which only the publisher is known: its accounts were damaged as well
    let whose_life_is_unknown = |loss: &&&NamedLoss| !truth.lives.contains_key(&loss.incarnation);
    let mut pool: u64 = said.losses.iter().filter(whose_life_is_unknown).map(|loss| loss.count).sum();
    let mut expired_by_hand = HashMap::new();
    for (incarnation, life) in &truth.lives {
        tally.produced += life.last;
        let named: Vec<_> = said.losses.iter().filter(|loss| loss.incarnation == *incarnation).collect();
        let exact = |row: u64| said.names(*incarnation, row);
        // of a loss whose numbers are not known only their count is
        let mut by_count: u64 =
            named.iter().filter(|loss| loss.count < loss.last - loss.first + 1).map(|loss| loss.count).sum();
        let mut expired = said.count(*incarnation, "expired");
        let there = rows.get(&life.start);
        let mut unnamed = Vec::new();
        for row in 1..=life.last {
            let index = usize::try_from(row - 1).unwrap_or(usize::MAX);
            if there.and_then(|there| there.get(index)).copied().unwrap_or(0) > 0 {
                tally.stored += 1;
                tally.found_after_all += u64::from(exact(row));
            } else if exact(row) {
                tally.lost_named += 1;
            } else if expired > 0 {
                expired -= 1;
                tally.expired += 1;
            } else if by_count > 0 {
                by_count -= 1;
                tally.lost_named += 1;
            } else if pool > 0 {
                pool -= 1;
                tally.lost_named += 1;
            } else if row > life.said && life.damaged {
                tally.never_kept += 1;
                tally.produced -= 1;
            } else {
                unnamed.push(row);
            }
        }
        expired_by_hand.insert(*incarnation, expired);
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
    count_by_hand(truth, rows, said, (broker_died, expired_by_hand), &mut tally, &mut complaints);
    (tally, complaints)
}

/// Counts what was sent by hand: of a broker that was killed nobody knows what it had not handed on.
fn count_by_hand(
    truth: &mut Truth,
    rows: &StoredRows,
    said: &Said<'_>,
    (broker_died, mut expired_of): (bool, HashMap<Incarnation, u64>),
    tally: &mut Tally,
    complaints: &mut Vec<String>,
) {
    // the accounts of lives that are counted by their own numbers are not for these
    let is_for_hand = |incarnation: &Incarnation| !truth.lives.contains_key(incarnation);
    let of_hand = |name: &str| -> u64 {
        let accounts = said.accounts.iter().filter(|(incarnation, _)| is_for_hand(incarnation));
        accounts.map(|(_, account)| count(*account, name)).sum()
    };
    let mut lost = of_hand("lost");
    // rows without numbers are counted under no life
    let without_numbers = Incarnation(0);
    expired_of.insert(without_numbers, of_hand("expired"));
    let mut unnamed = Vec::new();
    for ((start, row), sent) in &mut truth.by_hand {
        let index = usize::try_from(row - 1).unwrap_or(usize::MAX);
        if rows.get(start).and_then(|rows| rows.get(index)).copied().unwrap_or(0) > 0 {
            tally.produced += 1;
            tally.stored += 1;
            continue;
        }
        if sent.fate == Fate::Unsure {
            continue;
        }
        tally.produced += 1;
        let incarnation = sent.numbered.map_or(without_numbers, |(incarnation, _)| incarnation);
        let is_named = match sent.numbered {
            Some((incarnation, number)) => said.names(incarnation, number),
            None => lost > 0,
        };
        if is_named {
            lost = lost.saturating_sub(u64::from(sent.numbered.is_none()));
            tally.lost_named += 1;
        } else if let Some(expired) = expired_of.get_mut(&incarnation).filter(|expired| **expired > 0) {
            *expired -= 1;
            tally.expired += 1;
        } else if broker_died {
            sent.fate = Fate::Unsure;
            truth.gone_with_broker += 1;
            tally.produced -= 1;
        } else {
            unnamed.push((*start, *row));
        }
    }
    tally.gone_with_broker += truth.gone_with_broker;
    tally.lost_unnamed += unnamed.len() as u64;
    if let (Some(first), Some(last)) = (unnamed.first(), unnamed.last()) {
        let count = unnamed.len();
        complaints
            .push(format!("{count} rows sent by hand from {first:?} to {last:?} are neither stored nor named lost"));
    }
}

async fn stored_rows(stage: &Stage) -> anyhow::Result<HashMap<String, StoredRows>> {
    let mut stored: HashMap<String, StoredRows> = HashMap::new();
    let mut note = |publisher: &str, start: u64, row: u64, unless_there: bool| {
        let index = usize::try_from(row.saturating_sub(1)).unwrap_or(usize::MAX).min(1 << 20);
        let times = stored.entry(publisher.to_owned()).or_default().entry(start).or_default();
        if times.len() <= index {
            times.resize(index + 1, 0);
        }
        if let Some(times) = times.get_mut(index)
            && !(unless_there && *times > 0)
        {
            *times += 1;
        }
    };
    let Some(reader) = &stage.reader else {
        for journal in [&stage.journal, &stage.journal_elsewhere] {
            if !journal.exists() {
                continue;
            }
            // what a monitor had not confirmed when it was left is sent to the other one as well, as it should be
            let is_other = journal == &stage.journal_elsewhere;
            let mut history = History::open(journal, None, None)?;
            while let Some(block) = history.next_block()? {
                for row in Rows::of(&block.lines).filter_map(|line| decode(line).ok()) {
                    let number = |key: &str| match row.fields.iter().find(|(name, _)| name == key)?.1 {
                        FieldValue::Integer(number) => u64::try_from(number).ok(),
                        _ => None,
                    };
                    if let (Some(start), Some(number)) = (number("life"), number("row")) {
                        note(&row.measurement, start, number, is_other);
                    }
                }
            }
        }
        return Ok(stored);
    };
    for id in stage.publishers.iter().map(|publisher| publisher.id.as_str()).chain([PROGRAM, DEVICE]) {
        let series = reader.query(&format!("SELECT \"life\", \"row\" FROM \"{id}\"")).await?;
        for values in series.iter().flat_map(|series| &series.values) {
            let number = |index: usize| values.get(index).and_then(serde_json::Value::as_u64);
            let (start, row) = number(1).zip(number(2)).context("a row in InfluxDB without its numbers")?;
            note(id, start, row, false);
        }
    }
    Ok(stored)
}

#[cfg(test)]
mod tests {
    use super::super::truth::Life;
    use super::*;
    use crate::domain::publisher::PublisherId;

    fn loss(incarnation: u64, first: u64, last: u64, count: u64) -> NamedLoss {
        let publisher = PublisherId::parse("rows-1").unwrap();
        NamedLoss { publisher, incarnation: Incarnation(incarnation), first, last, count, reason: "gone".to_owned() }
    }

    #[test]
    fn every_row_is_stored_once_or_named_and_the_rest_is_complained_about() {
        let mut truth = Truth::default();
        truth.lives.insert(Incarnation(50), Life { start: 1, last: 6, said: 6, damaged: true, ..Life::default() });
        truth.lives.insert(Incarnation(60), Life { start: 2, last: 4, said: 4, ..Life::default() });
        let rows = StoredRows::from([(1, vec![1, 0, 0, 2, 1, 1, 1]), (2, vec![1, 1])]);
        let losses = [loss(50, 2, 2, 1), loss(50, 5, 5, 1), loss(60, 1, 4, 1)];
        let account = Account { stored: 3, ..Account::default() };
        let accounts = HashMap::from([(Incarnation(60), account)]);
        let said = Said { losses: losses.iter().collect(), accounts };
        let (tally, complaints) = compare(&mut truth, &rows, &said, false);
        let expected = Tally {
            produced: 10,
            stored: 6,
            doubled: 1,
            lost_named: 2,
            lost_unnamed: 2,
            unexpected: 1,
            found_after_all: 1,
            overstated: 1,
            ..Tally::default()
        };
        assert_eq!(tally, expected);
        assert!(!tally.is_whole());
        assert_eq!(complaints.len(), 5, "{complaints:?}");
        // found: a kill interrupts the commit of a reading, and then the end of its file is torn off
        let mut torn = Truth::default();
        torn.lives.insert(Incarnation(50), Life { start: 1, last: 3, said: 2, damaged: true, ..Life::default() });
        let two = StoredRows::from([(1, vec![1; 2])]);
        let (tally, _) = compare(&mut torn, &two, &Said::default(), false);
        assert!(tally.is_whole() && (tally.produced, tally.stored, tally.never_kept) == (2, 2, 1), "{tally:?}");
        torn.lives.values_mut().for_each(|life| life.damaged = false);
        assert_eq!(
            compare(&mut torn, &two, &Said::default(), false).0.lost_unnamed,
            1,
            "an undamaged file keeps what it had"
        );
        let whole = StoredRows::from([(1, vec![1; 6]), (2, vec![1; 4])]);
        let (tally, complaints) = compare(&mut truth, &whole, &Said::default(), false);
        assert!(tally.is_whole() && complaints.is_empty() && tally.stored == 10);
    }

    #[test]
    fn what_the_auditor_could_not_read_is_counted_and_told_apart() {
        let mut truth = Truth::default();
        truth.lives.insert(Incarnation(50), Life { start: 1, last: 3, said: 3, unread: true, ..Life::default() });
        let rows = StoredRows::from([(1, vec![1; 5])]);
        for _ in 0..2 {
            let (tally, complaints) = compare(&mut truth, &rows, &Said::default(), false);
            assert!(tally.is_whole() && complaints.is_empty(), "{complaints:?}");
            assert_eq!((tally.produced, tally.stored, tally.known_from_store), (5, 5, 2));
        }
    }
}
