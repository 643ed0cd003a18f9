//! What the consumer of events has not taken yet, with its limits.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use heartwatch_ports::Delivery;
use heartwatch_ports::TransportEvent;

/// The queue before the channel to the consumer: it is bounded by messages and by bytes.
#[derive(Debug)]
pub(super) struct EventQueue {
    events: mpsc::Sender<TransportEvent>,
    waiting: VecDeque<TransportEvent>,
    /// What came over a connection that is not announced yet.
    early: Option<Vec<TransportEvent>>,
    bytes: usize,
    messages_max: usize,
    bytes_max: usize,
}

impl EventQueue {
    pub(super) fn new(events: mpsc::Sender<TransportEvent>, messages_max: usize, bytes_max: usize) -> Self {
        Self { events, waiting: VecDeque::new(), early: None, bytes: 0, messages_max, bytes_max }
    }

    /// Puts an event behind the others, also past the limit: the caller asks [`EventQueue::is_full`].
    pub(super) fn push(&mut self, event: TransportEvent) {
        self.bytes += bytes(&event);
        match &mut self.early {
            Some(early) => early.push(event),
            None => self.waiting.push_back(event),
        }
    }

    /// Keeps what is pushed from now on until [`EventQueue::release`].
    pub(super) fn hold(&mut self) {
        self.early = Some(Vec::new());
    }

    /// Lets through what was kept, behind `first`.
    pub(super) fn release(&mut self, first: Option<TransportEvent>) {
        let early = self.early.take().unwrap_or_default();
        self.waiting.extend(first.into_iter().chain(early));
    }

    /// Gives the consumer what its channel has room for.
    pub(super) fn pump(&mut self) {
        while let Some(event) = self.waiting.pop_front() {
            let bytes = bytes(&event);
            match self.events.try_send(event) {
                Ok(()) => self.bytes -= bytes,
                Err(mpsc::error::TrySendError::Full(event)) => {
                    self.waiting.push_front(event);
                    return;
                }
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    // nobody listens any more
                    self.waiting.clear();
                    self.bytes = self.early.iter().flatten().map(self::bytes).sum();
                }
            }
        }
    }

    /// Waits until [`EventQueue::pump`] can do something; for ever when nothing waits.
    pub(super) async fn room(&self) {
        if self.waiting.is_empty() {
            std::future::pending::<()>().await;
        }
        let _ = self.events.reserve().await;
    }

    /// Deliveries that nobody was given.
    pub(super) fn left(&self) -> impl Iterator<Item = &Delivery> {
        self.waiting.iter().chain(self.early.iter().flatten()).filter_map(|event| match event {
            TransportEvent::Delivery(delivery) => Some(delivery),
            TransportEvent::Connected { .. } | TransportEvent::Disconnected { .. } => None,
        })
    }

    pub(super) fn is_full(&self) -> bool {
        self.messages() >= self.messages_max || self.bytes >= self.bytes_max
    }

    /// Whether it has less room than half of its limits.
    pub(super) fn is_half_full(&self) -> bool {
        self.messages() > self.messages_max / 2 || self.bytes > self.bytes_max / 2
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages() == 0
    }

    pub(super) fn messages(&self) -> usize {
        self.waiting.len() + self.early.as_ref().map_or(0, Vec::len)
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}

fn bytes(event: &TransportEvent) -> usize {
    match event {
        TransportEvent::Delivery(delivery) => delivery.topic.len() + delivery.payload.len(),
        TransportEvent::Connected { .. } | TransportEvent::Disconnected { .. } => 0,
    }
}
