//! transport → subscriber: batches what arrives, keeps many batches on their way, acknowledges
//! each in order when its rows are safe, and tells the watchdog whether the monitor hears at all.
//!
//! While our own disk takes nothing, nothing is acknowledged, and a broker sends no more than its
//! window. So the watchdog is told of a batch that waits for too long: what is not heard then is our fault.
//!
//! Invariant: a delivery is acknowledged only after the subscriber has answered for it, or after it
//! has proved to be poison (its reader panics on it) and was reported.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::messages::beats::LinkState;
use crate::messages::deliveries::{Deliveries, ReportBad};
use crate::runtime::outlet::{ATTEMPTS_MAX, Outlet, Undelivered};
use heartwatch_domain::beat::Way;
use heartwatch_domain::self_check::Reception;
use heartwatch_formats::envelope::TopicKind;
use heartwatch_ports::Delivery;
use heartwatch_ports::{Receipt, Transport, TransportEvent};
use heartwatch_system::clock::Clock;

/// Most messages in one batch.
pub(super) const BATCH_MESSAGES_MAX: usize = 512;
/// Bytes of payloads from which a batch is full: reading it holds up everything else on the thread of the actors.
pub(super) const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Most messages on their way at once; the rest waits in the transport.
pub(super) const MESSAGES_IN_FLIGHT_MAX: usize = 8 * BATCH_MESSAGES_MAX;
/// A batch follows the one before it after this time at the earliest, so that it is worth its messages between the
/// actors and its part of a commit: there are signs of life in it. Where little comes, all of it is handed on at once.
pub(super) const GATHER: Duration = Duration::from_millis(3);
/// After a batch with so many messages it is [`GATHER_FLOOD`] instead.
pub(super) const FLOOD_MESSAGES: usize = 128;
/// While messages flood in, more of them share a commit: 330 synced ones a second take the disk's time from everything else.
pub(super) const GATHER_FLOOD: Duration = Duration::from_millis(6);
/// Bytes of payloads on their way at once from which no more are taken.
pub(super) const BYTES_IN_FLIGHT_MAX: usize = 4 * 1024 * 1024;
/// A batch that waits longer than this for the disk makes the monitor doubt its ears. An ordinary
/// commit takes some ten milliseconds.
pub(super) const STALL_MAX: Duration = Duration::from_millis(500);

/// Runs until the transport ends, the one of this way. Without a watchdog its state says nothing about the monitor's ears.
pub async fn pump(
    way: Way,
    mut events: mpsc::Receiver<TransportEvent>,
    transport: Arc<dyn Transport>,
    subscriber: Outlet<Deliveries>,
    reports: Outlet<ReportBad>,
    watchdog: Option<Outlet<LinkState>>,
    clock: Clock,
) {
    let mut in_flight = FuturesOrdered::new();
    let mut since: VecDeque<UnderWay> = VecDeque::new();
    let mut arrived: Vec<TransportEvent> = Vec::with_capacity(BATCH_MESSAGES_MAX);
    let mut ears = Ears { way, watchdog, clock, connected: false, stalled: false };
    let mut gathered = Gathered::default();
    loop {
        let messages: usize = since.iter().map(|batch| batch.messages).sum();
        let unacknowledged: usize = since.iter().map(|batch| batch.unacknowledged).sum();
        if gathered.is_worth_it(unacknowledged) {
            let batch = gathered.take(&mut since);
            in_flight.push_back(hand_over(batch, subscriber.clone(), reports.clone()));
            continue;
        }
        let bytes: usize = since.iter().map(|batch| batch.bytes).sum();
        let takes_more = messages < MESSAGES_IN_FLIGHT_MAX && bytes < BYTES_IN_FLIGHT_MAX;
        let stalls_at = since.front().map(|batch| batch.since + STALL_MAX);
        let gathered_at = gathered.due();
        tokio::select! {
            Some(receipts) = in_flight.next() => {
                transport.acknowledge(receipts);
                since.pop_front();
                if since.front().is_none_or(|batch| batch.since.elapsed() < STALL_MAX) {
                    ears.stalled(false).await;
                }
            }
            () = sleep_until(stalls_at.unwrap_or_else(Instant::now)), if stalls_at.is_some() && !ears.stalled => {
                ears.stalled(true).await;
            }
            () = sleep_until(gathered_at.unwrap_or_else(Instant::now)), if gathered_at.is_some() => {}
            count = events.recv_many(&mut arrived, BATCH_MESSAGES_MAX), if takes_more => {
                if count == 0 {
                    break;
                }
                for event in arrived.drain(..) {
                    match event {
                        TransportEvent::Delivery(delivery) => {
                            gathered.push(delivery);
                            if gathered.is_full() {
                                let batch = gathered.take(&mut since);
                                in_flight.push_back(hand_over(batch, subscriber.clone(), reports.clone()));
                            }
                        }
                        TransportEvent::Connected { .. } => {
                            gathered.unacknowledged_most = 0;
                            ears.connected(true, "").await;
                        }
                        TransportEvent::Disconnected { reason, .. } => ears.connected(false, &reason).await,
                    }
                }
            }
        }
    }
    if !gathered.deliveries.is_empty() {
        in_flight.push_back(hand_over(gathered.take(&mut since), subscriber, reports));
    }
    while let Some(receipts) = in_flight.next().await {
        transport.acknowledge(receipts);
    }
}

