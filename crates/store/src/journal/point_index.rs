//! Which points are taken. Two readings of one series with one timestamp would be one point in the
//! store, without a word: the later one is moved by as many nanoseconds as it takes, before it is
//! written to the journal. From there on it is the same row at every retry.
//!
//! A numbered reading takes its point as a whole: our own publishers never give a timestamp twice within one life, so that
//! what remains is publishers of other makers, and lives whose clock was set back. A row without a number takes its fields of
//! the point: another row may add others, as in InfluxDB. Invariants, attacked by `tests/point_index.rs`: among the readings that
//! are remembered here no two have the same series and time, where one of them has a number, and no two rows
//! the same series, time and field.
//!
//! Bounded: at least the latest [`POINTS_REMEMBERED_MIN`] readings are remembered, at most twice as many,
//! and after a start those that are still in the file.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher};

use hashbrown::DefaultHashBuilder;
use rusqlite::Connection;

use super::block::{Index, Whose, line_time};
use super::field_sets::{FieldSet, FieldSets};
use heartwatch_formats::line_protocol::Rows;

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
        time: i64,
        /// Whether other rows have the point as well, with other fields.
        is_shared: bool,
    },
    /// Another one has its point: it has the next free one.
    Moved {
        /// The row with its new time.
        line: Vec<u8>,
        /// That time.
        time: i64,
        /// Whether other rows have that point as well, with other fields.
        is_shared: bool,
    },
    /// It leaves its time to the server, or there is no later time.
    Unknown,
}

/// What of its point a row takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// All of it.
    Point,
    /// The fields that it has.
    Fields,
}

/// What a commit adds.
#[derive(Debug, Default)]
pub(super) struct Points {
    taken: UsedPoints,
    /// The newest time of a series.
    newest: ByHash<i64>,
    /// The rows that came last.
    run: RunOfPoints,
    field_sets: FieldSets,
}

/// Rows of one series, one after the other, each later than the one before: nearly all are. They are looked up once.
#[derive(Debug)]
struct RunOfPoints {
    /// Measurement and tags as they stand in the rows; empty where there is no run.
    written: Vec<u8>,
    series: u64,
    newest: Option<i64>,
    /// What each row takes.
    fields: FieldSet,
    /// The points that it takes.
    times: Vec<i64>,
}

impl Default for RunOfPoints {
    fn default() -> Self {
        Self { written: Vec::new(), series: 0, newest: None, fields: FieldSet::ALL, times: Vec::new() }
    }
}

/// Points of a series that were later than all before them, so in order.
#[derive(Debug)]
struct InOrder {
    /// What is taken of each.
    fields: FieldSet,
    times: Vec<i64>,
}

/// Points that are taken.
#[derive(Debug, Default)]
struct UsedPoints {
    /// By series. Most are here.
    ordered: ByHash<InOrder>,
    /// What is taken of the others.
    others: ByHash<FieldSet>,
    /// From how many nanoseconds on, one after the other, a row was moved that takes the same: the next one is not tried there.
    gaps: ByHash<u32>,
    /// How many there are.
    count: usize,
}

impl UsedPoints {
    /// What of a point is known to be taken: at most two rows' worth.
    fn at(&self, series: u64, time: i64, key: u64) -> impl Iterator<Item = FieldSet> {
        let in_order = self.ordered.get(&series).filter(|ordered| ordered.times.binary_search(&time).is_ok());
        self.others.get(&key).copied().into_iter().chain(in_order.map(|ordered| ordered.fields))
    }

    /// Takes points that are later than all others of their series.
    fn take_latest(&mut self, hasher: &DefaultHashBuilder, series: u64, fields: FieldSet, times: &mut Vec<i64>) {
        self.count += times.len();
        match self.ordered.entry(series) {
            Entry::Vacant(vacant) => drop(vacant.insert(InOrder { fields, times: std::mem::take(times) })),
            Entry::Occupied(mut ordered) if ordered.get().fields == fields => ordered.get_mut().times.append(times),
            Entry::Occupied(_) => {
                for time in times.drain(..) {
                    self.others.insert(Point { series, time }.key(hasher, time), fields);
                }
            }
        }
    }
}

