//! The monitor's connection to its broker, which a reload may replace.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, watch};

use crate::actors::subscriber;
use crate::messages::beats::LinkState;
use crate::messages::deliveries::{Deliveries, ReportBad};
use crate::runtime::outlet::Outlet;
use crate::runtime::supervisor::{Guarded, Supervisor};
use heartwatch_adapters::mqtt::{self, MqttConfig, ReplaceableTransport, Unacknowledged, Will};
use heartwatch_domain::beat::Way;
use heartwatch_domain::self_check::Reception;
use heartwatch_ports::{Transport, TransportEvent};
use heartwatch_system::clock::Clock;

/// Who takes what comes over the connection.
#[derive(Clone)]
pub(super) struct IngestOutlets {
    /// The subscriber.
    pub deliveries: Outlet<Deliveries>,
    /// The subscriber, for what killed it.
    pub reports: Outlet<ReportBad>,
    /// The watchdog, for whether we hear.
    pub hearing: Outlet<LinkState>,
    /// Who notices when nothing is handed on any more.
    pub supervisor: Supervisor,
}

/// One connection, and what it is made of.
#[derive(Clone)]
pub(super) struct Wanted {
    /// The broker and how to reach it.
    pub config: MqttConfig,
    /// What to subscribe to.
    pub filters: Vec<String>,
    /// What the broker says when it is lost.
    pub will: Will,
}

/// The connection of the moment. Clones are handles to the same one.
#[derive(Clone)]
pub(super) struct Connection {
    handle: Arc<ReplaceableTransport>,
    current: Rc<RefCell<Option<Current>>>,
    /// What one connection leaves to the next.
    unacknowledged: Unacknowledged,
    /// What the present one is made of; none for one that was there already.
    wanted: Rc<RefCell<Option<Wanted>>>,
    /// One replacement at a time: a second one in the middle would lose a connection without its goodbye.
    replacing: Rc<Mutex<()>>,
    clock: Clock,
}

struct Current {
    transport: Arc<dyn Transport>,
    /// How often its broker closed it and took it back at once; none where that is not known.
    taken_over: Option<watch::Receiver<u64>>,
    /// Until somebody takes them.
    events: Option<mpsc::Receiver<TransportEvent>>,
    pump: Option<Guarded>,
}

impl Connection {
    /// Begins to connect; nothing is read before [`Connection::pump`].
    ///
    /// # Errors
    /// When this can work with no broker at all: a certificate that cannot be read, for example.
    pub(super) fn open(wanted: Wanted, clock: Clock) -> anyhow::Result<Self> {
        let unacknowledged = wanted.config.unacknowledged.clone();
        let current = Current::open(wanted.clone(), clock)?;
        Ok(Self::of(current, Some(wanted), unacknowledged, clock))
    }

    /// Over a transport that is there already.
    #[must_use]
    pub(super) fn over(transport: Arc<dyn Transport>, events: mpsc::Receiver<TransportEvent>, clock: Clock) -> Self {
        Self::of(
            Current { transport, taken_over: None, events: Some(events), pump: None },
            None,
            Unacknowledged::default(),
            clock,
        )
    }

    fn of(current: Current, wanted: Option<Wanted>, unacknowledged: Unacknowledged, clock: Clock) -> Self {
        Self {
            handle: Arc::new(ReplaceableTransport::new(current.transport.clone())),
            current: Rc::new(RefCell::new(Some(current))),
            wanted: Rc::new(RefCell::new(wanted)),
            replacing: Rc::default(),
            unacknowledged,
            clock,
        }
    }

    /// How often the broker closed the present one and took it back at once; none while there is none.
    #[must_use]
    pub(super) fn taken_over(&self) -> Option<watch::Receiver<u64>> {
        self.current.borrow().as_ref()?.taken_over.clone()
    }

    /// What the present one is made of.
    #[must_use]
    pub(super) fn wanted(&self) -> Option<Wanted> {
        self.wanted.borrow().clone()
    }

    /// The handle to publish with: it stays when the connection is replaced.
    #[must_use]
    pub(super) fn transport(&self) -> Arc<dyn Transport> {
        self.handle.clone()
    }

    /// Hands what comes to those who take it.
    pub(super) fn pump(&self, takers: &IngestOutlets) {
        if let Some(current) = &mut *self.current.borrow_mut() {
            current.pump(takers.clone(), self.clock);
        }
    }

    /// Ends the connection in order: what has arrived is written and acknowledged where it lasts.
    pub(super) async fn close(&self) {
        let current = self.current.borrow_mut().take();
        if let Some(Current { transport, events, pump, .. }) = current {
            pump.iter().for_each(Guarded::may_end);
            transport.disconnect().await;
            if events.is_some() {
                self.unacknowledged.forget();
            }
            drop(events);
            if let Some(pump) = pump {
                pump.ended().await;
            }
        }
    }

    /// Ends the connection and makes another one. What cannot work with any broker is found first:
    /// then the old one stays.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub(super) async fn replace(&self, wanted: Wanted, takers: &IngestOutlets) -> anyhow::Result<()> {
        self.replace_because(wanted, takers, "its connection to the broker is being replaced").await
    }

    /// The same, with the reason that the monitor gives while it does not hear.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub(super) async fn replace_because(
        &self,
        mut wanted: Wanted,
        takers: &IngestOutlets,
        reason: &str,
    ) -> anyhow::Result<()> {
        let _one_at_a_time = self.replacing.lock().await;
        wanted.config.validate()?;
        wanted.config.unacknowledged = self.unacknowledged.clone();
        self.close().await;
        let reason = reason.to_owned();
        let hearing = LinkState { way: Way::Mqtt, reception: Reception::Lost, at: self.clock.monotonic(), reason };
        takers.hearing.deliver(hearing).await?;
        let mut next = Current::open(wanted.clone(), self.clock)?;
        *self.wanted.borrow_mut() = Some(wanted);
        next.pump(takers.clone(), self.clock);
        self.handle.replace(next.transport.clone());
        *self.current.borrow_mut() = Some(next);
        Ok(())
    }
}

impl Current {
    fn open(Wanted { config, filters, will }: Wanted, clock: Clock) -> anyhow::Result<Self> {
        let (transport, events) = mqtt::connect(config, filters, Some(will), clock)?;
        let taken_over = Some(transport.taken_over());
        Ok(Self { transport, taken_over, events: Some(events), pump: None })
    }

    fn pump(&mut self, takers: IngestOutlets, clock: Clock) {
        let Some(events) = self.events.take() else { return };
        let IngestOutlets { deliveries, reports, hearing, supervisor } = takers;
        // Over this very transport: a receipt of another one means nothing to it.
        let pump =
            subscriber::pump(Way::Mqtt, events, self.transport.clone(), deliveries, reports, Some(hearing), clock);
        self.pump = Some(supervisor.guard("reader of the broker's messages", pump));
    }
}
