//! roles → alarms: which rules there are; page → alarms: how they stand.

use std::sync::Arc;

use actix::Message;
use heartwatch_domain::status::AlarmsReply;

use heartwatch_domain::rule::Rule;

/// The rules from now on. An alarm of a rule that is gone is over.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct SetRules(pub Arc<Vec<Rule>>);

/// How every rule stands.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "AlarmsReply")]
pub struct AskAlarms;
