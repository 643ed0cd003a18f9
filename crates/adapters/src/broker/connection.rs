//! One client's connection, from its CONNECT to its end. Whatever comes is read strictly; what breaks the rules costs the
//! client its connection and nobody else anything.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep_until};

use super::BrokerCounts;
use super::encode::Out;
use super::hub::{ACCEPTED, Admitted, Hub, NOT_AUTHORIZED, REFUSED, UNAVAILABLE, WRONG_PASSWORD, WRONG_VERSION};
use super::malformed::Malformed;
use super::packet::{Connect, Frame, OtherVersion, Packet, Publish, frame, is_connect, other_version, parse};
use super::session::Ended;
use super::users::{Login, Users};
use heartwatch_system::connections::Connection;

/// A connection that has not said CONNECT by then is closed.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest CONNECT: five texts of 64 KiB, which is all that MQTT allows.
const CONNECT_BYTES_MAX: usize = 5 * (64 * 1024 + 2) + 16;
/// What is read at once, at first and at most.
const READ_BYTES_MIN: usize = 2 * 1024;
const READ_BYTES_MAX: usize = 64 * 1024;
/// A client that does not read its answers is not read any further.
const OUT_BYTES_MAX: usize = 256 * 1024;
/// What is still to be written when we close gets so long.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why a connection is over.
#[derive(Debug)]
enum End {
    /// It said DISCONNECT.
    Goodbye,
    /// It is gone, or has been silent for too long.
    Gone,
    /// It broke the rules.
    Malformed(Malformed),
    /// It was refused with a return code.
    Refused(u8),
    /// It speaks another version.
    Version(OtherVersion),
    /// From inside.
    Inside(Ended),
}

impl From<Malformed> for End {
    fn from(what: Malformed) -> Self {
        Self::Malformed(what)
    }
}

/// A will, as long as it may be needed.
struct Will {
    topic: String,
    payload: Vec<u8>,
    qos: u8,
    retain: bool,
}

/// What a connection needs of the broker.
pub(super) struct Inside {
    pub(super) hub: RefCell<Hub>,
    pub(super) counts: Arc<BrokerCounts>,
    pub(super) users: Arc<Users>,
    pub(super) packet_bytes_max: usize,
    /// What a publication to this topic does to the broker: a test kills it.
    pub(super) panics_at: Option<String>,
}

/// Serves a client until its connection is over.
pub(super) async fn serve(mut stream: TcpStream, peer: SocketAddr, connection: Connection, inside: Rc<Inside>) {
    let _ = stream.set_nodelay(true);
    let (mut reader, mut writer) = stream.split();
    let mut input = Input::default();
    let mut out = Out::default();
    let first = async {
        tokio::select! {
            introduced = introduced(&mut reader, &mut input, &inside, peer.ip()) => introduced,
            () = connection.closing() => Err(End::Gone),
        }
    };
    let first = tokio::time::timeout(CONNECT_TIMEOUT, first).await;
    let end = match first.unwrap_or(Err(End::Gone)) {
        Ok((admitted, keep_alive, will)) => {
            out.connack(admitted.present, ACCEPTED);
            let shown = Shown::Nothing;
            let mut client =
                Client { inside: &inside, connection: &connection, shown, admitted, input, out: &mut out, keep_alive };
            let end = client.run(&mut reader, &mut writer).await;
            client.over(&end, will);
            end
        }
        Err(end) => end,
    };
    match end {
        End::Version(OtherVersion::Five) => out.connack_five(),
        End::Version(OtherVersion::Old(_)) => out.connack(false, WRONG_VERSION),
        End::Refused(code) => out.connack(false, code),
        End::Goodbye | End::Gone | End::Malformed(_) | End::Inside(_) => {}
    }
    say(&inside, peer, &end);
    let flush = async {
        while !out.is_empty() {
            match writer.write(out.next()).await {
                Ok(bytes) if bytes > 0 => out.wrote(bytes),
                _ => break,
            }
        }
        let _ = writer.shutdown().await;
    };
    // a client that was taken over or has gone has no use for the rest
    if matches!(end, End::Version(_) | End::Refused(_)) {
        let _ = tokio::time::timeout(LAST_WORDS, flush).await;
    }
}

