//! The last numbers given out, noted in a file beside the outbox: that of this life and of the latest ones
//! before it.
//!
//! The outbox itself knows them as well, but what a torn file has lost it cannot name; and a monitor whose
//! journal is damaged in the same hour could not be told of it. This note is written without a sync after
//! each commit: a kill does not lose it, a power failure may leave it a few seconds old, and then it claims
//! less than was given out, never more.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::LIVES_REMEMBERED_MAX;
use crate::disk::beside;
use crate::encoding::checksum;
use heartwatch_domain::publisher::Incarnation;
use heartwatch_domain::reading::Sequence;

/// A line is `incarnation last checksum`, fixed width; the latest life comes first.
const LINE_BYTES: usize = 20 + 1 + 20 + 1 + 8 + 1;

/// The note. One that cannot be written is said once and done without.
#[derive(Debug)]
pub(super) struct LastNumber {
    file: Option<File>,
    noted: Vec<(Incarnation, Sequence)>,
    /// Lines that are not what was written. A kill cannot tear one.
    damaged: usize,
}

impl LastNumber {
    /// Opens or makes the note beside an outbox.
    pub(super) fn open(outbox: &Path) -> Self {
        let path = beside(outbox, ".last");
        let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        match opened {
            Ok(mut file) => {
                let mut text = Vec::new();
                // anything that is no note is none
                let most = (LINE_BYTES * LIVES_REMEMBERED_MAX) as u64;
                let _ = Read::by_ref(&mut file).take(most).read_to_end(&mut text);
                // a power failure may leave nothing where something was written
                let lines = || text.chunks(LINE_BYTES).filter(|line| line.iter().any(|byte| *byte != 0));
                let noted: Vec<_> = lines().filter_map(|line| parse(std::str::from_utf8(line).ok()?)).collect();
                let damaged = lines().count() - noted.len();
                Self { file: Some(file), noted, damaged }
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the last number cannot be noted beside the outbox");
                Self { file: None, noted: Vec::new(), damaged: 0 }
            }
        }
    }

    /// What is wrong with the note, in words.
    pub(super) fn damage(&self) -> Option<String> {
        let lines = self.damaged;
        (lines > 0).then(|| format!("{lines} of the last numbers that are noted beside it are not what was written"))
    }

    /// What was noted: lives with the last number of each, the latest first.
    pub(super) fn noted(&self) -> &[(Incarnation, Sequence)] {
        &self.noted
    }

    /// Notes what the outbox knows of earlier lives, the latest first: a kill between a commit and its note left the note behind.
    pub(super) fn catch_up(&mut self, lives: Vec<(Incarnation, Sequence)>) {
        if self.noted != lives {
            self.noted = lives;
            self.noted.truncate(LIVES_REMEMBERED_MAX);
            // fewer lines than before would leave the last ones
            let cut = self.file.as_ref().map(|file| file.set_len(0));
            if let Some(Err(error)) = cut {
                tracing::warn!(%error, "the note of the last numbers cannot be written anew");
            }
            self.write();
        }
    }

    /// Notes that this life has given out numbers up to `last`.
    pub(super) fn note(&mut self, incarnation: Incarnation, last: Sequence) {
        match self.noted.first_mut() {
            Some(latest) if latest.0 == incarnation => latest.1 = last,
            _ => {
                self.noted.retain(|(life, _)| *life != incarnation);
                self.noted.insert(0, (incarnation, last));
                self.noted.truncate(LIVES_REMEMBERED_MAX);
            }
        }
        self.write();
    }

    fn write(&mut self) {
        let Some(file) = &mut self.file else { return };
        let text: String = self.noted.iter().map(|(life, last)| said(*life, *last)).collect();
        let written = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(text.as_bytes()));
        if let Err(error) = written {
            tracing::warn!(%error, "the last number cannot be noted beside the outbox any more");
            self.file = None;
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
