//! `web-user`, `mqtt-user`: the line of a users file.

use std::io::{self, IsTerminal as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use heartwatch_formats::users::{UserRole, user_line};

/// Asks for a password and prints the line of a users file.
///
/// # Errors
/// When the name or the password cannot be used.
pub(super) fn print(name: &str, role: impl UserRole) -> anyhow::Result<u8> {
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
