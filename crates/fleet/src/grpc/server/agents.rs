//! Who is connected, over which stream each publisher is confirmed to, and commands for them.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tonic::Status;

use super::StreamState;
use crate::wire::monitoring::{self as wire, to_agent};
use heartwatch_domain::command::Command;
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::time::Timestamp;
use heartwatch_formats::envelope::TopicKind;

/// How an agent speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Everything is confirmed, commands have results.
    Relay,
    /// An existing agent.
    MonitorStream,
}

impl Protocol {
    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::MonitorStream => "monitor-stream",
        }
    }
}

/// The way back to an agent.
#[derive(Debug, Clone)]
pub(super) enum Answers {
    Relay(mpsc::Sender<Result<wire::ToAgent, Status>>),
    Plain(mpsc::Sender<Result<wire::Command, Status>>),
}

/// One connected agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSnapshot {
    /// Under which name commands reach it.
    pub client_id: String,
    /// Its host, as soon as it has said it.
    pub host: String,
    /// How it speaks.
    pub protocol: Protocol,
    /// Since when it is connected.
    pub since: Timestamp,
    /// When its last message came.
    pub last_heard: Timestamp,
    /// Messages of this stream.
    pub messages: u64,
}

struct Agent {
    stream: u64,
    answers: Answers,
    snapshot: AgentSnapshot,
}

/// Who is connected. Bounded by the streams that there may be.
#[derive(Default)]
pub(super) struct Registry {
    pub streams: usize,
    streams_ever: u64,
    last_incarnation: u64,
    pub refused: u64,
    agents: HashMap<String, Agent>,
    routes: HashMap<PublisherId, (u64, Answers)>,
}

impl Registry {
    /// A stream's number, and the incarnation of what it numbers: larger than every one before.
    pub(super) fn begin(&mut self, now: Timestamp) -> (u64, u64) {
        self.streams += 1;
        self.streams_ever += 1;
        let micros = u64::try_from(now.as_nanos() / 1_000).unwrap_or(0);
        self.last_incarnation = micros.max(self.last_incarnation + 1);
        (self.streams_ever, self.last_incarnation)
    }

    /// An agent says who it is. A later stream of the same name takes its place.
    pub(super) fn join(&mut self, stream: u64, client_id: &str, protocol: Protocol, answers: Answers, now: Timestamp) {
        let snapshot = AgentSnapshot {
            client_id: client_id.to_owned(),
            host: String::new(),
            protocol,
            since: now,
            last_heard: now,
            messages: 0,
        };
        self.agents.insert(client_id.to_owned(), Agent { stream, answers, snapshot });
    }

    /// How the agent of this name speaks, where it is connected.
    pub(super) fn protocol_of(&self, client_id: &str) -> Option<Protocol> {
        self.agents.get(client_id).map(|agent| agent.snapshot.protocol)
    }

    /// A message came.
    pub(super) fn heard(&mut self, stream: u64, client_id: &str, host: Option<&str>, now: Timestamp) {
        if let Some(agent) = self.agents.get_mut(client_id).filter(|agent| agent.stream == stream) {
            agent.snapshot.last_heard = now;
            agent.snapshot.messages += 1;
            if let Some(host) = host
                && agent.snapshot.host != host
            {
                host.clone_into(&mut agent.snapshot.host);
            }
        }
    }

    /// From now on this publisher is confirmed to over this stream.
    pub(super) fn route(&mut self, publisher: &PublisherId, stream: u64, answers: &Answers) {
        match self.routes.get_mut(publisher) {
            Some(route) if route.0 == stream => {}
            Some(route) => *route = (stream, answers.clone()),
            None => {
                self.routes.insert(publisher.clone(), (stream, answers.clone()));
            }
        }
    }

    /// Whether it is this stream over which the publisher is confirmed to: the latest that speaks for it.
    pub(super) fn is_routed(&self, publisher: &PublisherId, stream: u64) -> bool {
        self.routes.get(publisher).is_some_and(|(of, _)| *of == stream)
    }

