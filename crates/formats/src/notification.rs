//! A notice or a digest of many as a message: one JSON object for a program, plain text for a person.
//!
//! ```json
//! {"id": "monitor-here-17", "monitor": "monitor-here", "kind": "change", "epoch": 9, "publisher": "light-1",
//!  "from": "alive", "to": "dead", "summary": "…", …}
//! {"id": "monitor-here-18", "monitor": "monitor-here", "kind": "alarm", "rule": "load-too-high", "state": "firing",
//!  "severity": "warning", "publisher": "sensor-1", "number": 8.2, "summary": "…", …}
//! {"id": "monitor-here-54", "monitor": "monitor-here", "kind": "digest", "count": 37, "since": "…", "until": "…",
//!  "summary": "37 more changes: 12 × dead, 25 × alive", "notices": [the first 20], "omitted": 17}
//! {"id": "monitor-here-55", "monitor": "monitor-here", "kind": "digest", "count": 12, "rule": "load-too-high",
//!  "state": "firing", "summary": "load-too-high firing, 12 alarms: sensor-1, sensor-2, … and 10 more", …}
//! ```

use std::collections::BTreeMap;

use serde::Serialize;

use heartwatch_domain::notice::{AlarmState, DIGEST_LISTED_MAX, Notice, RuleAlarm, TargetState};
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::rule::Severity;
use heartwatch_domain::time::Timestamp;

/// A message for one target, ready to be sent. The same message has the same id at every attempt, so
/// that a receiver can tell a repetition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyMessage {
    /// Distinct for every message of a monitor, over its restarts.
    pub id: String,
    /// One line: a mail's subject.
    pub headline: String,
    /// Plain text for a person.
    pub text: String,
    /// The same for a program: one JSON object.
    pub json: Vec<u8>,
}

/// Publishers that the headline of one rule's alarms names.
const NAMED_MAX: usize = 3;

#[derive(Serialize)]
struct Single<'a> {
    id: &'a str,
    monitor: &'a PublisherId,
    #[serde(flatten)]
    notice: &'a Notice,
}

#[derive(Serialize)]
struct Digest<'a> {
    id: &'a str,
    monitor: &'a PublisherId,
    kind: &'static str,
    count: usize,
    since: Timestamp,
    until: Timestamp,
    summary: &'a str,
    /// Of alarms of one rule alone.
    #[serde(flatten)]
    rule: Option<OneRule<'a>>,
    notices: &'a [Notice],
    omitted: usize,
}

/// What alarms of one rule have in common.
#[derive(Clone, Copy, PartialEq, Serialize)]
struct OneRule<'a> {
    rule: &'a str,
    state: AlarmState,
    severity: Severity,
}

impl<'a> OneRule<'a> {
    fn of(notices: &'a [Notice]) -> Option<Self> {
        let mut rules = notices.iter().map(|notice| match notice {
            Notice::Alarm(RuleAlarm { rule, state, severity, .. }) => {
                Some(Self { rule, state: *state, severity: *severity })
            }
            _ => None,
        });
        let first = rules.next()??;
        rules.all(|other| other == Some(first)).then_some(first)
    }
}

/// The message for notices in the order in which they came; one alone, several as a digest. None for none.
#[must_use]
pub fn message(id: String, monitor: &PublisherId, notices: &[Notice]) -> Option<NotifyMessage> {
    match notices {
        [] => None,
        [notice] => {
            let json = serde_json::to_vec(&Single { id: &id, monitor, notice }).ok()?;
            Some(NotifyMessage { headline: notice.to_string(), text: text_of(notice, monitor), json, id })
        }
        [first, .., last] => {
            let listed = notices.get(..DIGEST_LISTED_MAX).unwrap_or(notices);
            let omitted = notices.len() - listed.len();
            let rule = OneRule::of(notices);
            let (headline, summary) = headline_of(notices, rule);
            let digest = Digest {
                id: &id,
                monitor,
                kind: "digest",
                count: notices.len(),
                since: first.known_at(),
                until: last.known_at(),
                summary: &summary,
                rule,
                notices: listed,
                omitted,
            };
            let json = serde_json::to_vec(&digest).ok()?;
            let mut text = format!("{headline}\n\n");
            for notice in listed {
                text.push_str(&format!("{}  {notice}  {}\n", notice.known_at(), notice.summary()));
            }
            if omitted > 0 {
                text.push_str(&format!("… and {omitted} not listed here\n"));
            }
            text.push_str(&format!("\n-- \nheartwatch, monitor {monitor}\n"));
            Some(NotifyMessage { headline, text, json, id })
        }
    }
}

