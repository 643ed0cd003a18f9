//! All sessions, and what goes to whom. One thread owns it; nothing in it waits.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::encode::{Body, Out, body};
use super::packet::{Connect, Publish};
use super::session::{Ended, Session, Wire};
use super::topic::{Subscriber, Tree, matches};
use super::{BrokerConfig, BrokerCounts};
use heartwatch_formats::envelope::TopicKind;
use heartwatch_system::clock::Clock;
use heartwatch_system::log_rate_limit::LogRateLimit;

/// Longest client id, in bytes.
const CLIENT_ID_BYTES_MAX: usize = 1_024;
/// Subscriptions of one session, and the bytes of their filters.
const SUBSCRIPTIONS_MAX: usize = 1_000;
const FILTERS_BYTES_MAX: usize = 64 * 1024;
/// QoS 2 messages whose PUBREL has not come.
const RECEIVED_MAX: usize = 1_000;
/// Retained messages, and their bytes.
const RETAINED_MAX: usize = 5_000;
const RETAINED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Lines about clients that break the rules.
const LINES_MAX: u64 = 20;
const LINES_PERIOD: Duration = Duration::from_secs(60);

/// The return codes of CONNACK.
pub(super) const ACCEPTED: u8 = 0;
pub(super) const WRONG_VERSION: u8 = 1;
const WRONG_CLIENT_ID: u8 = 2;
pub(super) const UNAVAILABLE: u8 = 3;
pub(super) const WRONG_PASSWORD: u8 = 4;
pub(super) const NOT_AUTHORIZED: u8 = 5;
/// A subscription that is refused.
pub(super) const REFUSED: u8 = 0x80;

/// A client that was let in.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) session: u64,
    pub(super) present: bool,
    pub(super) wire: Rc<Wire>,
    /// Who it is, where the broker has users.
    pub(super) user: Option<Rc<str>>,
}

#[derive(Debug)]
pub(super) struct Hub {
    config: BrokerConfig,
    counts: Arc<BrokerCounts>,
    clock: Clock,
    lines: LogRateLimit,
    sessions: HashMap<u64, Session>,
    by_client: HashMap<Rc<str>, u64>,
    /// Sessions are numbered, and no number comes twice: what is said of an old one can't mean a new one.
    last_session: u64,
    ends: u64,
    tree: Tree,
    retained: HashMap<Box<str>, (Body, u8)>,
    retained_bytes: usize,
    /// What waits for all sessions.
    bytes: usize,
    /// Whom a topic goes to, while it is being found.
    found: Vec<Subscriber>,
    /// What is read of packets that are not whole, by session.
    partial: HashMap<u64, usize>,
    partial_bytes: usize,
}

impl Hub {
    pub(super) fn new(config: BrokerConfig, counts: Arc<BrokerCounts>, clock: Clock) -> Self {
        Self {
            config,
            counts,
            clock,
            lines: LogRateLimit::new(LINES_MAX, LINES_PERIOD),
            sessions: HashMap::new(),
            by_client: HashMap::new(),
            last_session: 0,
            ends: 0,
            tree: Tree::default(),
            retained: HashMap::new(),
            retained_bytes: 0,
            bytes: 0,
            found: Vec::new(),
            partial: HashMap::new(),
            partial_bytes: 0,
        }
    }

    /// Says what a client did wrong, so that a flood of it does not fill the log.
    pub(super) fn complain(&mut self, say: impl FnOnce()) {
        let now = self.clock.monotonic();
        if let Some(lines) = self.lines.left_out(now) {
            tracing::warn!(lines, "the embedded MQTT broker left out lines like those before");
        }
        if self.lines.admits(now) {
            say();
        }
    }

