//! `heartwatch analysis`: what is on `monitoring-data`, printed and counted; commands for agents by Kafka.

use std::cell::RefCell;
use std::io::Write as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::roles::cli::{AnalysisArgs, AnalysisOnly};
use crate::roles::prompt;
use heartwatch_console::paint::harmless;
use heartwatch_console::prompt::{ANALYSIS_HELP, ANALYSIS_WORDS, AnalysisLine, Sending, analysis_line};
use heartwatch_console::tables::{Drawing, plain};
use heartwatch_domain::tally::Tallies;
use heartwatch_domain::time::Timestamp;
use heartwatch_fleet::kafka::{Consumed, Consumption, KafkaProducer, StartAt, consume};
use heartwatch_formats::monitoring_command::{
    COMMANDS_TOPIC, MonitoringCommand, MonitoringResult, RESULTS_TOPIC, encode_command,
};
use heartwatch_formats::monitoring_data::{self, MonitoringData, TOPIC};
use heartwatch_system::clock::Clock;
use heartwatch_system::signals::Request;

/// Messages that may wait to be taken.
const MESSAGES_MAX: usize = 1_024;
/// How long the answers to a command are waited for: longer than an agent may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(35);
/// After the first answer to a command for all, how long the others are waited for.
const OTHERS_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads, prints and counts until it is told to end; the answer is the exit code.
///
/// # Errors
/// When Kafka cannot be used.
pub(super) async fn analysis(args: &AnalysisArgs, mut requests: mpsc::Receiver<Request>) -> anyhow::Result<u8> {
    let clock = Clock::start();
    let brokers = args.kafka.clone().context("which Kafka? Name it with --kafka HOST:PORT")?;
    if let Some(AnalysisOnly::Send { target, command }) = &args.only {
        let (kind, data) = command.split_first().context("which command?")?;
        let sending = Sending { target: target.clone(), kind: kind.clone(), data: data.join(" ") };
        let (success, results) = send(&brokers, sending, clock).await?;
        for result in &results {
            let line = if args.json { serde_json::to_string(result)? } else { said(result) };
            anstream::println!("{line}");
        }
        return Ok(u8::from(!success));
    }
    let mut readings = consume(Consumption {
        brokers: brokers.clone(),
        topic: TOPIC.to_owned(),
        group: args.group.clone(),
        start_at: if args.from_beginning { StartAt::Beginning } else { StartAt::Now },
        messages_max: MESSAGES_MAX,
    })?;
    let quiet = matches!(args.only, Some(AnalysisOnly::Stats));
    let tallies = Rc::new(RefCell::new(Tallies::default()));
    let known: Arc<Mutex<Vec<String>>> = Arc::default();
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stdin()) && !args.json && !quiet;
    let prompt = terminal.then(|| {
        let known = known.clone();
        let clients = move || known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        prompt::read("analysis> ", &ANALYSIS_WORDS, PathBuf::from(".heartwatch-analysis-history"), clients)
    });
    let (mut lines, _terminal) = prompt.unzip();
    let end = args.lasts.map(|lasts| Instant::now() + lasts);
    let (mut count, mut unreadable) = (0_u64, 0_u64);
    loop {
        tokio::select! {
            request = requests.recv() => if request != Some(Request::Reload) { break },
            () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => break,
            Some(message) = readings.recv() => {
                match monitoring_data::decode(&message.payload) {
                    Ok(data) => {
                        tallies.borrow_mut().add(&data.client_id, &data.metric, data.value);
                        if !quiet {
                            print(&message, &data, args.json)?;
                        }
                        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                        if terminal && !known.contains(&data.client_id) && known.len() < MESSAGES_MAX {
                            known.push(data.client_id);
                        }
                        count += 1;
                        if args.limit.is_some_and(|limit| count >= limit) {
                            break;
                        }
                    }
                    Err(error) => {
                        unreadable += 1;
                        if unreadable.is_power_of_two() {
                            tracing::warn!(%error, partition = message.partition, offset = message.offset, unreadable, "a message cannot be read");
                        }
                    }
                }
            }
            line = next_line(&mut lines) => {
                let Some(line) = line else { break };
                match analysis_line(&line.text) {
                    Ok(None) => {}
                    Ok(Some(AnalysisLine::Help)) => anstream::println!("{ANALYSIS_HELP}"),
                    Ok(Some(AnalysisLine::Stats)) => anstream::println!("{}", table(&tallies.borrow())),
                    Ok(Some(AnalysisLine::Quit)) => break,
                    Ok(Some(AnalysisLine::Send(sending))) => {
                        let brokers = brokers.clone();
                        actix_rt::spawn(async move {
                            match send(&brokers, sending, clock).await {
                                Ok((_, results)) => results.iter().for_each(|result| anstream::println!("{}", said(result))),
                                Err(error) => anstream::println!("{error:#}"),
                            }
                        });
                    }
                    Err(reason) => anstream::println!("{reason}"),
                }
                line.done();
            }
        }
    }
    if args.json {
        anstream::println!("{}", stats(&tallies.borrow(), unreadable));
    } else {
        anstream::println!("{}", table(&tallies.borrow()));
    }
    Ok(0)
}

