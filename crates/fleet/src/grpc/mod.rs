//! Agents and servers over gRPC (`proto/monitoring.proto`), with TLS where the server has a certificate and is named as
//! `https://`. Agents have no login: listen on a network that you trust.
//!
//! [`client`] is an agent's end, [`server`] the other one. Both are a [`heartwatch_ports::Transport`], so that whoever
//! publishes or subscribes over MQTT does it over gRPC unchanged: an [`heartwatch_ports::Outgoing`] is an
//! `Envelope` with what its topic says.

mod address;
pub mod client;
pub mod console;
pub mod console_socket;
pub mod server;

use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::Stream;

use crate::wire::monitoring::Envelope;
use heartwatch_formats::envelope::{Prefix, Topic};
use heartwatch_ports::{Outgoing, TransportError};

/// The metadata key in which our own agents say who they are, so that a command reaches them before their first message.
const CLIENT_ID_KEY: &str = "heartwatch-client-id";
/// Most bytes of one message: an envelope's payload has at most 1 MiB.
const MESSAGE_BYTES_MAX: usize = 2 * 1_048_576;

/// The messages of a channel, as a stream for tonic. It ends when the senders are gone.
struct Channelled<T>(mpsc::Receiver<T>);

impl<T> Stream for Channelled<T> {
    type Item = T;
    fn poll_next(mut self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_recv(context)
    }
}

/// The error at the bottom says what has happened; those above it only where.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// What a topic and its payload are on the stream.
fn envelope(prefix: &Prefix, message: Outgoing) -> Result<Envelope, TransportError> {
    let unsendable =
        |topic: &str, reason: String| TransportError::Unsendable { topic: topic.chars().take(200).collect(), reason };
    if message.payload.len() > heartwatch_formats::envelope::PAYLOAD_BYTES_MAX {
        let bytes = message.payload.len();
        return Err(unsendable(&message.topic, format!("it has {bytes} bytes")));
    }
    match Topic::parse(prefix, &message.topic) {
        Ok(topic) => Ok(Envelope {
            publisher: topic.publisher.as_str().to_owned(),
            kind: topic.kind.as_str().to_owned(),
            payload: message.payload,
        }),
        Err(error) => Err(unsendable(&message.topic, error.to_string())),
    }
}
