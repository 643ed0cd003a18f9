//! `heartwatch run`: the monitor, until a signal or a failure ends it.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::config::{Changed, Layers, Loaded, Settings, changes, load};
use crate::roles::cli::RunArgs;
use crate::roles::pipeline::{self, Pipeline};
use crate::runtime::signals::Request;

/// How long a publisher that a reload removes may take to end.
const REMOVED_GRACE: Duration = Duration::from_secs(5);

/// Runs the monitor; the answer is the exit code.
///
/// # Errors
/// When a part cannot start, with what to do about it.
pub async fn run(args: &RunArgs, loaded: Loaded, mut requests: mpsc::Receiver<Request>) -> anyhow::Result<u8> {
    let Loaded { mut settings, notes } = loaded;
    for note in notes {
        tracing::warn!("{note}");
    }
    let mut pipeline = pipeline::start(&settings).await?;
    let page = pipeline.page.clone().unwrap_or_else(|| "off".to_owned());
    tracing::info!(
        broker = pipeline.mqtt_url,
        page,
        data_dir = %settings.data_dir.display(),
        influx = settings.influx.url.as_ref().map_or("none: rows stay in the embedded store", |url| url.as_str()),
        deadline_ms = settings.watch.deadlines.default.as_millis(),
        "heartwatch runs"
    );
    pipeline.service_manager.ready();
    let failure = loop {
        tokio::select! {
            request = requests.recv() => match request {
                Some(Request::Reload) => {
                    pipeline.service_manager.reloading();
                    reload(args, &mut settings, &mut pipeline).await;
                    pipeline.service_manager.ready();
                }
                Some(Request::Stop) | None => break None,
            },
            reason = pipeline.failed() => break Some(reason),
        }
    };
    pipeline.service_manager.stopping();
    match &failure {
        None => tracing::info!(grace_ms = settings.grace.as_millis(), "stopping; a second signal ends at once"),
        Some(reason) => tracing::error!(reason, "stopping, because the monitor cannot go on"),
    }
    let stragglers = pipeline.stop(settings.grace).await;
    if !stragglers.is_empty() {
        tracing::warn!(?stragglers, "not done within the grace period; what they held is on disk");
    }
    match failure {
        None => {
            tracing::info!("heartwatch has stopped");
            Ok(0)
        }
        Some(reason) => anyhow::bail!("{reason}; the rows are safe in {}", settings.data_dir.display()),
    }
}

/// Applies what can be applied without dropping a connection, says what needs a restart, and keeps the
/// old configuration when the new one is wrong.
async fn reload(args: &RunArgs, settings: &mut Settings, pipeline: &mut Pipeline) {
    let layers = Layers::of_this_process(args.config.clone(), args.overrides());
    let new = match load(&layers) {
        Ok(loaded) => loaded.settings,
        Err(mistakes) => {
            tracing::error!("the new configuration is wrong, the old one stays:\n{mistakes}");
            return;
        }
    };
    let changed = changes(settings, &new);
    if changed.is_empty() {
        tracing::info!("configuration read again: nothing has changed");
        return;
    }
    // What cannot change while running keeps its old value, so that the next reload says it again.
    let mut applied = new.clone();
    let mut deadlines = false;
    for change in &changed {
        match change {
            Changed::Grace | Changed::Log => {}
            Changed::Watch | Changed::PublisherWatchChanged(_) => deadlines = true,
            Changed::PublisherAdded(id) | Changed::PublisherRemoved(id) | Changed::PublisherChanged(id) => {
                deadlines = true;
                pipeline.feeds.end(id, Instant::now() + REMOVED_GRACE).await;
                if let Some(publisher) = new.publishers.iter().find(|publisher| publisher.id == *id)
                    && let Err(error) = pipeline.feeds.start(&new, &pipeline.mqtt_url, publisher).await
                {
                    tracing::error!(publisher = %id, %error, "the publisher cannot start");
                }
            }
            Changed::DataDir => applied.data_dir = settings.data_dir.clone(),
            Changed::Mqtt => applied.mqtt = settings.mqtt.clone(),
            Changed::Influx => applied.influx = settings.influx.clone(),
            Changed::Buffer => applied.buffer = settings.buffer.clone(),
            Changed::Web => applied.web = settings.web.clone(),
            Changed::Monitor => applied.monitor = settings.monitor.clone(),
            Changed::Notify => {
                if let Err(error) = pipeline.set_targets(&new).await {
                    tracing::error!(%error, "the new targets cannot be used, the old ones stay");
                    (applied.mail, applied.notify) = (settings.mail.clone(), settings.notify.clone());
                }
            }
        }
        let needs_restart = matches!(
            change,
            Changed::DataDir
                | Changed::Mqtt
                | Changed::Influx
                | Changed::Buffer
                | Changed::Web
                | Changed::Log
                | Changed::Monitor
        );
        if needs_restart {
            tracing::warn!(%change, "changed in the configuration: takes effect at the next start");
        } else {
            tracing::info!(%change, "configuration applied");
        }
    }
    if deadlines {
        pipeline.set_deadlines(&applied).await;
    }
    *settings = applied;
}
