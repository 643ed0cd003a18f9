//! What a client may send, read strictly: MQTT 3.1.1, sections 2 and 3. Nothing here can panic, and nothing is allocated
//! for what a client only announces.

use super::malformed::Malformed;
use super::topic::{filter, text, topic};

/// A packet of a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    Connect(Connect<'a>),
    Publish(Publish<'a>),
    PubAck(u16),
    PubRec(u16),
    PubRel(u16),
    PubComp(u16),
    Subscribe { id: u16, filters: Vec<(&'a str, u8)> },
    Unsubscribe { id: u16, filters: Vec<&'a str> },
    PingReq,
    Disconnect,
}

/// How a client introduces itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Connect<'a> {
    pub client_id: &'a str,
    pub clean_session: bool,
    pub keep_alive_seconds: u16,
    pub will: Option<Publish<'a>>,
    pub user: Option<&'a str>,
    pub password: &'a [u8],
}

/// A message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Publish<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub qos: u8,
    pub retain: bool,
    /// 0 without QoS.
    pub id: u16,
}

/// The version that a client speaks, when it is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OtherVersion {
    /// MQTT 3.1, or one that nobody knows: refused with return code 1.
    Old(u8),
    /// MQTT 5: refused with its own reason code.
    Five,
}

/// Where a packet ends, known from its first two to five bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    /// Type and flags.
    pub first: u8,
    pub header_bytes: usize,
    pub bytes: usize,
}

/// Most filters in one packet.
const FILTERS_MAX: usize = 500;

const CONNECT: u8 = 1;
const PUBLISH: u8 = 3;
const DISCONNECT: u8 = 14;

/// Reads the fixed header, or none when more bytes are needed. What only a server sends, and what is larger than
/// `bytes_max`, is refused here: its body is not waited for.
pub(super) fn frame(buffer: &[u8], bytes_max: usize) -> Result<Option<Frame>, Malformed> {
    let Some((&first, rest)) = buffer.split_first() else { return Ok(None) };
    let flags = first & 0x0f;
    let flags_expected = match first >> 4 {
        CONNECT | 4 | 5 | 7 | 12 | DISCONNECT => 0,
        6 | 8 | 10 => 2,
        PUBLISH => flags,
        2 | 9 | 11 | 13 => return Err(Malformed("a packet that only a server sends")),
        _ => return Err(Malformed("a packet type that does not exist")),
    };
    if flags != flags_expected {
        return Err(Malformed("flags that the packet type does not have"));
    }
    let mut remaining = 0;
    for (at, &byte) in rest.iter().take(4).enumerate() {
        remaining |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let header_bytes = at + 2;
            let bytes = header_bytes + remaining;
            return if bytes > bytes_max {
                Err(Malformed("a packet larger than the limit"))
            } else {
                Ok(Some(Frame { first, header_bytes, bytes }))
            };
        }
    }
    if rest.len() >= 4 { Err(Malformed("a remaining length of more than four bytes")) } else { Ok(None) }
}

/// Whether this is the packet that a connection begins with.
pub(super) const fn is_connect(frame: Frame) -> bool {
    frame.first >> 4 == CONNECT
}

/// Which other version a CONNECT is of, whatever else is in it.
pub(super) fn other_version(body: &[u8]) -> Option<OtherVersion> {
    let mut rest = Rest(body);
    let name = rest.bytes().ok()?;
    let level = rest.byte().ok()?;
    match (name, level) {
        (b"MQTT", 4) => None,
        (b"MQTT", 5) => Some(OtherVersion::Five),
        (b"MQTT" | b"MQIsdp", level) => Some(OtherVersion::Old(level)),
        _ => None,
    }
}

/// Reads a whole packet, whose header has been read.
pub(super) fn parse(frame: Frame, body: &[u8]) -> Result<Packet<'_>, Malformed> {
    let mut rest = Rest(body);
    let packet = match frame.first >> 4 {
        CONNECT => Packet::Connect(connect(&mut rest)?),
        PUBLISH => Packet::Publish(publish(frame.first & 0x0f, &mut rest)?),
        4 => Packet::PubAck(rest.id()?),
        5 => Packet::PubRec(rest.id()?),
        6 => Packet::PubRel(rest.id()?),
        7 => Packet::PubComp(rest.id()?),
        8 => {
            let id = rest.id()?;
            let mut filters = Vec::new();
            while !rest.0.is_empty() {
                let path = filter(rest.bytes()?)?;
                let qos = rest.byte()?;
                if qos > 2 {
                    return Err(Malformed("a subscription with a QoS that does not exist"));
                }
                filters.push((path, qos));
            }
            if filters.is_empty() || filters.len() > FILTERS_MAX {
                return Err(Malformed("a SUBSCRIBE without a filter, or with too many"));
            }
            Packet::Subscribe { id, filters }
        }
        10 => {
            let id = rest.id()?;
            let mut filters = Vec::new();
            while !rest.0.is_empty() {
                filters.push(filter(rest.bytes()?)?);
            }
            if filters.is_empty() || filters.len() > FILTERS_MAX {
                return Err(Malformed("an UNSUBSCRIBE without a filter, or with too many"));
            }
            Packet::Unsubscribe { id, filters }
        }
        12 => Packet::PingReq,
        DISCONNECT => Packet::Disconnect,
        _ => return Err(Malformed("a packet type that does not exist")),
    };
    if rest.0.is_empty() { Ok(packet) } else { Err(Malformed("bytes after the end of a packet")) }
}

