//! Lines from a terminal, with history and completion, on a thread of their own: a person is slow.
//!
//! While a line is edited the terminal is in raw mode, and a program that ends then leaves it so. So the thread asks
//! for no line behind the last one, and who reads lines holds a [`Restore`] until the program's end.

use std::path::PathBuf;
use std::sync::Arc;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{Context, Editor, Helper};
use tokio::sync::{mpsc, oneshot};

use heartwatch_console::prompt::completions;

/// Lines of history that are kept.
const HISTORY_LINES_MAX: usize = 1_000;

/// A line. The next one is asked for when this one is done with; none any more when it is only dropped.
pub(super) struct TypedLine {
    /// What was typed.
    pub text: String,
    done: oneshot::Sender<()>,
}

impl TypedLine {
    /// It was answered.
    pub(super) fn done(self) {
        let _ = self.done.send(());
    }
}

/// Puts the terminal back as it was, when it is dropped.
pub(super) struct Restore(Option<Termios>);

impl Restore {
    /// Remembers how it is now.
    fn as_it_is() -> Self {
        Self(tcgetattr(std::io::stdin()).ok())
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        if let Some(before) = &self.0
            && let Err(error) = tcsetattr(std::io::stdin(), OptionalActions::Now, before)
        {
            tracing::warn!(%error, "the terminal stays as the console has left it; 'reset' puts it right");
        }
    }
}

type Clients = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

struct Words {
    words: &'static [&'static str],
    clients: Clients,
}

impl Completer for Words {
    type Candidate = String;
    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let before = line.get(..position).unwrap_or(line);
        let begin = before.rfind(char::is_whitespace).map_or(0, |at| at + 1);
        Ok((begin, completions(before, self.words, &(self.clients)())))
    }
}

impl Hinter for Words {
    type Hint = String;
}
impl Highlighter for Words {}
impl Validator for Words {}
impl Helper for Words {}

/// Reads lines until the end of the input, or until one is dropped; then the channel ends. History is kept in a file.
pub(super) fn read(
    prompt: &'static str,
    words: &'static [&'static str],
    history: PathBuf,
    clients: impl Fn() -> Vec<String> + Send + Sync + 'static,
) -> (mpsc::Receiver<TypedLine>, Restore) {
    let restore = Restore::as_it_is();
    let (lines, lines_end) = mpsc::channel(1);
    let clients: Clients = Arc::new(clients);
    let spawned = std::thread::Builder::new().name("console".to_owned()).spawn(move || {
        if let Err(error) = edit(prompt, Words { words, clients }, &history, &lines) {
            tracing::warn!(%error, "the console has ended");
        }
    });
    if let Err(error) = spawned {
        tracing::warn!(%error, "there is no console");
    }
    (lines_end, restore)
}

fn edit(prompt: &str, words: Words, history: &PathBuf, lines: &mpsc::Sender<TypedLine>) -> rustyline::Result<()> {
    let config = rustyline::Config::builder().max_history_size(HISTORY_LINES_MAX)?.auto_add_history(true).build();
    let mut editor: Editor<Words, FileHistory> = Editor::with_config(config)?;
    editor.set_helper(Some(words));
    // There is none yet the first time.
    let _ = editor.load_history(history);
    loop {
        let text = match editor.readline(prompt) {
            Ok(text) => text,
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => return Ok(()),
            Err(error) => return Err(error),
        };
        let _ = editor.save_history(history);
        let (done, answered) = oneshot::channel();
        if lines.blocking_send(TypedLine { text, done }).is_err() {
            return Ok(());
        }
        if answered.blocking_recv().is_err() {
            return Ok(());
        }
    }
}
