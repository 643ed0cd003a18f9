//! Which deliveries of the present connection may be acknowledged now.
//!
//! Invariants:
//! 1. A packet id is released only when its receipt of *this* connection has come.
//! 2. Packet ids are released in the order of delivery, each once.

use std::collections::VecDeque;

use crate::ports::Receipt;

/// What is known of a packet id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Nothing,
    Delivered,
    Received,
}

/// The unacknowledged deliveries of one connection. Bounded by the 65,535 packet ids that MQTT has.
#[derive(Debug)]
pub(super) struct Receipts {
    /// The connection that they came by; 0 when there is none.
    connection_epoch: u64,
    /// In the order of delivery.
    order: VecDeque<u16>,
    /// By packet id; every message looks here several times.
    known: Box<[Known]>,
}

impl Default for Receipts {
    fn default() -> Self {
        let known = vec![Known::Nothing; usize::from(u16::MAX) + 1].into_boxed_slice();
        Self { connection_epoch: 0, order: VecDeque::new(), known }
    }
}

impl Receipts {
    /// A connection begins: whatever came by an earlier one is void.
    pub fn begin(&mut self, connection_epoch: u64) {
        self.connection_epoch = connection_epoch;
        for id in self.order.drain(..) {
            if let Some(known) = self.known.get_mut(usize::from(id)) {
                *known = Known::Nothing;
            }
        }
    }

    /// The connection is gone, and all that came by it is void.
    pub fn end(&mut self) {
        self.begin(0);
    }

    /// A delivery came. The same packet id again, before it was acknowledged, is the same delivery.
    pub fn delivered(&mut self, packet_id: u16) {
        let Some(known) = self.known.get_mut(usize::from(packet_id)) else { return };
        if std::mem::replace(known, Known::Delivered) == Known::Nothing {
            self.order.push_back(packet_id);
        }
    }

    /// Receipts came; those of another connection, of QoS 0, or that are not waited for are ignored.
    pub fn acknowledge(&mut self, receipts: &[Receipt]) {
        if self.connection_epoch == 0 {
            return;
        }
        for receipt in receipts.iter().filter(|receipt| receipt.connection_epoch == self.connection_epoch) {
            if let Some(known) = self.known.get_mut(usize::from(receipt.packet_id))
                && *known == Known::Delivered
            {
                *known = Known::Received;
            }
        }
    }

    /// How many deliveries the broker waits for.
    pub fn waiting(&self) -> usize {
        self.order.len()
    }

    /// The next packet id that may be acknowledged.
    pub fn next(&self) -> Option<u16> {
        self.order.front().copied().filter(|id| self.known.get(usize::from(*id)) == Some(&Known::Received))
    }

    /// The packet id that [`Receipts::next`] gave is on its way.
    pub fn sent(&mut self) {
        if let Some(id) = self.order.pop_front()
            && let Some(known) = self.known.get_mut(usize::from(id))
        {
            *known = Known::Nothing;
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

    fn released(receipts: &mut Receipts) -> Vec<u16> {
        let mut ids = Vec::new();
        while let Some(id) = receipts.next() {
            ids.push(id);
            receipts.sent();
        }
        ids
    }

    #[test]
    fn a_receipt_waits_for_earlier_ones_and_a_stale_one_is_ignored() {
        let mut receipts = Receipts::default();
        receipts.begin(1);
        for id in [7, 8, 9] {
            receipts.delivered(id);
        }
        receipts.acknowledge(&[receipt(1, 9), receipt(1, 8), receipt(1, 0), receipt(1, 4)]);
        assert_eq!(released(&mut receipts), [0; 0]);
        receipts.acknowledge(&[receipt(1, 7)]);
        assert_eq!(released(&mut receipts), [7, 8, 9]);
        receipts.acknowledge(&[receipt(1, 7)]);
        assert_eq!(released(&mut receipts), [0; 0], "nothing is acknowledged twice");

        receipts.delivered(7);
        receipts.end();
        receipts.acknowledge(&[receipt(1, 7), receipt(0, 7)]);
        receipts.begin(2);
        receipts.delivered(7);
        receipts.acknowledge(&[receipt(1, 7)]);
        assert_eq!(released(&mut receipts), [0; 0], "it belongs to the connection before");
        receipts.acknowledge(&[receipt(2, 7)]);
        assert_eq!(released(&mut receipts), [7]);
    }

    proptest! {
        /// Whatever order receipts come in: released once, in the order of delivery, none too early.
        #[test]
        fn order_is_kept(
            deliveries in proptest::collection::vec(1u16..50, 1..60),
            arrivals in proptest::collection::vec((0u64..3, 0u16..50), 0..200),
        ) {
            let mut receipts = Receipts::default();
            receipts.begin(1);
            let mut expected = Vec::new();
            for id in deliveries {
                receipts.delivered(id);
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
