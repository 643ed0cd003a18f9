//! A wall clock that is wrong.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The clock of one program, wrong by what a file says: through libfaketime, which answers for the system.
pub(super) struct WrongClock {
    library: String,
    file: PathBuf,
}

impl WrongClock {
    /// One whose file is in `folder`.
    ///
    /// # Errors
    /// When the library's path is no text.
    pub(super) fn new(library: &Path, folder: &Path, name: &str) -> anyhow::Result<Self> {
        let library = library.to_str().context("the path of libfaketime")?.to_owned();
        Ok(Self { library, file: folder.join(format!("{name}.clock")) })
    }

    /// So many seconds behind or ahead from now on.
    ///
    /// # Errors
    /// When its file cannot be written.
    pub(super) fn set(&self, step: &str) -> anyhow::Result<()> {
        let part = self.file.with_extension("part");
        std::fs::write(&part, step).and_then(|()| std::fs::rename(&part, &self.file)).context("cannot set the clock")
    }

    /// What a program has to be started with.
    #[must_use]
    pub(super) fn variables(&self) -> [(&str, &str); 4] {
        [
            ("LD_PRELOAD", self.library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.to_str().unwrap_or_default()),
            ("FAKETIME_NO_CACHE", "1"),
            // the clock that decides does not step
            ("DONT_FAKE_MONOTONIC", "1"),
        ]
    }
}
