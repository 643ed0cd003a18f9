//! Who may log in at the page, and what they may do there. `heartwatch web-user NAME` makes the line of a user.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use heartwatch_formats::users::{self, UserRole};

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Look at everything, change nothing.
    ReadOnly,
    /// Probe and restart, too.
    Operator,
}

impl Role {
    /// The name in files and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "read-only" => Ok(Self::ReadOnly),
            "operator" => Ok(Self::Operator),
            _ => Err(format!("'{text}' is no role: read-only or operator")),
        }
    }
}

impl UserRole for Role {
    const COMMAND: &'static str = "web-user";
}

/// Somebody who may log in with a password.
pub(crate) type User = users::User<Role>;

/// The role of a user whose password this is. Blocks for tens of milliseconds.
#[must_use]
pub(super) fn verify(users: &[User], name: &str, password: &str) -> Option<Role> {
    users::verify(users.iter().find(|user| user.name == name), password.as_bytes())
}
