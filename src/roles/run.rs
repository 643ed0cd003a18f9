//! `heartwatch run`: the monitor, until a signal or a failure ends it.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::level_filters::LevelFilter;

use crate::config::{Layers, Loaded, load};
use crate::roles::cli::RunArgs;
use crate::roles::pipeline;
use crate::roles::reload::{ReloadOutcome, reload};
use heartwatch_system::descriptors;
use heartwatch_system::signals::Request;

/// Why the monitor leaves its loop.
enum End {
    /// It was asked to.
    Asked,
    /// A new configuration replaces everything.
    StartAgain,
    /// Something that it cannot do without has failed.
    Failed(String),
}

/// How long a start waits for its own broker at most, before it says that it runs.
const HEARS_WITHIN: Duration = Duration::from_secs(2);

/// Runs the monitor; the answer is the exit code. `set_level` changes what is logged.
///
/// # Errors
/// When a part cannot start, with what to do about it.
pub(super) async fn run(
    args: &RunArgs,
    loaded: Loaded,
    mut requests: mpsc::Receiver<Request>,
    set_level: impl Fn(LevelFilter),
) -> anyhow::Result<u8> {
    let Loaded { mut settings, notes } = loaded;
    for note in notes {
        tracing::warn!("{note}");
    }
    descriptors::raise();
    let mut pipeline = pipeline::start(&settings).await?;
    pipeline.until_it_hears(HEARS_WITHIN).await;
    let page = pipeline.page.clone().unwrap_or_else(|| "off".to_owned());
    tracing::info!(
        broker = pipeline.mqtt_url,
        page,
        data_dir = %settings.data_dir.display(),
        influx = settings.influx.as_ref().map_or("none: rows stay in the embedded store", |influx| influx.url.as_str()),
        deadline_ms = settings.deadlines.default.as_millis(),
        "heartwatch runs"
    );
    pipeline.service_manager.ready();
    let end = loop {
        tokio::select! {
            request = requests.recv() => match request {
                Some(Request::Reload) => {
                    pipeline.service_manager.reloading();
                    let layers = Layers::of_this_process(args.config.clone(), args.overrides());
                    match load(&layers) {
                        Ok(new) => match reload(&mut settings, &new.settings, &mut pipeline, &set_level).await {
                            ReloadOutcome::Running => {}
                            ReloadOutcome::StartAgain => break End::StartAgain,
                        },
                        Err(mistakes) => {
                            tracing::error!("the new configuration is wrong, the old one stays:\n{mistakes}");
                        }
                    }
                    pipeline.service_manager.ready();
                }
                Some(Request::Stop) | None => break End::Asked,
            },
            reason = pipeline.failed() => break End::Failed(reason),
        }
    };
    match &end {
        End::Asked => tracing::info!(grace_ms = settings.grace.as_millis(), "stopping; a second signal ends at once"),
        End::StartAgain => tracing::info!("stopping, to start again with the new configuration"),
        End::Failed(reason) => tracing::error!(reason, "stopping, because the monitor cannot go on"),
    }
    if !matches!(end, End::StartAgain) {
        pipeline.service_manager.stopping();
    }
    let program = pipeline.feeds.program.clone();
    let stragglers = pipeline.stop(settings.grace).await;
    if !stragglers.is_empty() {
        tracing::warn!(?stragglers, "not done within the grace period; what they held is on disk");
    }
    match end {
        End::Asked => {
            tracing::info!("heartwatch has stopped");
            Ok(0)
        }
        // The embedded broker has no end but that of the process: the same PID, as a new program.
        End::StartAgain => {
            let error = Command::new(&program).args(std::env::args_os().skip(1)).exec();
            anyhow::bail!("cannot start {} again: {error}", program.display())
        }
        End::Failed(reason) => anyhow::bail!("{reason}; the rows are safe in {}", settings.data_dir.display()),
    }
}
