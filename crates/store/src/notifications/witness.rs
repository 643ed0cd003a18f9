//! A witness beside the notifications: what they had counted after the last commit, in a small file of its own. It
//! is written without a sync: a kill loses nothing of it, and it is never ahead.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::disk::beside;
use crate::encoding::{Decoder, put_number};
use crate::slot::{SLOT_BYTES, content, is_empty, slot};

/// What was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    /// Notices taken, for all targets together.
    pub(super) taken: u64,
    /// Messages begun.
    pub(super) messages: u64,
}

/// The witness. One that cannot be written is said once and done without.
#[derive(Debug, Default)]
pub(super) struct Witness {
    file: Option<File>,
    noted: Counts,
}

impl Witness {
    /// Opens it, and reads what was noted; where it is not what was written, `damage` is told.
    pub(super) fn open(store: &Path, damage: &mut Vec<String>) -> Self {
        let path = beside(store, ".witness");
        let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = match opened {
            Ok(file) => file,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "what the notifications hold cannot be noted beside them");
                return Self::default();
            }
        };
        let mut bytes = Vec::new();
        let _ = Read::by_ref(&mut file).take(SLOT_BYTES as u64).read_to_end(&mut bytes);
        let noted = read(&bytes);
        if noted.is_none() && !is_empty(&bytes) {
            damage.push("the witness beside the notifications is damaged".to_owned());
        }
        Self { file: Some(file), noted: noted.unwrap_or_default() }
    }

    /// What was noted last.
    pub(super) const fn noted(&self) -> Counts {
        self.noted
    }

    /// Notes what a commit has counted.
    pub(super) fn note(&mut self, counts: Counts) {
        if counts == self.noted {
            return;
        }
        self.noted = counts;
        let Some(file) = &self.file else { return };
        let mut bytes = Vec::new();
        put_number(&mut bytes, counts.taken);
        put_number(&mut bytes, counts.messages);
        if let Err(error) = file.write_all_at(&slot(bytes), 0) {
            tracing::warn!(%error, "what the notifications hold cannot be noted beside them any more");
            self.file = None;
        }
    }
}

fn read(bytes: &[u8]) -> Option<Counts> {
    let mut from = Decoder(content(bytes)?);
    Some(Counts { taken: from.number()?, messages: from.number()? })
}
