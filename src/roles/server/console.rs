//! The server's console: the same lines for a person at the terminal and for a program that says one.

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::command_dispatch::{Reach, Submission};
use crate::messages::ask::{AskLedger, AskStatus, AskSubscriber};
use crate::roles::lease_view::LeaseView;
use crate::roles::prompt;
use crate::web;
use heartwatch_console::paint::harmless;
use heartwatch_console::prompt::{SERVER_HELP, SERVER_WORDS, Sending, ServerLine, server_line};
use heartwatch_console::tables::{Drawing, plain};
use heartwatch_domain::command::{Command, CommandOutcome, PROBE_ID_PREFIX, Target};
use heartwatch_domain::ledger::Account;
use heartwatch_domain::time::Timestamp;
use heartwatch_fleet::grpc::console::Answer;
use heartwatch_fleet::grpc::server::Agents;

/// How long a person waits for the answer of an agent.
const GIVEN: Duration = Duration::from_secs(10);
/// How long a part may take to answer.
const PART_TIMEOUT: Duration = Duration::from_secs(5);

/// What the lines are about.
#[derive(Clone)]
pub(super) struct Console {
    pub agents: Agents,
    pub submit: mpsc::Sender<Submission>,
    pub ports: web::Ports,
    pub nodes: LeaseView,
    pub started: Timestamp,
    pub quit: mpsc::Sender<()>,
}

fn failed(text: String) -> Answer {
    Answer { success: false, json: json!({ "error": text }).to_string(), text }
}

fn table(titles: &[&str], rows: Vec<Vec<String>>) -> String {
    plain(titles, rows.into_iter(), Drawing::PLAIN)
}

impl Console {
    /// What the console says to a line.
    pub(super) async fn answer(&self, line: &str) -> Answer {
        match server_line(line) {
            Err(reason) => failed(reason),
            Ok(None) => Answer { success: true, text: String::new(), json: "{}".to_owned() },
            Ok(Some(line)) => self.execute(line).await.unwrap_or_else(failed),
        }
    }

    async fn execute(&self, line: ServerLine) -> Result<Answer, String> {
        let (text, json) = match line {
            ServerLine::Help => (SERVER_HELP.to_owned(), json!({ "commands": SERVER_WORDS })),
            ServerLine::List => self.list(),
            ServerLine::Health => self.health().await?,
            ServerLine::Stats => self.stats().await?,
            ServerLine::Config { host, json } => self.nodes.configure(&host, &json).await?,
            ServerLine::Send(sending) => return self.send(sending).await,
            ServerLine::Quit => {
                let _ = self.quit.try_send(());
                ("the server ends in order".to_owned(), json!({ "ending": true }))
            }
        };
        Ok(Answer { success: true, text, json: json.to_string() })
    }

    fn list(&self) -> (String, Value) {
        let agents = self.agents.list();
        let json: Vec<Value> = agents
            .iter()
            .map(|agent| {
                json!({
                    "client_id": agent.client_id, "host": agent.host, "protocol": agent.protocol.as_str(),
                    "since": agent.since, "last_heard": agent.last_heard, "messages": agent.messages,
                })
            })
            .collect();
        let (etcd, nodes) = self.nodes.json();
        let json = json!({ "agents": json, "etcd": etcd, "nodes": nodes });
        if agents.is_empty() {
            let mut text = "no agent is connected".to_owned();
            self.add_nodes(&mut text);
            return (text, json);
        }
        let rows = agents.into_iter().map(|agent| {
            vec![
                agent.client_id,
                agent.host,
                agent.protocol.as_str().to_owned(),
                agent.since.to_string(),
                agent.last_heard.time_of_day(),
                agent.messages.to_string(),
            ]
        });
        let titles = ["client", "host", "protocol", "connected", "last heard", "messages"];
        let mut text = table(&titles, rows.collect());
        self.add_nodes(&mut text);
        (text, json)
    }

    /// Whose lease is in etcd, below what is connected: the two say different things.
    fn add_nodes(&self, text: &mut String) {
        let rows = self.nodes.rows();
        if !rows.is_empty() {
            text.push_str("\n\n");
            text.push_str(&table(&["node", "agent", "lease in etcd", "since"], rows));
        }
        if let Some(said) = self.nodes.said() {
            text.push('\n');
            text.push_str(&harmless(&said));
        }
    }

