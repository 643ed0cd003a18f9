//! A real etcd for a test, of one member or three: own ports, own directory, gone when the test ends in any way.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use heartwatch_servers::etcd::{self, PROGRAM};
use heartwatch_servers::server::Server;
use tempfile::TempDir;
use url::Url;

use super::{eventually, found, installed};

/// Its own command line client, for what only another program should be asked.
pub const CTL: &str = "/usr/bin/etcdctl";

/// A running etcd.
#[derive(Debug)]
pub struct Etcd {
    dir: TempDir,
    /// Of the user `root`, once etcd asks for a login.
    root_password: Option<String>,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    server: Server,
    stopped: Cell<bool>,
    scheme: &'static str,
}

impl Etcd {
    /// Starts one with so many members; `None` (already said) where etcd isn't installed.
    pub async fn start(members: usize) -> Option<Self> {
        Self::start_as(members, "http").await
    }

    /// Starts one of one member with TLS for its clients; its authority is [`ca_file`](Self::ca_file).
    pub async fn start_with_tls() -> Option<Self> {
        if !installed("openssl") {
            return None;
        }
        Self::start_as(1, "https").await
    }

    /// Has it ask for a login, with this password for the user `root`.
    pub fn ask_for_login(&mut self, password: &str) {
        self.ctl(&["user", "add", &format!("root:{password}")]);
        self.ctl(&["user", "grant-role", "root", "root"]);
        self.ctl(&["auth", "enable"]);
        self.root_password = Some(password.to_owned());
    }

    /// Whom to trust with TLS.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    async fn start_as(members: usize, scheme: &'static str) -> Option<Self> {
        let program = found(PROGRAM)?;
        let dir = tempfile::tempdir().unwrap();
        let servers = etcd::etcd(&program, dir.path(), members, scheme == "https").unwrap();
        let member = |server| Member { server, stopped: Cell::new(false), scheme };
        let members_of_it = servers.into_iter().map(member).collect();
        let mut etcd = Self { dir, root_password: None, members: members_of_it };
        for member in &mut etcd.members {
            member.server.spawn().unwrap();
        }
        for member in 0..members {
            etcd.until_healthy(member).await;
        }
        Some(etcd)
    }

    /// Where each member answers.
    pub fn urls(&self) -> Vec<Url> {
        self.members.iter().map(|member| member.url().parse().unwrap()).collect()
    }

    /// The same for a command line.
    pub fn endpoints(&self) -> String {
        self.members.iter().map(Member::url).collect::<Vec<_>>().join(",")
    }

    /// Ends a member with SIGKILL.
    pub fn kill(&mut self, member: usize) {
        self.members[member].server.kill();
        self.members[member].stopped.set(false);
    }

    /// Starts a member again, with what it had on disk.
    pub async fn restart(&mut self, member: usize) {
        self.kill(member);
        self.members[member].server.spawn().unwrap();
        self.until_healthy(member).await;
    }

    /// SIGSTOP: its connections stay, it answers nothing.
    pub fn pause(&self, member: usize) {
        self.members[member].stopped.set(true);
        self.members[member].server.stop().unwrap();
    }

    /// SIGCONT.
    pub fn resume(&self, member: usize) {
        self.members[member].stopped.set(false);
        self.members[member].server.resume().unwrap();
    }

    /// Which member leads.
    pub async fn leader(&self) -> usize {
        for (index, member) in self.members.iter().enumerate().filter(|(_, member)| member.server.running.is_some()) {
            if member.stopped.get() {
                continue;
            }
            let text = self.ctl(&["endpoint", "status", "-w", "json"]);
            let statuses: serde_json::Value = serde_json::from_str(&text).unwrap();
            let of_this = |status: &&serde_json::Value| status["Endpoint"] == member.url();
            let status = &statuses.as_array().unwrap().iter().find(of_this).unwrap()["Status"];
            if status["leader"] == status["header"]["member_id"] {
                return index;
            }
        }
        panic!("no member of etcd leads");
    }

    /// What etcd's own client says, asked of all members that run.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let output = self.run_ctl(arguments);
        assert!(output.status.success(), "etcdctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Writes a value, if a majority can.
    pub fn try_put(&self, key: &str, value: &str) -> bool {
        self.run_ctl(&["put", key, value, "--command-timeout", "2s"]).status.success()
    }

    fn run_ctl(&self, arguments: &[&str]) -> std::process::Output {
        let mut ctl = Command::new(CTL);
        ctl.env("ETCDCTL_API", "3").args(arguments).args(["--endpoints", &self.running()]);
        if self.members[0].scheme == "https" {
            ctl.arg("--cacert").arg(self.ca_file());
        }
        if let Some(password) = &self.root_password {
            ctl.args(["--user", "root", "--password", password]);
        }
        ctl.output().unwrap()
    }

    /// The value of a key, empty where there is none.
    pub fn get(&self, key: &str) -> String {
        let output = self.run_ctl(&["get", key, "--print-value-only"]);
        // While the members choose a leader there is no answer: whoever waits for a value asks again.
        let said = if output.status.success() { output.stdout } else { output.stderr };
        String::from_utf8_lossy(&said).trim().to_owned()
    }

    /// Writes a value.
    pub fn put(&self, key: &str, value: &str) {
        self.ctl(&["put", key, value]);
    }

    /// The members that can answer.
    fn running(&self) -> String {
        let running = self.members.iter().filter(|member| member.server.running.is_some() && !member.stopped.get());
        running.map(Member::url).collect::<Vec<_>>().join(",")
    }

    async fn until_healthy(&self, index: usize) {
        let member = &self.members[index];
        let health = format!("{}/health", member.url());
        heartwatch_system::rustls_provider::install();
        let mut client = reqwest::Client::builder().timeout(Duration::from_secs(2)).no_proxy();
        if member.scheme == "https" {
            let authority = reqwest::Certificate::from_pem(&fs::read(self.ca_file()).unwrap()).unwrap();
            client = client.tls_certs_only([authority]);
        }
        let client = client.build().unwrap();
        eventually(&format!("etcd's {} is healthy", member.server.name), Duration::from_secs(60), async || {
            let Ok(answer) = client.get(&health).send().await else { return false };
            answer.text().await.is_ok_and(|text| text.contains("true"))
        })
        .await;
    }
}

impl Member {
    fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.server.address())
    }
}
