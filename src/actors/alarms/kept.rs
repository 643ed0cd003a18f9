//! Raised alarms in a small file, so that a restart neither forgets one nor tells it twice.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::domain::publisher::{HostName, PublisherId};
use crate::domain::rule::Severity;
use crate::domain::time::Timestamp;

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What tells a rule's alarms apart: the measurement, and the values of its tags.
pub(super) type Key = Vec<String>;

/// A series that must not be forgotten: its alarm is raised, or its silence would be one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub rule: String,
    pub key: Key,
    pub publisher: PublisherId,
    pub host: HostName,
    pub raised: Option<Raised>,
}

/// A raised alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Raised {
    pub at: Timestamp,
    pub severity: Severity,
    /// Whether somebody was told; not while its publisher is in maintenance.
    pub told: bool,
}

/// The file. It is always written whole, beside the old one, and put in its place when it is synced.
#[derive(Debug, Clone)]
pub(super) struct KeptFile(pub PathBuf);

impl KeptFile {
    /// What is in it. One that cannot be read is named: what is still raised is told again.
    pub fn read(&self) -> Vec<Kept> {
        let path = &self.0;
        match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
            Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
                tracing::error!(path = %path.display(), "too large: raised alarms are told again");
                return Vec::new();
            }
            _ => {}
        }
        let read = std::fs::read(path).map_err(|error| error.to_string());
        read.and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string())).unwrap_or_else(
            |reason| {
                tracing::error!(path = %path.display(), reason, "cannot be read: raised alarms are told again");
                Vec::new()
            },
        )
    }

    /// Replaces what is in it. It blocks.
    pub fn write(&self, kept: &[Kept]) -> std::io::Result<()> {
        let text = serde_json::to_vec(kept)?;
        let beside = self.0.with_extension("json.new");
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(&text).and_then(|()| file.sync_all())?;
        std::fs::rename(&beside, &self.0)?;
        self.0.parent().map_or(Ok(()), sync)
    }
}

fn sync(directory: &Path) -> std::io::Result<()> {
    std::fs::File::open(directory)?.sync_all()
}
