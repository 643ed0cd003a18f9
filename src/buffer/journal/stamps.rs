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
use std::hash::{DefaultHasher, Hasher};

use rusqlite::Connection;

use super::block::Index;

/// How many of the latest readings are remembered at least.
pub(super) const POINTS_REMEMBERED_MIN: usize = 1 << 18;
/// Most bytes of rows that are read for that at the start.
const BYTES_READ_MAX: usize = 64 << 20;

/// Points by a hash of series and time: how many nanoseconds from there on are taken without a gap.
pub(super) type Points = HashMap<u64, u32>;

/// The points that are remembered. One that is taken for another (one in 2^64) is moved without need.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    young: Points,
    old: Points,
}

impl Stamps {
    /// Takes a row's point, or the next free one after it. Answers the row with its new time where it
    /// had to be moved; what is taken is noted in `added`, which [`Stamps::adopt`] takes over.
    pub(super) fn distinct(&self, added: &mut Points, line: &[u8]) -> Option<Vec<u8>> {
        let point = Point::of(line)?;
        let first = point.key(point.time);
        let Some(taken) = self.taken(added, first) else {
            added.insert(first, 1);
            return None;
        };
        let mut offset = i64::from(taken);
        loop {
            let time = point.time.checked_add(offset).filter(|time| *time < i64::MAX)?;
            let key = point.key(time);
            if let Some(taken) = self.taken(added, key) {
                offset += i64::from(taken);
                continue;
            }
            added.insert(first, u32::try_from(offset + 1).unwrap_or(u32::MAX));
            added.insert(key, 1);
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
        self.young.extend(added);
    }

    /// The latest readings of a file. Only those that the ledger knows of: a row outside it may come again
    /// from its publisher, and has to be the same point then.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let mut points = Points::new();
        let mut bytes = 0;
        let mut select = connection.prepare("SELECT row_index, lines FROM blocks ORDER BY id DESC")?;
        let mut rows = select.query([])?;
        while points.len() < POINTS_REMEMBERED_MIN
            && bytes < BYTES_READ_MAX
            && let Some(row) = rows.next()?
        {
            let lines = row.get_ref(1)?.as_blob().unwrap_or_default();
            bytes += lines.len();
            let Some(index) = Index::read(row.get_ref(0)?.as_blob().unwrap_or_default()) else { continue };
            let readings = index.rows.iter().filter(|row| row.reading.is_some());
            let whole = readings.filter_map(|row| Point::of(row.whole(lines)?.trim_ascii_end()));
            points.extend(whole.map(|point| (point.key(point.time), 1)));
        }
        Ok(Self { young: points, old: Points::new() })
    }

    fn taken(&self, added: &Points, key: u64) -> Option<u32> {
        added
            .get(&key)
            .or_else(|| self.young.get(&key))
            .or_else(|| self.old.get(&key))
            .copied()
            .map(|taken| taken.max(1))
    }
}

/// A row's series and time.
struct Point {
    series: DefaultHasher,
    time: i64,
    time_begins: usize,
}

impl Point {
    /// None where the row leaves its time to the server.
    fn of(line: &[u8]) -> Option<Self> {
        let time_begins = line.iter().rposition(|&byte| byte == b' ')? + 1;
        let time = std::str::from_utf8(line.get(time_begins..)?).ok()?.parse().ok()?;
        // a space in a name has a backslash before it
        let mut escaped = false;
        let series_ends = line.iter().position(|&byte| {
            let ends = byte == b' ' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        })?;
        let mut series = DefaultHasher::new();
        series.write(line.get(..series_ends)?);
        Some(Self { series, time, time_begins })
    }

    fn key(&self, time: i64) -> u64 {
        let mut hasher = self.series.clone();
        hasher.write_i64(time);
        hasher.finish()
    }
}