    /// A client wants in. Refused with the code of CONNACK.
    pub(super) fn connect(&mut self, connect: &Connect<'_>, user: Option<Rc<str>>) -> Result<Admitted, u8> {
        if connect.client_id.len() > CLIENT_ID_BYTES_MAX || (connect.client_id.is_empty() && !connect.clean_session) {
            return Err(WRONG_CLIENT_ID);
        }
        let wire = Rc::<Wire>::default();
        let known = self.by_client.get(connect.client_id).copied();
        if let Some(number) = known
            && let Some(session) = self.sessions.get_mut(&number)
        {
            if session.user != user {
                let client = session.client.clone();
                self.complain(|| {
                    tracing::warn!(%client, user = user.as_deref(), "the embedded MQTT broker refuses a user the client id of another one");
                });
                return Err(NOT_AUTHORIZED);
            }
            let goes_on = session.persistent && !connect.clean_session;
            if let Some(old) = session.wire.take() {
                BrokerCounts::add(&self.counts.taken_over);
                old.end(Ended::TakenOver { will: !goes_on });
                let client = session.client.clone();
                self.complain(|| {
                    tracing::warn!(%client, "a client of the embedded MQTT broker was taken over by another one with its id");
                });
            }
            if goes_on && let Some(session) = self.sessions.get_mut(&number) {
                session.attach(wire.clone());
                return Ok(Admitted { session: number, present: true, wire, user });
            }
            self.remove(number);
        }
        if self.sessions.len() >= self.config.sessions_max && !self.forget_oldest() {
            return Err(UNAVAILABLE);
        }
        self.last_session += 1;
        let number = self.last_session;
        let client: Rc<str> = match connect.client_id {
            "" => format!("without-id-{number}").into(),
            id => id.into(),
        };
        let mut session = Session::new(client.clone(), !connect.clean_session);
        session.user = user.clone();
        session.attach(wire.clone());
        self.sessions.insert(number, session);
        self.by_client.insert(client, number);
        Ok(Admitted { session: number, present: false, wire, user })
    }

    /// A connection is over. It may have lost its session to another one before.
    pub(super) fn disconnect(&mut self, number: u64, wire: &Rc<Wire>) {
        self.set_partial(number, 0);
        let Some(session) = self.sessions.get_mut(&number) else { return };
        if !session.wire.as_ref().is_some_and(|current| Rc::ptr_eq(current, wire)) {
            return;
        }
        session.wire = None;
        self.ends += 1;
        session.left = self.ends;
        if !session.persistent {
            self.remove(number);
        }
    }

    fn remove(&mut self, number: u64) {
        let Some(session) = self.sessions.remove(&number) else { return };
        for (slot, subscription) in session.subscriptions() {
            self.tree.remove(&subscription.filter, (number, slot));
        }
        if self.by_client.get(&session.client) == Some(&number) {
            self.by_client.remove(&session.client);
        }
        self.bytes -= session.bytes();
    }

    /// Makes room for a session: the one goes that was left longest ago.
    fn forget_oldest(&mut self) -> bool {
        let left = self.sessions.iter().filter(|(_, session)| session.wire.is_none());
        let Some((&number, session)) = left.min_by_key(|(_, session)| session.left) else { return false };
        let client = session.client.clone();
        self.remove(number);
        self.complain(|| {
            tracing::warn!(%client, "the embedded MQTT broker forgets the session that was left longest ago: there are too many");
        });
        true
    }

    /// Subscribes. Returns the codes of SUBACK: at most QoS 1 is granted.
    pub(super) fn subscribe(&mut self, number: u64, filters: &[(&str, u8)]) -> Vec<u8> {
        filters.iter().map(|(filter, qos)| self.subscribe_one(number, filter, (*qos).min(1))).collect()
    }

