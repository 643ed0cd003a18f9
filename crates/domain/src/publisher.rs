//! Who publishes: ids that were checked once where they came in, and are safe everywhere after.

use std::fmt;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// Longest publisher id or host name, in bytes.
pub const NAME_BYTES_MAX: usize = 96;

/// A publisher's id: 1 to 96 letters, digits, `.`, `_`, `-` or `:`. Cheap to clone; up to 23 bytes are held
/// in place, without a pointer to follow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublisherId(SmolStr);

/// The name of the host that a publisher runs on; same letters as a [`PublisherId`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(SmolStr);

/// The text cannot name a publisher or a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' cannot be a {what}: use 1 to {NAME_BYTES_MAX} letters, digits, '.', '_', '-' or ':'")]
pub struct BadName {
    what: &'static str,
    text: String,
}

fn check(what: &'static str, text: &str) -> Result<SmolStr, BadName> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':');
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(allowed) {
        let text = text.chars().take(NAME_BYTES_MAX).collect();
        return Err(BadName { what, text });
    }
    Ok(text.into())
}

macro_rules! name {
    ($type:ident, $what:literal) => {
        impl $type {
            /// Checks the text once; what comes out is safe in topics, tags, paths and pages.
            ///
            /// # Errors
            /// [`BadName`] when it is empty, too long or has other characters.
            pub fn parse(text: &str) -> Result<Self, BadName> {
                check($what, text).map(Self)
            }
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl TryFrom<String> for $type {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                Self::parse(&text)
            }
        }
        impl std::str::FromStr for $type {
            type Err = BadName;
            fn from_str(text: &str) -> Result<Self, BadName> {
                Self::parse(text)
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0.into()
            }
        }
    };
}
name!(PublisherId, "publisher id");
name!(HostName, "host name");

/// One life of a publisher. A later start has a larger incarnation: microseconds since the Unix
/// epoch when it first started, or one more than the last where the clock went back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// The one in whose account rows are that no life of a publisher has numbered.
    pub const UNNUMBERED: Self = Self(0);
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_outside_are_checked() {
        assert_eq!(PublisherId::parse("light-1.a:b_c").unwrap().as_str(), "light-1.a:b_c");
        for wrong in ["", "a/b", "a b", "+", "#", "ä", "a\n", &"x".repeat(97)] {
            let error = PublisherId::parse(wrong).unwrap_err();
            assert!(error.to_string().contains("publisher id"), "{error}");
        }
    }
}
