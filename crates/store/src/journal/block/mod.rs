//! A block: rows in line protocol, one after the other, and an index that says whose each row is and
//! holds a checksum of it.
//!
//! The index makes a block self-describing: with it, readings can be counted, a refused row can be
//! named by its number, a damaged row can be told from its whole neighbours, and a lost ledger can be
//! built again. Its layout (numbers are LEB128, checksums CRC-32, little endian):
//! `version=2`, count of owners, each: publisher id (length, bytes), incarnation; then records until
//! the checksum of the index itself: n > 0 = readings of the n-th owner: first number, count, and for
//! each: bytes, checksum; 0 = other rows. For those follows 0 = outside the ledger: rows, bytes, checksum;
//! 2n - 1 = rows of the n-th owner without numbers: rows, bytes, checksum; 2n = one reading of the n-th owner
//! whose number another one has: number, bytes, checksum. In version 1 other rows are outside the ledger
//! always, and nothing says so.

mod index;

use std::ops::Range;

use self::index::Records;
pub(super) use self::index::{Index, Row, Whose};
use crate::encoding::{checksum, put_bytes, put_number, sealed};
use hashbrown::HashMap;
use heartwatch_domain::publisher::{Incarnation, PublisherId};
use heartwatch_domain::reading::Sequence;

/// A publisher in one of its lives.
pub(super) type Owner = (PublisherId, Incarnation);

/// Most rows of a block.
pub(super) const BLOCK_ROWS_MAX: u64 = 5_000;
/// A block is full at this many bytes of rows.
pub(super) const BLOCK_BYTES_MAX: usize = 1 << 20;
/// Room that is made for a block's rows at once, at most: for as many as it may have, of a usual length.
const ROOM_BYTES_MAX: usize = 400 * 1024;
/// What a block takes on disk beyond its rows and index, about.
pub(super) const BLOCK_OVERHEAD_BYTES: u64 = 64;

const INDEX_VERSION: u64 = 2;
/// The first version: its rows without numbers are nobody's.
const INDEX_VERSION_WITHOUT_OWNERS: u64 = 1;
/// What a row takes in the index, about.
const INDEX_ROW_BYTES: usize = 6;
/// What an owner takes in the index besides its name, about.
const INDEX_OWNER_BYTES: usize = 9;

/// What one owner has in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Part {
    /// All its rows.
    pub(super) rows: u64,
    /// Those of them that have no number of their own.
    pub(super) unnumbered: u64,
    /// Those of the unnumbered that have a number of another reading.
    pub(super) conflicts: u64,
    /// Bytes that they take, about.
    pub(super) bytes: u64,
    /// The lowest and the highest number of its rows; 0 where none has one.
    pub(super) numbers: (Sequence, Sequence),
}

impl Part {
    fn of(owner: &Owner) -> Self {
        Self { bytes: (owner.0.as_str().len() + INDEX_OWNER_BYTES) as u64, ..Self::default() }
    }

    /// What a row or a run of rows of so many bytes counts for.
    pub(super) const fn row_bytes(bytes: usize) -> u64 {
        (bytes + INDEX_ROW_BYTES) as u64
    }

    fn add(&mut self, whose: Whose, rows: u64, bytes: usize) {
        self.rows += rows;
        self.bytes += Self::row_bytes(bytes);
        match whose {
            Whose::Nobody => {}
            Whose::Unnumbered(_) => self.unnumbered += rows,
            Whose::Reading(_, sequence) => self.note_number(sequence),
            Whose::Conflict(_, sequence) => {
                self.unnumbered += rows;
                self.conflicts += rows;
                self.note_number(sequence);
            }
        }
    }

    const fn note_number(&mut self, sequence: Sequence) {
        let (first, last) = self.numbers;
        if first == 0 || sequence < first {
            self.numbers.0 = sequence;
        }
        if sequence > last {
            self.numbers.1 = sequence;
        }
    }