    fn subscribe_one(&mut self, number: u64, filter: &str, qos: u8) -> u8 {
        let bytes_max = self.bytes_max(filter);
        let Some(session) = self.sessions.get_mut(&number) else { return REFUSED };
        let (count, bytes) = session
            .subscriptions()
            .fold((0, 0), |(count, bytes), (_, subscription)| (count + 1, bytes + subscription.filter.len()));
        let is_known = session.subscriptions().any(|(_, subscription)| &*subscription.filter == filter);
        let too_many = !is_known && (count >= SUBSCRIPTIONS_MAX || bytes + filter.len() > FILTERS_BYTES_MAX);
        if too_many || filter.starts_with("$share/") {
            let client = session.client.clone();
            let why = if too_many { "it has too many" } else { "there are no shared ones" };
            self.complain(|| tracing::warn!(%client, filter, "the embedded MQTT broker refuses a subscription: {why}"));
            return REFUSED;
        }
        let (slot, is_new) = session.subscribe(filter, qos, bytes_max);
        if is_new {
            self.tree.insert(filter, (number, slot));
        }
        let kept: Vec<(Body, u8)> = if filter.contains(['+', '#']) {
            let kept = self.retained.iter().filter(|(topic, _)| matches(filter, topic));
            kept.map(|(_, kept)| kept.clone()).collect()
        } else {
            self.retained.get(filter).cloned().into_iter().collect()
        };
        for (body, qos) in kept {
            self.queue((number, slot), &body, qos, true);
        }
        qos
    }

    /// How much may wait for a filter: little for what is said again anyway.
    fn bytes_max(&self, filter: &str) -> usize {
        let kinds = [
            (TopicKind::Heartbeat, 512 * 1024),
            (TopicKind::Goodbye, 512 * 1024),
            (TopicKind::LastWill, 512 * 1024),
            (TopicKind::GivenUp, 512 * 1024),
            (TopicKind::Confirm, 32 * 1024),
        ];
        let small = kinds.iter().find(|(kind, _)| matches(&self.config.prefix.filter(*kind), filter));
        small.map_or(self.config.queue_bytes_max, |(_, bytes)| *bytes)
    }

    pub(super) fn unsubscribe(&mut self, number: u64, filters: &[&str]) {
        for filter in filters {
            let ended = self.sessions.get_mut(&number).and_then(|session| session.unsubscribe(filter));
            if let Some((slot, bytes)) = ended {
                self.tree.remove(filter, (number, slot));
                self.bytes -= bytes;
            }
        }
    }

    /// A message for everybody who subscribed.
    pub(super) fn publish(&mut self, publish: &Publish<'_>) {
        if publish.topic.starts_with('$') {
            // these are the server's, and MQTT 3.1.1 has no answer that says so
            BrokerCounts::add(&self.counts.refused);
            let topic = publish.topic;
            self.complain(|| {
                tracing::warn!(topic, "the embedded MQTT broker drops what was published to a topic of its own");
            });
            return;
        }
        let mut found = std::mem::take(&mut self.found);
        found.clear();
        self.tree.find(publish.topic, &mut found);
        if !found.is_empty() || publish.retain {
            let body = body(publish.topic, publish.payload);
            if publish.retain {
                self.retain(publish, &body);
            }
            if found.len() > 1 {
                self.once_a_session(&mut found);
            }
            for subscriber in &found {
                self.queue(*subscriber, &body, publish.qos, false);
            }
        }
        self.found = found;
    }

    /// A session with several filters that match gets a message once, at the highest QoS.
    fn once_a_session(&self, found: &mut Vec<Subscriber>) {
        let qos = |(number, slot): &Subscriber| {
            self.sessions
                .get(number)
                .and_then(|session| session.subscription(*slot))
                .map_or(0, |subscription| subscription.qos)
        };
        found.sort_unstable_by_key(|subscriber| (subscriber.0, std::cmp::Reverse(qos(subscriber)), subscriber.1));
        found.dedup_by_key(|subscriber| subscriber.0);
    }

    fn retain(&mut self, publish: &Publish<'_>, body: &Body) {
        if let Some((old, _)) = self.retained.remove(publish.topic) {
            self.retained_bytes -= old.len();
        }
        if publish.payload.is_empty() {
            return;
        }
        if self.retained.len() >= RETAINED_MAX || self.retained_bytes + body.len() > RETAINED_BYTES_MAX {
            let topic = publish.topic;
            self.complain(|| {
                tracing::warn!(topic, "the embedded MQTT broker keeps no more retained messages: there are too many");
            });
            return;
        }
        self.retained_bytes += body.len();
        self.retained.insert(publish.topic.into(), (body.clone(), publish.qos));
    }

