//! The `[[publisher]]` tables.

use super::deadlines::deadline_keys;
use super::document::Given;
use super::exec::exec;
use super::kinds::{FeedKeys, RESTART, Settled as _, boolean, duration, origin, positive_duration};
use super::reader::{Origin, Reader, Scope, Sourced};
use super::settings::{Managed, PublisherEntry, RunAs};
use crate::actors::publisher::{Feed, OUTBOX_BYTES_MIN};
use crate::sources::SourceConfig;
use crate::sources::csv::CsvConfig;
use heartwatch_domain::deadline::DeadlineRules;
use heartwatch_domain::metrics::MetricSet;
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::restart::{RestartLimits, RestartPolicy};
use heartwatch_domain::time::describe_duration;
use heartwatch_formats::source_time::TimeColumn;
use heartwatch_formats::values;
use heartwatch_store::outbox::FullPolicy;

/// Most restarts within a period.
const RESTARTS_LIMIT: u64 = 10_000;

const FULL_POLICIES: [(&str, FullPolicy); 2] = [
    (FullPolicy::RefuseNew.as_str(), FullPolicy::RefuseNew),
    (FullPolicy::GiveUpOldest.as_str(), FullPolicy::GiveUpOldest),
];

/// What a publisher can read: one of these.
const SOURCES: [&str; 3] = ["csv", "exec", "system"];

const RUN_AS: [(&str, RunAs); 2] = [("child", RunAs::Child), ("in-process", RunAs::InProcess)];

/// Every publisher that has an id of its own.
pub(super) fn publishers(reader: &mut Reader<'_>, deadlines: &DeadlineRules) -> Vec<PublisherEntry> {
    let root = reader.root();
    let mut publishers: Vec<(PublisherEntry, Origin)> = Vec::new();
    for table in reader.tables(&root, "publisher") {
        let Some((publisher, origin)) = publisher(reader, &table, deadlines) else { continue };
        match publishers.iter().find(|(other, _)| other.id == publisher.id) {
            Some((_, Origin::Line(line))) => {
                let message = format!("'{}' is the publisher of line {line} already: every id once", publisher.id);
                reader.mistake(&origin, &table.key("id"), message);
            }
            _ => publishers.push((publisher, origin)),
        }
    }
    publishers.into_iter().map(|(publisher, _)| publisher).collect()
}

fn publisher<'a>(
    reader: &mut Reader<'a>,
    table: &Scope<'a>,
    deadlines: &DeadlineRules,
) -> Option<(PublisherEntry, Origin)> {
    let id = reader.read(table, "id", None, |given| {
        given.text("light-1", |text| PublisherId::parse(text).map_err(|error| error.to_string()))
    });
    if !reader.has(table, "id") {
        reader.missing(table, "id", "is missing: every publisher has an id, like \"light-1\"");
    }
    let deadline = deadline_keys(reader, table, deadlines.default);
    let expected = reader.read(table, "expected", None, boolean).or_default(true);
    let heartbeat = reader.read(table, "heartbeat", None, positive_duration);
    let (managed, feed_keys) = managed(reader, table, &heartbeat);
    let has_source = SOURCES.iter().any(|source| reader.has(table, source));
    if !has_source && let Some((name, origin)) = feed_keys.into_iter().find_map(|(name, origin)| Some((name, origin?)))
    {
        let message =
            "is for a publisher that heartwatch starts: give it a 'csv', an 'exec' or 'system = true' to read";
        reader.mistake(&origin, &table.key(name), message);
    }
    let id = id?;
    if let Some(heartbeat) = heartbeat {
        let deadline = deadline.kind.unwrap_or_else(|| deadlines.of(&id.value).kind).longest();
        if heartbeat.value >= deadline {
            let (heartbeat_text, deadline) = (describe_duration(heartbeat.value), describe_duration(deadline));
            let message = format!(
                "{heartbeat_text} is no shorter than its deadline of {deadline}: it would be silent between two"
            );
            reader.mistake(&heartbeat.origin, &table.key("heartbeat"), message);
        }
    }
    let (deadline, grace) = (deadline.kind, deadline.grace);
    Some((PublisherEntry { id: id.value, expected, deadline, grace, managed }, id.origin))
}

