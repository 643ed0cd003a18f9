//! `heartwatch server`: the monitor's own parts with agents before them and Kafka behind them.
//!
//! What the watchdog wants to know of a process on another host is asked of the agent there, by the same desk.
//!
//! Agents' streams → received log → pump → subscriber → journal → Kafka; commands by Kafka and the console → desk → agents.

mod command_dispatch;
mod console;
#[cfg(feature = "kafka")]
mod kafka;
mod questions;
mod received;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{broadcast, mpsc};

use crate::config::{Settings, heartbeat_within};
use crate::roles::cli::{ServerArgs, ServerAsk};
use crate::roles::pipeline::{Ends, Front, start_between};
use console::Console;
use heartwatch_domain::publisher::PublisherId;
use heartwatch_fleet::grpc::console::{self as socket_console, SaidLine};
use heartwatch_fleet::grpc::console_socket::{self, ConsoleSocket};
use heartwatch_fleet::grpc::server::{GrpcServer, GrpcServerConfig, serve};
use heartwatch_formats::envelope::TopicKind;
use heartwatch_ports::Sink;
use heartwatch_ports::credentials::KeyPair;
#[cfg(feature = "kafka")]
use heartwatch_ports::servers::KafkaConfig;
use heartwatch_system::clock::Clock;
use heartwatch_system::dedicated_thread::DedicatedThread;
use heartwatch_system::descriptors::{self, Shares};
use heartwatch_system::signals::Request;

/// Who says what beside its readings.
type Sign = (PublisherId, TopicKind, Vec<u8>);

/// How seldom an open stream counts as a sign of life, however long the deadlines are.
const OPEN_STREAM_EVERY: Duration = Duration::from_secs(5);
/// How long Kafka may take to confirm a batch.
#[cfg(feature = "kafka")]
const KAFKA_TIMEOUT: Duration = Duration::from_secs(10);
/// Deliveries between the log of what was received and the pump.
const TEE_MESSAGES_MAX: usize = 64;
/// Heartbeats that wait for Kafka.
#[cfg(feature = "kafka")]
const SIGNS_MAX: usize = 4_096;
/// Outcomes of commands that a slow listener may be behind.
const OUTCOMES_MAX: usize = 4_096;

/// Runs the server until a signal, `quit` or a failure ends it; the answer is the exit code.
///
/// # Errors
/// When a part cannot start, with what to do about it.
pub(super) async fn server(
    args: &ServerArgs,
    settings: &Settings,
    mut requests: mpsc::Receiver<Request>,
) -> anyhow::Result<u8> {
    let clock = Clock::start();
    descriptors::raise();
    let sink = sink(settings)?;
    std::fs::create_dir_all(&settings.data_dir)
        .with_context(|| format!("cannot make the data directory {}", settings.data_dir.display()))?;
    let log = Arc::new(received::log(&settings.data_dir)?);
    let pair = args.certificate_file.clone().zip(args.key_file.clone());
    let tls = pair.map(|(certificate_file, key_file)| KeyPair { certificate_file, key_file });
    let config = GrpcServerConfig {
        tls,
        prefix: settings.mqtt.prefix.clone(),
        open_stream_every: heartbeat_within(settings.deadline_rules().shortest()).min(OPEN_STREAM_EVERY),
        connections_max: Shares::of(descriptors::limit()).publisher_connections_max,
        ..GrpcServerConfig::new(args.listen)
    };
    // that of the actors has enough to do with what the agents say
    let streams = DedicatedThread::start("streams").context("cannot start the thread of the agents' streams")?;
    let GrpcServer { transport, events, agent_events, agents, listen } =
        streams.runtime.spawn(serve(config, clock)).await??;
    let (mut lines, socket) = console_lines(listen.port()).await;
    let (tee, tee_end) = mpsc::channel(TEE_MESSAGES_MAX);
    let prefix = settings.mqtt.prefix.clone();
    let signs = tell_signs(settings)?;
    let (tee_queue, signs_queue) = (tee.downgrade(), signs.as_ref().map(mpsc::Sender::downgrade));
    let noting = received::note(events, tee, log.clone(), prefix, signs);

    let front = Front::Given { transport, events: tee_end, url: format!("grpc://{listen}") };
    let mut pipeline =
        start_between(settings, Ends { front, sink, numbers_in_rows: true, received: Some(log.clone()) }, clock)
            .await?;
    // It ends with the streams, and what reads on from it says so.
    actix_rt::spawn(noting);

    let (outcomes, _) = broadcast::channel(OUTCOMES_MAX);
    let (submit, submitted) = mpsc::channel(command_dispatch::SUBMISSIONS_MAX);
    let queues = &pipeline.ports.queues;
    queues.add_channel("commands", &submit);
    tee_queue.upgrade().iter().for_each(|tee| queues.add_channel("received", tee));
    signs_queue.and_then(|signs| signs.upgrade()).iter().for_each(|signs| queues.add_channel("signs for Kafka", signs));
    let desk = command_dispatch::run(agents.clone(), agent_events, submitted, outcomes.clone(), clock);
    let desk = pipeline.guard("desk of the commands", desk);
    let (way, answers) = questions::over_streams(agents.clone(), submit.clone());
    pipeline.ask_over(way, answers);
    #[cfg(feature = "kafka")]
    if let Some(KafkaConfig { brokers, .. }) = &settings.kafka {
        kafka::take_commands(brokers, submit.clone(), clock)?;
        kafka::take_questions(brokers, submit.clone(), clock)?;
        kafka::tell_results(brokers, outcomes.subscribe(), clock)?;
    }
    let (quit, mut quitting) = mpsc::channel(1);
    let console =
        Console { agents, submit, ports: pipeline.ports.clone(), nodes: pipeline.nodes(), started: clock.wall(), quit };
    let _terminal =
        console::is_wanted().then(|| console::interactive(console.clone(), outcomes.subscribe(), &settings.data_dir));
    tracing::info!(
        %listen,
        page = pipeline.page.as_deref().unwrap_or("off"),
        console = socket.as_deref().unwrap_or("none"),
        data_dir = %settings.data_dir.display(),
        kafka = settings.kafka.as_ref().map_or("none: readings stay in the embedded store", |kafka| &kafka.brokers),
        "heartwatch server runs"
    );
    pipeline.service_manager.ready();
    let failed = loop {
        tokio::select! {
            request = requests.recv() => match request {
                Some(Request::Reload) => tracing::info!("the server reads its configuration when it starts: nothing was changed"),
                Some(Request::Stop) | None => break None,
            },
            _ = quitting.recv() => break None,
            Some(said) = lines.recv() => {
                let console = console.clone();
                actix_rt::spawn(async move {
                    let answer = console.answer(&said.line).await;
                    let _ = said.answer.send(answer);
                });
            }
            reason = pipeline.failed() => break Some(reason),
        }
    };
    tracing::info!(grace_ms = settings.grace.as_millis(), "stopping; a second signal ends at once");
    pipeline.service_manager.stopping();
    desk.abort();
    let stragglers = pipeline.stop(settings.grace).await;
    drop(streams);
    // The rest of the lines is written: that may take a moment.
    let _ = tokio::task::spawn_blocking(move || log.close()).await;
    if !stragglers.is_empty() {
        tracing::warn!(?stragglers, "not done within the grace period; what they held is on disk");
    }
    match failed {
        None => {
            tracing::info!("heartwatch server has stopped");
            Ok(0)
        }
        Some(reason) => anyhow::bail!("{reason}; the rows are safe in {}", settings.data_dir.display()),
    }
}

