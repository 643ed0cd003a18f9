//! A publisher's outbox: every reading is here until the monitor has confirmed it.
//! (contract; to be filled in)

use std::path::PathBuf;

use crate::domain::publisher::Incarnation;
use crate::domain::reading::{Reading, Sequence};

/// What to do when the outbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FullPolicy {
    /// Take no new reading until there is room.
    #[default]
    RefuseNew,
    /// Give up the oldest ones, and name them to the monitor.
    GiveUpOldest,
}

/// What bounds the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxConfig {
    /// The SQLite file; none keeps readings in memory only (said at start: a kill then loses them).
    pub path: Option<PathBuf>,
    /// Most bytes of readings.
    pub bytes_max: u64,
    /// At the limit.
    pub full_policy: FullPolicy,
}

/// A reading with the life that numbered it.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Which life.
    pub incarnation: Incarnation,
    /// The reading.
    pub reading: Reading,
}

/// A range of readings given up at the limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUpRange {
    /// Which life.
    pub incarnation: Incarnation,
    /// First number.
    pub first: Sequence,
    /// Last number.
    pub last: Sequence,
}

/// Why the outbox could not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboxError {
    /// The file cannot be opened or is in use by another publisher with this id.
    #[error("cannot open the outbox {path}: {reason}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The disk refused; the readings were not kept.
    #[error("the outbox cannot write: {reason}")]
    Write {
        /// SQLite's words.
        reason: String,
    },
    /// It is full and its policy is to refuse.
    #[error("the outbox is full ({bytes_max} bytes)")]
    Full {
        /// The limit.
        bytes_max: u64,
    },
}

/// A publisher's durable buffer. Calls block for a commit: call them off the actors' threads.
#[derive(Debug)]
pub struct Outbox {}

impl Outbox {
    /// Opens the outbox and starts a new incarnation, larger than every one before it and at
    /// least `now_micros`.
    ///
    /// # Errors
    /// [`OutboxError::Open`].
    pub fn open(_config: OutboxConfig, _now_micros: u64) -> Result<(Self, Incarnation), OutboxError> {
        unimplemented!()
    }
    /// Keeps new readings of the current incarnation, durable when this returns. The ranges that
    /// had to be given up for them are returned (policy [`FullPolicy::GiveUpOldest`]) and stay
    /// recorded until [`Outbox::given_up_told`].
    ///
    /// # Errors
    /// [`OutboxError::Write`] or [`OutboxError::Full`]: nothing was kept.
    pub fn keep(&mut self, _readings: &[Reading]) -> Result<Vec<GivenUpRange>, OutboxError> {
        unimplemented!()
    }
    /// Forgets what the monitor has confirmed: every number up to `through`, and those up to
    /// `highest` that are not in `gaps`.
    ///
    /// # Errors
    /// [`OutboxError::Write`]: they will be confirmed again.
    pub fn confirmed(
        &mut self,
        _incarnation: Incarnation,
        _through: Sequence,
        _highest: Sequence,
        _gaps: &[(Sequence, Sequence)],
    ) -> Result<(), OutboxError> {
        unimplemented!()
    }
    /// Readings of one incarnation with numbers from `first` to `last`, in order, at most `readings_max`.
    ///
    /// # Errors
    /// [`OutboxError::Write`] when the file cannot be read.
    pub fn range(
        &self,
        _incarnation: Incarnation,
        _first: Sequence,
        _last: Sequence,
        _readings_max: usize,
    ) -> Result<Vec<Kept>, OutboxError> {
        unimplemented!()
    }
    /// Incarnations before this one that still have readings, oldest first, with their lowest and highest number.
    ///
    /// # Errors
    /// [`OutboxError::Write`] when the file cannot be read.
    pub fn earlier(&self) -> Result<Vec<(Incarnation, Sequence, Sequence)>, OutboxError> {
        unimplemented!()
    }
    /// Ranges given up and not yet told to the monitor.
    ///
    /// # Errors
    /// [`OutboxError::Write`] when the file cannot be read.
    pub fn given_up(&self) -> Result<Vec<GivenUpRange>, OutboxError> {
        unimplemented!()
    }
    /// The monitor knows of this range now.
    ///
    /// # Errors
    /// [`OutboxError::Write`].
    pub fn given_up_told(&mut self, _range: &GivenUpRange) -> Result<(), OutboxError> {
        unimplemented!()
    }
    /// How many readings wait for confirmation, and their bytes.
    #[must_use]
    pub fn level(&self) -> (u64, u64) {
        unimplemented!()
    }
}
