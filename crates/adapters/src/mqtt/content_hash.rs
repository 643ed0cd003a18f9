//! A hash of what a message says, which is part of how it is known when it comes again.

/// A hash of a topic and a payload, the same on every machine and in every version.
pub(super) fn content_hash(topic: &[u8], payload: &[u8]) -> u64 {
    let crc = |bytes: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        u64::from(crc.sum())
    };
    crc(topic) << 32 | crc(payload)
}
