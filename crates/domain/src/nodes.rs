//! Which nodes have a heartbeat in the store that agents register in, and since when.
//!
//! A key that is gone is coarse evidence: its agent has ended, or is cut off from the store, or the store was
//! away for longer than the lease. It makes us look; it decides nothing.

use std::collections::BTreeMap;

use crate::publisher::{HostName, PublisherId};
use crate::time::Timestamp;

/// Most nodes that are remembered; beyond it those that have been gone for longest are forgotten.
pub const NODES_MAX: usize = 100_000;

/// A node's heartbeat, as it stood in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeBeat {
    /// Its name in the key.
    pub node: HostName,
    /// The host that its agent runs on, where it says so.
    pub host: Option<HostName>,
    /// The id of its agent, where it says so.
    pub client_id: Option<PublisherId>,
    /// When its agent wrote it, by the agent's own clock.
    pub at: Option<Timestamp>,
}

impl NodeBeat {
    /// The names that its host may have as a publisher's.
    pub fn hosts(&self) -> impl Iterator<Item = &HostName> {
        [&self.node].into_iter().chain(&self.host)
    }
}

/// What is known of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its heartbeat, the last one when it is gone.
    pub beat: NodeBeat,
    /// Whether it is there.
    pub is_here: bool,
    /// Since when it is there or gone, as far as we have seen.
    pub since: Timestamp,
}

/// Every node that was seen, ordered by name.
#[derive(Debug, Clone, Default)]
pub struct Nodes {
    by_name: BTreeMap<HostName, Node>,
    forgotten: u64,
}

impl Nodes {
    /// All heartbeats that there are now; answers those that are gone since the last time.
    pub fn seen(&mut self, beats: Vec<NodeBeat>, now: Timestamp) -> Vec<NodeBeat> {
        let mut here: BTreeMap<HostName, NodeBeat> = beats.into_iter().map(|beat| (beat.node.clone(), beat)).collect();
        let mut gone = Vec::new();
        for (name, node) in &mut self.by_name {
            match here.remove(name) {
                Some(beat) => {
                    if !std::mem::replace(&mut node.is_here, true) {
                        node.since = now;
                    }
                    node.beat = beat;
                }
                None if node.is_here => {
                    (node.is_here, node.since) = (false, now);
                    gone.push(node.beat.clone());
                }
                None => {}
            }
        }
        let new = here.into_iter().map(|(name, beat)| (name, Node { beat, is_here: true, since: now }));
        self.by_name.extend(new);
        self.forget();
        gone
    }

    fn forget(&mut self) {
        let excess = self.by_name.len().saturating_sub(NODES_MAX);
        if excess == 0 {
            return;
        }
        let mut gone: Vec<(Timestamp, HostName)> = self
            .by_name
            .values()
            .filter(|node| !node.is_here)
            .map(|node| (node.since, node.beat.node.clone()))
            .collect();
        gone.sort();
        for (_, name) in gone.into_iter().take(excess) {
            self.by_name.remove(&name);
            self.forgotten += 1;
        }
    }

    /// How many that are gone were forgotten.
    #[must_use]
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// All of them, ordered by name.
    pub fn all(&self) -> impl Iterator<Item = &Node> {
        self.by_name.values()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, node: &HostName) -> Option<&Node> {
        self.by_name.get(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(node: &str) -> NodeBeat {
        NodeBeat { node: HostName::parse(node).unwrap(), host: None, client_id: None, at: None }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn names(beats: &[NodeBeat]) -> Vec<&str> {
        beats.iter().map(|beat| beat.node.as_str()).collect()
    }

    #[test]
    fn a_node_is_gone_once_and_back_since_then() {
        let mut nodes = Nodes::default();
        assert!(nodes.seen(vec![beat("a"), beat("b")], at(1)).is_empty());
        assert_eq!(names(&nodes.seen(vec![beat("a")], at(2))), ["b"]);
        assert!(nodes.seen(vec![beat("a")], at(3)).is_empty(), "it is told once");
        let view = |nodes: &Nodes| nodes.all().map(|node| (node.is_here, node.since)).collect::<Vec<_>>();
        assert_eq!(view(&nodes), [(true, at(1)), (false, at(2))]);
        assert!(nodes.seen(vec![beat("a"), beat("b")], at(4)).is_empty());
        assert_eq!(view(&nodes), [(true, at(1)), (true, at(4))]);
    }

    #[test]
    fn those_gone_for_longest_are_forgotten_first() {
        let mut nodes = Nodes::default();
        nodes.seen(vec![beat("x")], at(1));
        nodes.seen(vec![beat("y")], at(2));
        let many = (0..NODES_MAX - 1).map(|number| beat(&format!("n{number}"))).collect();
        assert_eq!(names(&nodes.seen(many, at(3))), ["y"]);
        assert_eq!((nodes.all().count(), nodes.forgotten()), (NODES_MAX, 1));
        assert!(nodes.get(&HostName::parse("x").unwrap()).is_none());
    }
}