/// What came and is not handed over yet.
#[derive(Default)]
struct Gathered {
    deliveries: Vec<Delivery>,
    bytes: usize,
    /// Those that the broker waits for.
    unacknowledged: usize,
    /// Until when the batch before lets this one gather.
    gathers_until: Option<Instant>,
    /// Nothing more is waited for.
    ended: bool,
    /// The most messages of this connection that the broker waited for at one time. It may send no more than that before
    /// they are acknowledged: where as many are here again, none is waited for.
    unacknowledged_most: usize,
}

impl Gathered {
    fn push(&mut self, delivery: Delivery) {
        self.bytes += delivery.payload.len();
        self.unacknowledged += usize::from(delivery.receipt.packet_id != 0);
        // A goodbye races the end of its process, and a last will is a reason to look: they wait for nothing.
        let last_level = delivery.topic.rsplit('/').next();
        self.ended |= [TopicKind::Goodbye, TopicKind::LastWill].iter().any(|kind| last_level == Some(kind.as_str()));
        self.deliveries.push(delivery);
    }

    fn is_full(&self) -> bool {
        self.ended || self.deliveries.len() >= BATCH_MESSAGES_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    /// Until when more is waited for; none while there is nothing.
    fn due(&self) -> Option<Instant> {
        (!self.deliveries.is_empty()).then(|| self.gathers_until.unwrap_or_else(Instant::now))
    }

    /// Whether it is to be handed over, while the broker waits for so many others.
    fn is_worth_it(&mut self, others: usize) -> bool {
        let unacknowledged = self.unacknowledged + others;
        let all_are_here = unacknowledged > 0 && unacknowledged >= self.unacknowledged_most;
        self.unacknowledged_most = self.unacknowledged_most.max(unacknowledged);
        self.due().is_some_and(|due| all_are_here || self.is_full() || due <= Instant::now())
    }

    fn take(&mut self, under_way: &mut VecDeque<UnderWay>) -> Vec<Delivery> {
        let now = Instant::now();
        let gather = if self.deliveries.len() < FLOOD_MESSAGES { GATHER } else { GATHER_FLOOD };
        let (gathers_until, unacknowledged_most) = (Some(now + gather), self.unacknowledged_most);
        let next = Self { gathers_until, unacknowledged_most, ..Self::default() };
        let Self { deliveries, bytes, unacknowledged, .. } = std::mem::replace(self, next);
        under_way.push_back(UnderWay { since: now, messages: deliveries.len(), bytes, unacknowledged });
        deliveries
    }
}

/// A batch that the subscriber has not answered for.
struct UnderWay {
    since: Instant,
    messages: usize,
    bytes: usize,
    unacknowledged: usize,
}

/// What the watchdog is told of the monitor's own ears: they are open when the connection is up and
/// our own disk does not hold up what comes over it.
struct Ears {
    way: Way,
    watchdog: Option<Outlet<LinkState>>,
    clock: Clock,
    connected: bool,
    stalled: bool,
}

impl Ears {
    async fn connected(&mut self, connected: bool, reason: &str) {
        self.connected = connected;
        // While the disk stalls it stays as it is; that is told when the stall ends.
        if !connected || !self.stalled {
            self.tell(if connected { Reception::Open } else { Reception::Lost }, reason).await;
        }
    }

