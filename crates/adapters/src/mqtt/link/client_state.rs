//! The inner state of the MQTT client's event loop. Its crate makes these fields public and promises nothing about them: this is
//! the one file that touches them, and the version is pinned.

use std::collections::VecDeque;

use futures_util::FutureExt as _;
use rumqttc::{ConnectionError, Event, EventLoop, Packet, Publish, Request};

/// What we do with it beyond its interface.
#[expect(clippy::result_large_err, reason = "the client's own error, at the end of a connection")]
pub(super) trait ClientState {
    /// Whether there is a connection.
    fn is_connected(&self) -> bool;
    /// A packet that has come already; none where there is none, or no connection.
    fn read_now(&mut self) -> Option<Result<Packet, ConnectionError>>;
    /// Sends packets in one piece, where there is a connection.
    async fn write(&mut self, packets: Vec<Packet>) -> Result<(), ConnectionError>;
    /// What it has to tell next.
    fn next_event(&mut self) -> Option<Event>;
    /// Whoever sends is there: the answer to a ping stands behind all that waits for us.
    fn ping_is_answered(&mut self);
    /// What it sends over this connection or the next one, in this order.
    fn requests(&mut self) -> &mut VecDeque<Request>;
    /// Takes the requests that can be sent now, as packets. A message whose packet id is in use waits until it is free, and
    /// there is room for one.
    fn take_requests(&mut self) -> Result<Vec<Packet>, ConnectionError>;
    /// Takes a packet that has come; what is to be answered.
    fn take(&mut self, packet: Packet) -> Result<Option<Packet>, ConnectionError>;
    /// The message that waits for its packet id.
    fn take_blocked(&mut self) -> Option<Publish>;
}

impl ClientState for EventLoop {
    fn is_connected(&self) -> bool {
        self.network.is_some()
    }

    fn read_now(&mut self) -> Option<Result<Packet, ConnectionError>> {
        let read = self.network.as_mut()?.read().now_or_never()?;
        Some(read.map_err(ConnectionError::from))
    }

    async fn write(&mut self, packets: Vec<Packet>) -> Result<(), ConnectionError> {
        let Some(network) = self.network.as_mut().filter(|_| !packets.is_empty()) else { return Ok(()) };
        for packet in packets {
            network.write(packet).await?;
        }
        Ok(network.flush().await?)
    }

    fn next_event(&mut self) -> Option<Event> {
        self.state.events.pop_front()
    }

    fn ping_is_answered(&mut self) {
        self.state.await_pingresp = false;
    }

    fn requests(&mut self) -> &mut VecDeque<Request> {
        &mut self.pending
    }

    fn take_requests(&mut self) -> Result<Vec<Packet>, ConnectionError> {
        let mut packets = Vec::new();
        while self.state.collision.is_none()
            && let Some(request) = self.pending.pop_front()
        {
            packets.extend(self.state.handle_outgoing_packet(request)?);
        }
        Ok(packets)
    }

    fn take(&mut self, packet: Packet) -> Result<Option<Packet>, ConnectionError> {
        Ok(self.state.handle_incoming_packet(packet)?)
    }

    fn take_blocked(&mut self) -> Option<Publish> {
        self.state.collision.take()
    }
}
