//! `completions`, `man`, `web-user`: what is made once, when the program is installed.

use std::io::{self, IsTerminal as _, Write as _};

use clap::CommandFactory as _;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::roles::cli::{Cli, CompletionsArgs, ManArgs};
use heartwatch_formats::users::{UserRole, user_line};

/// Prints the completions of a shell.
///
/// # Errors
/// When standard output cannot be written.
pub(super) fn completions(args: &CompletionsArgs) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "heartwatch", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(0)
}

/// Prints a manual page (roff): of the program, or of one of its commands.
///
/// # Errors
/// When there is no such command, or standard output cannot be written.
pub(super) fn man(args: &ManArgs) -> anyhow::Result<u8> {
    let mut command = Cli::command();
    // gives the commands their whole names: heartwatch-run
    command.build();
    let wanted = match &args.command {
        None => command,
        Some(name) => match command.find_subcommand(name).filter(|found| !found.is_hide_set()) {
            Some(found) => found.clone(),
            None => anyhow::bail!("there is no command '{name}': `heartwatch help` lists them"),
        },
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(wanted).render(&mut page)?;
    io::stdout().lock().write_all(&page)?;
    Ok(0)
}

/// Asks for a password and prints the line of a users file.
///
/// # Errors
/// When the name or the password cannot be used.
pub(super) fn user(name: &str, role: impl UserRole) -> anyhow::Result<u8> {
    let password = if io::stdin().is_terminal() {
        let first = asked("Password: ")?;
        anyhow::ensure!(first == asked("Again: ")?, "the two passwords differ");
        first
    } else {
        line()?
    };
    let line = user_line(name, role, &password).map_err(anyhow::Error::msg)?;
    writeln!(io::stdout().lock(), "{line}")?;
    Ok(0)
}

/// Asks on the terminal and does not show what is typed.
fn asked(words: &str) -> anyhow::Result<String> {
    let terminal = io::stdin();
    let shown = tcgetattr(&terminal)?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    eprint!("{words}");
    io::stderr().flush()?;
    tcsetattr(&terminal, OptionalActions::Flush, &hidden)?;
    let typed = line();
    tcsetattr(&terminal, OptionalActions::Flush, &shown)?;
    eprintln!();
    typed
}

fn line() -> anyhow::Result<String> {
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