fn managed<'a>(
    reader: &mut Reader<'a>,
    table: &Scope<'a>,
    heartbeat: &Option<Sourced<std::time::Duration>>,
) -> (Option<Managed>, FeedKeys) {
    let csv = reader.existing_file(table, "csv", None);
    let (exec, exec_keys) = exec(reader, table);
    let (system, system_keys) = system(reader, table);
    let mut sources = SOURCES.iter().filter(|source| reader.has(table, source));
    if let (Some(one), Some(other)) = (sources.next(), sources.next()) {
        reader.mistake_at(table, other, format!("excludes '{one}': a publisher reads one thing"));
    }
    let interval = reader.read(table, "interval", None, duration);
    let run = reader.read(table, "run", None, |given| given.choice(&RUN_AS));
    let looping = reader.read(table, "loop", None, boolean);
    let limit = reader.read(table, "limit", None, |given| given.number(1, u64::MAX));
    let time_column = reader.read(table, "time_column", None, |given| match given {
        Given::Integer(number) => values::time_column(&number.to_string()),
        _ => given.text("time", values::time_column),
    });
    let time_format =
        reader.read(table, "time_format", None, |given| given.text("auto", str::parse::<values::TimeForm>));
    // the lines of a program may have one, too
    let delimiter = reader.read(table, "delimiter", None, |given| given.text(";", values::delimiter));
    let decimal = reader.read(table, "decimal", None, |given| given.text("comma", values::decimal));
    let measurement = reader.read(table, "measurement", None, |given| given.text("light", values::measurement));
    let outbox_bytes_max = reader.read(table, "outbox_bytes_max", None, |given| given.bytes(OUTBOX_BYTES_MIN, 1 << 50));
    let outbox_full = reader.read(table, "outbox_full", None, |given| given.choice(&FULL_POLICIES));
    let (restart, restart_limits, restart_keys) = restart(reader, table);
    if run.as_ref().is_some_and(|run| run.value == RunAs::InProcess)
        && let Some((name, origin)) = restart_keys.iter().find_map(|(name, origin)| Some((name, origin.clone()?)))
    {
        let message = "is for run = \"child\": what runs in this process is always started again";
        reader.mistake(&origin, &table.key(name), message);
    }
    if let Some(interval) = interval.as_ref().filter(|_| reader.has(table, "system"))
        && let Err(wrong) = values::look_every(interval.value)
    {
        reader.mistake(&interval.origin, &table.key("interval"), wrong);
    }
    let mut csv_keys = vec![("time_column", origin(&time_column)), ("time_format", origin(&time_format))];
    csv_keys.push(("decimal", origin(&decimal)));
    for (is_for, keys) in [
        (["csv"].as_slice(), csv_keys.as_slice()),
        (&["exec"], &exec_keys),
        (&["system"], &system_keys),
        (&["csv", "system"], &[("loop", origin(&looping))]),
        (&["csv", "exec"], &[("measurement", origin(&measurement)), ("delimiter", origin(&delimiter))]),
    ] {
        for_source(reader, table, is_for, keys);
    }
    let mut keys = vec![
        ("interval", origin(&interval)),
        ("heartbeat", origin(heartbeat)),
        ("run", origin(&run)),
        ("limit", origin(&limit)),
        ("measurement", origin(&measurement)),
        ("outbox_bytes_max", origin(&outbox_bytes_max)),
        ("outbox_full", origin(&outbox_full)),
    ];
    keys.extend(restart_keys);
    keys.extend(csv_keys);
    keys.extend(exec_keys);
    keys.extend(system_keys);
    keys.push(("loop", origin(&looping)));
    let of_csv = |path| CsvConfig {
        time_column: time_column.or_default(TimeColumn::Auto),
        time_format: time_format.value().and_then(|form| form.0),
        delimiter: delimiter.value().and_then(|delimiter| u8::try_from(delimiter).ok()),
        decimal: decimal.value(),
        ..CsvConfig::new(path)
    };
    let source = exec
        .map(|exec| SourceConfig::Exec(Box::new(exec)))
        .or_else(|| csv.map(|csv| SourceConfig::Csv(of_csv(csv.value))))
        .or_else(|| system.map(SourceConfig::System));
    let managed = source.map(|source| {
        let usual = Feed::new(source);
        let feed = Feed {
            measurement: measurement.value(),
            interval: interval.or_default(usual.interval),
            looping: looping.or_default(usual.looping),
            limit: limit.value(),
            outbox_bytes_max: outbox_bytes_max.or_default(usual.outbox_bytes_max),
            full_policy: outbox_full.or_default(usual.full_policy),
            source: usual.source,
        };
        let heartbeat = heartbeat.as_ref().map(|heartbeat| heartbeat.value);
        Managed { feed, heartbeat, run: run.or_default(RunAs::Child), restart, restart_limits }
    });
    (managed, keys)
}

