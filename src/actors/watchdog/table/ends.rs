//! What becomes known of the end of a publisher's process: from the kernel, from its parent, or because somebody looked.

use super::*;

impl Table {
    /// Somebody had a publisher's process looked at, and it has ended.
    pub fn found_ended(
        &mut self,
        publisher: &PublisherId,
        process: &ProcessIdentity,
        answer: &ProbeAnswer,
        now: Monotonic,
        wall: Timestamp,
    ) {
        self.decide(publisher, now, wall, |watch, around| watch.found_ended(around, process, answer, now));
    }

    /// The kernel reported the end of a publisher's process.
    pub fn exited(
        &mut self,
        publisher: &PublisherId,
        process: &ProcessIdentity,
        answer: &ProbeAnswer,
        now: Monotonic,
        wall: Timestamp,
    ) {
        self.decide(publisher, now, wall, |watch, around| watch.exited(around, process, answer, now));
    }

    /// The parent of a publisher's process told how it ended.
    pub fn parent_told(&mut self, publisher: &PublisherId, exit: ProcessExit, now: Monotonic, wall: Timestamp) {
        self.decide(publisher, now, wall, |watch, around| watch.parent_told(around, exit, now));
    }
}
