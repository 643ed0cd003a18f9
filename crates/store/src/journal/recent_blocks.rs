//! Blocks that were committed of late and wait for the sink, still in memory: while the sink keeps up, what it is
//! given was never read back from the disk. The file is the truth; this is a copy of a part of it.
//!
//! Bounded: what finds no room is read from the file when its turn comes.

use std::collections::{HashMap, HashSet};

use super::block::{Owner, Part};

/// Most bytes of rows that are kept.
const FRESH_BYTES_MAX: usize = 8 << 20;

/// A block that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecentBlock {
    pub(super) rows: u64,
    /// What it counts against the limit.
    pub(super) bytes: u64,
    /// What each owner has in it.
    pub(super) parts: Vec<(Owner, Part)>,
    pub(super) lines: Vec<u8>,
}

/// The blocks by id.
#[derive(Debug, Default)]
pub(super) struct RecentBlocks {
    blocks: HashMap<i64, RecentBlock>,
    bytes: usize,
}

impl RecentBlocks {
    pub(super) fn get(&self, id: i64) -> Option<&RecentBlock> {
        self.blocks.get(&id)
    }

    /// A commit has added blocks, and others no longer wait.
    pub(super) fn adopt(&mut self, added: Vec<(i64, RecentBlock)>, delivered: &HashSet<i64>) {
        for (id, block) in added {
            if self.bytes + block.lines.len() <= FRESH_BYTES_MAX {
                self.bytes += block.lines.len();
                self.blocks.insert(id, block);
            }
        }
        for id in delivered {
            if let Some(block) = self.blocks.remove(id) {
                self.bytes -= block.lines.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_kept_within_its_limit_until_it_is_delivered() {
        let block = || RecentBlock { rows: 1, bytes: 9, parts: Vec::new(), lines: vec![b'x'; FRESH_BYTES_MAX / 2] };
        let mut fresh = RecentBlocks::default();
        fresh.adopt(vec![(1, block()), (2, block()), (3, block())], &HashSet::new());
        assert!(fresh.get(1).is_some() && fresh.get(2).is_some() && fresh.get(3).is_none());
        fresh.adopt(vec![(4, block())], &HashSet::from([1, 3, 7]));
        assert!(fresh.get(1).is_none() && fresh.get(4).is_none(), "room comes with the next commit");
        fresh.adopt(vec![(5, block())], &HashSet::from([2, 5]));
        assert_eq!((fresh.blocks.len(), fresh.bytes), (0, 0));
    }
}