/// The points that are remembered. One that is taken for another (one in 2^64) is moved without need.
#[derive(Debug, Default)]
pub(super) struct PointIndex {
    hasher: DefaultHashBuilder,
    young: UsedPoints,
    old: UsedPoints,
    /// No remembered point of a series is later than its time here. Most readings are later than all before
    /// them, and need no other look. A series is in it from its first reading on or never.
    newest: ByHash<i64>,
    field_sets: FieldSets,
}

impl PointIndex {
    /// Takes a row's point, or the next one after it of which nothing is taken that it has. What is taken is noted in `added`,
    /// which [`PointIndex::adopt`] takes over. `time` is the time at the row's end, where that is known.
    pub(super) fn distinct(&self, added: &mut Points, line: &[u8], time: Option<i64>, takes: Takes) -> Stamped {
        let Some(time) = time.or_else(|| line_time(line)) else { return Stamped::Unknown };
        let Some(fields) = self.begin(added, line, takes) else { return Stamped::Unknown };
        if added.run.newest.map_or(self.newest.len() < SERIES_MAX, |newest| time > newest) {
            if added.run.fields != fields {
                added.flush_run(&self.hasher);
                added.run.fields = fields;
            }
            added.run.times.push(time);
            added.run.newest = Some(time);
            return Stamped::AsItIs { time, is_shared: false };
        }
        let point = Point { series: added.run.series, time };
        added.end_run(&self.hasher);
        let first = point.key(&self.hasher, point.time);
        if !self.is_taken(added, &point, point.time, first, fields) {
            let is_shared = self.is_taken(added, &point, point.time, first, FieldSet::ALL);
            self.take_other(added, &point, first, time, fields);
            return Stamped::AsItIs { time, is_shared };
        }
        let mut offset = 1.max(self.gap(added, first, fields));
        loop {
            let Some(time) = point.time.checked_add(offset).filter(|time| *time < i64::MAX) else {
                return Stamped::Unknown;
            };
            let key = point.key(&self.hasher, time);
            if self.is_taken(added, &point, time, key, fields) {
                offset += 1.max(self.gap(added, key, fields));
                continue;
            }
            let gap = u32::try_from(offset + 1).unwrap_or(u32::MAX);
            added.taken.gaps.insert(self.gap_key(first, fields), gap);
            let is_shared = self.is_taken(added, &point, time, key, FieldSet::ALL);
            self.take_other(added, &point, key, time, fields);
            let time_begins = line.iter().rposition(|&byte| byte == b' ').map_or(0, |space| space + 1);
            let mut line = line.get(..time_begins).unwrap_or_default().to_vec();
            line.extend_from_slice(time.to_string().as_bytes());
            return Stamped::Moved { line, time, is_shared };
        }
    }

    /// Whether something that a row has is taken of its point: it is a copy of what was here, or would overwrite it.
    pub(super) fn is_here(&self, added: &mut Points, line: &[u8]) -> bool {
        let Some(time) = line_time(line) else { return false };
        let Some(fields) = self.begin(added, line, Takes::Fields) else { return false };
        let point = Point { series: added.run.series, time };
        added.flush_run(&self.hasher);
        self.is_taken(added, &point, time, point.key(&self.hasher, time), fields)
    }

    /// Begins a run unless the row is of the one that there is; answers what the row takes. None for what is no row.
    fn begin(&self, added: &mut Points, line: &[u8], takes: Takes) -> Option<FieldSet> {
        if !added.run.has(line) {
            let end = series_end(line)?;
            added.end_run(&self.hasher);
            let written = line.get(..end)?;
            let series = self.hasher.hash_one(written);
            added.run.written.extend_from_slice(written);
            added.run.newest = added.newest.get(&series).max(self.newest.get(&series)).copied();
            added.run.series = series;
        }
        Some(match takes {
            Takes::Point => FieldSet::ALL,
            Takes::Fields => {
                let fields = line.get(added.run.written.len() + 1..)?;
                self.field_sets.of(&mut added.field_sets, &self.hasher, fields)
            }
        })
    }

