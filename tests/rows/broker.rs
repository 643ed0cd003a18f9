//! The embedded broker under attack: whatever comes over a raw socket costs nobody else anything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says where")]

use crate::support;
use std::net::SocketAddr;
use std::time::Duration;

use heartwatch_adapters::broker::{self, BrokerConfig, BrokerCounts, EmbeddedBroker};
use heartwatch_domain::verdict::Verdict;
use support::eventually;
use support::heartwatch::{PATIENCE, Program, RunOptions, Running, command};
use support::mosquitto::Mosquitto;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What another client says meanwhile: a topic that begins beyond ASCII, as any other.
const HEALTHY: &str = "ärzte/temp";

async fn start() -> EmbeddedBroker {
    start_with(BrokerConfig::default()).await
}

async fn start_with(config: BrokerConfig) -> EmbeddedBroker {
    broker::start(BrokerConfig { listen: "127.0.0.1:0".parse().unwrap(), ..config }).await.unwrap()
}

fn text(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    [&length[..], bytes].concat()
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut rest = body.len();
    loop {
        let low = u8::try_from(rest & 0x7f).unwrap();
        rest >>= 7;
        bytes.push(low | if rest > 0 { 0x80 } else { 0 });
        if rest == 0 {
            break;
        }
    }
    [bytes, body.to_vec()].concat()
}

fn connect(id: &[u8], clean: bool, will: Option<&[u8]>) -> Vec<u8> {
    let flags = if clean { 2 } else { 0 } | if will.is_some() { 4 } else { 0 };
    let will = will.map(|topic| [text(topic), text(b"will")].concat()).unwrap_or_default();
    packet(0x10, &[&b"\x00\x04MQTT\x04"[..], &[flags, 0, 60], &text(id), &will].concat())
}

fn publish(topic: &[u8], qos: u8, id: u16, payload: &[u8]) -> Vec<u8> {
    let id = if qos > 0 { id.to_be_bytes().to_vec() } else { Vec::new() };
    packet(0x30 | qos << 1, &[text(topic), id, payload.to_vec()].concat())
}

fn subscribe(id: u16, filter: &[u8], qos: u8) -> Vec<u8> {
    packet(0x82, &[&id.to_be_bytes()[..], &text(filter), &[qos]].concat())
}

fn unsubscribe(id: u16, filter: &[u8]) -> Vec<u8> {
    packet(0xa2, &[&id.to_be_bytes()[..], &text(filter)].concat())
}

/// A client that speaks bytes.
struct Raw(TcpStream);

impl Raw {
    async fn open(address: SocketAddr) -> Self {
        Self(timeout(PATIENCE, TcpStream::connect(address)).await.unwrap().unwrap())
    }

    async fn connected(address: SocketAddr, id: &str) -> Self {
        let mut raw = Self::open(address).await;
        raw.send(&connect(id.as_bytes(), true, None)).await;
        assert_eq!(raw.packet().await.unwrap()[..2], [0x20, 2]);
        raw
    }

    /// The broker may close before all of it is sent.
    async fn send(&mut self, bytes: &[u8]) {
        let _ = timeout(PATIENCE, self.0.write_all(bytes)).await.expect("it is read in time");
    }

    /// The next packet, or none when the broker closed the connection.
    async fn packet(&mut self) -> Option<Vec<u8>> {
        timeout(PATIENCE, async {
            let mut packet = vec![self.0.read_u8().await.ok()?];
            let (mut length, mut shift) = (0usize, 0);
            loop {
                let byte = self.0.read_u8().await.ok()?;
                packet.push(byte);
                length |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let begin = packet.len();
            packet.resize(begin + length, 0);
            self.0.read_exact(&mut packet[begin..]).await.ok()?;
            Some(packet)
        })
        .await
        .expect("an answer or an end in time")
    }

    /// Whether the connection still lives, whatever comes before the answer.
    async fn lives(&mut self) -> bool {
        self.send(&[0xc0, 0]).await;
        while let Some(packet) = self.packet().await {
            if packet == [0xd0, 0] {
                return true;
            }
        }
        false
    }

    /// Waits until the broker has taken all that was sent and closed.
    async fn finish(mut self) {
        let _ = self.0.shutdown().await;
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, self.0.read_to_end(&mut rest)).await.expect("it closes in time");
    }
}

/// Two clients that do nothing wrong.
struct Healthy {
    publisher: Raw,
    subscriber: Raw,
    sent: u32,
}

impl Healthy {
    async fn new(address: SocketAddr) -> Self {
        let mut subscriber = Raw::connected(address, "healthy-monitor").await;
        subscriber.send(&subscribe(1, "ärzte/#".as_bytes(), 1)).await;
        assert_eq!(subscriber.packet().await.unwrap(), [0x90, 3, 0, 1, 1]);
        Self { publisher: Raw::connected(address, "healthy-publisher").await, subscriber, sent: 0 }
    }

