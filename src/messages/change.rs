//! watchdog → influx writer: verdict changes, to be made durable, and the standing verdicts.

use std::sync::Arc;

use actix::Message;
use heartwatch_domain::roster::{Expectations, Standing};

use heartwatch_domain::verdict::Change;

/// Verdict changes in the order of their epochs. The reply comes after the commit.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct RecordChanges(pub Arc<Vec<Change>>);

/// The verdicts as they stand.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct RecordStanding(pub Arc<Vec<Standing>>);

/// roles → watchdog: the deadlines and the expected publishers of a new configuration.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct SetDeadlines(pub Expectations);
