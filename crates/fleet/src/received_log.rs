//! What a server received, as lines for a person, in a file that is rotated: `received.log`, `received.log.1`, …
//!
//! It is written by a thread of its own, which takes what has gathered, so that neither a slow disk nor a line of its own
//! for each reading delays one: what it cannot keep up with is left out, and how much is said in the file. The journal,
//! not this, is the record.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use heartwatch_domain::time::Timestamp;
use heartwatch_ports::ReceivedRows;

/// Nanoseconds in a second.
const NANOS: i64 = 1_000_000_000;
/// Bytes of lines that may wait for the disk.
const WAITING_BYTES_MAX: usize = 8 << 20;
/// How long lines wait for more, which are written with them.
const GATHER: Duration = Duration::from_millis(100);

/// Bytes that are written to the file at once.
const FILE_BUFFER_BYTES: usize = 64 << 10;

/// Where, and how much of it is kept.
#[derive(Debug, Clone)]
pub struct ReceivedLogConfig {
    /// The file.
    pub path: PathBuf,
    /// At this size the next file begins.
    pub file_bytes_max: u64,
    /// Files that are kept, with the present one.
    pub files_max: usize,
}

/// The log.
pub struct ReceivedLog {
    shared: Arc<LogQueue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct LogQueue {
    waiting: Mutex<WaitingLines>,
    /// The first line waits, or the end has come.
    changed: Condvar,
}

/// Lines on their way to the thread.
#[derive(Default)]
struct WaitingLines {
    text: Vec<u8>,
    /// Where each line ends, and what it is.
    ends: Vec<(usize, LineKind)>,
    left_out: u64,
    ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineKind {
    /// To be written as it is.
    Plain,
    /// In line protocol, with its time at the end.
    Row,
}

impl ReceivedLog {
    /// Opens the file and goes on at its end.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(config: ReceivedLogConfig) -> io::Result<Self> {
        let file = Rotated::open(config)?;
        let shared = Arc::new(LogQueue::default());
        let lines = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("received log".to_owned()).spawn(move || write(&lines, file))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Adds a line, or counts it where the disk is too slow.
    pub fn line(&self, line: &str) {
        self.shared.push(line.as_bytes(), LineKind::Plain);
    }

