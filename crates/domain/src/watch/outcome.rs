//! What comes of watching: a change of the verdict, a question, a move.

use std::sync::Arc;

use crate::judge::Judgement;
use crate::process::ProcessIdentity;
use crate::publisher::HostName;
use crate::time::Monotonic;
use crate::verdict::{Trigger, Verdict};

/// A verdict that is to change, and what made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The verdict before.
    pub from: Verdict,
    /// The verdict from now on, with its reasons.
    pub judgement: Judgement,
    /// When it became true.
    pub at: Monotonic,
    /// What made us decide.
    pub trigger: Trigger,
}

/// What is to be done about a publisher.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WatchOutcome {
    /// Its verdict changes.
    pub change: Option<Box<Transition>>,
    /// The probe is to be asked about this process; then call [`Watch::answered`](super::Watch::answered).
    pub ask: Option<ProcessIdentity>,
    /// Where it was until now, when it has just named another host or process.
    pub was: Option<Box<Whereabouts>>,
    /// Somebody else was heard under its id; then see [`Watch::user_to_ask`](super::Watch::user_to_ask).
    pub another: bool,
}

/// Where a publisher runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whereabouts {
    /// Where the process runs.
    pub host: Arc<HostName>,
    /// Its process, where it had named one.
    pub process: Option<ProcessIdentity>,
}
