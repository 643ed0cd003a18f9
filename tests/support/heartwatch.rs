//! The real program, started as a user starts it: own directory, own ports, gone when the test ends in any way.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use heartwatch_adapters::monitor::Monitor;
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::verdict::{Change, Verdict};
use heartwatch_formats::api::{ExplanationView, LedgerView, PublisherView, StatusView};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::Instant;

use super::eventually;
use super::hosts::command_apart;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_heartwatch");
/// How long something that should happen at once may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A file of the repository, wherever the test runs.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// A command of the program in this directory (where no `heartwatch.toml` of somebody else lies), without
/// the variables of whoever runs the tests.
pub fn command(directory: &Path) -> Command {
    command_of(PROGRAM, directory)
}

/// The same with another program, such as one that starts ours.
pub fn command_of(program: &str, directory: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HEARTWATCH_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command.current_dir(directory).stdin(Stdio::null());
    command
}

/// What a finished program has left.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Runs the program to its end in this directory; panics when it takes longer than `within`.
pub async fn finished(directory: &Path, arguments: &[&str], within: Duration) -> Finished {
    let mut command = command(directory);
    command.args(arguments);
    let mut program = Program::start(command);
    let status = program.exit(within).await;
    Finished {
        code: status.code(),
        signal: status.signal(),
        // The pipes are at their end once everybody who holds them has ended.
        stdout: program.whole(|program| &program.stdout).await,
        stderr: program.whole(|program| &program.stderr).await,
    }
}

/// A stream of a running program, read as it comes.
#[derive(Debug, Clone, Default)]
struct Captured(Arc<Mutex<(String, bool)>>);

impl Captured {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let captured = Self::default();
        let into = captured.clone();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stream);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
                into.0.lock().unwrap().0.push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
            into.0.lock().unwrap().1 = true;
        });
        captured
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().0.clone()
    }

    fn is_whole(&self) -> bool {
        self.0.lock().unwrap().1
    }
}

/// A started program. It is killed when this goes out of scope; a failed test prints what it said.
#[derive(Debug)]
pub struct Program {
    child: Child,
    stdout: Captured,
    stderr: Captured,
    name: String,
}

impl Program {
    /// Starts it with its output captured.
    pub fn start(mut command: Command) -> Self {
        let name = command.get_args().take(3).map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = Captured::of(child.stdout.take().unwrap());
        let stderr = Captured::of(child.stderr.take().unwrap());
        Self { child, stdout, stderr, name }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has logged so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends it with SIGKILL and collects it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Whether it has not ended yet. A process that has is collected by this.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end; panics when it takes longer than `within`.
    pub async fn exit(&mut self, within: Duration) -> ExitStatus {
        let end = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "`{}` still runs after {within:?}; it says:\n{}", self.name, self.stderr());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until it has logged this; panics when it has not within [`PATIENCE`].
    pub async fn says(&self, text: &str) {
        eventually(&format!("`{}` says: {text}", self.name), PATIENCE, async || self.stderr().contains(text)).await;
    }

    async fn whole(&self, stream: fn(&Self) -> &Captured) -> String {
        eventually("the output has ended", PATIENCE, async || stream(self).is_whole()).await;
        stream(self).text()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- `{}` (PID {}) said:\n{}{}---", self.name, self.pid(), self.stdout(), self.stderr());
        }
    }
}

/// What a test wants of `heartwatch run`.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// A broker to use instead of the embedded one.
    pub mqtt: Option<String>,
    /// `--deadline`.
    pub deadline: Duration,
    /// The contents of `heartwatch.toml`.
    pub config: String,
    /// More arguments, such as `--influx-url`.
    pub arguments: Vec<String>,
    /// More variables.
    pub environment: Vec<(String, String)>,
    /// How many files it may have open at most.
    pub open_files_max: Option<u64>,
    /// How many it may have open until it raises that itself; all of them where nothing is said.
    pub open_files_soft: Option<u64>,
    /// Whether it sees no processes of this machine but those that it starts: those of other hosts on it least of all.
    pub apart: bool,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            mqtt: None,
            deadline: Duration::from_secs(2),
            config: String::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            open_files_max: None,
            open_files_soft: None,
            apart: false,
        }
    }
}

/// A running `heartwatch run` with its directory: the working directory, with `heartwatch.toml`, and `data` in it.
#[derive(Debug)]
pub struct Running {
    /// The program.
    pub program: Program,
    options: RunOptions,
    directory: TempDir,
    mqtt_url: String,
    page: String,
}