    fn queue(&mut self, (number, slot): Subscriber, body: &Body, qos: u8, retained: bool) {
        let Some(session) = self.sessions.get_mut(&number) else { return };
        let change = session.queue(slot, body, qos, retained);
        self.bytes = self.bytes + change.added - change.removed;
        if change.dropped > 0 {
            BrokerCounts::add_many(&self.counts.dropped, change.dropped);
        }
        if change.first_dropped
            && let Some(subscription) = session.subscription(slot)
        {
            let (client, filter) = (session.client.clone(), subscription.filter.clone());
            self.complain(|| {
                tracing::warn!(%client, %filter, "the embedded MQTT broker drops the oldest messages: their subscriber is too far behind");
            });
        }
        while self.bytes > self.config.queued_bytes_max && self.relieve() {}
    }

    /// Too much waits: the session that most waits for loses it, one without a connection first.
    fn relieve(&mut self) -> bool {
        let most = self
            .sessions
            .values_mut()
            .max_by_key(|session| (session.wire.is_none() && session.bytes() > 0, session.bytes()));
        let Some(session) = most else { return false };
        let (messages, bytes) = session.clear();
        let client = session.client.clone();
        self.bytes -= bytes;
        BrokerCounts::add_many(&self.counts.dropped, messages);
        self.complain(|| {
            tracing::warn!(%client, messages, bytes, "the embedded MQTT broker drops all that waits for a client: too much waits");
        });
        bytes > 0
    }

    /// What goes out to a client next.
    pub(super) fn fill(&mut self, number: u64, wire: &Rc<Wire>, out: &mut Out) {
        if let Some(session) = self.of(number, wire) {
            let freed = session.fill(out);
            self.bytes -= freed;
        }
    }

    /// PUBACK of a client; one of what was never sent means nothing.
    pub(super) fn acknowledge(&mut self, number: u64, wire: &Rc<Wire>, id: u16) {
        if let Some(freed) = self.of(number, wire).and_then(|session| session.acknowledge(id)) {
            self.bytes -= freed;
        }
    }

    /// A message at QoS 2: whether it is new, or none when too many wait for their PUBREL.
    pub(super) fn receive(&mut self, number: u64, id: u16) -> Option<bool> {
        let session = self.sessions.get_mut(&number)?;
        if session.received.contains(&id) {
            return Some(false);
        }
        (session.received.len() < RECEIVED_MAX).then(|| session.received.insert(id))
    }

    /// PUBREL of a client.
    pub(super) fn release(&mut self, number: u64, id: u16) {
        if let Some(session) = self.sessions.get_mut(&number) {
            session.received.remove(&id);
        }
    }

    /// The session while it is this connection's.
    fn of(&mut self, number: u64, wire: &Rc<Wire>) -> Option<&mut Session> {
        let session = self.sessions.get_mut(&number)?;
        session.wire.as_ref().is_some_and(|current| Rc::ptr_eq(current, wire)).then_some(session)
    }

    /// So much of a packet has been read that is not whole. When all of them take too much memory, the connection with
    /// the largest one ends.
    pub(super) fn set_partial(&mut self, number: u64, bytes: usize) {
        let before = if bytes > 0 { self.partial.insert(number, bytes) } else { self.partial.remove(&number) };
        self.partial_bytes = self.partial_bytes + bytes - before.unwrap_or(0);
        if self.partial_bytes > self.config.partial_bytes_max
            && let Some((&largest, _)) = self.partial.iter().max_by_key(|(_, bytes)| **bytes)
            && let Some(wire) = self.sessions.get(&largest).and_then(|session| session.wire.as_ref())
        {
            wire.end(Ended::Hoards);
        }
    }
}