    /// A stream is over. Says which of these publishers no later stream speaks for.
    pub(super) fn end(&mut self, stream: u64, client_ids: &[String], publishers: &[PublisherId]) -> Vec<PublisherId> {
        self.streams = self.streams.saturating_sub(1);
        for client_id in client_ids {
            if self.agents.get(client_id).is_some_and(|agent| agent.stream == stream) {
                self.agents.remove(client_id);
            }
        }
        let mut orphans = Vec::new();
        for publisher in publishers {
            if self.routes.get(publisher).is_some_and(|(of, _)| *of == stream) {
                self.routes.remove(publisher);
                orphans.push(publisher.clone());
            }
        }
        orphans
    }

    /// Hands a confirmation over; false: the agent's queue is full. To somebody who is gone, or whose protocol has
    /// no confirmations, there is nothing to say.
    pub(super) fn confirm(&self, publisher: &PublisherId, payload: Vec<u8>) -> bool {
        let Some((_, Answers::Relay(answers))) = self.routes.get(publisher) else { return true };
        let envelope = wire::Envelope {
            publisher: publisher.as_str().to_owned(),
            kind: TopicKind::Confirm.as_str().to_owned(),
            payload,
        };
        let message = wire::ToAgent { message: Some(to_agent::Message::Envelope(envelope)) };
        !matches!(answers.try_send(Ok(message)), Err(mpsc::error::TrySendError::Full(_)))
    }
}

/// Why a command was not handed to an agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendCommandError {
    /// Nobody of that name is connected.
    #[error("the agent is not connected")]
    NotConnected,
    /// It does not take what it was sent before.
    #[error("the agent takes nothing: its queue is full")]
    Full,
}

/// Who is connected, for whoever asks and commands.
#[derive(Clone)]
pub struct Agents(Arc<StreamState>);

impl Agents {
    pub(super) const fn new(shared: Arc<StreamState>) -> Self {
        Self(shared)
    }

    /// All of them, by name.
    #[must_use]
    pub fn list(&self) -> Vec<AgentSnapshot> {
        let mut agents: Vec<_> = self.0.registry().agents.values().map(|agent| agent.snapshot.clone()).collect();
        agents.sort_by(|a, b| a.client_id.cmp(&b.client_id));
        agents
    }

    /// How the agent of this name speaks, where it is connected.
    #[must_use]
    pub fn protocol_of(&self, client_id: &str) -> Option<Protocol> {
        self.0.registry().protocol_of(client_id)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.registry().agents.len()
    }

    /// Streams that were refused: too many, or without a usable name.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.0.registry().refused
    }

    /// Hands a command to an agent at once; says how it speaks.
    ///
    /// # Errors
    /// [`SendCommandError`].
    pub fn send(&self, client_id: &str, command: &Command, now: Timestamp) -> Result<Protocol, SendCommandError> {
        let registry = self.0.registry();
        let agent = registry.agents.get(client_id).ok_or(SendCommandError::NotConnected)?;
        let command = wire::Command {
            command_id: command.id.clone(),
            command_type: command.kind.clone(),
            command_data: command.data.clone(),
            timestamp: now.as_nanos() / 1_000_000_000,
        };
        fn handed<T>(sent: Result<(), mpsc::error::TrySendError<T>>) -> Result<(), SendCommandError> {
            sent.map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => SendCommandError::Full,
                mpsc::error::TrySendError::Closed(_) => SendCommandError::NotConnected,
            })
        }
        match &agent.answers {
            Answers::Relay(answers) => {
                let message = wire::ToAgent { message: Some(to_agent::Message::Command(command)) };
                handed(answers.try_send(Ok(message)))?;
            }
            Answers::Plain(answers) => handed(answers.try_send(Ok(command)))?,
        }
        Ok(agent.snapshot.protocol)
    }
}
