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

use super::block::{Index, line_time};

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

/// What became of a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stamped {
    /// Its point is its own.
    AsItIs {
        /// Its time.
        time: i64,
    },
    /// Another one has its point: it has the next free one.
    Moved {
        /// The row with its new time.
        line: Vec<u8>,
        /// That time.
        time: i64,
    },
    /// It leaves its time to the server, or there is no later time.
    Unknown,
}

/// What a commit adds.
#[derive(Debug, Default)]
pub(super) struct Points {
    taken: Taken,
    /// The newest time of a series.
    newest: ByHash<i64>,
    /// The rows that came last.
    run: Run,
}

/// Rows of one series, one after the other, each later than the one before: nearly all are. They are looked up once.
#[derive(Debug, Default)]
struct Run {
    /// Measurement and tags as they stand in the rows; empty where there is no run.
    written: Vec<u8>,
    series: u64,
    newest: Option<i64>,
    /// The points that it takes.
    times: Vec<i64>,
}

/// Points that are taken.
#[derive(Debug, Default)]
struct Taken {
    /// By series: those that were later than all before them, so in order. Most are.
    ordered: ByHash<Vec<i64>>,
    /// How many nanoseconds from a point on are taken without a gap: of the others.
    others: ByHash<u32>,
    /// How many there are.
    count: usize,
}

impl Taken {
    /// How many nanoseconds from a point on are known to be taken.
    fn at(&self, series: u64, time: i64, key: u64) -> Option<u32> {
        let in_order = || self.ordered.get(&series).is_some_and(|times| times.binary_search(&time).is_ok());
        self.others.get(&key).copied().map(|taken| taken.max(1)).or_else(|| in_order().then_some(1))
    }

    /// Takes a point that is later than all others of its series.
    fn take_latest(&mut self, series: u64, time: i64) {
        self.ordered.entry(series).or_default().push(time);
        self.count += 1;
    }

    fn take_other(&mut self, key: u64) {
        self.others.insert(key, 1);
        self.count += 1;
    }

    fn extend(&mut self, added: Self) {
        self.others.extend(added.others);
        for (series, mut times) in added.ordered {
            self.ordered.entry(series).or_default().append(&mut times);
        }
        self.count += added.count;
    }
}

/// The points that are remembered. One that is taken for another (one in 2^64) is moved without need.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    hasher: DefaultHashBuilder,
    young: Taken,
    old: Taken,
    /// No remembered point of a series is later than its time here. Most readings are later than all before
    /// them, and need no other look. A series is in it from its first reading on or never.
    newest: ByHash<i64>,
}

impl Stamps {
    /// Takes a row's point, or the next free one after it. What is taken is noted in `added`, which
    /// [`Stamps::adopt`] takes over. `time` is the time at the row's end, where that is known.
    pub(super) fn distinct(&self, added: &mut Points, line: &[u8], time: Option<i64>) -> Stamped {
        let Some(time) = time.or_else(|| line_time(line)) else { return Stamped::Unknown };
        if !added.run.has(line) {
            let Some(end) = series_end(line) else { return Stamped::Unknown };
            self.begin_run(added, line.get(..end).unwrap_or_default());
        }
        if added.run.newest.map_or(self.newest.len() < SERIES_MAX, |newest| time > newest) {
            added.run.times.push(time);
            added.run.newest = Some(time);
            return Stamped::AsItIs { time };
        }
        let point = Point { series: added.run.series, time };
        added.end_run();
        let first = point.key(&self.hasher, point.time);
        let Some(taken) = self.taken(added, &point, point.time, first) else {
            added.take_other(&point, first, time);
            return Stamped::AsItIs { time };
        };
        let mut offset = i64::from(taken);
        loop {
            let Some(time) = point.time.checked_add(offset).filter(|time| *time < i64::MAX) else {
                return Stamped::Unknown;
            };
            let key = point.key(&self.hasher, time);
            if let Some(taken) = self.taken(added, &point, time, key) {
                offset += i64::from(taken);
                continue;
            }
            added.taken.others.insert(first, u32::try_from(offset + 1).unwrap_or(u32::MAX));
            added.take_other(&point, key, time);
            let time_begins = line.iter().rposition(|&byte| byte == b' ').map_or(0, |space| space + 1);
            let mut line = line.get(..time_begins).unwrap_or_default().to_vec();
            line.extend_from_slice(time.to_string().as_bytes());
            return Stamped::Moved { line, time };
        }
    }