    /// Where its numbers are, when they are in this block; none where no row has one.
    pub(super) const fn place(&self, block: i64) -> Option<Place> {
        let (first, last) = self.numbers;
        if last > 0 { Some(Place { block, first, last }) } else { None }
    }
}

/// Numbers of one owner that are in one block; not all between the first and the last have to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) block: i64,
    pub(super) first: Sequence,
    pub(super) last: Sequence,
}

impl Place {
    pub(super) const fn may_have(&self, sequence: Sequence) -> bool {
        self.first <= sequence && sequence <= self.last
    }
}

/// A finished block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) rows: u64,
    /// Earliest and latest timestamp of its rows, in nanoseconds; none where no row has one.
    pub(super) times: Option<(i64, i64)>,
    pub(super) index: Vec<u8>,
    pub(super) lines: Vec<u8>,
    /// What each owner has in it.
    pub(super) parts: Vec<(Owner, Part)>,
}

impl Block {
    /// What it counts against the limit.
    pub(super) fn bytes(&self) -> u64 {
        (self.index.len() + self.lines.len()) as u64 + BLOCK_OVERHEAD_BYTES
    }
}

/// Where in one block's lines the readings of a number are: the reading, and others that came with its number.
#[derive(Debug, Default)]
pub(super) struct Copies(HashMap<(usize, Sequence), Vec<Range<usize>>>);

impl Copies {
    pub(super) fn add(&mut self, rows: &[Row]) {
        for row in rows {
            if let Whose::Reading(owner, sequence) | Whose::Conflict(owner, sequence) = row.whose {
                self.0.entry((owner, sequence)).or_default().push(row.place.clone());
            }
        }
    }

    pub(super) fn of<'a>(
        &self,
        owner: usize,
        sequence: Sequence,
        lines: &'a [u8],
    ) -> impl Iterator<Item = &'a [u8]> + use<'a, '_> {
        let places = self.0.get(&(owner, sequence)).into_iter().flatten();
        places.filter_map(|place| lines.get(place.clone()))
    }
}

/// Gathers rows into a block.
#[derive(Debug, Default)]
pub(super) struct BlockBuilder {
    /// Bytes of rows to make room for at the first one.
    bytes_expected: usize,
    rows: u64,
    times: Option<(i64, i64)>,
    lines: Vec<u8>,
    /// Each with what it has here.
    owners: Vec<(Owner, Part)>,
    /// Their numbers here, from 1 on, by those that the caller has for them; 0 where it is not here.
    owner_numbers: Vec<usize>,
    records: Vec<u8>,
    run: Option<SequenceRun>,
    /// Lengths and checksums of the run's rows.
    run_rows: Vec<u8>,
    /// Where numbers are that came again, as far as the records were read for them.
    copies: Copies,
    copies_read: Records,
}

/// Readings with consecutive numbers.
#[derive(Debug)]
struct SequenceRun {
    owner_number: usize,
    first: Sequence,
    count: u64,
}

impl BlockBuilder {
    /// For about so many bytes of rows.
    pub(super) fn expecting(bytes: usize) -> Self {
        Self { bytes_expected: bytes.min(ROOM_BYTES_MAX), ..Self::default() }
    }

