//! The count: what the store has against what was produced and what the ledger calls lost.

use std::collections::{HashMap, HashSet};

use anyhow::Context as _;

use super::by_hand::Fate;
use super::tally::Tally;
use super::testbed::{DEVICE, PROGRAM, Testbed};
use super::truth::Truth;
use heartwatch_domain::ledger::{Account, NamedLoss};
use heartwatch_domain::publisher::Incarnation;
use heartwatch_domain::reading::FieldValue;
use heartwatch_formats::line_protocol::{Rows, decode};
use heartwatch_store::journal::{self, HistoryFile};

/// Most single rows that are named in a complaint.
const ROWS_TOLD_MAX: usize = 8;

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

/// What has happened in the round that is counted, as far as it excuses anything.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Excuse {
    /// A broker died: of what it had confirmed nobody knows what it had not handed on.
    pub broker_died: bool,
    /// The journal was damaged: which messages of devices the monitor had is not known any more.
    pub journal_damaged: bool,
    /// What was sent may have got lost on its way.
    pub way_broken: bool,
}

/// Counts everything; what is wrong is appended to `complaints` with its numbers.
///
/// # Errors
/// When the store or the ledger cannot be read.
pub(super) async fn audit(stage: &Testbed, excuse: Excuse, complaints: &mut Vec<String>) -> anyhow::Result<Tally> {
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
        let (of_publisher, wrong) = compare(truth, &rows, &said, excuse);
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

fn compare(truth: &mut Truth, rows: &StoredRows, said: &Said<'_>, excuse: Excuse) -> (Tally, Vec<String>) {
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
            let (mut extra, unexpected) = if wanted == 0 { (0, *times) } else { (times.saturating_sub(wanted), 0) };
            let message = (*start, index as u64 + 1);
            if excuse.journal_damaged
                && extra > 0
                && truth.by_hand.get(&message).is_some_and(|sent| sent.numbered.is_none())
            {
                truth.again.insert(message, extra);
            }
            let again = truth.again.get(&message).map_or(0, |again| extra.min(*again));
            extra -= again;
            tally.again_after_damage += u64::from(again);
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
    let mut left_for_hand = HashMap::new();
    let used_by_hand: HashSet<_> = truth.by_hand.values().filter_map(|sent| sent.numbered).collect();
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
            } else if used_by_hand.contains(&(*incarnation, row))
                && (excuse.way_broken || truth.in_anothers_place.contains(&(*incarnation, row)))
            {
                truth.in_anothers_place.insert((*incarnation, row));
                tally.in_anothers_place += 1;
            } else {
                unnamed.push(row);
            }
        }
        left_for_hand.insert(*incarnation, Left { expired, lost: by_count });
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
    count_by_hand(truth, rows, said, (excuse, left_for_hand), &mut tally, &mut complaints);
    (tally, complaints)
}

/// What the account of a life has taken away, beyond the life's own rows.
#[derive(Debug, Clone, Copy, Default)]
struct Left {
    expired: u64,
    /// By their count alone: which numbers it were is not known.
    lost: u64,
}

