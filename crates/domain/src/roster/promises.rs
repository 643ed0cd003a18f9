//! What is promised for publishers that promise nothing themselves: an agent's lease and its configuration in etcd say how
//! often it is to be heard.

use std::collections::HashMap;
use std::time::Duration;

use super::entry::Entry;
use crate::beat::Way;
use crate::nodes::NodeBeat;
use crate::publisher::{HostName, PublisherId};

/// The promises, by who keeps them. As many as there are leases.
#[derive(Debug, Default)]
pub(super) struct Promises {
    by_agent: HashMap<PublisherId, Duration>,
    /// Of nodes whose lease does not name its agent: they are of whoever is heard from that host over Kafka.
    by_host: HashMap<HostName, Duration>,
}

impl Promises {
    /// Those of all leases that live.
    pub(super) fn new(promises: &[(NodeBeat, Duration)]) -> Self {
        let (mut by_agent, mut by_host) = (HashMap::new(), HashMap::new());
        for (node, every) in promises {
            match &node.client_id {
                Some(agent) => drop(by_agent.insert(agent.clone(), *every)),
                None => by_host.extend(node.hosts().map(|host| (host.clone(), *every))),
            }
        }
        Self { by_agent, by_host }
    }

    /// How often this one is to be heard, where somebody has promised that for it.
    pub(super) fn of(&self, Entry { id, watch, .. }: &Entry) -> Option<Duration> {
        let over_kafka = || watch.heard_on().is_some_and(|(way, _)| way == Way::Kafka);
        let by_host = || self.by_host.get(watch.host()).filter(|_| over_kafka());
        self.by_agent.get(id).or_else(by_host).copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_agent.is_empty() && self.by_host.is_empty()
    }
}