    pub(super) const fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows >= BLOCK_ROWS_MAX || self.lines.len() >= BLOCK_BYTES_MAX
    }

    /// Bytes so far, about.
    pub(super) fn bytes(&self) -> u64 {
        (self.lines.len() + self.records.len() + self.run_rows.len()) as u64
    }

    /// What the owner that the caller calls so has here, in bytes.
    pub(super) fn part_bytes(&self, number: usize) -> u64 {
        let here = self.owner_numbers.get(number).and_then(|here| self.owners.get(here.checked_sub(1)?));
        here.map_or(0, |(_, part)| part.bytes)
    }

    /// Adds one reading; the line has no line end. `number` is what the caller calls its owner: a small number, always
    /// the same for the same one.
    pub(super) fn push_reading(&mut self, number: usize, owner: &Owner, sequence: Sequence, line: &[u8]) {
        self.push_timed(number, owner, sequence, line, line_time(line));
    }

    /// The same where the time at its end is known.
    pub(super) fn push_timed(
        &mut self,
        number: usize,
        owner: &Owner,
        sequence: Sequence,
        line: &[u8],
        time: Option<i64>,
    ) {
        let owner_number = self.number_here(number, owner);
        let (bytes, sum) = self.push_line(line);
        self.note_time(time);
        self.rows += 1;
        self.note_part(Whose::Reading(owner_number - 1, sequence), 1, bytes);
        if !self.run.as_ref().is_some_and(|run| run.owner_number == owner_number && run.first + run.count == sequence) {
            self.end_run();
        }
        let run = self.run.get_or_insert(SequenceRun { owner_number, first: sequence, count: 0 });
        run.count += 1;
        put_number(&mut self.run_rows, bytes as u64);
        self.run_rows.extend_from_slice(&sum.to_le_bytes());
    }

    /// Adds rows outside the ledger, each ended by `\n`.
    pub(super) fn push_rows(&mut self, lines: &[u8], rows: u64) {
        self.push_others(Whose::Nobody, lines, rows);
    }

    /// Adds rows of an owner that have no numbers, each ended by `\n`; `number` as for a reading. Says the earliest
    /// of their times.
    pub(super) fn push_unnumbered(&mut self, number: usize, owner: &Owner, lines: &[u8], rows: u64) -> Option<i64> {
        let owner = self.number_here(number, owner) - 1;
        self.push_others(Whose::Unnumbered(owner), lines, rows);
        lines.split(|&byte| byte == b'\n').filter_map(line_time).min()
    }

    /// Adds a reading whose number another one has.
    pub(super) fn push_conflict(&mut self, number: usize, owner: &Owner, sequence: Sequence, line: &[u8]) {
        let owner = self.number_here(number, owner) - 1;
        self.push_others(Whose::Conflict(owner, sequence), line, 1);
    }

    fn push_others(&mut self, whose: Whose, lines: &[u8], rows: u64) {
        self.end_run();
        let (bytes, sum) = self.push_line(lines.strip_suffix(b"\n").unwrap_or(lines));
        let (owner, count) = match whose {
            Whose::Nobody => (0, rows),
            Whose::Unnumbered(owner) | Whose::Reading(owner, _) => (owner as u64 * 2 + 1, rows),
            Whose::Conflict(owner, sequence) => (owner as u64 * 2 + 2, sequence),
        };
        put_number(&mut self.records, 0);
        put_number(&mut self.records, owner);
        put_number(&mut self.records, count);
        put_number(&mut self.records, bytes as u64);
        self.records.extend_from_slice(&sum.to_le_bytes());
        self.rows += rows;
        self.note_part(whose, rows, bytes);
        for line in lines.split(|&byte| byte == b'\n') {
            self.note_time(line_time(line));
        }
    }

    /// Adds text and a line end; says how many bytes they are, and their checksum.
    fn push_line(&mut self, line: &[u8]) -> (usize, u32) {
        let start = self.lines.len();
        if start == 0 {
            self.lines.reserve(self.bytes_expected);
        }
        self.lines.extend_from_slice(line);
        self.lines.push(b'\n');
        let row = self.lines.get(start..).unwrap_or_default();
        (row.len(), checksum(row))
    }

    fn note_part(&mut self, whose: Whose, rows: u64, bytes: usize) {
        if let Some((_, part)) = whose.owner().and_then(|owner| self.owners.get_mut(owner)) {
            part.add(whose, rows, bytes);
        }
    }

    /// What it holds of the readings that came with a number; `number` is what the caller calls their owner.
    pub(super) fn copies(&mut self, number: usize, sequence: Sequence) -> impl Iterator<Item = &[u8]> {
        let here = self.owner_numbers.get(number).copied().unwrap_or(0);
        if here > 0 {
            self.end_run();
            let mut rows = Vec::new();
            let read = self.copies_read.read(&self.records, INDEX_VERSION, self.owners.len(), &mut rows);
            debug_assert!(read.is_some(), "the records are as they were written here");
            self.copies.add(&rows);
        }
        let (copies, lines) = (&self.copies, &self.lines);
        here.checked_sub(1).into_iter().flat_map(move |owner| copies.of(owner, sequence, lines))
    }

    /// The owner's number in this block, from 1 on.
    fn number_here(&mut self, number: usize, owner: &Owner) -> usize {
        if number >= self.owner_numbers.len() {
            self.owner_numbers.resize(number + 1, 0);
        }
        let Some(here) = self.owner_numbers.get_mut(number) else { return 1 };
        if *here == 0 {
            self.owners.push((owner.clone(), Part::of(owner)));
            *here = self.owners.len();
        }
        *here
    }

    /// The block; none when it has no rows.
    pub(super) fn finish(mut self) -> Option<Block> {
        self.end_run();
        if self.rows == 0 {
            return None;
        }
        let mut index = Vec::with_capacity(self.records.len() + 32);
        put_number(&mut index, INDEX_VERSION);
        put_number(&mut index, self.owners.len() as u64);
        for ((publisher, incarnation), _) in &self.owners {
            put_bytes(&mut index, publisher.as_str().as_bytes());
            put_number(&mut index, incarnation.0);
        }
        index.extend_from_slice(&self.records);
        let Self { rows, times, lines, owners: parts, .. } = self;
        Some(Block { rows, times, index: sealed(index), lines, parts })
    }

    /// Adds a row of another block, whose bytes are these.
    pub(super) fn push_again(&mut self, index: &Index, row: &Row, line: &[u8]) {
        match (row.whose, index.owner_of(row)) {
            (Whose::Reading(number, sequence), Some(owner)) => {
                self.push_reading(number, owner, sequence, line.strip_suffix(b"\n").unwrap_or(line));
            }
            (Whose::Conflict(number, sequence), Some(owner)) => self.push_conflict(number, owner, sequence, line),
            (Whose::Unnumbered(number), Some(owner)) => drop(self.push_unnumbered(number, owner, line, row.rows)),
            (_, _) => self.push_rows(line, row.rows),
        }
    }

    fn end_run(&mut self) {
        if let Some(run) = self.run.take() {
            put_number(&mut self.records, run.owner_number as u64);
            put_number(&mut self.records, run.first);
            put_number(&mut self.records, run.count);
            self.records.append(&mut self.run_rows);
        }
    }

    fn note_time(&mut self, time: Option<i64>) {
        if let Some(time) = time {
            let (earliest, latest) = self.times.unwrap_or((time, time));
            self.times = Some((earliest.min(time), latest.max(time)));
        }
    }
}

