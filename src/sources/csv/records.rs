//! The records of a CSV file, one at a time, with their line numbers and a limit on their size.
//!
//! The `csv` crate splits a record into cells; where a record ends is found here. Alone, the crate
//! takes a quote that is never closed for a cell that reaches to the end of the file: all of it in
//! memory, and all of it lost. Here such a record is one bad line, and reading goes on behind it.

use std::io::{self, BufRead, Read, Seek, SeekFrom};

use csv::{ByteRecord, ReaderBuilder, Terminator};

/// A place in the file between two lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Bytes before it.
    offset: u64,
    /// Lines before it.
    lines: u64,
}

/// What was found at the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// A record that begins on this line; its cells are in [`Records::cells`].
    Record { line: u64 },
    /// A line that is no record.
    Bad { line: u64, reason: String },
    /// Nothing more.
    End,
}

/// Whether the scan is inside a quoted cell: the rules of RFC 4180 as the `csv` crate applies them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scan {
    CellStart,
    Plain,
    Quoted,
    /// Behind a quote in a quoted cell: its end, or the first half of an escaped quote.
    QuoteInQuoted,
}

impl Scan {
    const fn next(self, byte: u8, delimiter: u8) -> Self {
        match (self, byte) {
            (Self::CellStart | Self::QuoteInQuoted, b'"') => Self::Quoted,
            (Self::Quoted, b'"') => Self::QuoteInQuoted,
            (Self::Quoted, _) => Self::Quoted,
            (_, byte) if byte == delimiter => Self::CellStart,
            _ => Self::Plain,
        }
    }
}

/// One record for the splitter, which reads from here instead of the file.
#[derive(Debug, Default)]
struct Feed {
    bytes: Vec<u8>,
    read: usize,
}

impl Read for Feed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = (&self.bytes[self.read..]).read(into)?;
        self.read += count;
        Ok(count)
    }
}

pub(super) struct Records<R> {
    input: R,
    delimiter: u8,
    row_bytes_max: usize,
    place: Place,
    /// Behind the first line of the latest record, where that has several.
    behind_first_line: Option<Place>,
    splitter: csv::Reader<Feed>,
    cells: ByteRecord,
}

enum LineRead {
    Read,
    TooLong,
    End,
}

impl<R: BufRead + Seek> Records<R> {
    /// Reads from the beginning; a byte order mark there is skipped.
    pub(super) fn new(input: R, delimiter: u8, row_bytes_max: usize) -> io::Result<Self> {
        let splitter = splitter(delimiter);
        let cells = ByteRecord::new();
        let place = Place::default();
        let mut records = Self { input, delimiter, row_bytes_max, place, behind_first_line: None, splitter, cells };
        records.go_to(place)?;
        Ok(records)
    }

    /// The cells of the latest record.
    pub(super) fn cells(&self) -> &ByteRecord {
        &self.cells
    }

    /// Where the next record is looked for.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// Goes on reading from there.
    pub(super) fn go_to(&mut self, place: Place) -> io::Result<()> {
        self.input.seek(SeekFrom::Start(place.offset))?;
        self.place = place;
        if place.offset == 0 && self.input.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
            self.input.consume(3);
            self.place.offset = 3;
        }
        Ok(())
    }

    /// Goes back to the second line of the latest record, if it had several; for a record that turned
    /// out wrong, because a stray quote took good lines into it.
    pub(super) fn resume_behind_first_line(&mut self) -> io::Result<()> {
        match self.behind_first_line.take() {
            Some(place) if place != self.place => self.go_to(place),
            _ => Ok(()),
        }
    }

    /// Finds the next record; empty lines are skipped.
    pub(super) fn advance(&mut self) -> io::Result<Found> {
        let found = self.find()?;
        if let Found::Bad { .. } = found {
            self.resume_behind_first_line()?;
        }
        Ok(found)
    }

    fn find(&mut self) -> io::Result<Found> {
        loop {
            let line = self.place.lines + 1;
            let mut bytes = std::mem::take(&mut self.splitter.get_mut().bytes);
            bytes.clear();
            self.behind_first_line = None;
            let problem = self.read_record(&mut bytes)?;
            if problem.is_none() {
                strip_line_end(&mut bytes);
            }
            let empty = bytes.is_empty();
            bytes.push(b'\n');
            *self.splitter.get_mut() = Feed { bytes, read: 0 };
            match problem {
                Some(Problem::End) => return Ok(Found::End),
                Some(Problem::Bad(reason)) => return Ok(Found::Bad { line, reason }),
                None if empty => {}
                None if self.splitter.read_byte_record(&mut self.cells).unwrap_or(false) => {
                    return Ok(Found::Record { line });
                }
                None => {
                    // Only if our rules and the crate's ever differ: it has seen its end of file.
                    self.splitter = splitter(self.delimiter);
                    return Ok(Found::Bad { line, reason: "cannot be split into cells".to_owned() });
                }
            }
        }
    }

    /// Appends lines until no quoted cell is open.
    fn read_record(&mut self, bytes: &mut Vec<u8>) -> io::Result<Option<Problem>> {
        let mut scan = Scan::CellStart;
        let mut scanned = 0;
        loop {
            match self.read_line(bytes)? {
                LineRead::End if scanned == 0 => return Ok(Some(Problem::End)),
                LineRead::End => return Ok(Some(Problem::Bad("a quote is opened and never closed".to_owned()))),
                LineRead::TooLong if scanned == 0 => {
                    return Ok(Some(Problem::Bad(format!("longer than {} bytes", self.row_bytes_max))));
                }
                LineRead::TooLong => {
                    let reason = format!("longer than {} bytes: a quote is opened and not closed", self.row_bytes_max);
                    return Ok(Some(Problem::Bad(reason)));
                }
                LineRead::Read => {}
            }
            self.behind_first_line.get_or_insert(self.place);
            scan = bytes[scanned..].iter().fold(scan, |scan, byte| scan.next(*byte, self.delimiter));
            if scan != Scan::Quoted {
                return Ok(None);
            }
            scanned = bytes.len();
        }
    }

    /// Appends one line with its end. One that does not fit is read to its end and thrown away.
    fn read_line(&mut self, bytes: &mut Vec<u8>) -> io::Result<LineRead> {
        let mut too_long = false;
        let mut read = 0;
        let mut ended = false;
        while !ended {
            let available = self.input.fill_buf()?;
            if available.is_empty() {
                break;
            }
            let count = available.iter().position(|byte| *byte == b'\n').map_or(available.len(), |at| at + 1);
            ended = available[count - 1] == b'\n';
            too_long |= bytes.len() + count > self.row_bytes_max;
            if !too_long {
                bytes.extend_from_slice(&available[..count]);
            }
            self.input.consume(count);
            read += count as u64;
        }
        if read == 0 {
            return Ok(LineRead::End);
        }
        self.place = Place { offset: self.place.offset + read, lines: self.place.lines + 1 };
        Ok(if too_long { LineRead::TooLong } else { LineRead::Read })
    }
}

