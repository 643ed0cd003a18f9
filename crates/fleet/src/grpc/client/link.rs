//! The task that keeps an agent's connection: connect, relay until it breaks, wait, again.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::GrpcClientConfig;
use super::plain::Plain;
use crate::grpc::{CLIENT_ID_KEY, Channelled, MESSAGE_BYTES_MAX, innermost};
use crate::wire::monitoring::agent_service_client::AgentServiceClient;
use crate::wire::monitoring::monitoring_service_client::MonitoringServiceClient;
use crate::wire::monitoring::{self as wire, from_agent, to_agent};
use heartwatch_domain::beat::Way;
use heartwatch_domain::command::{Command, CommandResult};
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::time::{Monotonic, describe_duration};
use heartwatch_formats::envelope::TopicKind;
use heartwatch_ports::Delivery;
use heartwatch_ports::{Receipt, TransportEvent};
use heartwatch_system::clock::Clock;

/// Messages that tonic holds beside what its windows hold; the queue that counts is before it.
const STREAM_MESSAGES: usize = 8;
/// How long the end of a stream without acknowledgements waits for the other end to end, too.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// A connection that lasted this long was one; a shorter one does not end the backoff.
const STABLE_AFTER: Duration = Duration::from_secs(5);

/// The task's ends of the channels.
pub(super) struct Ends {
    pub sends: mpsc::Receiver<wire::Envelope>,
    pub stop: mpsc::Receiver<oneshot::Sender<()>>,
    pub events: mpsc::Sender<TransportEvent>,
    pub commands: mpsc::Sender<Command>,
    pub results: mpsc::Receiver<CommandResult>,
}

/// Why a connection is over.
enum Over {
    /// Whoever has it wants it to end; to be told when it has.
    Wanted(Option<oneshot::Sender<()>>),
    /// It broke, or could not be made.
    Broken(String),
    /// The server does not know Relay.
    Unknown,
}

impl From<Status> for Over {
    fn from(status: Status) -> Self {
        Self::Broken(describe(&status))
    }
}

pub(super) struct Link {
    config: GrpcClientConfig,
    endpoint: Endpoint,
    ends: Ends,
    clock: Clock,
    epoch: u64,
    /// What was taken from a queue and not handed to a stream.
    parked: Option<from_agent::Message>,
    refused: VecDeque<CommandResult>,
    plain: Plain,
    outage: Option<(Monotonic, u32)>,
}

impl Link {
    pub(super) fn new(config: GrpcClientConfig, endpoint: Endpoint, ends: Ends, clock: Clock) -> Self {
        let plain = Plain::new(config.client_id.clone());
        let refused = VecDeque::new();
        Self { config, endpoint, ends, clock, epoch: 0, parked: None, refused, plain, outage: None }
    }

    pub(super) async fn run(mut self) {
        let mut wait = self.config.backoff_min;
        loop {
            let began = Instant::now();
            let connected_before = self.epoch;
            let over = self.once().await;
            if self.epoch > connected_before {
                let reason = match &over {
                    Over::Broken(reason) => reason.clone(),
                    Over::Wanted(_) | Over::Unknown => "it was ended".to_owned(),
                };
                let _ = self.ends.events.send(TransportEvent::Disconnected { reason, at: self.clock.wall() }).await;
                if began.elapsed() >= STABLE_AFTER {
                    wait = self.config.backoff_min;
                }
            }
            self.forget_what_is_stale();
            let done = match over {
                Over::Wanted(done) => Some(done),
                Over::Broken(reason) => {
                    self.say_broken(&reason);
                    let jittered = wait.mul_f64(0.75 + fastrand::f64() / 2.0);
                    wait = (wait * 2).min(self.config.backoff_max);
                    tokio::select! {
                        done = self.ends.stop.recv() => Some(done),
                        () = tokio::time::sleep(jittered) => None,
                    }
                }
                Over::Unknown => None,
            };
            if let Some(done) = done {
                if let Some(done) = done {
                    let _ = done.send(());
                }
                return;
            }
        }
    }

    /// One connection, from the attempt to its end.
    async fn once(&mut self) -> Over {
        let endpoint = self.endpoint.clone();
        let limit = self.config.connect_timeout;
        let channel = tokio::select! {
            done = self.ends.stop.recv() => return Over::Wanted(done),
            channel = timeout(limit, endpoint.connect()) => channel,
        };
        let channel = match channel {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Over::Broken(innermost(&error)),
            Err(_) => return Over::Broken("no answer in time".to_owned()),
        };
        match self.relay(channel.clone()).await {
            Err(Over::Unknown) => {
                tracing::info!(
                    server = self.config.server,
                    "the server knows no Relay: readings go by MonitorStream, which confirms nothing"
                );
                self.monitor_stream(channel).await
            }
            Err(over) => over,
            Ok(never) => match never {},
        }
    }