/// The timestamp at the end of a row in line protocol, in nanoseconds.
pub(super) fn line_time(line: &[u8]) -> Option<i64> {
    let last = line.rsplit(|&byte| byte == b' ').next()?;
    std::str::from_utf8(last).ok()?.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn owner(number: u64) -> Owner {
        (PublisherId::parse(&format!("p{}", number % 3)).unwrap(), Incarnation(number % 2 + 1_700_000_000_000_000))
    }

    fn built(rows: &[(u64, Sequence, Vec<u8>)]) -> Block {
        let mut builder = BlockBuilder::default();
        for (who, sequence, line) in rows {
            let (number, owner) = (usize::try_from(*who % 6).unwrap(), &owner(*who));
            if *who == 9 {
                builder.push_rows(b"a x=1 1\nb x=2 2\n", 2);
            } else if *who == 8 {
                assert_eq!(builder.push_unnumbered(number, owner, b"a x=1 1\nb x=2 2\n", 2), Some(1));
            } else if *who == 7 {
                builder.push_conflict(number, owner, *sequence, line);
            } else {
                builder.push_reading(number, owner, *sequence, line);
            }
        }
        builder.finish().unwrap()
    }

    proptest! {
        #[test]
        fn a_block_tells_whose_its_rows_are_and_which_are_whole(
            rows in prop::collection::vec((0..10_u64, 1..20_u64, prop::collection::vec(b' '..b'z', 1..40)), 1..40),
            flip in any::<prop::sample::Index>(),
        ) {
            let block = built(&rows);
            let index = Index::read(&block.index).unwrap();
            prop_assert!(index.all_whole(&block.lines));
            let read: Vec<_> = index.rows.iter().map(|row| {
                let sequence = match row.whose {
                    Whose::Reading(_, sequence) => (0, sequence),
                    Whose::Conflict(_, sequence) => (1, sequence),
                    Whose::Unnumbered(_) | Whose::Nobody => (2, row.rows),
                };
                (index.owner_of(row).cloned(), sequence, row.whole(&block.lines).unwrap().to_vec())
            }).collect();
            let written: Vec<_> = rows.iter().map(|(who, sequence, line)| match who {
                9 => (None, (2, 2), b"a x=1 1\nb x=2 2\n".to_vec()),
                8 => (Some(owner(8)), (2, 2), b"a x=1 1\nb x=2 2\n".to_vec()),
                7 => (Some(owner(7)), (1, *sequence), [line.as_slice(), b"\n"].concat()),
                _ => (Some(owner(*who)), (0, *sequence), [line.as_slice(), b"\n"].concat()),
            }).collect();
            prop_assert_eq!(&read, &written);
            prop_assert_eq!(&index.parts(), &block.parts);
            let (same, gone) = index.repaired(&block.lines);
            prop_assert_eq!(same.finish().unwrap(), built(&rows));
            prop_assert!(gone.is_empty());

            let mut damaged = block.lines.clone();
            let at = flip.index(damaged.len());
            damaged[at] ^= 0x10;
            prop_assert!(!index.all_whole(&damaged));
            let (repaired, gone) = index.repaired(&damaged);
            let left = repaired.finish().map_or(0, |block| block.rows);
            let lost: u64 = gone.iter().map(|(_, count)| count).sum();
            prop_assert!(left + lost == block.rows || left + 2 == block.rows && lost == 0, "{left} and {lost} of {}", block.rows);

            let mut damaged = block.index;
            let at = flip.index(damaged.len());
            damaged[at] ^= 0x10;
            prop_assert_eq!(Index::read(&damaged), None);
        }
    }

    #[test]
    fn an_index_of_the_first_version_is_read() {
        let (first, outside) = (b"m x=1 1\n", b"beat x=1 1\nbeat x=2 2\n");
        let mut index = Vec::new();
        for number in [1, 1] {
            put_number(&mut index, number);
        }
        put_bytes(&mut index, b"light");
        for number in [17, 1, 4, 1, first.len() as u64] {
            put_number(&mut index, number);
        }
        index.extend_from_slice(&checksum(first).to_le_bytes());
        for number in [0, 2, outside.len() as u64] {
            put_number(&mut index, number);
        }
        index.extend_from_slice(&checksum(outside).to_le_bytes());
        let index = Index::read(&sealed(index)).unwrap();
        assert!(index.all_whole(&[&first[..], outside].concat()));
        let whose: Vec<_> = index.rows.iter().map(|row| (row.whose, row.rows)).collect();
        assert_eq!(whose, [(Whose::Reading(0, 4), 1), (Whose::Nobody, 2)]);
    }

    #[test]
    fn the_times_of_its_rows_are_known() {
        let mut builder = BlockBuilder::default();
        builder.push_reading(7, &owner(1), 1, b"m,a=b x=\"1 2\" 30");
        builder.push_rows(b"m x=1 -10\nm x=2\n", 2);
        assert_eq!(builder.finish().unwrap().times, Some((-10, 30)));
    }
}