async fn next_line(lines: &mut Option<mpsc::Receiver<prompt::TypedLine>>) -> Option<prompt::TypedLine> {
    match lines {
        Some(lines) => lines.recv().await,
        None => std::future::pending().await,
    }
}

fn print(message: &Consumed, data: &MonitoringData, json: bool) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    if json {
        out.write_all(&monitoring_data::encode(data))?;
        out.write_all(b"\n")?;
        return Ok(());
    }
    let at = Timestamp::from_nanos(data.time_ns.unwrap_or_else(|| data.timestamp.saturating_mul(1_000_000_000)));
    let MonitoringData { client_id, hostname, metric, value, .. } = data;
    let (client, host, metric) = (harmless(client_id), harmless(hostname), harmless(metric));
    writeln!(out, "{at} {client} on {host}: {metric} = {value}  [{}:{}]", message.partition, message.offset)?;
    Ok(())
}

fn table(tallies: &Tallies) -> String {
    let rows = tallies.iter().map(|(client, metric, tally)| {
        let figure = |value: f64| format!("{value:.3}");
        vec![
            harmless(client),
            harmless(metric),
            tally.count.to_string(),
            figure(tally.average),
            figure(tally.min),
            figure(tally.max),
        ]
    });
    plain(&["client", "metric", "count", "average", "min", "max"], rows, Drawing::PLAIN)
}

fn stats(tallies: &Tallies, unreadable: u64) -> Value {
    let stats: Vec<Value> = tallies
        .iter()
        .map(|(client, metric, tally)| {
            json!({
                "client_id": client, "metric": metric, "count": tally.count, "average": tally.average,
                "min": tally.min, "max": tally.max,
            })
        })
        .collect();
    json!({ "stats": stats, "unreadable": unreadable, "left_out": tallies.left_out })
}

fn said(result: &MonitoringResult) -> String {
    let mark = if result.success { "ok" } else { "failed" };
    format!("{} {} {mark}: {}", harmless(&result.client_id), harmless(&result.command_type), harmless(&result.output))
}

/// Sends a command and waits for its results; whether all were done.
async fn send(brokers: &str, sending: Sending, clock: Clock) -> anyhow::Result<(bool, Vec<MonitoringResult>)> {
    let Sending { target, kind, data } = sending;
    let unique = format!("{:016x}", fastrand::u64(..));
    let mut results = consume(Consumption {
        brokers: brokers.to_owned(),
        topic: RESULTS_TOPIC.to_owned(),
        // One of its own, from the beginning: so no result is missed while the group is formed.
        group: format!("heartwatch-analysis-{unique}"),
        start_at: StartAt::Beginning,
        messages_max: MESSAGES_MAX,
    })?;
    let command = MonitoringCommand {
        command_id: format!("analysis-{unique}"),
        target: target.clone(),
        command_type: kind,
        command_data: data,
        timestamp: Some(clock.wall().as_nanos() / 1_000_000_000),
        answer_within_ms: None,
    };
    let producer = KafkaProducer::new(brokers)?;
    producer.send(COMMANDS_TOPIC, &command.target, &encode_command(&command)).await.map_err(anyhow::Error::msg)?;
    let mut found: Vec<MonitoringResult> = Vec::new();
    let mut until = Instant::now() + ANSWER_TIMEOUT;
    loop {
        let message = match tokio::time::timeout_at(until, results.recv()).await {
            Ok(Some(message)) => message,
            Ok(None) | Err(_) => break,
        };
        let Ok(result) = serde_json::from_slice::<MonitoringResult>(&message.payload) else { continue };
        if result.command_id != command.command_id {
            continue;
        }
        let last = target != "all" || result.client_id == "all";
        found.push(result);
        if last {
            break;
        }
        until = Instant::now() + OTHERS_TIMEOUT;
    }
    if found.is_empty() {
        anyhow::bail!("no result within {} s: does a server run at this Kafka?", ANSWER_TIMEOUT.as_secs());
    }
    Ok((found.iter().all(|result| result.success), found))
}
