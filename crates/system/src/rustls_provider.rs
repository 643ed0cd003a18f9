//! Which cryptography rustls uses.

/// Gives rustls its cryptography (ring) for the whole program. Every adapter that may speak TLS calls
/// it before it makes a client; only the first call does anything.
pub fn install() {
    // an error says that there is one already, ours or a test's: that is what we want
    let _ = rustls::crypto::ring::default_provider().install_default();
}
