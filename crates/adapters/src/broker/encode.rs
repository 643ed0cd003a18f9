//! What the broker sends, and what waits to be written to a client.

use std::collections::VecDeque;
use std::rc::Rc;

/// A message as it is kept: the topic's length in two bytes, the topic, the payload. One allocation, whoever it is for.
pub(super) type Body = Rc<[u8]>;

/// A body from here on is written from where it is, not copied for each client.
const LARGE_BYTES: usize = 64 * 1024;

/// Puts a message together.
pub(super) fn body(topic: &str, payload: &[u8]) -> Body {
    // a topic that came in a packet has at most 65,535 bytes
    let length = u16::try_from(topic.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::with_capacity(2 + topic.len() + payload.len());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(topic.as_bytes());
    bytes.extend_from_slice(payload);
    bytes.into()
}

/// Where the payload of a message begins.
pub(super) fn payload_at(body: &Body) -> usize {
    match **body {
        [high, low, ..] => 2 + (usize::from(high) << 8 | usize::from(low)),
        _ => body.len(),
    }
}

#[derive(Debug)]
enum Chunk {
    Small(Vec<u8>),
    Large(Body, usize),
}

/// Bytes on their way to one client, in order.
#[derive(Debug, Default)]
pub(super) struct Out {
    chunks: VecDeque<Chunk>,
    /// How much of the first chunk is written.
    written: usize,
    bytes: usize,
}

impl Out {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// How many bytes wait.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// What to write next.
    pub(super) fn next(&self) -> &[u8] {
        let chunk = match self.chunks.front() {
            Some(Chunk::Small(bytes)) => bytes.as_slice(),
            Some(Chunk::Large(body, from)) => body.get(*from..).unwrap_or_default(),
            None => &[],
        };
        chunk.get(self.written..).unwrap_or_default()
    }

    /// So much of it has been written.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
        self.bytes = self.bytes.saturating_sub(bytes);
        if self.next().is_empty() {
            self.written = 0;
            self.chunks.pop_front();
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        match self.chunks.back_mut() {
            Some(Chunk::Small(chunk)) => chunk.extend_from_slice(bytes),
            _ => self.chunks.push_back(Chunk::Small(bytes.to_vec())),
        }
    }

    /// The answer to CONNECT.
    pub(super) fn connack(&mut self, session_present: bool, code: u8) {
        self.push(&[0x20, 2, u8::from(session_present), code]);
    }

    /// The answer to a CONNECT of MQTT 5: unsupported protocol version.
    pub(super) fn connack_five(&mut self) {
        self.push(&[0x20, 3, 0, 0x84, 0]);
    }

    /// PUBACK, PUBREC, PUBREL, PUBCOMP or UNSUBACK, by their first byte.
    pub(super) fn answer(&mut self, first: u8, id: u16) {
        let [high, low] = id.to_be_bytes();
        self.push(&[first, 2, high, low]);
    }

    pub(super) fn pingresp(&mut self) {
        self.push(&[0xd0, 0]);
    }

    pub(super) fn suback(&mut self, id: u16, codes: &[u8]) {
        self.header(0x90, 2 + codes.len());
        self.push(&id.to_be_bytes());
        self.push(codes);
    }

    /// A message: with a packet id at QoS 1.
    pub(super) fn publish(&mut self, body: &Body, id: Option<u16>, again: bool, retained: bool) {
        let first = 0x30 | u8::from(retained) | if id.is_some() { 2 } else { 0 } | if again { 8 } else { 0 };
        self.header(first, body.len() + if id.is_some() { 2 } else { 0 });
        let payload_at = payload_at(body);
        let (topic, payload) = body.split_at_checked(payload_at).unwrap_or((body, &[]));
        self.push(topic);
        if let Some(id) = id {
            self.push(&id.to_be_bytes());
        }
        if payload.len() < LARGE_BYTES {
            self.push(payload);
        } else {
            self.bytes += payload.len();
            self.chunks.push_back(Chunk::Large(body.clone(), payload_at));
        }
    }

    fn header(&mut self, first: u8, mut remaining: usize) {
        let mut header = [first, 0, 0, 0, 0];
        let mut length = 1;
        while length < header.len() {
            #[allow(clippy::cast_possible_truncation, reason = "seven bits")]
            let low = (remaining & 0x7f) as u8;
            remaining >>= 7;
            header[length] = low | if remaining > 0 { 0x80 } else { 0 };
            length += 1;
            if remaining == 0 {
                break;
            }
        }
        self.push(header.get(..length).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(out: &mut Out) -> Vec<u8> {
        let mut all = Vec::new();
        while !out.is_empty() {
            // as a socket does that takes little at a time
            let part = out.next()[..out.next().len().min(1000)].to_vec();
            out.wrote(part.len());
            all.extend(part);
        }
        all
    }

    #[test]
    fn messages_small_and_large_are_written_in_order() {
        let mut out = Out::default();
        let large = vec![7; LARGE_BYTES];
        out.publish(&body("t", b"1"), Some(258), true, false);
        out.publish(&body("t", &large), None, false, true);
        out.pingresp();
        let bytes = written(&mut out);
        assert_eq!(bytes[..8], *b"\x3a\x06\x00\x01t\x01\x021");
        assert_eq!(bytes[8..15], [0x31, 0x83, 0x80, 0x04, 0, 1, b't']);
        assert_eq!(bytes[15..], [&large[..], &[0xd0, 0]].concat());
        assert_eq!(out.bytes(), 0);
    }
}
