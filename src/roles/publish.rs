//! `heartwatch publish`: one publisher in a program of its own.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::actors::publisher::{Feed, PublisherConfig};
use crate::config::Settings;
use crate::messages::drain::Drain;
use crate::roles::cli::PublishArgs;
use crate::roles::managed_publishers;
use crate::runtime::supervisor::Supervisor;
use crate::sources::SourceConfig;
use crate::sources::csv::CsvConfig;
use heartwatch_adapters::process::HostProcesses;
use heartwatch_domain::restart::RestartLimits;
use heartwatch_formats::values::look_every;
use heartwatch_ports::ProcessTable;
use heartwatch_store::outbox::{Outbox, OutboxConfig};
use heartwatch_system::clock::Clock;
use heartwatch_system::signals::Request;

/// Runs the publisher to its end or to a signal; the answer is the exit code.
///
/// # Errors
/// When its file, its outbox or its broker's certificates cannot be used.
pub(super) async fn publish(
    args: &PublishArgs,
    settings: &Settings,
    mut requests: mpsc::Receiver<Request>,
) -> anyhow::Result<u8> {
    let clock = Clock::start();
    let processes: Arc<dyn ProcessTable> = Arc::new(HostProcesses::new(clock));
    let (supervisor, mut escalations) = Supervisor::new(clock, RestartLimits::default());
    // the monitor says everything to its children itself
    let variable = |name: &str| if args.as_child { None } else { std::env::var(name).ok() };
    let source = match (&args.csv, args.program.options(variable).map_err(anyhow::Error::msg)?) {
        (_, Some(options)) => SourceConfig::Exec(Box::new(options)),
        (Some(csv), None) => SourceConfig::Csv(CsvConfig {
            time_column: args.time_column.clone(),
            time_format: args.time_format.0,
            delimiter: args.delimiter.and_then(|delimiter| u8::try_from(delimiter).ok()),
            decimal: args.decimal,
            ..CsvConfig::new(csv)
        }),
        (None, None) if args.system => {
            look_every(args.interval).map_err(|wrong| anyhow::anyhow!("--interval: {wrong}"))?;
            SourceConfig::System(args.metrics.clone().unwrap_or_default())
        }
        (None, None) => {
            anyhow::bail!(
                "there is nothing to publish: name a file (--csv), a program (--exec) or this host (--system)"
            )
        }
    };
    let reads = source.to_string();
    let feed = Feed {
        measurement: args.measurement.clone(),
        interval: args.interval,
        looping: !args.once,
        limit: args.limit,
        outbox_bytes_max: args.outbox_bytes_max.0,
        full_policy: args.outbox_full,
        source,
    };
    let mqtt_url = settings.mqtt.broker.url();
    let config = managed_publishers::with_outbox(settings, args.id.clone(), feed, args.heartbeat)?;
    let grace = config.confirm_grace;
    if args.program.clear_data {
        clear(&config, clock)?;
    }
    let (ended, mut end) = watch::channel(None);
    let publisher = managed_publishers::start_here(
        &supervisor,
        clock,
        processes.as_ref(),
        &settings.mqtt,
        &mqtt_url,
        config,
        ended,
    )?;
    tracing::info!(publisher = %args.id, broker = mqtt_url, reads, "publishing");

    let drain = publisher.address.outlet::<Drain>();
    let ended = loop {
        tokio::select! {
            ended = end.wait_for(Option::is_some) => break ended.ok().and_then(|ended| *ended),
            escalation = escalations.recv() => {
                let reason = escalation.map_or_else(String::new, |escalation| escalation.to_string());
                anyhow::bail!("{}: {reason}", args.id);
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

/// Gives up what earlier runs have left: the next life tells the monitor so.
fn clear(config: &PublisherConfig, clock: Clock) -> anyhow::Result<()> {
    let outbox = OutboxConfig {
        path: config.outbox.clone(),
        bytes_max: config.feed.outbox_bytes_max,
        full_policy: config.feed.full_policy,
    };
    let now_micros = u64::try_from(clock.wall().as_nanos() / 1_000).unwrap_or(0);
    let (mut outbox, _) = Outbox::open(outbox, now_micros)?;
    let readings = outbox.clear("its publisher was started with --clear-data")?;
    if readings > 0 {
        tracing::warn!(readings, "--clear-data: readings that nobody has confirmed were given up");
    }
    Ok(())
}
