//! A verdict change as one line of a story: when, who, from → to, why.

use crate::paint;
use heartwatch_domain::verdict::Change;

/// One line, coloured; printed through `anstream` it is plain in a pipe.
#[must_use]
pub fn line(change: &Change) -> String {
    // The summary starts with the verdict, which the line has already said.
    let why = change.summary.split_once(": ").map_or(change.summary.as_str(), |(_, why)| why);
    format!(
        "{}  {:<14} {} {} {}  {why}",
        paint::faint(&change.decided_at.time_of_day()),
        change.publisher.as_str(),
        paint::verdict(change.from, 8),
        paint::faint("→"),
        paint::verdict(change.to, 8),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use heartwatch_domain::publisher::{HostName, PublisherId};
    use heartwatch_domain::time::Timestamp;
    use heartwatch_domain::verdict::{Trigger, Verdict};

    #[test]
    fn a_line_tells_when_who_what_and_why() {
        let change = Change {
            epoch: 3,
            publisher: PublisherId::parse("light-1").unwrap(),
            host: HostName::parse("here").unwrap(),
            from: Verdict::Late,
            to: Verdict::Dead,
            at: Timestamp::from_nanos(5_000_000_000),
            decided_at: Timestamp::from_nanos(5_004_000_000),
            trigger: Trigger::Deadline,
            summary: "dead: silent 5 s (deadline 5 s); PID 812 is gone".to_owned(),
            evidence: vec![],
            process: None,
            maintenance: false,
            flapping: None,
            because: None,
        };
        let plain = anstream::adapter::strip_str(&line(&change)).to_string();
        assert_eq!(
            plain,
            "00:00:05.004  light-1        late     → dead      silent 5 s (deadline 5 s); PID 812 is gone"
        );
    }
}
