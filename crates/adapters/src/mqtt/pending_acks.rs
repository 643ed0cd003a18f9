//! Which deliveries of the present connection may be acknowledged now.
//!
//! Invariants:
//! 1. A packet id is released only when its receipt of *this* connection has come.
//! 2. Packet ids are released in the order of delivery, each once.
//! 3. What was read, and whose acknowledgement was never sent, comes again over the next connection of the same session,
//!    under any packet id: it is known by its content, as often as it was read.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use heartwatch_ports::Receipt;

/// A copy comes within so many messages of a connection: what the broker has sent before comes first.
const COPIES_WITHIN_MESSAGES: u64 = 8_192;

/// What came over the connection that this one replaces, and was not acknowledged: the broker sends it to this one. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Unacknowledged(Arc<Mutex<Option<(String, Owed)>>>);

/// How often a message has come and was not acknowledged, by its content.
type Owed = HashMap<u64, usize>;

/// It is no setting: two configurations are the same whatever came over their connections.
impl PartialEq for Unacknowledged {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Unacknowledged {}

impl Unacknowledged {
    /// What was read was handed on to nobody: none of it is a copy when it comes again.
    pub fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// What the connection before has left, where it was one of the same session; that of another one stays.
    pub(super) fn take(&self, session: &str) -> Owed {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        left.take_if(|(of, _)| of == session).map(|(_, owed)| owed).unwrap_or_default()
    }

    fn put(&self, session: &str, owed: Owed) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((session.to_owned(), owed));
    }
}

/// What is known of a packet id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PacketState {
    Nothing,
    Delivered,
    Received,
}

/// The unacknowledged deliveries of one connection. Bounded by the 65,535 packet ids that MQTT has.
#[derive(Debug)]
pub(super) struct PendingAcks {
    /// The connection that they came by; 0 when there is none.
    connection_epoch: u64,
    /// In the order of delivery, with what they are.
    order: VecDeque<(u16, u64)>,
    /// What came over earlier connections of the session and was not acknowledged: how often, by its content.
    owed: Owed,
    /// Messages of this connection.
    count: u64,
    /// By packet id; every message looks here several times.
    known: Box<[PacketState]>,
}

impl Default for PendingAcks {
    fn default() -> Self {
        let known = vec![PacketState::Nothing; usize::from(u16::MAX) + 1].into_boxed_slice();
        Self { connection_epoch: 0, order: VecDeque::new(), owed: HashMap::new(), count: 0, known }
    }
}

impl PendingAcks {
    /// A connection begins: the receipts of an earlier one are void, and where the session is another one, the broker sends
    /// nothing again.
    pub(super) fn begin(&mut self, connection_epoch: u64, session_present: bool) {
        self.end();
        self.connection_epoch = connection_epoch;
        if !session_present {
            self.owed.clear();
        }
    }

    /// The connection is gone, and the receipts of all that came by it are void.
    pub(super) fn end(&mut self) {
        (self.connection_epoch, self.count) = (0, 0);
        for (id, content) in self.order.drain(..) {
            if let Some(known) = self.known.get_mut(usize::from(id)) {
                *known = PacketState::Nothing;
            }
            *self.owed.entry(content).or_default() += 1;
        }
    }

    /// The connection is gone for good; the next one of its session is left what it needs. `dropped` was read and handed on to
    /// nobody.
    pub(super) fn leave(&mut self, session: &str, to: &Unacknowledged, dropped: impl Iterator<Item = u64>) {
        self.end();
        for content in dropped {
            if let Some(owed) = self.owed.get_mut(&content) {
                *owed = owed.saturating_sub(1);
            }
        }
        to.put(session, std::mem::take(&mut self.owed));
    }

    /// What the connection before has left.
    pub(super) fn follow(&mut self, owed: Owed) {
        self.owed = owed;
    }

    /// A delivery came. The same packet id again, before it was acknowledged, is the same delivery. Says whether it is a copy
    /// of one that came before.
    pub(super) fn delivered(&mut self, packet_id: u16, content: u64) -> bool {
        let Some(known) = self.known.get_mut(usize::from(packet_id)) else { return false };
        if std::mem::replace(known, PacketState::Delivered) != PacketState::Nothing {
            return self.order.contains(&(packet_id, content));
        }
        self.order.push_back((packet_id, content));
        if self.owed.is_empty() {
            return false;
        }
        self.count += 1;
        let is_copy = self.owed.get_mut(&content).is_some_and(|owed| {
            let is_owed = *owed > 0;
            *owed = owed.saturating_sub(1);
            is_owed
        });
        if self.count >= COPIES_WITHIN_MESSAGES || self.owed.values().all(|owed| *owed == 0) {
            self.owed.clear();
        }
        is_copy
    }

    /// PendingAcks came; those of another connection, of QoS 0, or that are not waited for are ignored.
    pub(super) fn acknowledge(&mut self, receipts: &[Receipt]) {
        if self.connection_epoch == 0 {
            return;
        }
        for receipt in receipts.iter().filter(|receipt| receipt.connection_epoch == self.connection_epoch) {
            if let Some(known) = self.known.get_mut(usize::from(receipt.packet_id))
                && *known == PacketState::Delivered
            {
                *known = PacketState::Received;
            }
        }
    }

    /// How many deliveries the broker waits for.
    pub(super) fn waiting(&self) -> usize {
        self.order.len()
    }

    /// The next packet id that may be acknowledged.
    pub(super) fn next(&self) -> Option<u16> {
        self.order
            .front()
            .map(|(id, _)| *id)
            .filter(|id| self.known.get(usize::from(*id)) == Some(&PacketState::Received))
    }

