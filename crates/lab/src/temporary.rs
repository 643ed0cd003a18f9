//! Where a demo keeps its data when nobody has said where.

use std::path::PathBuf;

use anyhow::Context as _;

/// A directory of our own that goes away with the demo.
pub fn temporary_directory() -> anyhow::Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("heartwatch-demo-{}-{:08x}", std::process::id(), fastrand::u32(..)));
    std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}

/// Goes away with this.
pub struct RemovedAtEnd(pub PathBuf);

impl Drop for RemovedAtEnd {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "the demo's directory was not removed");
        }
    }
}
