//! `heartwatch publish`: one publisher in a program of its own.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::adapters::process::HostProcesses;
use crate::config::{BrokerSettings, FeedSettings, RestartSettings, RunAs, Settings};
use crate::domain::restart::RestartLimits;
use crate::messages::drain::Drain;
use crate::ports::ProcessTable;
use crate::roles::cli::PublishArgs;
use crate::roles::{assemble, feeds};
use crate::runtime::clock::Clock;
use crate::runtime::signals::Request;
use crate::runtime::supervisor::Supervisor;

/// Runs the publisher to its end or to a signal; the answer is the exit code.
///
/// # Errors
/// When its file, its outbox or its broker's certificates cannot be used.
pub async fn publish(
    args: &PublishArgs,
    settings: &Settings,
    mut requests: mpsc::Receiver<Request>,
) -> anyhow::Result<u8> {
    let clock = Clock::start();
    let processes: Arc<dyn ProcessTable> = Arc::new(HostProcesses::new(clock));
    let (supervisor, mut escalations) = Supervisor::new(clock, RestartLimits::default());
    let feed = FeedSettings {
        csv: args.csv.clone(),
        interval: args.interval,
        heartbeat: Some(args.heartbeat),
        run: RunAs::InProcess,
        looping: !args.once,
        limit: args.limit,
        time_column: args.time_column.clone(),
        time_format: args.time_format.0,
        measurement: args.measurement.clone(),
        outbox_bytes_max: args.outbox_bytes_max.0,
        restart: RestartSettings::default(),
        outbox_full: args.outbox_full,
    };
    let mqtt_url = match &settings.mqtt.broker {
        BrokerSettings::At(url) => url.to_string(),
        BrokerSettings::Embedded { listen } => format!("mqtt://{listen}"),
    };
    let config = assemble::publisher(&settings.mqtt, &settings.data_dir, &args.id, &feed, args.heartbeat)?;
    let grace = config.confirm_grace;
    let (ended, mut end) = watch::channel(None);
    let publisher =
        feeds::start_here(&supervisor, clock, processes.as_ref(), &settings.mqtt, &mqtt_url, config, ended)?;
    tracing::info!(publisher = %args.id, broker = mqtt_url, csv = %args.csv.display(), "publishing");

    let drain = publisher.address.outlet::<Drain>();
    let ended = loop {
        tokio::select! {
            ended = end.wait_for(Option::is_some) => break ended.ok().and_then(|ended| *ended),
            escalation = escalations.recv() => {
                let reason = escalation.map_or_else(String::new, |escalation| escalation.reason);
                anyhow::bail!("the publisher {} failed too often: {reason}", args.id);
            }
            request = requests.recv() => if request != Some(Request::Reload) {
                tracing::info!("waiting for the last confirmations; a second signal ends at once");
                let _ = drain.deliver(Drain { deadline: Instant::now() + grace }).await;
            }
        }
    };
    publisher.stop();
    let Some(ended) = ended else { anyhow::bail!("the publisher {} has stopped", args.id) };
    if ended.left > 0 {
        let outbox = settings.data_dir.join("outbox").join(format!("{}.sqlite", args.id));
        tracing::warn!(
            readings = ended.left,
            outbox = %outbox.display(),
            "readings were not confirmed; they stay in the outbox for the next start"
        );
    }
    tracing::info!(readings = ended.produced, left = ended.left, "the publisher has ended");
    Ok(0)
}
