//! What a publisher says beside its readings, on a Kafka topic of our own, so that the monitor behind Kafka watches it
//! as if it heard it itself. Old ones are no signs of life: see [`STALE_AFTER`].
//!
//! ```text
//! monitoring-signs     {"client_id":"agent-1","kind":"heartbeat","payload":{"v":1,"host":"h","incarnation":17,…}}
//! ```
//!
//! `kind` and `payload` are those of the MQTT topics: heartbeat, goodbye, last-will, given-up.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::envelope::{PAYLOAD_BYTES_MAX, Prefix, TopicKind};
use heartwatch_domain::publisher::PublisherId;

/// The topic of Kafka.
pub const SIGNS_TOPIC: &str = "monitoring-signs";

/// A message that Kafka has had for longer says nothing about now: it was kept while nobody read.
pub const STALE_AFTER: Duration = Duration::from_secs(30);

/// The kinds that are told.
pub const KINDS: [TopicKind; 4] = [TopicKind::Heartbeat, TopicKind::Goodbye, TopicKind::LastWill, TopicKind::GivenUp];

#[derive(Serialize, Deserialize)]
struct Wire {
    client_id: PublisherId,
    kind: String,
    payload: Value,
}

/// As the JSON of the topic; none when the payload is no JSON, which nobody could read either.
#[must_use]
pub fn encode(publisher: &PublisherId, kind: TopicKind, payload: &[u8]) -> Option<Vec<u8>> {
    let payload = serde_json::from_slice(payload).ok()?;
    serde_json::to_vec(&Wire { client_id: publisher.clone(), kind: kind.as_str().to_owned(), payload }).ok()
}

/// The topic and the payload as they would come over MQTT; none when it is not that.
#[must_use]
pub fn decode(prefix: &Prefix, message: &[u8]) -> Option<(String, Vec<u8>)> {
    if message.len() > 2 * PAYLOAD_BYTES_MAX {
        return None;
    }
    let Wire { client_id, kind, payload } = serde_json::from_slice(message).ok()?;
    let kind = KINDS.into_iter().find(|known| known.as_str() == kind)?;
    Some((prefix.topic(&client_id, kind), serde_json::to_vec(&payload).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{self, Message};
    use heartwatch_domain::publisher::{HostName, Incarnation};

    #[test]
    fn what_was_said_comes_back() {
        let (publisher, prefix) = (PublisherId::parse("agent-1").unwrap(), Prefix::default());
        let host = HostName::parse("h").unwrap();
        let goodbye = envelope::Goodbye { host, incarnation: Incarnation(1 << 52), sequence: 9 };
        let message = encode(&publisher, TopicKind::Goodbye, &envelope::encode_goodbye(&goodbye)).unwrap();
        let (topic, payload) = decode(&prefix, &message).unwrap();
        assert_eq!(topic, "heartwatch/v1/agent-1/goodbye");
        assert_eq!(envelope::decode(TopicKind::Goodbye, &publisher, &payload).unwrap(), Message::Goodbye(goodbye));
        for wrong in [
            "x",
            "{}",
            r#"{"client_id":"a/b","kind":"goodbye","payload":{}}"#,
            r#"{"client_id":"a","kind":"confirm","payload":{}}"#,
        ] {
            assert_eq!(decode(&prefix, wrong.as_bytes()), None, "{wrong}");
        }
    }
}
