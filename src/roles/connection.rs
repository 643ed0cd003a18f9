//! The monitor's connection to its broker, which a reload may replace.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use actix_rt::task::JoinHandle;
use tokio::sync::mpsc;

use crate::actors::subscriber;
use crate::adapters::mqtt::{self, MqttConfig, ReplaceableTransport, Unacknowledged, Will};
use crate::messages::beats::{Hearing, Reception};
use crate::messages::deliveries::{Deliveries, ReportBad};
use crate::ports::{Transport, TransportEvent};
use crate::runtime::clock::Clock;
use crate::runtime::outlet::Outlet;

/// Who takes what comes over the connection.
#[derive(Clone)]
pub struct Takers {
    /// The subscriber.
    pub deliveries: Outlet<Deliveries>,
    /// The subscriber, for what killed it.
    pub reports: Outlet<ReportBad>,
    /// The watchdog, for whether we hear.
    pub hearing: Outlet<Hearing>,
}

/// One connection, and what it is made of.
pub struct Wanted {
    /// The broker and how to reach it.
    pub config: MqttConfig,
    /// What to subscribe to.
    pub filters: Vec<String>,
    /// What the broker says when it is lost.
    pub will: Will,
}

/// The connection of the moment. Clones are handles to the same one.
#[derive(Clone)]
pub struct Connection {
    handle: Arc<ReplaceableTransport>,
    current: Rc<RefCell<Option<Current>>>,
    /// What one connection leaves to the next.
    unacknowledged: Unacknowledged,
    clock: Clock,
}

struct Current {
    transport: Arc<dyn Transport>,
    /// Until somebody takes them.
    events: Option<mpsc::Receiver<TransportEvent>>,
    pump: Option<JoinHandle<()>>,
}

impl Connection {
    /// Begins to connect; nothing is read before [`Connection::pump`].
    ///
    /// # Errors
    /// When this can work with no broker at all: a certificate that cannot be read, for example.
    pub fn open(wanted: Wanted, clock: Clock) -> anyhow::Result<Self> {
        let unacknowledged = wanted.config.unacknowledged.clone();
        let current = Current::open(wanted, clock)?;
        let handle = Arc::new(ReplaceableTransport::new(current.transport.clone()));
        Ok(Self { handle, current: Rc::new(RefCell::new(Some(current))), unacknowledged, clock })
    }

    /// Over a transport that is there already.
    #[must_use]
    pub fn over(transport: Arc<dyn Transport>, events: mpsc::Receiver<TransportEvent>, clock: Clock) -> Self {
        let handle = Arc::new(ReplaceableTransport::new(transport.clone()));
        let current = Current { transport, events: Some(events), pump: None };
        let unacknowledged = Unacknowledged::default();
        Self { handle, current: Rc::new(RefCell::new(Some(current))), unacknowledged, clock }
    }

    /// The handle to publish with: it stays when the connection is replaced.
    #[must_use]
    pub fn transport(&self) -> Arc<dyn Transport> {
        self.handle.clone()
    }

    /// Hands what comes to those who take it.
    pub fn pump(&self, takers: &Takers) {
        if let Some(current) = &mut *self.current.borrow_mut() {
            current.pump(takers.clone(), self.clock);
        }
    }

    /// Ends the connection in order: what has arrived is written and acknowledged where it lasts.
    pub async fn close(&self) {
        let current = self.current.borrow_mut().take();
        if let Some(Current { transport, events, pump }) = current {
            transport.disconnect().await;
            if events.is_some() {
                self.unacknowledged.forget();
            }
            drop(events);
            if let Some(pump) = pump {
                let _ = pump.await;
            }
        }
    }

    /// Ends the connection and makes another one. What cannot work with any broker is found first:
    /// then the old one stays.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub async fn replace(&self, mut wanted: Wanted, takers: &Takers) -> anyhow::Result<()> {
        wanted.config.validate()?;
        wanted.config.unacknowledged = self.unacknowledged.clone();
        self.close().await;
        let reason = "its connection to the broker is being replaced".to_owned();
        let hearing = Hearing { reception: Reception::Lost, at: self.clock.monotonic(), reason };
        takers.hearing.deliver(hearing).await?;
        let mut next = Current::open(wanted, self.clock)?;
        next.pump(takers.clone(), self.clock);
        self.handle.replace(next.transport.clone());
        *self.current.borrow_mut() = Some(next);
        Ok(())
    }
}

impl Current {
    fn open(Wanted { config, filters, will }: Wanted, clock: Clock) -> anyhow::Result<Self> {
        let (transport, events) = mqtt::connect(config, filters, Some(will), clock)?;
        Ok(Self { transport, events: Some(events), pump: None })
    }

    fn pump(&mut self, takers: Takers, clock: Clock) {
        let Some(events) = self.events.take() else { return };
        let Takers { deliveries, reports, hearing } = takers;
        // Over this very transport: a receipt of another one means nothing to it.
        let pump = subscriber::pump(events, self.transport.clone(), deliveries, reports, Some(hearing), clock);
        self.pump = Some(actix_rt::spawn(pump));
    }
}
