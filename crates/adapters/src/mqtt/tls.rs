//! rustls for `mqtts://`: its own provider (ring), so that no global default is needed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use heartwatch_ports::credentials::{ClientFiles, KeyPair};

/// Why TLS cannot be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key file.
    #[error("{what} {path}: {reason}")]
    File {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificates do not work together.
    #[error("TLS cannot be set up: {reason}")]
    Tls {
        /// What rustls says.
        reason: String,
    },
}

/// The client's side of TLS from the files that the configuration names.
pub(super) fn client_config(files: &ClientFiles) -> Result<ClientConfig, TlsError> {
    let tls = |error: rustls::Error| TlsError::Tls { reason: error.to_string() };
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .with_root_certificates(roots(files.ca_file.as_deref())?);
    match &files.own {
        Some(KeyPair { certificate_file: certificate, key_file: key }) => {
            let chain = certificates("the client certificate", certificate)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| TlsError::File {
                what: "the client key",
                path: key.to_owned(),
                reason: format!("no unencrypted private key in PEM: {error}"),
            })?;
            builder.with_client_auth_cert(chain, key).map_err(tls)
        }
        None => Ok(builder.with_no_client_auth()),
    }
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        for certificate in certificates("the CA file", path)? {
            roots.add(certificate).map_err(|error| TlsError::File {
                what: "the CA file",
                path: path.to_owned(),
                reason: error.to_string(),
            })?;
        }
        return Ok(roots);
    }
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let reason = "this system has no certificates of authorities: name a CA file".to_owned();
        return Err(TlsError::Tls { reason });
    }
    Ok(roots)
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |reason: String| TlsError::File { what, path: path.to_owned(), reason };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| wrong(format!("no certificates in PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(wrong("no certificate in it (PEM, -----BEGIN CERTIFICATE-----)".to_owned()));
    }
    Ok(certificates)
}
