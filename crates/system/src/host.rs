//! This host.

use heartwatch_domain::publisher::{HostName, NAME_BYTES_MAX};

/// This host has no name that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this host has no usable name (see `uname -n`): {0}")]
pub struct NoHostName(String);

/// This host's name; a character that cannot be in one becomes `-`.
///
/// # Errors
/// When the system gives none.
pub fn host_name() -> Result<HostName, NoHostName> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let clean = |c: char| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '-' };
    let name: String = name.chars().map(clean).take(NAME_BYTES_MAX).collect();
    HostName::parse(&name).map_err(|error| NoHostName(error.to_string()))
}
