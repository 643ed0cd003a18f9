//! `completions`, `man`: what is made once, when the program is installed.

use std::io::{self, Write as _};

use clap::CommandFactory as _;

use crate::roles::cli::{Cli, CompletionsArgs, ManArgs};

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
