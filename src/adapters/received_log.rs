//! What a server received, as lines for a person, in a file that is rotated: `received.log`, `received.log.1`, …
//!
//! It is written by a thread of its own, so that a slow disk delays no reading: what it cannot keep up with is left
//! out, and how much is said in the file. The journal, not this, is the record.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

/// Lines that may wait for the disk.
const LINES_MAX: usize = 10_000;

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
    lines: Option<mpsc::SyncSender<String>>,
    left_out: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl ReceivedLog {
    /// Opens the file and goes on at its end.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(config: ReceivedLogConfig) -> io::Result<Self> {
        let mut file = Rotated::open(config)?;
        let (lines, lines_end) = mpsc::sync_channel::<String>(LINES_MAX);
        let left_out = Arc::new(AtomicU64::new(0));
        let untold = left_out.clone();
        let thread = std::thread::Builder::new().name("received log".to_owned()).spawn(move || {
            let mut failing = false;
            while let Ok(first) = lines_end.recv() {
                let mut written = file.line(&first);
                while written.is_ok() {
                    let Ok(next) = lines_end.try_recv() else { break };
                    written = file.line(&next);
                }
                let missed = untold.swap(0, Ordering::Relaxed);
                if missed > 0 {
                    written = written.and_then(|()| file.line(&format!("({missed} lines left out: the disk was too slow)")));
                }
                let written = written.and_then(|()| file.flush());
                match (&written, failing) {
                    (Err(error), false) => {
                        tracing::warn!(%error, file = %file.config.path.display(), "the log of what was received cannot be written");
                    }
                    (Ok(()), true) => tracing::info!("the log of what was received is written again"),
                    _ => {}
                }
                failing = written.is_err();
            }
        })?;
        Ok(Self { lines: Some(lines), left_out, thread: Some(thread) })
    }

    /// Adds a line, or counts it where the disk is too slow.
    pub fn line(&self, line: String) {
        if let Some(lines) = &self.lines
            && lines.try_send(line).is_err()
        {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for ReceivedLog {
    fn drop(&mut self) {
        drop(self.lines.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Rotated {
    config: ReceivedLogConfig,
    file: BufWriter<File>,
    bytes: u64,
}

impl Rotated {
    fn open(config: ReceivedLogConfig) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(&config.path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { config, file: BufWriter::new(file), bytes })
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        if self.bytes >= self.config.file_bytes_max {
            self.rotate()?;
        }
        self.bytes += line.len() as u64 + 1;
        writeln!(self.file, "{line}")
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
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
            log.line(format!("line {number:04}"));
        }
        drop(log);
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("received.log.1"), "line 0008\nline 0009\n");
        assert_eq!(read("received.log.2"), "line 0006\nline 0007\n");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
        // It goes on where it was.
        let log = ReceivedLog::open(config).unwrap();
        log.line("after a restart".to_owned());
        drop(log);
        assert!(read("received.log").ends_with("after a restart\n"));
    }
}
