//! A local command that gets the JSON of a message on its standard input.
//!
//! It runs in a process group of its own, within a time limit; at the limit the whole group is killed,
//! so that what a script has started ends with it. Exit code 0 is a delivery, anything else is tried
//! again. What it writes to standard error is in the reason.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command as Program};

use heartwatch_formats::notification::NotifyMessage;
use heartwatch_ports::{BoxFuture, Notify, NotifyError};
use heartwatch_system::parent_death::tie_to_this_thread;

/// How much of standard error is kept, in bytes.
const WORDS_BYTES_MAX: usize = 4 * 1024;
/// How much of it is repeated, in characters.
const WORDS_CHARS_MAX: usize = 200;
/// How long the output of a command that has ended is still waited for: something else may hold it open.
const WORDS_TIMEOUT: Duration = Duration::from_millis(100);

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandConfig {
    /// The program; without a `/` it is looked for in `PATH`.
    pub program: PathBuf,
    /// Given to it as they are: no shell reads them.
    pub arguments: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
}

/// A local command.
#[derive(Debug, Clone)]
pub struct CommandNotifier {
    config: CommandConfig,
}

impl CommandNotifier {
    /// A command; nothing runs yet.
    #[must_use]
    pub const fn new(config: CommandConfig) -> Self {
        Self { config }
    }

    async fn run(&self, message: &NotifyMessage) -> Result<(), NotifyError> {
        let config = &self.config;
        let mut program = Program::new(&config.program);
        program
            .args(&config.arguments)
            .env("HEARTWATCH_DELIVERY", &message.id)
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        tie_to_this_thread(program.as_std_mut());
        let name = config.program.display();
        let retry = |reason| NotifyError::Retry { reason, retry_after: None };
        let child = program.spawn().map_err(|error| retry(format!("{name} cannot be started: {error}")))?;
        let mut group = Group { id: child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) };
        let Ok(end) = tokio::time::timeout(config.timeout, converse(child, &message.json)).await else {
            group.kill();
            let seconds = config.timeout.as_secs_f32();
            return Err(retry(format!("{name} had not ended after {seconds} s and was killed")));
        };
        let (status, words) = end.map_err(|error| retry(format!("{name} cannot be waited for: {error}")))?;
        if status.success() {
            // What it leaves running on purpose may stay.
            group.id = None;
            return Ok(());
        }
        let words = if words.is_empty() { String::new() } else { format!(": {words}") };
        Err(retry(format!("{name} ended with {status}{words}")))
    }
}

impl Notify for CommandNotifier {
    fn kind(&self) -> &'static str {
        "command"
    }

    fn deliver<'a>(&'a self, message: &'a NotifyMessage) -> BoxFuture<'a, Result<(), NotifyError>> {
        Box::pin(self.run(message))
    }
}

/// The command and what it has started; killed when this is dropped before its end in order.
struct Group {
    id: Option<Pid>,
}

impl Group {
    fn kill(&mut self) {
        if let Some(id) = self.id.take() {
            // An error: nobody is left in it.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Gives the command its input, waits for its end, and returns what it complained about.
async fn converse(mut child: Child, input: &[u8]) -> std::io::Result<(std::process::ExitStatus, String)> {
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let give = async {
        if let Some(mut stdin) = stdin {
            // One that does not read is free to do so.
            let _ = stdin.write_all(input).await;
            let _ = stdin.write_all(b"\n").await;
        }
    };
    let mut words = Vec::new();
    let status = {
        let hear = hear(stderr, &mut words);
        let mut hear = std::pin::pin!(hear);
        let end = async { tokio::join!(give, child.wait()).1 };
        let mut end = std::pin::pin!(end);
        tokio::select! {
            status = &mut end => {
                let _ = tokio::time::timeout(WORDS_TIMEOUT, hear).await;
                status
            }
            () = &mut hear => end.await,
        }?
    };
    let text = String::from_utf8_lossy(&words);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok((status, line.chars().filter(|c| !c.is_control()).take(WORDS_CHARS_MAX).collect()))
}

/// Reads all of it, so that the writer is never held up, and keeps the beginning.
async fn hear(stderr: Option<tokio::process::ChildStderr>, words: &mut Vec<u8>) {
    let Some(mut stderr) = stderr else { return };
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = stderr.read(&mut buffer).await {
        let room = WORDS_BYTES_MAX.saturating_sub(words.len());
        words.extend(buffer.iter().take(length.min(room)));
    }
}
