//! What each message of `monitoring-data` is known by: its cluster, topic, partition and offset.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::Consumer as _;

use super::consumer::Member;
use super::reception::Listener;
use heartwatch_domain::marks::SourceMark;
use heartwatch_domain::time::Timestamp;

/// How long Kafka may take to say which cluster it is, and where a partition ends.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);

/// Where messages are read.
pub(super) struct Source {
    pub(super) consumer: Member<Listener>,
    pub(super) topic: String,
}

/// Gives messages their marks.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// The cluster and the topic, as soon as they are known.
    topic: Option<Arc<str>>,
    partitions: HashMap<i32, Partition>,
}

/// What is known of a partition.
#[derive(Debug)]
struct Partition {
    /// The last offset that came.
    last: i64,
    /// Where it ended when reading of it began, or went back.
    end: Option<i64>,
}

impl Marks {
    /// The mark of a message.
    pub(super) async fn of(
        &mut self,
        source: &Arc<Source>,
        partition: i32,
        offset: i64,
        written_at: Option<Timestamp>,
    ) -> SourceMark {
        let topic = match &self.topic {
            Some(topic) => Arc::clone(topic),
            None => Arc::clone(self.topic.insert(cluster_and_topic(source).await)),
        };
        let known = self.partitions.get_mut(&partition).filter(|known| known.last < offset);
        let end = match known {
            Some(known) => {
                known.last = offset;
                known.end
            }
            None => {
                let end = end(source, partition).await;
                self.partitions.insert(partition, Partition { last: offset, end });
                end
            }
        };
        SourceMark::Kafka { topic, partition, offset, written_at, end }
    }
}

async fn cluster_and_topic(source: &Arc<Source>) -> Arc<str> {
    let asked = Arc::clone(source);
    let cluster = blocking(move || asked.consumer.client().fetch_cluster_id(QUESTION_TIMEOUT)).await;
    format!("{}/{}", cluster.unwrap_or_default(), source.topic).into()
}

/// Where a partition ends; none where Kafka does not say.
async fn end(source: &Arc<Source>, partition: i32) -> Option<i64> {
    let asked = Arc::clone(source);
    let look = move || asked.consumer.fetch_watermarks(&asked.topic, partition, QUESTION_TIMEOUT).ok();
    blocking(look).await.map(|(_, end)| end)
}

async fn blocking<T: Send + 'static>(ask: impl FnOnce() -> Option<T> + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(ask).await.ok().flatten()
}
