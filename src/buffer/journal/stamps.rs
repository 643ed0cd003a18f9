//! Which points are taken. Two readings of one series with one timestamp would be one point in the
//! store, without a word: the later one is moved by as many nanoseconds as it takes, before it is
//! written to the journal. From there on it is the same row at every retry.
//!
//! Our own publishers never give a timestamp twice within one life. What remains is publishers of other
//! makers, and lives whose clock was set back. Invariant, attacked by `tests/stamps.rs`: among the
//! readings that are remembered here no two have the same series and time.
//!
//! Bounded: at least the latest [`POINTS_REMEMBERED_MIN`] readings are remembered, at most twice as many,
//! and after a start those that are still in the file.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher};

use hashbrown::DefaultHashBuilder;
use rusqlite::Connection;

use super::block::Index;

/// How many of the latest readings are remembered at least.
pub(super) const POINTS_REMEMBERED_MIN: usize = 1 << 18;
/// Most bytes of rows that are read for that at the start.
const BYTES_READ_MAX: usize = 64 << 20;

/// Most series whose newest time is known.
const SERIES_MAX: usize = 100_000;

/// Something by a hash of a series, or of a series and a time.
type ByHash<T> = HashMap<u64, T, BuildHasherDefault<HashedAlready>>;

/// Its keys are hashes: they are not hashed once more.
#[derive(Debug, Default)]
pub(super) struct HashedAlready(u64);

impl Hasher for HashedAlready {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, &byte| hash.rotate_left(8) ^ u64::from(byte));
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// What a commit adds.
#[derive(Debug, Default)]
pub(super) struct Points {
    /// How many nanoseconds from a point on are taken without a gap.
    taken: ByHash<u32>,
    /// The newest time of a series.
    newest: ByHash<i64>,
}

/// The points that are remembered. One that is taken for another (one in 2^64) is moved without need.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    hasher: DefaultHashBuilder,
    young: ByHash<u32>,
    old: ByHash<u32>,
    /// No remembered point of a series is later than its time here. Most readings are later than all before
    /// them, and need no other look. A series is in it from its first reading on or never.
    newest: ByHash<i64>,
}

impl Stamps {
    /// Takes a row's point, or the next free one after it. Answers the row with its new time where it
    /// had to be moved; what is taken is noted in `added`, which [`Stamps::adopt`] takes over.
    pub(super) fn distinct(&self, added: &mut Points, line: &[u8]) -> Option<Vec<u8>> {
        let point = Point::of(&self.hasher, line)?;
        let first = point.key(&self.hasher, point.time);
        let newest = added.newest.get(&point.series).max(self.newest.get(&point.series)).copied();
        let is_latest = newest.map_or(self.newest.len() < SERIES_MAX, |newest| point.time > newest);
        let taken = if is_latest { None } else { self.taken(added, first) };
        let Some(taken) = taken else {
            added.take(&point, first, point.time);
            return None;
        };
        let mut offset = i64::from(taken);
        loop {
            let time = point.time.checked_add(offset).filter(|time| *time < i64::MAX)?;
            let key = point.key(&self.hasher, time);
            if let Some(taken) = self.taken(added, key) {
                offset += i64::from(taken);
                continue;
            }
            added.taken.insert(first, u32::try_from(offset + 1).unwrap_or(u32::MAX));
            added.take(&point, key, time);
            let mut moved = line.get(..point.time_begins).unwrap_or_default().to_vec();
            moved.extend_from_slice(time.to_string().as_bytes());
            return Some(moved);
        }
    }

    /// Takes over what a commit has added.
    pub(super) fn adopt(&mut self, added: Points) {
        if self.young.len() >= POINTS_REMEMBERED_MIN {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.extend(added.taken);
        for (series, time) in added.newest {
            let has_place = self.newest.len() < SERIES_MAX;
            match self.newest.get_mut(&series) {
                Some(newest) => *newest = time.max(*newest),
                None if has_place => drop(self.newest.insert(series, time)),
                None => {}
            }
        }
    }

    /// The latest readings of a file. Only those that the ledger knows of: a row outside it may come again
    /// from its publisher, and has to be the same point then.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let mut stamps = Self::default();
        let mut points = Points::default();
        let mut bytes = 0;
        let mut select = connection.prepare("SELECT row_index, lines FROM blocks ORDER BY id DESC")?;
        let mut rows = select.query([])?;
        while points.taken.len() < POINTS_REMEMBERED_MIN
            && bytes < BYTES_READ_MAX
            && let Some(row) = rows.next()?
        {
            let lines = row.get_ref(1)?.as_blob().unwrap_or_default();
            bytes += lines.len();
            let Some(index) = Index::read(row.get_ref(0)?.as_blob().unwrap_or_default()) else { continue };
            let readings = index.rows.iter().filter(|row| row.reading.is_some());
            let whole = readings.filter_map(|row| Point::of(&stamps.hasher, row.whole(lines)?.trim_ascii_end()));
            for point in whole {
                points.take(&point, point.key(&stamps.hasher, point.time), point.time);
            }
        }
        stamps.adopt(points);
        Ok(stamps)
    }

    fn taken(&self, added: &Points, key: u64) -> Option<u32> {
        added
            .taken
            .get(&key)
            .or_else(|| self.young.get(&key))
            .or_else(|| self.old.get(&key))
            .copied()
            .map(|taken| taken.max(1))
    }
}

impl Points {
    fn take(&mut self, point: &Point, key: u64, time: i64) {
        self.taken.insert(key, 1);
        let newest = self.newest.entry(point.series).or_insert(time);
        *newest = time.max(*newest);
    }
}

/// A row's series, as a hash, and its time.
struct Point {
    series: u64,
    time: i64,
    time_begins: usize,
}

impl Point {
    /// None where the row leaves its time to the server.
    fn of(hasher: &DefaultHashBuilder, line: &[u8]) -> Option<Self> {
        let time_begins = line.iter().rposition(|&byte| byte == b' ')? + 1;
        let time = std::str::from_utf8(line.get(time_begins..)?).ok()?.parse().ok()?;
        // a space in a name has a backslash before it
        let mut escaped = false;
        let series_ends = line.iter().position(|&byte| {
            let ends = byte == b' ' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        })?;
        let series = hasher.hash_one(line.get(..series_ends)?);
        Some(Self { series, time, time_begins })
    }

    fn key(&self, hasher: &DefaultHashBuilder, time: i64) -> u64 {
        hasher.hash_one((self.series, time))
    }
}
