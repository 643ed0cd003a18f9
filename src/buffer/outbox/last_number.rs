//! The last number given out, noted in a file beside the outbox.
//!
//! The outbox itself knows it as well, but what a torn file has lost it cannot name. This note is written
//! without a sync after each commit: a kill does not lose it, a power failure may leave it a few seconds
//! old, and then it claims less than was given out, never more.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::buffer::database::beside;
use crate::buffer::encoding::checksum;
use crate::domain::publisher::Incarnation;
use crate::domain::reading::Sequence;

/// `incarnation last checksum`, fixed width.
const NOTE_BYTES: usize = 20 + 1 + 20 + 1 + 8 + 1;

/// The note. One that cannot be written is said once and done without.
#[derive(Debug)]
pub(super) struct LastNumber {
    file: Option<File>,
    noted: Option<(Incarnation, Sequence)>,
}

impl LastNumber {
    /// Opens or makes the note beside an outbox.
    pub(super) fn open(outbox: &Path) -> Self {
        let path = beside(outbox, ".last");
        let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        match opened {
            Ok(mut file) => {
                let mut text = String::new();
                // anything that is no note is none
                let _ = Read::by_ref(&mut file).take(NOTE_BYTES as u64).read_to_string(&mut text);
                Self { file: Some(file), noted: parse(&text) }
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the last number cannot be noted beside the outbox");
                Self { file: None, noted: None }
            }
        }
    }

    /// What was noted: which life, and its last number.
    pub(super) const fn noted(&self) -> Option<(Incarnation, Sequence)> {
        self.noted
    }

    /// Notes that this life has given out numbers up to `last`.
    pub(super) fn note(&mut self, incarnation: Incarnation, last: Sequence) {
        let Some(file) = &mut self.file else { return };
        let text = said(incarnation, last);
        let written = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(text.as_bytes()));
        match written {
            Ok(()) => self.noted = Some((incarnation, last)),
            Err(error) => {
                tracing::warn!(%error, "the last number cannot be noted beside the outbox any more");
                self.file = None;
            }
        }
    }
}

fn said(incarnation: Incarnation, last: Sequence) -> String {
    let numbers = format!("{:020} {last:020}", incarnation.0);
    format!("{numbers} {:08x}\n", checksum(numbers.as_bytes()))
}

fn parse(text: &str) -> Option<(Incarnation, Sequence)> {
    let mut words = text.split_whitespace();
    let (incarnation, last) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let incarnation = Incarnation(incarnation);
    (said(incarnation, last) == text).then_some((incarnation, last))
}
