//! From layers to [`Settings`]: which keys there are, what each may be, and what must fit together.

use tracing::level_filters::LevelFilter;

use super::Overrides;
use super::deadlines::deadline_keys;
use super::foreign::foreign;
use super::kinds::{Settled as _, duration, named, positive_duration};
use super::maintenance::maintenance;
use super::mqtt::mqtt;
use super::notify::{mail, monitor, notify};
use super::publishers::publishers;
use super::reader::Reader;
use super::rules::rules;
use super::servers::{etcd, influx, kafka};
use super::settings::Settings;
use super::web::web;
use heartwatch_domain::deadline::{DeadlineOverride, DeadlineRules};
use heartwatch_domain::flapping::FlappingLimits;
use heartwatch_domain::time::describe_duration;
use heartwatch_formats::values;
use heartwatch_store::journal::BufferLimits;

/// Most changes within a period that are told one by one.
const FLAPPING_CHANGES_LIMIT: u64 = 1_000;
const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// All settings; wrong ones stand at their default, and the reader knows them.
pub(super) fn settings(reader: &mut Reader<'_>, flags: &Overrides, notes: &mut Vec<String>) -> Settings {
    let default = Settings::default();
    let root = reader.root();
    let data_dir = reader.path(&root, "data_dir", named("--data-dir", &flags.data_dir));
    let grace = reader.read(&root, "grace", None, duration).or_default(default.grace);
    let log = reader.table("log");
    let log_level = reader.read(&log, "level", None, |given| given.choice(&LEVELS)).or_default(default.log_level);
    let mqtt = mqtt(reader, flags, notes);
    let (influx, writer) = influx(reader, flags, notes);
    let kafka = kafka(reader, flags);
    let etcd = etcd(reader, flags, notes);
    let buffer = buffer(reader, default.buffer);
    let (deadlines, flapping) = watch(reader, flags);
    let web = web(reader, flags, default.web);
    let maintenance = maintenance(reader);
    let publishers = publishers(reader, &deadlines);
    let foreign = foreign(reader, &mqtt, deadlines.default, &publishers, notes);
    let monitor = monitor(reader, &publishers);
    let rules = rules(reader);
    for rule in rules.iter().filter(|rule| rule.window > buffer.history) {
        let (window, history) = (describe_duration(rule.window), describe_duration(buffer.history));
        notes.push(format!(
            "the rule {} looks back over {window}, and rows are kept for {history} after they are delivered \
             (buffer.history): it may miss some",
            rule.name
        ));
    }
    let mail = mail(reader, notes);
    let notify = notify(reader, mail.as_ref());
    Settings {
        data_dir: data_dir.or_default(default.data_dir),
        grace,
        log_level,
        mqtt,
        influx,
        writer,
        kafka,
        etcd,
        buffer,
        deadlines,
        flapping,
        web,
        maintenance,
        publishers,
        foreign,
        rules,
        monitor,
        mail,
        notify,
    }
}

fn buffer(reader: &mut Reader<'_>, default: BufferLimits) -> BufferLimits {
    let table = reader.table("buffer");
    BufferLimits {
        bytes_max: reader
            .read(&table, "bytes_max", None, |given| given.bytes(1 << 20, 1 << 50))
            .or_default(default.bytes_max),
        history: reader.read(&table, "history", None, duration).or_default(default.history),
    }
}

fn watch(reader: &mut Reader<'_>, flags: &Overrides) -> (DeadlineRules, FlappingLimits) {
    let (default, usual) = (DeadlineRules::default(), FlappingLimits::default());
    let table = reader.table("watch");
    let deadline = reader.read(&table, "deadline", named("--deadline", &flags.deadline), positive_duration);
    let general = deadline.or_default(default.default);
    let grace = reader.read(&table, "grace", None, duration).or_default(default.grace);
    let mut overrides = Vec::new();
    for entry in reader.tables(&table, "override") {
        let publisher =
            reader.read(&entry, "publisher", None, |given| given.text("light-*", values::id_pattern)).value();
        let keys = deadline_keys(reader, &entry, general);
        if !reader.has(&entry, "publisher") {
            reader.missing(
                &entry,
                "publisher",
                "is missing: whose deadline is it? Write an id or a pattern like 'light-*'",
            );
        }
        if !keys.given {
            let message = "is missing: write a duration like 10s, or deadline_intervals, adaptive or grace";
            reader.missing(&entry, "deadline", message);
        }
        let (kind, grace) = (keys.kind, keys.grace);
        overrides.extend(publisher.map(|publishers| DeadlineOverride { publishers, kind, grace }));
    }
    let changes_max =
        reader.read(&table, "flapping_changes_max", None, |given| given.number(0, FLAPPING_CHANGES_LIMIT));
    let flapping = FlappingLimits {
        changes_max: changes_max
            .map_or(usual.changes_max, |changes| u32::try_from(changes.value).unwrap_or(usual.changes_max)),
        period: reader.read(&table, "flapping_period", None, positive_duration).or_default(usual.period),
        steady: reader.read(&table, "flapping_steady", None, positive_duration).or_default(usual.steady),
    };
    (DeadlineRules { default: general, grace, overrides }, flapping)
}
