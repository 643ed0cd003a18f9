//! The desk as a task: commands in, agents asked, outcomes told.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::sleep_until;

use heartwatch_domain::command::{Command, CommandDispatch, CommandOutcome, Next, PROBE_ID_PREFIX, Target};
use heartwatch_fleet::grpc::server::{AgentEvent, Agents, Protocol};
use heartwatch_system::clock::Clock;

/// Commands that may wait to be taken.
pub(super) const SUBMISSIONS_MAX: usize = 1_024;
/// How often it looks when no deadline is known.
const IDLE: Duration = Duration::from_secs(3_600);

/// A command, and who waits for what becomes of it.
pub(super) struct Submission {
    /// What.
    pub command: Command,
    /// For whom.
    pub target: Target,
    /// How long it may take.
    pub given: Duration,
    /// Gets all of its outcomes at once, when the last one is known.
    pub done: Option<oneshot::Sender<Vec<CommandOutcome>>>,
    /// Who else is concerned.
    pub reach: Reach,
}

/// Who is concerned by a command, beside who gave it and its agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Everybody is told what becomes of it.
    Told,
    /// Nobody is told what becomes of it.
    Private,
    #[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "servers share what is on Kafka"))]
    /// Every server has it: one that has never seen the agent leaves it to the others.
    Shared,
}

/// Somebody who waits for the outcomes of one command.
struct OutcomeWaiter {
    missing: usize,
    outcomes: Vec<CommandOutcome>,
    done: oneshot::Sender<Vec<CommandOutcome>>,
    reach: Reach,
}

struct Task {
    desk: CommandDispatch,
    agents: Agents,
    outcomes: broadcast::Sender<CommandOutcome>,
    waiting: HashMap<String, OutcomeWaiter>,
    clock: Clock,
}

/// Runs until nobody can submit any more.
pub(super) async fn run(
    agents: Agents,
    mut events: mpsc::Receiver<AgentEvent>,
    mut submissions: mpsc::Receiver<Submission>,
    outcomes: broadcast::Sender<CommandOutcome>,
    clock: Clock,
) {
    let mut task = Task { desk: CommandDispatch::default(), agents, outcomes, waiting: HashMap::new(), clock };
    loop {
        let due =
            task.desk.next_deadline().map_or_else(|| clock.instant(clock.monotonic() + IDLE), |at| clock.instant(at));
        tokio::select! {
            submission = submissions.recv() => match submission {
                Some(submission) => task.submit(submission),
                None => break,
            },
            Some(event) = events.recv() => match event {
                AgentEvent::Joined { client_id } => {
                    let next = task.desk.joined(&client_id);
                    task.act(next);
                }
                AgentEvent::Result { client_id, result, known } => {
                    let id = result.id.clone();
                    let outcome = task.desk.answered(&client_id, result);
                    if let Some(known) = known {
                        let _ = known.send(outcome.is_some());
                    }
                    match outcome {
                        Some(outcome) => task.tell(outcome),
                        None => tracing::info!(client_id, id, "a result came for a command that nobody waits for"),
                    }
                }
            },
            () = sleep_until(due) => {
                for outcome in task.desk.due(clock.monotonic()) {
                    task.tell(outcome);
                }
            }
        }
    }
}

impl Task {
    fn submit(&mut self, submission: Submission) {
        let Submission { command, target, given, done, reach } = submission;
        if let (Reach::Shared, Target::One(agent)) = (reach, &target)
            && !self.desk.knows(agent)
        {
            return;
        }
        let connected: Vec<String> = self.agents.list().into_iter().map(|agent| agent.client_id).collect();
        let before = self.desk.waiting();
        let next = self.desk.submit(&command, &target, &connected, self.clock.monotonic(), given);
        if let Some(done) = done {
            let missing = next.outcomes.len() + (self.desk.waiting() - before);
            if missing == 0 {
                let _ = done.send(Vec::new());
            } else {
                self.waiting.insert(command.id, OutcomeWaiter { missing, outcomes: Vec::new(), done, reach });
            }
        }
        self.act(next);
    }

    fn act(&mut self, next: Next) {
        for (agent, command) in next.hand {
            match self.agents.send(&agent, &command, self.clock.wall()) {
                Ok(protocol) => self.desk.handed(&agent, &command.id, protocol == Protocol::Relay),
                // It left at this moment: it is due again when it comes back, and expires otherwise.
                Err(error) => tracing::info!(agent, id = command.id, %error, "a command waits"),
            }
        }
        for outcome in next.outcomes {
            self.tell(outcome);
        }
    }

    fn tell(&mut self, outcome: CommandOutcome) {
        let CommandOutcome { id, kind: command, client_id, success, .. } = &outcome;
        if id.starts_with(PROBE_ID_PREFIX) {
            tracing::debug!(id, command, client_id, success, "a question has its answer");
        } else {
            tracing::info!(id, command, client_id, success, "a command has its result");
        }
        let mut private = false;
        if let Some(waiting) = self.waiting.get_mut(&outcome.id) {
            private = waiting.reach == Reach::Private;
            waiting.missing = waiting.missing.saturating_sub(1);
            waiting.outcomes.push(outcome.clone());
            if waiting.missing == 0
                && let Some(OutcomeWaiter { outcomes, done, .. }) = self.waiting.remove(&outcome.id)
            {
                let _ = done.send(outcomes);
            }
        }
        if !private {
            // Nobody may be listening.
            let _ = self.outcomes.send(outcome);
        }
    }
}
