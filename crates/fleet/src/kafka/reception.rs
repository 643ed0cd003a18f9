//! Whether a member of a group is read to: by librdkafka's own statistics (its `STATISTICS.md`), which say of each connection
//! how it is. An error tells that too, but only when the next attempt has failed, and says nothing of a broker that stands
//! still.

use std::collections::HashMap;

use rdkafka::ClientContext;
use rdkafka::consumer::ConsumerContext;
use rdkafka::statistics::{Broker, Statistics};
use tokio::sync::watch;

/// A fetch is answered after a tenth of a second at most (`fetch.wait.max.ms`), also with nothing; this is how long a broker
/// may leave one unanswered. One that takes longer and goes on has done no harm: a doubt of some hundred milliseconds says
/// nothing of those whose deadlines do not end in it. One that is noticed late lets a deadline end meanwhile.
const UNANSWERED_MAX_MICROSECONDS: i64 = 400_000;

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reception {
    /// Everything that is ours to read is read.
    Open,
    /// Something is not, for this reason.
    Lost(&'static str),
}

/// Hears the statistics and hands on what they mean.
pub(super) struct Listener(watch::Sender<Reception>);

impl Listener {
    /// One that has heard nothing yet, and what it will have heard.
    pub(super) fn new() -> (Self, watch::Receiver<Reception>) {
        let (said, heard) = watch::channel(Reception::Lost("it was not reached yet"));
        (Self(said), heard)
    }
}

impl ClientContext for Listener {
    fn stats(&self, statistics: Statistics) {
        let now = reception(&statistics);
        self.0.send_if_modified(|known| std::mem::replace(known, now) != now);
    }
}

impl ConsumerContext for Listener {}

fn reception(statistics: &Statistics) -> Reception {
    // Those that a cluster has named. The first address that one has, and the group's coordinator, are listed beside them.
    let brokers: HashMap<i32, &Broker> =
        statistics.brokers.values().filter(|broker| broker.nodeid >= 0).map(|broker| (broker.nodeid, broker)).collect();
    if !brokers.values().any(|broker| is_up(broker)) {
        return Reception::Lost("no broker of it is connected");
    }
    if statistics.cgrp.as_ref().is_none_or(|group| group.join_state != "steady") {
        return Reception::Lost("the group is still giving out the partitions");
    }
    let ours = statistics.topics.values().flat_map(|topic| topic.partitions.values());
    for partition in ours.filter(|partition| partition.desired && partition.partition >= 0) {
        match brokers.get(&partition.leader) {
            Some(leader) if !is_up(leader) => return Reception::Lost("the broker of a partition is not connected"),
            Some(leader) if is_stalled(leader) => return Reception::Lost("the broker of a partition does not answer"),
            Some(_) if partition.fetch_state == "active" => {}
            _ => return Reception::Lost("a partition is not read yet"),
        }
    }
    Reception::Open
}

fn is_up(broker: &Broker) -> bool {
    // "UPDATE" is one that is up and changes its address
    matches!(broker.state.as_str(), "UP" | "UPDATE")
}

fn is_stalled(broker: &Broker) -> bool {
    broker.waitresp_cnt > 0 && broker.rxidle > UNANSWERED_MAX_MICROSECONDS
}

#[cfg(test)]
mod tests {
    use rdkafka::statistics::{ConsumerGroup, Partition, Topic};

    use super::*;

    fn broker(nodeid: i32, state: &str) -> Broker {
        Broker { nodeid, state: state.to_owned(), waitresp_cnt: 1, rxidle: 90_000, ..Broker::default() }
    }

    /// Two brokers of which each leads a partition of ours, and the address that was configured.
    fn healthy() -> Statistics {
        let partition = |partition, leader| {
            let fetch_state = "active".to_owned();
            (partition, Partition { partition, leader, desired: true, fetch_state, ..Partition::default() })
        };
        let topic = Topic { partitions: [partition(0, 1), partition(1, 2)].into(), ..Topic::default() };
        let brokers = [broker(-1, "DOWN"), broker(1, "UP"), broker(2, "UP"), broker(3, "DOWN")];
        Statistics {
            brokers: brokers.into_iter().map(|broker| (broker.nodeid.to_string(), broker)).collect(),
            topics: [("readings".to_owned(), topic)].into(),
            cgrp: Some(ConsumerGroup { join_state: "steady".to_owned(), ..ConsumerGroup::default() }),
            ..Statistics::default()
        }
    }

    #[test]
    fn what_is_read_depends_on_those_who_lead_our_partitions() {
        assert_eq!(reception(&healthy()), Reception::Open);
        type Fault = fn(&mut Statistics);
        let broken: [(&str, Fault); 6] = [
            ("not connected", |all| all.brokers.get_mut("2").unwrap().state = "TRY_CONNECT".to_owned()),
            ("does not answer", |all| all.brokers.get_mut("1").unwrap().rxidle = 500_000),
            ("not read yet", |all| {
                let topic = all.topics.get_mut("readings").unwrap();
                topic.partitions.get_mut(&1).unwrap().fetch_state = "offset-query".to_owned();
            }),
            ("not read yet", |all| {
                // nobody leads it
                all.topics.get_mut("readings").unwrap().partitions.get_mut(&0).unwrap().leader = -1;
            }),
            ("giving out", |all| all.cgrp.as_mut().unwrap().join_state = "wait-join".to_owned()),
            ("no broker", |all| all.brokers.retain(|name, _| name == "-1" || name == "3")),
        ];
        for (why, fault) in broken {
            let mut statistics = healthy();
            fault(&mut statistics);
            let Reception::Lost(reason) = reception(&statistics) else { panic!("open, and not: {why}") };
            assert!(reason.contains(why), "{reason}");
        }
    }

    #[test]
    fn who_has_nothing_to_read_misses_nothing() {
        let mut statistics = healthy();
        statistics.topics.get_mut("readings").unwrap().partitions.values_mut().for_each(|one| one.desired = false);
        statistics.brokers.get_mut("1").unwrap().state = "DOWN".to_owned();
        assert_eq!(reception(&statistics), Reception::Open);
    }
}
