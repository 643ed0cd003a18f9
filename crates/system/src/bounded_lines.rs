//! Lines from a pipe, in bounded memory.

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

/// One line without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoundedLine {
    /// All of it.
    Whole(Vec<u8>),
    /// It was longer than allowed: its beginning, and how many bytes were thrown away.
    Cut {
        /// As many bytes as are allowed.
        beginning: Vec<u8>,
        /// How many more there were.
        bytes_cut: usize,
    },
}

impl BoundedLine {
    /// How many bytes were thrown away.
    #[must_use]
    pub const fn bytes_cut(&self) -> usize {
        match self {
            Self::Whole(_) => 0,
            Self::Cut { bytes_cut, .. } => *bytes_cut,
        }
    }

    /// The line for a log: a program can write anything, and control characters would reach a person's terminal.
    /// Empty when there is nothing to say.
    #[must_use]
    pub fn text(&self) -> String {
        let (Self::Whole(bytes) | Self::Cut { beginning: bytes, .. }) = self;
        let text = String::from_utf8_lossy(bytes);
        let text: String = text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        match self.bytes_cut() {
            0 => text,
            bytes_cut => format!("{text} … ({bytes_cut} bytes cut)"),
        }
    }
}

/// Reads lines; a wait that is given up loses nothing.
pub struct Lines<R> {
    reader: BufReader<R>,
    line_bytes_max: usize,
    line: Vec<u8>,
    bytes_cut: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Lines of at most `line_bytes_max` bytes; longer ones are cut.
    #[must_use]
    pub fn new(pipe: R, line_bytes_max: usize) -> Self {
        Self { reader: BufReader::new(pipe), line_bytes_max, line: Vec::new(), bytes_cut: 0 }
    }

    /// The next line; none at the end. What stands behind the last line end is a line too.
    ///
    /// # Errors
    /// When the pipe cannot be read.
    pub async fn next(&mut self) -> std::io::Result<Option<BoundedLine>> {
        loop {
            let available = self.reader.fill_buf().await?;
            if available.is_empty() {
                let has_rest = !self.line.is_empty() || self.bytes_cut > 0;
                return Ok(has_rest.then(|| self.take()));
            }
            let line_end = available.iter().position(|byte| *byte == b'\n');
            let part = &available[..line_end.unwrap_or(available.len())];
            let kept = part.len().min(self.line_bytes_max - self.line.len());
            self.line.extend_from_slice(&part[..kept]);
            self.bytes_cut += part.len() - kept;
            let consumed = part.len() + usize::from(line_end.is_some());
            self.reader.consume(consumed);
            if line_end.is_some() {
                return Ok(Some(self.take()));
            }
        }
    }

    fn take(&mut self) -> BoundedLine {
        let mut line = std::mem::take(&mut self.line);
        match std::mem::take(&mut self.bytes_cut) {
            0 => {
                if line.ends_with(b"\r") {
                    line.pop();
                }
                BoundedLine::Whole(line)
            }
            bytes_cut => BoundedLine::Cut { beginning: line, bytes_cut },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_bounded_and_the_last_needs_no_end() {
        let long = "x".repeat(100_000);
        let bytes = format!("one\r\n\n{long}\nexactly8\nlast");
        let mut lines = Lines::new(bytes.as_bytes(), 8);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            all.push(line);
        }
        let whole = |text: &str| BoundedLine::Whole(text.as_bytes().to_vec());
        let cut = BoundedLine::Cut { beginning: b"xxxxxxxx".to_vec(), bytes_cut: 99_992 };
        assert_eq!(all, [whole("one"), whole(""), cut, whole("exactly8"), whole("last")]);
        assert_eq!(all[2].text(), "xxxxxxxx … (99992 bytes cut)");
        assert_eq!(whole("\x1b[31mred \t").text(), " [31mred", "harmless");
    }
}
