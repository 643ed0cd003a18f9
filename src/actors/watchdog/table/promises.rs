//! What is promised for publishers that promise nothing themselves: an agent's lease and its configuration in etcd say how
//! often it is to be heard.

use std::collections::HashMap;
use std::time::Duration;

use super::{Entry, Table};
use crate::domain::beat::Way;
use crate::domain::nodes::NodeBeat;
use crate::domain::publisher::{HostName, PublisherId};

/// The promises, by who keeps them. As many as there are leases.
#[derive(Debug, Default)]
pub(super) struct Promises {
    by_agent: HashMap<PublisherId, Duration>,
    /// Of nodes whose lease does not name its agent: they are of whoever is heard from that host over Kafka.
    by_host: HashMap<HostName, Duration>,
}

impl Promises {
    fn of(&self, Entry { id, watch, .. }: &Entry) -> Option<Duration> {
        let over_kafka = || watch.heard_on().is_some_and(|(way, _)| way == Way::Kafka);
        let by_host = || self.by_host.get(watch.host()).filter(|_| over_kafka());
        self.by_agent.get(id).or_else(by_host).copied()
    }

    fn is_empty(&self) -> bool {
        self.by_agent.is_empty() && self.by_host.is_empty()
    }
}

impl Table {
    /// All leases that live, and what each promises.
    pub fn leases_promise(&mut self, promises: &[(NodeBeat, Duration)]) {
        let (mut by_agent, mut by_host) = (HashMap::new(), HashMap::new());
        for (node, every) in promises {
            match &node.client_id {
                Some(agent) => drop(by_agent.insert(agent.clone(), *every)),
                None => by_host.extend(node.hosts().map(|host| (host.clone(), *every))),
            }
        }
        self.promises = Promises { by_agent, by_host };
        for index in (0..).take(self.entries.len()) {
            if self.note_promise(index) {
                self.arm_sooner(index);
            }
        }
    }

    /// Whether something is promised for the one at this place; it is judged by that from now on.
    pub(super) fn note_promise(&mut self, index: u32) -> bool {
        if self.promises.is_empty() {
            return false;
        }
        let entry = &mut self.entries[index as usize];
        let promised = self.promises.of(entry);
        promised.into_iter().for_each(|every| entry.watch.promised_elsewhere(every));
        promised.is_some()
    }
}
