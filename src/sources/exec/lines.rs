//! Lines from a pipe, in bounded memory.

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

/// One line without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// All of it.
    Whole(Vec<u8>),
    /// It was longer than allowed: its beginning, and how many bytes were thrown away.
    Cut { beginning: Vec<u8>, bytes_cut: usize },
}

/// Reads lines; a wait that is given up loses nothing.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    line_bytes_max: usize,
    line: Vec<u8>,
    bytes_cut: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(pipe: R, line_bytes_max: usize) -> Self {
        Self { reader: BufReader::new(pipe), line_bytes_max, line: Vec::new(), bytes_cut: 0 }
    }

    /// The next line; none at the end. What stands behind the last line end is a line too.
    pub(super) async fn next(&mut self) -> std::io::Result<Option<Line>> {
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

    fn take(&mut self) -> Line {
        let mut line = std::mem::take(&mut self.line);
        match std::mem::take(&mut self.bytes_cut) {
            0 => {
                if line.ends_with(b"\r") {
                    line.pop();
                }
                Line::Whole(line)
            }
            bytes_cut => Line::Cut { beginning: line, bytes_cut },
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
        let whole = |text: &str| Line::Whole(text.as_bytes().to_vec());
        let cut = Line::Cut { beginning: b"xxxxxxxx".to_vec(), bytes_cut: 99_992 };
        assert_eq!(all, [whole("one"), whole(""), cut, whole("exactly8"), whole("last")]);
    }
}