    /// Both have published, so that they are closed for nobody.
    async fn is_of_use(&mut self) {
        self.subscriber.send(&publish(b"some/other/topic", 0, 0, b"1")).await;
        assert!(self.subscriber.lives().await);
        self.goes_on("the start").await;
    }

    /// A message goes from one to the other.
    async fn goes_on(&mut self, after: &str) {
        self.sent += 1;
        let payload = self.sent.to_be_bytes();
        self.publisher.send(&publish(HEALTHY.as_bytes(), 1, 7, &payload)).await;
        let acknowledged =
            self.publisher.packet().await.unwrap_or_else(|| panic!("{after}: it cost the publisher its connection"));
        assert_eq!(acknowledged, [0x40, 2, 0, 7], "{after}");
        let came =
            self.subscriber.packet().await.unwrap_or_else(|| panic!("{after}: it cost the subscriber its connection"));
        assert!(came.ends_with(&payload), "{after}: {came:?}");
        let id = 4 + HEALTHY.len();
        self.subscriber.send(&packet(0x40, &came[id..id + 2])).await;
    }
}

/// What a case does to the connection that it came by.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Expected {
    Closed,
    Open,
}
use Expected::{Closed, Open};

struct Case {
    name: String,
    /// Whether it comes after a CONNECT.
    connected: bool,
    bytes: Vec<u8>,
    expected: Expected,
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(24)]).escape_debug().to_string()
}

/// Every place of a topic, with topics that may not be there and such that may.
fn topic_cases() -> Vec<Case> {
    let deep = "/".repeat(300).into_bytes();
    let long = "ä".repeat(32_767).into_bytes();
    let mut cases = Vec::new();
    let never: [&[u8]; 9] =
        [b"", b"a\0b", b"\0", b"\xff\xfe", b"\xc3", b"a/\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", &deep];
    let only_filters: [&[u8]; 5] = [b"#", b"+", b"+/x", "ä/#".as_bytes(), b"$SYS/#"];
    let no_filters: [&[u8]; 6] = [b"a/#/b", b"a#", b"#a", b"a+/b", b"++", "厨+".as_bytes()];
    let fine: [&[u8]; 11] = [
        "ä".as_bytes(),
        "ä/x".as_bytes(),
        "厨房/x/y".as_bytes(),
        "\u{1f600}".as_bytes(),
        "\u{feff}x".as_bytes(),
        "\u{7f}".as_bytes(),
        b"/",
        b"//",
        b"$SYS/x",
        b"$share",
        &long,
    ];
    let mut add = |topic: &[u8], as_topic: Expected, as_filter: Expected| {
        for qos in 0..3 {
            let bytes = publish(topic, qos, 3, b"x");
            cases.push(Case {
                name: format!("PUBLISH {} at {qos}", shown(topic)),
                connected: true,
                bytes,
                expected: as_topic,
            });
        }
        let will = connect(b"with-a-will", true, Some(topic));
        cases.push(Case {
            name: format!("will on {}", shown(topic)),
            connected: false,
            bytes: will,
            expected: as_topic,
        });
        let bytes = subscribe(3, topic, 1);
        cases.push(Case { name: format!("SUBSCRIBE {}", shown(topic)), connected: true, bytes, expected: as_filter });
        let bytes = unsubscribe(3, topic);
        cases.push(Case { name: format!("UNSUBSCRIBE {}", shown(topic)), connected: true, bytes, expected: as_filter });
    };
    never.iter().for_each(|topic| add(topic, Closed, Closed));
    only_filters.iter().for_each(|topic| add(topic, Closed, Open));
    no_filters.iter().for_each(|topic| add(topic, Closed, Closed));
    fine.iter().for_each(|topic| add(topic, Open, Open));
    for filter in ["$share/g/x", "$share/", "$share//", "$share/g/#", "$share/ä/厨房/#"] {
        // refused by its SUBACK
        cases.push(Case {
            name: filter.to_owned(),
            connected: true,
            bytes: subscribe(3, filter.as_bytes(), 1),
            expected: Open,
        });
    }
    cases
}

