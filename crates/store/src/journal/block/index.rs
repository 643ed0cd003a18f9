//! A block's index, read back: whose each row is, where it is, and whether it is what was written.

use std::ops::Range;

use super::{BlockBuilder, INDEX_VERSION, INDEX_VERSION_WITHOUT_OWNERS, Owner, Part};
use crate::encoding::{Decoder, checksum, unsealed};
use heartwatch_domain::publisher::{Incarnation, PublisherId};
use heartwatch_domain::reading::Sequence;

/// Whose a row is: the place of its owner among [`Index::owners`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::journal) enum Whose {
    /// It is outside the ledger.
    Nobody,
    /// Its owner's, without a number.
    Unnumbered(usize),
    /// A reading with its number.
    Reading(usize, Sequence),
    /// A reading whose number another one has.
    Conflict(usize, Sequence),
}

impl Whose {
    /// The place of its owner, where it has one.
    pub(in crate::journal) const fn owner(self) -> Option<usize> {
        match self {
            Self::Nobody => None,
            Self::Unnumbered(owner) | Self::Reading(owner, _) | Self::Conflict(owner, _) => Some(owner),
        }
    }

    /// The place of its owner and its number, where it has one of its own.
    pub(in crate::journal) const fn reading(self) -> Option<(usize, Sequence)> {
        match self {
            Self::Reading(owner, sequence) => Some((owner, sequence)),
            Self::Nobody | Self::Unnumbered(_) | Self::Conflict(..) => None,
        }
    }
}

/// One row of a block, or one run of rows without numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::journal) struct Row {
    /// Whose it is.
    pub(in crate::journal) whose: Whose,
    /// How many rows it stands for: 1 for a reading.
    pub(in crate::journal) rows: u64,
    /// Where its bytes are, as the index says.
    pub(in crate::journal) place: Range<usize>,
    sum: u32,
}

impl Row {
    /// Its bytes with the line end, where they are what was written.
    pub(in crate::journal) fn whole<'a>(&self, lines: &'a [u8]) -> Option<&'a [u8]> {
        lines.get(self.place.clone()).filter(|bytes| checksum(bytes) == self.sum)
    }
}

/// How far the records of an index were read.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// Bytes of records.
    read: usize,
    /// Where the next row begins.
    at: usize,
}

impl Records {
    /// Reads on to the end; none where the bytes are no records.
    pub(super) fn read(&mut self, records: &[u8], version: u64, owners: usize, rows: &mut Vec<Row>) -> Option<()> {
        let mut from = Decoder(records.get(self.read..)?);
        let at = &mut self.at;
        let mut row = |from: &mut Decoder<'_>, whose, count| {
            let end = at.checked_add(from.length()?)?;
            rows.push(Row { whose, rows: count, place: *at..end, sum: u32::from_le_bytes(from.array()?) });
            *at = end;
            Some(())
        };
        while !from.is_empty() {
            match from.length()?.checked_sub(1) {
                None => {
                    let whose = if version == INDEX_VERSION_WITHOUT_OWNERS { 0 } else { from.length()? };
                    let count = from.number()?;
                    let owner = whose.saturating_sub(1) / 2;
                    let (whose, count) = match whose {
                        0 => (Whose::Nobody, count),
                        odd if odd % 2 == 1 => (Whose::Unnumbered(owner), count),
                        _ => (Whose::Conflict(owner, count), 1),
                    };
                    if whose.owner().is_some_and(|owner| owner >= owners) {
                        return None;
                    }
                    row(&mut from, whose, count)?;
                }
                Some(owner) if owner < owners => {
                    let (first, count) = (from.number()?, from.number()?);
                    for number in 0..count {
                        row(&mut from, Whose::Reading(owner, first.checked_add(number)?), 1)?;
                    }
                }
                Some(_) => return None,
            }
        }
        self.read = records.len();
        Some(())
    }
}

/// A block's index, read back.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::journal) struct Index {
    pub(in crate::journal) owners: Vec<Owner>,
    pub(in crate::journal) rows: Vec<Row>,
}

impl Index {
    /// Reads an index; none when it was damaged.
    pub(in crate::journal) fn read(bytes: &[u8]) -> Option<Self> {
        let mut from = Decoder(unsealed(bytes)?);
        let version = from.number()?;
        if !(INDEX_VERSION_WITHOUT_OWNERS..=INDEX_VERSION).contains(&version) {
            return None;
        }
        let mut owners = Vec::new();
        for _ in 0..from.number()? {
            owners.push((PublisherId::parse(&from.text()?).ok()?, Incarnation(from.number()?)));
        }
        let mut rows = Vec::new();
        Records::default().read(from.0, version, owners.len(), &mut rows)?;
        Some(Self { owners, rows })
    }

    /// What each owner has in the block.
    pub(in crate::journal) fn parts(&self) -> Vec<(Owner, Part)> {
        let mut parts: Vec<_> = self.owners.iter().map(|owner| (owner.clone(), Part::of(owner))).collect();
        for row in &self.rows {
            if let Some((_, part)) = row.whose.owner().and_then(|owner| parts.get_mut(owner)) {
                part.add(row.whose, row.rows, row.place.len());
            }
        }
        parts
    }

    /// Whose a row is, with a number of its own or of another.
    pub(in crate::journal) fn owner_of(&self, row: &Row) -> Option<&Owner> {
        self.owners.get(row.whose.owner()?)
    }

    /// Whether every row is what was written.
    pub(in crate::journal) fn all_whole(&self, lines: &[u8]) -> bool {
        self.rows.last().map_or(0, |row| row.place.end) == lines.len()
            && self.rows.iter().all(|row| row.whole(lines).is_some())
    }

    /// The block again, of its whole rows only, and how many rows of each owner are gone.
    pub(in crate::journal) fn repaired(&self, lines: &[u8]) -> (BlockBuilder, Vec<(Owner, u64)>) {
        let mut repaired = BlockBuilder::default();
        let mut gone = vec![0_u64; self.owners.len()];
        for row in &self.rows {
            match (row.whole(lines), row.whose.owner()) {
                (Some(line), _) => repaired.push_again(self, row, line),
                (None, Some(owner)) => gone.get_mut(owner).into_iter().for_each(|count| *count += row.rows),
                (None, None) => {}
            }
        }
        (repaired, self.owners.iter().cloned().zip(gone).filter(|&(_, count)| count > 0).collect())
    }
}
