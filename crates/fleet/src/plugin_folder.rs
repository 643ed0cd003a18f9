//! The folder with a user's plugins: every `*.rhai` file in it, not those in folders below.

use std::path::{Path, PathBuf};

use heartwatch_ports::PluginFolder;
use heartwatch_ports::ScriptFile;

/// Most files that are read.
const FILES_MAX: usize = 100;
/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A folder of this machine.
#[derive(Debug, Clone)]
pub struct LocalFolder {
    path: PathBuf,
}

impl LocalFolder {
    /// This folder; it need not be there yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

impl PluginFolder for LocalFolder {
    fn read(&self) -> Vec<ScriptFile> {
        let Ok(entries) = std::fs::read_dir(&self.path) else { return Vec::new() };
        let is_script = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "rhai");
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(is_script).collect();
        paths.sort();
        paths.iter().take(FILES_MAX).map(|path| script(path)).collect()
    }
}

fn script(path: &Path) -> ScriptFile {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let text = match std::fs::metadata(path) {
        Ok(about) if about.len() > FILE_BYTES_MAX => {
            Err(format!("{} has {} bytes, the limit is {FILE_BYTES_MAX}", path.display(), about.len()))
        }
        _ => std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display())),
    };
    ScriptFile { name, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_come_by_name_and_an_unreadable_one_says_why() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in
            [("b.rhai", b"two".as_slice()), ("a.rhai", b"one"), ("notes.txt", b"no"), ("c.rhai", b"\xff")]
        {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let files = LocalFolder::new(folder.path()).read();
        assert_eq!(files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(files[0].text.as_deref(), Ok("one"));
        assert!(files[2].text.as_ref().unwrap_err().contains("c.rhai"));
        assert!(LocalFolder::new("/nowhere").read().is_empty());
    }
}
