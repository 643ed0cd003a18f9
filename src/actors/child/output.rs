//! A child's output, line by line, into the log.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{ChildStderr, ChildStdout};
use tokio::sync::oneshot;
use tracing::Level;

use crate::domain::publisher::PublisherId;

/// How long after the child's end its output is still read: a program that it started may hold the
/// pipe open for ever.
const AFTER_THE_END: Duration = Duration::from_millis(500);

/// Where the lines of one child go, and how long they may be.
#[derive(Clone)]
pub(super) struct Output {
    pub(super) publisher: PublisherId,
    pub(super) line_bytes_max: usize,
    /// Lines that were cut.
    pub(super) lines_cut: Rc<Cell<u64>>,
}

impl Output {
    /// Logs both streams until they end, or until shortly after the child has ended.
    pub(super) async fn log(
        self,
        stdout: Option<ChildStdout>,
        stderr: Option<ChildStderr>,
        ended: oneshot::Receiver<()>,
    ) {
        let both = async { tokio::join!(self.log_one("stdout", stdout), self.log_one("stderr", stderr)) };
        tokio::select! {
            _ = both => {}
            () = async { let _ = ended.await; tokio::time::sleep(AFTER_THE_END).await } => {}
        }
    }

    async fn log_one(&self, stream: &'static str, pipe: Option<impl AsyncRead + Unpin>) {
        let Some(pipe) = pipe else { return };
        let publisher = &self.publisher;
        let logged = self.lines(pipe, |line| match split_level(line) {
            (Some(Level::ERROR), line) => tracing::error!(%publisher, "{line}"),
            (Some(Level::WARN), line) => tracing::warn!(%publisher, "{line}"),
            (Some(Level::INFO), line) => tracing::info!(%publisher, "{line}"),
            (Some(Level::DEBUG), line) => tracing::debug!(%publisher, "{line}"),
            (Some(Level::TRACE), line) => tracing::trace!(%publisher, "{line}"),
            (None, line) => tracing::info!(%publisher, stream, "{line}"),
        });
        if let Err(error) = logged.await {
            tracing::warn!(%publisher, stream, %error, "the child's output cannot be read");
        }
    }

    /// Reads lines in bounded memory: what is over the limit is read and thrown away.
    async fn lines(&self, pipe: impl AsyncRead + Unpin, mut each: impl FnMut(&str)) -> std::io::Result<()> {
        let mut reader = BufReader::new(pipe);
        let mut line: Vec<u8> = Vec::new();
        let mut cut = 0_usize;
        loop {
            let available = reader.fill_buf().await?;
            let at_end = available.is_empty();
            let line_end = available.iter().position(|byte| *byte == b'\n');
            let part = &available[..line_end.unwrap_or(available.len())];
            let kept = part.len().min(self.line_bytes_max - line.len());
            line.extend_from_slice(&part[..kept]);
            cut += part.len() - kept;
            let consumed = part.len() + usize::from(line_end.is_some());
            reader.consume(consumed);
            if line_end.is_some() || at_end {
                // A child can write anything; control characters would reach a person's terminal.
                let text = String::from_utf8_lossy(&line);
                let text: String = text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
                if cut > 0 {
                    self.lines_cut.set(self.lines_cut.get() + 1);
                    each(&format!("{text} … ({cut} bytes cut)"));
                } else if !text.is_empty() {
                    each(&text);
                }
                line.clear();
                cut = 0;
            }
            if at_end {
                return Ok(());
            }
        }
    }
}

/// The level that a log line begins with (our own children's do), and the rest of it.
fn split_level(line: &str) -> (Option<Level>, &str) {
    let trimmed = line.trim_start();
    for level in [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE] {
        if let Some(rest) = trimmed.strip_prefix(level.as_str()).and_then(|rest| rest.strip_prefix(' ')) {
            return (Some(level), rest);
        }
    }
    (None, line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_childs_own_level_is_kept() {
        assert_eq!(split_level(" WARN no connection"), (Some(Level::WARN), "no connection"));
        assert_eq!(split_level("ERROR: no"), (None, "ERROR: no"));
        assert_eq!(split_level("  INFORMATION"), (None, "  INFORMATION"));
    }

    #[tokio::test]
    async fn lines_are_bounded_and_harmless() {
        let lines_cut = Rc::new(Cell::new(0));
        let publisher = PublisherId::parse("light-1").unwrap();
        let output = Output { publisher, line_bytes_max: 8, lines_cut: lines_cut.clone() };
        let long = "x".repeat(100_000);
        let bytes = format!("one\r\n\n{long}\n\x1b[31mred\nexactly8\nlast");
        let mut lines = Vec::new();
        output.lines(bytes.as_bytes(), |line| lines.push(line.to_owned())).await.unwrap();
        assert_eq!(lines, ["one", "xxxxxxxx … (99992 bytes cut)", " [31mred", "exactly8", "last"]);
        assert_eq!(lines_cut.get(), 1);
    }
}
