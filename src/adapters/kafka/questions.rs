//! An [`AgentWay`] over Kafka: a question on `monitoring-commands`, which a server hands to the agent's stream, and its
//! result on `monitoring-results`.
//!
//! Invariants:
//! 1. Every monitor reads every result: the partitions are assigned, not shared within a group.
//! 2. Nothing is asked before the place in each partition is known, so that no result of a question is missed.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::consumer::Member;
use super::outage::Outage;
use super::{BadKafka, KafkaProducer, client};
use crate::domain::command::Command;
use crate::domain::publisher::PublisherId;
use crate::formats::monitoring_command::{
    COMMANDS_TOPIC, MonitoringCommand, RESULTS_TOPIC, decode_probe_result, encode_command,
};
use crate::ports::{AgentAnswer, AgentWay, BoxFuture};
use crate::runtime::clock::Clock;

/// Answers that wait to be taken; beyond them Kafka is not read.
const ANSWERS_MAX: usize = 1_024;
/// Most agents that are remembered as heard over Kafka; further ones are asked elsewhere first.
const AGENTS_MAX: usize = 100_000;
/// Wait after an error: librdkafka itself goes on connecting.
const ERROR_PAUSE: Duration = Duration::from_millis(500);
/// How long Kafka may take to say what it has.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is asked whether the topic of results has more partitions by now.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The agents whose heartbeats came from Kafka. Clones are handles to the same.
#[derive(Debug, Clone, Default)]
pub struct AgentsHeard(Arc<Mutex<HashSet<PublisherId>>>);

impl AgentsHeard {
    /// Its heartbeat came.
    pub(super) fn note(&self, agent: &PublisherId) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.len() < AGENTS_MAX && !heard.contains(agent) {
            heard.insert(agent.clone());
        }
    }

    fn has(&self, agent: &PublisherId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(agent)
    }
}

struct Questions {
    producer: KafkaProducer,
    heard: AgentsHeard,
    ready: Arc<AtomicBool>,
    stop: watch::Sender<bool>,
    clock: Clock,
}

/// The agents behind this Kafka, and what they answer. Results are read on the current tokio runtime until it ends.
///
/// # Errors
/// [`BadKafka`].
///
/// # Panics
/// Outside a tokio runtime.
pub fn over_kafka(
    brokers: &str,
    heard: AgentsHeard,
    clock: Clock,
) -> Result<(Arc<dyn AgentWay>, mpsc::Receiver<AgentAnswer>), BadKafka> {
    let mut config = client(brokers);
    config
        // It is never joined: see the invariants. librdkafka wants one to be named.
        .set("group.id", "heartwatch-questions")
        .set("enable.auto.commit", "false")
        .set("allow.auto.create.topics", "true")
        .set("auto.offset.reset", "latest")
        .set("fetch.wait.max.ms", "50")
        .set("topic.metadata.refresh.interval.ms", "5000");
    let consumer: StreamConsumer = config.create().map_err(|error| BadKafka::of(brokers, &error))?;
    let consumer = Arc::new(Member::from(consumer));
    let producer = KafkaProducer::new(brokers)?;
    let (answers, answers_end) = mpsc::channel(ANSWERS_MAX);
    let (stop, mut stopped) = watch::channel(false);
    let ready = Arc::new(AtomicBool::new(false));
    let (is_ready, brokers) = (ready.clone(), brokers.to_owned());
    tokio::spawn(async move {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => {}
            () = read(&consumer, &brokers, &is_ready, &answers) => {}
        }
        // Its end waits for the broker.
        let _ = tokio::task::spawn_blocking(move || drop(consumer)).await;
    });
    Ok((Arc::new(Questions { producer, heard, ready, stop, clock }), answers_end))
}

async fn read(consumer: &Arc<Member>, brokers: &str, ready: &AtomicBool, answers: &mpsc::Sender<AgentAnswer>) {
    let outage = Outage::default();
    let mut partitions = 0;
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => {
                let looking = consumer.clone();
                let looked = tokio::task::spawn_blocking(move || assign(&looking, partitions)).await;
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
                    let Some((agent, result)) = decode_probe_result(message.payload().unwrap_or_default()) else {
                        continue;
                    };
                    if answers.send(AgentAnswer { agent, result }).await.is_err() {
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

/// Reads partitions of the results that are not read yet: at first from where they end, later ones as a whole. Answers how
/// many there are; none while the topic is being made.
fn assign(consumer: &StreamConsumer, assigned: i32) -> Result<i32, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(RESULTS_TOPIC), METADATA_TIMEOUT)?;
    let count = metadata
        .topics()
        .iter()
        .find(|topic| topic.name() == RESULTS_TOPIC && topic.error().is_none())
        .and_then(|topic| i32::try_from(topic.partitions().len()).ok())
        .unwrap_or(0);
    if count <= assigned {
        return Ok(assigned);
    }
    let mut list = TopicPartitionList::new();
    for partition in assigned..count {
        let from = match assigned {
            0 => Offset::Offset(consumer.fetch_watermarks(RESULTS_TOPIC, partition, METADATA_TIMEOUT)?.1),
            _ => Offset::Beginning,
        };
        list.add_partition_offset(RESULTS_TOPIC, partition, from)?;
    }
    consumer.incremental_assign(&list)?;
    Ok(count)
}

impl AgentWay for Questions {
    fn name(&self) -> &'static str {
        "Kafka"
    }

    fn knows(&self, agent: &PublisherId) -> bool {
        self.heard.has(agent)
    }

    fn hand<'a>(
        &'a self,
        agent: &'a PublisherId,
        command: &'a Command,
        within: Duration,
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            if !self.ready.load(Ordering::Relaxed) {
                return Err("the monitor cannot read results from Kafka yet".to_owned());
            }
            // The way back takes its time, too; and a reason is better than none.
            let answer_within = within * 3 / 4;
            let command = MonitoringCommand {
                command_id: command.id.clone(),
                target: agent.as_str().to_owned(),
                command_type: command.kind.clone(),
                command_data: command.data.clone(),
                timestamp: Some(self.clock.wall().as_nanos() / 1_000_000_000),
                answer_within_ms: u64::try_from(answer_within.as_millis()).ok(),
            };
            self.producer.send(COMMANDS_TOPIC, agent.as_str(), &encode_command(&command)).await
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.stop.send_replace(true);
        Box::pin(async {})
    }
}
