//! The monitor's other ear: readings from Kafka, beside the broker. Kafka being away says nothing about the broker,
//! so the watchdog is not told. Agents that are known only there are asked there.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::runtime::supervisor::Guarded;

use crate::config::Settings;
use crate::roles::connection::IngestOutlets;
use heartwatch_fleet::agents::Agents;
use heartwatch_ports::Transport;
use heartwatch_system::clock::Clock;

/// What to say where the program cannot do it.
#[cfg(not(feature = "kafka"))]
pub(super) const WITHOUT_KAFKA: &str =
    "this program was built without Kafka: build it with `cargo build --features kafka`";

/// The connection of the moment, if there is one. Clones are handles to the same.
#[derive(Clone)]
pub(super) struct KafkaIntake {
    current: Rc<RefCell<Option<Current>>>,
    agents: Agents,
    #[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "what would read needs it"))]
    clock: Clock,
}

struct Current {
    transport: Arc<dyn Transport>,
    pump: Guarded,
}

impl KafkaIntake {
    /// Nothing is read yet. The agents behind Kafka will be asked there.
    #[must_use]
    pub(super) fn new(agents: Agents, clock: Clock) -> Self {
        Self { current: Rc::default(), agents, clock }
    }

    /// Reads from the Kafka of the settings, where they name one.
    ///
    /// # Errors
    /// When this can work with no Kafka at all.
    #[cfg(feature = "kafka")]
    pub(super) fn read(&self, settings: &Settings, takers: &IngestOutlets) -> anyhow::Result<()> {
        use crate::actors::subscriber;
        use crate::messages::beats::LinkState;
        use heartwatch_domain::beat::Way;
        use heartwatch_domain::self_check::Reception;
        use heartwatch_fleet::kafka;
        let Some(config) = settings.kafka.clone() else { return Ok(()) };
        let brokers = config.brokers.clone();
        let (transport, events) = kafka::connect(config, settings.mqtt.prefix.clone(), self.clock)?;
        let (way, answers) = kafka::over_kafka(&brokers, transport.agents_heard(), self.clock)?;
        self.agents.ask_over(way, answers);
        let IngestOutlets { deliveries, reports, hearing, supervisor } = takers.clone();
        let hears_not_yet = LinkState {
            way: Way::Kafka,
            reception: Reception::Lost,
            at: self.clock.monotonic(),
            reason: format!("Kafka at {brokers} is not reached yet: who is heard there is not known"),
        };
        let said = hearing.clone();
        actix_rt::spawn(async move {
            if let Err(error) = said.deliver(hears_not_yet).await {
                tracing::error!(%error, "the watchdog was not told that there is another way to be heard");
            }
        });
        let pump =
            subscriber::pump(Way::Kafka, events, transport.clone(), deliveries, reports, Some(hearing), self.clock);
        let pump = supervisor.guard("reader of Kafka's messages", pump);
        *self.current.borrow_mut() = Some(Current { transport, pump });
        Ok(())
    }

    /// The same without Kafka in the program: wrong where the settings name one.
    ///
    /// # Errors
    /// When they do.
    #[cfg(not(feature = "kafka"))]
    pub(super) fn read(&self, settings: &Settings, _: &IngestOutlets) -> anyhow::Result<()> {
        anyhow::ensure!(settings.kafka.is_none(), WITHOUT_KAFKA);
        Ok(())
    }

    /// Ends the connection in order: what has arrived is written, and its place noted.
    pub(super) async fn close(&self) {
        self.agents.close_way("Kafka").await;
        let current = self.current.borrow_mut().take();
        if let Some(Current { transport, pump }) = current {
            pump.may_end();
            transport.disconnect().await;
            pump.ended().await;
            // With the last handle the last offsets are committed, which waits for the broker.
            let _ = actix_rt::task::spawn_blocking(move || drop(transport)).await;
        }
    }

    /// Reads from the Kafka of other settings from now on.
    ///
    /// # Errors
    /// As [`KafkaIntake::read`]; then nothing is read any more.
    pub(super) async fn replace(&self, settings: &Settings, takers: &IngestOutlets) -> anyhow::Result<()> {
        self.close().await;
        self.read(settings, takers)
    }
}
