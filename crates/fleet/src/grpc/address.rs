//! Where a server is, as a person writes it.

use std::path::Path;

use tonic::transport::Endpoint;

use crate::tls::{self, TlsError};
use heartwatch_ports::credentials::ClientFiles;

/// There can be no connection to this server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadServer {
    /// Its address cannot be one.
    #[error(
        "'{server}' is not a server's address: {reason}; right is HOST:PORT, like 127.0.0.1:50052, or https://HOST:PORT"
    )]
    Address {
        /// What was given.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS cannot be spoken.
    #[error("{server}: {error}")]
    Tls {
        /// What was given.
        server: String,
        /// Why not.
        error: TlsError,
    },
    /// A CA file for a connection without TLS: it would be thought to be safe.
    #[error(
        "{server} is spoken to without TLS, and a CA file is for TLS: write https://{server}, or leave the file out"
    )]
    Plain {
        /// What was given.
        server: String,
    },
}

/// `HOST:PORT`, `http://HOST:PORT` or, with TLS, `https://HOST:PORT`.
pub(super) fn endpoint(server: &str, ca_file: Option<&Path>) -> Result<Endpoint, BadServer> {
    let shown = || server.chars().take(200).collect::<String>();
    let bad = |reason: String| BadServer::Address { server: shown(), reason };
    let (scheme, address) = server.split_once("://").unwrap_or(("http", server));
    if !matches!(scheme, "http" | "https") {
        return Err(bad(format!("{}:// is not spoken", scheme.chars().take(20).collect::<String>())));
    }
    let address = address.trim_end_matches('/');
    let port =
        address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
    if port.is_none_or(|port| port == 0) {
        return Err(bad("it has no port".to_owned()));
    }
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).map_err(|error| bad(error.to_string()))?;
    if scheme == "http" {
        return match ca_file {
            Some(_) => Err(BadServer::Plain { server: address.to_owned() }),
            None => Ok(endpoint),
        };
    }
    let failed = |error: TlsError| BadServer::Tls { server: shown(), error };
    let files = ClientFiles { ca_file: ca_file.map(Path::to_owned), own: None };
    let config = tls::client(&files).map_err(failed)?;
    endpoint.tls_config(config).map_err(|error| failed(TlsError::Unusable(super::innermost(&error))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_port_is_named() {
        for wrong in ["", "host", "host:", ":50052", "host:0", "host:70000", "ho st:1", "ftp://host:1"] {
            let error = endpoint(wrong, None).unwrap_err().to_string();
            assert!(error.contains("HOST:PORT"), "{error}");
        }
        for right in ["127.0.0.1:50052", "http://server:50051", "[::1]:50052"] {
            assert!(endpoint(right, None).is_ok(), "{right}");
        }
    }

    #[test]
    fn a_ca_file_is_for_tls_and_has_to_be_one() {
        let ca_file = Some(Path::new("Cargo.toml"));
        let plain = endpoint("server:50052", ca_file).unwrap_err().to_string();
        assert!(plain.contains("https://server:50052"), "{plain}");
        let wrong = endpoint("https://server:50052", ca_file).unwrap_err().to_string();
        assert!(wrong.contains("Cargo.toml"), "{wrong}");
    }
}
