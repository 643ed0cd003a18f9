//! A `heartwatch server` of the test's own, in a directory and on a port of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::heartwatch::{Program, command, finished};
use super::hosts::command_apart;
use super::{eventually, free_port};

const DEADLINE: Duration = Duration::from_secs(90);

/// A running server with its directory.
pub struct Server {
    /// The program.
    pub program: Program,
    /// Its working directory, with `data` in it.
    pub directory: TempDir,
    /// Where agents and consoles reach it.
    pub at: String,
    arguments: Vec<String>,
    program_of: fn(&Path) -> Command,
}

impl Server {
    /// Starts one with these arguments and returns when it runs.
    pub async fn start(arguments: &[&str]) -> Self {
        Self::start_by(command, arguments).await
    }

    /// The same, that sees no processes of this machine: those of other hosts on it least of all.
    pub async fn start_apart(arguments: &[&str]) -> Self {
        Self::start_by(command_apart, arguments).await
    }

    async fn start_by(program_of: fn(&Path) -> Command, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = format!("127.0.0.1:{}", free_port());
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let program = Self::spawn(program_of(directory.path()), &directory, &at, &arguments).await;
        Self { program, directory, at, arguments, program_of }
    }

    async fn spawn(mut command: Command, directory: &TempDir, at: &str, arguments: &[String]) -> Program {
        // its console's socket, too
        command.env("XDG_RUNTIME_DIR", directory.path());
        command.args(["server", "--web", "off", "--listen", at]).args(arguments);
        let program = Program::start(command);
        program.says("heartwatch server runs").await;
        program
    }

    /// Starts it again after its end, with the same directory and port.
    pub async fn restart(&mut self) {
        let command = (self.program_of)(self.directory.path());
        self.program = Self::spawn(command, &self.directory, &self.at, &self.arguments).await;
    }

    /// Where it listens, for a client that is no program of ours.
    pub fn address(&self) -> SocketAddr {
        self.at.parse().unwrap()
    }

    /// The socket of its console.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join(format!("heartwatch/console-{}.sock", self.address().port()))
    }

    /// A line at its console, said by a program of its own: exit code and JSON.
    pub async fn say(&self, words: &[&str]) -> (i32, Value) {
        let mut arguments = vec!["server"];
        arguments.extend(words);
        let socket = self.socket();
        arguments.extend(["--json", "--socket", socket.to_str().unwrap()]);
        let done = finished(self.directory.path(), &arguments, DEADLINE).await;
        let json = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
        (done.code.unwrap(), json)
    }

    /// The line of what it says of everybody's health whose `key` is `name`; null when there is none.
    pub async fn health_of(&self, list: &str, key: &str, name: &str) -> Value {
        let lines = self.say(&["health"]).await.1[list].as_array().cloned().unwrap_or_default();
        lines.into_iter().find(|line| line[key] == name).unwrap_or_default()
    }

    /// What it says of a node whose lease it has seen; null when it has not.
    pub async fn node(&self, name: &str) -> Value {
        self.health_of("nodes", "node", name).await
    }

    /// What it says of a publisher's health; null when it knows none of this name.
    pub async fn health(&self, publisher: &str) -> Value {
        self.health_of("publishers", "id", publisher).await
    }

    /// Waits until a publisher has this verdict.
    pub async fn until(&self, publisher: &str, verdict: &str) {
        eventually(&format!("{publisher} is {verdict}"), DEADLINE, async || {
            self.health(publisher).await["verdict"] == verdict
        })
        .await;
    }
}
