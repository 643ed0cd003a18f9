//! What tells that a message came before: the mark that its source gives it.

use std::sync::Arc;

use crate::time::Timestamp;

/// How a message is known when it comes again. A message that has none is one of its own, whatever it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceMark {
    /// A message of Kafka: one offset of a partition is always the same message, as long as the topic is the same.
    Kafka {
        /// The cluster and the topic.
        topic: Arc<str>,
        /// Kafka's number of it, from 0.
        partition: i32,
        /// The place in it.
        offset: i64,
        /// When it was written, as Kafka has it. A message that was written after everything that is known of its
        /// partition is not a known one: the topic was made anew.
        written_at: Option<Timestamp>,
        /// Where the partition ended when reading of it began, or went back. Less than what is known of it: the topic was
        /// made anew.
        end: Option<i64>,
    },
    /// A message of a broker that waits for its acknowledgement.
    Mqtt(MqttMark),
    /// The broker had kept it from before we subscribed: it may be one that came when it was published.
    Retained,
    /// It was read before, over an earlier connection of the same session, and handed on: this is its copy.
    HandedOn,
}

/// What is known of a message at QoS 1 or 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttMark {
    /// The broker and our client id there.
    pub session: Arc<str>,
    /// Distinct for every session that began while the program runs; none where the broker still had one from before: that
    /// one goes on.
    pub began: Option<u64>,
    /// Its place among the messages of this session that came while the program runs, from 1 on.
    pub number: u64,
    /// Its packet id, which the broker uses again after the acknowledgement.
    pub packet_id: u16,
    /// Whether the broker says that it may have sent it before.
    pub duplicate: bool,
    /// A hash of its topic and payload.
    pub content: u64,
}
