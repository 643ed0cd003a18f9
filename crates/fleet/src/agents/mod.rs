//! [`RemoteProbe`] over every way on which agents get commands ([`AgentChannel`]): the broker, Kafka, a server's streams.
//!
//! - The way on which an agent answered last is taken first, then one that knows it, then the others. When a way fails,
//!   or has not answered in its share of the time, the next one is asked as well; the first answer counts.
//! - An answer counts only when it has the id of a question, comes from the agent that was asked, and on the way on which
//!   it was asked.
//! - A question that is not answered is over when its time is, or when its asker gives up: dropping the future forgets it.

mod broker;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

pub use broker::over_broker;

use heartwatch_domain::command::{Command, CommandResult, PROBE_ID_PREFIX};
use heartwatch_domain::process::{ProbeAnswer, ProcessIdentity};
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::time::describe_duration;
use heartwatch_formats::command::{ProbeOutput, probe_data};
use heartwatch_ports::{AgentAnswer, AgentChannel, BoxFuture, RemoteProbe};
use heartwatch_system::clock::Clock;

/// Most questions without an answer.
const WAITING_MAX: usize = 10_000;
/// Most agents of which it is remembered on which way they answered.
const REMEMBERED_MAX: usize = 100_000;

/// The agents that can be asked. Clones are handles to the same ones.
#[derive(Clone)]
pub struct Agents {
    shared: Arc<AgentRegistry>,
    clock: Clock,
}

struct AgentRegistry {
    /// Distinct for every life of the monitor, so that a late answer to an earlier one is nobody's.
    life: String,
    asked: AtomicU64,
    ways: Mutex<Vec<Arc<dyn AgentChannel>>>,
    waiting: Mutex<HashMap<String, PendingQuestion>>,
    /// On which way an agent answered last.
    answered_on: Mutex<HashMap<PublisherId, &'static str>>,
}

/// Who waits for an answer, and whose it has to be.
struct PendingQuestion {
    agent: PublisherId,
    way: &'static str,
    answer: oneshot::Sender<CommandResult>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Agents {
    /// No way to ask anybody yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let shared = AgentRegistry {
            life: format!("{PROBE_ID_PREFIX}{}-{:08x}", clock.wall().as_nanos(), fastrand::u32(..)),
            asked: AtomicU64::new(0),
            ways: Mutex::default(),
            waiting: Mutex::default(),
            answered_on: Mutex::default(),
        };
        Self { shared: Arc::new(shared), clock }
    }

    /// Asks on this way, too, in place of the one of the same name; listens to what comes back on the current tokio
    /// runtime until it ends.
    pub fn ask_over(&self, way: Arc<dyn AgentChannel>, mut answers: mpsc::Receiver<AgentAnswer>) {
        let name = way.name();
        {
            let mut ways = locked(&self.shared.ways);
            ways.retain(|other| other.name() != name);
            ways.push(way);
        }
        let shared = self.shared.clone();
        tokio::spawn(async move {
            while let Some(answer) = answers.recv().await {
                shared.answered(name, answer);
            }
        });
    }

    /// Ends the way of this name, where there is one.
    pub async fn close_way(&self, name: &str) {
        let way = {
            let mut ways = locked(&self.shared.ways);
            ways.iter().position(|way| way.name() == name).map(|index| ways.remove(index))
        };
        if let Some(way) = way {
            way.close().await;
        }
    }

    /// Ends all of them.
    pub async fn close(&self) {
        let ways = std::mem::take(&mut *locked(&self.shared.ways));
        for way in ways {
            way.close().await;
        }
    }
}

impl AgentRegistry {
    /// An answer counts only from the agent that was asked, on the way on which it was asked.
    fn answered(&self, way: &'static str, AgentAnswer { agent, result }: AgentAnswer) {
        let mut waiting = locked(&self.waiting);
        match waiting.get(&result.id) {
            Some(asked) if asked.way == way && asked.agent == agent => {}
            Some(_) => {
                return tracing::warn!(%agent, way, id = result.id, "an answer came from somebody who was not asked");
            }
            None => return tracing::debug!(%agent, way, id = result.id, "an answer came that nobody waits for"),
        }
        if let Some(asked) = waiting.remove(&result.id) {
            let _ = asked.answer.send(result);
        }
    }

