//! A publisher that can be made to fail in ways that a healthy one cannot: `prove` starts it and tells
//! it what to do, one command a line on standard input. Without an input it ends.

use std::io::BufRead as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::args::FaultyArgs;
use heartwatch_adapters::mqtt::{self, MqttConfig, Will};
use heartwatch_adapters::process::HostProcesses;
use heartwatch_domain::beat::Heartbeat;
use heartwatch_domain::process::ProcessIdentity;
use heartwatch_domain::publisher::Incarnation;
use heartwatch_formats::envelope::{
    Goodbye, HeartbeatNote, LastWill, Prefix, TopicKind, encode_goodbye, encode_heartbeat, encode_last_will,
};
use heartwatch_ports::{Outgoing, ProcessTable as _, Transport as _, TransportEvent};
use heartwatch_system::clock::Clock;

/// Commands that may wait.
const COMMANDS_MAX: usize = 8;
/// For so long it names a process that is not its own before it falls silent: long enough to be believed.
const CLAIMS_FOR: Duration = Duration::from_secs(2);
/// A process that no system has: the largest PID on Linux is 2^22.
const NO_PID: u32 = 999_999_999;
/// The pause before it connects again.
const BACKOFF: Duration = Duration::from_millis(100);

/// What it can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum SubjectCommand {
    /// Its source stands still from now on, and it goes on beating.
    Wedge,
    /// Its source moves again.
    Unwedge,
    /// Nothing in it moves until `thaw`: no thread runs.
    Freeze,
    /// In a next life it names this process as its own, for a while, and is never heard again.
    Claim { pid: u32, start_ticks: u64 },
    /// Somebody says goodbye in its name; it goes on.
    Goodbye,
    /// Somebody beats once as another process of its life, and once as its very last life; it goes on.
    Impostor,
    /// From now on somebody else beats beside it as its next life, or no more.
    Double(bool),
    /// From now on it beats so seldom, and promises that; or as often as it did.
    Beats(Option<Duration>),
    /// Its main thread ends, and the one that publishes goes on.
    EndMain,
    /// It ends with 0, without a word to anybody.
    Exit,
}

impl SubjectCommand {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        Some(match words.next()? {
            "wedge" => Self::Wedge,
            "unwedge" => Self::Unwedge,
            "freeze" => Self::Freeze,
            "end-main" => Self::EndMain,
            "goodbye" => Self::Goodbye,
            "impostor" => Self::Impostor,
            "double" => Self::Double(true),
            "single" => Self::Double(false),
            "seldom" => Self::Beats(Some(Duration::from_millis(words.next()?.parse().ok()?))),
            "often" => Self::Beats(None),
            "claim" => Self::Claim { pid: words.next()?.parse().ok()?, start_ticks: words.next()?.parse().ok()? },
            "exit" => Self::Exit,
            _ => return None,
        })
    }
}

/// Publishes in a thread of its own until it is told to exit; the answer is the exit code. The main thread can end before it.
///
/// # Errors
/// When its connection cannot be configured.
pub fn publish_beside_main(args: FaultyArgs) -> anyhow::Result<u8> {
    let (main, main_end) = sync_channel(1);
    let ended = main.clone();
    let publisher = move || {
        let result = actix_rt::System::new().block_on(publish(&args, main));
        let _ = ended.send(Some(result));
    };
    std::thread::Builder::new().name("publisher".to_owned()).spawn(publisher)?;
    if let Some(result) = main_end.recv()? {
        return result;
    }
    #[expect(unsafe_code, reason = "no other call ends the main thread alone, and that is the fault to be shown")]
    // SAFETY: the thread never runs again, so what it borrowed stays as it is; the kernel takes its stack when the process ends.
    unsafe {
        libc::syscall(libc::SYS_exit, 0);
    }
    anyhow::bail!("the main thread did not end")
}

/// What the main thread is told: the publisher's result, or to end before it.
type ToMain = SyncSender<Option<anyhow::Result<u8>>>;

