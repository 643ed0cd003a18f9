//! The lives of a publisher, as the file knows them: a new one begins with each opening.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::given_up::{REASON_DAMAGED, add_given_up};
use super::{Size, kept_reading};
use crate::records;
use heartwatch_domain::confirmers::Confirmers;
use heartwatch_domain::publisher::Incarnation;
use heartwatch_domain::reading::Sequence;

/// Lives whose last number is remembered.
pub const LIVES_REMEMBERED_MAX: usize = 8;

/// The names of the records that say who has confirmed what of a life, before its number.
const CONFIRMERS: &str = "confirmers:";

/// A life that has begun.
pub(super) struct Started {
    pub(super) incarnation: Incarnation,
    /// The last numbers of those before it, the latest first.
    pub(super) lives: Vec<(Incarnation, Sequence)>,
    /// What earlier ones have left.
    pub(super) size: Size,
    /// Who has confirmed what of them.
    pub(super) confirmers: BTreeMap<Incarnation, Confirmers>,
}

/// Begins a new incarnation, gives up what was damaged, and measures what is there.
pub(super) fn start_life(
    connection: &mut Connection,
    damage: &mut Vec<String>,
    now_micros: u64,
    noted: &[(Incarnation, Sequence)],
) -> rusqlite::Result<Started> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut size = Size::default();
    let mut damaged = Vec::new();
    {
        let mut select = transaction.prepare("SELECT id, incarnation, sequence, reading FROM readings ORDER BY id")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let (id, incarnation, sequence): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let bytes = row.get_ref(3)?.as_blob().unwrap_or_default();
            if kept_reading::from_bytes(bytes, Incarnation(incarnation.cast_unsigned()), sequence.cast_unsigned())
                .is_some()
            {
                size.add(bytes.len() as u64);
            } else {
                damaged.push((id, incarnation, sequence));
            }
        }
    }
    for (id, incarnation, sequence) in damaged {
        transaction.execute("DELETE FROM readings WHERE id = ?1", [id])?;
        add_given_up(&transaction, incarnation, sequence, REASON_DAMAGED)?;
        damage.push(format!("reading {sequence} of incarnation {incarnation} was damaged on disk"));
    }
    remember_lives(&transaction, damage, noted)?;
    let newest_known: Option<i64> = transaction.query_row(
        "SELECT max(incarnation) FROM (SELECT max(incarnation) AS incarnation FROM lives UNION ALL
         SELECT max(incarnation) FROM given_up)",
        [],
        |row| row.get(0),
    )?;
    let newest_known = newest_known.map_or(0, |incarnation| incarnation.max(0).cast_unsigned());
    let incarnation = Incarnation(now_micros.max(newest_known.saturating_add(1)).min(i64::MAX.unsigned_abs()));
    transaction.execute("INSERT INTO lives (incarnation, last) VALUES (?1, 0)", [incarnation.0.cast_signed()])?;
    transaction.execute(
        "DELETE FROM lives WHERE incarnation NOT IN (SELECT incarnation FROM lives
         WHERE last > 0 OR incarnation = ?1 ORDER BY incarnation DESC LIMIT ?2)",
        [incarnation.0.cast_signed(), LIVES_REMEMBERED_MAX as i64 + 1],
    )?;
    let confirmers = load_confirmers(&transaction)?;
    let lives = {
        let mut select =
            transaction.prepare("SELECT incarnation, last FROM lives WHERE last > 0 ORDER BY incarnation DESC")?;
        let life = |row: &rusqlite::Row<'_>| {
            Ok((Incarnation(row.get::<_, i64>(0)?.cast_unsigned()), row.get::<_, i64>(1)?.cast_unsigned()))
        };
        select.query_map([], life)?.collect::<rusqlite::Result<_>>()?
    };
    transaction.commit()?;
    Ok(Started { incarnation, lives, size, confirmers })
}

/// Writes down who has confirmed what of a life.
pub(super) fn save_confirmers(
    transaction: &Transaction<'_>,
    Incarnation(life): Incarnation,
    confirmers: &Confirmers,
) -> rusqlite::Result<()> {
    records::write(transaction, &format!("{CONFIRMERS}{life}"), &confirmers.save())
}

/// What is known of the lives that are remembered; of others it is forgotten.
fn load_confirmers(transaction: &Transaction<'_>) -> rusqlite::Result<BTreeMap<Incarnation, Confirmers>> {
    let mut select = transaction.prepare("SELECT incarnation FROM lives")?;
    let lives: BTreeSet<u64> =
        select.query_map([], |row| row.get(0).map(i64::cast_unsigned))?.collect::<rusqlite::Result<_>>()?;
    let mut known = BTreeMap::new();
    for (life, saved) in records::read_all(transaction, CONFIRMERS)? {
        let number = life.parse().ok().filter(|number| lives.contains(number));
        match number.zip(Confirmers::restore(&saved)) {
            Some((number, confirmers)) => drop(known.insert(Incarnation(number), confirmers)),
            None => records::remove(transaction, &format!("{CONFIRMERS}{life}"))?,
        }
    }
    Ok(known)
}

/// Puts the last numbers right where the file was torn: a number that is here, or was noted beside the
/// file, was given out.
fn remember_lives(
    transaction: &Transaction<'_>,
    damage: &mut Vec<String>,
    noted: &[(Incarnation, Sequence)],
) -> rusqlite::Result<()> {
    let merge = "INSERT INTO lives (incarnation, last) {} ON CONFLICT (incarnation) DO UPDATE SET last = max(last, excluded.last)";
    // a life that was killed before its first number was noted is in the file and not in the note: of as many
    // lives, the note's reach further back
    let (lives, oldest): (i64, Option<i64>) =
        transaction
            .query_row("SELECT count(*), min(incarnation) FROM lives", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let of_readings = "SELECT incarnation, max(sequence) FROM readings WHERE true GROUP BY incarnation";
    transaction.execute(&merge.replace("{}", of_readings), [])?;
    let is_forgotten = |incarnation: i64| lives >= LIVES_REMEMBERED_MAX as i64 && Some(incarnation) < oldest;
    for (Incarnation(incarnation), last) in noted.iter().filter(|(life, _)| !is_forgotten(life.0.cast_signed())) {
        let (incarnation, last) = (incarnation.cast_signed(), last.cast_signed());
        let known: Option<i64> = transaction
            .query_row("SELECT last FROM lives WHERE incarnation = ?1", [incarnation], |row| row.get(0))
            .optional()?;
        if known.unwrap_or(0) < last {
            damage.push(format!(
                "its end was torn off or it was removed: numbers {} to {last} of incarnation {incarnation} were given out and are not in it",
                known.unwrap_or(0) + 1
            ));
        }
        transaction.execute(&merge.replace("{}", "VALUES (?1, ?2)"), [incarnation, last])?;
    }
    Ok(())
}
