//! The command line, and the exit codes: the only place that knows them.

use std::process::ExitCode;

use clap::Parser;
use clap::error::ContextValue;
use heartwatch::config::Diagnostics;
use heartwatch::roles::check::EXIT_CONFIG;
use heartwatch::roles::cli::Cli;
use heartwatch::roles::start::start;
use heartwatch_formats::values::without_secrets;

/// The exit code of something that failed.
const EXIT_FAILED: u8 = 1;

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| without_passwords(error).exit());
    let code = match start(cli.command) {
        Ok(code) => code,
        Err(error) if error.is::<Diagnostics>() => {
            eprintln!("{error}");
            EXIT_CONFIG
        }
        Err(error) if is_broken_pipe(&error) => 0,
        Err(error) => {
            eprintln!("heartwatch: {}", said_once(&error));
            EXIT_FAILED
        }
    };
    ExitCode::from(code)
}

/// A mistake of the command line, which repeats a wrong value, without a password that stands in it.
fn without_passwords(mut error: clap::Error) -> clap::Error {
    let values: Vec<_> = error
        .context()
        .filter_map(|(kind, value)| match value {
            ContextValue::String(text) if text.contains("://") || text.contains('@') || text.contains("%40") => {
                Some((kind, ContextValue::String(without_secrets(text))))
            }
            _ => None,
        })
        .collect();
    for (kind, value) in values {
        error.insert(kind, value);
    }
    error
}

/// The error with its causes, without those that it has already told in its own words.
fn said_once(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |mut said, cause| {
        let cause = cause.to_string();
        if !said.contains(&cause) {
            if !said.is_empty() {
                said.push_str(": ");
            }
            said.push_str(&cause);
        }
        said
    })
}

/// A reader that has read enough (`heartwatch status | head -1`) is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
