//! Whether what only describes the blocks, and the history that the sink has as well, is what was written.
//!
//! Rows that are here alone are compared by [`super::recovery`]. A block's times decide whether an export looks at it,
//! so they are compared with its rows; the same goes for its counts.

use rusqlite::{Transaction, params};

use super::block::{BLOCK_OVERHEAD_BYTES, BlockBuilder, Index, line_time};
use crate::encoding::{checksum, unsealed};
use heartwatch_formats::line_protocol::Rows;

/// `blocks.delivered` of history that the sink has.
const DELIVERED: i64 = 1;

/// Puts right what is not what was written, and says so.
pub(super) fn check(transaction: &Transaction<'_>, damage: &mut Vec<String>) -> rusqlite::Result<()> {
    let mut rebuilt = Vec::new();
    let mut described = Vec::new();
    let mut select = transaction.prepare(
        "SELECT id, delivered, rows, bytes, time_min, time_max, lines_checksum, row_index, lines FROM blocks ORDER BY id",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (id, mark, count, bytes): (i64, i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        let times: Option<(i64, i64)> = row.get::<_, Option<i64>>(4)?.zip(row.get::<_, Option<i64>>(5)?);
        let index_bytes = row.get_ref(7)?.as_blob().unwrap_or_default();
        let lines = row.get_ref(8)?.as_blob().unwrap_or_default();
        let is_sum_right = row.get::<_, i64>(6)? == i64::from(checksum(lines));
        let index = Index::read(index_bytes);
        let is_whole = match &index {
            Some(index) => (is_sum_right && unsealed(index_bytes).is_some()) || index.all_whole(lines),
            None => false,
        };
        match index {
            Some(index) if is_whole => {
                let rows: u64 = index.rows.iter().map(|row| row.rows).sum();
                let here = (rows.cast_signed(), (index_bytes.len() + lines.len()) as i64 + OVERHEAD_BYTES);
                let needed = times_of(lines);
                let covers =
                    needed.is_none_or(|(first, last)| times.is_some_and(|(min, max)| min <= first && last <= max));
                if (count, bytes) != here || !covers {
                    damage.push(format!("block {id}: its counts or times are not what was written; its rows are, and they are counted again"));
                    described.push((id, here, needed));
                }
            }
            _ if mark != DELIVERED => {}
            Some(index) => {
                let repaired = index.repaired(lines).0;
                damage.push(format!(
                    "block {id} of the history: {} of {count} rows are whole, the others are left out; the sink had confirmed them",
                    repaired.rows()
                ));
                rebuilt.push((id, repaired));
            }
            None => {
                let mut repaired = BlockBuilder::default();
                if is_sum_right {
                    repaired.push_rows(lines, Rows::of(lines).count() as u64);
                }
                damage.push(format!(
                    "block {id} of the history: its index is damaged, {} of {count} rows are whole; the sink had confirmed them",
                    repaired.rows()
                ));
                rebuilt.push((id, repaired));
            }
        }
    }
    for (id, (rows, bytes), times) in described {
        let (time_min, time_max) = times.unzip();
        transaction.execute(
            "UPDATE blocks SET rows = ?2, bytes = ?3, time_min = ?4, time_max = ?5 WHERE id = ?1",
            params![id, rows, bytes, time_min, time_max],
        )?;
    }
    for (id, repaired) in rebuilt {
        let Some(block) = repaired.finish() else {
            transaction.execute("DELETE FROM blocks WHERE id = ?1", [id])?;
            continue;
        };
        let (time_min, time_max) = block.times.unzip();
        transaction.execute(
            "UPDATE blocks SET rows = ?2, bytes = ?3, row_index = ?4, lines_checksum = ?5, lines = ?6, time_min = ?7,
             time_max = ?8 WHERE id = ?1",
            params![
                id,
                block.rows.cast_signed(),
                block.bytes().cast_signed(),
                block.index,
                checksum(&block.lines),
                block.lines,
                time_min,
                time_max
            ],
        )?;
    }
    Ok(())
}

const OVERHEAD_BYTES: i64 = BLOCK_OVERHEAD_BYTES.cast_signed();

fn times_of(lines: &[u8]) -> Option<(i64, i64)> {
    let mut times = Rows::of(lines).filter_map(line_time);
    let first = times.next()?;
    Some(times.fold((first, first), |(min, max), time| (min.min(time), max.max(time))))
}
