//! What somebody asks an agent to do, and what came of it.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::time::Duration;

use crate::time::Monotonic;

/// A question to one agent. It is never a program to run: the agent knows a short list of kinds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Distinct for every command; its result has the same.
    pub id: String,
    /// What to do: `status`, `get_config`, `probe`, `ping`, `reload`. Text from outside.
    pub kind: String,
    /// What it is about, for example a PID; often empty. Text from outside.
    pub data: String,
}

/// What an agent answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandResult {
    /// The command's id.
    pub id: String,
    /// Whether it was done.
    pub success: bool,
    /// What came out of it, or why it was not done.
    pub output: String,
}

/// How the ids of a monitor's own questions about processes begin: there are many, and nobody waits to read of them.
pub const PROBE_ID_PREFIX: &str = "probe-";

/// Commands that may wait for their results at once, counted by agent.
pub const WAITING_MAX: usize = 10_000;
/// Agents that are remembered after they have left, and ids of commands that are recognised when they come again.
const REMEMBERED_MAX: usize = 20_000;

/// For whom a command is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Every agent that is connected at this moment.
    All,
    /// One agent, by the name under which it is known.
    One(String),
}

impl Target {
    /// `all`, or a name.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text == "all" { Self::All } else { Self::One(text.to_owned()) }
    }
}

/// What became of a command at one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutcome {
    /// The command's id.
    pub id: String,
    /// The command's kind.
    pub kind: String,
    /// Which agent; `all` when there was none.
    pub client_id: String,
    /// Whether it was done.
    pub success: bool,
    /// What came out of it, or why it was not done.
    pub output: String,
}

/// What to do after a message to the [`CommandDispatch`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Next {
    /// Commands to hand over now, each with its agent.
    pub hand: Vec<(String, Command)>,
    /// What is known of commands now.
    pub outcomes: Vec<CommandOutcome>,
}

#[derive(Debug, Clone)]
struct PendingCommand {
    command: Command,
    deadline: Monotonic,
    given: Duration,
    handed: bool,
    /// Whether the agent's protocol carries a result at all.
    answers: bool,
}

/// Every command that waits: for its agent to come back, or for its result. Each has exactly one outcome an agent.
#[derive(Debug, Default)]
pub struct CommandDispatch {
    /// By agent and id.
    waiting: BTreeMap<(String, String), PendingCommand>,
    /// Who was ever connected: a command for somebody else is for nobody.
    known: BTreeSet<String>,
    seen: HashSet<String>,
    seen_order: VecDeque<String>,
}

impl CommandDispatch {
    /// A command comes in. One whose id was seen before is a copy, and nothing happens. `connected` are the agents of
    /// this moment.
    pub fn submit(
        &mut self,
        command: &Command,
        target: &Target,
        connected: &[String],
        now: Monotonic,
        given: Duration,
    ) -> Next {
        let mut next = Next::default();
        if !self.remember(&command.id) {
            return next;
        }
        let fail = |client_id: &str, output: String| CommandOutcome {
            id: command.id.clone(),
            kind: command.kind.clone(),
            client_id: client_id.to_owned(),
            success: false,
            output,
        };
        let agents: Vec<String> = match target {
            Target::All => connected.to_vec(),
            Target::One(name) => vec![name.clone()],
        };
        if agents.is_empty() {
            next.outcomes.push(fail("all", "no agent is connected".to_owned()));
        }
        for agent in agents {
            let is_here = connected.contains(&agent);
            if !is_here && !self.known.contains(&agent) {
                next.outcomes.push(fail(&agent, "unknown target: no agent of this name was ever connected".to_owned()));
            } else if given.is_zero() {
                next.outcomes.push(fail(&agent, "expired: it is older than its deadline".to_owned()));
            } else if self.waiting.len() >= WAITING_MAX {
                next.outcomes.push(fail(&agent, format!("refused: {WAITING_MAX} commands wait already")));
            } else {
                let deadline = now + given;
                let waiting =
                    PendingCommand { command: command.clone(), deadline, given, handed: false, answers: true };
                self.waiting.insert((agent.clone(), command.id.clone()), waiting);
                if is_here {
                    next.hand.push((agent, command.clone()));
                }
            }
        }
        next
    }

    /// False: it was there before.
    fn remember(&mut self, id: &str) -> bool {
        if !self.seen.insert(id.to_owned()) {
            return false;
        }
        self.seen_order.push_back(id.to_owned());
        if self.seen_order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.seen_order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        true
    }

    /// An agent is connected: what waits for it and was not handed over is due.
    pub fn joined(&mut self, agent: &str) -> Next {
        if self.known.len() >= REMEMBERED_MAX {
            self.known.clear();
        }
        self.known.insert(agent.to_owned());
        let from = (agent.to_owned(), String::new());
        let due = self.waiting.range(from..).take_while(|((of, _), _)| of == agent).filter(|(_, one)| !one.handed);
        Next { hand: due.map(|(_, one)| (agent.to_owned(), one.command.clone())).collect(), outcomes: Vec::new() }
    }

    /// Whether this agent was ever connected, as far as is remembered.
    #[must_use]
    pub fn knows(&self, agent: &str) -> bool {
        self.known.contains(agent)
    }

