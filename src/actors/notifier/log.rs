//! The last attempts to tell somebody, for a person to look at. What is owed is in the store, not here.

use std::collections::VecDeque;

use heartwatch_domain::status::{Attempt, AttemptOutcome};

/// Attempts kept; the oldest go first.
const ATTEMPTS_KEPT_MAX: usize = 500;

/// The last attempts over all targets, oldest first.
#[derive(Debug, Default)]
pub(super) struct Log(VecDeque<Attempt>);

impl Log {
    /// Notes one. A message that fails again and again is one line, with its last reason.
    pub(super) fn note(&mut self, attempt: Attempt) {
        let before = self.0.iter().rev().find(|before| before.target == attempt.target);
        if attempt.outcome == AttemptOutcome::Failed
            && before
                .is_some_and(|before| before.outcome == AttemptOutcome::Failed && before.summary == attempt.summary)
        {
            self.0.retain(|before| {
                before.target != attempt.target
                    || before.outcome != AttemptOutcome::Failed
                    || before.summary != attempt.summary
            });
        }
        if self.0.len() >= ATTEMPTS_KEPT_MAX {
            self.0.pop_front();
        }
        self.0.push_back(attempt);
    }

    /// The newest ones, newest first.
    pub(super) fn newest(&self, attempts_max: usize) -> Vec<Attempt> {
        self.0.iter().rev().take(attempts_max).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heartwatch_domain::time::Timestamp;

    fn attempt(target: &str, outcome: AttemptOutcome, number: i64) -> Attempt {
        Attempt {
            at: Timestamp::from_nanos(number),
            target: target.to_owned(),
            outcome,
            publishers: Vec::new(),
            summary: "dead: gone".to_owned(),
            notices: 1,
            reason: number.to_string(),
        }
    }

    #[test]
    fn a_message_that_fails_again_is_one_line_and_what_is_kept_is_bounded() {
        let mut log = Log::default();
        for number in 0..3 {
            log.note(attempt("desk", AttemptOutcome::Failed, number));
            log.note(attempt("phone", AttemptOutcome::Delivered, number));
        }
        log.note(attempt("desk", AttemptOutcome::Delivered, 3));
        let newest = log.newest(10);
        let desk: Vec<_> = newest.iter().filter(|attempt| attempt.target == "desk").collect();
        assert_eq!(desk.len(), 2, "{newest:?}");
        assert_eq!((desk[0].outcome, desk[1].reason.as_str()), (AttemptOutcome::Delivered, "2"));
        for number in 0..2_000 {
            log.note(attempt("desk", AttemptOutcome::Delivered, number));
        }
        assert_eq!(log.newest(usize::MAX).len(), ATTEMPTS_KEPT_MAX);
        assert_eq!(log.newest(1)[0].reason, "1999");
    }
}
