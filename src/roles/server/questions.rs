//! The [`AgentChannel`] of the server itself: a question goes on the desk like any command, and so to the agent's stream.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::command_dispatch::{Reach, Submission};
use heartwatch_domain::command::{Command, CommandResult, Target};
use heartwatch_domain::publisher::PublisherId;
use heartwatch_fleet::grpc::server::{Agents, Protocol};
use heartwatch_ports::{AgentAnswer, AgentChannel, BoxFuture};

/// Answers that wait to be taken.
const ANSWERS_MAX: usize = 1_024;

struct Questions {
    agents: Agents,
    submit: mpsc::Sender<Submission>,
    answers: mpsc::Sender<AgentAnswer>,
}

/// The agents that are connected, and what they answer.
#[must_use]
pub(super) fn over_streams(
    agents: Agents,
    submit: mpsc::Sender<Submission>,
) -> (Arc<dyn AgentChannel>, mpsc::Receiver<AgentAnswer>) {
    let (answers, answers_end) = mpsc::channel(ANSWERS_MAX);
    (Arc::new(Questions { agents, submit, answers }), answers_end)
}

impl AgentChannel for Questions {
    fn name(&self) -> &'static str {
        "gRPC"
    }

    fn knows(&self, agent: &PublisherId) -> bool {
        self.agents.protocol_of(agent.as_str()).is_some()
    }

    fn hand<'a>(
        &'a self,
        agent: &'a PublisherId,
        command: &'a Command,
        within: Duration,
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            match self.agents.protocol_of(agent.as_str()) {
                None => return Err("it is not connected to this server".to_owned()),
                Some(Protocol::MonitorStream) => return Err("its protocol carries no answers".to_owned()),
                Some(Protocol::Relay) => {}
            }
            let (done, outcomes) = oneshot::channel();
            let submission = Submission {
                command: command.clone(),
                target: Target::One(agent.as_str().to_owned()),
                given: within,
                done: Some(done),
                reach: Reach::Private,
            };
            let ending = || "the server is ending".to_owned();
            self.submit.send(submission).await.map_err(|_| ending())?;
            let outcome = outcomes.await.map_err(|_| ending())?.pop().ok_or_else(ending)?;
            let result = CommandResult { id: outcome.id, success: outcome.success, output: outcome.output };
            self.answers.send(AgentAnswer { agent: agent.clone(), result }).await.map_err(|_| ending())
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}
