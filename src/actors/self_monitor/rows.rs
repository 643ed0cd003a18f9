//! The monitor's own numbers as rows of `heartwatch_internal`, one a part.

use heartwatch_domain::error_metric::{BATCH_SENDING_ERROR, CONNECTIVITY_ERROR, DEAD_LETTER_ERROR};
use heartwatch_domain::intake::IntakeEntry;
use heartwatch_domain::ledger::Account;
use heartwatch_domain::ledger::{LedgerReply, SinkStatus};
use heartwatch_domain::publisher::{HostName, PublisherId};
use heartwatch_domain::reading::FieldValue;
use heartwatch_domain::status::TargetStatus;
use heartwatch_domain::status::{ActorStatus, MonitorStatus};
use heartwatch_domain::time::Timestamp;
use heartwatch_formats::line_protocol;

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
            ("failing", u64::from(target.state != "ok")),
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
                ("moved_rows", sink.moved_rows),
                ("ok", u64::from(sink.state == "ok")),
            ];
            row(&format!("sink:{}", sink.name), &fields);
        }
    }
    (rows > 0).then_some(IntakeEntry::Unnumbered { lines, rows })
}

/// What went wrong between the monitor and its database since the last time, as the error metrics that publishers
/// have too: always there, 0 when nothing is wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct DatabaseErrors {
    /// Requests that the database could not take, since the start of the program.
    retries: u64,
    /// Rows that it refused for good.
    dead_letters: u64,
    /// How often it could not be reached for a while.
    absences: u64,
}

impl DatabaseErrors {
    /// The rows of this moment, tagged with the monitor as their publisher.
    pub(super) fn rows(
        &mut self,
        id: &PublisherId,
        host: &HostName,
        ledger: &LedgerReply,
        time: Timestamp,
    ) -> Option<IntakeEntry> {
        let (mut lines, mut rows) = (Vec::new(), 0);
        let sum = |count: fn(&SinkStatus) -> u64| ledger.sinks.iter().map(count).sum::<u64>();
        let now = Self {
            retries: sum(|sink| sink.retries),
            dead_letters: sum(|sink| sink.dead_letters),
            absences: sum(|sink| sink.absences),
        };
        let before = std::mem::replace(self, now);
        // One that was away between two looks counts as one that is away now; at the start, too.
        let away = ledger.sinks.iter().filter(|sink| sink.state == "retrying").count() as u64;
        let away = away.max(now.absences.saturating_sub(before.absences));
        let counts = [
            (BATCH_SENDING_ERROR, now.retries.saturating_sub(before.retries)),
            (CONNECTIVITY_ERROR, away),
            (DEAD_LETTER_ERROR, now.dead_letters.saturating_sub(before.dead_letters)),
        ];
        for (measurement, count) in counts {
            let tags = [("host", host.as_str()), ("publisher", id.as_str())];
            let value = integer(count);
            let fields = [("value", &value)].into_iter();
            if line_protocol::encode(&mut lines, measurement, tags.into_iter(), fields, time).is_ok() {
                lines.push(b'\n');
                rows += 1;
            }
        }
        (rows > 0).then_some(IntakeEntry::Unnumbered { lines, rows })
    }
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
    use heartwatch_domain::ledger::LedgerLine;
    use heartwatch_domain::publisher::Incarnation;

    #[test]
    fn what_went_wrong_with_the_database_is_counted_since_the_last_time_and_0_otherwise() {
        let (id, host) = (PublisherId::parse("heartwatch-h").unwrap(), HostName::parse("h").unwrap());
        let sink = |retries, dead_letters, state: &str| LedgerReply {
            sinks: vec![SinkStatus { retries, dead_letters, state: state.to_owned(), ..SinkStatus::default() }],
            ..LedgerReply::default()
        };
        let mut errors = DatabaseErrors::default();
        let mut said = |ledger: &LedgerReply| match errors.rows(&id, &host, ledger, Timestamp::from_nanos(7)) {
            Some(IntakeEntry::Unnumbered { lines, rows: 3 }) => String::from_utf8(lines).unwrap(),
            other => panic!("{other:?}"),
        };
        let quiet = said(&sink(0, 0, "ok"));
        assert_eq!(quiet.matches(" value=0i 7\n").count(), 3, "{quiet}");
        let wrong = said(&sink(4, 2, "retrying"));
        assert!(wrong.starts_with("batch_sending_error,host=h,publisher=heartwatch-h value=4i 7\n"), "{wrong}");
        assert!(wrong.contains("connectivity_error,host=h,publisher=heartwatch-h value=1i"), "{wrong}");
        assert!(wrong.contains("dead_letter_error,host=h,publisher=heartwatch-h value=2i"), "{wrong}");
        assert_eq!(said(&sink(4, 2, "ok")), quiet);
        let mut back = sink(9, 2, "ok");
        back.sinks[0].absences = 1;
        let was_away = said(&back);
        assert!(was_away.contains("connectivity_error,host=h,publisher=heartwatch-h value=1i"), "{was_away}");
        assert_eq!(said(&back), quiet, "each absence counts once");
    }

    #[test]
    fn parts_of_one_name_are_one_row() {
        let actor =
            |name: &str| ActorStatus { actor: name.to_owned(), restarts: 2, stuck: 1, unanswered: 0, waiting: 0 };
        let monitor = MonitorStatus {
            healthy: true,
            actors: vec![actor("child"), actor("watchdog"), actor("child")],
            ..MonitorStatus::default()
        };
        let target = TargetStatus { target: "pager".to_owned(), taken: 3, sent: 3, ..TargetStatus::default() };
        let account = |produced| Account { produced, received: 2, ..Account::default() };
        let ledger = LedgerReply {
            accounts: (1..=2)
                .map(|life| LedgerLine::new(PublisherId::parse("p").unwrap(), Incarnation(life), account(life)))
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
