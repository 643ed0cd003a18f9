//! Raised alarms in a small file, so that a restart neither forgets one nor tells it twice.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use heartwatch_domain::publisher::{HostName, PublisherId};
use heartwatch_domain::rule::Severity;
use heartwatch_domain::time::Timestamp;
use heartwatch_store::text_file;
use heartwatch_system::damage_log::DamageLog;

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
    pub(super) fn read(&self, damage: &DamageLog) -> Vec<Kept> {
        let read = || -> Result<Vec<Kept>, String> {
            let Some(text) = text_file::read(&self.0, FILE_BYTES_MAX)? else { return Ok(Vec::new()) };
            serde_json::from_slice(&text).map_err(|error| error.to_string())
        };
        read().unwrap_or_else(|reason| {
            damage.report(&self.0, &format!("the raised alarms cannot be read and are told again: {reason}"));
            Vec::new()
        })
    }

    /// Replaces what is in it. It blocks.
    pub(super) fn write(&self, kept: &[Kept]) -> std::io::Result<()> {
        text_file::write(&self.0, &serde_json::to_vec(kept)?)
    }
}