fn say(inside: &Inside, peer: SocketAddr, end: &End) {
    let say: Box<dyn Fn()> = match *end {
        End::Goodbye | End::Gone | End::Inside(Ended::TakenOver { .. }) => return,
        End::Malformed(what) => Box::new(
            move || tracing::warn!(%peer, "the embedded MQTT broker closed a connection, which sent no MQTT 3.1.1: {what}"),
        ),
        End::Refused(code) => {
            Box::new(move || tracing::warn!(%peer, code, "the embedded MQTT broker refused a client"))
        }
        End::Version(OtherVersion::Five) => Box::new(
            move || tracing::warn!(%peer, "the embedded MQTT broker refused a client that speaks MQTT 5: it speaks 3.1.1"),
        ),
        End::Version(OtherVersion::Old(level)) => Box::new(
            move || tracing::warn!(%peer, level, "the embedded MQTT broker refused a client of another protocol level: it speaks 3.1.1"),
        ),
        End::Inside(Ended::Hoards) => Box::new(
            move || tracing::warn!(%peer, "the embedded MQTT broker closed a connection: its unfinished packet took the most memory of too much"),
        ),
    };
    BrokerCounts::add(&inside.counts.refused);
    inside.hub.borrow_mut().complain(say);
}

/// What has been read and not yet understood.
#[derive(Default)]
struct Input {
    buffer: BytesMut,
    /// How much to read at once.
    step: usize,
}

impl Input {
    /// Reads what has come. None at the end.
    async fn read(&mut self, reader: &mut ReadHalf<'_>) -> Option<usize> {
        let step = self.step.clamp(READ_BYTES_MIN, READ_BYTES_MAX);
        if self.buffer.is_empty() && self.buffer.capacity() > 2 * READ_BYTES_MAX {
            self.buffer = BytesMut::new();
        }
        self.buffer.reserve(step);
        let bytes = reader.read_buf(&mut self.buffer).await.ok()?;
        // more for who sends much; a client that sends little keeps little
        self.step = if bytes >= step { step * 2 } else { bytes.max(READ_BYTES_MIN) };
        (bytes > 0).then_some(bytes)
    }

    /// The next packet that is whole.
    fn next(&self, bytes_max: usize) -> Result<Option<Frame>, Malformed> {
        Ok(frame(&self.buffer, bytes_max)?.filter(|frame| self.buffer.len() >= frame.bytes))
    }

    fn body(&self, frame: Frame) -> &[u8] {
        self.buffer.get(frame.header_bytes..frame.bytes).unwrap_or_default()
    }
}

/// Waits for CONNECT.
async fn introduced(
    reader: &mut ReadHalf<'_>,
    input: &mut Input,
    inside: &Inside,
    from: IpAddr,
) -> Result<(Admitted, Duration, Option<Will>), End> {
    loop {
        if let Some(frame) = frame(&input.buffer, CONNECT_BYTES_MAX)? {
            if !is_connect(frame) {
                return Err(Malformed("a connection that does not begin with CONNECT").into());
            }
            if let Some(version) = other_version(input.buffer.get(frame.header_bytes..).unwrap_or_default()) {
                return Err(End::Version(version));
            }
        }
        if let Some(frame) = input.next(CONNECT_BYTES_MAX)? {
            let Packet::Connect(connect) = parse(frame, input.body(frame))? else {
                return Err(Malformed("a connection that does not begin with CONNECT").into());
            };
            let user = log_in(&connect, inside, from).await.map_err(End::Refused)?;
            let admitted = inside.hub.borrow_mut().connect(&connect, user).map_err(End::Refused)?;
            let keep_alive = Duration::from_secs(connect.keep_alive_seconds.into()) * 3 / 2;
            let will = connect.will.map(|will| Will {
                topic: will.topic.to_owned(),
                payload: will.payload.to_owned(),
                qos: will.qos,
                retain: will.retain,
            });
            input.buffer.advance(frame.bytes);
            return Ok((admitted, keep_alive, will));
        }
        input.read(reader).await.ok_or(End::Gone)?;
    }
}

