//! A look at SQLite's write-ahead log before SQLite reads it.
//!
//! SQLite takes the log's frames up to the first one whose checksum is wrong and says nothing of the
//! rest. After a crash the rest is a commit that never ended; but where whole commits follow a bad
//! frame, bytes have changed on disk, and rows that were confirmed are gone: that has to be named.
//! A commit is whole when its last frame fits the checksum that stands in the frame before it. What a
//! crash leaves is never that: the header of a frame is written before its page, so in a log that is used
//! again it may stand before the page of an earlier round; and frames of a commit that never ended stay behind
//! the ones that were written over them. So whether the last commit of all was damaged, a log that is used again cannot tell; one
//! that ends with it can.
//! The format is <https://www.sqlite.org/fileformat2.html#walformat>.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::disk::beside;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// What is wrong with the log of this database, in words; none when nothing is or there is none.
pub(super) fn damage(database: &Path) -> Option<String> {
    let path = beside(database, "-wal");
    let file = File::open(&path).ok()?;
    let bytes = file.metadata().map_or(0, |metadata| metadata.len());
    let lost = match lost_commits(&mut BufReader::with_capacity(1 << 20, file), bytes) {
        // a header is written at once, before the first frame
        None if (1..HEADER_BYTES as u64).contains(&bytes) => Lost::Header,
        lost => lost?,
    };
    let name = path.display();
    Some(match lost {
        Lost::Header => {
            format!("{name}: its header is damaged, the commits in it that had not reached the file are lost")
        }
        Lost::Commits(commits) => {
            format!("{name}: a frame is damaged, {commits} commits from there on are lost")
        }
    })
}

/// Whether the log has something in it and the file that it belongs to has nothing, or is gone: SQLite removes such
/// a log without a word. A new file has its first page before its log begins.
pub(super) fn is_orphaned(database: &Path) -> bool {
    let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    bytes(database) == 0 && bytes(&beside(database, "-wal")) > HEADER_BYTES as u64
}

#[derive(Debug, PartialEq, Eq)]
enum Lost {
    Header,
    Commits(u64),
}

/// `bytes` is the length of the log.
fn lost_commits(log: &mut impl Read, bytes: u64) -> Option<Lost> {
    let mut header = [0; HEADER_BYTES];
    log.read_exact(&mut header).ok()?;
    let big_endian = match word(&header, 0) {
        0x377f_0682 => false,
        0x377f_0683 => true,
        _ => return Some(Lost::Header),
    };
    let mut sum = Checksum { big_endian, s0: 0, s1: 0 };
    sum.add(&header[..24]);
    let page_bytes = usize::try_from(word(&header, 8)).ok()?;
    if (sum.s0, sum.s1) != (word(&header, 24), word(&header, 28)) || !(512..=65_536).contains(&page_bytes) {
        return Some(Lost::Header);
    }
    let mut frame = vec![0; FRAME_HEADER_BYTES + page_bytes];
    let mut all_fit = true;
    // the commit that the first bad frame would have ended
    let mut first_bad = 0;
    let (mut is_last, mut read) = (false, 0);
    let mut lost = 0;
    while log.read_exact(&mut frame).is_ok() {
        let stored = (word(&frame, 16), word(&frame, 20));
        // else left over from an earlier round of the log, or the salt itself is what was damaged
        let is_of_this_round = frame[8..16] == header[16..24];
        if is_of_this_round {
            sum.add(&frame[..8]);
            sum.add(&frame[FRAME_HEADER_BYTES..]);
        }
        let fits = is_of_this_round && (sum.s0, sum.s1) == stored;
        (sum.s0, sum.s1) = stored;
        let commits = u64::from(is_of_this_round && word(&frame, 4) != 0);
        match (all_fit, fits) {
            (true, true) => {}
            (true, false) => (all_fit, first_bad, is_last) = (false, commits, true),
            (false, true) if commits > 0 => lost += commits + std::mem::take(&mut first_bad),
            (false, _) => is_last = false,
        }
        read += 1;
    }
    if is_last && bytes == (HEADER_BYTES + read * frame.len()) as u64 {
        lost += first_bad;
    }
    (lost > 0).then_some(Lost::Commits(lost))
}

/// The log's running checksum, over pairs of 32-bit words.
struct Checksum {
    big_endian: bool,
    s0: u32,
    s1: u32,
}

impl Checksum {
    fn add(&mut self, bytes: &[u8]) {
        let (pairs, _) = bytes.as_chunks::<8>();
        for &[a, b, c, d, e, f, g, h] in pairs {
            let (first, second) = ([a, b, c, d], [e, f, g, h]);
            let (first, second) = if self.big_endian {
                (u32::from_be_bytes(first), u32::from_be_bytes(second))
            } else {
                (u32::from_le_bytes(first), u32::from_le_bytes(second))
            };
            self.s0 = self.s0.wrapping_add(first).wrapping_add(self.s1);
            self.s1 = self.s1.wrapping_add(second).wrapping_add(self.s0);
        }
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()).map_or(0, |four| u32::from_be_bytes(*four))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn lost_in(log: &[u8]) -> Option<Lost> {
        lost_commits(&mut &*log, log.len() as u64)
    }

