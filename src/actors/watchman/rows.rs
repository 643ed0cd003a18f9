//! The monitor's own numbers as rows of `heartwatch_internal`, one a part.

use crate::domain::ledger::Account;
use crate::domain::reading::FieldValue;
use crate::domain::time::Timestamp;
use crate::formats::line_protocol;
use crate::messages::ask::LedgerReply;
use crate::messages::intake::IntakeEntry;
use crate::messages::notice::TargetStatus;
use crate::messages::progress::{ActorStatus, MonitorStatus};

const MEASUREMENT: &str = "heartwatch_internal";

/// The rows of this moment; none when there is nothing to say. Without a ledger the writer did not answer.
#[must_use]
pub fn internal_rows(
    monitor: &MonitorStatus,
    targets: &[TargetStatus],
    ledger: Option<&LedgerReply>,
    time: Timestamp,
) -> Option<IntakeEntry> {
    let (mut lines, mut rows) = (Vec::new(), 0);
    let mut row = |part: &str, fields: &[(&str, u64)]| {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, integer(*value))).collect();
        let fields = fields.iter().map(|(name, value)| (*name, value));
        if line_protocol::encode(&mut lines, MEASUREMENT, [("part", part)].into_iter(), fields, time).is_ok() {
            lines.push(b'\n');
            rows += 1;
        }
    };
    for actor in together(&monitor.actors) {
        row(&actor.actor, &[("restarts", actor.restarts), ("stuck", actor.stuck)]);
    }
    let (healthy, pings) = (u64::from(monitor.healthy), monitor.pings);
    row("watchman", &[("healthy", healthy), ("pings", pings), ("pings_failed", monitor.pings_failed)]);
    for target in targets {
        let fields = [
            ("taken", target.taken),
            ("sent", target.sent),
            ("waiting", target.waiting),
            ("given_up", target.given_up),
            ("messages", target.messages),
            ("retrying", u64::from(target.state == "retrying")),
        ];
        row(&format!("notifier:{}", target.target), &fields);
    }
    if let Some(ledger) = ledger {
        let total = ledger.accounts.iter().fold(Account::default(), |total, line| total.plus(line.account));
        row("ledger", &total.counts());
        for sink in &ledger.sinks {
            let fields = [
                ("rows_stored", sink.rows_stored),
                ("writes", sink.writes),
                ("write_ms", sink.write_ms),
                ("retries", sink.retries),
                ("buffered_rows", sink.buffered_rows),
                ("buffered_bytes", sink.buffered_bytes),
                ("dead_letters", sink.dead_letters),
                ("ok", u64::from(sink.state == "ok")),
            ];
            row(&format!("sink:{}", sink.name), &fields);
        }
    }
    (rows > 0).then_some(IntakeEntry::Unnumbered { lines, rows })
}

/// Actors of one name (the children) are one part; the watchman has a row of its own.
fn together(actors: &[ActorStatus]) -> Vec<ActorStatus> {
    let mut parts: Vec<ActorStatus> = Vec::new();
    for actor in actors.iter().filter(|actor| actor.actor != "watchman") {
        match parts.iter_mut().find(|part| part.actor == actor.actor) {
            Some(part) => {
                part.restarts += actor.restarts;
                part.stuck += actor.stuck;
            }
            None => parts.push(actor.clone()),
        }
    }
    parts
}

fn integer(value: u64) -> FieldValue {
    FieldValue::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::publisher::{Incarnation, PublisherId};
    use crate::messages::ask::{LedgerLine, SinkStatus};

    #[test]
    fn parts_of_one_name_are_one_row() {
        let actor = |name: &str| ActorStatus { actor: name.to_owned(), restarts: 2, stuck: 1, unanswered: 0 };
        let monitor = MonitorStatus {
            healthy: true,
            actors: vec![actor("child"), actor("watchdog"), actor("child")],
            ..MonitorStatus::default()
        };
        let target = TargetStatus { target: "pager".to_owned(), taken: 3, sent: 3, ..TargetStatus::default() };
        let account = |produced| Account { produced, received: 2, ..Account::default() };
        let ledger = LedgerReply {
            accounts: (1..=2)
                .map(|life| LedgerLine {
                    publisher: PublisherId::parse("p").unwrap(),
                    incarnation: Incarnation(life),
                    account: account(life),
                })
                .collect(),
            sinks: vec![SinkStatus {
                name: "influxdb".to_owned(),
                state: "ok".to_owned(),
                writes: 4,
                ..SinkStatus::default()
            }],
            ..LedgerReply::default()
        };
        let Some(IntakeEntry::Unnumbered { lines, rows }) =
            internal_rows(&monitor, &[target], Some(&ledger), Timestamp::from_nanos(7))
        else {
            panic!("there is something to say")
        };
        let text = String::from_utf8(lines).unwrap();
        assert_eq!((rows, text.lines().count()), (6, 6), "{text}");
        assert!(text.contains("part=ledger produced=3i,received=4i,stored=0i"), "{text}");
        assert!(text.contains("part=sink:influxdb rows_stored=0i,writes=4i"), "{text}");
        assert!(text.contains("heartwatch_internal,part=child restarts=4i,stuck=2i 7\n"), "{text}");
        assert!(text.contains("part=notifier:pager taken=3i,sent=3i,waiting=0i"), "{text}");
    }
}
