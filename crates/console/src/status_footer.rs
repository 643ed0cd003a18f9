//! What stands below the verdict table: who was told, which child is not started again, and how the
//! monitor itself does. A part that has nothing to say says nothing.

use super::paint::harmless;
use heartwatch_domain::ledger::Account;
use heartwatch_domain::status::TargetStatus;
use heartwatch_formats::api::StatusView;

/// Most pieces of damage that have a line of their own.
const DAMAGE_SHOWN_MAX: usize = 5;

/// A line for each, in words.
#[must_use]
pub fn lines(view: &StatusView) -> String {
    let mut text = String::new();
    for publisher in &view.publishers {
        if let Some(child) = publisher.child.as_ref().filter(|child| child.state == "gave-up") {
            let end = harmless(&child.last_end);
            text.push_str(&format!("{}: its process ended too often and is not started again ({end})\n", publisher.id));
        }
    }
    let unusual: [(Count, &str); 2] = [
        (|ledger| ledger.expired, "rows were stored here alone and have made room (expired)"),
        (|ledger| ledger.conflicts, "readings came with a number that another one had, both are kept (conflicts)"),
    ];
    text.extend(unusual.iter().filter_map(|(count, what)| whose(view, *count, what)));
    let alarms = &view.alarms;
    for alarm in &alarms.raised {
        let (rule, severity, since) = (&alarm.rule, alarm.severity.as_str(), alarm.since);
        text.push_str(&format!("alarm {rule} ({severity}) since {since}: {}\n", harmless(&alarm.summary)));
    }
    if !alarms.rules.is_empty() {
        let raised: usize = alarms.rules.iter().map(|rule| rule.raised).sum();
        text.push_str(&format!("rules: {}, {raised} alarms raised\n", alarms.rules.len()));
    }
    if alarms.left_out > 0 {
        text.push_str(&format!("rules: {} values were left out, there are too many\n", alarms.left_out));
    }
    if !alarms.last_error.is_empty() {
        text.push_str(&format!("rules: not looked at: {}\n", harmless(&alarms.last_error)));
    }
    for target in &view.notifications {
        text.push_str(&told(target));
    }
    for damage in view.damage.newest.iter().take(DAMAGE_SHOWN_MAX) {
        text.push_str(&format!("damaged on disk: {}: {}\n", harmless(&damage.file), harmless(&damage.what)));
    }
    let more = view.damage.total.saturating_sub(DAMAGE_SHOWN_MAX as u64);
    if more > 0 {
        text.push_str(&format!("damaged on disk: {more} more, see --json, the page or the log\n"));
    }
    let monitor = &view.monitor;
    for actor in monitor.actors.iter().filter(|actor| actor.unanswered > 0 || actor.stuck > 0) {
        let (name, unanswered, stuck) = (&actor.actor, actor.unanswered, actor.stuck);
        if unanswered > 0 {
            text.push_str(&format!("monitor: the {name} has not answered {unanswered} times\n"));
        }
        if stuck > 0 {
            text.push_str(&format!("monitor: the {name} was stuck {stuck} times and was started again\n"));
        }
    }
    if !monitor.ping_error.is_empty() {
        text.push_str(&format!("monitor: the ping URL was not told: {}\n", harmless(&monitor.ping_error)));
    }
    text
}

/// A number in a publisher's account.
type Count = fn(&Account) -> u64;

/// Most publishers that one line names.
const NAMED_MAX: usize = 3;

/// `30 rows … (expired): meter 20, light 10`; none where there are none.
fn whose(view: &StatusView, count: Count, what: &str) -> Option<String> {
    let mut by: Vec<_> = view.publishers.iter().map(|publisher| (count(&publisher.ledger), &publisher.id)).collect();
    by.retain(|(rows, _)| *rows > 0);
    by.sort_by(|(few, a), (many, b)| many.cmp(few).then_with(|| a.cmp(b)));
    let all = by.iter().map(|(rows, _)| *rows).fold(0, u64::saturating_add);
    let named: Vec<_> = by.iter().take(NAMED_MAX).map(|(rows, id)| format!("{id} {rows}")).collect();
    let more = if by.len() > NAMED_MAX { format!(", and {} more", by.len() - NAMED_MAX) } else { String::new() };
    (all > 0).then(|| format!("{all} {what}: {}{more}\n", named.join(", ")))
}

/// `notify pager (webhook): ok, 12 sent, 3 waiting, 1 given up (too old); no answer in time`.
fn told(target: &TargetStatus) -> String {
    let TargetStatus { way, state, sent, waiting, given_up, .. } = target;
    let mut text = format!("notify {} ({way}): {state}, {sent} sent", target.target);
    if *waiting > 0 {
        text.push_str(&format!(", {waiting} waiting"));
    }
    if *given_up > 0 {
        text.push_str(&format!(", {given_up} given up ({})", harmless(&target.last_given_up)));
    }
    if !target.last_error.is_empty() {
        text.push_str(&format!("; {}", harmless(&target.last_error)));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use heartwatch_domain::damage::{Damage, DamageFound};
    use heartwatch_domain::status::{ActorStatus, MonitorStatus};
    use heartwatch_domain::time::Timestamp;

    #[test]
    fn whose_rows_have_made_room_or_share_a_number_is_said() {
        let publisher = |id: &str, expired: u64, conflicts: u64| {
            serde_json::from_value(serde_json::json!({
                "id": id, "host": "h", "pid": null, "verdict": "alive", "since": "1970-01-01T00:00:00Z",
                "last_seen": null, "deadline_ms": 1, "ledger": { "expired": expired, "conflicts": conflicts },
            }))
            .unwrap()
        };
        let publishers = vec![publisher("a", 1, 0), publisher("b", 20, 3), publisher("c", 1, 0), publisher("d", 2, 0)];
        let said = lines(&StatusView { publishers, ..StatusView::default() });
        let expected = "\
24 rows were stored here alone and have made room (expired): b 20, d 2, a 1, and 1 more
3 readings came with a number that another one had, both are kept (conflicts): b 3
";
        assert_eq!(said, expected);
    }

    #[test]
    fn only_what_is_to_be_said_is_said() {
        let mut view = StatusView::default();
        assert_eq!(lines(&view), "");
        view.notifications.push(TargetStatus {
            target: "pager".to_owned(),
            way: "webhook".to_owned(),
            state: "retrying".to_owned(),
            sent: 12,
            waiting: 3,
            given_up: 1,
            last_given_up: "too old".to_owned(),
            last_error: "no answer\u{1b} in time".to_owned(),
            ..TargetStatus::default()
        });
        let stuck = ActorStatus { actor: "watchdog".to_owned(), restarts: 1, stuck: 1, unanswered: 0, waiting: 0 };
        view.monitor = MonitorStatus { actors: vec![stuck], ..MonitorStatus::default() };
        let damage = Damage {
            at: Timestamp::from_nanos(0),
            file: "/data/journal.sqlite".to_owned(),
            what: "3 readings of light are lost".to_owned(),
        };
        view.damage = DamageFound { total: 14, newest: vec![damage] };
        let expected = "\
notify pager (webhook): retrying, 12 sent, 3 waiting, 1 given up (too old); no answer\\u{1b} in time
damaged on disk: /data/journal.sqlite: 3 readings of light are lost
damaged on disk: 9 more, see --json, the page or the log
monitor: the watchdog was stuck 1 times and was started again
";
        assert_eq!(lines(&view), expected);
    }
}
