//! An [`AgentChannel`] over Kafka: a question on `monitoring-commands`, which the server that has the agent hands to its stream,
//! and its result on `monitoring-results`.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::broadcast_reader::{Everything, read_everything};
use super::{BadKafka, KafkaProducer};
use heartwatch_domain::command::Command;
use heartwatch_domain::publisher::PublisherId;
use heartwatch_formats::monitoring_command::{
    COMMANDS_TOPIC, MonitoringCommand, RESULTS_TOPIC, decode_probe_result, encode_command,
};
use heartwatch_ports::{AgentAnswer, AgentChannel, BoxFuture};
use heartwatch_system::clock::Clock;

/// Answers that wait to be taken; beyond them Kafka is not read.
const ANSWERS_MAX: usize = 1_024;
/// Most agents that are remembered as heard over Kafka; further ones are asked elsewhere first.
const AGENTS_MAX: usize = 100_000;
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
) -> Result<(Arc<dyn AgentChannel>, mpsc::Receiver<AgentAnswer>), BadKafka> {
    let producer = KafkaProducer::new(brokers)?;
    let Everything { messages: mut results, ready } = read_everything(brokers, RESULTS_TOPIC, ANSWERS_MAX)?;
    let (answers, answers_end) = mpsc::channel(ANSWERS_MAX);
    let (stop, mut stopped) = watch::channel(false);
    tokio::spawn(async move {
        loop {
            let result = tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => return,
                result = results.recv() => result,
            };
            let Some(result) = result else { return };
            if let Some((agent, result)) = decode_probe_result(&result.payload)
                && answers.send(AgentAnswer { agent, result }).await.is_err()
            {
                return;
            }
        }
    });
    Ok((Arc::new(Questions { producer, heard, ready, stop, clock }), answers_end))
}

impl AgentChannel for Questions {
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