fn connect<'a>(rest: &mut Rest<'a>) -> Result<Connect<'a>, Malformed> {
    if rest.bytes()? != b"MQTT" || rest.byte()? != 4 {
        return Err(Malformed("a CONNECT of another protocol"));
    }
    let flags = rest.byte()?;
    let keep_alive_seconds = rest.two()?;
    let client_id = text(rest.bytes()?)?;
    let (has_will, qos, retain) = (flags & 4 != 0, (flags >> 3) & 3, flags & 32 != 0);
    let (has_password, has_user) = (flags & 64 != 0, flags & 128 != 0);
    if flags & 1 != 0 {
        return Err(Malformed("a CONNECT with its reserved flag"));
    }
    if qos > 2 || (!has_will && (qos != 0 || retain)) {
        return Err(Malformed("a CONNECT whose will cannot be"));
    }
    if has_password && !has_user {
        return Err(Malformed("a CONNECT with a password and no user"));
    }
    let will = match has_will {
        true => {
            let topic = topic(rest.bytes()?)?;
            Some(Publish { topic, payload: rest.bytes()?, qos, retain, id: 0 })
        }
        false => None,
    };
    let user = if has_user { Some(text(rest.bytes()?)?) } else { None };
    let password = if has_password { rest.bytes()? } else { &[] };
    Ok(Connect { client_id, clean_session: flags & 2 != 0, keep_alive_seconds, will, user, password })
}

fn publish<'a>(flags: u8, rest: &mut Rest<'a>) -> Result<Publish<'a>, Malformed> {
    let qos = (flags >> 1) & 3;
    if qos > 2 || (qos == 0 && flags & 8 != 0) {
        return Err(Malformed("a PUBLISH with a QoS that does not exist"));
    }
    let topic = topic(rest.bytes()?)?;
    let id = if qos > 0 { rest.id()? } else { 0 };
    let payload = std::mem::take(&mut rest.0);
    Ok(Publish { topic, payload, qos, retain: flags & 1 != 0, id })
}

/// What of a packet has not been read.
struct Rest<'a>(&'a [u8]);

const SHORT: Malformed = Malformed("a packet that ends too early");

impl<'a> Rest<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.take(1)?.first().copied().ok_or(SHORT)
    }

    fn two(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from(self.byte()?) << 8 | u16::from(self.byte()?))
    }

    /// A packet id, which is never 0.
    fn id(&mut self) -> Result<u16, Malformed> {
        match self.two()? {
            0 => Err(Malformed("a packet id of 0")),
            id => Ok(id),
        }
    }

    /// Bytes with their length before them.
    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.two()?;
        self.take(usize::from(length))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Packet<'_>, Malformed> {
        let frame = frame(bytes, 1 << 20)?.ok_or(SHORT)?;
        parse(frame, &bytes[frame.header_bytes..frame.bytes.min(bytes.len())])
    }

    #[test]
    fn packets_are_read() {
        assert_eq!(read(b"\xc0\x00"), Ok(Packet::PingReq));
        assert_eq!(read(b"\x40\x02\x00\x07"), Ok(Packet::PubAck(7)));
        let publish = Publish { topic: "ä", payload: b"5", qos: 1, retain: true, id: 3 };
        assert_eq!(read(b"\x33\x07\x00\x02\xc3\xa4\x00\x035"), Ok(Packet::Publish(publish)));
        assert_eq!(read(b"\x82\x06\x00\x01\x00\x01#\x02"), Ok(Packet::Subscribe { id: 1, filters: vec![("#", 2)] }));
        let connect = Connect {
            client_id: "c",
            clean_session: true,
            keep_alive_seconds: 10,
            will: None,
            user: None,
            password: &[],
        };
        assert_eq!(read(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x0a\x00\x01c"), Ok(Packet::Connect(connect)));
    }

    #[test]
    fn other_versions_are_told_apart() {
        assert_eq!(other_version(b"\x00\x04MQTT\x05\x02"), Some(OtherVersion::Five));
        assert_eq!(other_version(b"\x00\x06MQIsdp\x03\x02"), Some(OtherVersion::Old(3)));
        assert_eq!(other_version(b"\x00\x04MQTT\x04"), None);
        assert_eq!(other_version(b"\x00\x04HTTP\x04"), None);
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_comes() {
        assert_eq!(
            frame(b"\x30\xff\xff\xff\xff\x7f", 1 << 20),
            Err(Malformed("a remaining length of more than four bytes"))
        );
        assert_eq!(frame(b"\x30\x80\x80\x80\x64", 1 << 20), Err(Malformed("a packet larger than the limit")));
        assert_eq!(frame(b"\x30\x80\x80", 1 << 20), Ok(None));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(&bytes);
            let _ = other_version(&bytes);
        }
    }
}
