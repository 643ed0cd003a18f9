//! A child's output, line by line, into the log.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::process::{ChildStderr, ChildStdout};
use tokio::sync::oneshot;
use tracing::Level;

use heartwatch_domain::publisher::PublisherId;
use heartwatch_system::bounded_lines::Lines;
use heartwatch_system::clock::Clock;
use heartwatch_system::log_rate_limit::LogRateLimit;

/// How long after the child's end its output is still read: a program that it started may hold the
/// pipe open for ever.
const AFTER_THE_END: Duration = Duration::from_millis(500);
/// For how long the lines of one stream are counted together.
const LINES_PERIOD: Duration = Duration::from_secs(10);

/// Where the lines of one child go, how long they may be, and how many are logged.
#[derive(Clone)]
pub(super) struct Output {
    pub(super) publisher: PublisherId,
    pub(super) clock: Clock,
    pub(super) line_bytes_max: usize,
    /// Of each stream in each [`LINES_PERIOD`].
    pub(super) lines_max: u64,
    pub(super) counts: Counts,
}

/// What was not logged, or not whole. Clones count together.
#[derive(Clone, Default)]
pub(super) struct Counts {
    /// Lines that were cut.
    pub(super) cut: Rc<Cell<u64>>,
    /// Lines that were left out, because there were too many.
    pub(super) left_out: Rc<Cell<u64>>,
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
        let logged = self.lines(pipe, |said| match said {
            Said::Line(line) => match split_level(line) {
                (Some(Level::ERROR), line) => tracing::error!(%publisher, "{line}"),
                (Some(Level::WARN), line) => tracing::warn!(%publisher, "{line}"),
                (Some(Level::INFO), line) => tracing::info!(%publisher, "{line}"),
                (Some(Level::DEBUG), line) => tracing::debug!(%publisher, "{line}"),
                (Some(Level::TRACE), line) => tracing::trace!(%publisher, "{line}"),
                (None, line) => tracing::info!(%publisher, stream, "{line}"),
            },
            Said::LeftOut(lines) => {
                let lines_max = self.lines_max;
                tracing::warn!(%publisher, stream, lines, lines_max, "lines of the child's output are left out");
            }
        });
        if let Err(error) = logged.await {
            tracing::warn!(%publisher, stream, %error, "the child's output cannot be read");
        }
    }

    async fn lines(&self, pipe: impl AsyncRead + Unpin, mut each: impl FnMut(Said<'_>)) -> std::io::Result<()> {
        let mut lines = Lines::new(pipe, self.line_bytes_max);
        let mut limit = LogRateLimit::new(self.lines_max, LINES_PERIOD);
        loop {
            let line = tokio::select! {
                biased;
                () = self.clock.sleep_until(limit.over_at()) => {
                    if let Some(lines) = limit.left_out(self.clock.monotonic()) {
                        each(Said::LeftOut(lines));
                    }
                    continue;
                }
                line = lines.next() => line?,
            };
            let Some(line) = line else {
                if let Some(lines) = limit.left_out_at_end() {
                    each(Said::LeftOut(lines));
                }
                return Ok(());
            };
            if line.bytes_cut() > 0 {
                self.counts.cut.update(|cut| cut + 1);
            }
            let text = line.text();
            if text.is_empty() {
                continue;
            }
            if limit.admits(self.clock.monotonic()) {
                each(Said::Line(&text));
            } else {
                self.counts.left_out.update(|left_out| left_out + 1);
            }
        }
    }
}

/// What comes of a child's output.
#[derive(Debug, PartialEq, Eq)]
enum Said<'a> {
    /// A line to log.
    Line(&'a str),
    /// How many were not.
    LeftOut(u64),
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

    async fn said(bytes: &str, lines_max: u64) -> (Vec<String>, Counts) {
        let publisher = PublisherId::parse("light-1").unwrap();
        let counts = Counts::default();
        let output = Output { publisher, clock: Clock::start(), line_bytes_max: 8, lines_max, counts: counts.clone() };
        let mut all = Vec::new();
        let each = |said: Said<'_>| {
            all.push(match said {
                Said::Line(line) => line.to_owned(),
                Said::LeftOut(lines) => format!("({lines} left out)"),
            });
        };
        output.lines(bytes.as_bytes(), each).await.unwrap();
        (all, counts)
    }

    #[tokio::test]
    async fn lines_are_bounded_and_harmless() {
        let long = "x".repeat(100_000);
        let (lines, counts) = said(&format!("one\r\n\n{long}\n\x1b[31mred\nexactly8\nlast"), 10).await;
        assert_eq!(lines, ["one", "xxxxxxxx … (99992 bytes cut)", " [31mred", "exactly8", "last"]);
        assert_eq!((counts.cut.get(), counts.left_out.get()), (1, 0));
    }

    #[tokio::test]
    async fn of_too_many_lines_the_first_are_logged_and_the_others_counted() {
        let (lines, counts) = said(&"yes\n".repeat(100_000), 3).await;
        assert_eq!(lines, ["yes", "yes", "yes", "(99997 left out)"]);
        assert_eq!((counts.cut.get(), counts.left_out.get()), (0, 99_997));
    }
}
