//! Publishers for a measurement: their messages are made before the clock runs, and sent from a thread
//! of its own at QoS 1.

use std::cell::Cell;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use tokio::sync::{oneshot, watch};

use crate::domain::publisher::{HostName, Incarnation, PublisherId};
use crate::domain::reading::{FieldValue, Reading};
use crate::domain::time::Timestamp;
use crate::formats::envelope::{Prefix, TopicKind, encode_readings};
use crate::formats::line_protocol;

/// Connections that the publishers share: they are simulated, the broker is not what is measured.
const CONNECTIONS_MAX: usize = 8;
/// Messages on their way to the broker on one connection.
const INFLIGHT_MESSAGES_MAX: u16 = 1_000;
/// Readings that have not arrived, of all publishers: real ones wait for confirmations, too, and a broker that keeps
/// hundreds of megabytes in memory is not what is measured.
pub(super) const READINGS_ON_THEIR_WAY_MAX: usize = 300_000;
/// What the broker confirms is left to gather for so long.
const REST: Duration = Duration::from_millis(1);
/// The time of the first reading; later ones follow by a millisecond.
const FIRST_TIME: i64 = 1_700_000_000_000_000_000;

/// Who publishes, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// How many publishers share the rows.
    pub publishers: usize,
    /// Readings in each message.
    pub readings_per_message: usize,
    /// Rows of all of them.
    pub rows: usize,
}

impl Load {
    fn rows_of(&self, publisher: usize) -> usize {
        self.rows / self.publishers + usize::from(publisher < self.rows % self.publishers)
    }

    /// Messages of all of them.
    pub fn messages(&self) -> usize {
        (0..self.publishers).map(|publisher| self.rows_of(publisher).div_ceil(self.readings_per_message)).sum()
    }

    fn readings(&self, publisher: usize) -> impl Iterator<Item = Reading> + use<> {
        (1..=self.rows_of(publisher)).map(|number| {
            #[expect(clippy::cast_possible_wrap, reason = "as many readings as that do not fit into memory")]
            let number = number as i64;
            Reading {
                sequence: number.unsigned_abs(),
                time: Timestamp::from_nanos(FIRST_TIME + number * 1_000_000),
                measurement: "light".to_owned(),
                tags: Vec::new(),
                fields: vec![("lux".to_owned(), FieldValue::Integer(number % 1_024))],
            }
        })
    }

    fn id(publisher: usize) -> anyhow::Result<PublisherId> {
        Ok(PublisherId::parse(&format!("bench-{publisher}"))?)
    }

    /// The rows in line protocol, so many in a batch, in the order in which they come: a message of each publisher in
    /// turn.
    ///
    /// # Errors
    /// When a row cannot be encoded.
    pub fn batches(&self, rows_max: usize) -> anyhow::Result<Vec<Vec<u8>>> {
        let host = HostName::parse("bench")?;
        let ids = (0..self.publishers).map(Self::id).collect::<anyhow::Result<Vec<_>>>()?;
        let mut each: Vec<_> = (0..self.publishers).map(|publisher| self.readings(publisher)).collect();
        let mut batches = Vec::new();
        let (mut batch, mut rows) = (Vec::new(), 0);
        for _ in 0..self.rows_of(0).div_ceil(self.readings_per_message) {
            for (id, readings) in ids.iter().zip(&mut each) {
                for reading in readings.take(self.readings_per_message) {
                    line_protocol::encode_reading(&mut batch, id, &host, &reading)?;
                    batch.push(b'\n');
                    rows += 1;
                    if rows == rows_max {
                        batches.push(std::mem::take(&mut batch));
                        rows = 0;
                    }
                }
            }
        }
        batches.extend((rows > 0).then_some(batch));
        Ok(batches)
    }
}

/// A client of a broker on this machine.
///
/// # Errors
/// When the address is none.
pub(super) fn client(mqtt_url: &str, id: &str) -> anyhow::Result<(AsyncClient, EventLoop)> {
    let url: url::Url = mqtt_url.parse()?;
    let mut options = MqttOptions::new(
        id,
        url.host_str().context("the broker's address has no host")?,
        url.port().context("the broker's address has no port")?,
    );
    options.set_keep_alive(Duration::from_secs(60)).set_inflight(INFLIGHT_MESSAGES_MAX);
    options.set_max_packet_size(16 << 20, 16 << 20);
    Ok(AsyncClient::new(options, usize::from(INFLIGHT_MESSAGES_MAX)))
}