    /// A command was handed to its agent, over a protocol that carries results or does not.
    pub fn handed(&mut self, agent: &str, id: &str, answers: bool) {
        if let Some(waiting) = self.waiting.get_mut(&(agent.to_owned(), id.to_owned())) {
            (waiting.handed, waiting.answers) = (true, answers);
        }
    }

    /// An agent answers; none: no command waits for it. It may have expired, or it was not handed to this agent: who was
    /// not asked has nothing to answer.
    pub fn answered(&mut self, agent: &str, result: CommandResult) -> Option<CommandOutcome> {
        let CommandResult { id, success, output } = result;
        let place = (agent.to_owned(), id.clone());
        self.waiting.get(&place).filter(|waiting| waiting.handed)?;
        let waiting = self.waiting.remove(&place)?;
        Some(CommandOutcome { id, kind: waiting.command.kind, client_id: agent.to_owned(), success, output })
    }

    /// The commands whose deadline has passed.
    pub fn due(&mut self, now: Monotonic) -> Vec<CommandOutcome> {
        let mut outcomes = Vec::new();
        self.waiting.retain(|(agent, id), waiting| {
            if now < waiting.deadline {
                return true;
            }
            let given = crate::time::describe_duration(waiting.given);
            let (success, output) = match (waiting.handed, waiting.answers) {
                (true, false) => (true, "handed over; this agent's protocol carries no results".to_owned()),
                (true, true) => (false, format!("expired: no answer within {given}")),
                (false, _) => (false, format!("expired: the agent was not connected within {given}")),
            };
            let (id, kind) = (id.clone(), waiting.command.kind.clone());
            outcomes.push(CommandOutcome { id, kind, client_id: agent.clone(), success, output });
            false
        });
        outcomes
    }

    /// When [`CommandDispatch::due`] has something next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.waiting.values().map(|waiting| waiting.deadline).min()
    }

    /// Commands that wait for their outcome.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: Duration = Duration::from_secs(30);

    fn command(id: &str) -> Command {
        Command { id: id.to_owned(), kind: "ping".to_owned(), data: String::new() }
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic::START + Duration::from_secs(seconds)
    }

    fn one(name: &str) -> Target {
        Target::One(name.to_owned())
    }

    #[test]
    fn every_command_has_exactly_one_outcome_an_agent() {
        let mut desk = CommandDispatch::default();
        desk.joined("a");
        desk.joined("b");
        let both = ["a".to_owned(), "b".to_owned()];
        let next = desk.submit(&command("1"), &Target::All, &both, at(0), GIVEN);
        assert_eq!((next.hand.len(), next.outcomes.len()), (2, 0));
        assert_eq!(desk.submit(&command("1"), &Target::All, &both, at(0), GIVEN), Next::default(), "a copy");
        desk.handed("a", "1", true);
        desk.handed("b", "1", true);
        let result = CommandResult { id: "1".to_owned(), success: true, output: "pong".to_owned() };
        assert_eq!(desk.answered("a", result.clone()).map(|outcome| outcome.output), Some("pong".to_owned()));
        assert_eq!(desk.answered("a", result.clone()), None, "once");
        assert_eq!(desk.answered("c", result), None, "it was not asked");
        assert_eq!(desk.due(at(29)), []);
        let due = desk.due(at(30));
        assert_eq!((due.len(), due[0].client_id.as_str(), due[0].success), (1, "b", false));
        assert!(due[0].output.contains("no answer within 30 s"), "{due:?}");
        assert_eq!((desk.waiting(), desk.next_deadline()), (0, None));
    }

    #[test]
    fn a_command_waits_for_an_agent_that_is_known_and_not_for_one_that_is_not() {
        let mut desk = CommandDispatch::default();
        let next = desk.submit(&command("1"), &one("a"), &[], at(0), GIVEN);
        assert!(next.outcomes[0].output.contains("unknown target"), "{next:?}");
        desk.joined("a");
        let next = desk.submit(&command("2"), &one("a"), &[], at(0), GIVEN);
        assert_eq!(next, Next::default(), "it is away, and may come back");
        let guessed = CommandResult { id: "2".to_owned(), success: true, output: "pong".to_owned() };
        assert_eq!(desk.answered("a", guessed), None, "it was not asked yet");
        assert_eq!(desk.joined("a").hand, [("a".to_owned(), command("2"))]);
        desk.handed("a", "2", false);
        assert_eq!(desk.joined("a").hand, [], "it was handed over");
        let due = desk.due(at(30));
        assert!(due[0].success && due[0].output.contains("no results"), "{due:?}");
        desk.submit(&command("3"), &one("a"), &[], at(40), GIVEN);
        assert!(desk.due(at(70))[0].output.contains("not connected"));
        let next = desk.submit(&command("4"), &one("a"), &[], at(0), Duration::ZERO);
        assert!(next.outcomes[0].output.contains("older than its deadline"));
        let next = desk.submit(&command("5"), &Target::All, &[], at(0), GIVEN);
        assert_eq!(next.outcomes[0].client_id, "all");
    }
}
