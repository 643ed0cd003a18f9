//! What can be wrong with a message, said so that a person can put it right.

/// A message that cannot be read or must not be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} of '{publisher}': {problem}")]
pub struct EnvelopeError {
    /// The kind of message: the last level of its topic.
    pub what: &'static str,
    /// Whose topic it came on.
    pub publisher: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The payload is larger than [`super::PAYLOAD_BYTES_MAX`]; it was not parsed.
    #[error("the payload has {bytes} bytes, at most {bytes_max} are taken")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The payload is not JSON.
    #[error("the payload is not JSON: {reason}")]
    NotJson {
        /// The parser's words, with line and column.
        reason: String,
    },
    /// A version that this program does not read.
    #[error("key 'v' is {found}: this program reads version 1")]
    Version {
        /// What the message says.
        found: u64,
    },
    /// A key is missing, has another type, or is out of bounds.
    #[error("key '{key}' should be {right}, found {found}")]
    Key {
        /// Its path in the payload.
        key: String,
        /// What would be right.
        right: String,
        /// What is there.
        found: String,
    },
}

impl EnvelopeError {
    /// Whether the message was larger than the limit, which is counted on its own.
    #[must_use]
    pub const fn is_oversized(&self) -> bool {
        matches!(self.problem, Problem::TooLarge { .. })
    }
}

impl Problem {
    /// The same problem, seen from outside the part that `parent` names.
    pub(super) fn inside(self, parent: &str) -> Self {
        match self {
            Self::Key { key, right, found } => Self::Key { key: format!("{parent}.{key}"), right, found },
            other => other,
        }
    }
}