fn other_cases() -> Vec<Case> {
    let after = |name: &str, bytes: &[u8], expected| Case {
        name: name.to_owned(),
        connected: true,
        bytes: bytes.to_vec(),
        expected,
    };
    let first = |name: &str, bytes: &[u8]| Case {
        name: name.to_owned(),
        connected: false,
        bytes: bytes.to_vec(),
        expected: Closed,
    };
    let connect_with =
        |flags: u8, rest: &[u8]| packet(0x10, &[&b"\x00\x04MQTT\x04"[..], &[flags, 0, 60], rest].concat());
    let mut cases = vec![
        after("QoS 3", &publish(b"a", 3, 3, b"x"), Closed),
        after("QoS 0 as a duplicate", &packet(0x38, &text(b"a")), Closed),
        after("PUBLISH with packet id 0", &publish(b"a", 1, 0, b"x"), Closed),
        after("PUBLISH without a packet id", &packet(0x32, &text(b"a")), Closed),
        after("PUBLISH that ends in its topic", &packet(0x30, b"\x00\x09a"), Closed),
        after("PUBLISH of nothing", &[0x30, 0], Closed),
        after("SUBSCRIBE with packet id 0", &subscribe(0, b"a", 1), Closed),
        after("SUBSCRIBE to nothing", &packet(0x82, &[0, 1]), Closed),
        after("SUBSCRIBE at QoS 3", &subscribe(3, b"a", 3), Closed),
        after("SUBSCRIBE at QoS 255", &subscribe(3, b"a", 255), Closed),
        after("SUBSCRIBE without its flags", &packet(0x80, &subscribe(3, b"a", 1)[2..]), Closed),
        after("SUBSCRIBE without a QoS", &packet(0x82, &[&[0, 3][..], &text(b"a")].concat()), Closed),
        after(
            "SUBSCRIBE with 10,000 filters",
            &packet(0x82, &[&[0, 3][..], &[&text(b"a")[..], &[1]].concat().repeat(10_000)].concat()),
            Closed,
        ),
        after("UNSUBSCRIBE with packet id 0", &unsubscribe(0, b"a"), Closed),
        after("UNSUBSCRIBE from nothing", &packet(0xa2, &[0, 1]), Closed),
        after("UNSUBSCRIBE from what was never subscribed", &unsubscribe(9, b"never"), Open),
        after("PUBACK of what was never sent", &packet(0x40, &[0, 99]), Open),
        after("PUBREC of what was never sent", &packet(0x50, &[0, 99]), Open),
        after("PUBREL of what was never sent", &packet(0x62, &[0, 99]), Open),
        after("PUBCOMP of what was never sent", &packet(0x70, &[0, 99]), Open),
        after("PUBACK of 0", &packet(0x40, &[0, 0]), Closed),
        after("PUBREL without its flags", &packet(0x60, &[0, 9]), Closed),
        after("PUBACK of one byte", &packet(0x40, &[9]), Closed),
        after("PUBACK of three bytes", &packet(0x40, &[0, 9, 9]), Closed),
        after("a second CONNECT", &connect(b"twice", true, None), Closed),
        after("CONNACK", &[0x20, 2, 0, 0], Closed),
        after("SUBACK", &[0x90, 3, 0, 1, 0], Closed),
        after("UNSUBACK", &[0xb0, 2, 0, 1], Closed),
        after("PINGRESP", &[0xd0, 0], Closed),
        after("PINGREQ with a body", &[0xc0, 1, 0], Closed),
        after("PINGREQ with flags", &[0xc3, 0], Closed),
        after("DISCONNECT with a body", &[0xe0, 2, 0, 0], Closed),
        after("packet type 0", &[0x00, 0], Closed),
        after("packet type 15, which MQTT 5 has", &[0xf0, 0], Closed),
        after("a remaining length of five bytes", &[0x30, 0xff, 0xff, 0xff, 0xff, 0x01], Closed),
        after("a remaining length of five zeros", &[0x30, 0x80, 0x80, 0x80, 0x80, 0x00], Closed),
        after("200 MiB announced", &[0x30, 0x80, 0x80, 0x80, 0x64], Closed),
        after("DISCONNECT and more", &[&[0xe0, 0][..], &publish(b"a", 3, 3, b"x")].concat(), Closed),
        first("nothing at all", b""),
        first("half a CONNECT", &connect(b"half", true, None)[..9]),
        first("one byte", &[0x10]),
        first("a CONNECT of 200 MiB", &[0x10, 0x80, 0x80, 0x80, 0x64]),
        first("PINGREQ first", &[0xc0, 0]),
        first("PUBLISH first", &publish("ä".as_bytes(), 0, 0, b"x")),
        first("DISCONNECT first", &[0xe0, 0]),
        first("HTTP", b"GET / HTTP/1.1\r\nHost: heartwatch\r\n\r\n"),
        first("HTTP POST", b"POST /mqtt HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"),
        first("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        first("SSH", b"SSH-2.0-OpenSSH_9.2\r\n"),
        first("CONNECT with flags", &packet(0x11, &connect(b"c", true, None)[2..])),
        first("CONNECT with its reserved flag", &connect_with(3, &text(b"c"))),
        first(
            "CONNECT with a will of QoS 3",
            &connect_with(2 | 4 | 24, &[text(b"c"), text(b"t"), text(b"p")].concat()),
        ),
        first("CONNECT with the QoS of no will", &connect_with(2 | 8, &text(b"c"))),
        first("CONNECT that retains no will", &connect_with(2 | 32, &text(b"c"))),
        first("CONNECT with a password and no user", &connect_with(2 | 64, &[text(b"c"), text(b"p")].concat())),
        first("CONNECT without the will it has", &connect_with(2 | 4, &text(b"c"))),
        first("CONNECT with more than it has", &connect_with(2, &[text(b"c"), text(b"more")].concat())),
        first("CONNECT with a NUL in its id", &connect(b"c\0", true, None)),
        first("CONNECT with an id that is not UTF-8", &connect(b"\xff", true, None)),
        first("CONNECT with a user that is not UTF-8", &connect_with(2 | 128, &[text(b"c"), text(b"\xff")].concat())),
        first("CONNECT of a stranger", &packet(0x10, &[&text(b"HTTP")[..], &[4, 2, 0, 60], &text(b"c")].concat())),
        first("CONNECT without an id that wants to be remembered", &connect(b"", false, None)),
        first("CONNECT with an id of 60,000 bytes", &connect(&b"c".repeat(60_000), true, None)),
    ];
    // with some brokers the second of these ends all that come later
    for id in ["a+b", "a#", "$SYS", "a/b", "厨房", " "] {
        for _ in 0..2 {
            let bytes = connect(id.as_bytes(), false, Some(b"gone"));
            cases.push(Case { name: format!("client id {id}"), connected: false, bytes, expected: Open });
        }
    }
    cases
}

#[tokio::test]
async fn whatever_comes_costs_nobody_else_anything() {
    let broker = start().await;
    let mut healthy = Healthy::new(broker.address()).await;
    healthy.goes_on("nothing").await;
    let cases: Vec<Case> = topic_cases().into_iter().chain(other_cases()).collect();
    assert!(cases.len() > 200, "{}", cases.len());
    for Case { name, connected, bytes, expected } in cases {
        let mut raw = if connected {
            Raw::connected(broker.address(), "attacker").await
        } else {
            Raw::open(broker.address()).await
        };
        raw.send(&bytes).await;
        match expected {
            Open => assert!(raw.lives().await, "{name}: it was allowed"),
            Closed => {
                if !connected && bytes.len() < 12 {
                    // half of something: no more comes
                    let _ = raw.0.shutdown().await;
                }
                let lives = raw.lives().await;
                assert!(!lives, "{name}: it was not allowed");
            }
        }
        drop(raw);
        healthy.goes_on(&name).await;
    }
    assert_eq!(BrokerCounts::get(&broker.counts().restarts), 0);
}

#[tokio::test]
async fn other_versions_are_refused_with_their_codes() {
    let broker = start().await;
    let five = packet(0x10, &[&b"\x00\x04MQTT\x05\x02\x00\x3c\x00"[..], &text(b"five")].concat());
    let three = packet(0x10, &[&b"\x00\x06MQIsdp\x03\x02\x00\x3c"[..], &text(b"three")].concat());
    let six = packet(0x10, &[&b"\x00\x04MQTT\x06\x02\x00\x3c"[..], &text(b"six")].concat());
    let nameless = connect(b"", false, None);
    for (bytes, answer) in [
        (five, &[0x20, 3, 0, 0x84, 0][..]),
        (three, &[0x20, 2, 0, 1][..]),
        (six, &[0x20, 2, 0, 1][..]),
        (nameless, &[0x20, 2, 0, 2][..]),
    ] {
        let mut raw = Raw::open(broker.address()).await;
        raw.send(&bytes).await;
        assert_eq!(raw.packet().await.unwrap(), answer, "{bytes:?}");
        assert_eq!(raw.packet().await, None, "and closed");
    }
}

#[tokio::test]
async fn topics_beyond_ascii_work_everywhere() {
    let broker = start().await;
    let mut other = Raw::connected(broker.address(), "other").await;
    for (id, filter) in [(1, "ä/+"), (2, "厨房/#"), (3, "+/😀")] {
        other.send(&subscribe(id, filter.as_bytes(), 1)).await;
        assert_eq!(other.packet().await.unwrap()[0], 0x90);
    }
    let mut raw = Raw::open(broker.address()).await;
    raw.send(&connect("ärger".as_bytes(), true, Some("厨房/letzter".as_bytes()))).await;
    assert_eq!(raw.packet().await.unwrap(), [0x20, 2, 0, 0]);
    for topic in ["ä/x", "厨房", "é/😀"] {
        raw.send(&publish(topic.as_bytes(), 0, 0, b"x")).await;
        let came = other.packet().await.unwrap();
        assert_eq!(came[..1], [0x30]);
        assert_eq!(came[4..4 + topic.len()], *topic.as_bytes());
    }
    drop(raw);
    assert!(other.packet().await.unwrap().windows(14).any(|part| part == "厨房/letzter".as_bytes()), "its will");
    other.send(&unsubscribe(9, "ä/+".as_bytes())).await;
    assert_eq!(other.packet().await.unwrap(), [0xb0, 2, 0, 9]);
    let mut raw = Raw::connected(broker.address(), "r").await;
    raw.send(&publish("ä/x".as_bytes(), 0, 0, b"1")).await;
    raw.send(&publish("厨房/x".as_bytes(), 0, 0, b"2")).await;
    assert!(other.packet().await.unwrap().ends_with(b"2"), "what it has unsubscribed from no longer comes");
}

#[tokio::test]
async fn a_message_at_qos_2_comes_once_however_often_it_is_sent() {
    let broker = start().await;
    let mut other = Raw::connected(broker.address(), "other").await;
    other.send(&subscribe(1, b"#", 2)).await;
    assert_eq!(other.packet().await.unwrap(), [0x90, 3, 0, 1, 1], "at most QoS 1 is granted");
    let mut raw = Raw::connected(broker.address(), "raw").await;
    for number in 0..3 {
        for _ in 0..2 {
            raw.send(&publish(b"a", 2, 5, &[number])).await;
            assert_eq!(raw.packet().await.unwrap(), [0x50, 2, 0, 5]);
        }
        raw.send(&packet(0x62, &[0, 5])).await;
        assert_eq!(raw.packet().await.unwrap(), [0x70, 2, 0, 5]);
        assert!(other.packet().await.unwrap().ends_with(&[number]));
    }
}

#[tokio::test]
async fn retained_messages_come_with_the_subscription_until_they_are_deleted() {
    let broker = start().await;
    let mut raw = Raw::connected(broker.address(), "raw").await;
    let retained = |topic: &str, payload: &[u8]| packet(0x31, &[text(topic.as_bytes()), payload.to_vec()].concat());
    for topic in ["ä/1", "ä/2"] {
        raw.send(&retained(topic, b"kept")).await;
    }
    raw.send(&retained("ä/2", b"")).await;
    assert!(raw.lives().await);
    for filter in ["ä/+", "ä/1"] {
        let mut other = Raw::connected(broker.address(), "other").await;
        other.send(&subscribe(1, filter.as_bytes(), 0)).await;
        assert_eq!(other.packet().await.unwrap(), [0x90, 3, 0, 1, 0]);
        assert_eq!(other.packet().await.unwrap(), retained("ä/1", b"kept"));
        assert!(other.lives().await);
    }
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn ten_thousand_mutated_packets_cost_nobody_else_anything() {
    const MUTATIONS: u32 = 10_000;
    let broker = start().await;
    let mut healthy = Healthy::new(broker.address()).await;
    healthy.goes_on("nothing").await;
    let before = resident_bytes();
    let mut random = fastrand::Rng::with_seed(24);
    let seeds = [
        connect(b"mutant", true, Some("ä/will".as_bytes())),
        connect(b"mutant", false, None),
        publish("厨房/x".as_bytes(), 1, 4, b"payload"),
        publish(b"a/b", 2, 5, b"payload"),
        publish(b"a/b", 0, 0, &[b'x'; 300]),
        subscribe(6, "ä/+/#".as_bytes(), 1),
        unsubscribe(7, "ä/+/#".as_bytes()),
        packet(0x40, &[0, 1]),
        packet(0x62, &[0, 5]),
        vec![0xc0, 0],
        vec![0xe0, 0],
    ];
    for mutation in 0..MUTATIONS {
        let mut raw = Raw::open(broker.address()).await;
        let mut bytes = if random.bool() { connect(b"mutant", random.bool(), None) } else { Vec::new() };
        for _ in 0..random.usize(1..6) {
            let mut part = seeds[random.usize(..seeds.len())].clone();
            for _ in 0..random.usize(0..4) {
                let at = random.usize(..part.len());
                match random.u8(..4) {
                    0 => part[at] = random.u8(..),
                    1 => part[at] ^= 1 << random.u8(..8),
                    2 => part.insert(at, random.u8(..)),
                    _ => {
                        part.remove(at);
                    }
                }
                if part.is_empty() {
                    break;
                }
            }
            bytes.extend(part);
        }
        raw.send(&bytes).await;
        raw.finish().await;
        if mutation % 100 == 0 {
            healthy.goes_on(&format!("mutation {mutation}: {bytes:?}")).await;
        }
    }
    healthy.goes_on("all of them").await;
    assert_eq!(BrokerCounts::get(&broker.counts().restarts), 0);
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 64 * 1024 * 1024, "{grown} bytes more");
}

#[tokio::test]
async fn packets_that_are_never_finished_and_clients_that_never_read_cost_bounded_memory() {
    const MIB: usize = 1024 * 1024;
    let broker = start_with(BrokerConfig {
        partial_bytes_max: 4 * MIB,
        queued_bytes_max: 8 * MIB,
        queue_bytes_max: 2 * MIB,
        ..BrokerConfig::default()
    })
    .await;
    let mut healthy = Healthy::new(broker.address()).await;
    let before = resident_bytes();
    // sixty-four of 15 MiB each, of which one comes
    let mut hoarders = Vec::new();
    for number in 0..64 {
        let mut raw = Raw::connected(broker.address(), &format!("hoarder-{number}")).await;
        raw.send(&[&[0x30, 0x80, 0x80, 0xc0, 0x07][..], &vec![0; MIB]].concat()).await;
        hoarders.push(raw);
        healthy.goes_on(&format!("hoarder {number}")).await;
    }
    // thirty-two that want everything and read nothing, some of them away
    let mut deaf = Vec::new();
    for number in 0..32 {
        let mut raw = Raw::open(broker.address()).await;
        raw.send(&connect(format!("deaf-{number}").as_bytes(), false, None)).await;
        raw.send(&subscribe(1, b"flood/#", 1)).await;
        assert_eq!(raw.packet().await.unwrap()[0], 0x20);
        assert_eq!(raw.packet().await.unwrap()[0], 0x90);
        if number % 2 == 0 {
            deaf.push(raw);
        }
    }
    let mut flood = Raw::connected(broker.address(), "flood").await;
    for _ in 0..200 {
        flood.send(&publish(b"flood/x", 1, 1, &vec![7; 300_000])).await;
        assert_eq!(flood.packet().await.unwrap(), [0x40, 2, 0, 1]);
        healthy.goes_on("a flood that nobody reads").await;
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB, "{grown} bytes more");
    assert!(BrokerCounts::get(&broker.counts().dropped) > 0, "it is counted");
    let mut closed = 0;
    for mut raw in hoarders {
        if timeout(Duration::from_millis(50), raw.0.read_u8()).await.is_ok() {
            closed += 1;
        }
    }
    assert!((50..64).contains(&closed), "{closed} of 64 were closed: the largest, and no more than needed");
}

#[tokio::test]
async fn two_clients_with_one_id_do_not_touch_a_third_and_the_session_goes_on() {
    let broker = start().await;
    let mut healthy = Healthy::new(broker.address()).await;
    let mut first = Raw::open(broker.address()).await;
    first.send(&connect(b"same", false, Some("ärzte/will".as_bytes()))).await;
    assert_eq!(first.packet().await.unwrap(), [0x20, 2, 0, 0]);
    first.send(&subscribe(1, b"kept", 1)).await;
    first.packet().await.unwrap();
    for _ in 0..20 {
        let mut next = Raw::open(broker.address()).await;
        next.send(&connect(b"same", false, Some("ärzte/will".as_bytes()))).await;
        assert_eq!(next.packet().await.unwrap(), [0x20, 2, 1, 0], "the session is there");
        assert_eq!(first.packet().await, None, "the one before is closed");
        first = next;
        // no will: the session goes on
        healthy.goes_on("a takeover").await;
    }
    assert_eq!(BrokerCounts::get(&broker.counts().taken_over), 20);
    healthy.publisher.send(&publish(b"kept", 0, 0, b"1")).await;
    assert!(first.packet().await.unwrap().ends_with(b"1"), "its subscription, too");
    // with a clean session the old one is over, and its will is due
    let mut clean = Raw::connected(broker.address(), "same").await;
    let will = healthy.subscriber.packet().await.unwrap();
    assert!(will.ends_with(b"will"), "{will:?}");
    healthy.publisher.send(&publish(b"kept", 0, 0, b"2")).await;
    assert!(clean.lives().await);
}

#[tokio::test]
async fn it_takes_so_many_publishers_and_the_next_ones_when_some_have_gone() {
    let broker = start_with(BrokerConfig { connections_max: 8, sessions_max: 16, ..BrokerConfig::default() }).await;
    let mut healthy = Healthy::new(broker.address()).await;
    healthy.is_of_use().await;
    for round in 0..4 {
        let mut clients = Vec::new();
        for number in 0..6 {
            let mut raw = Raw::open(broker.address()).await;
            raw.send(&connect(format!("{round}-{number}").as_bytes(), false, None)).await;
            assert_eq!(raw.packet().await.unwrap(), [0x20, 2, 0, 0], "those left longest ago make room");
            raw.send(&publish(b"some/topic", 0, 0, b"1")).await;
            assert!(raw.lives().await);
            clients.push(raw);
        }
        let mut one_more = Raw::open(broker.address()).await;
        one_more.send(&connect(b"one more", true, None)).await;
        assert_eq!(one_more.packet().await, None, "nobody who publishes is closed for it");
        healthy.goes_on("all places taken").await;
        drop(clients);
        eventually("they have gone", PATIENCE, async || BrokerCounts::get(&broker.counts().clients) == 2).await;
    }
}

#[tokio::test]
async fn the_idlest_stranger_makes_room_and_one_that_has_subscribed_does_so_last() {
    let broker = start_with(BrokerConfig { connections_max: 8, ..BrokerConfig::default() }).await;
    let mut healthy = Healthy::new(broker.address()).await;
    healthy.is_of_use().await;
    let mut strangers = Vec::new();
    for number in 0..6 {
        strangers.push(Raw::connected(broker.address(), &format!("stranger-{number}")).await);
    }
    strangers[0].send(&subscribe(1, b"some/topic", 0)).await;
    assert_eq!(strangers[0].packet().await.unwrap()[0], 0x90);
    // pings make nobody less idle
    for stranger in &mut strangers {
        assert!(stranger.lives().await);
    }
    let mut publishers = Vec::new();
    for closed in [1, 2, 3, 4, 5, 0] {
        let mut publisher = Raw::connected(broker.address(), &format!("publisher-{closed}")).await;
        publisher.send(&publish(b"some/other/topic", 0, 0, b"1")).await;
        assert!(publisher.lives().await);
        publishers.push(publisher);
        assert_eq!(strangers[closed].packet().await, None, "stranger {closed} makes room");
        healthy.goes_on("a stranger was closed").await;
    }
    assert_eq!(BrokerCounts::get(&broker.counts().connections.evicted), 6);
    let mut one_more = Raw::open(broker.address()).await;
    one_more.send(&connect(b"one more", true, None)).await;
    assert_eq!(one_more.packet().await, None);
    for publisher in &mut publishers {
        assert!(publisher.lives().await);
    }
}

/// The field's case with fewer of everything: idle MQTT sessions, more than there are descriptors.
#[tokio::test]
async fn idle_sessions_beyond_all_descriptors_shut_out_neither_the_page_nor_a_publisher() {
    let options = RunOptions { open_files_max: Some(256), ..RunOptions::default() };
    let monitor = Running::start(options).await;
    let address = monitor.mqtt_url().trim_start_matches("mqtt://").parse().unwrap();
    let mut idle = Vec::new();
    for number in 0..300 {
        let mut raw = Raw::open(address).await;
        raw.send(&connect(format!("idle-{number}").as_bytes(), true, None)).await;
        idle.push(raw);
    }
    monitor.program.says("a connection was closed to make room").await;
    let _publisher = support::heartwatch::publish(monitor.directory(), "counter", monitor.mqtt_url());
    monitor.until("counter", Verdict::Alive).await;
    let told = support::heartwatch::finished(monitor.directory(), &["status", "--url", monitor.page()], PATIENCE).await;
    assert!(told.code == Some(0) && told.stdout.contains("counter"), "{told:?}");
    assert!(!monitor.program.stderr().contains("Too many open files"), "{}", monitor.program.stderr());

    // fewer than it thinks that it has: the system refuses, and strangers make room all the same
    let limit = |files: u64| {
        let pid = rustix::process::Pid::from_raw(i32::try_from(monitor.program.pid()).unwrap());
        let limit = rustix::process::Rlimit { current: Some(files), maximum: Some(256) };
        rustix::process::prlimit(pid, rustix::process::Resource::Nofile, limit).unwrap();
    };
    limit(64);
    let mut next = Raw::open(address).await;
    next.send(&connect(b"next", true, None)).await;
    monitor.program.says("a connection cannot be taken").await;
    limit(256);
    assert_eq!(next.packet().await.unwrap(), [0x20, 2, 0, 0]);
    assert!(next.lives().await);
}

/// A shell allows 1,024 open files and the system more: a monitor takes them, and its programs keep what it began with.
#[tokio::test]
async fn a_monitor_raises_its_limit_of_open_files_and_gives_its_programs_the_one_that_it_had() {
    let csv = support::heartwatch::fixture("light-1.csv");
    let config = format!("[[publisher]]\nid = 'light-1'\ncsv = '{}'\n", csv.display());
    let mut options = RunOptions { config, open_files_soft: Some(200), ..RunOptions::default() };
    options.open_files_max = Some(4_000);
    let monitor = Running::start(options).await;
    let child = monitor.until_publisher("light-1", "running", |view| view.pid.is_some()).await.pid.unwrap();
    let limits = |pid: u32| -> Vec<u64> {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
    };
    assert_eq!(limits(monitor.program.pid()), [4_000, 4_000]);
    assert_eq!(limits(child), [200, 4_000]);
}

#[tokio::test]
async fn its_own_failure_is_survived_and_counted() {
    let broker = start_with(BrokerConfig { panics_at: Some("kill/it".to_owned()), ..BrokerConfig::default() }).await;
    for restarts in 1..=3 {
        let mut healthy = Healthy::new(broker.address()).await;
        healthy.goes_on("a start").await;
        let mut raw = Raw::connected(broker.address(), "killer").await;
        raw.send(&publish(b"kill/it", 0, 0, b"")).await;
        assert_eq!(raw.packet().await, None);
        assert_eq!(healthy.publisher.packet().await, None, "everybody has to connect again");
        eventually("it is counted", PATIENCE, async || BrokerCounts::get(&broker.counts().restarts) == restarts).await;
    }
    Healthy::new(broker.address()).await.goes_on("three restarts").await;
}

/// The field's case, on the whole program: it goes on, and so do its publishers; also after a panic.
#[tokio::test]
async fn a_monitor_goes_on_whatever_is_published_and_when_its_broker_fails() {
    let environment = vec![("HEARTWATCH_TEST_BROKER_PANICS_AT".to_owned(), "kill/it".to_owned())];
    let mut running = Running::start(RunOptions { environment, ..RunOptions::default() }).await;
    let rows: String = (0..400).map(|row| format!("{row}\n")).collect();
    std::fs::write(running.directory().join("rows.csv"), format!("value\n{rows}")).unwrap();
    let mut publisher = command(running.directory());
    publisher.args(["publish", "--id", "counter", "--csv", "rows.csv", "--once", "--interval", "10ms"]);
    publisher.args(["--heartbeat", "200ms", "--mqtt", running.mqtt_url()]);
    let mut publisher = Program::start(publisher);
    running.until("counter", Verdict::Alive).await;
    let address = running.mqtt_url().trim_start_matches("mqtt://").parse().unwrap();
    for topic in ["厨房/temp", "ä", "kill/it", "é/x"] {
        let mut raw = Raw::open(address).await;
        raw.send(&connect(b"stranger", true, Some(topic.as_bytes()))).await;
        raw.send(&subscribe(1, topic.as_bytes(), 1)).await;
        raw.send(&publish(topic.as_bytes(), 1, 1, b"5")).await;
        raw.finish().await;
    }
    running.program.says("the embedded MQTT broker has failed and starts again").await;
    running.program.says("connected to the MQTT broker again").await;
    assert!(publisher.exit(PATIENCE).await.success(), "all of it is confirmed: {}", publisher.stderr());
    assert!(running.program.runs());
    let ledger = running.ledger().await;
    let total = ledger.total;
    assert_eq!((total.produced, total.missing, total.lost, ledger.balances), (400, 0, 0, true), "{ledger:?}");
    let metrics = reqwest::get(format!("{}/metrics", running.page())).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("heartwatch_broker_restarts_total 1\n"), "{metrics}");
}

