//! What the broker keeps for one client: its subscriptions, what waits for it, and what it has not acknowledged.

use std::cell::Cell;
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

use tokio::sync::Notify;

use super::encode::{Body, Out};

/// Messages at QoS 1 that a client may have without an acknowledgement.
const WINDOW_MESSAGES: usize = 100;
/// Messages of one subscription before another one has its turn.
const TURN_MESSAGES: usize = 100;
/// Bytes that wait to be written before no more are taken from the queues.
const OUT_BYTES: usize = 64 * 1024;
/// What a queued message costs beyond its bytes.
const MESSAGE_OVERHEAD_BYTES: usize = 64;

/// Why a connection is ended from inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Another client came with the same id.
    TakenOver {
        /// Whether the last will is due: the session does not go on.
        will: bool,
    },
    /// Its half packets take the most memory, and there is too little.
    Hoards,
}

/// What the hub and the task of one connection share.
#[derive(Debug, Default)]
pub(super) struct Wire {
    /// Something is to be written, or the connection is to end.
    pub(super) wake: Notify,
    /// Whether it is to end.
    pub(super) ended: Cell<Option<Ended>>,
}

impl Wire {
    pub(super) fn end(&self, why: Ended) {
        self.ended.set(Some(why));
        self.wake.notify_one();
    }
}

/// A message that waits.
#[derive(Debug)]
struct Queued {
    body: Body,
    qos: u8,
    retained: bool,
}

/// A message at QoS 1 without its acknowledgement.
#[derive(Debug)]
struct Unacknowledged {
    id: u16,
    body: Body,
    retained: bool,
    /// Whether it was sent before.
    again: bool,
}

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) filter: Rc<str>,
    pub(super) qos: u8,
    queue: VecDeque<Queued>,
    bytes: usize,
    bytes_max: usize,
    /// Whether it is among those with something to send.
    listed: bool,
    /// Dropped since its queue was last empty.
    pub(super) dropped: u64,
}

/// What queueing a message did.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Change {
    /// Bytes more that wait.
    pub(super) added: usize,
    /// Bytes less.
    pub(super) removed: usize,
    /// Messages that were dropped for it.
    pub(super) dropped: u64,
    /// Whether they are the first of this subscription since its queue was empty.
    pub(super) first_dropped: bool,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Rc<str>,
    /// Whose it is, where the broker has users.
    pub(super) user: Option<Rc<str>>,
    /// Whether it outlives its connection.
    pub(super) persistent: bool,
    pub(super) wire: Option<Rc<Wire>>,
    /// When it was left, in the order of such ends.
    pub(super) left: u64,
    slots: Vec<Option<Subscription>>,
    /// Slots with something to send, in turn.
    ready: VecDeque<usize>,
    unacknowledged: VecDeque<Unacknowledged>,
    /// How many of them were sent on this connection.
    sent: usize,
    last_id: u16,
    /// QoS 2 messages that came and whose PUBREL has not.
    pub(super) received: HashSet<u16>,
    /// Bytes that wait, unacknowledged ones included.
    bytes: usize,
}

