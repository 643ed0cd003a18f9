//! The two services, as tonic calls them.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tonic::{Request, Response, Status, Streaming};

use super::agents::{Answers, Protocol};
use super::incoming::Use;
use super::intake::Intake;
use super::{AgentEvent, StreamState};
use crate::grpc::{CLIENT_ID_KEY, Channelled};
use crate::wire::monitoring as wire;
use crate::wire::monitoring::agent_service_server::AgentService;
use crate::wire::monitoring::monitoring_service_server::MonitoringService;
use heartwatch_domain::command::CommandResult;
use heartwatch_domain::publisher::PublisherId;

/// The services. Clones are handles to the same server.
pub(super) struct Streams(pub Arc<StreamState>);

/// A stream is over.
struct Over {
    /// Because the server ends.
    by_us: bool,
}

/// The next message of a stream whose answers go there.
async fn next<M, A>(
    messages: &mut Streaming<M>,
    answers: &mpsc::Sender<A>,
    stop: &mut watch::Receiver<bool>,
) -> Result<M, Over> {
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => Err(Over { by_us: true }),
        // It no longer listens: nobody reads what we confirm.
        () = answers.closed() => Err(Over { by_us: false }),
        message = messages.message() => message.ok().flatten().ok_or(Over { by_us: false }),
    }
}

#[tonic::async_trait]
impl AgentService for Streams {
    type RelayStream = Channelled<Result<wire::ToAgent, Status>>;

    async fn relay(&self, request: Request<Streaming<wire::FromAgent>>) -> Result<Response<Self::RelayStream>, Status> {
        let (answers, answers_end) = mpsc::channel(self.0.config.agent_queue_messages_max);
        let mut used = Use::of(request.extensions());
        let named = match request.metadata().get(CLIENT_ID_KEY) {
            Some(name) => {
                let parsed = name.to_str().ok().and_then(|name| PublisherId::parse(name).ok());
                Some(parsed.ok_or_else(|| {
                    self.0.registry().refused += 1;
                    Status::invalid_argument(format!(
                        "{CLIENT_ID_KEY}: use letters, digits, '.', '_', '-' or ':', 96 at most"
                    ))
                })?)
            }
            None => None,
        };
        let mut intake = Intake::begin(self.0.clone(), Answers::Relay(answers.clone()), Protocol::Relay)?;
        let mut stop = self.0.stop.subscribe();
        tokio::spawn(async move {
            if let Some(named) = named {
                intake.named(named.as_str()).await;
            }
            let mut messages = request.into_inner();
            let by_us = loop {
                let message = match next(&mut messages, &answers, &mut stop).await {
                    Ok(message) => message,
                    Err(Over { by_us }) => break by_us,
                };
                if let Err(status) = intake.relayed(message).await {
                    let _ = answers.try_send(Err(status));
                    break false;
                }
                used.begins();
            };
            intake.end(by_us).await;
        });
        Ok(Response::new(Channelled(answers_end)))
    }

    async fn report_result(
        &self,
        request: Request<wire::CommandResponse>,
    ) -> Result<Response<wire::ResultReceipt>, Status> {
        let wire::CommandResponse { command_id: id, success, output, client_id, .. } = request.into_inner();
        if self.0.registry().protocol_of(&client_id) == Some(Protocol::Relay) {
            // It answers on its stream: this is somebody else.
            tracing::warn!(client_id, id, "a result came beside the stream of an agent that answers on it");
            return Ok(Response::new(wire::ResultReceipt { known: false }));
        }
        let (known, answer) = oneshot::channel();
        let result = CommandResult { id, success, output };
        let event = AgentEvent::Result { client_id, result, known: Some(known) };
        self.0.agent_events.send(event).await.map_err(|_| Status::unavailable("the server is ending"))?;
        Ok(Response::new(wire::ResultReceipt { known: answer.await.unwrap_or(false) }))
    }
}

#[tonic::async_trait]
impl MonitoringService for Streams {
    type MonitorStreamStream = Channelled<Result<wire::Command, Status>>;

    async fn monitor_stream(
        &self,
        request: Request<Streaming<wire::MonitoringData>>,
    ) -> Result<Response<Self::MonitorStreamStream>, Status> {
        let (answers, answers_end) = mpsc::channel(self.0.config.agent_queue_messages_max);
        let mut used = Use::of(request.extensions());
        let mut intake = Intake::begin(self.0.clone(), Answers::Plain(answers.clone()), Protocol::MonitorStream)?;
        let mut stop = self.0.stop.subscribe();
        tokio::spawn(async move {
            let mut messages = request.into_inner();
            let every = intake.open_stream_every();
            let mut signs = interval_at(Instant::now() + every, every);
            signs.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let by_us = loop {
                let data = tokio::select! {
                    data = next(&mut messages, &answers, &mut stop) => data,
                    _ = signs.tick() => {
                        if intake.is_open().await.is_err() {
                            break true;
                        }
                        continue;
                    }
                };
                let data = match data {
                    Ok(data) => data,
                    Err(Over { by_us }) => break by_us,
                };
                if let Err(status) = intake.measured(data).await {
                    let _ = answers.try_send(Err(status));
                    break false;
                }
                used.begins();
            };
            intake.end(by_us).await;
        });
        Ok(Response::new(Channelled(answers_end)))
    }
}
