//! The consoles of the server and of the analysis at a terminal: a pseudo terminal, with a person's keys.
#![cfg(feature = "hosts")]

use crate::support;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use support::heartwatch::{Program, command, finished};
use support::terminal::{CONTROL_D, ENTER, TAB, Terminal, UP};
use support::{eventually, free_port};

const DEADLINE: Duration = Duration::from_secs(90);

fn server(directory: &Path, at: &str, more: &[&str]) -> Terminal {
    let mut command = command(directory);
    command.args(["server", "--web", "off", "--listen", at]).args(more);
    Terminal::start(command)
}

fn agent(directory: &Path, at: &str) -> Program {
    let mut command = command(directory);
    command.args(["agent", "--id", "agent-7", "--name", "node-7", "--server", at, "--heartbeat", "500ms"]);
    command.arg("--data-dir").arg(directory.join("agent"));
    Program::start(command)
}

async fn is_connected(directory: &Path, at: &str) {
    let listed = async || finished(directory, &["server", "list", "--server", at], DEADLINE).await.stdout;
    eventually("the agent is connected", DEADLINE, async || listed().await.contains("agent-7")).await;
}

#[tokio::test]
async fn the_servers_console_completes_remembers_and_leaves_the_terminal_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let at = format!("127.0.0.1:{}", free_port());
    let mut terminal = server(directory.path(), &at, &[]);
    terminal.shows("server> ").await;
    terminal.until_edited().await;
    let agent = agent(directory.path(), &at);
    is_connected(directory.path(), &at).await;

    // A command that is begun, completed; and again out of history.
    terminal.press_for(&format!("sta{TAB}"), "stats").await;
    terminal.press_for(ENTER, "streams refused").await;
    terminal.press_for(&format!("{UP}{ENTER}"), "streams refused").await;
    // A client's name, completed.
    terminal.press_for(&format!("send age{TAB}"), "send agent-7").await;
    terminal.press_for(&format!(" ping{ENTER}"), "agent-7 ping ok: ").await;
    terminal.press_for(&format!("frobnicate{ENTER}"), "'frobnicate' is not a command; there are help").await;
    terminal.press_for(&format!("quit{ENTER}"), "the server ends in order").await;
    assert_eq!(terminal.exit().await.code(), Some(0));
    drop(agent);

    // The next start knows what was typed before: quit, frobnicate, send, stats (what is repeated counts once).
    let mut terminal = server(directory.path(), &at, &[]);
    terminal.shows("server> ").await;
    terminal.until_edited().await;
    terminal.press_for(&format!("{UP}{UP}{UP}{UP}{ENTER}"), "streams refused").await;
    // The end of the input ends it, too.
    terminal.press(CONTROL_D);
    assert_eq!(terminal.exit().await.code(), Some(0));

    // And a signal, in the middle of a line.
    let mut terminal = server(directory.path(), &at, &[]);
    terminal.shows("server> ").await;
    terminal.until_edited().await;
    terminal.press_for("list", "list").await;
    terminal.signal(Signal::TERM);
    assert_eq!(terminal.exit().await.code(), Some(0));
}

#[cfg(feature = "kafka")]
#[tokio::test]
async fn the_analysis_console_completes_remembers_and_leaves_the_terminal_as_it_was() {
    let Some(kafka) = support::kafka::Kafka::start().await else { return };
    let directory = tempfile::tempdir().unwrap();
    let at = format!("127.0.0.1:{}", free_port());
    let mut command_of_server = command(directory.path());
    command_of_server.args(["server", "--web", "off", "--listen", &at, "--kafka", &kafka.brokers()]);
    let server = Program::start(command_of_server);
    server.says("heartwatch server runs").await;
    let _agent = agent(directory.path(), &at);

    let mut analysis = command(directory.path());
    analysis.args(["analysis", "--kafka", &kafka.brokers(), "--from-beginning"]);
    let mut terminal = Terminal::start(analysis);
    terminal.shows("analysis> ").await;
    terminal.until_edited().await;
    terminal.shows("agent-7 on ").await;
    terminal.press_for(&format!("he{TAB}"), "help").await;
    terminal.press_for(ENTER, "send <client|all> <command>").await;
    terminal.press_for(&format!("stats{ENTER}"), "average").await;
    terminal.press_for(&format!("{UP}{ENTER}"), "average").await;
    terminal.press_for(&format!("send age{TAB}"), "send agent-7").await;
    terminal.press_for(&format!(" ping{ENTER}"), "agent-7 ping ok: ").await;
    terminal.press(&format!("quit{ENTER}"));
    assert_eq!(terminal.exit().await.code(), Some(0));
}
