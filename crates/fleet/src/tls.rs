//! TLS for what speaks gRPC (agents and servers, etcd): out of PEM files, each mistake with its file.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

use heartwatch_ports::credentials::{ClientFiles, KeyPair};
use heartwatch_system::rustls_provider;

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why there is no TLS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be used.
    #[error("{what} {}: {reason}", path.display())]
    File {
        /// What it should be.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// The files do not fit together, or the system trusts nobody.
    #[error("TLS: {0}")]
    Unusable(String),
}

/// A client's side.
///
/// # Errors
/// [`TlsError`], which names the file.
pub fn client(files: &ClientFiles) -> Result<ClientTlsConfig, TlsError> {
    rustls_provider::install();
    let mut config = ClientTlsConfig::new();
    match &files.ca_file {
        Some(path) => config = config.ca_certificate(Certificate::from_pem(certificates("the CA file", path)?)),
        None => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                let reason = "this system has no certificates of authorities: name a CA file";
                return Err(TlsError::Unusable(reason.to_owned()));
            }
            config = config.trust_anchors(roots.roots);
        }
    }
    Ok(match &files.own {
        Some(pair) => config.identity(identity(pair)?),
        None => config,
    })
}

/// A server's side.
///
/// # Errors
/// [`TlsError`], which names the file.
pub fn server(pair: &KeyPair) -> Result<ServerTlsConfig, TlsError> {
    rustls_provider::install();
    Ok(ServerTlsConfig::new().identity(identity(pair)?))
}

fn identity(pair: &KeyPair) -> Result<Identity, TlsError> {
    let chain = certificates("the certificate", &pair.certificate_file)?;
    let what = "the key";
    let key = read(what, &pair.key_file)?;
    PrivateKeyDer::from_pem_slice(&key).map_err(|error| TlsError::File {
        what,
        path: pair.key_file.clone(),
        reason: format!("no unencrypted private key in PEM: {error}"),
    })?;
    Ok(Identity::from_pem(chain, key))
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let wrong = |reason: String| TlsError::File { what, path: path.to_owned(), reason };
    let pem = read(what, path)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(format!("no certificates in PEM: {error}")))?;
    if found.is_empty() {
        return Err(wrong("no certificate in it (PEM, -----BEGIN CERTIFICATE-----)".to_owned()));
    }
    Ok(pem)
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let wrong = |reason: String| TlsError::File { what, path: path.to_owned(), reason };
    let bytes = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(wrong(format!("it has {bytes} bytes, at most {FILE_BYTES_MAX} are read")));
    }
    std::fs::read(path).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let of =
            |ca_file: &str| client(&ClientFiles { ca_file: Some(ca_file.into()), own: None }).unwrap_err().to_string();
        assert!(of("no/ca.pem").contains("the CA file no/ca.pem: No such file"), "{}", of("no/ca.pem"));
        assert!(of("Cargo.toml").contains("no certificate in it"), "{}", of("Cargo.toml"));
        let pair = KeyPair { certificate_file: "Cargo.toml".into(), key_file: "Cargo.toml".into() };
        assert!(server(&pair).unwrap_err().to_string().contains("the certificate Cargo.toml"));
    }
}
