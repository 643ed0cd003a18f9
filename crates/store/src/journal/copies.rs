//! Where readings with their numbers are, so that a number that comes again can be compared with what it was.
//!
//! A copy of a reading says the same as the one before it: same series, same fields, same time. How numbers and names are
//! written does not matter, and neither do the nanoseconds by which the one before it was moved ([`super::point_index`]). Anything
//! else under the same number is another reading.
//!
//! Bounded: of the latest [`PLACES_MAX`] runs of numbers it is known in which block they are, also after a start, as long as
//! that block is here. What an earlier number said is not known any more then: what comes with it counts as a copy.

use std::collections::VecDeque;

use hashbrown::HashMap;
use rusqlite::Connection;

use super::block::{Copies, Index, Owner, Place};
use heartwatch_domain::reading::{FieldValue, Sequence};
use heartwatch_formats::line_protocol::{BorrowedRow, decode_borrowed};

/// Most runs of numbers whose block is known, about.
const PLACES_MAX: usize = 1 << 18;
/// Most runs of one owner that came late or again.
const OTHER_PLACES_MAX: usize = 1_024;
/// Most bytes of indexes that are read for that at the start.
const INDEX_BYTES_READ_MAX: usize = 64 << 20;
/// A reading is moved by less than this to have a time of its own, in nanoseconds.
const MOVED_NANOS_MAX: i64 = 1_000_000;

/// In which blocks the numbers are.
#[derive(Debug, Default)]
pub(super) struct Places {
    by_owner: HashMap<Owner, OwnPlaces>,
    /// Of the blocks that are known, how many places each has, oldest first.
    blocks: VecDeque<(i64, usize)>,
    count: usize,
}

/// The places of one owner.
#[derive(Debug, Default)]
struct OwnPlaces {
    /// Each begins behind the one before it: nearly all do.
    in_order: VecDeque<Place>,
    /// What came late or again.
    others: VecDeque<Place>,
}

impl OwnPlaces {
    fn add(&mut self, place: Place) {
        if self.in_order.back().is_none_or(|last| last.last < place.first) {
            self.in_order.push_back(place);
        } else {
            if self.others.len() >= OTHER_PLACES_MAX {
                self.others.pop_front();
            }
            self.others.push_back(place);
        }
    }

    fn of(&self, sequence: Sequence) -> impl Iterator<Item = i64> {
        let behind = self.in_order.partition_point(|place| place.first <= sequence);
        let in_order = behind.checked_sub(1).and_then(|at| self.in_order.get(at));
        let all = in_order.into_iter().chain(self.others.iter().rev());
        all.filter(move |place| place.may_have(sequence)).map(|place| place.block)
    }

    fn forget_through(&mut self, block: i64) {
        for places in [&mut self.in_order, &mut self.others] {
            while places.pop_front_if(|place| place.block <= block).is_some() {}
        }
    }

    fn len(&self) -> usize {
        self.in_order.len() + self.others.len()
    }
}

impl Places {
    /// The blocks in which a number may be.
    pub(super) fn of(&self, owner: &Owner, sequence: Sequence) -> impl Iterator<Item = i64> {
        self.by_owner.get(owner).into_iter().flat_map(move |places| places.of(sequence))
    }

    /// Takes over what a commit has added, in the order of the blocks.
    pub(super) fn adopt(&mut self, added: Vec<(Owner, Place)>) {
        for (owner, place) in added {
            match self.blocks.back_mut().filter(|(block, _)| *block == place.block) {
                Some((_, count)) => *count += 1,
                None => self.blocks.push_back((place.block, 1)),
            }
            self.by_owner.entry(owner).or_default().add(place);
            self.count += 1;
        }
        // they are looked through for the oldest only now and then
        if self.count > PLACES_MAX + PLACES_MAX / 8 {
            self.forget();
        }
    }

    fn forget(&mut self) {
        let mut forgotten = i64::MIN;
        while self.count > PLACES_MAX
            && self.blocks.len() > 1
            && let Some((block, count)) = self.blocks.pop_front()
        {
            self.count = self.count.saturating_sub(count);
            forgotten = block;
        }
        self.by_owner.retain(|_, places| {
            places.forget_through(forgotten);
            places.len() > 0
        });
        self.count = self.by_owner.values().map(OwnPlaces::len).sum();
    }

    /// The latest numbers of a file.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let mut found = Vec::new();
        let mut bytes = 0;
        let mut select = connection.prepare("SELECT id, row_index FROM blocks ORDER BY id DESC")?;
        let mut rows = select.query([])?;
        while found.len() < PLACES_MAX
            && bytes < INDEX_BYTES_READ_MAX
            && let Some(row) = rows.next()?
        {
            let (block, index) = (row.get(0)?, row.get_ref(1)?.as_blob().unwrap_or_default());
            bytes += index.len();
            let parts = Index::read(index).map(|index| index.parts()).unwrap_or_default();
            found.extend(parts.into_iter().rev().filter_map(|(owner, part)| Some((owner, part.place(block)?))));
        }
        found.reverse();
        let mut places = Self::default();
        places.adopt(found);
        Ok(places)
    }
}

/// A block that was read for its copies.
#[derive(Debug)]
pub(super) struct ReadBlock {
    pub(super) owners: Vec<Owner>,
    pub(super) copies: Copies,
    pub(super) lines: Vec<u8>,
}

impl ReadBlock {
    /// None where its index is damaged.
    pub(super) fn new(index: &[u8], lines: Vec<u8>) -> Option<Self> {
        let index = Index::read(index)?;
        let mut copies = Copies::default();
        copies.add(&index.rows);
        Some(Self { owners: index.owners, copies, lines })
    }

