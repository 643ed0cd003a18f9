//! The log of what agents send, for a person: `received.log` in the data directory.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::mpsc;

use super::Sign;
use heartwatch_domain::publisher::PublisherId;
use heartwatch_fleet::received_log::{ReceivedLog, ReceivedLogConfig};
use heartwatch_formats::envelope::{self, Topic, TopicKind};
use heartwatch_formats::monitoring_sign::KINDS;
use heartwatch_ports::Delivery;
use heartwatch_ports::TransportEvent;

/// Size of a file of the log of what was received.
const RECEIVED_FILE_BYTES_MAX: u64 = 16 * 1_048_576;
/// Files of it that are kept.
const RECEIVED_FILES_MAX: usize = 5;

/// The log in this directory.
pub(super) fn log(data_dir: &Path) -> anyhow::Result<ReceivedLog> {
    let path = data_dir.join("received.log");
    let config = ReceivedLogConfig {
        path: path.clone(),
        file_bytes_max: RECEIVED_FILE_BYTES_MAX,
        files_max: RECEIVED_FILES_MAX,
    };
    ReceivedLog::open(config).with_context(|| format!("cannot write {}", path.display()))
}

/// Hands deliveries on and writes down what is in them beside readings, which are written down when they are read.
pub(super) async fn note(
    mut events: mpsc::Receiver<TransportEvent>,
    tee: mpsc::Sender<TransportEvent>,
    log: Arc<ReceivedLog>,
    prefix: envelope::Prefix,
    signs: Option<mpsc::Sender<Sign>>,
) {
    let mut signs_dropped: u64 = 0;
    while let Some(event) = events.recv().await {
        if let TransportEvent::Delivery(delivery) = &event
            && let Some((publisher, kind)) = noted(&log, &prefix, delivery)
            && let Some(signs) = &signs
            && KINDS.contains(&kind)
            // While Kafka is away there is no room: they speak of a moment that has passed.
            && signs.try_send((publisher, kind, delivery.payload.clone())).is_err()
        {
            signs_dropped += 1;
            if signs_dropped.is_power_of_two() {
                tracing::warn!(signs_dropped, "Kafka takes no heartbeats: the monitor behind it does not hear of them");
            }
        }
        if tee.send(event).await.is_err() {
            break;
        }
    }
}

/// Writes down what is no reading and no heartbeat, and says who has spoken and how.
fn noted(log: &ReceivedLog, prefix: &envelope::Prefix, delivery: &Delivery) -> Option<(PublisherId, TopicKind)> {
    let at = delivery.wall;
    let Ok(Topic { publisher, kind }) = Topic::parse(prefix, &delivery.topic) else {
        log.line(&format!("{at} not understood: {}", delivery.topic.escape_debug()));
        return None;
    };
    match kind {
        TopicKind::Readings => {}
        kind => match envelope::decode(kind, &publisher, &delivery.payload) {
            Ok(_) if kind == TopicKind::Heartbeat => {}
            Ok(_) => log.line(&format!("{at} {publisher} {kind}")),
            Err(error) => log.line(&format!("{at} {publisher} {kind}: {error}")),
        },
    }
    Some((publisher, kind))
}
