//! Slots of fixed length in the small files that bear witness of the large ones: a kill cannot tear one, because it
//! never reaches over the end of a page.

use super::encoding::{Decoder, put_bytes, sealed, unsealed};

/// Bytes of a slot; a page holds a whole number of them.
pub(super) const SLOT_BYTES: usize = 256;

/// Content with its length and checksum, filled up to a slot.
pub(super) fn slot(content: Vec<u8>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SLOT_BYTES);
    put_bytes(&mut bytes, &sealed(content));
    bytes.resize(SLOT_BYTES, 0);
    bytes
}

/// What [`slot`] was given; none when a byte has changed since.
pub(super) fn content(slot: &[u8]) -> Option<&[u8]> {
    let mut from = Decoder(slot);
    let content = unsealed(from.bytes()?)?;
    from.0.iter().all(|byte| *byte == 0).then_some(content)
}

/// Whether nothing was written here, or not before a power failure.
pub(super) fn is_empty(slot: &[u8]) -> bool {
    slot.iter().all(|byte| *byte == 0)
}