impl Running {
    /// Starts a monitor on free ports and returns when it runs.
    pub async fn start(options: RunOptions) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), options).await
    }

    /// The same in a directory that the test has prepared, with fixtures for its publishers for instance.
    pub async fn start_in(directory: TempDir, options: RunOptions) -> Self {
        std::fs::write(directory.path().join("heartwatch.toml"), &options.config).unwrap();
        let program = Program::start(run_command(directory.path(), &options, "127.0.0.1:0", "127.0.0.1:0"));
        let mut running = Self { program, options, directory, mqtt_url: String::new(), page: String::new() };
        running.wait_until_it_runs().await;
        running
    }

    /// Starts it again after its end, with the same directory and ports.
    pub async fn restart(&mut self) {
        self.program.kill();
        let mqtt = self.mqtt_url.trim_start_matches("mqtt://").to_owned();
        let web = self.page.trim_start_matches("http://").to_owned();
        self.program = Program::start(run_command(self.directory.path(), &self.options, &mqtt, &web));
        self.wait_until_it_runs().await;
    }

    async fn wait_until_it_runs(&mut self) {
        let end = Instant::now() + PATIENCE;
        let line = loop {
            let said = self.program.stderr();
            if let Some(line) = said.lines().find(|line| line.contains("heartwatch runs")) {
                break line.to_owned();
            }
            assert!(self.program.runs(), "`heartwatch run` has ended: {said}");
            assert!(Instant::now() < end, "`heartwatch run` does not run: {said}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let value = |key: &str| {
            let after = line.split(&format!("{key}=\"")).nth(1).unwrap_or_else(|| panic!("no {key} in: {line}"));
            after.split('"').next().unwrap_or_default().to_owned()
        };
        self.mqtt_url = value("broker");
        self.page = value("page");
    }

    /// What it is started with, for its next start.
    pub fn options_mut(&mut self) -> &mut RunOptions {
        &mut self.options
    }

    /// Where its broker is.
    pub fn mqtt_url(&self) -> &str {
        &self.mqtt_url
    }

    /// Where its page is, without a slash at the end.
    pub fn page(&self) -> &str {
        &self.page
    }

    /// Its working directory, with `heartwatch.toml` and `data`.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What asks it over HTTP.
    pub fn monitor(&self) -> Monitor {
        Monitor::at(self.page.parse().unwrap()).unwrap()
    }

    /// `GET /api/status`.
    pub async fn status(&self) -> StatusView {
        self.monitor().status().await.unwrap()
    }

    /// `GET /api/ledger`.
    pub async fn ledger(&self) -> LedgerView {
        self.monitor().ledger().await.unwrap()
    }

    /// `GET /api/events` from the beginning.
    pub async fn changes(&self) -> Vec<Change> {
        self.monitor().changes(0).await.unwrap()
    }

    /// The changes of one publisher as (from, to).
    pub async fn course(&self, publisher: &str) -> Vec<(Verdict, Verdict)> {
        let changes = self.changes().await;
        let of_it = changes.iter().filter(|change| change.publisher.as_str() == publisher);
        of_it.map(|change| (change.from, change.to)).collect()
    }

    /// `GET /api/publishers/ID`.
    pub async fn explain(&self, publisher: &str) -> ExplanationView {
        self.monitor().explain(&PublisherId::parse(publisher).unwrap()).await.unwrap()
    }

    /// One publisher's line of the status, where it is known.
    pub async fn publisher(&self, publisher: &str) -> Option<PublisherView> {
        self.status().await.publishers.into_iter().find(|view| view.id.as_str() == publisher)
    }

    /// Waits until a publisher has this verdict; panics with what it has instead after [`PATIENCE`].
    pub async fn until(&self, publisher: &str, verdict: Verdict) -> PublisherView {
        self.until_publisher(publisher, &format!("{verdict}"), |view| view.verdict == verdict).await
    }

    /// Waits until a publisher's line of the status is as wanted; panics after [`PATIENCE`].
    pub async fn until_publisher(
        &self,
        publisher: &str,
        what: &str,
        wanted: impl Fn(&PublisherView) -> bool,
    ) -> PublisherView {
        let end = Instant::now() + PATIENCE;
        loop {
            let view = self.publisher(publisher).await;
            if let Some(view) = view.clone().filter(&wanted) {
                return view;
            }
            assert!(Instant::now() < end, "{publisher} is not {what}: {view:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn run_command(directory: &Path, options: &RunOptions, mqtt: &str, web: &str) -> Command {
    let mut command = match options.open_files_max {
        Some(most) => {
            let mut shell = command_of("sh", directory);
            let soft = options.open_files_soft.unwrap_or(most);
            shell.args(["-c", &format!("ulimit -Sn {soft} && ulimit -Hn {most} && exec \"$0\" \"$@\""), PROGRAM]);
            shell
        }
        None if options.apart => command_apart(directory),
        None => command(directory),
    };
    command.args(["run", "--web", web, "--deadline", &format!("{}ms", options.deadline.as_millis())]);
    match &options.mqtt {
        Some(url) => command.args(["--mqtt", url]),
        None => command.args(["--mqtt-listen", mqtt]),
    };
    command.args(&options.arguments).envs(options.environment.iter().map(|(name, value)| (name, value)));
    command
}

/// The command of a publisher that reads `fixtures/light-1.csv` every 50 ms and beats every 200 ms, with
/// its outbox in `directory`.
pub fn publish_command(directory: &Path, id: &str, mqtt_url: &str) -> Command {
    let mut command = command(directory);
    command.args(["publish", "--id", id, "--mqtt", mqtt_url, "--interval", "50ms", "--heartbeat", "200ms"]);
    command.arg("--csv").arg(fixture("light-1.csv")).arg("--data-dir").arg(directory.join("data"));
    command
}

/// Starts such a publisher.
pub fn publish(directory: &Path, id: &str, mqtt_url: &str) -> Program {
    Program::start(publish_command(directory, id, mqtt_url))
}

/// The processes that this one has started and that have not ended.
pub fn children_of(pid: u32) -> Vec<u32> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if stat(child).is_some_and(|(state, parent)| parent == pid && state != 'Z') {
            children.push(child);
        }
    }
    children
}

/// Whether a process works no more. A zombie does not: whoever should collect it may take long.
pub fn has_ended(pid: u32) -> bool {
    stat(pid).is_none_or(|(state, _)| matches!(state, 'Z' | 'X'))
}

/// State and parent (proc_pid_stat(5)); none when there is no such process.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it is in parentheses and may hold any character.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}

/// Waits until all of these have ended; panics after [`PATIENCE`].
pub async fn all_ended(pids: &[u32]) {
    eventually(&format!("{pids:?} have ended"), PATIENCE, async || pids.iter().all(|pid| has_ended(*pid))).await;
}

/// Sends a signal to a process that is not ours to collect: a child of a program under test.
pub fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}
