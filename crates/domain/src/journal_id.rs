//! Which journal it is that holds rows and confirms them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A journal's identity: 128 random bits, made once with its file and kept with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JournalId(u128);

/// The text is no identity of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a journal's identity is 32 hexadecimal digits")]
pub struct BadJournalId;

impl JournalId {
    /// The one with these bits.
    #[must_use]
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// Its bits.
    #[must_use]
    pub const fn to_bits(self) -> u128 {
        self.0
    }
}

impl fmt::Display for JournalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for JournalId {
    type Err = BadJournalId;
    fn from_str(text: &str) -> Result<Self, BadJournalId> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(BadJournalId);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| BadJournalId)
    }
}

impl TryFrom<String> for JournalId {
    type Error = BadJournalId;
    fn try_from(text: String) -> Result<Self, BadJournalId> {
        text.parse()
    }
}

impl From<JournalId> for String {
    fn from(id: JournalId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_as_text_and_other_text_is_none() {
        let id = JournalId::from_bits(0xab);
        assert_eq!(id.to_string(), "000000000000000000000000000000ab");
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "ab", "+00000000000000000000000000000ab", "0000000000000000000000000000000g"] {
            assert_eq!(text.parse::<JournalId>(), Err(BadJournalId));
        }
    }
}