/// Counts what was sent by hand: of a broker that was killed nobody knows what it had not handed on.
fn count_by_hand(
    truth: &mut Truth,
    rows: &StoredRows,
    said: &Said<'_>,
    (excuse, mut left_of): (Excuse, HashMap<Incarnation, Left>),
    tally: &mut Tally,
    complaints: &mut Vec<String>,
) {
    // the accounts of lives that are counted by their own numbers are not for these
    let is_for_hand = |incarnation: &Incarnation| !truth.lives.contains_key(incarnation);
    let of_hand = |name: &str| -> u64 {
        let accounts = said.accounts.iter().filter(|(incarnation, _)| is_for_hand(incarnation));
        accounts.map(|(_, account)| count(*account, name)).sum()
    };
    // rows without numbers are counted under no life
    let without_numbers = Incarnation(0);
    left_of.insert(without_numbers, Left { expired: of_hand("expired"), lost: of_hand("lost") });
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
        let is_named = sent.numbered.is_some_and(|(incarnation, number)| said.names(incarnation, number));
        let left = left_of.entry(incarnation).or_default();
        if is_named {
            tally.lost_named += 1;
        } else if left.lost > 0 {
            left.lost -= 1;
            tally.lost_named += 1;
        } else if left.expired > 0 {
            left.expired -= 1;
            tally.expired += 1;
        } else if let Some(number) = sent.numbered
            && (excuse.way_broken || truth.in_anothers_place.contains(&number))
            && truth.lives.contains_key(&number.0)
        {
            truth.in_anothers_place.insert(number);
            tally.in_anothers_place += 1;
        } else if excuse.broker_died {
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

async fn stored_rows(stage: &Testbed) -> anyhow::Result<HashMap<String, StoredRows>> {
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
            let mut history = HistoryFile::open(journal, None, None)?;
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
    use super::super::by_hand::Sent;
    use super::super::truth::Life;
    use super::*;
    use heartwatch_domain::publisher::PublisherId;

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
        let (tally, complaints) = compare(&mut truth, &rows, &said, Excuse::default());
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
        let (tally, _) = compare(&mut torn, &two, &Said::default(), Excuse::default());
        assert!(tally.is_whole() && (tally.produced, tally.stored, tally.never_kept) == (2, 2, 1), "{tally:?}");
        torn.lives.values_mut().for_each(|life| life.damaged = false);
        assert_eq!(
            compare(&mut torn, &two, &Said::default(), Excuse::default()).0.lost_unnamed,
            1,
            "an undamaged file keeps what it had"
        );
        let whole = StoredRows::from([(1, vec![1; 6]), (2, vec![1; 4])]);
        let (tally, complaints) = compare(&mut truth, &whole, &Said::default(), Excuse::default());
        assert!(tally.is_whole() && complaints.is_empty() && tally.stored == 10);
    }

    /// Found: seed 6. Damage had taken 14 rows of a life by their count, and one of them was sent by hand.
    #[test]
    fn a_number_that_was_used_twice_may_be_lost_by_its_count() {
        let mut truth = Truth::default();
        truth.lives.insert(Incarnation(50), Life { start: 1, last: 3, said: 3, ..Life::default() });
        let sent = Sent { fate: Fate::Taken, numbered: Some((Incarnation(50), 2)) };
        truth.by_hand.insert((1, 50_000), sent);
        let rows = StoredRows::from([(1, vec![1, 1])]);
        let tally = |truth: &mut Truth, lost: u64| {
            let losses = [loss(50, 1, 4, lost)];
            compare(truth, &rows, &Said { losses: losses.iter().collect(), ..Said::default() }, Excuse::default()).0
        };
        assert_eq!((tally(&mut truth, 2).lost_named, tally(&mut truth, 2).lost_unnamed), (2, 0));
        assert_eq!((tally(&mut truth, 1).lost_named, tally(&mut truth, 1).lost_unnamed), (1, 1));
    }

    /// Found: seed 18. The journal's log was damaged after a burst had been stored and before its broker knew that.
    #[test]
    fn a_device_message_that_comes_again_after_damage_is_told_apart() {
        let mut truth = Truth::default();
        truth.by_hand.insert((1, 1), Sent { fate: Fate::Taken, numbered: None });
        let twice = StoredRows::from([(1, vec![2])]);
        let mut doubled = |excuse: Excuse, rows: &StoredRows| {
            let (tally, complaints) = compare(&mut truth, rows, &Said::default(), excuse);
            (tally.doubled, tally.again_after_damage, complaints.len())
        };
        assert_eq!(doubled(Excuse::default(), &twice), (1, 0, 1));
        let damaged = Excuse { journal_damaged: true, ..Excuse::default() };
        assert_eq!(doubled(damaged, &twice), (0, 1, 0));
        assert_eq!(doubled(Excuse::default(), &twice), (0, 1, 0), "it stays what it is");
        assert_eq!(doubled(Excuse::default(), &StoredRows::from([(1, vec![3])])), (1, 1, 1));
    }

    /// Found: seed 4. One of two readings under a number had come, and the way of the other was broken.
    #[test]
    fn a_reading_that_got_lost_while_another_had_its_number_is_told_apart() {
        let mut truth = Truth::default();
        truth.lives.insert(Incarnation(50), Life { start: 1, last: 2, said: 2, ..Life::default() });
        let sent = Sent { fate: Fate::Taken, numbered: Some((Incarnation(50), 2)) };
        truth.by_hand.insert((1, 4), sent);
        let of_another = StoredRows::from([(1, vec![1, 0, 0, 1])]);
        let mut count = |excuse: Excuse| {
            let (tally, _) = compare(&mut truth, &of_another, &Said::default(), excuse);
            (tally.lost_unnamed, tally.in_anothers_place)
        };
        assert_eq!(count(Excuse::default()), (1, 0), "where nothing else went wrong it is a loss");
        assert_eq!(count(Excuse { way_broken: true, ..Excuse::default() }), (0, 1));
        assert_eq!(count(Excuse::default()), (0, 1), "it stays what it is");
    }

    #[test]
    fn what_the_auditor_could_not_read_is_counted_and_told_apart() {
        let mut truth = Truth::default();
        truth.lives.insert(Incarnation(50), Life { start: 1, last: 3, said: 3, unread: true, ..Life::default() });
        let rows = StoredRows::from([(1, vec![1; 5])]);
        for _ in 0..2 {
            let (tally, complaints) = compare(&mut truth, &rows, &Said::default(), Excuse::default());
            assert!(tally.is_whole() && complaints.is_empty(), "{complaints:?}");
            assert_eq!((tally.produced, tally.stored, tally.known_from_store), (5, 5, 2));
        }
    }
}