    /// The ways to ask an agent, the most promising one first.
    fn ways_to(&self, agent: &PublisherId) -> Vec<Arc<dyn AgentChannel>> {
        let answered_on = locked(&self.answered_on).get(agent).copied();
        let mut ways = locked(&self.ways).clone();
        ways.sort_by_key(|way| (answered_on != Some(way.name()), !way.knows(agent)));
        ways
    }

    fn note_answered_on(&self, agent: &PublisherId, way: &'static str) {
        let mut answered_on = locked(&self.answered_on);
        if answered_on.get(agent) == Some(&way) {
            return;
        }
        if answered_on.len() >= REMEMBERED_MAX {
            answered_on.clear();
        }
        answered_on.insert(agent.clone(), way);
    }
}

/// Forgets a question when its asker has the answer or gives up.
struct Asked<'a> {
    shared: &'a AgentRegistry,
    id: String,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        locked(&self.shared.waiting).remove(&self.id);
    }
}

impl Agents {
    /// Asks on one way; an error says which way it was and what went wrong there.
    async fn ask_on(
        &self,
        way: Arc<dyn AgentChannel>,
        agent: &PublisherId,
        process: &ProcessIdentity,
        until: Instant,
    ) -> Result<ProbeAnswer, String> {
        let (name, within) = (way.name(), until.saturating_duration_since(Instant::now()));
        let asked = async {
            let number = self.shared.asked.fetch_add(1, Ordering::Relaxed);
            let id = format!("{}-{number}", self.shared.life);
            let (sender, answer) = oneshot::channel();
            {
                let mut waiting = locked(&self.shared.waiting);
                if waiting.len() >= WAITING_MAX {
                    return Err(format!("{WAITING_MAX} questions wait for answers already"));
                }
                waiting.insert(id.clone(), PendingQuestion { agent: agent.clone(), way: name, answer: sender });
            }
            let _asked = Asked { shared: &self.shared, id: id.clone() };
            let question = Command { id, kind: "probe".to_owned(), data: probe_data(process) };
            way.hand(agent, &question, within).await.map_err(|reason| format!("over {name}: {reason}"))?;
            answer.await.map_err(|_| "the monitor stops".to_owned())
        };
        let result = timeout_at(until, asked).await;
        let result =
            result.map_err(|_| format!("it did not answer over {name} within {}", describe_duration(within)))??;
        if !result.success {
            return Err(format!("over {name} it says: {}", result.output.chars().take(300).collect::<String>()));
        }
        let output: ProbeOutput = serde_json::from_str(&result.output)
            .map_err(|error| format!("its answer over {name} cannot be read: {error}"))?;
        let answer = output
            .answer(self.clock.wall())
            .map_err(|error| format!("its answer over {name} cannot be read: {error}"))?;
        self.shared.note_answered_on(agent, name);
        Ok(answer)
    }
}

impl RemoteProbe for Agents {
    fn probe<'a>(
        &'a self,
        agent: &'a PublisherId,
        process: &'a ProcessIdentity,
        within: Duration,
    ) -> BoxFuture<'a, Result<ProbeAnswer, String>> {
        Box::pin(async move {
            let mut ways = self.shared.ways_to(agent).into_iter();
            let now = Instant::now();
            let until = now + within;
            let share = within / u32::try_from(ways.len().max(1)).unwrap_or(u32::MAX);
            let mut next_at = now;
            let mut asking = FuturesUnordered::new();
            let mut reasons: Vec<String> = Vec::new();
            loop {
                if asking.is_empty() || Instant::now() >= next_at {
                    match ways.next() {
                        Some(way) => {
                            asking.push(self.ask_on(way, agent, process, until));
                            next_at = Instant::now() + share;
                        }
                        None if asking.is_empty() && reasons.is_empty() => {
                            return Err("the monitor has no way to ask it".to_owned());
                        }
                        None if asking.is_empty() => return Err(reasons.join("; ")),
                        // Everybody is asked: only answers can come.
                        None => next_at = until + share,
                    }
                }
                tokio::select! {
                    Some(answer) = asking.next() => match answer {
                        Ok(answer) => return Ok(answer),
                        Err(reason) => reasons.push(reason),
                    },
                    () = sleep_until(next_at) => {}
                }
            }
        })
    }
}

#[cfg(test)]
mod tests;