    /// Takes over what a commit has added.
    pub(super) fn adopt(&mut self, mut added: Points) {
        added.end_run(&self.hasher);
        let Points { taken, newest, field_sets, .. } = added;
        self.field_sets.adopt(field_sets);
        if self.young.count >= POINTS_REMEMBERED_MIN {
            self.old = std::mem::take(&mut self.young);
        }
        // nothing was at these points before: they come before what others have added to them
        for (series, InOrder { fields, mut times }) in taken.ordered {
            self.young.take_latest(&self.hasher, series, fields, &mut times);
        }
        let mut united = FieldSets::default();
        for (key, fields) in taken.others {
            let here = self.young.others.entry(key).or_insert(fields);
            *here = self.field_sets.union(&mut united, &self.hasher, *here, fields);
            self.young.count += 1;
        }
        self.field_sets.adopt(united);
        self.young.gaps.extend(taken.gaps);
        for (series, time) in newest {
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
            for row in &index.rows {
                let takes = match row.whose {
                    Whose::Nobody => continue,
                    Whose::Reading(..) | Whose::Conflict(..) => Takes::Point,
                    Whose::Unnumbered(_) => Takes::Fields,
                };
                for line in row.whole(lines).into_iter().flat_map(Rows::of) {
                    stamps.note_read(&mut points, line.trim_ascii_end(), takes);
                }
            }
        }
        for ordered in points.taken.ordered.values_mut() {
            ordered.times.sort_unstable();
        }
        stamps.adopt(points);
        Ok(stamps)
    }

    /// Notes a row of a file. They come in no order of time.
    fn note_read(&self, points: &mut Points, line: &[u8], takes: Takes) {
        let Some(time) = line_time(line) else { return };
        let Some(fields) = self.begin(points, line, takes) else { return };
        let series = points.run.series;
        let ordered = points.taken.ordered.entry(series).or_insert_with(|| InOrder { fields, times: Vec::new() });
        if ordered.fields == fields {
            ordered.times.push(time);
            points.taken.count += 1;
            let newest = points.newest.entry(series).or_insert(time);
            *newest = time.max(*newest);
        } else {
            let point = Point { series, time };
            self.take_other(points, &point, point.key(&self.hasher, time), time, fields);
        }
    }

    /// Whether something of these fields is taken of a point.
    fn is_taken(&self, added: &Points, point: &Point, time: i64, key: u64, fields: FieldSet) -> bool {
        let taken = [&added.taken, &self.young, &self.old];
        let mut here = taken.into_iter().flat_map(|taken| taken.at(point.series, time, key));
        here.any(|taken| self.field_sets.share(&added.field_sets, taken, fields))
    }

    /// How many nanoseconds from a point on need not be tried.
    fn gap(&self, added: &Points, key: u64, fields: FieldSet) -> i64 {
        let key = self.gap_key(key, fields);
        // it may be in one of them only, so that the largest is the one to go by
        let gaps = [&added.taken, &self.young, &self.old].into_iter().filter_map(|taken| taken.gaps.get(&key));
        gaps.max().copied().unwrap_or(0).into()
    }

    fn gap_key(&self, key: u64, fields: FieldSet) -> u64 {
        self.hasher.hash_one((key, fields.number()))
    }

    fn take_other(&self, added: &mut Points, point: &Point, key: u64, time: i64, fields: FieldSet) {
        let Points { taken, newest, field_sets, .. } = added;
        let here = taken.others.entry(key).or_insert(fields);
        *here = self.field_sets.union(field_sets, &self.hasher, *here, fields);
        taken.count += 1;
        let newest = newest.entry(point.series).or_insert(time);
        *newest = time.max(*newest);
    }
}

impl Points {
    /// Notes what the run takes. The next row begins another one.
    fn end_run(&mut self, hasher: &DefaultHashBuilder) {
        self.flush_run(hasher);
        self.run.written.clear();
        self.run.fields = FieldSet::ALL;
    }

    /// Notes what the run takes; it goes on.
    fn flush_run(&mut self, hasher: &DefaultHashBuilder) {
        let RunOfPoints { series, newest, fields, times, .. } = &mut self.run;
        if let (false, Some(newest)) = (times.is_empty(), *newest) {
            self.taken.take_latest(hasher, *series, *fields, times);
            let known = self.newest.entry(*series).or_insert(newest);
            *known = newest.max(*known);
        }
    }
}

impl RunOfPoints {
    /// Whether a row is of its series.
    fn has(&self, line: &[u8]) -> bool {
        !self.written.is_empty()
            && line.strip_prefix(self.written.as_slice()).is_some_and(|rest| rest.starts_with(b" "))
    }
}

/// A row's series, as a hash, and its time.
#[derive(Clone, Copy)]
struct Point {
    series: u64,
    time: i64,
}

impl Point {
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
