//! The few bytes that both files on disk are made of: variable-length numbers and checksums.

/// Appends a number, seven bits a byte, lowest first (LEB128).
pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = number.to_le_bytes()[0] & 0x7f;
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Appends bytes with their length before them.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// CRC-32 of bytes.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Bytes with their checksum after them.
pub(super) fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

/// What [`sealed`] was given; none when a byte has changed since.
pub(super) fn unsealed(bytes: &[u8]) -> Option<&[u8]> {
    let (content, sum) = bytes.split_last_chunk::<4>()?;
    (checksum(content) == u32::from_le_bytes(*sum)).then_some(content)
}

/// Bytes with a checksum after them over them and what they belong to, which is kept elsewhere.
pub(super) fn sealed_for(mut bytes: Vec<u8>, of: &[u8]) -> Vec<u8> {
    let sum = checksum_for(&bytes, of);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

/// What [`sealed_for`] was given for the same; none when a byte of either has changed since. What is only
/// [`sealed`] was written by an earlier version.
pub(super) fn unsealed_for<'a>(bytes: &'a [u8], of: &[u8]) -> Option<&'a [u8]> {
    let (content, sum) = bytes.split_last_chunk::<4>()?;
    let is_whole = checksum_for(content, of) == u32::from_le_bytes(*sum);
    if is_whole { Some(content) } else { unsealed(bytes) }
}

fn checksum_for(bytes: &[u8], of: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.update(of);
    crc.sum()
}

/// Reads bytes from the front; every answer is none where they end too early.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decoder<'a>(pub(super) &'a [u8]);

impl<'a> Decoder<'a> {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.array::<1>()?[0];
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn length(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(super) fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_and_bytes_come_back(number in any::<u64>(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut out = Vec::new();
            put_number(&mut out, number);
            put_bytes(&mut out, &bytes);
            let sealed_bytes = sealed(out);
            let mut decoder = Decoder(unsealed(&sealed_bytes).unwrap());
            prop_assert_eq!(decoder.number(), Some(number));
            prop_assert_eq!(decoder.bytes(), Some(&bytes[..]));
            prop_assert!(decoder.is_empty());
            for length in 0..sealed_bytes.len() {
                prop_assert_eq!(unsealed(&sealed_bytes[..length]), None);
            }
        }

        #[test]
        fn nonsense_is_no_number(bytes in prop::collection::vec(any::<u8>(), 0..30)) {
            let mut decoder = Decoder(&bytes);
            while decoder.number().is_some() {}
            let _ = Decoder(&bytes).text();
        }
    }
}
