//! roles → alarms: which rules there are; page → alarms: how they stand.

use std::sync::Arc;

use actix::Message;
use serde::{Deserialize, Serialize};

use crate::domain::notice::RuleAlarm;
use crate::domain::rule::{Rule, Severity};

/// The rules from now on. An alarm of a rule that is gone is over.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct SetRules(pub Arc<Vec<Rule>>);

/// How every rule stands.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "AlarmsReply")]
pub struct AskAlarms;

/// Most raised alarms in one answer.
pub const RAISED_LISTED_MAX: usize = 200;

/// The answer to [`AskAlarms`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AlarmsReply {
    /// Every rule, in the order of the configuration.
    pub rules: Vec<RuleStatus>,
    /// The raised alarms, oldest first; at most [`RAISED_LISTED_MAX`].
    pub raised: Vec<RuleAlarm>,
    /// Values that the rules hold in memory.
    pub values: usize,
    /// Values and series that were left out, because there were too many.
    pub left_out: u64,
    /// Whether rows wait that the rules have not seen yet.
    pub behind: bool,
    /// Why the rules cannot be looked at; empty when they can.
    pub last_error: String,
}

/// How one rule stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleStatus {
    /// Its name.
    pub rule: String,
    /// What it looks at and when it is raised, in words.
    pub condition: String,
    /// How bad it is.
    pub severity: Severity,
    /// How many series it looks at now.
    pub series: usize,
    /// How many of them breach it, not yet for long enough.
    pub pending: usize,
    /// How many alarms are raised.
    pub raised: usize,
}