    async fn stalled(&mut self, stalled: bool) {
        if std::mem::replace(&mut self.stalled, stalled) == stalled {
            return;
        }
        if stalled {
            tracing::warn!(
                stall_ms = STALL_MAX.as_millis(),
                "the monitor's own disk takes nothing; silence is no evidence meanwhile"
            );
        } else {
            tracing::info!("the monitor's own disk takes rows again; silence counts again");
        }
        if self.connected {
            let reception = if stalled { Reception::HeldUp } else { Reception::Open };
            self.tell(reception, "its own disk takes nothing at the moment").await;
        }
    }

    async fn tell(&self, reception: Reception, reason: &str) {
        let Some(watchdog) = &self.watchdog else { return };
        let now = self.clock.monotonic();
        // It is told only once the batch has waited for so long.
        let at = if reception == Reception::HeldUp { now.earlier_by(STALL_MAX) } else { now };
        if let Err(error) =
            watchdog.deliver(LinkState { way: self.way, reception, at, reason: reason.to_owned() }).await
        {
            tracing::error!(%error, "the watchdog was not told about the connection");
        }
    }
}

/// Hands a batch over. Where that fails itself, it is done again, so many times as a message may be given to its reader.
async fn hand_over(batch: Vec<Delivery>, subscriber: Outlet<Deliveries>, reports: Outlet<ReportBad>) -> Vec<Receipt> {
    let batch = Arc::new(batch);
    for _ in 1..ATTEMPTS_MAX {
        match AssertUnwindSafe(hand_over_in_parts(batch.clone(), &subscriber, &reports)).catch_unwind().await {
            Ok(receipts) => return receipts,
            Err(_) => tracing::error!(messages = batch.len(), "messages could not be handed over, trying again"),
        }
    }
    hand_over_in_parts(batch, &subscriber, &reports).await
}

/// A batch that kills its reader is halved until the poisonous message is alone.
async fn hand_over_in_parts(
    batch: Arc<Vec<Delivery>>,
    subscriber: &Outlet<Deliveries>,
    reports: &Outlet<ReportBad>,
) -> Vec<Receipt> {
    let receipts = batch.iter().map(|delivery| delivery.receipt).collect();
    let mut left = VecDeque::from([batch]);
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
                fail::fail_point!("pump::poison");
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use actix::{Actor, Context, Handler};

    use super::*;
    use crate::runtime::failpoints::{left, panic_at};
    use crate::runtime::supervisor::Supervisor;
    use heartwatch_domain::restart::RestartLimits;
    use heartwatch_domain::time::{Monotonic, Timestamp};

    #[tokio::test(start_paused = true)]
    async fn what_is_heard_waits_for_more_and_what_ends_somebody_waits_for_nothing() {
        for kind in TopicKind::FROM_PUBLISHERS {
            let mut gathered = Gathered::default();
            gathered.push(delivery(TopicKind::Heartbeat, 1));
            assert!(!gathered.is_full());
            gathered.push(delivery(kind, 1));
            assert_eq!(gathered.is_full(), matches!(kind, TopicKind::Goodbye | TopicKind::LastWill), "{kind}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_follows_another_one_later_or_when_nothing_more_can_come() {
        let (mut gathered, mut under_way) = (Gathered::default(), VecDeque::new());
        let come = |gathered: &mut Gathered, messages: usize, packet_id: u16| {
            (0..messages).for_each(|_| gathered.push(delivery(TopicKind::Readings, packet_id)));
        };
        assert!(!gathered.is_worth_it(0), "there is nothing");
        come(&mut gathered, 20, 1);
        assert!(gathered.is_worth_it(0), "nothing came before");
        gathered.take(&mut under_way);
        come(&mut gathered, 19, 1);
        assert!(!gathered.is_worth_it(0), "it waits for more");
        come(&mut gathered, 1, 1);
        assert!(gathered.is_worth_it(0), "the broker has never sent more before an acknowledgement");
        gathered.take(&mut under_way);
        come(&mut gathered, 1, 0);
        assert!(!gathered.is_worth_it(0), "the broker waits for no acknowledgement of it");
        tokio::time::advance(GATHER).await;
        assert!(gathered.is_worth_it(0));

        come(&mut gathered, FLOOD_MESSAGES, 0);
        gathered.take(&mut under_way);
        come(&mut gathered, 1, 0);
        tokio::time::advance(GATHER).await;
        assert!(!gathered.is_worth_it(0), "many came before");
        tokio::time::advance(GATHER_FLOOD - GATHER).await;
        assert!(gathered.is_worth_it(0));
    }

    fn delivery(kind: TopicKind, packet_id: u16) -> Delivery {
        Delivery {
            topic: format!("heartwatch/v1/a/{kind}"),
            payload: b"{}".to_vec(),
            retained: false,
            at: Monotonic::START,
            wall: Timestamp::from_nanos(0),
            way: Way::Mqtt,
            mark: None,
            receipt: Receipt { connection_epoch: 1, packet_id },
        }
    }

    /// Panics on messages of one packet id, and counts what was reported.
    struct Reader {
        poison: u16,
        reported: Rc<RefCell<Vec<u16>>>,
    }

    impl Actor for Reader {
        type Context = Context<Self>;
    }

    crate::messages::progress::answers_progress!(Reader);

    impl Handler<Deliveries> for Reader {
        type Result = ();
        fn handle(&mut self, deliveries: Deliveries, _: &mut Context<Self>) {
            assert!(deliveries.0.iter().all(|delivery| delivery.receipt.packet_id != self.poison), "poison");
        }
    }

    impl Handler<ReportBad> for Reader {
        type Result = ();
        fn handle(&mut self, report: ReportBad, _: &mut Context<Self>) {
            self.reported.borrow_mut().push(report.delivery.receipt.packet_id);
        }
    }

    #[test]
    fn a_poisonous_message_is_reported_and_all_are_acknowledged_also_when_that_fails_in_the_middle() {
        let paused = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        actix_rt::System::with_tokio_rt(paused).block_on(async {
            let limits = RestartLimits { restarts_max: 1_000, ..RestartLimits::default() };
            let (supervisor, _escalations) = Supervisor::new(Clock::start(), limits);
            let reported = Rc::new(RefCell::new(Vec::new()));
            let known = reported.clone();
            let reader = supervisor.start("reader", move |_| Reader { poison: 6, reported: known.clone() });
            panic_at("pump::poison", ATTEMPTS_MAX - 1);
            let batch: Vec<_> = (1..=9).map(|packet_id| delivery(TopicKind::Readings, packet_id)).collect();
            let receipts = hand_over(batch, reader.address.outlet(), reader.address.outlet()).await;
            assert_eq!(left("pump::poison"), 0);
            assert_eq!(
                receipts.iter().map(|receipt| receipt.packet_id).collect::<Vec<_>>(),
                (1..=9).collect::<Vec<_>>()
            );
            assert_eq!(*reported.borrow(), [6], "it is reported once");
        });
    }
}