fn text_of(notice: &Notice, monitor: &PublisherId) -> String {
    let mut text = format!("{}\n", notice.summary());
    if let Notice::Change(change) = notice {
        let process = change.process.as_ref().map_or_else(String::new, |process| format!(", PID {}", process.pid));
        text.push_str(&format!(
            "\n{} on {}{process}: {} → {}\n",
            change.publisher, change.host, change.from, change.to
        ));
        text.push_str(&format!("true since {}, known at {}\n", change.at, change.decided_at));
        for evidence in &change.evidence {
            text.push_str(&format!("  - {}\n", evidence.detail));
        }
        text.push_str(&format!("\nmore: heartwatch explain {}\n", change.publisher));
    }
    if let Notice::Alarm(alarm) = notice {
        let (rule, state, severity) = (&alarm.rule, alarm.state, alarm.severity.as_str());
        text.push_str(&format!("\n{} on {}: alarm {rule} ({severity}) is {state}\n", alarm.publisher, alarm.host));
        for (name, value) in &alarm.tags {
            text.push_str(&format!("  {name}={value}\n"));
        }
        text.push_str(&format!("raised {}, known at {}\n", alarm.since, alarm.at));
        if !alarm.link.is_empty() {
            text.push_str(&format!("\nmore: {}\n", alarm.link));
        }
    }
    text.push_str(&format!("\n-- \nheartwatch, monitor {monitor}\n"));
    text
}

/// A digest's headline and its summary. Where all of it is one story, they tell that story.
fn headline_of(notices: &[Notice], rule: Option<OneRule<'_>>) -> (String, String) {
    if let Some(OneRule { rule, state, .. }) = rule {
        let mut named: Vec<&str> = notices.iter().map(|notice| notice.publisher().as_str()).collect();
        named.dedup();
        let more = named.len().saturating_sub(NAMED_MAX);
        named.truncate(NAMED_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let summary = format!("{rule} {state}, {} alarms: {}{more}", notices.len(), named.join(", "));
        return (summary.clone(), summary);
    }
    let last = notices.last().filter(|last| {
        last.course_of().is_some() && notices.iter().all(|notice| notice.course_of() == last.course_of())
    });
    if let Some(last) = last {
        let before = notices.len() - 1;
        let changes = if before == 1 { "change" } else { "changes" };
        let headline = format!("{last}, after {before} earlier {changes}");
        return (headline.clone(), format!("{headline}: {}", last.summary()));
    }
    let summary = summary_of(notices);
    (format!("… and {summary}"), summary)
}

/// `37 more changes: 12 × dead, 25 × alive`, the most frequent first.
fn summary_of(notices: &[Notice]) -> String {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for notice in notices {
        let kind = match notice {
            Notice::Change(change) => change.to.as_str(),
            Notice::GaveUp(_) => "not started again",
            Notice::Alarm(alarm) => alarm.rule.as_str(),
            Notice::Target(target) if target.state == TargetState::Failing => "target failing",
            Notice::Target(_) => "target delivering",
        };
        *kinds.entry(kind).or_default() += 1;
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let kinds: Vec<_> = kinds.iter().map(|(kind, count)| format!("{count} × {kind}")).collect();
    format!("{} more changes: {}", notices.len(), kinds.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use heartwatch_domain::notice::GaveUp;
    use heartwatch_domain::publisher::HostName;

    fn notice(number: i64) -> Notice {
        Notice::GaveUp(GaveUp {
            publisher: PublisherId::parse("light").unwrap(),
            host: HostName::parse("here").unwrap(),
            at: Timestamp::from_nanos(number * 1_000_000_000),
            summary: "ended too often".to_owned(),
        })
    }

    #[test]
    fn one_is_itself_and_many_are_a_digest() {
        let monitor = PublisherId::parse("m").unwrap();
        assert_eq!(message("m-1".into(), &monitor, &[]), None);
        let one = message("m-1".into(), &monitor, &[notice(1)]).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&one.json).unwrap();
        assert_eq!((json["id"].as_str(), json["kind"].as_str()), (Some("m-1"), Some("gave-up")));
        assert_eq!((json["monitor"].as_str(), json["publisher"].as_str()), (Some("m"), Some("light")));
        assert_eq!(one.headline, "light: not started again");

        let of = |number| {
            let Notice::GaveUp(mut gave_up) = notice(number) else { panic!("it is one") };
            gave_up.publisher = PublisherId::parse(&format!("light-{number}")).unwrap();
            Notice::GaveUp(gave_up)
        };
        let many: Vec<_> = (1..=37).map(of).collect();
        let digest = message("m-2".into(), &monitor, &many).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&digest.json).unwrap();
        assert_eq!((json["kind"].as_str(), json["count"].as_u64()), (Some("digest"), Some(37)));
        assert_eq!(json["omitted"].as_u64(), Some(17));
        assert_eq!(json["notices"].as_array().map(Vec::len), Some(20));
        assert_eq!(digest.headline, "… and 37 more changes: 37 × not started again");
        assert!(digest.text.contains("… and 17 not listed here"), "{}", digest.text);

        let one_story = message("m-3".into(), &monitor, &[notice(1), notice(2), notice(3)]).unwrap();
        assert_eq!(one_story.headline, "light: not started again, after 2 earlier changes");
        let json: serde_json::Value = serde_json::from_slice(&one_story.json).unwrap();
        assert_eq!(
            json["summary"].as_str(),
            Some("light: not started again, after 2 earlier changes: ended too often")
        );
    }
}
