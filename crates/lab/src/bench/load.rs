//! What is published in a measurement, and by how many.

use std::time::Duration;

use anyhow::Context as _;
use rumqttc::{AsyncClient, EventLoop, MqttOptions};

use heartwatch_domain::publisher::{HostName, PublisherId};
use heartwatch_domain::reading::{FieldValue, Reading};
use heartwatch_domain::time::Timestamp;
use heartwatch_formats::line_protocol;

/// How long one measurement may take.
pub(super) const MEASUREMENT_TIMEOUT: Duration = Duration::from_secs(900);
/// What a broker in production wants as well: with mosquitto's default no more than 20 messages wait for an
/// acknowledgement that comes after a synced commit, and beyond 1,000 it drops what it has confirmed.
pub(super) const BROKER_SETTINGS: &str = "max_queued_messages 0\nmax_inflight_messages 2000\n";
/// Messages on their way between a broker and one of its clients.
pub(super) const INFLIGHT_MESSAGES_MAX: u16 = 1_000;
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
    /// Rows of one of them; of an earlier one at least as many.
    pub(super) fn rows_of(&self, publisher: usize) -> usize {
        self.rows / self.publishers + usize::from(publisher < self.rows % self.publishers)
    }

    /// Messages of all of them.
    pub(super) fn messages(&self) -> usize {
        (0..self.publishers).map(|publisher| self.rows_of(publisher).div_ceil(self.readings_per_message)).sum()
    }

    /// The readings of one of them.
    pub(super) fn readings(&self, publisher: usize) -> impl Iterator<Item = Reading> + use<> {
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

    /// What it is called.
    ///
    /// # Errors
    /// Never: it is an id.
    pub(super) fn id(publisher: usize) -> anyhow::Result<PublisherId> {
        Ok(PublisherId::parse(&format!("bench-{publisher}"))?)
    }

    /// The rows in line protocol, so many in a batch, in the order in which they come: a message of each publisher in
    /// turn.
    ///
    /// # Errors
    /// When a row cannot be encoded.
    pub(super) fn batches(&self, rows_max: usize) -> anyhow::Result<Vec<Vec<u8>>> {
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
