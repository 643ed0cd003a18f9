//! subscriber → watchdog: signs of life, many in one message.

use std::sync::Arc;
use std::time::Duration;

use actix::Message;
use heartwatch_domain::beat::{Beat, Way};
use heartwatch_domain::self_check::Reception;

use heartwatch_domain::nodes::NodeBeat;
use heartwatch_domain::time::Monotonic;

/// A batch of signs of life.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Beats(pub Arc<Vec<Beat>>);

/// who watches the leases → watchdog: these nodes' heartbeats in etcd are gone. A reason to look, never a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct LeasesEnded(pub Arc<Vec<NodeBeat>>);

/// who watches the leases → watchdog: how often the agents of these nodes are to be heard, as long as their leases live.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct LeasesPromise(pub Arc<Vec<(NodeBeat, Duration)>>);

/// transport → watchdog: whether what is sent reaches the monitor.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct LinkState {
    /// On which way.
    pub way: Way,
    /// Whether our subscription is up, and our disk takes what comes over it.
    pub reception: Reception,
    /// Since when, on the clock that decides.
    pub at: Monotonic,
    /// Why, in words.
    pub reason: String,
}
