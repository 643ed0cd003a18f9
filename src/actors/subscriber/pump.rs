//! transport → subscriber: batches what arrives, keeps several batches on their way, acknowledges
//! each in order when its rows are safe, and tells the watchdog whether the monitor hears at all.
//!
//! Invariant: a delivery is acknowledged only after the subscriber has answered for it, or after it
//! has proved to be poison (its reader panics on it) and was reported.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::sync::mpsc;

use crate::messages::beats::Hearing;
use crate::messages::deliveries::{Deliveries, Delivery, ReportBad};
use crate::ports::{Receipt, Transport, TransportEvent};
use crate::runtime::clock::Clock;
use crate::runtime::outlet::{Outlet, Undelivered};

/// Most messages in one batch.
pub const BATCH_MESSAGES_MAX: usize = 512;
/// Most batches on their way at once.
pub const BATCHES_IN_FLIGHT_MAX: usize = 8;

/// Runs until the transport ends.
pub async fn pump(
    mut events: mpsc::Receiver<TransportEvent>,
    transport: Arc<dyn Transport>,
    subscriber: Outlet<Deliveries>,
    reports: Outlet<ReportBad>,
    watchdog: Outlet<Hearing>,
    clock: Clock,
) {
    let mut in_flight = FuturesOrdered::new();
    let mut arrived: Vec<TransportEvent> = Vec::with_capacity(BATCH_MESSAGES_MAX);
    loop {
        tokio::select! {
            Some(receipts) = in_flight.next() => transport.acknowledge(receipts),
            count = events.recv_many(&mut arrived, BATCH_MESSAGES_MAX), if in_flight.len() < BATCHES_IN_FLIGHT_MAX => {
                if count == 0 {
                    break;
                }
                let mut batch = Vec::with_capacity(count);
                for event in arrived.drain(..) {
                    match event {
                        TransportEvent::Delivery(delivery) => batch.push(delivery),
                        TransportEvent::Connected { .. } => hear(&watchdog, true, "", clock).await,
                        TransportEvent::Disconnected { reason } => hear(&watchdog, false, &reason, clock).await,
                    }
                }
                if !batch.is_empty() {
                    in_flight.push_back(hand_over(batch, subscriber.clone(), reports.clone()));
                }
            }
        }
    }
    while let Some(receipts) = in_flight.next().await {
        transport.acknowledge(receipts);
    }
}

async fn hear(watchdog: &Outlet<Hearing>, connected: bool, reason: &str, clock: Clock) {
    let hearing = Hearing { connected, at: clock.monotonic(), reason: reason.to_owned() };
    if let Err(error) = watchdog.deliver(hearing).await {
        tracing::error!(%error, "the watchdog was not told about the connection");
    }
}

/// Hands a batch over; one that kills its reader is halved until the poisonous message is alone.
async fn hand_over(batch: Vec<Delivery>, subscriber: Outlet<Deliveries>, reports: Outlet<ReportBad>) -> Vec<Receipt> {
    let receipts = batch.iter().map(|delivery| delivery.receipt).collect();
    let mut left = VecDeque::from([Arc::new(batch)]);
    while let Some(part) = left.pop_front() {
        match subscriber.deliver(Deliveries(part.clone())).await {
            Ok(()) => {}
            Err(Undelivered::Poison { .. }) if part.len() > 1 => {
                let (first, second) = part.split_at(part.len() / 2);
                left.push_front(Arc::new(second.to_vec()));
                left.push_front(Arc::new(first.to_vec()));
            }
            Err(Undelivered::Poison { .. }) => {
                let Some(delivery) = part.first().cloned() else { continue };
                let reason = "the subscriber ended each time it read this message".to_owned();
                if let Err(error) = reports.deliver(ReportBad { delivery, reason }).await {
                    tracing::error!(%error, "a poisonous message could not be reported");
                }
            }
            Err(error) => {
                // The program is ending: nothing is acknowledged, so the broker keeps it.
                tracing::warn!(%error, messages = part.len(), "messages stay with the broker");
                return Vec::new();
            }
        }
    }
    receipts
}