/// Whoever knows the monitor's client id takes its session: it is noticed, and the monitor goes on without it.
#[tokio::test]
async fn a_monitor_whose_session_is_stolen_goes_on_under_a_new_one_and_names_what_was_left_in_the_old() {
    stolen(None).await;
}

#[tokio::test]
async fn the_same_at_mosquitto() {
    if let Some(mosquitto) = Mosquitto::start().await {
        stolen(Some(mosquitto.url())).await;
    }
}

async fn stolen(mqtt: Option<String>) {
    let config = "[[foreign]]\ntopic = 'number/{publisher}'\nformat = 'number'\n".to_owned();
    let running = Running::start(RunOptions { config, mqtt, ..RunOptions::default() }).await;
    running.program.says("connected to the MQTT broker").await;
    let address: SocketAddr = running.mqtt_url().trim_start_matches("mqtt://").parse().unwrap();
    let file = running.directory().join("data/mqtt-client-id");
    // behind the id is a line with its checksum
    let kept = || std::fs::read_to_string(&file).unwrap_or_default().lines().next().unwrap_or_default().to_owned();
    let old = kept();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!((mode & 0o777, old.len()), (0o600, "heartwatch-monitor-".len() + 32), "{old}");

    let stranger = async {
        while kept() == old {
            let mut raw = Raw::open(address).await;
            raw.send(&connect(old.as_bytes(), false, None)).await;
            raw.send(&subscribe(1, "secret/#".as_bytes(), 1)).await;
            // until the monitor has its session back
            while let Ok(Some(_)) = timeout(Duration::from_secs(2), raw.packet()).await {}
        }
    };
    let talk = async {
        let mut raw = Raw::connected(address, "talker").await;
        while !running.program.stderr().contains("old MQTT session is emptied") {
            raw.send(&publish(b"secret/plan", 1, 1, b"x")).await;
            raw.packet().await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(3 * PATIENCE, async { tokio::join!(stranger, talk) }).await.expect("it goes on in time");
    running.program.says("it goes on under a new client id").await;
    let said = running.program.stderr();
    let named = said.lines().find(|line| line.contains("others had subscribed")).expect("it is named");
    assert!(named.contains("secret/plan"), "{named}");

    // what devices say comes again, and nobody finds a session under the old id
    let hears = async || {
        let mut raw = Raw::connected(address, "device").await;
        raw.send(&publish(b"number/well", 1, 1, b"7")).await;
        raw.packet().await.unwrap();
        running.publisher("well").await.is_some()
    };
    eventually("it hears", PATIENCE, hears).await;
    eventually("the old session is no more to be ended", PATIENCE, async || {
        !running.directory().join("data/mqtt-sessions-over").exists()
    })
    .await;
    let mut raw = Raw::open(address).await;
    raw.send(&connect(old.as_bytes(), false, None)).await;
    assert_eq!(raw.packet().await.unwrap(), [0x20, 2, 0, 0], "no session");
    let metrics = reqwest::get(format!("{}/metrics", running.page())).await.unwrap().text().await.unwrap();
    let counted = metrics.lines().find_map(|line| line.strip_prefix("heartwatch_mqtt_takeovers_total ")).unwrap();
    assert!(counted.parse::<u64>().unwrap() >= 2, "{counted}");
}
