//! subscriber → influx writer: rows to make safe, and what became of them.

use std::sync::Arc;

use actix::Message;
use heartwatch_domain::intake::{IntakeEntry, Kept};

/// A batch for the durable buffer. Its reply comes after the commit.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Kept")]
pub struct Intake(pub Arc<Vec<IntakeEntry>>);