    /// The packet id that [`PendingAcks::next`] gave is on its way.
    pub(super) fn sent(&mut self) {
        if let Some((id, _)) = self.order.pop_front()
            && let Some(known) = self.known.get_mut(usize::from(id))
        {
            *known = PacketState::Nothing;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn receipt(connection_epoch: u64, packet_id: u16) -> Receipt {
        Receipt { connection_epoch, packet_id }
    }

    fn released(receipts: &mut PendingAcks) -> Vec<u16> {
        let mut ids = Vec::new();
        while let Some(id) = receipts.next() {
            ids.push(id);
            receipts.sent();
        }
        ids
    }

    #[test]
    fn a_receipt_waits_for_earlier_ones_and_a_stale_one_is_ignored() {
        let mut receipts = PendingAcks::default();
        receipts.begin(1, true);
        for id in [7, 8, 9] {
            receipts.delivered(id, id.into());
        }
        receipts.acknowledge(&[receipt(1, 9), receipt(1, 8), receipt(1, 0), receipt(1, 4)]);
        assert_eq!(released(&mut receipts), [0; 0]);
        receipts.acknowledge(&[receipt(1, 7)]);
        assert_eq!(released(&mut receipts), [7, 8, 9]);
        receipts.acknowledge(&[receipt(1, 7)]);
        assert_eq!(released(&mut receipts), [0; 0], "nothing is acknowledged twice");

        receipts.delivered(7, 7);
        receipts.end();
        receipts.acknowledge(&[receipt(1, 7), receipt(0, 7)]);
        receipts.begin(2, true);
        receipts.delivered(7, 7);
        receipts.acknowledge(&[receipt(1, 7)]);
        assert_eq!(released(&mut receipts), [0; 0], "it belongs to the connection before");
        receipts.acknowledge(&[receipt(2, 7)]);
        assert_eq!(released(&mut receipts), [7]);
    }

    #[test]
    fn what_was_read_and_not_acknowledged_is_known_when_the_session_goes_on() {
        let mut receipts = PendingAcks::default();
        let came = |receipts: &mut PendingAcks, ids: &[(u16, u64)]| -> Vec<bool> {
            ids.iter().map(|&(id, content)| receipts.delivered(id, content)).collect()
        };
        receipts.begin(1, false);
        assert_eq!(
            came(&mut receipts, &[(1, 50), (2, 50), (3, 60), (4, 50)]),
            [false; 4],
            "the same again is another one"
        );
        receipts.acknowledge(&[receipt(1, 1)]);
        assert_eq!(released(&mut receipts), [1]);
        receipts.end();
        receipts.end();
        receipts.begin(2, true);
        let again = [(1, 50), (2, 60), (3, 50), (4, 50), (5, 60)];
        assert_eq!(came(&mut receipts, &again), [true, true, true, false, false], "two 50 were owed, and one 60");

        // the copies were not acknowledged either
        receipts.begin(3, true);
        assert_eq!(came(&mut receipts, &[(9, 60), (10, 60), (11, 60)]), [true, true, false]);
        assert_eq!(
            came(&mut receipts, &[(11, 60), (11, 70)]),
            [true, false],
            "an id again, before its acknowledgement"
        );
        receipts.begin(4, false);
        assert_eq!(came(&mut receipts, &[(1, 50), (2, 60)]), [false, false], "this broker has no session");
    }

    #[test]
    fn a_connection_that_replaces_another_one_of_the_session_knows_what_that_one_has_read() {
        let left = Unacknowledged::default();
        let mut receipts = PendingAcks::default();
        receipts.begin(1, true);
        for (id, content) in [(1, 50), (2, 60), (3, 70)] {
            receipts.delivered(id, content);
        }
        receipts.leave("here", &left, [70].into_iter());
        let mut next = PendingAcks::default();
        next.follow(left.take("here"));
        next.begin(1, true);
        let copies: Vec<bool> = [(1, 50), (2, 60), (3, 70)].map(|(id, content)| next.delivered(id, content)).into();
        assert_eq!(copies, [true, true, false], "the last one was handed on to nobody");
        next.leave("here", &left, std::iter::empty());
        assert!(left.take("elsewhere").is_empty());
    }

    #[test]
    fn what_never_came_again_is_not_waited_for_for_ever() {
        let mut receipts = PendingAcks::default();
        receipts.begin(1, false);
        receipts.delivered(1, 50);
        receipts.begin(2, true);
        for message in 0..COPIES_WITHIN_MESSAGES {
            receipts.delivered(u16::try_from(message).unwrap() + 1, 1_000 + message);
        }
        assert!(!receipts.delivered(65_000, 50));
    }

    proptest! {
        /// Whatever order receipts come in: released once, in the order of delivery, none too early.
        #[test]
        fn order_is_kept(
            deliveries in proptest::collection::vec(1u16..50, 1..60),
            arrivals in proptest::collection::vec((0u64..3, 0u16..50), 0..200),
        ) {
            let mut receipts = PendingAcks::default();
            receipts.begin(1, true);
            let mut expected = Vec::new();
            for id in deliveries {
                receipts.delivered(id, id.into());
                if !expected.contains(&id) {
                    expected.push(id);
                }
            }
            let mut came = std::collections::HashSet::new();
            let mut out = Vec::new();
            for (epoch, id) in arrivals {
                receipts.acknowledge(&[receipt(epoch, id)]);
                if epoch == 1 {
                    came.insert(id);
                }
                out.extend(released(&mut receipts));
                let due: Vec<u16> = expected.iter().copied().take_while(|id| came.contains(id)).collect();
                prop_assert_eq!(&out, &due);
            }
        }
    }
}
