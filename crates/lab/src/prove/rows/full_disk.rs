//! A disk without room: a small file system in memory, which root alone can mount.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;

/// Room beyond what is copied there, which is filled at once.
const ROOM_BYTES: u64 = 256 * 1024;
/// Bytes written at once to fill it.
const FILL_BYTES: usize = 4096;
/// What fills it.
const BALLAST: &str = "ballast";

/// A mounted file system; dropped, it is unmounted.
pub(super) struct FullDisk {
    /// Where it is.
    pub path: PathBuf,
}

impl FullDisk {
    /// Whether one can be mounted here.
    #[must_use]
    pub(super) fn is_possible(folder: &Path) -> bool {
        std::fs::create_dir_all(folder).is_ok() && Self::mount(folder, ROOM_BYTES).is_ok()
    }

    /// Mounts one, copies what is in `from` to it, and fills what is left.
    ///
    /// # Errors
    /// When it cannot be mounted or the files do not fit.
    pub(super) fn with_copy_of(from: &Path, path: &Path) -> anyhow::Result<Self> {
        let disk = Self::mount(path, 2 * bytes_of(from)? + ROOM_BYTES)?;
        copy_files(from, path)?;
        let mut ballast = File::create(path.join(BALLAST))?;
        while ballast.write_all(&[0; FILL_BYTES]).is_ok() {}
        Ok(disk)
    }

    fn mount(path: &Path, bytes: u64) -> anyhow::Result<Self> {
        std::fs::create_dir_all(path)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "heartwatch-prove"]).arg(path);
        let status = mount.stderr(Stdio::null()).status().context("mount")?;
        anyhow::ensure!(status.success(), "mount ended with {status}");
        Ok(Self { path: path.to_owned() })
    }

    /// Gives the room free that was filled.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub(super) fn free(&self) -> anyhow::Result<()> {
        std::fs::remove_file(self.path.join(BALLAST)).context("cannot remove the ballast")
    }

    /// Copies its files back to where they came from, in place of those there.
    ///
    /// # Errors
    /// When they cannot be copied.
    pub(super) fn copy_back(&self, to: &Path) -> anyhow::Result<()> {
        for entry in std::fs::read_dir(to)? {
            let path = entry?.path();
            if path.is_file() {
                std::fs::remove_file(path)?;
            }
        }
        copy_files(&self.path, to)
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        // lazily: whoever still has a file of it open keeps that file alone
        let _ = Command::new("umount").arg("-l").arg(&self.path).stderr(Stdio::null()).status();
    }
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    Ok(paths.into_iter().filter(|path| path.is_file() && path.file_name() != Some(BALLAST.as_ref())).collect())
}

fn bytes_of(folder: &Path) -> anyhow::Result<u64> {
    files(folder)?.iter().map(|file| Ok(file.metadata()?.len())).sum()
}

fn copy_files(from: &Path, to: &Path) -> anyhow::Result<()> {
    for file in files(from)? {
        std::fs::copy(&file, to.join(file.file_name().unwrap_or_default()))?;
    }
    Ok(())
}