    async fn relay(&mut self, channel: Channel) -> Result<std::convert::Infallible, Over> {
        let mut service = AgentServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let (out, out_end) = mpsc::channel(STREAM_MESSAGES);
        let mut request = Request::new(Channelled(out_end));
        if let Ok(id) = MetadataValue::try_from(self.config.client_id.as_str()) {
            request.metadata_mut().insert(CLIENT_ID_KEY, id);
        }
        let answered = tokio::select! {
            done = self.ends.stop.recv() => return Err(Over::Wanted(done)),
            answered = timeout(self.config.connect_timeout, service.relay(request)) => answered,
        };
        let mut incoming = match answered {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) if status.code() == Code::Unimplemented => return Err(Over::Unknown),
            Ok(Err(status)) => return Err(status.into()),
            Err(_) => return Err(Over::Broken("no answer in time".to_owned())),
        };
        self.connected().await;
        let done = loop {
            let has_parked = self.parked.is_some();
            tokio::select! {
                done = self.ends.stop.recv() => break done,
                permit = out.reserve(), if has_parked => match permit {
                    Ok(permit) => permit.send(wire::FromAgent { message: self.parked.take() }),
                    // The stream is over; its status comes next.
                    Err(_) => self.parked = None,
                },
                Some(envelope) = self.ends.sends.recv(), if !has_parked => {
                    self.parked = Some(from_agent::Message::Envelope(envelope));
                }
                Some(result) = self.ends.results.recv(), if !has_parked => self.parked = Some(self.result(result)),
                answer = incoming.message() => match answer {
                    Ok(Some(answer)) => self.hear(answer),
                    Ok(None) => return Err(Over::Broken("the server has ended the stream".to_owned())),
                    Err(status) => return Err(status.into()),
                },
            }
            if self.parked.is_none()
                && let Some(refused) = self.refused.pop_front()
            {
                self.parked = Some(self.result(refused));
            }
        };
        let limit = self.config.disconnect_timeout;
        let finish = async move {
            while let Some(message) = self.parked.take().or_else(|| self.next_waiting()) {
                if out.send(wire::FromAgent { message: Some(message) }).await.is_err() {
                    return;
                }
            }
            drop(out);
            while let Ok(Some(_)) = incoming.message().await {}
        };
        let _ = timeout(limit, finish).await;
        Err(Over::Wanted(done))
    }

    /// What waits, without waiting for more.
    fn next_waiting(&mut self) -> Option<from_agent::Message> {
        if let Ok(envelope) = self.ends.sends.try_recv() {
            return Some(from_agent::Message::Envelope(envelope));
        }
        self.ends.results.try_recv().ok().map(|result| self.result(result))
    }

    fn result(&self, result: CommandResult) -> from_agent::Message {
        let CommandResult { id, success, output } = result;
        let timestamp = self.clock.wall().as_nanos() / 1_000_000_000;
        let client_id = self.config.client_id.as_str().to_owned();
        from_agent::Message::Result(wire::CommandResponse { command_id: id, success, output, timestamp, client_id })
    }

    fn hear(&mut self, answer: wire::ToAgent) {
        match answer.message {
            Some(to_agent::Message::Envelope(envelope)) => match PublisherId::parse(&envelope.publisher) {
                Ok(publisher) if envelope.kind == TopicKind::Confirm.as_str() => {
                    self.deliver(&publisher, envelope.payload);
                }
                Ok(_) => {
                    tracing::warn!(kind = %excerpt(&envelope.kind), "the server sent a message of a kind that is not for agents");
                }
                Err(error) => tracing::warn!(%error, "the server confirmed to nobody"),
            },
            Some(to_agent::Message::Command(command)) => {
                if let Some(refused) = command_from(&self.ends.commands, command) {
                    self.refused.push_back(refused);
                }
            }
            None => tracing::debug!("the server sent an empty message"),
        }
    }

    /// A confirmation. One for which there is no room is repeated by the server.
    fn deliver(&self, publisher: &PublisherId, payload: Vec<u8>) {
        let delivery = Delivery {
            topic: self.config.prefix.topic(publisher, TopicKind::Confirm),
            payload,
            retained: false,
            at: self.clock.monotonic(),
            wall: self.clock.wall(),
            way: Way::default(),
            mark: None,
            receipt: Receipt { connection_epoch: self.epoch, packet_id: 0 },
        };
        if self.ends.events.try_send(TransportEvent::Delivery(delivery)).is_err() {
            tracing::debug!(%publisher, "a confirmation was dropped: its publisher is busy; it is repeated");
        }
    }

    async fn monitor_stream(&mut self, channel: Channel) -> Over {
        let mut service = MonitoringServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let (out, out_end) = mpsc::channel(1);
        // An existing server may answer only with its first command: the call is not waited for.
        let call = async move { service.monitor_stream(Request::new(Channelled(out_end))).await };
        let mut call = std::pin::pin!(call);
        let mut incoming = None;
        self.connected().await;
        let done = loop {
            let idle = self.plain.is_empty();
            tokio::select! {
                done = self.ends.stop.recv() => break done,
                permit = out.reserve(), if !idle => match permit {
                    Ok(permit) => {
                        if let Some(data) = self.plain.next() {
                            permit.send(data);
                        }
                        self.confirm_plain();
                    }
                    // The call says why when it is answered.
                    Err(_) if incoming.is_none() => self.plain.clear(),
                    Err(_) => return Over::Broken("the server has ended the stream".to_owned()),
                },
                Some(message) = self.ends.sends.recv(), if idle => {
                    self.plain.take(&message);
                    self.confirm_plain();
                }
                Some(result) = self.ends.results.recv() => {
                    let id = excerpt(&result.id);
                    tracing::info!(command = id, success = result.success, "this server takes no results of commands");
                }
                answered = &mut call, if incoming.is_none() => match answered {
                    Ok(response) => incoming = Some(response.into_inner()),
                    Err(status) => return status.into(),
                },
                command = next_command(&mut incoming) => match command {
                    Ok(Some(command)) => {
                        if let Some(refused) = command_from(&self.ends.commands, command) {
                            tracing::warn!(command = %excerpt(&refused.id), "{}", refused.output);
                        }
                    }
                    Ok(None) => return Over::Broken("the server has ended the stream".to_owned()),
                    Err(status) => return status.into(),
                },
            }
        };
        let limit = self.config.disconnect_timeout;
        let finish = async {
            loop {
                while let Some(data) = self.plain.next() {
                    if out.send(data).await.is_err() {
                        return;
                    }
                }
                let Ok(message) = self.ends.sends.try_recv() else { break };
                self.plain.take(&message);
            }
            // The stream has taken all when there is room for the next.
            let _ = out.reserve().await;
        };
        let _ = timeout(limit, async {
            tokio::select! {
                () = finish => {}
                () = keep_calling(&mut call, &mut incoming) => {}
            }
        })
        .await;
        drop(out);
        // What is in the sockets is sent as long as the call is there.
        let _ = timeout(LAST_WORDS, async {
            if incoming.is_none()
                && let Ok(response) = call.await
            {
                incoming = Some(response.into_inner());
            }
            while let Ok(Some(_)) = next_command(&mut incoming).await {}
        })
        .await;
        Over::Wanted(done)
    }

    fn confirm_plain(&mut self) {
        for (publisher, payload) in self.plain.confirmations() {
            self.deliver(&publisher, payload);
        }
    }

    async fn connected(&mut self) {
        self.epoch += 1;
        let server = &self.config.server;
        match self.outage.take() {
            Some((since, attempts)) => {
                let away = describe_duration(self.clock.monotonic().since(since));
                tracing::info!(server, attempts, "connected to the server again after {away}");
            }
            None => tracing::info!(server, "connected to the server"),
        }
        let event = TransportEvent::Connected { connection_epoch: self.epoch, session_present: false };
        let _ = self.ends.events.send(event).await;
    }

    fn say_broken(&mut self, reason: &str) {
        let server = &self.config.server;
        match &mut self.outage {
            Some((_, attempts)) => {
                *attempts += 1;
                tracing::debug!(server, reason, attempts, "still no connection to the server");
            }
            None => {
                tracing::warn!(server, reason, "no connection to the server; trying again until there is one");
                self.outage = Some((self.clock.monotonic(), 1));
            }
        }
    }

    /// What waits speaks of a connection that has passed: its publisher says again, over the next one, what
    /// nobody has confirmed.
    fn forget_what_is_stale(&mut self) {
        self.plain.clear();
        if matches!(self.parked, Some(from_agent::Message::Envelope(_))) {
            self.parked = None;
        }
        while self.ends.sends.try_recv().is_ok() {}
    }
}

