//! How readings go out: from the outbox, as messages, to the connection; and what becomes of those that cannot.

use super::messages::{Messages, messages};
use super::send_loop::SendLoop;
use heartwatch_domain::error_metric::DROPPED_ERROR;
use heartwatch_domain::publisher::Incarnation;
use heartwatch_domain::reading::{Reading, Sequence};
use heartwatch_domain::retransmitter::SequenceRange;
use heartwatch_formats::envelope::TopicKind;
use heartwatch_ports::TransportError;
use heartwatch_store::outbox::GivenUpRange;

impl SendLoop {
    pub(super) async fn send_backlog(&mut self) {
        let readings_max = self.config.batch_readings_max;
        if self.setback.lasts() {
            return;
        }
        while let Some(run) = self.delivery.next_waiting(readings_max as u64, self.clock.monotonic()) {
            let kept = self.on_disk(move |worker| worker.kept(run, readings_max)).await;
            let readings = match kept {
                Some(Ok(readings)) => readings,
                Some(Err(error)) => {
                    self.delivery.put_back(run);
                    return self.setback.happened(&error);
                }
                None => return self.delivery.put_back(run),
            };
            self.forget_absent(run, &readings);
            if !readings.is_empty() && !self.send(run, &readings).await {
                self.delivery.put_back(run);
                return;
            }
        }
    }

    /// Numbers that the outbox does not hold any more were confirmed or given up: nobody waits for them.
    fn forget_absent(&mut self, run: SequenceRange, readings: &[Reading]) {
        let mut next = run.first;
        for number in readings.iter().map(|reading| reading.sequence).chain([run.last + 1]) {
            if next < number {
                self.delivery.forget(SequenceRange { first: next, last: number - 1, ..run });
            }
            next = number + 1;
        }
    }

    /// Hands readings to the connection; what of them no message can carry is given up. False: they wait.
    pub(super) async fn send(&mut self, run: SequenceRange, readings: &[Reading]) -> bool {
        if self.setback.lasts() {
            return false;
        }
        let bytes_max = self.config.message_bytes_max.min(self.transport.payload_bytes_max());
        let usual_max = self.packet_limit.bytes_max();
        let messages = messages(&self.config.host, run, readings, bytes_max, usual_max);
        let Messages { payloads, large, unsendable } = match messages {
            Ok(messages) => messages,
            Err(problem) => {
                self.setback.happened(&problem);
                return false;
            }
        };
        if !unsendable.is_empty() && !self.give_up(run.incarnation, unsendable).await {
            return false;
        }
        fail::fail_point!("publisher::send", |_| false);
        let waiting = self.delivery.backlog();
        for (sequence, payload) in large {
            let key = (run.incarnation, sequence);
            let now = self.clock.monotonic();
            if self.packet_limit.may_send_large(key, payload.len(), waiting, self.answered, now)
                && !self.send_one(payload)
            {
                return false;
            }
        }
        for payload in payloads {
            let bytes = payload.len();
            if !self.send_one(payload) {
                return false;
            }
            self.packet_limit.sent(bytes, run);
        }
        true
    }

    fn send_one(&mut self, payload: Vec<u8>) -> bool {
        match self.pulse.publish(TopicKind::Readings, payload, true) {
            Ok(()) => self.setback.ended(),
            Err(TransportError::Full { .. } | TransportError::Closed) => return false,
            Err(error @ TransportError::Unsendable { .. }) => {
                self.setback.happened(&error);
                return false;
            }
        }
        true
    }

    /// Readings that can never be sent hold up nothing: they are lost, and the monitor is told why.
    pub(super) async fn give_up(&mut self, incarnation: Incarnation, unsendable: Vec<(Sequence, String)>) -> bool {
        let given_up = self.on_disk(move |worker| worker.give_up(incarnation, &unsendable)).await;
        let ranges = match given_up {
            Some(Ok(ranges)) => ranges,
            Some(Err(error)) => {
                self.setback.happened(&error);
                return false;
            }
            None => return false,
        };
        let readings: u64 = ranges.iter().map(|range| range.last - range.first + 1).sum();
        if let Some(GivenUpRange { first, last, reason, .. }) = ranges.first() {
            tracing::error!(%incarnation, first, last, reason, readings, "readings can never be sent: given up");
            self.pulse.happened(DROPPED_ERROR, readings, self.clock.wall());
        }
        for range in &ranges {
            self.delivery.forget(SequenceRange { incarnation, first: range.first, last: range.last });
        }
        self.given_up.extend(ranges);
        self.tell_given_up();
        true
    }
}