/// One connection, and what it is to send.
struct Connection {
    client: AsyncClient,
    events: EventLoop,
    topics: Vec<String>,
    messages: Vec<Message>,
}

struct Message {
    /// Which of the topics.
    topic: usize,
    /// A part of one piece of memory for all of them.
    payload: Bytes,
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
    /// When a reading cannot be encoded.
    pub fn prepare(load: &Load, mqtt_url: &str) -> anyhow::Result<Self> {
        let (prefix, host) = (Prefix::default(), HostName::parse("bench")?);
        let mut connections = Vec::new();
        let count = load.publishers.min(CONNECTIONS_MAX);
        for connection in 0..count {
            let (mut topics, mut each) = (Vec::new(), Vec::new());
            for publisher in (connection..load.publishers).step_by(count) {
                topics.push(prefix.topic(&Load::id(publisher)?, TopicKind::Readings));
                each.push(load.readings(publisher));
            }
            // in memory as they are sent: read from all over it, they would cost the sender more than the sending
            let (mut all, mut parts) = (Vec::new(), Vec::new());
            for _ in 0..load.rows_of(connection).div_ceil(load.readings_per_message) {
                for (topic, readings) in each.iter_mut().enumerate() {
                    let batch: Vec<Reading> = readings.take(load.readings_per_message).collect();
                    for payload in encode_readings(&host, Incarnation(1), &batch, usize::MAX)? {
                        let start = all.len();
                        all.extend_from_slice(&payload);
                        parts.push((topic, start..all.len(), batch.len()));
                    }
                }
            }
            let all = Bytes::from(all);
            let message = |(topic, part, readings)| Message { topic, payload: all.slice(part), readings };
            let messages = parts.into_iter().map(message).collect();
            let (client, events) = client(mqtt_url, &format!("heartwatch-bench-{connection}"))?;
            connections.push(Connection { client, events, topics, messages });
        }
        Ok(Self { connections })
    }

    /// Sends them all from a thread of its own, as fast as the broker takes them, but never so far ahead of the readings that
    /// have `arrived` that the broker's memory is what is measured.
    pub fn start(self, arrived: watch::Receiver<usize>) -> Sending {
        let (tell, done) = oneshot::channel();
        std::thread::spawn(move || {
            // The measurement is over when nobody waits for the answer.
            let _ = tell.send(send(self.connections, &arrived));
        });
        Sending { done }
    }
}

impl Sending {
    /// Waits until the broker has confirmed everything.
    ///
    /// # Errors
    /// When it did not.
    pub async fn finish(self) -> anyhow::Result<()> {
        self.done.await.context("the sending thread has ended")?
    }
}

fn send(connections: Vec<Connection>, arrived: &watch::Receiver<usize>) -> anyhow::Result<()> {
    // woken for each confirmation alone, it would send the next message alone, and what is measured is how fast this machine
    // wakes a thread
    #[expect(clippy::disallowed_methods, reason = "nothing is waited for: what comes meanwhile comes in one piece")]
    let rest = || std::thread::sleep(REST);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().on_thread_park(rest).build()?;
    let sent = &Cell::new(0);
    runtime.block_on(async {
        let all = connections.into_iter().map(|Connection { client, mut events, topics, messages }| async move {
            let mut unconfirmed = messages.len();
            let publish = async {
                let mut arrived = arrived.clone();
                for Message { topic, payload, readings } in messages {
                    sent.set(sent.get() + readings);
                    // an error: nobody counts any more
                    let _ = arrived.wait_for(|arrived| sent.get() <= arrived + READINGS_ON_THEIR_WAY_MAX).await;
                    let topic = topics.get(topic).cloned().unwrap_or_default();
                    client.publish_bytes(topic, QoS::AtLeastOnce, false, payload).await?;
                }
                anyhow::Ok(())
            };
            let confirm = async {
                while unconfirmed > 0 {
                    if matches!(events.poll().await?, Event::Incoming(Packet::PubAck(_))) {
                        unconfirmed -= 1;
                    }
                }
                anyhow::Ok(())
            };
            futures_util::future::try_join(publish, confirm).await
        });
        futures_util::future::try_join_all(all).await.map(|_| ())
    })
}
