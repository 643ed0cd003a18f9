//! What a subscriber takes that acknowledges and counts, and does nothing else, from a broker like the monitor's and the same
//! publishers.

use std::time::Duration;

use anyhow::Context as _;
use rumqttc::{Event, Packet};
use tokio::sync::watch;
use tokio::time::Instant;

use super::load::{Load, client};
use super::processes::{Used, pid_of};
use super::programs::{Directory, mosquitto, whole};
use super::sender::{READINGS_ON_THEIR_WAY_MAX, Sender};

/// How long a measurement may take.
const MEASUREMENT_TIMEOUT: Duration = Duration::from_secs(900);

/// What it does, and the CPU time of the broker, the publishers and itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct BareSubscriber {
    pub rows_per_second: f64,
    pub cpu_seconds_per_million: f64,
}

impl BareSubscriber {
    /// Measures one with a broker of its own: what this one keeps of a million messages is no burden for the next. None
    /// where there is no broker.
    ///
    /// # Errors
    /// When not all messages arrive.
    pub async fn measure(load: &Load, broker_settings: &str) -> anyhow::Result<Option<Self>> {
        let directory = Directory::below(&std::env::temp_dir())?;
        let Some((broker, mqtt_url)) = mosquitto(directory.path(), broker_settings).await? else { return Ok(None) };
        let (client, mut connection) = client(&mqtt_url, "heartwatch-bench-bare")?;
        client.subscribe("heartwatch/v1/+/readings", rumqttc::QoS::AtLeastOnce).await?;
        while !matches!(connection.poll().await?, Event::Incoming(Packet::SubAck(_))) {}
        let sender = Sender::prepare(load, &mqtt_url)?;
        // as seldom as the monitor is asked
        let tell_every = (READINGS_ON_THEIR_WAY_MAX / 8).div_ceil(load.readings_per_message);
        let (messages, mut came) = (load.messages(), 0);
        let used = Used::now([pid_of(&broker)?, std::process::id()])?;
        let start = Instant::now();
        let (arrived, arriving) = watch::channel(0);
        let sending = sender.start(arriving);
        let count = async {
            while came < messages {
                if matches!(connection.poll().await?, Event::Incoming(Packet::Publish(_))) {
                    came += 1;
                    if came.is_multiple_of(tell_every) {
                        arrived.send_replace(came * load.readings_per_message);
                    }
                }
            }
            anyhow::Ok(())
        };
        let counted = tokio::time::timeout(MEASUREMENT_TIMEOUT, count).await;
        counted
            .with_context(|| format!("{} messages did not arrive within {MEASUREMENT_TIMEOUT:?}", messages - came))??;
        let seconds = start.elapsed().as_secs_f64();
        let rows = load.rows as u64;
        let cpu_seconds_per_million = used.since(rows)?.iter().sum();
        sending.finish().await?;
        Ok(Some(Self { rows_per_second: whole(rows) / seconds, cpu_seconds_per_million }))
    }

    /// The mean of two measurements, one before and one after what is compared with them.
    pub fn and(self, other: Self) -> Self {
        Self {
            rows_per_second: f64::midpoint(self.rows_per_second, other.rows_per_second),
            cpu_seconds_per_million: f64::midpoint(self.cpu_seconds_per_million, other.cpu_seconds_per_million),
        }
    }
}