/// Who it is, where the broker has users; or the code with which it is refused.
async fn log_in(connect: &Connect<'_>, inside: &Inside, from: IpAddr) -> Result<Option<Rc<str>>, u8> {
    let Some(authority) = inside.users.authority() else { return Ok(None) };
    let name = connect.user.ok_or(NOT_AUTHORIZED)?;
    match inside.users.log_in(&authority, name, connect.password, from).await {
        Login::Right => {}
        Login::Wrong => return Err(WRONG_PASSWORD),
        Login::Busy => return Err(UNAVAILABLE),
    }
    match &connect.will {
        Some(will) if !authority.may_say(name, will.topic) => Err(NOT_AUTHORIZED),
        _ => Ok(Some(name.into())),
    }
}

/// What a client has shown to be of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Shown {
    Nothing,
    Subscription,
    Publication,
}

/// A client that was let in.
struct Client<'a> {
    inside: &'a Inside,
    connection: &'a Connection,
    shown: Shown,
    admitted: Admitted,
    input: Input,
    out: &'a mut Out,
    /// Silence of so long ends it; zero: never.
    keep_alive: Duration,
}

impl Client<'_> {
    async fn run(&mut self, reader: &mut ReadHalf<'_>, writer: &mut WriteHalf<'_>) -> End {
        let wire = self.admitted.wire.clone();
        let mut heard = Instant::now();
        let silence = sleep_until(heard + self.keep_alive);
        let connection = self.connection;
        let closing = connection.closing();
        tokio::pin!(silence, closing);
        if let Err(end) = self.understand() {
            return end;
        }
        loop {
            if let Some(ended) = wire.ended.get() {
                return End::Inside(ended);
            }
            self.inside.hub.borrow_mut().fill(self.admitted.session, &wire, self.out);
            tokio::select! {
                read = self.input.read(reader), if self.out.bytes() < OUT_BYTES_MAX => {
                    if read.is_none() {
                        return End::Gone;
                    }
                    heard = Instant::now();
                    if let Err(end) = self.understand() {
                        return end;
                    }
                }
                written = writer.write(self.out.next()), if !self.out.is_empty() => match written {
                    Ok(bytes) if bytes > 0 => self.out.wrote(bytes),
                    _ => return End::Gone,
                },
                () = wire.wake.notified() => {}
                // it makes room for another one
                () = &mut closing => return End::Gone,
                () = &mut silence, if !self.keep_alive.is_zero() => {
                    let until = heard + self.keep_alive;
                    if until <= Instant::now() {
                        return End::Gone;
                    }
                    silence.as_mut().reset(until);
                }
            }
        }
    }

    /// Does what the packets want that are whole.
    fn understand(&mut self) -> Result<(), End> {
        let before = self.input.buffer.len();
        while let Some(frame) = self.input.next(self.inside.packet_bytes_max)? {
            if let Some(ended) = self.admitted.wire.ended.get() {
                return Err(End::Inside(ended));
            }
            let packet = parse(frame, self.input.body(frame))?;
            obey(self.inside, &self.admitted, self.out, &packet)?;
            let shows = match packet {
                Packet::Publish(_) => Shown::Publication,
                Packet::Subscribe { .. } => Shown::Subscription,
                _ => Shown::Nothing,
            };
            self.shows(shows);
            self.input.buffer.advance(frame.bytes);
        }
        // what remains is a part of a packet: it counts once it is more than one read
        let partial = self.input.buffer.len();
        if partial > READ_BYTES_MAX || before > READ_BYTES_MAX {
            let counted = if partial > READ_BYTES_MAX { partial } else { 0 };
            self.inside.hub.borrow_mut().set_partial(self.admitted.session, counted);
        }
        Ok(())
    }

    /// Who publishes is closed for nobody else; who has only subscribed, after all that have done nothing.
    fn shows(&mut self, shows: Shown) {
        if shows <= self.shown {
            return;
        }
        self.shown = shows;
        self.connection.is_known();
        if shows == Shown::Publication {
            self.connection.serves();
        }
    }

    /// It is over: its session is left, its will is published unless it said goodbye or goes on elsewhere.
    fn over(&self, end: &End, will: Option<Will>) {
        let mut hub = self.inside.hub.borrow_mut();
        hub.disconnect(self.admitted.session, &self.admitted.wire);
        let will = will.filter(|will| may_say(self.inside, &self.admitted, &will.topic));
        let due = !matches!(end, End::Goodbye | End::Inside(Ended::TakenOver { will: false }));
        if let Some(Will { topic, payload, qos, retain }) = will.filter(|_| due) {
            hub.publish(&Publish { topic: &topic, payload: &payload, qos, retain, id: 0 });
        }
    }
}

