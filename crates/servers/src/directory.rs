//! A directory that goes away with whoever has made it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;

/// How often, and how long apart, it is tried to remove one.
const REMOVAL_ATTEMPTS_MAX: u32 = 50;
const REMOVAL_EVERY: Duration = Duration::from_millis(20);

/// A directory, which is removed with all that is in it when this is dropped, unless it is to be kept.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    temporary: Option<TempDir>,
}

impl Directory {
    /// A new one in the system's directory for temporary files, `heartwatch-NAME-…`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn temporary(name: &str) -> anyhow::Result<Self> {
        Self::below(&std::env::temp_dir(), name)
    }

    /// A new one below `parent`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn below(parent: &Path, name: &str) -> anyhow::Result<Self> {
        let made = tempfile::Builder::new().prefix(&format!("heartwatch-{name}-")).tempdir_in(parent);
        let temporary = made.with_context(|| format!("cannot make a directory in {}", parent.display()))?;
        Ok(Self { path: temporary.path().to_owned(), temporary: Some(temporary) })
    }

    /// One of the user's own, made where it is not there. It stays.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn of_user(path: &Path) -> anyhow::Result<Self> {
        let path = std::path::absolute(path)?;
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path, temporary: None })
    }

    /// The same that stays.
    #[must_use]
    pub fn kept(mut self) -> Self {
        if let Some(temporary) = self.temporary.take() {
            self.path = temporary.keep();
        }
        self
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    #[expect(
        clippy::disallowed_methods,
        reason = "it waits for a condition, at most a second, where nothing can be awaited"
    )]
    fn drop(&mut self) {
        if self.temporary.is_none() {
            return;
        }
        // A program that was just killed may still be writing its last file.
        for _ in 0..REMOVAL_ATTEMPTS_MAX {
            if std::fs::remove_dir_all(&self.path).is_ok() || !self.path.exists() {
                return;
            }
            std::thread::sleep(REMOVAL_EVERY);
        }
        tracing::warn!(path = %self.path.display(), "a temporary directory could not be removed: it may be deleted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_one_goes_away_and_a_kept_one_stays() {
        let parent = tempfile::tempdir().unwrap();
        let gone = Directory::below(parent.path(), "test").unwrap();
        let kept = Directory::below(parent.path(), "test").unwrap().kept();
        let (gone_path, kept_path) = (gone.path().to_owned(), kept.path().to_owned());
        assert!(gone_path.is_dir() && kept_path.is_dir());
        std::fs::write(gone_path.join("file"), "x").unwrap();
        drop((gone, kept));
        assert!(!gone_path.exists() && kept_path.is_dir());
    }
}
