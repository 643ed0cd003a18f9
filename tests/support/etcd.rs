//! A real etcd for a test, of one member or three: own ports, own directory, gone when the test ends in any way.

use std::cell::Cell;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use url::Url;

use super::mosquitto::authority;
use super::{eventually, free_port, installed};

const OPENSSL: &str = "/usr/bin/openssl";
const PROGRAM: &str = "/usr/bin/etcd";

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
    name: String,
    client_port: u16,
    peer_port: u16,
    child: Option<Child>,
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
        if !installed(OPENSSL) {
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
        if !installed(PROGRAM) {
            return None;
        }
        let member = |number| Member {
            name: format!("n{number}"),
            client_port: free_port(),
            peer_port: free_port(),
            child: None,
            stopped: Cell::new(false),
            scheme,
        };
        let members_of_it = (1..=members).map(member).collect();
        let mut etcd = Self { dir: tempfile::tempdir().unwrap(), root_password: None, members: members_of_it };
        if scheme == "https" {
            authority(etcd.dir.path());
        }
        for member in 0..members {
            etcd.spawn(member);
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
        if let Some(mut child) = self.members[member].child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        self.members[member].stopped.set(false);
    }

    /// Starts a member again, with what it had on disk.
    pub async fn restart(&mut self, member: usize) {
        self.kill(member);
        self.spawn(member);
        self.until_healthy(member).await;
    }

    /// SIGSTOP: its connections stay, it answers nothing.
    pub fn pause(&self, member: usize) {
        self.members[member].stopped.set(true);
        super::stop(self.members[member].child.as_ref().expect("it runs"));
    }

    /// SIGCONT.
    pub fn resume(&self, member: usize) {
        self.members[member].stopped.set(false);
        self.signal(member, Signal::CONT);
    }

    /// Which member leads.
    pub async fn leader(&self) -> usize {
        for (index, member) in self.members.iter().enumerate().filter(|(_, member)| member.child.is_some()) {
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
        let running = self.members.iter().filter(|member| member.child.is_some() && !member.stopped.get());
        running.map(Member::url).collect::<Vec<_>>().join(",")
    }

    fn signal(&self, member: usize, signal: Signal) {
        let child = self.members[member].child.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    fn spawn(&mut self, index: usize) {
        let cluster: Vec<_> =
            self.members.iter().map(|member| format!("{}={}", member.name, member.peer_url())).collect();
        let dir = self.dir.path().to_owned();
        let member = &mut self.members[index];
        let log = fs::File::options().create(true).append(true).open(dir.join(format!("{}.log", member.name))).unwrap();
        let child = Command::new(PROGRAM)
            .args(["--name", &member.name, "--initial-cluster-state", "new", "--logger", "zap"])
            .arg("--data-dir")
            .arg(dir.join(&member.name))
            .args(["--listen-client-urls", &member.url(), "--advertise-client-urls", &member.url()])
            .args(["--listen-peer-urls", &member.peer_url(), "--initial-advertise-peer-urls", &member.peer_url()])
            .args(["--initial-cluster", &cluster.join(",")])
            .args(member.tls_arguments(&dir))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        member.child = Some(child);
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
        eventually(&format!("etcd's {} is healthy", member.name), Duration::from_secs(60), async || {
            let Ok(answer) = client.get(&health).send().await else { return false };
            answer.text().await.is_ok_and(|text| text.contains("true"))
        })
        .await;
    }
}

impl Member {
    fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.client_port)
    }

    fn tls_arguments(&self, dir: &Path) -> Vec<OsString> {
        if self.scheme == "http" {
            return Vec::new();
        }
        vec!["--cert-file".into(), dir.join("server.pem").into(), "--key-file".into(), dir.join("server.key").into()]
    }

    fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(child) = &mut member.child {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}
