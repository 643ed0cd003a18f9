//! The monitor's session at its broker, against others that take it: a broker gives a session to whoever comes last with
//! its client id. When that happens twice within a minute, the monitor goes on under a new id, takes what still waits in
//! the old session, and ends it there; what others had subscribed to in it is named.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::actors::subscriber;
use crate::roles::connection::{Connection, IngestOutlets};
use crate::roles::session::{keep_sessions_over, new_client_id, sessions_over};
use heartwatch_adapters::broker::matches;
use heartwatch_adapters::mqtt::{self, MqttConfig, Overlap};
use heartwatch_domain::beat::Way;
use heartwatch_domain::marks::SourceMark;
use heartwatch_ports::Delivery;
use heartwatch_ports::{Transport, TransportEvent};
use heartwatch_system::clock::Clock;

/// So many takeovers within [`PERIOD`] are no accident.
const TAKEOVERS: usize = 2;
const PERIOD: Duration = Duration::from_secs(60);
/// While there is no connection, because a reload replaces it, it is looked for so often.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Nothing more waits in an old session when nothing has come for so long.
const QUIET: Duration = Duration::from_secs(1);
/// How long an old session is emptied, and how often others may interrupt that.
const EMPTYING_MAX: Duration = Duration::from_secs(10);
const INTERRUPTIONS_MAX: u32 = 3;
/// How long the broker may take to end it.
const ENDING_MAX: Duration = Duration::from_secs(10);
/// A message that comes over both sessions may come over the new one so much later.
const COPY_WAIT: Duration = Duration::from_millis(50);
/// Topics of others that are remembered and named.
const TOPICS_MAX: usize = 20;
/// Messages on their way to the subscriber.
const FORWARDED_MESSAGES: usize = 64;

/// What guards the session.
pub(super) struct Guard {
    pub connection: Connection,
    pub takers: IngestOutlets,
    pub data_dir: PathBuf,
    /// The user has chosen the client id, perhaps because the broker knows it: it stays.
    pub id_is_given: bool,
    /// Every takeover that was recognised.
    pub counted: Arc<AtomicU64>,
    pub clock: Clock,
}

impl Guard {
    /// Runs as long as the monitor.
    pub(super) async fn run(self) {
        self.end_old_sessions(&Overlap::default()).await;
        let mut recent = VecDeque::new();
        loop {
            let Some(mut taken_over) = self.connection.taken_over() else {
                sleep(LOOK_EVERY).await;
                continue;
            };
            let mut known = 0;
            while taken_over.wait_for(|times| *times > known).await.is_ok() {
                let times = *taken_over.borrow();
                let now = self.clock.monotonic();
                recent.extend((known..times).map(|_| now));
                recent.retain(|at| now.since(*at) < PERIOD);
                self.counted.fetch_add(times - known, Ordering::Relaxed);
                known = times;
                tracing::warn!(
                    "the broker closed the monitor's connection and took it back at once: it was restarted, or another client has the same client id"
                );
                if recent.len() >= TAKEOVERS {
                    recent.clear();
                    self.leave().await;
                    break;
                }
            }
            // it was replaced
            sleep(LOOK_EVERY).await;
        }
    }