/// Whether it may publish to this topic.
fn may_say(inside: &Inside, admitted: &Admitted, topic: &str) -> bool {
    let Some(user) = &admitted.user else { return true };
    inside.users.authority().is_some_and(|authority| authority.may_say(user, topic))
}

/// Says that a user may not do this, and counts it. MQTT 3.1.1 has no answer to a publication that says so.
fn not_authorized(inside: &Inside, user: Option<&Rc<str>>, what: &str, topic: &str) {
    BrokerCounts::add(&inside.counts.refused);
    let user = user.map(|user| &**user);
    inside
        .hub
        .borrow_mut()
        .complain(|| tracing::warn!(user, topic, "the embedded MQTT broker drops what a user may not {what}"));
}

fn obey(
    inside: &Inside,
    admitted @ Admitted { session, wire, user, .. }: &Admitted,
    out: &mut Out,
    packet: &Packet<'_>,
) -> Result<(), End> {
    if let Packet::Publish(Publish { topic, qos, id, .. }) = packet
        && !may_say(inside, admitted, topic)
    {
        not_authorized(inside, user.as_ref(), "publish", topic);
        match qos {
            0 => {}
            1 => out.answer(0x40, *id),
            _ => out.answer(0x50, *id),
        }
        return Ok(());
    }
    let mut hub = inside.hub.borrow_mut();
    match packet {
        Packet::Connect(_) => return Err(Malformed("a second CONNECT").into()),
        Packet::Publish(publish) => {
            #[allow(clippy::panic, reason = "a test wants to see that it is survived")]
            if inside.panics_at.as_deref().is_some_and(|topic| topic == publish.topic) {
                panic!("a test wanted the embedded MQTT broker to panic");
            }
            match publish.qos {
                0 => hub.publish(publish),
                1 => {
                    hub.publish(publish);
                    out.answer(0x40, publish.id);
                }
                _ => {
                    let many = Malformed("more messages at QoS 2 than there is room for without a PUBREL");
                    if hub.receive(*session, publish.id).ok_or(many)? {
                        hub.publish(publish);
                    }
                    out.answer(0x50, publish.id);
                }
            }
        }
        Packet::PubAck(id) => hub.acknowledge(*session, wire, *id),
        // of what we never send: QoS 2 is not granted
        Packet::PubRec(_) | Packet::PubComp(_) => {}
        Packet::PubRel(id) => {
            hub.release(*session, *id);
            out.answer(0x70, *id);
        }
        Packet::Subscribe { id, filters } => {
            let authority = user.as_ref().map(|user| (user, inside.users.authority()));
            let may_hear = |filter: &str| {
                authority.as_ref().is_none_or(|(user, authority)| {
                    authority.as_ref().is_some_and(|authority| authority.may_hear(user, filter))
                })
            };
            let (theirs, others): (Vec<_>, Vec<_>) = filters.iter().partition(|(filter, _)| may_hear(filter));
            let mut granted = hub.subscribe(*session, &theirs).into_iter();
            let code =
                |(filter, _): &(&str, u8)| if may_hear(filter) { granted.next().unwrap_or(REFUSED) } else { REFUSED };
            let codes: Vec<u8> = filters.iter().map(code).collect();
            out.suback(*id, &codes);
            drop(hub);
            others.iter().for_each(|(filter, _)| not_authorized(inside, user.as_ref(), "subscribe to", filter));
        }
        Packet::Unsubscribe { id, filters } => {
            hub.unsubscribe(*session, filters);
            out.answer(0xb0, *id);
        }
        Packet::PingReq => out.pingresp(),
        Packet::Disconnect => return Err(End::Goodbye),
    }
    Ok(())
}
