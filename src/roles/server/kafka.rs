//! Commands from Kafka, and their results to it.

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::{broadcast, mpsc};

use super::Sign;
use super::command_dispatch::{Reach, Submission};
use heartwatch_domain::command::{Command, CommandOutcome, Target};
use heartwatch_domain::time::Timestamp;
use heartwatch_fleet::kafka::{Consumption, Everything, KafkaProducer, StartAt, consume, read_everything};
use heartwatch_formats::monitoring_command::{COMMANDS_TOPIC, MonitoringResult, RESULTS_TOPIC, decode_command};
use heartwatch_formats::monitoring_sign::{self, SIGNS_TOPIC};
use heartwatch_system::clock::Clock;

/// As whom existing servers read commands.
const GROUP: &str = "grpc-server-group";
/// How long an agent has to answer.
const GIVEN: Duration = Duration::from_secs(30);
/// Commands that may wait to be taken.
const COMMANDS_MAX: usize = 256;
/// Signs of life that are on their way to Kafka at once.
const SIGNS_IN_FLIGHT_MAX: usize = 1_024;
/// Results that are on their way to Kafka at once.
const RESULTS_IN_FLIGHT_MAX: usize = 256;
/// Wait before a result is sent again that Kafka did not take.
const RESULT_PAUSE: Duration = Duration::from_secs(1);

/// Hands commands to the desk, each with what is left of its time.
pub(super) fn take_commands(brokers: &str, submit: mpsc::Sender<Submission>, clock: Clock) -> anyhow::Result<()> {
    let mut commands = consume(Consumption {
        brokers: brokers.to_owned(),
        topic: COMMANDS_TOPIC.to_owned(),
        group: GROUP.to_owned(),
        // A command that was given while no server ran has a deadline like any other.
        start_at: StartAt::Beginning,
        messages_max: COMMANDS_MAX,
    })?;
    actix_rt::spawn(async move {
        while let Some(message) = commands.recv().await {
            let id = format!("kafka-{}-{}", message.partition, message.offset);
            let command = match decode_command(&message.payload, &id) {
                Ok(command) => command,
                Err(reason) => {
                    tracing::warn!(
                        topic = COMMANDS_TOPIC,
                        partition = message.partition,
                        offset = message.offset,
                        reason,
                        "a command cannot be read"
                    );
                    continue;
                }
            };
            if command.answer_within_ms.is_some() {
                // A question, which every server reads.
                continue;
            }
            let given = message.at.map_or(GIVEN, |at| left(at, clock.wall()));
            let target = Target::parse(&command.target);
            let command = Command { id: command.command_id, kind: command.command_type, data: command.command_data };
            if submit.send(Submission { command, target, given, done: None, reach: Reach::Told }).await.is_err() {
                break;
            }
        }
    });
    Ok(())
}

/// Hands the questions of monitors to the desk. Every server reads them, because the one to which the group gives a command
/// may not be the one to which its agent is connected; and they are over before a group is formed anew.
pub(super) fn take_questions(brokers: &str, submit: mpsc::Sender<Submission>, clock: Clock) -> anyhow::Result<()> {
    let Everything { messages: mut questions, .. } = read_everything(brokers, COMMANDS_TOPIC, COMMANDS_MAX)?;
    actix_rt::spawn(async move {
        while let Some(message) = questions.recv().await {
            // What cannot be read is said by whoever takes commands.
            let Ok(command) = decode_command(&message.payload, "") else { continue };
            let Some(within) = command.answer_within_ms.filter(|_| !command.command_id.is_empty()) else { continue };
            // Counted from now, because the clocks of two hosts differ by more than a question may take.
            let left = message.at.map_or(GIVEN, |at| left(at, clock.wall()));
            let given = left.min(Duration::from_millis(within));
            let target = Target::parse(&command.target);
            let command = Command { id: command.command_id, kind: command.command_type, data: command.command_data };
            let submission = Submission { command, target, given, done: None, reach: Reach::Shared };
            if submit.send(submission).await.is_err() {
                break;
            }
        }
    });
    Ok(())
}

/// Tells what publishers say beside their readings, each as soon as it comes. What Kafka does not take in time is
/// dropped: it speaks of a moment that has passed, and heartbeats come again.
pub(super) fn tell_signs(brokers: &str, signs: mpsc::Receiver<Sign>) -> anyhow::Result<()> {
    let producer = KafkaProducer::new(brokers)?;
    let signs = futures_util::stream::unfold(signs, |mut signs| async move { Some((signs.recv().await?, signs)) });
    let told = signs
        .filter_map(|(publisher, kind, payload)| async move {
            let message = monitoring_sign::encode(&publisher, kind, &payload)?;
            Some((publisher, message))
        })
        .map(move |(publisher, message)| {
            let producer = producer.clone();
            async move { producer.send(SIGNS_TOPIC, publisher.as_str(), &message).await }
        })
        // They are given to librdkafka in this order, whatever order their reports come in.
        .buffered(SIGNS_IN_FLIGHT_MAX);
    actix_rt::spawn(told.for_each(|told| async move {
        if let Err(error) = told {
            tracing::debug!(error, "a heartbeat was not handed on");
        }
    }));
    Ok(())
}

/// What is left of a command's time. Whoever's clock runs ahead gives it all of it.
fn left(at: Timestamp, now: Timestamp) -> Duration {
    let age = Duration::from_nanos(u64::try_from(now.as_nanos().saturating_sub(at.as_nanos())).unwrap_or(0));
    GIVEN.saturating_sub(age)
}

/// Tells what became of every command, whoever gave it; each as soon as it is known.
pub(super) fn tell_results(
    brokers: &str,
    outcomes: broadcast::Receiver<CommandOutcome>,
    clock: Clock,
) -> anyhow::Result<()> {
    let producer = KafkaProducer::new(brokers)?;
    let outcomes = futures_util::stream::unfold(outcomes, |mut outcomes| async move {
        loop {
            match outcomes.recv().await {
                Ok(outcome) => return Some((outcome, outcomes)),
                Err(broadcast::error::RecvError::Lagged(results)) => {
                    tracing::error!(results, "results of commands were not told: Kafka was away for too long");
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    });
    let told = outcomes
        .map(move |outcome| {
            let (producer, result) = (producer.clone(), MonitoringResult::of(&outcome, clock.wall()));
            async move {
                while let Err(error) = producer.send(RESULTS_TOPIC, &result.client_id, &result.encode()).await {
                    tracing::warn!(error, id = result.command_id, "a result was not taken; trying again");
                    tokio::time::sleep(RESULT_PAUSE).await;
                }
            }
        })
        .buffered(RESULTS_IN_FLIGHT_MAX);
    actix_rt::spawn(told.for_each(|()| async {}));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_command_has_no_time_left() {
        let at = |seconds: i64| Timestamp::from_nanos(seconds * 1_000_000_000);
        assert_eq!(left(at(100), at(110)), Duration::from_secs(20));
        assert_eq!(left(at(100), at(131)), Duration::ZERO);
        assert_eq!(left(at(200), at(110)), GIVEN);
    }
}
