//! The publishers of a measurement. They stand for programs on other machines, and what they take is missing to what is
//! measured: their packets are made before the clock runs, and one thread sends them at QoS 1, as many at once as may be on
//! their way.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use bytes::BytesMut;
use rumqttc::QoS;
use rumqttc::mqttbytes::v4::{Connect, Publish};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot, watch};

use super::load::{INFLIGHT_MESSAGES_MAX, Load};
use heartwatch_domain::publisher::{HostName, Incarnation};
use heartwatch_domain::reading::Reading;
use heartwatch_formats::envelope::{Prefix, TopicKind, encode_readings};

/// Connections that the publishers share: they are simulated, the broker is not what is measured.
const CONNECTIONS_MAX: usize = 8;
/// Readings that have not arrived where the measurement ends, in the journal or in InfluxDB, of all publishers: real ones wait for
/// confirmations, too, and a broker that keeps hundreds of megabytes in memory is not what is measured.
pub(super) const READINGS_ON_THEIR_WAY_MAX: usize = 300_000;
/// Readings of what one connection sends at once; a message at least.
const READINGS_AT_ONCE_MAX: usize = 250;
/// What the broker confirms is left to gather for so long: woken for each confirmation, the publishers would send each
/// message alone, and what is measured is how fast this machine wakes a thread.
const REST: Duration = Duration::from_millis(1);
/// What the broker answers to a client that it takes, and to a message (MQTT 3.1.1, 3.2 and 3.4).
const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
const PUBACK: [u8; 2] = [0x40, 2];
/// Bytes of a PUBACK.
const PUBACK_BYTES: usize = 4;
/// MQTT 3.1.1, 3.14.
const DISCONNECT: [u8; 2] = [0xe0, 0];

/// One connection: its packets one after the other, and where each ends.
struct Connection {
    broker: SocketAddr,
    connect: BytesMut,
    packets: BytesMut,
    messages: Vec<Message>,
}

struct Message {
    end: usize,
    readings: usize,
}

/// Messages that are ready to be sent.
pub(super) struct Sender {
    connections: Vec<Connection>,
}

/// A sender at work.
pub(super) struct Sending {
    done: oneshot::Receiver<anyhow::Result<()>>,
}

impl Sender {
    /// Makes all messages, those of different publishers in turn, as they would come.
    ///
    /// # Errors
    /// When a reading cannot be encoded, or the address is none of this machine's.
    pub(super) fn prepare(load: &Load, mqtt_url: &str) -> anyhow::Result<Self> {
        let broker = mqtt_url.strip_prefix("mqtt://").context("the broker's address is none")?.parse()?;
        let (prefix, host) = (Prefix::default(), HostName::parse("bench")?);
        let mut connections = Vec::new();
        let count = load.publishers.min(CONNECTIONS_MAX);
        for connection in 0..count {
            let mut each = Vec::new();
            for publisher in (connection..load.publishers).step_by(count) {
                each.push((prefix.topic(&Load::id(publisher)?, TopicKind::Readings), load.readings(publisher)));
            }
            let (mut packets, mut messages) = (BytesMut::new(), Vec::new());
            for _ in 0..load.rows_of(connection).div_ceil(load.readings_per_message) {
                for (topic, readings) in &mut each {
                    let batch: Vec<Reading> = readings.take(load.readings_per_message).collect();
                    for payload in encode_readings(&host, Incarnation(1), &batch, usize::MAX)? {
                        let mut publish = Publish::new(topic.as_str(), QoS::AtLeastOnce, payload);
                        // far more than are ever on their way
                        publish.pkid = u16::try_from(messages.len() % usize::from(u16::MAX))? + 1;
                        publish.write(&mut packets)?;
                        messages.push(Message { end: packets.len(), readings: batch.len() });
                    }
                }
            }
            let mut connect = BytesMut::new();
            Connect { keep_alive: 0, ..Connect::new(format!("heartwatch-bench-{connection}")) }.write(&mut connect)?;
            connections.push(Connection { broker, connect, packets, messages });
        }
        Ok(Self { connections })
    }

    /// Sends them all from a thread of its own, as fast as the broker takes them, but never so far ahead of the readings that
    /// have `arrived` that the broker's memory is what is measured.
    pub(super) fn start(self, arrived: watch::Receiver<usize>) -> Sending {
        let (tell, done) = oneshot::channel();
        std::thread::spawn(move || {
            // The measurement is over when nobody waits for the answer.
            let _ = tell.send(send(&self.connections, &arrived));
        });
        Sending { done }
    }
}

impl Sending {
    /// Waits until the broker has confirmed everything.
    ///
    /// # Errors
    /// When it did not.
    pub(super) async fn finish(self) -> anyhow::Result<()> {
        self.done.await.context("the sending thread has ended")?
    }
}

fn send(connections: &[Connection], arrived: &watch::Receiver<usize>) -> anyhow::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "nothing is waited for: what comes meanwhile comes in one piece")]
    let rest = || std::thread::sleep(REST);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().on_thread_park(rest).build()?;
    let sent = Cell::new(0);
    runtime.block_on(async {
        let all = connections.iter().map(|connection| connection.send(&sent, arrived.clone()));
        futures_util::future::try_join_all(all).await.map(|_| ())
    })
}

impl Connection {
    /// Sends its messages; `sent` counts the readings of all connections.
    async fn send(&self, sent: &Cell<usize>, mut arrived: watch::Receiver<usize>) -> anyhow::Result<()> {
        let mut stream = TcpStream::connect(self.broker).await?;
        stream.set_nodelay(true)?;
        stream.write_all(&self.connect).await?;
        let mut connack = [0; CONNACK.len()];
        stream.read_exact(&mut connack).await?;
        anyhow::ensure!(connack == CONNACK, "the broker does not take the publishers: {connack:?}");
        let (mut reader, mut writer) = stream.split();
        let (confirmed, news) = (Cell::new(0), Notify::new());

        let publish = async {
            let (mut next, mut start) = (0, 0);
            while next < self.messages.len() {
                let room = (confirmed.get() + usize::from(INFLIGHT_MESSAGES_MAX)).saturating_sub(next);
                if room == 0 {
                    news.notified().await;
                    continue;
                }
                let mut end = start;
                let mut readings = 0;
                for message in self.messages.iter().skip(next).take(room) {
                    (next, end, readings) = (next + 1, message.end, readings + message.readings);
                    if readings >= READINGS_AT_ONCE_MAX {
                        break;
                    }
                }
                sent.set(sent.get() + readings);
                // an error: nobody counts any more
                let _ = arrived.wait_for(|arrived| sent.get() <= arrived + READINGS_ON_THEIR_WAY_MAX).await;
                writer.write_all(self.packets.get(start..end).unwrap_or_default()).await?;
                start = end;
            }
            anyhow::Ok(())
        };
        let confirm = async {
            let mut bytes = BytesMut::new();
            while confirmed.get() < self.messages.len() {
                anyhow::ensure!(
                    reader.read_buf(&mut bytes).await? > 0,
                    "the broker has closed the publishers' connection"
                );
                let whole = bytes.split_to(bytes.len() - bytes.len() % PUBACK_BYTES);
                let packets = whole.chunks_exact(PUBACK_BYTES);
                confirmed.set(confirmed.get() + packets.len());
                anyhow::ensure!(
                    packets.into_iter().all(|packet| packet.starts_with(&PUBACK)),
                    "the broker confirms nothing"
                );
                news.notify_one();
            }
            anyhow::Ok(())
        };
        futures_util::future::try_join(publish, confirm).await?;
        Ok(stream.write_all(&DISCONNECT).await?)
    }
}
