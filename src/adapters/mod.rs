//! Floor 3: the outside world, each part behind a port.

pub mod broker;
pub mod influx;
pub mod monitor;
pub mod mqtt;
pub mod process;

/// Gives rustls its cryptography (ring) for the whole program. Every adapter that may speak TLS calls
/// it before it makes a client; only the first call does anything.
pub fn install_crypto_provider() {
    // an error says that there is one already, ours or a test's: that is what we want
    let _ = rustls::crypto::ring::default_provider().install_default();
}