    pub(super) fn of(&self, owner: &Owner, sequence: Sequence) -> impl Iterator<Item = &[u8]> {
        let owner = self.owners.iter().position(|known| known == owner);
        owner.into_iter().flat_map(move |owner| self.copies.of(owner, sequence, &self.lines))
    }
}

/// What is known of the readings that came with a number before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Before {
    /// They are not here any more.
    #[default]
    Unknown,
    /// They say something else.
    Others,
    /// One of them says the same.
    Same,
}

impl Before {
    /// With one more of them.
    pub(super) fn and(self, stored: &[u8], came: &[u8]) -> Self {
        if self == Self::Same || says_the_same(stored, came) { Self::Same } else { Self::Others }
    }
}

/// Whether a row that came is a copy of one that is stored.
fn says_the_same(stored: &[u8], came: &[u8]) -> bool {
    let (stored, came) = (stored.trim_ascii_end(), came.trim_ascii_end());
    if stored == came {
        return true;
    }
    match (decode_borrowed(stored), decode_borrowed(came)) {
        (Ok(stored), Ok(came)) => {
            times_agree(&stored, &came) && names_agree(&stored, &came) && fields_agree(stored, came)
        }
        // what cannot be read is compared as it stands
        _ => false,
    }
}

fn times_agree(stored: &BorrowedRow<'_>, came: &BorrowedRow<'_>) -> bool {
    let nanos = |row: &BorrowedRow<'_>| row.time.map(|time| time.as_nanos());
    match (nanos(stored), nanos(came)) {
        (Some(stored), Some(came)) => (0..MOVED_NANOS_MAX).contains(&stored.saturating_sub(came)),
        (stored, came) => stored == came,
    }
}

fn names_agree(stored: &BorrowedRow<'_>, came: &BorrowedRow<'_>) -> bool {
    let has = |row: &BorrowedRow<'_>, tag| row.tags.contains(tag);
    stored.measurement == came.measurement
        && stored.tags.len() == came.tags.len()
        && stored.tags.iter().all(|tag| has(came, tag))
}

fn fields_agree(mut stored: BorrowedRow<'_>, mut came: BorrowedRow<'_>) -> bool {
    stored.fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    came.fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    stored.fields.len() == came.fields.len()
        && stored.fields.iter().zip(&came.fields).all(|((a, stored), (b, came))| a == b && values_agree(stored, came))
}

/// A whole number may have been written as a float or not.
fn values_agree(stored: &FieldValue, came: &FieldValue) -> bool {
    match (stored, came) {
        (FieldValue::Float(float), FieldValue::Integer(integer))
        | (FieldValue::Integer(integer), FieldValue::Float(float)) => *float == *integer as f64,
        (stored, came) => stored == came,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heartwatch_domain::publisher::{Incarnation, PublisherId};

    #[test]
    fn a_copy_says_the_same_however_it_is_written() {
        let stored = b"m,host=h,publisher=p a=1i,b=\"x y\",c=2.5 1000\n";
        for same in [
            "m,host=h,publisher=p a=1i,b=\"x y\",c=2.5 1000",
            "m,host=h,publisher=p c=2.50,b=\"x y\",a=1 1000",
            "m,publisher=p,host=h a=1i,b=\"x y\",c=2.5 1000",
            "m,host=h,publisher=p a=1i,b=\"x y\",c=2.5 990",
        ] {
            assert!(says_the_same(stored, same.as_bytes()), "{same}");
        }
        for other in [
            "m,host=h,publisher=p a=2i,b=\"x y\",c=2.5 1000",
            "m,host=h,publisher=p a=1i,b=\"x y\" 1000",
            "m,host=h,publisher=p a=1i,b=\"x y\",c=2.5,d=1 1000",
            "m,host=h,publisher=p a=1i,b=\"x  y\",c=2.5 1000",
            "m,host=g,publisher=p a=1i,b=\"x y\",c=2.5 1000",
            "n,host=h,publisher=p a=1i,b=\"x y\",c=2.5 1000",
            "m,host=h,publisher=p a=1i,b=\"x y\",c=2.5 1001",
            "m,host=h,publisher=p a=1i,b=\"x y\",c=2.5 -1000000",
            "no row",
        ] {
            assert!(!says_the_same(stored, other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn the_latest_places_are_known_and_the_oldest_are_forgotten_by_block() {
        let owner = |number: i64| (PublisherId::parse(&format!("p{number}")).unwrap(), Incarnation(1));
        let mut places = Places::default();
        let place = |block, first| Place { block, first, last: first + 1 };
        for block in 0..8_i64 {
            let first = block.unsigned_abs() * 2 + 1;
            let fill = (1..PLACES_MAX as i64 / 4).map(|number| (owner(number), place(block, first)));
            places.adopt(std::iter::once((owner(0), place(block, first))).chain(fill).collect());
        }
        assert!(places.count <= PLACES_MAX + PLACES_MAX / 8);
        assert_eq!(places.of(&owner(0), 16).collect::<Vec<_>>(), [7]);
        assert_eq!(places.of(&owner(0), 2).count(), 0);
        assert_eq!(places.by_owner.values().map(OwnPlaces::len).sum::<usize>(), places.count);

        // what comes late is found as well
        places.adopt(vec![(owner(0), place(8, 1)), (owner(0), place(9, 30)), (owner(0), place(10, 29))]);
        let of = |sequence| places.of(&owner(0), sequence).collect::<Vec<_>>();
        assert_eq!((of(1), of(30), of(31), of(16)), (vec![8], vec![9, 10], vec![9], vec![7]));
    }
}
