//! What was produced, by witnesses that are not the monitor: each publisher's own trace of what it kept, and
//! its outbox as it was found after each of its ends.
//!
//! A publisher reads a file of its own at every start: row `r` of start `n` has the fields `life = n` and
//! `row = r`, so that each reading can be told from every other one in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::by_hand::Rows;
use super::outbox_file::OutboxFile;
use heartwatch_domain::publisher::Incarnation;
use heartwatch_domain::reading::Sequence;

/// One incarnation of a publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Life {
    /// Which start of the program it was, counted from 1.
    pub start: u64,
    /// The last number that it kept: it has given out the rows from 1 to this one.
    pub last: Sequence,
    /// The last number that it said to have kept. One beyond it is in the outbox by a commit that a kill
    /// interrupted: nobody has been told of it, and it counts as produced for as long as it is there.
    pub said: Sequence,
    /// Whether its outbox was damaged right after a kill: then such a one may be gone, as if it had never been.
    pub damaged: bool,
    /// Whether its outbox could not be read when it had ended: what it kept beyond `last` is then not known to the
    /// auditor, and a row of it in the store was produced.
    pub unread: bool,
    /// How many of its rows are known from the store alone, for that reason.
    pub from_store: u64,
}

/// What one publisher has produced.
#[derive(Debug, Default)]
pub(super) struct Truth {
    /// By incarnation.
    pub lives: BTreeMap<Incarnation, Life>,
    /// What was sent in its name by hand.
    pub by_hand: Rows,
    /// Messages that a broker had confirmed and, killed, has never handed on: nobody else ever had them.
    pub gone_with_broker: u64,
    /// How often more than once a message of a device is in the store because it came again after damage to the
    /// monitor's record of it, by start and row.
    pub again: BTreeMap<(u64, u64), u32>,
    /// Numbers that somebody else had used, of which one reading alone was kept, and confirmed for both.
    pub in_anothers_place: BTreeSet<(Incarnation, Sequence)>,
}

impl Truth {
    /// Reads the trace of one start, which may still run.
    pub(super) fn read_trace(&mut self, start: u64, log: &Path) {
        let text = std::fs::read(log).unwrap_or_default();
        for line in String::from_utf8_lossy(&text).lines().filter(|line| line.contains(" kept ")) {
            let number = |key: &str| {
                let after = line.split(&format!(" {key}=")).nth(1)?;
                after.split_whitespace().next()?.parse::<u64>().ok()
            };
            if let (Some(life), Some(last)) = (number("life"), number("last")) {
                let life = self.lives.entry(Incarnation(life)).or_insert(Life { start, ..Life::default() });
                // a life that has given out nothing, and that damage took, is begun again
                if life.last == 0 {
                    life.start = start;
                }
                life.last = life.last.max(last);
                life.said = life.said.max(last);
            }
        }
    }

    /// Notes what was found in the outbox while this start was the last one. A kill between the commit and the trace
    /// leaves a number there alone. What a file says of earlier starts is not believed: it may have been damaged since.
    pub(super) fn note_outbox(&mut self, start: u64, found: &OutboxFile) {
        for (incarnation, life) in self.lives.iter_mut().filter(|(_, life)| life.start == start) {
            life.last = life.last.max(found.lives.get(incarnation).copied().unwrap_or(0));
            life.unread |= !found.unreadable.is_empty();
        }
    }

    /// The outbox in which this is found is about to be damaged, and its publisher does not run. The latest start of all may
    /// have had another outbox.
    pub(super) fn is_damaged(&mut self, found: &OutboxFile) {
        let in_it = |incarnation: &Incarnation| found.lives.contains_key(incarnation) || !found.unreadable.is_empty();
        let lives = self.lives.iter_mut().filter(|(incarnation, _)| in_it(incarnation));
        if let Some((_, life)) = lives.max_by_key(|(_, life)| life.start) {
            life.damaged = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found: seed 2. The publisher had been elsewhere for one start when its outbox at home was damaged.
    #[test]
    fn damage_hits_the_latest_life_in_that_outbox() {
        let mut truth = Truth::default();
        for (incarnation, start) in [(50, 1), (60, 2), (70, 3)] {
            truth.lives.insert(Incarnation(incarnation), Life { start, ..Life::default() });
        }
        let lives = [(Incarnation(50), 3), (Incarnation(60), 4)].into_iter().collect();
        truth.is_damaged(&OutboxFile { lives, ..OutboxFile::default() });
        let damaged: Vec<_> = truth.lives.values().map(|life| life.damaged).collect();
        assert_eq!(damaged, [false, true, false]);
    }

    #[test]
    fn a_trace_says_what_each_life_kept() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let text = "2026-11-21T02:42:23.1Z TRACE kept life=5 last=0\n2026-11-21T02:42:23.1Z  INFO publishing\n\
                    2026-11-21T02:42:23.2Z TRACE kept life=5 last=1\n2026-11-21T02:42:23.3Z TRACE kept life=5 last=12\n\
                    2026-11-21T02:42:23.3Z TRACE kept life=9 last=3\n2026-11-21T02:42:23.3Z TRACE kept lif";
        std::fs::write(&log, text).unwrap();
        let mut truth = Truth::default();
        truth.read_trace(4, &log);
        let lives: Vec<_> = truth.lives.iter().map(|(life, of)| (life.0, of.start, of.last)).collect();
        assert_eq!(lives, [(5, 4, 12), (9, 4, 3)]);
        // found by seed 4: damage took a life that had given out nothing, and the next start began it again
        let begun_again = directory.path().join("begun again");
        std::fs::write(&begun_again, "2026-11-21T02:42:23.1Z TRACE kept life=3 last=0\n").unwrap();
        let mut twice = Truth::default();
        twice.read_trace(1, &begun_again);
        twice.read_trace(2, &begun_again);
        assert_eq!(twice.lives.values().map(|life| life.start).collect::<Vec<_>>(), [2]);
        // the outbox knows one more of the last life; what it says of an earlier start is not believed
        let mut found = OutboxFile::default();
        found.lives.extend([(Incarnation(5), 13), (Incarnation(9), 3)]);
        truth.note_outbox(4, &found);
        truth.read_trace(5, &log);
        found.lives.extend([(Incarnation(5), 1 << 40), (Incarnation(77), 4)]);
        found.unreadable.push("readings: malformed".to_owned());
        truth.note_outbox(5, &found);
        let lives: Vec<_> = truth.lives.values().map(|life| (life.last, life.said, life.unread)).collect();
        assert_eq!(lives, [(13, 12, false), (3, 3, false)]);
    }
}
