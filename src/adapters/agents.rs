//! [`RemoteProbe`] over a broker: a question on an agent's `ask` topic, its answer on its `answer` topic.
//!
//! A question that is not answered is over when its asker gives up: dropping the future forgets it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

use crate::domain::command::{Command, CommandResult};
use crate::domain::process::{ProbeAnswer, ProcessIdentity};
use crate::domain::publisher::PublisherId;
use crate::formats::command::{self, ProbeOutput, probe_data};
use crate::formats::envelope::Prefix;
use crate::ports::{BoxFuture, Outgoing, RemoteProbe, Transport, TransportEvent};
use crate::runtime::clock::Clock;

/// Most questions without an answer.
const WAITING_MAX: usize = 10_000;

/// The agents behind a broker. Clones are handles to the same ones.
#[derive(Clone)]
pub struct Agents {
    shared: Arc<Shared>,
    clock: Clock,
}

struct Shared {
    /// Distinct for every life of the monitor, so that a late answer to an earlier one is nobody's.
    life: String,
    asked: AtomicU64,
    link: Mutex<Option<Link>>,
    waiting: Mutex<HashMap<String, (String, oneshot::Sender<CommandResult>)>>,
}

#[derive(Clone)]
struct Link {
    transport: Arc<dyn Transport>,
    prefix: Prefix,
    /// Counts the connections.
    number: u64,
    connected: bool,
}

impl Agents {
    /// Nobody to ask yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let shared = Shared {
            life: format!("{}-{:04x}", clock.wall().as_nanos(), fastrand::u16(..)),
            asked: AtomicU64::new(0),
            link: Mutex::default(),
            waiting: Mutex::default(),
        };
        Self { shared: Arc::new(shared), clock }
    }

    /// Asks over this connection from now on, in place of the one before, and listens to it on the current tokio
    /// runtime until it ends. It must be subscribed to [`Prefix::answers`].
    pub fn ask_over(&self, transport: Arc<dyn Transport>, mut events: mpsc::Receiver<TransportEvent>, prefix: Prefix) {
        let number = self.shared.asked.fetch_add(1, Ordering::Relaxed);
        let link = Link { transport: transport.clone(), prefix, number, connected: false };
        *self.shared.link() = Some(link);
        let shared = self.shared.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                match event {
                    TransportEvent::Connected { .. } => shared.set_connected(number, true),
                    TransportEvent::Disconnected { .. } => shared.set_connected(number, false),
                    TransportEvent::Delivery(delivery) => {
                        transport.acknowledge(vec![delivery.receipt]);
                        shared.answered(&delivery.topic, &delivery.payload);
                    }
                }
            }
        });
    }

    /// Ends the connection.
    pub async fn close(&self) {
        let link = self.shared.link().take();
        if let Some(link) = link {
            link.transport.disconnect().await;
        }
    }
}

impl Shared {
    fn link(&self) -> std::sync::MutexGuard<'_, Option<Link>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<String, (String, oneshot::Sender<CommandResult>)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_connected(&self, number: u64, connected: bool) {
        if let Some(link) = self.link().as_mut().filter(|link| link.number == number) {
            link.connected = connected;
        }
    }

    /// An answer counts only on the topic of the agent that was asked.
    fn answered(&self, topic: &str, payload: &[u8]) {
        let result = match command::decode_answer(payload) {
            Ok(result) => result,
            Err(error) => {
                let topic: String = topic.chars().take(200).collect();
                return tracing::debug!(%error, topic, "an agent's answer could not be read");
            }
        };
        let mut waiting = self.waiting();
        if waiting.get(&result.id).is_some_and(|(from, _)| from == topic)
            && let Some((_, waits)) = waiting.remove(&result.id)
        {
            let _ = waits.send(result);
        }
    }
}

/// Forgets a question when its asker has the answer or gives up.
struct Asked<'a> {
    shared: &'a Shared,
    id: String,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.shared.waiting().remove(&self.id);
    }
}

impl RemoteProbe for Agents {
    fn probe<'a>(
        &'a self,
        agent: &'a PublisherId,
        process: &'a ProcessIdentity,
    ) -> BoxFuture<'a, Result<ProbeAnswer, String>> {
        Box::pin(async move {
            let link = self.shared.link().clone().filter(|link| link.connected);
            let link = link.ok_or("the monitor has no connection to ask over")?;
            let id = format!("{}-{}", self.shared.life, self.shared.asked.fetch_add(1, Ordering::Relaxed));
            let (sender, answer) = oneshot::channel();
            {
                let mut waiting = self.shared.waiting();
                if waiting.len() >= WAITING_MAX {
                    return Err(format!("{WAITING_MAX} questions wait for answers already"));
                }
                waiting.insert(id.clone(), (link.prefix.answer(agent), sender));
            }
            let _asked = Asked { shared: &self.shared, id: id.clone() };
            let question = Command { id, kind: "probe".to_owned(), data: probe_data(process) };
            // Without a deadline: nothing keeps the question for later, and the clocks of two hosts may differ.
            let payload = command::encode_ask(&question, None);
            let message = Outgoing { topic: link.prefix.ask(agent), payload, at_least_once: false };
            link.transport.publish(message).await.map_err(|error| error.to_string())?;
            let result = answer.await.map_err(|_| "the monitor stops".to_owned())?;
            if !result.success {
                return Err(format!("it says: {}", result.output.chars().take(300).collect::<String>()));
            }
            let output: ProbeOutput = serde_json::from_str(&result.output).map_err(|error| error.to_string())?;
            output.answer(self.clock.wall()).map_err(|error| error.to_string())
        })
    }
}
