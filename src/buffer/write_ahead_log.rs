//! A look at SQLite's write-ahead log before SQLite reads it.
//!
//! SQLite takes the log's frames up to the first one whose checksum is wrong and says nothing of the
//! rest. After a crash the rest is a commit that never ended; but where whole commits follow a bad
//! frame, bytes have changed on disk, and rows that were confirmed are gone: that has to be named.
//! The format is <https://www.sqlite.org/fileformat2.html#walformat>.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::database::beside;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// What is wrong with the log of this database, in words; none when nothing is or there is none.
pub(super) fn damage(database: &Path) -> Option<String> {
    let path = beside(database, "-wal");
    let file = File::open(&path).ok()?;
    let bytes = file.metadata().map_or(0, |metadata| metadata.len());
    let lost = match lost_commits(&mut BufReader::with_capacity(1 << 20, file)) {
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

fn lost_commits(log: &mut impl Read) -> Option<Lost> {
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
    let mut whole = true;
    let mut lost = 0;
    while log.read_exact(&mut frame).is_ok() {
        if frame[8..16] != header[16..24] {
            // left over from an earlier round of the log, or the salt itself is what was damaged
            whole = false;
            continue;
        }
        if whole {
            sum.add(&frame[..8]);
            sum.add(&frame[FRAME_HEADER_BYTES..]);
            whole = (sum.s0, sum.s1) == (word(&frame, 16), word(&frame, 20));
        }
        if !whole && word(&frame, 4) != 0 {
            lost += 1;
        }
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

    /// A database whose log holds three commits, as its bytes.
    fn log_of_three_commits(directory: &Path) -> Vec<u8> {
        let path = directory.join("t.sqlite");
        let connection = super::super::database::connect(&path).unwrap();
        connection.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, x)").unwrap();
        connection.execute_batch("INSERT INTO t (x) VALUES (1)").unwrap();
        connection.execute_batch("INSERT INTO t (x) VALUES (2)").unwrap();
        fs::read(directory.join("t.sqlite-wal")).unwrap()
    }

    #[test]
    fn whole_and_torn_logs_are_fine_and_a_changed_byte_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let bytes = log_of_three_commits(directory.path());
        assert_eq!(lost_commits(&mut &bytes[..]), None);
        assert_eq!(lost_commits(&mut &bytes[..bytes.len() - 1]), None, "a torn end is a commit that never ended");
        assert_eq!(lost_commits(&mut &[][..]), None);
        for at in [HEADER_BYTES + 100, HEADER_BYTES + 1, HEADER_BYTES + 17] {
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            assert!(matches!(lost_commits(&mut &flipped[..]), Some(Lost::Commits(2..))), "byte {at}");
        }
        let mut flipped = bytes;
        flipped[9] ^= 4;
        assert_eq!(lost_commits(&mut &flipped[..]), Some(Lost::Header));
    }
}