/// Goes on with a call whose answer nobody waits for, so that what was given to it is sent.
async fn keep_calling<T, F>(call: &mut std::pin::Pin<&mut F>, incoming: &mut Option<tonic::Streaming<T>>)
where
    F: Future<Output = Result<tonic::Response<tonic::Streaming<T>>, Status>>,
{
    if incoming.is_none() {
        match call.await {
            Ok(response) => *incoming = Some(response.into_inner()),
            Err(_) => return,
        }
    }
    std::future::pending::<()>().await;
}

async fn next_command(incoming: &mut Option<tonic::Streaming<wire::Command>>) -> Result<Option<wire::Command>, Status> {
    match incoming {
        Some(incoming) => incoming.message().await,
        None => std::future::pending().await,
    }
}

/// Hands a command on; where there is no room, what to answer.
fn command_from(commands: &mpsc::Sender<Command>, command: wire::Command) -> Option<CommandResult> {
    let wire::Command { command_id: id, command_type: kind, command_data: data, .. } = command;
    let refused = commands.try_send(Command { id: id.clone(), kind, data }).err()?;
    let output = match refused {
        mpsc::error::TrySendError::Full(_) => "refused: the agent is busy with earlier commands",
        mpsc::error::TrySendError::Closed(_) => "refused: the agent takes no commands",
    };
    Some(CommandResult { id, success: false, output: output.to_owned() })
}

fn excerpt(text: &str) -> String {
    text.chars().take(100).collect()
}

fn describe(status: &Status) -> String {
    let source = std::error::Error::source(status).map(innermost);
    source.unwrap_or_else(|| format!("{} ({:?})", excerpt(status.message()), status.code()))
}