impl Session {
    pub(super) fn new(client: Rc<str>, persistent: bool) -> Self {
        Self {
            client,
            user: None,
            persistent,
            wire: None,
            left: 0,
            slots: Vec::new(),
            ready: VecDeque::new(),
            unacknowledged: VecDeque::new(),
            sent: 0,
            last_id: 0,
            received: HashSet::new(),
            bytes: 0,
        }
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// A connection has it from now on: what was not acknowledged goes out again.
    pub(super) fn attach(&mut self, wire: Rc<Wire>) {
        self.sent = 0;
        self.wire = Some(wire);
    }

    pub(super) fn subscriptions(&self) -> impl Iterator<Item = (usize, &Subscription)> {
        self.slots.iter().enumerate().filter_map(|(slot, subscription)| Some((slot, subscription.as_ref()?)))
    }

    pub(super) fn subscription(&self, slot: usize) -> Option<&Subscription> {
        self.slots.get(slot)?.as_ref()
    }

    /// Subscribes, or changes the QoS of a subscription that is there. Returns its slot, and whether it is new.
    pub(super) fn subscribe(&mut self, filter: &str, qos: u8, bytes_max: usize) -> (usize, bool) {
        let known = self.subscriptions().find(|(_, subscription)| &*subscription.filter == filter);
        if let Some(slot) = known.map(|(slot, _)| slot) {
            if let Some(Some(subscription)) = self.slots.get_mut(slot) {
                subscription.qos = qos;
            }
            return (slot, false);
        }
        let queue = VecDeque::new();
        let filter = filter.into();
        let subscription = Subscription { filter, qos, queue, bytes: 0, bytes_max, listed: false, dropped: 0 };
        match self.slots.iter_mut().position(|slot| slot.is_none()) {
            Some(free) => {
                self.slots[free] = Some(subscription);
                (free, true)
            }
            None => {
                self.slots.push(Some(subscription));
                (self.slots.len() - 1, true)
            }
        }
    }

    /// Ends a subscription and what waits for it. Returns its slot and the bytes that are free.
    pub(super) fn unsubscribe(&mut self, filter: &str) -> Option<(usize, usize)> {
        let (slot, _) = self.subscriptions().find(|(_, subscription)| &*subscription.filter == filter)?;
        let subscription = self.slots.get_mut(slot)?.take()?;
        self.ready.retain(|other| *other != slot);
        self.bytes -= subscription.bytes;
        Some((slot, subscription.bytes))
    }

    /// Queues a message; at the limit the oldest of this subscription go.
    pub(super) fn queue(&mut self, slot: usize, body: &Body, qos: u8, retained: bool) -> Change {
        let mut change = Change::default();
        let connected = self.wire.is_some();
        let Some(Some(subscription)) = self.slots.get_mut(slot) else { return change };
        let qos = qos.min(subscription.qos);
        if !connected && qos == 0 {
            return change;
        }
        change.added = cost(body);
        subscription.bytes += change.added;
        subscription.queue.push_back(Queued { body: body.clone(), qos, retained });
        while subscription.bytes > subscription.bytes_max && subscription.queue.len() > 1 {
            let Some(oldest) = subscription.queue.pop_front() else { break };
            subscription.bytes -= cost(&oldest.body);
            change.removed += cost(&oldest.body);
            change.dropped += 1;
        }
        change.first_dropped = change.dropped > 0 && subscription.dropped == 0;
        subscription.dropped += change.dropped;
        if !subscription.listed {
            subscription.listed = true;
            self.ready.push_back(slot);
        }
        self.bytes = self.bytes + change.added - change.removed;
        if let Some(wire) = &self.wire {
            wire.wake.notify_one();
        }
        change
    }

    /// Takes what goes out next, as far as the client's window and what waits to be written allow. Returns the bytes
    /// that are free.
    pub(super) fn fill(&mut self, out: &mut Out) -> usize {
        while out.bytes() < OUT_BYTES
            && let Some(message) = self.unacknowledged.get_mut(self.sent)
        {
            out.publish(&message.body, Some(message.id), message.again, message.retained);
            message.again = true;
            self.sent += 1;
        }
        let mut freed = 0;
        let mut without_progress = 0;
        while out.bytes() < OUT_BYTES
            && without_progress < self.ready.len()
            && let Some(slot) = self.ready.pop_front()
        {
            let (taken, empty) = self.turn(slot, out, &mut freed);
            if !empty {
                self.ready.push_back(slot);
            }
            without_progress = if taken { 0 } else { without_progress + 1 };
        }
        freed
    }

    /// One subscription's turn: whether it sent something, and whether that was all.
    fn turn(&mut self, slot: usize, out: &mut Out, freed: &mut usize) -> (bool, bool) {
        let Some(Some(subscription)) = self.slots.get_mut(slot) else { return (false, true) };
        let mut taken = false;
        for _ in 0..TURN_MESSAGES {
            let Some(next) = subscription.queue.front() else { break };
            if out.bytes() >= OUT_BYTES || (next.qos > 0 && self.unacknowledged.len() >= WINDOW_MESSAGES) {
                break;
            }
            let Some(Queued { body, qos, retained }) = subscription.queue.pop_front() else { break };
            taken = true;
            subscription.bytes -= cost(&body);
            if qos == 0 {
                out.publish(&body, None, false, retained);
                self.bytes -= cost(&body);
                *freed += cost(&body);
            } else {
                let id = free_id(&mut self.last_id, &self.unacknowledged);
                out.publish(&body, Some(id), false, retained);
                self.unacknowledged.push_back(Unacknowledged { id, body, retained, again: true });
                self.sent += 1;
            }
        }
        let empty = subscription.queue.is_empty();
        if empty {
            subscription.listed = false;
            subscription.dropped = 0;
            // what a burst needed is not kept
            subscription.queue.shrink_to(TURN_MESSAGES);
        }
        (taken, empty)
    }

    /// An acknowledgement came. Returns the bytes that are free, or none when nothing of that id was sent.
    pub(super) fn acknowledge(&mut self, id: u16) -> Option<usize> {
        let at = self.unacknowledged.iter().take(self.sent).position(|message| message.id == id)?;
        let message = self.unacknowledged.remove(at)?;
        self.sent -= 1;
        self.bytes -= cost(&message.body);
        Some(cost(&message.body))
    }

    /// Throws away what waits. Returns the messages and their bytes.
    pub(super) fn clear(&mut self) -> (u64, usize) {
        let mut cleared = (0, 0);
        for subscription in self.slots.iter_mut().flatten() {
            cleared.0 += subscription.queue.len() as u64;
            cleared.1 += subscription.bytes;
            subscription.queue = VecDeque::new();
            subscription.bytes = 0;
            subscription.listed = false;
        }
        self.ready.clear();
        if self.wire.is_none() {
            cleared.0 += self.unacknowledged.len() as u64;
            cleared.1 += self.unacknowledged.drain(..).map(|message| cost(&message.body)).sum::<usize>();
        }
        self.bytes -= cleared.1;
        cleared
    }
}

fn cost(body: &Body) -> usize {
    body.len() + MESSAGE_OVERHEAD_BYTES
}

/// The next packet id that is not in use.
fn free_id(last: &mut u16, unacknowledged: &VecDeque<Unacknowledged>) -> u16 {
    loop {
        *last = last.checked_add(1).unwrap_or(1);
        // nearly always the first: the window is small, and ids are used in order
        if unacknowledged.iter().all(|message| message.id != *last) {
            return *last;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::encode::body;

    fn connected() -> Session {
        let mut session = Session::new("c".into(), true);
        session.attach(Rc::default());
        session
    }

    fn numbers(session: &mut Session) -> Vec<u8> {
        let mut out = Out::default();
        session.fill(&mut out);
        let mut sent = Vec::new();
        while !out.is_empty() {
            let bytes = out.next().to_vec();
            // each is `30 04 00 01 t n` or `32 06 00 01 t id id n`
            let mut rest = &bytes[..];
            while let Some(length) = rest.get(1) {
                let end = usize::from(*length) + 2;
                sent.push(rest[end - 1]);
                rest = &rest[end..];
            }
            out.wrote(bytes.len());
        }
        sent
    }

    #[test]
    fn at_the_limit_the_oldest_go_and_other_subscriptions_are_not_touched() {
        let mut session = connected();
        let (loud, _) = session.subscribe("loud", 1, 10 * (4 + MESSAGE_OVERHEAD_BYTES));
        let (quiet, _) = session.subscribe("quiet", 1, 1_000);
        session.queue(quiet, &body("t", &[200]), 1, false);
        let changes: Vec<Change> = (0..13).map(|n| session.queue(loud, &body("t", &[n]), 1, false)).collect();
        assert_eq!(changes.iter().map(|change| change.dropped).sum::<u64>(), 3);
        assert_eq!(changes.iter().filter(|change| change.first_dropped).count(), 1, "said once");
        assert_eq!(numbers(&mut session), [200, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    }

    #[test]
    fn a_full_window_waits_for_acknowledgements_and_a_new_connection_begins_again() {
        let mut session = connected();
        let (slot, _) = session.subscribe("t", 1, 1 << 20);
        for number in 0..150 {
            session.queue(slot, &body("t", &[number]), 1, false);
        }
        assert_eq!(numbers(&mut session).len(), WINDOW_MESSAGES);
        assert_eq!(numbers(&mut session), [0u8; 0]);
        assert!(
            session.acknowledge(3).is_some() && session.acknowledge(3).is_none(),
            "out of order is fine, twice is not"
        );
        assert_eq!(numbers(&mut session), [100]);
        session.attach(Rc::default());
        let again = numbers(&mut session);
        assert_eq!((again.len(), again[..3].to_vec()), (WINDOW_MESSAGES, vec![0, 1, 3]));
        for id in 1..=101 {
            session.acknowledge(id);
        }
        assert_eq!(numbers(&mut session).len(), 49);
        for id in 102..=150 {
            session.acknowledge(id);
        }
        assert_eq!(session.bytes(), 0);
    }

    #[test]
    fn without_a_connection_only_what_was_promised_is_kept() {
        let mut session = connected();
        let (slot, _) = session.subscribe("t", 1, 1 << 20);
        session.wire = None;
        session.queue(slot, &body("t", &[1]), 0, false);
        session.queue(slot, &body("t", &[2]), 1, false);
        session.attach(Rc::default());
        assert_eq!(numbers(&mut session), [2]);
        session.wire = None;
        assert_eq!(session.clear().0, 1);
        assert_eq!(session.bytes(), 0);
    }
}
