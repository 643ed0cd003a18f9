//! subscriber → influx writer: rows to make safe, and what became of them.

use std::sync::Arc;

use actix::Message;
use heartwatch_domain::intake::{AppendReceipt, IntakeEntry};

/// A batch for the durable buffer. Its reply comes after the commit.
#[derive(Debug, Clone, Message)]
#[rtype(result = "AppendReceipt")]
pub struct Intake(pub Arc<Vec<IntakeEntry>>);
