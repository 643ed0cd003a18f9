//! What the monitor tells a publisher: which of its readings are safe, and how long it may be silent.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::EnvelopeError;
use super::limits::{number, wrong};
use super::topic::TopicKind;
use super::wire::{VERSION, encode, parse, said};
use heartwatch_domain::intake::{DeliveryState, GAPS_REPORTED_MAX};
use heartwatch_domain::publisher::{Incarnation, PublisherId};

/// What the monitor tells a publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// How far its record of the publisher's readings reaches.
    pub state: DeliveryState,
    /// How long the publisher may be silent, where the monitor says so: its heartbeats follow that.
    pub deadline: Option<Duration>,
}

#[derive(Serialize, Deserialize)]
struct ConfirmWire {
    v: u64,
    incarnation: u64,
    through: u64,
    highest: u64,
    gaps: Vec<(u64, u64)>,
    #[serde(default, skip_serializing_if = "is_zero")]
    produced: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    refused: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    journal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline_ms: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A confirmation as a payload.
#[must_use]
pub fn encode_confirm(Confirmation { state, deadline }: &Confirmation) -> Vec<u8> {
    encode(&ConfirmWire {
        v: VERSION,
        incarnation: state.incarnation.0,
        through: state.through,
        highest: state.highest,
        gaps: state.gaps.iter().copied().take(GAPS_REPORTED_MAX).collect(),
        produced: state.produced,
        refused: state.refused,
        journal: state.journal.map(|id| id.to_string()),
        deadline_ms: deadline.map(|deadline| u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX)),
    })
}

/// Reads a confirmation for `publisher`, which comes from the topic.
///
/// # Errors
/// [`EnvelopeError`].
pub fn decode_confirm(publisher: &PublisherId, payload: &[u8]) -> Result<Confirmation, EnvelopeError> {
    let read = || {
        let wire: ConfirmWire = parse(TopicKind::Confirm, payload, |wire: &ConfirmWire| wire.v)?;
        number("incarnation", wire.incarnation, 0)?;
        if wire.through > wire.highest {
            return Err(wrong("through", &format!("at most 'highest' ({})", wire.highest), &wire.through.to_string()));
        }
        number("highest", wire.highest, 0)?;
        number("produced", wire.produced, 0)?;
        let mut before = wire.through;
        for (index, &(first, last)) in wire.gaps.iter().enumerate() {
            if first <= before || last < first || last > wire.highest {
                let right = format!("a rising range between {before} and {}", wire.highest);
                return Err(wrong(&format!("gaps[{index}]"), &right, &format!("[{first},{last}]")));
            }
            before = last;
        }
        let state = DeliveryState {
            publisher: publisher.clone(),
            incarnation: Incarnation(wire.incarnation),
            through: wire.through,
            highest: wire.highest,
            gaps: wire.gaps,
            produced: wire.produced,
            refused: wire.refused,
            // one that we cannot read is nobody that we know
            journal: wire.journal.and_then(|id| id.parse().ok()),
        };
        Ok(Confirmation { state, deadline: wire.deadline_ms.map(Duration::from_millis) })
    };
    read().map_err(|problem| said(TopicKind::Confirm, publisher, problem))
}
