//! `heartwatch backup`, `heartwatch restore`: a copy of the data directory, and back.

use std::io::IsTerminal as _;

use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget};

use crate::config::Settings;
use crate::roles::cli::{BackupArgs, RestoreArgs};
use heartwatch_domain::time::Timestamp;
use heartwatch_store::backup;
use heartwatch_system::clock::Clock;

/// Copies the data directory, also while a monitor uses it; the answer is the exit code.
///
/// # Errors
/// When something cannot be read or written.
pub(super) fn backup(args: &BackupArgs, settings: &Settings) -> anyhow::Result<u8> {
    let progress = if std::io::stderr().is_terminal() {
        ProgressBar::new_spinner()
    } else {
        ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden())
    };
    let made = now().to_string();
    let list = backup::backup(&settings.data_dir, &args.to, (env!("CARGO_PKG_VERSION"), &made), &mut |name, bytes| {
        progress.set_message(format!("{name} ({})", BinaryBytes(bytes)));
        progress.tick();
    })?;
    progress.finish_and_clear();
    let bytes: u64 = list.files.values().map(|file| file.bytes).sum();
    anstream::println!(
        "{} files, {}, of {} are in {}. Put it back with `heartwatch restore {}`.",
        list.files.len(),
        BinaryBytes(bytes),
        settings.data_dir.display(),
        args.to.display(),
        args.to.display()
    );
    Ok(0)
}

/// Puts a copy back as the data directory; the answer is the exit code.
///
/// # Errors
/// When the copy is not whole, or somebody uses the data directory.
pub(super) fn restore(args: &RestoreArgs, settings: &Settings) -> anyhow::Result<u8> {
    let suffix = format!("before-restore-{}", now().as_nanos() / 1_000_000_000);
    let (list, aside) = backup::restore(&args.from, &settings.data_dir, &suffix)?;
    anstream::println!("{} is what it was at {}: {} files.", settings.data_dir.display(), list.made, list.files.len());
    if let Some(aside) = aside {
        anstream::println!("What was there is in {}.", aside.display());
    }
    anstream::println!(
        "Readings that were confirmed after that are named lost by `heartwatch ledger`, unless InfluxDB has them."
    );
    Ok(0)
}

fn now() -> Timestamp {
    Clock::start().wall()
}
