//! The topics: built from checked parts, and parsed once where they come in.

use std::fmt;

use heartwatch_domain::publisher::{BadName, PublisherId};

/// The version level of every topic.
const VERSION: &str = "v1";

/// Longest prefix, in bytes.
const PREFIX_BYTES_MAX: usize = 128;

/// What stands before `/v1/` in every topic: one or more levels of letters, digits, `.`, `_`, `-` or `:`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Prefix(String);

/// The text cannot be a topic prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' cannot be a topic prefix: use 1 to {PREFIX_BYTES_MAX} letters, digits, '.', '_', '-' or ':', \
     with '/' between levels, like 'heartwatch' or 'plant/heartwatch'"
)]
pub struct BadPrefix {
    text: String,
}

impl Default for Prefix {
    fn default() -> Self {
        Self("heartwatch".to_owned())
    }
}

impl Prefix {
    /// Checks the text once.
    ///
    /// # Errors
    /// [`BadPrefix`] when it is empty, too long, or has an empty level, a wildcard or other characters.
    pub fn parse(text: &str) -> Result<Self, BadPrefix> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':');
        let good_level = |level: &str| !level.is_empty() && level.bytes().all(allowed);
        if text.len() > PREFIX_BYTES_MAX || !text.split('/').all(good_level) {
            return Err(BadPrefix { text: text.chars().take(PREFIX_BYTES_MAX).collect() });
        }
        Ok(Self(text.to_owned()))
    }

    /// The prefix as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The topic on which this kind of message of this publisher travels.
    #[must_use]
    pub fn topic(&self, publisher: &PublisherId, kind: TopicKind) -> String {
        format!("{}/{VERSION}/{publisher}/{kind}", self.0)
    }

    /// The filter that matches this kind of message of every publisher.
    #[must_use]
    pub fn filter(&self, kind: TopicKind) -> String {
        format!("{}/{VERSION}/+/{kind}", self.0)
    }

    /// What a monitor subscribes to: everything that publishers say, and not its own confirmations.
    #[must_use]
    pub fn monitor_filters(&self) -> Vec<String> {
        TopicKind::FROM_PUBLISHERS.iter().map(|&kind| self.filter(kind)).collect()
    }

    /// The topic on which an agent is told what to do.
    #[must_use]
    pub fn ask(&self, agent: &PublisherId) -> String {
        format!("{}/{VERSION}/{agent}/ask", self.0)
    }

    /// The topic on which an agent answers.
    #[must_use]
    pub fn answer(&self, agent: &PublisherId) -> String {
        format!("{}/{VERSION}/{agent}/answer", self.0)
    }

    /// The agent whose answers this topic is for; none when it is not such a topic.
    #[must_use]
    pub fn answering(&self, topic: &str) -> Option<PublisherId> {
        let levels = topic.strip_prefix(&self.0)?.strip_prefix('/')?;
        let id = levels.strip_prefix(VERSION)?.strip_prefix('/')?.strip_suffix("/answer")?;
        PublisherId::parse(id).ok()
    }

    /// The filter that matches every agent's answers.
    #[must_use]
    pub fn answers(&self) -> String {
        format!("{}/{VERSION}/+/answer", self.0)
    }

    /// What a publisher subscribes to: the confirmations for itself.
    #[must_use]
    pub fn publisher_filters(&self, publisher: &PublisherId) -> Vec<String> {
        vec![self.topic(publisher, TopicKind::Confirm)]
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl std::str::FromStr for Prefix {
    type Err = BadPrefix;
    fn from_str(text: &str) -> Result<Self, BadPrefix> {
        Self::parse(text)
    }
}

/// The last level of a topic: what kind of message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TopicKind {
    /// One reading or a batch.
    Readings,
    /// The publisher lives.
    Heartbeat,
    /// The publisher ends in order.
    Goodbye,
    /// The broker says that the publisher's connection was lost.
    LastWill,
    /// Numbers that will never come.
    GivenUp,
    /// How far the monitor's safe record reaches.
    Confirm,
}

impl TopicKind {
    /// The kinds that publishers (and brokers for them) send to the monitor.
    pub const FROM_PUBLISHERS: [Self; 5] =
        [Self::Readings, Self::Heartbeat, Self::Goodbye, Self::LastWill, Self::GivenUp];

    /// The last level of the topic.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Readings => "readings",
            Self::Heartbeat => "heartbeat",
            Self::Goodbye => "goodbye",
            Self::LastWill => "last-will",
            Self::GivenUp => "given-up",
            Self::Confirm => "confirm",
        }
    }

    fn parse(level: &str) -> Option<Self> {
        Self::FROM_PUBLISHERS.into_iter().chain([Self::Confirm]).find(|kind| kind.as_str() == level)
    }
}

impl fmt::Display for TopicKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A topic of ours, parsed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Topic {
    /// Who publishes, or who is confirmed to.
    pub publisher: PublisherId,
    /// What.
    pub kind: TopicKind,
}

/// Why a topic is not one of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// It does not stand under the prefix: some foreign publisher's.
    #[error("topic '{topic}' is not under '{prefix}/{VERSION}/'")]
    Foreign {
        /// As it came.
        topic: String,
        /// What ours start with.
        prefix: String,
    },
    /// It stands under the prefix and has another shape.
    #[error("topic '{topic}' should be '{prefix}/{VERSION}/<publisher>/<kind>'")]
    Shape {
        /// As it came.
        topic: String,
        /// What ours start with.
        prefix: String,
    },
    /// Its publisher level cannot be a publisher id.
    #[error("topic '{topic}': {source}")]
    Publisher {
        /// As it came.
        topic: String,
        /// What is wrong with the id.
        source: BadName,
    },
    /// Its last level is not known.
    #[error(
        "topic '{topic}' ends in '{kind}', which is none of readings, heartbeat, goodbye, last-will, given-up, confirm"
    )]
    Kind {
        /// As it came.
        topic: String,
        /// Its last level.
        kind: String,
    },
}

impl Topic {
    /// Parses a topic as it came.
    ///
    /// # Errors
    /// [`TopicError`]; [`TopicError::Foreign`] when it does not stand under the prefix at all.
    pub fn parse(prefix: &Prefix, topic: &str) -> Result<Self, TopicError> {
        let said = || excerpt(topic);
        let prefix_text = prefix.as_str();
        let rest = topic
            .strip_prefix(prefix_text)
            .and_then(|rest| rest.strip_prefix('/'))
            .and_then(|rest| rest.strip_prefix(VERSION))
            .and_then(|rest| rest.strip_prefix('/'));
        let Some(rest) = rest else {
            return Err(TopicError::Foreign { topic: said(), prefix: prefix_text.to_owned() });
        };
        let (publisher, kind) = match rest.split_once('/') {
            Some((publisher, kind)) if !kind.contains('/') => (publisher, kind),
            _ => return Err(TopicError::Shape { topic: said(), prefix: prefix_text.to_owned() }),
        };
        let publisher =
            PublisherId::parse(publisher).map_err(|source| TopicError::Publisher { topic: said(), source })?;
        let kind = TopicKind::parse(kind).ok_or_else(|| TopicError::Kind { topic: said(), kind: excerpt(kind) })?;
        Ok(Self { publisher, kind })
    }
}

/// The beginning of a text from outside, short enough for a log line.
fn excerpt(text: &str) -> String {
    const CHARS_MAX: usize = 200;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
