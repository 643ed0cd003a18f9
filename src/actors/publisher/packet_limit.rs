//! What a broker takes at once is not known: MQTT 3.1.1 tells no limit, a broker ends the connection of who passes it.
//! Everything would be sent again over the next one, and that would end as well.
//!
//! So when connections end while a large message is unconfirmed, messages are made smaller. A single reading that is
//! larger than what is then sent waits until nothing else does, and goes alone; when the connection ends each time that it
//! is sent, it is given up.

use std::collections::BTreeMap;
use std::time::Duration;

use heartwatch_domain::publisher::Incarnation;
use heartwatch_domain::reading::Sequence;
use heartwatch_domain::retransmitter::{Retransmitter, SequenceRange};
use heartwatch_domain::time::Monotonic;

/// Messages are made no smaller than this.
const BYTES_MIN: usize = 1_024;
/// Connections in a row that end with a large message unconfirmed, before messages are made smaller.
const FRUITLESS_MAX: u32 = 2;
/// Connections in a row that end right when a reading alone is sent, before it is given up.
const ATTEMPTS_MAX: u32 = 5;
/// One that ends later ends for another reason: a broker does not wait to refuse.
const AT_ONCE: Duration = Duration::from_secs(2);
/// Large messages that are confirmed before larger ones are tried again; more after each time that they failed.
const SUCCESSES_MIN: u32 = 16;

/// A reading that no connection carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotCarried {
    pub incarnation: Incarnation,
    pub sequence: Sequence,
    pub reason: String,
}

/// What is known of it.
#[derive(Debug)]
pub(super) struct PacketLimit {
    bytes_max: usize,
    /// The largest message of this connection that is not confirmed yet, and what it is of.
    largest: Option<(usize, SequenceRange)>,
    fruitless: u32,
    successes: u32,
    successes_needed: u32,
    /// Readings that alone are larger, and how many connections have ended with each.
    large: BTreeMap<(Incarnation, Sequence), u32>,
    /// The one that was sent alone over this connection, its size, and when.
    tried: Option<(Incarnation, Sequence, usize, Monotonic)>,
}

impl Default for PacketLimit {
    fn default() -> Self {
        Self {
            bytes_max: usize::MAX,
            largest: None,
            fruitless: 0,
            successes: 0,
            successes_needed: SUCCESSES_MIN,
            large: BTreeMap::new(),
            tried: None,
        }
    }
}

impl PacketLimit {
    /// Most bytes of a message of several readings.
    pub(super) const fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// A message of this size, of readings of this run, was handed to the connection.
    pub(super) fn sent(&mut self, bytes: usize, run: SequenceRange) {
        if self.largest.is_none_or(|(largest, _)| largest < bytes) {
            self.largest = Some((bytes, run));
        }
    }

    /// Whether a reading that alone is larger is to be sent now: when nothing else waits, one at a time, over a connection
    /// that is known to work. Otherwise it counts as sent and comes again when nobody has confirmed it.
    pub(super) fn may_send_large(
        &mut self,
        key: (Incarnation, Sequence),
        bytes: usize,
        waiting: u64,
        works: bool,
        now: Monotonic,
    ) -> bool {
        if self.large.insert(key, self.large.get(&key).copied().unwrap_or(0)).is_none() {
            tracing::warn!(incarnation = %key.0, sequence = key.1, bytes, "a reading waits: connections have ended when messages of this size were sent");
        }
        let others_wait = waiting > self.large.len() as u64;
        let another = self.tried.is_some_and(|(life, sequence, ..)| (life, sequence) != key);
        if others_wait || another || !works {
            return false;
        }
        self.tried = Some((key.0, key.1, bytes, now));
        true
    }

    /// A monitor has confirmed something.
    pub(super) fn confirmed(&mut self, delivery: &Retransmitter) {
        let is_settled =
            |run: SequenceRange| delivery.not_held(run).iter().map(SequenceRange::len).sum::<u64>() == run.len();
        self.large.retain(|&(incarnation, first), _| !is_settled(SequenceRange { incarnation, first, last: first }));
        self.tried = self.tried.filter(|(life, sequence, ..)| self.large.contains_key(&(*life, *sequence)));
        if let Some((bytes, _)) = self.largest.filter(|(_, run)| is_settled(*run)) {
            (self.largest, self.fruitless) = (None, 0);
            self.successes += u32::from(bytes > self.bytes_max / 2);
            if self.successes >= self.successes_needed {
                self.successes = 0;
                self.bytes_max = self.bytes_max.saturating_mul(2);
            }
        }
    }