    /// Writes what waits, and nothing more after it. It may block.
    pub fn close(&self) {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

impl ReceivedRows for ReceivedLog {
    fn row(&self, row: &[u8]) {
        self.shared.push(row, LineKind::Row);
    }
}

impl LogQueue {
    fn push(&self, line: &[u8], kind: LineKind) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.text.len() + line.len() > WAITING_BYTES_MAX {
            waiting.left_out += 1;
            return;
        }
        waiting.text.extend_from_slice(line);
        let end = waiting.text.len();
        waiting.ends.push((end, kind));
        if waiting.ends.len() == 1 {
            self.changed.notify_one();
        }
    }

    /// What has gathered, as soon as there is something.
    fn take(&self) -> WaitingLines {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let nothing = |waiting: &mut WaitingLines| waiting.ends.is_empty() && !waiting.ended;
        let waiting = self.changed.wait_while(waiting, nothing).unwrap_or_else(PoisonError::into_inner);
        let gathered = self.changed.wait_timeout_while(waiting, GATHER, |waiting| !waiting.ended);
        let (mut waiting, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        let ended = waiting.ended;
        WaitingLines { ended, ..std::mem::take(&mut *waiting) }
    }
}

impl Drop for ReceivedLog {
    fn drop(&mut self) {
        self.close();
    }
}

fn write(lines: &LogQueue, mut file: Rotated) {
    let mut seconds = SecondText::default();
    let mut failing = false;
    let mut ended = false;
    while !ended {
        let taken = lines.take();
        ended = taken.ended;
        let written = file.write(&taken, &mut seconds);
        match (&written, failing) {
            (Err(error), false) => {
                tracing::warn!(%error, file = %file.config.path.display(), "the log of what was received cannot be written");
            }
            (Ok(()), true) => tracing::info!("the log of what was received is written again"),
            _ => {}
        }
        failing = written.is_err();
    }
}

struct Rotated {
    config: ReceivedLogConfig,
    file: BufWriter<File>,
    bytes: u64,
}

/// The text of the last second that was written: most rows have the one before them.
#[derive(Default)]
struct SecondText {
    second: i64,
    text: String,
}

impl SecondText {
    /// As [`Timestamp`] writes it, without its milliseconds and the `Z`.
    fn of(&mut self, second: i64) -> &str {
        if self.text.is_empty() || self.second != second {
            let text = Timestamp::from_nanos(second.saturating_mul(NANOS)).to_string();
            text.strip_suffix(".000Z").unwrap_or(&text).clone_into(&mut self.text);
            self.second = second;
        }
        &self.text
    }
}

impl Rotated {
    fn open(config: ReceivedLogConfig) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(&config.path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { config, file: BufWriter::with_capacity(FILE_BUFFER_BYTES, file), bytes })
    }

    fn write(&mut self, lines: &WaitingLines, seconds: &mut SecondText) -> io::Result<()> {
        let mut begin = 0;
        for &(end, kind) in &lines.ends {
            let line = lines.text.get(begin..end).unwrap_or_default();
            match kind {
                LineKind::Plain => self.line(&[line])?,
                LineKind::Row => self.row(line, seconds)?,
            }
            begin = end;
        }
        if lines.left_out > 0 {
            let missed = format!("({} lines left out: the disk was too slow)", lines.left_out);
            self.line(&[missed.as_bytes()])?;
        }
        self.file.flush()
    }

    /// A row with its time in front.
    fn row(&mut self, row: &[u8], seconds: &mut SecondText) -> io::Result<()> {
        let time = row.iter().rposition(|&byte| byte == b' ').and_then(|at| {
            let (row, time) = row.split_at_checked(at)?;
            Some((row, std::str::from_utf8(time).ok()?.trim_start().parse::<i64>().ok()?))
        });
        let Some((row, nanos)) = time else { return self.line(&[row]) };
        let millis = nanos.rem_euclid(NANOS) / 1_000_000;
        let digits = [100, 10, 1].map(|place| b'0' + u8::try_from(millis / place % 10).unwrap_or(0));
        self.line(&[seconds.of(nanos.div_euclid(NANOS)).as_bytes(), b".", &digits, b"Z ", row])
    }

    /// One line of these parts.
    fn line(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        if self.bytes >= self.config.file_bytes_max {
            self.rotate()?;
        }
        for part in parts.iter().chain([&&b"\n"[..]]) {
            self.bytes += part.len() as u64;
            self.file.write_all(part)?;
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file.flush()?;
        let numbered = |number: usize| -> PathBuf {
            let mut name = self.config.path.clone().into_os_string();
            name.push(format!(".{number}"));
            name.into()
        };
        let last = self.config.files_max.saturating_sub(1);
        for number in (1..last).rev() {
            if Path::new(&numbered(number)).exists() {
                std::fs::rename(numbered(number), numbered(number + 1))?;
            }
        }
        if last > 0 {
            std::fs::rename(&self.config.path, numbered(1))?;
        } else {
            std::fs::remove_file(&self.config.path)?;
        }
        *self = Self::open(self.config.clone())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_rotated_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("received.log");
        let config = ReceivedLogConfig { path, file_bytes_max: 20, files_max: 3 };
        let log = ReceivedLog::open(config.clone()).unwrap();
        for number in 0..12 {
            log.line(&format!("line {number:04}"));
        }
        drop(log);
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("received.log.1"), "line 0008\nline 0009\n");
        assert_eq!(read("received.log.2"), "line 0006\nline 0007\n");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
        // It goes on where it was.
        let log = ReceivedLog::open(config).unwrap();
        log.line("after a restart");
        drop(log);
        assert!(read("received.log").ends_with("after a restart\n"));
    }
    #[test]
    fn a_row_has_its_time_in_front() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("received.log");
        let config = ReceivedLogConfig { path: path.clone(), file_bytes_max: 1 << 20, files_max: 3 };
        let log = ReceivedLog::open(config).unwrap();
        for row in ["m,host=h x=1 1763683203214000001", "m,host=h x=\"a b\" 1763683203005000000", "m x=2 -1", "m x=3"] {
            log.row(row.as_bytes());
        }
        drop(log);
        let time = |nanos| Timestamp::from_nanos(nanos).to_string();
        let right = format!(
            "{} m,host=h x=1\n{} m,host=h x=\"a b\"\n{} m x=2\nm x=3\n",
            time(1_763_683_203_214_000_001),
            time(1_763_683_203_005_000_000),
            time(-1_000_000)
        );
        assert_eq!(std::fs::read_to_string(path).unwrap(), right);
    }

    #[test]
    fn what_finds_no_room_is_counted_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("received.log");
        let shared = LogQueue::default();
        for line in [&vec![b'x'; WAITING_BYTES_MAX][..], b"too much", b"this too"] {
            shared.push(line, LineKind::Plain);
        }
        shared.waiting.lock().unwrap().ended = true;
        let config = ReceivedLogConfig { path: path.clone(), file_bytes_max: u64::MAX, files_max: 1 };
        write(&shared, Rotated::open(config).unwrap());
        assert!(std::fs::read_to_string(path).unwrap().ends_with("x\n(2 lines left out: the disk was too slow)\n"));
    }
}