async fn publish(args: &FaultyArgs, main: ToMain) -> anyhow::Result<u8> {
    let clock = Clock::start();
    let (mut commands, thaws) = commands()?;
    let host = heartwatch_system::host::host_name()?;
    let mut incarnation = Incarnation(u64::try_from(clock.wall().as_nanos() / 1_000)?);
    let prefix = Prefix::default();
    let will = Will {
        topic: prefix.topic(&args.id, TopicKind::LastWill),
        payload: encode_last_will(&LastWill { host: host.clone(), incarnation }),
    };
    let mut connection = MqttConfig::new(args.mqtt.as_str(), format!("heartwatch-publisher-{}", args.id));
    connection.clean_session = true;
    (connection.options.backoff_min, connection.options.backoff_max) = (BACKOFF, BACKOFF);
    let (transport, mut events) = mqtt::connect(connection, Vec::new(), Some(will), clock)?;

    let mut process = HostProcesses::new(clock).own_identity();
    let (mut cursor, mut wedged, mut doubled, mut claims_until) = (0, false, false, None);
    let every = std::cell::Cell::new(args.heartbeat);
    let note = |incarnation, process: &Option<ProcessIdentity>, cursor| {
        let process = process.clone();
        let (idle, interval, is_agent) = (false, every.get(), false);
        let heartbeat =
            Heartbeat { incarnation, process, sequence: 0, cursor, idle, interval, is_agent, outbox_stalled: None };
        let payload = encode_heartbeat(&HeartbeatNote::new(host.clone(), heartbeat));
        Outgoing { topic: prefix.topic(&args.id, TopicKind::Heartbeat), payload, at_least_once: false }
    };
    let mut connected = false;
    let ticks = |every| {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    };
    let mut beats = ticks(args.heartbeat);
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(TransportEvent::Connected { .. }) => connected = true,
                Some(TransportEvent::Disconnected { .. }) => connected = false,
                Some(TransportEvent::Delivery(_)) => {}
                None => anyhow::bail!("the connection has ended for good"),
            },
            command = commands.recv() => match command {
                Some(SubjectCommand::Wedge) => wedged = true,
                Some(SubjectCommand::Unwedge) => wedged = false,
                // This blocks the one thread that everything here runs on.
                Some(SubjectCommand::Freeze) => thaws.recv()?,
                Some(SubjectCommand::EndMain) => main.send(None)?,
                Some(SubjectCommand::Goodbye) => {
                    let goodbye = Goodbye { host: host.clone(), incarnation, sequence: 0 };
                    let topic = prefix.topic(&args.id, TopicKind::Goodbye);
                    let goodbye = Outgoing { topic, payload: encode_goodbye(&goodbye), at_least_once: true };
                    transport.try_publish(goodbye).context("the goodbye cannot be sent")?;
                }
                Some(SubjectCommand::Double(double)) => doubled = double,
                Some(SubjectCommand::Beats(seldom)) => {
                    every.set(seldom.unwrap_or(args.heartbeat));
                    beats = ticks(every.get());
                }
                Some(SubjectCommand::Impostor) => {
                    let other = process.clone().map(|own| ProcessIdentity { pid: NO_PID, ..own });
                    for incarnation in [incarnation, Incarnation(i64::MAX.cast_unsigned())] {
                        transport.try_publish(note(incarnation, &other, 0)).context("the impostor cannot speak")?;
                    }
                }
                Some(SubjectCommand::Claim { pid, start_ticks }) => {
                    process = process.map(|own| ProcessIdentity { pid, start_ticks, ..own });
                    incarnation.0 += 1;
                    claims_until = Some(Instant::now() + CLAIMS_FOR);
                    beats.reset_immediately();
                }
                Some(SubjectCommand::Exit) | None => return Ok(0),
            },
            _ = beats.tick(), if connected && claims_until.is_none_or(|until| Instant::now() < until) => {
                cursor += u64::from(!wedged);
                // One that is not sent is a late one.
                let _ = transport.try_publish(note(incarnation, &process, cursor));
                if doubled {
                    let other = process.clone().map(|own| ProcessIdentity { pid: NO_PID, ..own });
                    let _ = transport.try_publish(note(Incarnation(incarnation.0 + 1), &other, cursor));
                }
            }
        }
    }
}

/// Reads commands off this thread, so that `thaw` is heard while nothing else runs.
fn commands() -> anyhow::Result<(mpsc::Receiver<SubjectCommand>, Receiver<()>)> {
    let (commands, commands_end) = mpsc::channel(COMMANDS_MAX);
    let (thaws, thaws_end) = sync_channel(COMMANDS_MAX);
    std::thread::Builder::new().name("commands".to_owned()).spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            let told = match (line.trim(), SubjectCommand::parse(&line)) {
                ("thaw", _) => thaws.send(()).is_ok(),
                (_, Some(command)) => commands.blocking_send(command).is_ok(),
                (unknown, None) => {
                    tracing::error!(command = unknown, "not a command");
                    true
                }
            };
            if !told {
                return;
            }
        }
    })?;
    Ok((commands_end, thaws_end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_words() {
        assert_eq!(SubjectCommand::parse("claim 7 88"), Some(SubjectCommand::Claim { pid: 7, start_ticks: 88 }));
        assert_eq!(SubjectCommand::parse(" wedge\n"), Some(SubjectCommand::Wedge));
        assert_eq!(SubjectCommand::parse("seldom 2000"), Some(SubjectCommand::Beats(Some(Duration::from_secs(2)))));
        for wrong in ["", "claim", "seldom", "seldom 0s", "claim x 1", "thaw", "die"] {
            assert_eq!(SubjectCommand::parse(wrong), None, "{wrong}");
        }
    }
}
