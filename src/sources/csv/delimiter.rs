//! What stands between two cells of a CSV file, found by looking at its beginning.

use csv::ReaderBuilder;

use heartwatch_formats::csv_row::{Decimal, is_missing, is_typed};

/// What it may be; of two that fit equally well the first.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// Most lines that are looked at.
const LINES_MAX: usize = 100;

/// How well a delimiter fits; the larger is the better.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
struct Fit {
    /// Lines with the most frequent number of cells, where that is more than one.
    lines: usize,
    /// Which part of their cells is a number, a boolean, a time or nothing.
    typed: f64,
}

/// The delimiter that gives most lines the same number of cells, two or more; a comma where none does.
pub(super) fn of(beginning: &[u8]) -> u8 {
    let beginning = beginning.strip_prefix(b"\xef\xbb\xbf").unwrap_or(beginning);
    // what is cut off says nothing about its line
    let whole = beginning.iter().rposition(|byte| *byte == b'\n').map_or(beginning, |end| &beginning[..=end]);
    let mut best = (b',', Fit { lines: 0, typed: 0.0 });
    for delimiter in DELIMITERS {
        let fit = fit(whole, delimiter);
        if fit > best.1 {
            best = (delimiter, fit);
        }
    }
    best.0
}

fn fit(beginning: &[u8], delimiter: u8) -> Fit {
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(beginning);
    let rows: Vec<Vec<String>> = reader
        .byte_records()
        .take(LINES_MAX)
        .flatten()
        .map(|row| row.iter().map(|cell| String::from_utf8_lossy(cell).into_owned()).collect())
        .collect();
    let with = |cells: usize| rows.iter().filter(|row| row.len() == cells).count();
    let widths = rows.iter().map(Vec::len).filter(|width| *width > 1);
    let Some(width) = widths.max_by_key(|width| with(*width)) else { return Fit { lines: 0, typed: 0.0 } };
    let cells: Vec<&String> = rows.iter().filter(|row| row.len() == width).flatten().collect();
    let is_value = |cell: &str| {
        let with_comma = delimiter != b',' && is_typed(&Decimal::Comma.plain(cell));
        is_missing(cell) || is_typed(cell) || with_comma
    };
    let typed = cells.iter().filter(|cell| is_value(cell)).count();
    #[expect(clippy::cast_precision_loss, reason = "a share of some hundred cells")]
    let typed = typed as f64 / cells.len() as f64;
    Fit { lines: with(width), typed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delimiter_is_the_one_that_fits_most_lines() {
        for (text, expected) in [
            ("a,b\n1,2\n", b','),
            ("time;temp;hum\n2024-01-10 00:00;21,5;40,25\n2024-01-10 00:10;22;41\n", b';'),
            ("1,5;2,5\n3,5;4,5\n", b';'),
            ("a\tb c, d\n1\t2\n", b'\t'),
            ("a|b\n1|2\n", b'|'),
            ("1\n2\n", b','),
            ("note,n\n\"a;b;c\",1\n\"d;e;f\",2\n", b','),
            ("x;y,1\nz;w,2\n", b','),
            ("", b','),
        ] {
            assert_eq!(char::from(of(text.as_bytes())), char::from(expected), "{text}");
        }
    }
}
