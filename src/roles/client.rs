//! `status`, `explain`, `events`, `ledger`: what a running monitor says.

use std::io::Write;

use anyhow::Context as _;
use futures_util::StreamExt;

use crate::roles::cli::{AskArgs, EventsArgs, ExplainArgs, MaintenanceArgs};
use heartwatch_adapters::monitor::Monitor;
use heartwatch_console::change_line;
use heartwatch_console::{drawing, tables};
use heartwatch_formats::api::{BeginMaintenance, EndMaintenance};
use heartwatch_system::clock::Clock;
use heartwatch_system::private_files::readable_by_everybody;

/// Wait between two attempts to reach a monitor that went away under `events --follow`.
const RECONNECT_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// The monitor of the arguments, with the token that they or the environment name.
///
/// # Errors
/// When the token's file cannot be read.
pub(super) fn monitor(args: &AskArgs) -> anyhow::Result<Monitor> {
    if let Some(what) = args.token_file.as_deref().and_then(readable_by_everybody) {
        tracing::warn!("{what}");
    }
    let token = match (&args.token_file, std::env::var("HEARTWATCH_TOKEN")) {
        (Some(file), _) => Some(
            std::fs::read_to_string(file).with_context(|| format!("cannot read the token file {}", file.display()))?,
        ),
        (None, Ok(token)) if !token.is_empty() => Some(token),
        (None, _) => None,
    };
    Ok(Monitor::at(args.url.clone())?.with_token(token.map(|token| token.trim().to_owned())))
}

pub(super) fn print_json<T: serde::Serialize>(view: &T) -> anyhow::Result<()> {
    println_to_stdout(&serde_json::to_string(view)?)
}

/// Like `println!`, but a reader that has gone away (`| head`) is an error, not a panic.
pub(super) fn println_to_stdout(text: &str) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

/// `heartwatch status`.
///
/// # Errors
/// When no monitor answers.
pub(super) async fn status(args: &AskArgs) -> anyhow::Result<u8> {
    let view = monitor(args)?.status().await?;
    if args.json {
        print_json(&view)?;
    } else {
        println_to_stdout(tables::status(&view, Clock::start().wall(), drawing()).trim_end())?;
    }
    Ok(0)
}

/// `heartwatch explain ID`.
///
/// # Errors
/// When no monitor answers, or it does not know the publisher.
pub(super) async fn explain(args: &ExplainArgs) -> anyhow::Result<u8> {
    let view = monitor(&args.ask)?.explain(&args.publisher).await?;
    if args.ask.json {
        print_json(&view)?;
    } else {
        println_to_stdout(tables::explanation(&view, Clock::start().wall()).trim_end())?;
    }
    Ok(0)
}

/// `heartwatch maintenance`.
///
/// # Errors
/// When no monitor answers, or it refuses; when a window of a pattern is to be ended and there is none.
pub(super) async fn maintenance(args: &MaintenanceArgs) -> anyhow::Result<u8> {
    let monitor = monitor(&args.ask)?;
    let view = match (&args.publisher, args.lasts) {
        (Some(publisher), Some(lasts)) => {
            let minutes = lasts.as_secs().div_ceil(60);
            let window = BeginMaintenance { publisher: publisher.clone(), minutes, reason: args.reason.clone() };
            monitor.begin_maintenance(&window).await?
        }
        (Some(publisher), None) if args.end => {
            let ended = monitor.end_maintenance(&EndMaintenance { publisher: publisher.clone() }).await?;
            anyhow::ensure!(
                ended.ended > 0,
                "no window was opened for '{publisher}': `heartwatch maintenance` lists them"
            );
            ended
        }
        (Some(publisher), None) => anyhow::bail!("for how long is '{publisher}' in maintenance? --for 2h, or --end"),
        (None, _) => monitor.maintenance().await?,
    };
    if args.ask.json {
        print_json(&view)?;
    } else {
        println_to_stdout(tables::maintenance(&view).trim_end())?;
    }
    Ok(0)
}

/// `heartwatch ledger`.
///
/// # Errors
/// When no monitor answers.
pub(super) async fn ledger(args: &AskArgs) -> anyhow::Result<u8> {
    let view = monitor(args)?.ledger().await?;
    if args.json {
        print_json(&view)?;
    } else {
        println_to_stdout(tables::ledger(&view, drawing()).trim_end())?;
    }
    Ok(0)
}

/// `heartwatch events`, with `--follow` until the reader goes away.
///
/// # Errors
/// When no monitor answers at the start.
pub(super) async fn events(args: &EventsArgs) -> anyhow::Result<u8> {
    let monitor = monitor(&args.ask)?;
    let print = |change: &heartwatch_domain::verdict::Change| {
        if args.ask.json { print_json(change) } else { println_to_stdout(&change_line::line(change)) }
    };
    let (mut epoch, mut is_following) = (0, false);
    loop {
        // also after a break: a stream begins with the first changes of those that were missed, not with all
        match monitor.changes(epoch).await {
            Ok(past) => {
                past.iter().try_for_each(print)?;
                if let Some(last) = past.last() {
                    epoch = last.epoch;
                    continue;
                }
            }
            Err(error) if !is_following => return Err(error.into()),
            Err(error) => tracing::debug!(%error, "the monitor is not there"),
        }
        if !args.follow {
            return Ok(0);
        }
        is_following = true;
        match monitor.follow(epoch).await {
            Ok(changes) => {
                let mut changes = std::pin::pin!(changes);
                while let Some(change) = changes.next().await {
                    epoch = epoch.max(change.epoch);
                    print(&change)?;
                }
                tracing::warn!("the monitor has gone away, or changes came too fast; asking for what was missed");
            }
            Err(error) => tracing::debug!(%error, "the monitor is not there"),
        }
        tokio::time::sleep(RECONNECT_EVERY).await;
    }
}