    /// Goes on under a new id.
    async fn leave(&self) {
        if self.id_is_given {
            tracing::error!(
                "another client uses the client id of the configuration again and again: leave `mqtt.client_id` out, and the monitor's cannot be guessed"
            );
            return;
        }
        let Some(mut wanted) = self.connection.wanted() else { return };
        // both sessions are subscribed until the old one is ended
        let overlap = Overlap::noting();
        wanted.config.overlap = overlap.clone();
        let renamed = new_client_id(&self.data_dir, Some(&wanted.config.client_id));
        let replaced = match renamed {
            Ok(id) => {
                wanted.config.client_id = id;
                let reason = "another client seems to take its session at the broker over, twice within a minute: it goes on under a new one";
                tracing::error!(
                    "the monitor's MQTT connection was closed and taken back twice within a minute, as when another client takes its session over: it goes on under a new client id"
                );
                self.connection.replace_because(wanted, &self.takers, reason).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = replaced {
            tracing::error!(error = format!("{error:#}"), "the monitor has no new MQTT session");
        }
        self.end_old_sessions(&overlap).await;
        overlap.end();
    }

    /// Empties and ends every session that is over.
    async fn end_old_sessions(&self, overlap: &Overlap) {
        for id in sessions_over(&self.data_dir) {
            let Some(wanted) = self.connection.wanted() else { return };
            let config = MqttConfig {
                client_id: id.clone(),
                filters_over: Vec::new(),
                overlap: Overlap::default(),
                ..wanted.config
            };
            let result = async {
                self.empty(&config, &wanted.filters, overlap).await?;
                self.end(config).await
            };
            match result.await {
                Ok(()) => {
                    let left: Vec<String> =
                        sessions_over(&self.data_dir).into_iter().filter(|other| *other != id).collect();
                    if let Err(error) = keep_sessions_over(&self.data_dir, &left) {
                        tracing::warn!(
                            error = format!("{error:#}"),
                            "the ended MQTT session is ended again at the next start"
                        );
                    }
                }
                Err(error) => {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "the monitor's old MQTT session was not ended; at the next start it is tried again"
                    );
                }
            }
        }
    }

    /// Takes what waits in an old session: what is for us as if it came now, of the rest the topics.
    async fn empty(&self, config: &MqttConfig, filters: &[String], overlap: &Overlap) -> anyhow::Result<()> {
        let config = MqttConfig { clean_session: false, ..config.clone() };
        let (transport, mut events) = mqtt::connect(config, Vec::new(), None, self.clock)?;
        let (forward, forwarded) = mpsc::channel(FORWARDED_MESSAGES);
        let (deliveries, reports) = (self.takers.deliveries.clone(), self.takers.reports.clone());
        let pump = subscriber::pump(Way::Mqtt, forwarded, transport.clone(), deliveries, reports, None, self.clock);
        let pump = actix_rt::spawn(pump);
        let until = Instant::now() + EMPTYING_MAX;
        let (mut connected, mut interruptions, mut taken, mut of_others) = (false, 0, 0_u64, 0_u64);
        let mut topics = BTreeSet::new();
        loop {
            let wait = if connected { QUIET.min(until.duration_since(Instant::now())) } else { ENDING_MAX };
            match timeout(wait, events.recv()).await {
                Ok(Some(TransportEvent::Connected { session_present, .. })) if session_present => connected = true,
                Ok(Some(TransportEvent::Disconnected { .. })) if interruptions < INTERRUPTIONS_MAX => {
                    interruptions += 1;
                    connected = false;
                }
                Ok(Some(TransportEvent::Delivery(mut delivery))) => {
                    if filters.iter().any(|filter| matches(filter, &delivery.topic)) {
                        taken += 1;
                        if came_over_both(&delivery, overlap, events.is_empty()).await {
                            delivery.mark = Some(SourceMark::HandedOn);
                        }
                        let _ = forward.send(TransportEvent::Delivery(delivery)).await;
                    } else {
                        of_others += 1;
                        transport.acknowledge(vec![delivery.receipt]);
                        if topics.len() < TOPICS_MAX {
                            topics.insert(delivery.topic);
                        }
                    }
                }
                // quiet, nothing there, or no use
                _ => break,
            }
            if Instant::now() >= until {
                break;
            }
        }
        drop(forward);
        let _ = pump.await;
        transport.disconnect().await;
        if of_others > 0 {
            let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
            tracing::warn!(
                messages = of_others,
                topics = topics.join(", "),
                "others had subscribed in the monitor's old MQTT session; this waited in it"
            );
        }
        tracing::info!(messages = taken, "the monitor's old MQTT session is emptied");
        Ok(())
    }

    /// Has the broker forget it: a clean session under its id takes its place, and ends.
    async fn end(&self, config: MqttConfig) -> anyhow::Result<()> {
        let config = MqttConfig { clean_session: true, ..config };
        let (transport, mut events) = mqtt::connect(config, Vec::new(), None, self.clock)?;
        let until = Instant::now() + ENDING_MAX;
        let ended = async {
            loop {
                match timeout_at(until, events.recv()).await {
                    Ok(Some(TransportEvent::Connected { .. })) => return true,
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => return false,
                }
            }
        };
        let ended = ended.await;
        transport.disconnect().await;
        anyhow::ensure!(ended, "the broker does not answer under its id");
        Ok(())
    }
}

/// Whether a message of the old session came over the new one as well. One that just comes is waited for there.
async fn came_over_both(delivery: &Delivery, overlap: &Overlap, just_comes: bool) -> bool {
    let Some(SourceMark::Mqtt(mark)) = &delivery.mark else { return false };
    if mark.duplicate {
        return false;
    }
    let content = mark.content;
    if overlap.take(content) {
        return true;
    }
    if just_comes {
        sleep(COPY_WAIT).await;
    }
    just_comes && overlap.take(content)
}
