//! Damage to an SQLite file or to its write-ahead log.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::chance::Chance;
use super::kinds::RowFault;

/// Bytes of the header of a write-ahead log.
const LOG_HEADER_BYTES: u64 = 32;

/// Which of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Main,
    Log,
    Either,
}

/// What is done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// Its end goes: most often a few bytes or pages, now and then a quarter of the file.
    Torn,
    /// It is cut to any length.
    Cut,
    /// One bit changes, anywhere.
    Flipped,
    /// One bit of its header changes, or all of it is nought.
    Header,
}

/// Damages the file that a fault is about. What is not there or empty is left alone.
///
/// # Errors
/// When it cannot be read or written.
pub(super) fn damage(file: &Path, fault: RowFault, chance: &mut Chance) -> anyhow::Result<()> {
    let (part, how) = match fault {
        RowFault::OutboxTorn | RowFault::JournalTorn => (Part::Either, How::Torn),
        RowFault::OutboxLogCut | RowFault::JournalLogCut => (Part::Log, How::Cut),
        RowFault::OutboxLogFlipped | RowFault::JournalLogFlipped => (Part::Log, How::Flipped),
        RowFault::OutboxLogHeader | RowFault::JournalLogHeader => (Part::Log, How::Header),
        RowFault::OutboxFileCut | RowFault::JournalFileCut => (Part::Main, How::Cut),
        RowFault::OutboxFileFlipped | RowFault::JournalFileFlipped => (Part::Main, How::Flipped),
        _ => (Part::Either, How::Flipped),
    };
    let mut log = file.as_os_str().to_owned();
    log.push("-wal");
    let files: Vec<(PathBuf, u64)> = [(Part::Log, PathBuf::from(log)), (Part::Main, file.to_owned())]
        .into_iter()
        .filter(|(of, _)| part == Part::Either || part == *of)
        .filter_map(|(_, path)| Some((path.clone(), std::fs::metadata(&path).ok()?.len())))
        .filter(|(_, length)| *length > 0)
        .collect();
    let chosen = chance.next(files.len().max(1) as u64);
    let Some((path, length)) = files.get(usize::try_from(chosen).unwrap_or(0)) else { return Ok(()) };
    let mut file = File::options().read(true).write(true).open(path).with_context(|| path.display().to_string())?;
    match how {
        How::Torn => {
            let most = [64, 8 * 1024, 64 * 1024, length / 4].map(|most| most.clamp(1, *length));
            let most = most.get(usize::try_from(chance.next(4)).unwrap_or(0)).copied().unwrap_or(1);
            file.set_len(length - 1 - chance.next(most))?;
        }
        How::Cut => file.set_len(chance.next(*length))?,
        How::Flipped => flip(&mut file, chance.next(*length), chance)?,
        How::Header if chance.next(2) == 0 => {
            file.write_all(&vec![0; usize::try_from(LOG_HEADER_BYTES.min(*length))?])?;
        }
        How::Header => flip(&mut file, chance.next(LOG_HEADER_BYTES.min(*length)), chance)?,
    }
    file.sync_all()?;
    Ok(())
}

fn flip(file: &mut File, at: u64, chance: &mut Chance) -> std::io::Result<()> {
    let mut byte = [0];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut byte)?;
    file.seek(SeekFrom::Start(at))?;
    file.write_all(&[byte[0] ^ (1 << chance.next(8))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_cuts_a_file_or_flips_one_bit_of_the_part_that_it_is_about() {
        let directory = tempfile::tempdir().unwrap();
        let (main, log) = (directory.path().join("f"), directory.path().join("f-wal"));
        let whole = vec![7_u8; 10_000];
        let changed =
            |path: &Path| -> u32 { std::fs::read(path).unwrap().iter().map(|byte| (byte ^ 7).count_ones()).sum() };
        for seed in 0..200 {
            let made = |fault| {
                std::fs::write(&main, &whole).unwrap();
                std::fs::write(&log, &whole).unwrap();
                damage(&main, fault, &mut Chance::new(seed * 7_919)).unwrap();
                let lengths = [&main, &log].map(|path| std::fs::metadata(path).unwrap().len());
                (lengths, [changed(&main), changed(&log)])
            };
            let (lengths, bits) = made(RowFault::OutboxTorn);
            assert!(lengths.iter().sum::<u64>() < 20_000 && bits == [0, 0]);
            assert_eq!(made(RowFault::JournalFlipped).1.iter().sum::<u32>(), 1);
            assert_eq!(made(RowFault::JournalLogFlipped).1, [0, 1]);
            assert_eq!(made(RowFault::OutboxFileFlipped).1, [1, 0]);
            let (lengths, _) = made(RowFault::JournalFileCut);
            assert!(lengths[0] < 10_000 && lengths[1] == 10_000);
            let (lengths, _) = made(RowFault::OutboxLogCut);
            assert!(lengths[0] == 10_000 && lengths[1] < 10_000);
            let (lengths, bits) = made(RowFault::JournalLogHeader);
            assert!(lengths == [10_000; 2] && bits[0] == 0 && (bits[1] == 1 || bits[1] == 3 * 32), "{bits:?}");
        }
        std::fs::remove_file(&log).unwrap();
        damage(&main, RowFault::JournalLogFlipped, &mut Chance::new(1)).unwrap();
        assert_eq!(std::fs::metadata(&main).unwrap().len(), 10_000, "without a log there is nothing to damage in it");
    }
}
