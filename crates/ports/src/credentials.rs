//! What proves who someone is: secrets, and the PEM files of TLS.

use std::fmt;
use std::path::PathBuf;

/// A password or a token. Its `Debug` shows no part of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text that was read from a file or the environment.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the request that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A user and its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// As the server knows it.
    pub user: String,
    /// Empty where the user has none.
    pub password: Secret,
}

/// A certificate chain and its private key, both PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The chain, the own certificate first.
    pub certificate_file: PathBuf,
    /// The unencrypted key.
    pub key_file: PathBuf,
}

/// Whom a client trusts, and who it says it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// The certificates to trust; none: those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// Its own certificate, where the server asks for one.
    pub own: Option<KeyPair>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_a_log_shows_nothing() {
        let login = Login { user: "u".to_owned(), password: Secret::new("hunter2") };
        assert!(!format!("{login:?}").contains("hunter"));
    }
}