    /// A database whose log holds three commits, as its bytes.
    fn log_of_three_commits(directory: &Path) -> Vec<u8> {
        let path = directory.join("t.sqlite");
        let connection = super::super::layout::connect(&path).unwrap();
        connection.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, x)").unwrap();
        connection.execute_batch("INSERT INTO t (x) VALUES (1)").unwrap();
        connection.execute_batch("INSERT INTO t (x) VALUES (2)").unwrap();
        fs::read(directory.join("t.sqlite-wal")).unwrap()
    }

    #[test]
    fn whole_and_torn_logs_are_fine_and_a_changed_byte_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let bytes = log_of_three_commits(directory.path());
        assert_eq!(lost_in(&bytes[..]), None);
        assert_eq!(lost_in(&bytes[..bytes.len() - 1]), None, "a torn end is a commit that never ended");
        assert_eq!(lost_in(&[][..]), None);
        let frame_bytes = FRAME_HEADER_BYTES + page_bytes(&bytes);
        let frames = (bytes.len() - HEADER_BYTES) / frame_bytes;
        for at in [HEADER_BYTES + 100, HEADER_BYTES + 1, HEADER_BYTES + 17] {
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            assert!(matches!(lost_in(&flipped[..]), Some(Lost::Commits(2..))), "byte {at}");
        }
        // in a log that is used again, and so is longer, it may have been torn
        let mut flipped = bytes.clone();
        flipped[HEADER_BYTES + (frames - 1) * frame_bytes + 100] ^= 4;
        assert_eq!(lost_in(&flipped[..]), Some(Lost::Commits(1)));
        flipped.extend([0; 100]);
        assert_eq!(lost_in(&flipped[..]), None);
        let mut flipped = bytes;
        flipped[9] ^= 4;
        assert_eq!(lost_in(&flipped[..]), Some(Lost::Header));
    }

    fn page_bytes(log: &[u8]) -> usize {
        word(log, 8) as usize
    }

    /// A kill between the two writes of a commit's last frame, its header and its page, in a log that is longer from an
    /// earlier round; and what stays of that behind the next commits.
    #[test]
    fn what_a_kill_leaves_in_a_log_that_is_used_again_is_no_damage() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.sqlite");
        let connection = super::super::layout::connect(&path).unwrap();
        let commit = |sql: &str| connection.execute_batch(sql).unwrap();
        commit("CREATE TABLE t (id INTEGER PRIMARY KEY, x); CREATE TABLE u (id INTEGER PRIMARY KEY, x)");
        (0..50).for_each(|_| commit("INSERT INTO t (x) VALUES (1)"));
        connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
        let log = || fs::read(directory.path().join("t.sqlite-wal")).unwrap();
        let before = log();
        // two pages in one commit, over frames of the round before
        commit("BEGIN; INSERT INTO t (x) VALUES (2); INSERT INTO u (x) VALUES (2); COMMIT");
        let (one, frame_bytes) = (log(), FRAME_HEADER_BYTES + page_bytes(&before));
        assert_eq!(one.len(), before.len(), "the log is used again");
        assert_eq!(lost_in(&one[..]), None);
        let last = (HEADER_BYTES + frame_bytes)..(HEADER_BYTES + 2 * frame_bytes);
        assert!(word(&one, last.start + 4) != 0, "the second frame commits");
        let mut torn = one.clone();
        torn[last.start + FRAME_HEADER_BYTES..last.end]
            .copy_from_slice(&before[last.start + FRAME_HEADER_BYTES..last.end]);
        assert_eq!(lost_in(&torn[..]), None, "it never ended");
        // the next life commits one frame over the first of the two, and the torn one stays
        let mut over = torn.clone();
        let first = HEADER_BYTES..HEADER_BYTES + frame_bytes;
        let mut sum = Checksum { big_endian: word(&one, 0) == 0x377f_0683, s0: word(&one, 24), s1: word(&one, 28) };
        over[first.start + 7] = 3;
        over[first.start + FRAME_HEADER_BYTES + 50] ^= 1;
        sum.add(&over[first.start..first.start + 8]);
        sum.add(&over[first.start + FRAME_HEADER_BYTES..first.end]);
        over[first.start + 16..first.start + 20].copy_from_slice(&sum.s0.to_be_bytes());
        over[first.start + 20..first.start + 24].copy_from_slice(&sum.s1.to_be_bytes());
        assert_eq!(lost_in(&over[..]), None);
        // with both written to their end it would be damage
        let mut changed = one;
        changed[first.start + FRAME_HEADER_BYTES + 50] ^= 1;
        assert_eq!(lost_in(&changed[..]), Some(Lost::Commits(1)));
    }
}
