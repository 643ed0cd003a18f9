//! Where a proof writes.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Where everything is written: the user's directory, or a temporary one that goes away.
pub(super) struct Folder {
    /// Its path, absolute.
    pub path: PathBuf,
    temporary: bool,
}

impl Folder {
    /// Makes it. A temporary one stays when it is to be kept.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn new(asked: Option<&Path>, keep: bool) -> anyhow::Result<Self> {
        let (path, temporary) = match asked {
            Some(path) => (std::path::absolute(path)?, false),
            None => {
                let name = format!("heartwatch-prove-{}-{:08x}", std::process::id(), fastrand::u32(..));
                (std::env::temp_dir().join(name), !keep)
            }
        };
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path, temporary })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the directory of the proof was not removed");
        }
    }
}
