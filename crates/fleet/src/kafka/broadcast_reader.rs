//! A topic that every reader reads as a whole, from now on: questions and answers, which are of use for seconds.
//!
//! Invariants:
//! 1. The partitions are assigned, not shared within a group: nobody has to wait until a group is formed, and nobody
//!    takes a message from another one.
//! 2. A reader is ready only when it knows its place in each partition, so that nothing is missed which is written after.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::consumer::{Consumed, Member};
use super::outage::Outage;
use super::{BadKafka, client};

/// Wait after an error: librdkafka itself goes on connecting.
const ERROR_PAUSE: Duration = Duration::from_millis(500);
/// How long Kafka may take to say what it has.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is asked whether the topic has more partitions by now.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// A topic as it goes on.
pub struct Everything {
    /// What is written from now on. Reading ends when this is dropped.
    pub messages: mpsc::Receiver<Consumed>,
    /// Whether nothing is missed any more.
    pub ready: Arc<AtomicBool>,
}

/// Starts to read, on the current tokio runtime. `messages_max` may wait to be taken; beyond them Kafka is not read.
///
/// # Errors
/// [`BadKafka`].
///
/// # Panics
/// Outside a tokio runtime.
pub fn read_everything(brokers: &str, topic: &'static str, messages_max: usize) -> Result<Everything, BadKafka> {
    let mut config = client(brokers);
    config
        // It is never joined: librdkafka wants one to be named.
        .set("group.id", "heartwatch-everything")
        .set("enable.auto.commit", "false")
        .set("allow.auto.create.topics", "true")
        .set("auto.offset.reset", "latest")
        .set("fetch.wait.max.ms", "50")
        .set("topic.metadata.refresh.interval.ms", "5000");
    let consumer: StreamConsumer = config.create().map_err(|error| BadKafka::of(brokers, &error))?;
    let consumer = Arc::new(Member::from(consumer));
    let (out, messages) = mpsc::channel(messages_max);
    let ready = Arc::new(AtomicBool::new(false));
    let (is_ready, brokers) = (ready.clone(), brokers.to_owned());
    tokio::spawn(async move {
        tokio::select! {
            () = out.closed() => {}
            () = read(&consumer, topic, &brokers, &is_ready, &out) => {}
        }
        // Its end waits for the broker.
        let _ = tokio::task::spawn_blocking(move || drop(consumer)).await;
    });
    Ok(Everything { messages, ready })
}

async fn read(
    consumer: &Arc<Member>,
    topic: &'static str,
    brokers: &str,
    ready: &AtomicBool,
    out: &mpsc::Sender<Consumed>,
) {
    let outage = Outage::default();
    let mut partitions = 0;
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => {
                let looking = consumer.clone();
                let looked = tokio::task::spawn_blocking(move || assign(&looking, topic, partitions)).await;
                match looked {
                    Ok(Ok(assigned)) if assigned > 0 => {
                        outage.ended(brokers);
                        partitions = assigned;
                        ready.store(true, Ordering::Relaxed);
                    }
                    Ok(Err(error)) => {
                        outage.failed(brokers, &error.to_string());
                        looks.reset_after(ERROR_PAUSE);
                    }
                    // The topic is being made.
                    Ok(Ok(_)) | Err(_) => looks.reset_after(ERROR_PAUSE),
                }
            }
            message = consumer.recv(), if partitions > 0 => match message {
                Ok(message) => {
                    outage.ended(brokers);
                    if out.send(Consumed::of(&message)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    outage.failed(brokers, &error.to_string());
                    sleep(ERROR_PAUSE).await;
                }
            }
        }
    }
}

/// Reads partitions that are not read yet: at first from where they end, later ones as a whole. Answers how many there
/// are; none while the topic is being made.
fn assign(consumer: &StreamConsumer, topic: &str, assigned: i32) -> Result<i32, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), METADATA_TIMEOUT)?;
    let count = metadata
        .topics()
        .iter()
        .find(|found| found.name() == topic && found.error().is_none())
        .and_then(|found| i32::try_from(found.partitions().len()).ok())
        .unwrap_or(0);
    if count <= assigned {
        return Ok(assigned);
    }
    let mut list = TopicPartitionList::new();
    for partition in assigned..count {
        let from = match assigned {
            0 => Offset::Offset(consumer.fetch_watermarks(topic, partition, METADATA_TIMEOUT)?.1),
            _ => Offset::Beginning,
        };
        list.add_partition_offset(topic, partition, from)?;
    }
    consumer.incremental_assign(&list)?;
    Ok(count)
}