/// What programs of this user say at the console, and where.
async fn console_lines(port: u16) -> (mpsc::Receiver<SaidLine>, Option<String>) {
    match ConsoleSocket::listen(port).await {
        Ok(socket) => {
            let path = socket.path().display().to_string();
            (socket_console::serve(socket), Some(path))
        }
        Err(error) => {
            tracing::warn!(%error, "`heartwatch server list` and the like cannot reach this server");
            (mpsc::channel(1).1, None)
        }
    }
}

/// Says one line at the console of a running server; the answer is the exit code.
///
/// # Errors
/// When no server answers.
pub(super) async fn ask(ask: &ServerAsk) -> anyhow::Result<u8> {
    let (at, line) = ask.line();
    let socket = match &at.socket {
        Some(socket) => socket.clone(),
        None => console_socket::find(at.port()?),
    };
    let answer = socket_console::say(&socket, line).await.map_err(anyhow::Error::msg)?;
    let text = if at.json { answer.json } else { answer.text };
    anstream::println!("{}", text.trim_end());
    Ok(u8::from(!answer.success))
}

#[cfg(feature = "kafka")]
fn sink(settings: &Settings) -> anyhow::Result<Option<Arc<dyn Sink>>> {
    use heartwatch_fleet::kafka::{KafkaSink, KafkaSinkConfig};
    let Some(KafkaConfig { brokers, .. }) = settings.kafka.clone() else { return Ok(None) };
    let topic = heartwatch_formats::monitoring_data::TOPIC.to_owned();
    let config = KafkaSinkConfig { brokers, topic, timeout: KAFKA_TIMEOUT };
    Ok(Some(Arc::new(KafkaSink::new(config)?)))
}

#[cfg(not(feature = "kafka"))]
fn sink(settings: &Settings) -> anyhow::Result<Option<Arc<dyn Sink>>> {
    anyhow::ensure!(settings.kafka.is_none(), crate::roles::kafka_intake::WITHOUT_KAFKA);
    Ok(None)
}

/// Where heartbeats and the like go, for the monitor behind Kafka.
#[cfg(feature = "kafka")]
fn tell_signs(settings: &Settings) -> anyhow::Result<Option<mpsc::Sender<Sign>>> {
    let Some(KafkaConfig { brokers, .. }) = &settings.kafka else { return Ok(None) };
    let (signs, signs_end) = mpsc::channel(SIGNS_MAX);
    kafka::tell_signs(brokers, signs_end)?;
    Ok(Some(signs))
}

#[cfg(not(feature = "kafka"))]
fn tell_signs(_: &Settings) -> anyhow::Result<Option<mpsc::Sender<Sign>>> {
    Ok(None)
}