enum Problem {
    End,
    Bad(String),
}

fn splitter(delimiter: u8) -> csv::Reader<Feed> {
    // Lines are ended by us: the crate would end one at a lone carriage return too.
    let terminator = Terminator::Any(b'\n');
    let mut builder = ReaderBuilder::new();
    builder.has_headers(false).flexible(true).delimiter(delimiter).terminator(terminator);
    builder.from_reader(Feed::default())
}

fn strip_line_end(bytes: &mut Vec<u8>) {
    if bytes.ends_with(b"\n") {
        bytes.pop();
    }
    if bytes.ends_with(b"\r") {
        bytes.pop();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    /// A line with its cells, or with what is wrong.
    type One = Result<(u64, Vec<String>), (u64, String)>;

    fn read(bytes: &[u8]) -> Vec<One> {
        let mut records = Records::new(Cursor::new(bytes), b',', 32).unwrap();
        let mut all = Vec::new();
        loop {
            match records.advance().unwrap() {
                Found::Record { line } => {
                    let cells = records.cells().iter().map(|cell| String::from_utf8_lossy(cell).into_owned());
                    all.push(Ok((line, cells.collect())));
                }
                Found::Bad { line, reason } => all.push(Err((line, reason))),
                Found::End => return all,
            }
        }
    }

    fn record(line: u64, cells: &[&str]) -> One {
        Ok((line, cells.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn records_have_cells_and_line_numbers() {
        assert_eq!(
            read(b"\xef\xbb\xbfa,b\r\n\r\n\"x\n\"\"y\"\"\",2\n3,5\" pipe\nlast,"),
            [
                record(1, &["a", "b"]),
                record(3, &["x\n\"y\"", "2"]),
                record(5, &["3", "5\" pipe"]),
                record(6, &["last", ""]),
            ]
        );
        assert_eq!(read(b"a\rb,c\n\"d\"\r\n"), [record(1, &["a\rb", "c"]), record(2, &["d"])]);
        assert_eq!(read(b"\n\r\n"), []);
    }

    #[test]
    fn a_quote_that_is_not_closed_costs_one_line() {
        let bad = |line, reason: &str| Err((line, reason.to_owned()));
        assert_eq!(
            read(b"1,2\n3,\"4\n5,6\n7,8\n"),
            [
                record(1, &["1", "2"]),
                bad(2, "a quote is opened and never closed"),
                record(3, &["5", "6"]),
                record(4, &["7", "8"]),
            ]
        );
        assert_eq!(
            read(b"\"\n1111111111\n2222222222\n3333333333\n"),
            [
                bad(1, "longer than 32 bytes: a quote is opened and not closed"),
                record(2, &["1111111111"]),
                record(3, &["2222222222"]),
                record(4, &["3333333333"]),
            ]
        );
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped() {
        let mut bytes = vec![b'x'; 100_000];
        bytes.extend_from_slice(b"\n1,2\n");
        assert_eq!(read(&bytes), [Err((1, "longer than 32 bytes".to_owned())), record(2, &["1", "2"])]);
    }

    proptest! {
        /// Whatever the bytes, reading ends, and a record that fits is split as the crate alone would.
        #[test]
        fn any_bytes_are_read_to_the_end(bytes in prop::collection::vec(prop::sample::select(&b"a\",\n\r\xff"[..]), 0..200)) {
            let found = read(&bytes);
            let lines = bytes.split(|byte| *byte == b'\n').count();
            prop_assert!(found.len() <= lines, "{found:?}");
            let mut previous = 0;
            for one in found {
                let line = match one { Ok((line, _)) | Err((line, _)) => line };
                prop_assert!(line > previous, "lines are not in order");
                previous = line;
            }
        }
    }
}