/// This host's metrics, and the keys that only they have.
fn system<'a>(reader: &mut Reader<'a>, table: &Scope<'a>) -> (Option<MetricSet>, FeedKeys) {
    let system = reader.read(table, "system", None, |given| match given.boolean()? {
        true => Ok(()),
        false => Err("can only be true: leave it out where this host's metrics are not wanted".to_owned()),
    });
    let mut metrics = MetricSet::default();
    // read together, so that a wrong name is one mistake and not also an empty list
    let names = reader.list(table, "metrics", |given| given.text("cpu", |name| Ok(name.to_owned())));
    if let Some(names) = names {
        let named = MetricSet::parse(names.iter().map(String::as_str)).map_err(|error| error.to_string());
        match named.and_then(values::some_metrics) {
            Ok(named) => metrics = named,
            Err(wrong) => reader.mistake_at(table, "metrics", wrong),
        }
    }
    let at = reader.origin_of(table, "metrics");
    (system.map(|_| metrics), vec![("metrics", at)])
}

/// Names the keys that are not for what this publisher reads.
fn for_source<'a>(reader: &mut Reader<'a>, table: &Scope<'a>, is_for: &[&str], keys: &[(&str, Option<Origin>)]) {
    let reads: Vec<_> = SOURCES.into_iter().filter(|source| reader.has(table, source)).collect();
    // two sources are a mistake of their own
    let [reads] = reads.as_slice() else { return };
    if is_for.contains(reads) {
        return;
    }
    let is_for: Vec<_> = is_for.iter().map(|source| format!("'{source}'")).collect();
    for (name, origin) in keys {
        if let Some(origin) = origin {
            let message = format!("is for a publisher with {}, this one has '{reads}'", is_for.join(" or "));
            reader.mistake(origin, &table.key(name), message);
        }
    }
}

fn restart<'a>(reader: &mut Reader<'a>, table: &Scope<'a>) -> (RestartPolicy, RestartLimits, FeedKeys) {
    let default = RestartLimits::default();
    let policy = reader.read(table, "restart", None, |given| given.choice(&RESTART));
    let restarts_max = reader.read(table, "restarts_max", None, |given| given.number(0, RESTARTS_LIMIT));
    let period = reader.read(table, "restart_period", None, positive_duration);
    let min = reader.read(table, "restart_backoff_min", None, positive_duration);
    let max = reader.read(table, "restart_backoff_max", None, positive_duration);
    let keys = vec![
        ("restart", origin(&policy)),
        ("restarts_max", origin(&restarts_max)),
        ("restart_period", origin(&period)),
        ("restart_backoff_min", origin(&min)),
        ("restart_backoff_max", origin(&max)),
    ];
    let at = max.as_ref().or(min.as_ref()).map(|wait| wait.origin.clone());
    let limits = RestartLimits {
        restarts_max: restarts_max
            .map_or(default.restarts_max, |most| usize::try_from(most.value).unwrap_or(usize::MAX)),
        period: period.or_default(default.period),
        backoff_min: min.or_default(default.backoff_min),
        backoff_max: max.or_default(default.backoff_max),
    };
    if let Some(at) = at.filter(|_| limits.backoff_min > limits.backoff_max) {
        let message = "the shortest wait (restart_backoff_min) is longer than the longest one (restart_backoff_max)";
        reader.mistake(&at, &table.key("restart_backoff_max"), message);
    }
    (policy.or_default(RestartPolicy::default()), limits, keys)
}
