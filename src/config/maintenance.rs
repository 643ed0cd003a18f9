//! The `[[maintenance]]` tables.

use super::reader::{Reader, Scope};
use heartwatch_domain::maintenance::{Schedule, Scheduled, Weekly};
use heartwatch_domain::time::Timestamp;
use heartwatch_formats::values;

/// Longest reason, in bytes.
const REASON_BYTES_MAX: usize = 200;

/// Every window that is right.
pub(super) fn maintenance(reader: &mut Reader<'_>) -> Vec<Scheduled> {
    let root = reader.root();
    let tables = reader.tables(&root, "maintenance");
    tables.iter().filter_map(|table| window(reader, table)).collect()
}

fn window<'a>(reader: &mut Reader<'a>, table: &Scope<'a>) -> Option<Scheduled> {
    let publisher = reader.read(table, "publisher", None, |given| given.text("light-*", values::id_pattern));
    if !reader.has(table, "publisher") {
        reader.missing(
            table,
            "publisher",
            "is missing: an id, a pattern like \"light-*\", or \"host:NAME\" for all there",
        );
    }
    let weekly = reader.read(table, "weekly", None, |given| given.text("Sat 02:00-04:00", str::parse::<Weekly>));
    let time = |text: &str| text.parse::<Timestamp>().map_err(|error| error.to_string());
    let from = reader.read(table, "from", None, |given| given.text("2026-12-24T18:00:00Z", time));
    let to = reader.read(table, "to", None, |given| given.text("2026-12-24T20:00:00Z", time));
    let reason = reader.read(table, "reason", None, |given| {
        given.text("new disk", |text| match text.len() {
            0..=REASON_BYTES_MAX => Ok(text.to_owned()),
            _ => Err(format!("is too long: at most {REASON_BYTES_MAX} bytes")),
        })
    });
    let once = reader.has(table, "from") || reader.has(table, "to");
    if let Some(weekly) = weekly.as_ref().filter(|_| once) {
        reader.mistake(&weekly.origin, &table.key("weekly"), "excludes 'from' and 'to': a window each for both");
    }
    if !once && !reader.has(table, "weekly") {
        reader.missing(
            table,
            "weekly",
            "is missing: a span of the week in UTC like \"Sat 02:00-04:00\", or from and to",
        );
    }
    for (name, other) in [("from", "to"), ("to", "from")] {
        if reader.has(table, other) && !reader.has(table, name) {
            reader.missing(table, name, "is missing: a window that is open once has a begin and an end");
        }
    }
    let schedule = match (weekly, from, to) {
        (Some(weekly), _, _) => Schedule::Weekly(weekly.value),
        (None, Some(from), Some(to)) => {
            if to.value <= from.value {
                reader.mistake(&to.origin, &table.key("to"), "is not after 'from': this window is never open");
            }
            Schedule::Once { from: from.value, to: to.value }
        }
        _ => return None,
    };
    let reason = reason.map_or_else(String::new, |reason| reason.value);
    Some(Scheduled { publisher: publisher?.value, schedule, reason })
}