    fn begin_run(&self, added: &mut Points, written: &[u8]) {
        added.end_run();
        let series = self.hasher.hash_one(written);
        let newest = added.newest.get(&series).max(self.newest.get(&series)).copied();
        let run = &mut added.run;
        run.written.extend_from_slice(written);
        (run.series, run.newest) = (series, newest);
    }

    /// Takes over what a commit has added.
    pub(super) fn adopt(&mut self, mut added: Points) {
        added.end_run();
        if self.young.count >= POINTS_REMEMBERED_MIN {
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
        while points.taken.count < POINTS_REMEMBERED_MIN
            && bytes < BYTES_READ_MAX
            && let Some(row) = rows.next()?
        {
            let lines = row.get_ref(1)?.as_blob().unwrap_or_default();
            bytes += lines.len();
            let Some(index) = Index::read(row.get_ref(0)?.as_blob().unwrap_or_default()) else { continue };
            let readings = index.rows.iter().filter(|row| row.whose.reading().is_some());
            let whole = readings.filter_map(|row| Point::of(&stamps.hasher, row.whole(lines)?.trim_ascii_end()));
            for point in whole {
                points.taken.take_latest(point.series, point.time);
                points.note(&point, point.time);
            }
        }
        for times in points.taken.ordered.values_mut() {
            times.sort_unstable();
        }
        stamps.adopt(points);
        Ok(stamps)
    }

    fn taken(&self, added: &Points, point: &Point, time: i64, key: u64) -> Option<u32> {
        // a count of what follows may be in one of them only, so that the largest is the one to go by
        [&added.taken, &self.young, &self.old].into_iter().filter_map(|taken| taken.at(point.series, time, key)).max()
    }
}

impl Points {
    /// Notes what the run takes. The next row begins another one.
    fn end_run(&mut self) {
        let Run { written, series, newest, times } = &mut self.run;
        written.clear();
        if let (false, Some(newest)) = (times.is_empty(), *newest) {
            self.taken.count += times.len();
            self.taken.ordered.entry(*series).or_default().append(times);
            self.newest.insert(*series, newest);
        }
    }

    fn take_other(&mut self, point: &Point, key: u64, time: i64) {
        self.taken.take_other(key);
        self.note(point, time);
    }

    fn note(&mut self, point: &Point, time: i64) {
        let newest = self.newest.entry(point.series).or_insert(time);
        *newest = time.max(*newest);
    }
}

impl Run {
    /// Whether a row is of its series.
    fn has(&self, line: &[u8]) -> bool {
        !self.written.is_empty()
            && line.strip_prefix(self.written.as_slice()).is_some_and(|rest| rest.starts_with(b" "))
    }
}

/// A row's series, as a hash, and its time.
struct Point {
    series: u64,
    time: i64,
}

impl Point {
    /// None where the row leaves its time to the server.
    fn of(hasher: &DefaultHashBuilder, line: &[u8]) -> Option<Self> {
        let series = hasher.hash_one(line.get(..series_end(line)?)?);
        Some(Self { series, time: line_time(line)? })
    }

    fn key(&self, hasher: &DefaultHashBuilder, time: i64) -> u64 {
        hasher.hash_one((self.series, time))
    }
}

/// Where measurement and tags end: at the first space that has no backslash of its own before it.
fn series_end(line: &[u8]) -> Option<usize> {
    let first = line.iter().position(|&byte| byte == b' ')?;
    if !line.get(..first)?.contains(&b'\\') {
        return Some(first);
    }
    let mut escaped = false;
    line.iter().position(|&byte| {
        let ends = byte == b' ' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}
