//! What was found damaged on disk.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Something on disk that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// When it was found.
    pub at: Timestamp,
    /// Its name within the data directory.
    pub file: String,
    /// What is wrong with it and what became of that, in words.
    pub what: String,
}

/// What was found since the start of the program.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DamageFound {
    /// How many pieces.
    pub total: u64,
    /// The last of them, newest first.
    pub newest: Vec<Damage>,
}
