//! An [`AgentChannel`] over a broker: a question on an agent's `ask` topic, its answer on its `answer` topic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use heartwatch_domain::command::Command;
use heartwatch_domain::publisher::PublisherId;
use heartwatch_formats::command;
use heartwatch_formats::envelope::Prefix;
use heartwatch_ports::{AgentAnswer, AgentChannel, BoxFuture, Outgoing, Transport, TransportEvent};

/// Answers that wait to be taken; beyond them the connection is not read.
const ANSWERS_MAX: usize = 1_024;

struct Broker {
    transport: Arc<dyn Transport>,
    prefix: Prefix,
    connected: Arc<AtomicBool>,
}

/// The agents behind this connection, which must be subscribed to [`Prefix::answers`], and what they answer. It is
/// listened to on the current tokio runtime until it ends.
///
/// # Panics
/// Outside a tokio runtime.
#[must_use]
pub fn over_broker(
    transport: Arc<dyn Transport>,
    mut events: mpsc::Receiver<TransportEvent>,
    prefix: Prefix,
) -> (Arc<dyn AgentChannel>, mpsc::Receiver<AgentAnswer>) {
    let connected = Arc::new(AtomicBool::new(false));
    let (answers, answers_end) = mpsc::channel(ANSWERS_MAX);
    let (is_connected, listening, topics) = (connected.clone(), transport.clone(), prefix.clone());
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            match event {
                TransportEvent::Connected { .. } => is_connected.store(true, Ordering::Relaxed),
                TransportEvent::Disconnected { .. } => is_connected.store(false, Ordering::Relaxed),
                TransportEvent::Delivery(delivery) => {
                    listening.acknowledge(vec![delivery.receipt]);
                    let Some(agent) = topics.answering(&delivery.topic) else { continue };
                    match command::decode_answer(&delivery.payload) {
                        Ok(result) => {
                            if answers.send(AgentAnswer { agent, result }).await.is_err() {
                                break;
                            }
                        }
                        Err(error) => tracing::debug!(%error, %agent, "an agent's answer could not be read"),
                    }
                }
            }
        }
    });
    (Arc::new(Broker { transport, prefix, connected }), answers_end)
}

impl AgentChannel for Broker {
    fn name(&self) -> &'static str {
        "MQTT"
    }

    /// A broker does not say who is connected to it.
    fn knows(&self, _: &PublisherId) -> bool {
        false
    }

    fn hand<'a>(
        &'a self,
        agent: &'a PublisherId,
        command: &'a Command,
        _: Duration,
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            if !self.connected.load(Ordering::Relaxed) {
                return Err("the monitor has no connection to the broker".to_owned());
            }
            // Without a deadline: nothing keeps the question for later, and the clocks of two hosts may differ.
            let payload = command::encode_ask(command, None);
            let message = Outgoing { topic: self.prefix.ask(agent), payload, at_least_once: false };
            self.transport.publish(message).await.map_err(|error| error.to_string())
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.transport.disconnect()
    }
}
