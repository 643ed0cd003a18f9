//! A batch on its way: whole at first, taken apart by halves when the sink refuses it, until each row
//! is stored or known to be refused. Pure.
//!
//! Invariants, attacked by the property test below:
//! 1. a row ends exactly once: in an accepted piece, or alone in a refused one;
//! 2. rows of accepted pieces keep their order;
//! 3. a batch with `k` bad rows among `n` costs at most `2k·(log2 n + 1) + 1` writes.

use std::ops::Range;

use bytes::Bytes;

use heartwatch_formats::line_protocol::Rows;

/// InfluxDB drops every row of a piece with these words and says how many.
const BEYOND_RETENTION: &str = "points beyond retention policy";

/// One batch on its way.
#[derive(Debug)]
pub(super) struct Bisection {
    whole: Bytes,
    /// The rows, once it has been taken apart.
    rows: Vec<Vec<u8>>,
    /// Pieces still to be sent, the next one last; none before it has been taken apart.
    pieces: Vec<Range<usize>>,
    apart: bool,
    refused: Vec<(Vec<u8>, String)>,
}

impl Bisection {
    /// A batch in line protocol.
    pub(super) fn of(lines: Vec<u8>) -> Self {
        Self { whole: lines.into(), rows: Vec::new(), pieces: Vec::new(), apart: false, refused: Vec::new() }
    }

    /// What to send next; nothing when every row has ended.
    pub(super) fn next(&self) -> Option<Bytes> {
        if !self.apart {
            return (!self.whole.is_empty()).then(|| self.whole.clone());
        }
        let piece = self.pieces.last()?;
        let mut lines = Vec::new();
        for row in self.rows.get(piece.clone()).unwrap_or_default() {
            lines.extend_from_slice(row);
            lines.push(b'\n');
        }
        Some(lines.into())
    }

    /// The sink has stored the piece.
    pub(super) fn accepted(&mut self) {
        if self.apart {
            self.pieces.pop();
        } else {
            self.whole.clear();
        }
    }

    /// The sink refused some rows of the piece: halves it, or gives up a single row with this reason.
    pub(super) fn refused(&mut self, reason: &str) {
        self.take_apart();
        let Some(piece) = self.pieces.pop() else { return };
        let all = reason.contains(BEYOND_RETENTION) && dropped(reason) == Some(piece.len());
        if all || piece.len() <= 1 {
            let rows = self.rows.get_mut(piece).unwrap_or_default();
            self.refused.extend(rows.iter_mut().map(|row| (std::mem::take(row), reason.to_owned())));
            return;
        }
        self.halve(&piece);
    }

    /// The sink will not take that much at once: halves the piece. A single row that is too large is
    /// refused for good.
    pub(super) fn too_large(&mut self, reason: &str) {
        self.refused(&format!("too large: {reason}"));
    }

    /// The rows that were refused, each without its line end, with the sink's reason.
    pub(super) fn into_refused(self) -> Vec<(Vec<u8>, String)> {
        self.refused
    }

    fn take_apart(&mut self) {
        if self.apart {
            return;
        }
        self.apart = true;
        self.rows = Rows::of(&self.whole).map(<[u8]>::to_vec).collect();
        self.whole = Bytes::new();
        if !self.rows.is_empty() {
            self.pieces.push(0..self.rows.len());
        }
    }

    fn halve(&mut self, piece: &Range<usize>) {
        let middle = piece.start + piece.len() / 2;
        self.pieces.push(middle..piece.end);
        self.pieces.push(piece.start..middle);
    }
}

/// The number in `dropped=3`.
fn dropped(reason: &str) -> Option<usize> {
    let (_, after) = reason.split_once("dropped=")?;
    let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    after.get(..digits)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A sink that refuses rows with "bad" in them and bodies over a size.
    fn deliver(lines: &[String], bytes_max: usize) -> (Vec<String>, Vec<(String, String)>, usize) {
        let batch: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        let mut dissection = Bisection::of(batch.into_bytes());
        let (mut stored, mut writes) = (Vec::new(), 0);
        while let Some(piece) = dissection.next() {
            writes += 1;
            let text = String::from_utf8(piece.to_vec()).unwrap();
            if text.len() > bytes_max {
                dissection.too_large("limit");
            } else if text.contains("bad") {
                dissection.refused("partial write: field type conflict dropped=1");
            } else {
                stored.extend(text.lines().map(str::to_owned));
                dissection.accepted();
            }
        }
        let refused = dissection.into_refused();
        let refused = refused.into_iter().map(|(row, reason)| (String::from_utf8(row).unwrap(), reason)).collect();
        (stored, refused, writes)
    }

    proptest! {
        #[test]
        fn exactly_the_bad_rows_are_refused(bad in proptest::collection::vec(any::<bool>(), 0..200)) {
            let row = |(n, bad): (usize, &bool)| if *bad { format!("bad v={n}i {n}") } else { format!("m v={n}i {n}") };
            let lines: Vec<String> = bad.iter().enumerate().map(row).collect();
            let (stored, refused, writes) = deliver(&lines, usize::MAX);
            let (bad_rows, good_rows): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line.starts_with("bad"));
            prop_assert_eq!(stored, good_rows);
            let bound = 1 + 2 * bad_rows.len() * (bad.len().max(1).ilog2() as usize + 2);
            prop_assert!(writes <= bound, "{} writes for {} bad rows of {}", writes, bad_rows.len(), bad.len());
            prop_assert_eq!(refused.into_iter().map(|(row, _)| row).collect::<Vec<_>>(), bad_rows);
        }

        #[test]
        fn a_size_limit_halves_and_refuses_only_rows_that_are_too_large_alone(
            sizes in proptest::collection::vec(0_usize..60, 0..60),
            bytes_max in 20_usize..200,
        ) {
            let lines: Vec<String> = sizes.iter().map(|size| format!("m v=1 {}", "9".repeat(*size))).collect();
            let (stored, refused, _) = deliver(&lines, bytes_max);
            let (good, large): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line.len() < bytes_max);
            prop_assert_eq!(stored, good);
            prop_assert!(refused.iter().all(|(_, reason)| reason.starts_with("too large")));
            prop_assert_eq!(refused.into_iter().map(|(row, _)| row).collect::<Vec<_>>(), large);
        }
    }

    #[test]
    fn a_whole_batch_beyond_retention_costs_one_write() {
        let mut dissection = Bisection::of(b"m v=1 1\nm v=2 2\nm v=3 3\n".to_vec());
        assert!(dissection.next().is_some());
        dissection.refused("partial write: points beyond retention policy dropped=3");
        assert_eq!(dissection.next(), None);
        assert_eq!(dissection.into_refused().len(), 3);
    }

    #[test]
    fn a_line_break_in_a_text_is_not_the_end_of_a_row() {
        let mut dissection = Bisection::of(b"m v=\"a\nb\" 1\nm v=2 2\n".to_vec());
        dissection.refused("no");
        assert_eq!(dissection.next().unwrap(), b"m v=\"a\nb\" 1\n".as_slice());
    }
}
