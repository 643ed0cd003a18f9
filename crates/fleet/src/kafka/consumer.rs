//! A topic that is acted on at once: what was handed on counts as done.

use std::time::Duration;

use rdkafka::consumer::{Consumer as _, ConsumerContext, DefaultConsumerContext, StreamConsumer};
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientContext, Message as _};
use tokio::sync::mpsc;

use super::outage::Outage;
use super::{BadKafka, client};
use heartwatch_domain::time::Timestamp;

/// Wait after an error: librdkafka itself goes on connecting.
const ERROR_PAUSE: Duration = Duration::from_millis(200);

/// How often a member's connections are looked at.
const STATISTICS_EVERY: Duration = Duration::from_millis(200);

/// One whose connections nobody asks about.
struct Unwatched;

impl ClientContext for Unwatched {
    fn stats_raw(&self, _: &[u8]) {}
}

impl ConsumerContext for Unwatched {}

/// Where a group begins that has read nothing yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// With the oldest message that Kafka still has.
    Beginning,
    /// With what comes from now on.
    Now,
}

/// What to read, and as whom.
#[derive(Debug, Clone)]
pub struct Consumption {
    /// `HOST:PORT`, with commas between several.
    pub brokers: String,
    /// Where it is read from.
    pub topic: String,
    /// The consumer group: its members share the topic.
    pub group: String,
    /// Where a new group begins.
    pub start_at: StartAt,
    /// Messages that may wait to be taken.
    pub messages_max: usize,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumed {
    /// Its payload, as bytes from outside.
    pub payload: Vec<u8>,
    /// When it was written, as its writer or its broker says.
    pub at: Option<Timestamp>,
    /// The topic's partition.
    pub partition: i32,
    /// Its place there.
    pub offset: i64,
}

impl Consumed {
    pub(super) fn of(message: &BorrowedMessage<'_>) -> Self {
        let millis = message.timestamp().to_millis();
        Self {
            payload: message.payload().unwrap_or_default().to_vec(),
            at: millis.map(|millis| Timestamp::from_nanos(millis.saturating_mul(1_000_000))),
            partition: message.partition(),
            offset: message.offset(),
        }
    }
}

/// Starts to read, on the current tokio runtime, until the receiver is dropped.
///
/// # Errors
/// [`BadKafka`].
///
/// # Panics
/// Outside a tokio runtime.
pub fn consume(wanted: Consumption) -> Result<mpsc::Receiver<Consumed>, BadKafka> {
    let consumer = consumer(&wanted.brokers, &wanted.group, wanted.start_at, Unwatched)?;
    consumer.subscribe(&[&wanted.topic]).map_err(|error| BadKafka::of(&wanted.brokers, &error))?;
    let (out, end) = mpsc::channel(wanted.messages_max);
    tokio::spawn(async move {
        let outage = Outage::default();
        loop {
            let message = tokio::select! {
                () = out.closed() => break,
                message = consumer.recv() => message,
            };
            match message {
                Ok(message) => {
                    outage.ended(&wanted.brokers);
                    if out.send(Consumed::of(&message)).await.is_err() {
                        break;
                    }
                    if let Err(error) = consumer.store_offset_from_message(&message) {
                        tracing::debug!(%error, "an offset was not noted: the partition is another's now");
                    }
                }
                Err(error) => {
                    outage.failed(&wanted.brokers, &error.to_string());
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            }
        }
        // Leaving the group waits for the broker.
        let _ = tokio::task::spawn_blocking(move || drop(consumer)).await;
    });
    Ok(end)
}

/// A member of a group whose offsets are committed once a second, as far as they were stored.
///
/// The context is told how the connections are, every [`STATISTICS_EVERY`], where it wants to hear it.
pub(super) fn consumer<C>(brokers: &str, group: &str, start_at: StartAt, context: C) -> Result<Member<C>, BadKafka>
where
    C: ConsumerContext + 'static,
{
    let mut config = client(brokers);
    config
        .set("statistics.interval.ms", STATISTICS_EVERY.as_millis().to_string())
        .set("group.id", group)
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "1000")
        .set("enable.auto.offset.store", "false")
        // A member that was killed holds its partitions for so long: brokers allow no less by default.
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "2000")
        .set("allow.auto.create.topics", "true")
        .set("topic.metadata.refresh.interval.ms", "5000")
        .set("queued.max.messages.kbytes", "16384")
        .set("fetch.wait.max.ms", "100")
        .set(
            "auto.offset.reset",
            match start_at {
                StartAt::Beginning => "earliest",
                StartAt::Now => "latest",
            },
        );
    let made = config.create_with_context(context);
    made.map(|consumer: StreamConsumer<C>| consumer.into()).map_err(|error| BadKafka::of(brokers, &error))
}

/// How long an end waits for the brokers to take our leave.
const LEAVE_MAX: Duration = Duration::from_secs(3);

/// A member of a group. Dropped, it leaves the group, and does not wait for brokers that are away: librdkafka would,
/// for ever.
pub(super) struct Member<C: ConsumerContext + 'static = DefaultConsumerContext>(Option<StreamConsumer<C>>);

impl<C: ConsumerContext> From<StreamConsumer<C>> for Member<C> {
    fn from(consumer: StreamConsumer<C>) -> Self {
        Self(Some(consumer))
    }
}

impl<C: ConsumerContext> std::ops::Deref for Member<C> {
    type Target = StreamConsumer<C>;

    #[expect(clippy::expect_used, reason = "it is there until the drop")]
    fn deref(&self) -> &StreamConsumer<C> {
        self.0.as_ref().expect("a member that has not left")
    }
}

impl<C: ConsumerContext + 'static> Drop for Member<C> {
    fn drop(&mut self) {
        let consumer = self.0.take();
        let (left, has_left) = std::sync::mpsc::sync_channel(1);
        let leave = move || {
            drop(consumer);
            // Nobody waits for it any more when it took too long.
            let _ = left.send(());
        };
        let leaving = std::thread::Builder::new().name("kafka leave".to_owned()).spawn(leave);
        if leaving.is_ok() && has_left.recv_timeout(LEAVE_MAX).is_err() {
            tracing::warn!(waited_s = LEAVE_MAX.as_secs(), "Kafka does not answer: its group is left without a word");
        }
    }
}