    async fn health(&self) -> Result<(String, Value), String> {
        let said = |error: &dyn std::fmt::Display| format!("the watchdog does not answer: {error}");
        let status = self.ports.verdicts.ask(AskStatus, PART_TIMEOUT).await.map_err(|error| said(&error))?;
        let ledger = self.ports.ledger.ask(AskLedger, PART_TIMEOUT).await;
        let sinks = ledger.map_err(|error| format!("the writer does not answer: {error}"))?.sinks;
        let here: Vec<String> = self.agents.list().into_iter().map(|agent| agent.client_id).collect();
        let publishers: Vec<Value> = status
            .publishers
            .iter()
            .map(|publisher| {
                json!({
                    "id": publisher.id, "host": publisher.host, "verdict": publisher.verdict,
                    "since": publisher.since, "last_seen": publisher.last_seen,
                    "connected": here.iter().any(|id| id == publisher.id.as_str()),
                })
            })
            .collect();
        let rows = status.publishers.iter().map(|publisher| {
            vec![
                publisher.id.to_string(),
                publisher.host.to_string(),
                publisher.verdict.as_str().to_owned(),
                publisher.last_seen.map_or_else(|| "never".to_owned(), Timestamp::time_of_day),
            ]
        });
        let mut text = table(&["publisher", "host", "verdict", "last heard"], rows.collect());
        for sink in &sinks {
            let error = if sink.last_error.is_empty() { String::new() } else { format!(" ({})", sink.last_error) };
            text.push_str(&format!("\n{}: {}, {} rows wait on disk{error}", sink.name, sink.state, sink.buffered_rows));
        }
        self.add_nodes(&mut text);
        let (etcd, nodes) = self.nodes.json();
        let observer = json!({ "state": status.observer.state, "reason": status.observer.reason });
        Ok((
            text,
            json!({ "observer": observer, "publishers": publishers, "sinks": sinks, "etcd": etcd, "nodes": nodes }),
        ))
    }

    async fn stats(&self) -> Result<(String, Value), String> {
        let ledger = self.ports.ledger.ask(AskLedger, PART_TIMEOUT).await;
        let ledger = ledger.map_err(|error| format!("the writer does not answer: {error}"))?;
        let subscriber = self.ports.arrivals.ask(AskSubscriber, PART_TIMEOUT).await;
        let subscriber = subscriber.map_err(|error| format!("the subscriber does not answer: {error}"))?;
        let whole = ledger.accounts.iter().fold(Account::default(), |sum, line| sum.plus(line.account));
        let mut rows: Vec<Vec<String>> = vec![
            vec!["agents".to_owned(), self.agents.count().to_string()],
            vec!["streams refused".to_owned(), self.agents.refused().to_string()],
            vec!["messages".to_owned(), subscriber.messages.to_string()],
            vec!["not understood".to_owned(), subscriber.malformed.to_string()],
        ];
        rows.extend(whole.counts().map(|(name, count)| vec![format!("readings {name}"), count.to_string()]));
        rows.push(vec!["since".to_owned(), self.started.to_string()]);
        let json = json!({
            "agents": self.agents.count(), "refused": self.agents.refused(), "messages": subscriber.messages,
            "malformed": subscriber.malformed, "readings": whole, "since": self.started, "sinks": ledger.sinks,
        });
        Ok((table(&["what", "count"], rows), json))
    }

    async fn send(&self, Sending { target, kind, data }: Sending) -> Result<Answer, String> {
        let id = format!("console-{:016x}", fastrand::u64(..));
        let command = Command { id, kind, data };
        let (done, outcomes) = oneshot::channel();
        let target = Target::parse(&target);
        let submission = Submission { command, target, given: GIVEN, done: Some(done), reach: Reach::Told };
        let ending = || "the server is ending".to_owned();
        self.submit.send(submission).await.map_err(|_| ending())?;
        let outcomes = outcomes.await.map_err(|_| ending())?;
        let success = !outcomes.is_empty() && outcomes.iter().all(|outcome| outcome.success);
        let text = outcomes.iter().map(said).collect::<Vec<_>>().join("\n");
        let json: Vec<Value> = outcomes
            .iter()
            .map(|outcome| {
                json!({
                    "command_id": outcome.id, "command_type": outcome.kind, "client_id": outcome.client_id,
                    "success": outcome.success, "output": outcome.output,
                })
            })
            .collect();
        Ok(Answer { success, text, json: json!({ "results": json }).to_string() })
    }
}

fn said(outcome: &CommandOutcome) -> String {
    let mark = if outcome.success { "ok" } else { "failed" };
    format!("{} {} {mark}: {}", harmless(&outcome.client_id), harmless(&outcome.kind), harmless(&outcome.output))
}

/// Whether a person sits before it.
pub(super) fn is_wanted() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Reads lines from the terminal, with history and completion, until `quit` or the end of the input. What it gives
/// is held until the program's end.
#[must_use]
pub(super) fn interactive(
    console: Console,
    mut outcomes: broadcast::Receiver<CommandOutcome>,
    data_dir: &Path,
) -> prompt::Restore {
    let agents = console.agents.clone();
    let clients = move || agents.list().into_iter().map(|agent| agent.client_id).collect();
    let (mut lines, restore) = prompt::read("server> ", &SERVER_WORDS, data_dir.join("console-history"), clients);
    actix_rt::spawn(async move {
        loop {
            tokio::select! {
                line = lines.recv() => {
                    let Some(line) = line else {
                        let _ = console.quit.try_send(());
                        break;
                    };
                    let answer = console.answer(&line.text).await;
                    anstream::println!("{}", answer.text);
                    if matches!(server_line(&line.text), Ok(Some(ServerLine::Quit))) {
                        break;
                    }
                    line.done();
                }
                outcome = outcomes.recv() => match outcome {
                    // What was asked here has its answer here; what a monitor asks is between it and the agent.
                    Ok(outcome) if !["console-", PROBE_ID_PREFIX].iter().any(|own| outcome.id.starts_with(own)) => {
                        anstream::println!("{}", said(&outcome));
                    }
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => break,
                },
            }
        }
    });
    restore
}