    /// The connection has ended. Answers with a reading that is to be given up for that.
    pub(super) fn disconnected(&mut self, now: Monotonic) -> Option<NotCarried> {
        let largest = self.largest.take();
        if let Some((incarnation, sequence, bytes, at)) = self.tried.take() {
            let attempts = self.large.get_mut(&(incarnation, sequence))?;
            *attempts = if now.since(at) <= AT_ONCE { *attempts + 1 } else { 0 };
            if *attempts < ATTEMPTS_MAX {
                return None;
            }
            self.large.remove(&(incarnation, sequence));
            let reason = format!(
                "the connection ended {ATTEMPTS_MAX} times right when it was sent ({bytes} bytes): the broker takes no message of this size (message_bytes_max)"
            );
            return Some(NotCarried { incarnation, sequence, reason });
        }
        let (bytes, _) = largest.filter(|(bytes, _)| *bytes > BYTES_MIN)?;
        self.fruitless += 1;
        if self.fruitless >= FRUITLESS_MAX {
            self.fruitless = 0;
            self.successes = 0;
            self.successes_needed = self.successes_needed.saturating_mul(16);
            self.bytes_max = (bytes / 4).max(BYTES_MIN);
            tracing::warn!(
                bytes,
                bytes_max = self.bytes_max,
                "connections end when large messages are sent: they are made smaller (does the broker take message_bytes_max?)"
            );
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heartwatch_domain::retransmitter::DeliveryLimits;

    const LIFE: Incarnation = Incarnation(7);

    fn run(first: u64, last: u64) -> SequenceRange {
        SequenceRange { incarnation: LIFE, first, last }
    }

    /// A broker that ends the connection of who sends more than this at once, and 500 readings of 100 bytes with one of 5,000.
    fn deliver(broker_bytes_max: usize) -> (PacketLimit, Retransmitter, Vec<NotCarried>, u32) {
        let mut limit = PacketLimit::default();
        let mut delivery = Retransmitter::new(DeliveryLimits::default(), &[run(1, 501)], Monotonic::START);
        let (mut given_up, mut connections) = (Vec::new(), 0);
        let bytes_of = |sequence| if sequence == 9 { 5_000 } else { 100 };
        while delivery.unconfirmed() > 0 && connections < 100 {
            connections += 1;
            delivery.connected(Monotonic::START);
            let mut cut = false;
            let mut arrived = Vec::new();
            while let Some(sent) = delivery.next_waiting(500, Monotonic::START) {
                let (mut bytes, mut first) = (0, sent.first);
                for sequence in sent.first..=sent.last + 1 {
                    let is_large = bytes_of(sequence) > limit.bytes_max() && sequence <= sent.last;
                    let ends = sequence > sent.last || is_large || bytes + bytes_of(sequence) > limit.bytes_max();
                    if ends && bytes > 0 {
                        limit.sent(bytes, sent);
                        cut |= bytes > broker_bytes_max;
                        if !cut {
                            arrived.push(run(first, sequence - 1));
                        }
                        (bytes, first) = (0, sequence);
                    }
                    if is_large {
                        let now = Monotonic::START;
                        if limit.may_send_large((LIFE, sequence), 5_000, delivery.backlog(), true, now) {
                            cut |= 5_000 > broker_bytes_max;
                            if !cut {
                                arrived.push(run(sequence, sequence));
                            }
                        }
                        first = sequence + 1;
                    } else {
                        bytes += bytes_of(sequence);
                    }
                }
            }
            arrived.into_iter().for_each(|run| delivery.forget(run));
            limit.confirmed(&delivery);
            if cut {
                delivery.disconnected();
                if let Some(gone) = limit.disconnected(Monotonic::START) {
                    delivery.forget(run(gone.sequence, gone.sequence));
                    given_up.push(gone);
                }
            }
        }
        (limit, delivery, given_up, connections)
    }

    #[test]
    fn messages_become_as_small_as_the_broker_takes_and_what_it_never_takes_is_given_up() {
        let (_, delivery, given_up, connections) = deliver(2_000);
        assert_eq!(delivery.unconfirmed(), 0, "nothing waits behind what is too large");
        assert_eq!(given_up.iter().map(|gone| gone.sequence).collect::<Vec<_>>(), [9]);
        assert!(given_up[0].reason.contains("5000 bytes") && connections < 40, "{given_up:?} {connections}");
        let (_, delivery, given_up, _) = deliver(6_000);
        assert_eq!((delivery.unconfirmed(), given_up.len()), (0, 0), "alone it passes");
        let (limit, delivery, given_up, connections) = deliver(usize::MAX);
        assert_eq!((delivery.unconfirmed(), given_up.len(), connections, limit.bytes_max()), (0, 0, 1, usize::MAX));
    }

    #[test]
    fn a_broker_that_comes_and_goes_has_messages_as_large_as_before_after_a_while() {
        let mut limit = PacketLimit::default();
        let delivery = Retransmitter::new(DeliveryLimits::default(), &[], Monotonic::START);
        for _ in 0..FRUITLESS_MAX {
            limit.sent(100_000, run(1, 500));
            assert_eq!(limit.disconnected(Monotonic::START), None);
        }
        assert_eq!(limit.bytes_max(), 25_000);
        for _ in 0..3 * 16 * SUCCESSES_MIN {
            limit.sent(limit.bytes_max(), run(1, 500));
            limit.confirmed(&delivery);
        }
        assert!(limit.bytes_max() >= 100_000, "{}", limit.bytes_max());
        // a connection that ends with nothing large unconfirmed says nothing of sizes
        for _ in 0..100 {
            limit.sent(900, run(1, 5));
            limit.disconnected(Monotonic::START);
        }
        assert!(limit.bytes_max() >= 100_000);
    }

    #[test]
    fn a_line_that_breaks_now_and_then_costs_no_reading() {
        let mut limit = PacketLimit::default();
        for attempt in 0..100_u64 {
            let at = Monotonic::START + Duration::from_secs(attempt * 60);
            assert!(limit.may_send_large((LIFE, 9), 5_000, 1, true, at));
            // four times at once, and then a little later
            let lasted = if attempt % 5 == 4 { Duration::from_secs(3) } else { Duration::from_millis(1) };
            assert_eq!(limit.disconnected(at + lasted), None);
        }
        assert!(!limit.may_send_large((LIFE, 9), 5_000, 2, true, Monotonic::START), "others wait");
        assert!(!limit.may_send_large((LIFE, 9), 5_000, 1, false, Monotonic::START), "nobody has answered yet");
    }
}
