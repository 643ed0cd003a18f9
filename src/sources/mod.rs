//! Floor 3: what a publisher reads.

use std::path::PathBuf;

use crate::domain::reading::FieldValue;

pub mod csv;

/// One row of a source: what was measured, without a number and a time, which its publisher gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceRow {
    /// The line in the file that it began on.
    pub line: u64,
    /// At least one field.
    pub fields: Vec<(String, FieldValue)>,
}

/// A row that can't be used. It is skipped: the rows behind it are read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {reason}", file.display())]
pub struct BadRow {
    /// The file.
    pub file: PathBuf,
    /// The line that the row began on, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}
