//! rustls for `mqtts://`: its own provider (ring), so that no global default is needed.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::config::{MqttConfig, MqttConfigError};

/// The client's side of TLS from the files that the configuration names.
pub(super) fn client_config(config: &MqttConfig) -> Result<ClientConfig, MqttConfigError> {
    let tls = |error: rustls::Error| MqttConfigError::Tls { reason: error.to_string() };
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .with_root_certificates(roots(config.ca_file.as_deref())?);
    match (&config.client_certificate_file, &config.client_key_file) {
        (Some(certificate), Some(key)) => {
            let chain = certificates("the client certificate", certificate)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| MqttConfigError::File {
                what: "the client key",
                path: key.clone(),
                reason: format!("no unencrypted private key in PEM: {error}"),
            })?;
            builder.with_client_auth_cert(chain, key).map_err(tls)
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, MqttConfigError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        for certificate in certificates("the CA file", path)? {
            roots.add(certificate).map_err(|error| MqttConfigError::File {
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
        return Err(MqttConfigError::Tls { reason });
    }
    Ok(roots)
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, MqttConfigError> {
    let wrong = |reason: String| MqttConfigError::File { what, path: path.to_owned(), reason };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| wrong(format!("no certificates in PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(wrong("no certificate in it (PEM, -----BEGIN CERTIFICATE-----)".to_owned()));
    }
    Ok(certificates)
}
