//! collectd's `mqtt` plugin: `<prefix>/<host>/<plugin>[-<instance>]/<type>[-<instance>]`, payload
//! `epoch:value[:value…]` and a NUL (collectd 5.12, `src/mqtt.c` and `src/utils/format_*`).
//!
//! Rows are those of InfluxDB's own collectd listener (`parse-multivalue-plugin = "split"`), so that the same
//! query reads both: measurement `<plugin>_<value's name>`, tags `instance`, `type`, `type_instance`, field `value`.

use super::payload::{plain, read_time};
use super::topic::Captures;
use super::{Found, Row};
use crate::csv_row::CellType;
use crate::source_time::TimeFormat;

/// The names of the values of the usual types that have several: what `types.db` says, which does not
/// travel with the message.
const VALUE_NAMES: [(&str, &[&str]); 17] = [
    ("load", &["shortterm", "midterm", "longterm"]),
    ("if_octets", &["rx", "tx"]),
    ("if_packets", &["rx", "tx"]),
    ("if_errors", &["rx", "tx"]),
    ("if_dropped", &["rx", "tx"]),
    ("disk_octets", &["read", "write"]),
    ("disk_ops", &["read", "write"]),
    ("disk_merged", &["read", "write"]),
    ("disk_time", &["read", "write"]),
    ("disk_io_time", &["io_time", "weighted_io_time"]),
    ("disk_latency", &["read", "write"]),
    ("ps_count", &["processes", "threads"]),
    ("ps_cputime", &["user", "syst"]),
    ("ps_disk_octets", &["read", "write"]),
    ("ps_disk_ops", &["read", "write"]),
    ("ps_pagefaults", &["minflt", "majflt"]),
    ("io_octets", &["rx", "tx"]),
];

pub(super) fn read(payload: &[u8], levels: &Captures<'_>) -> Found {
    let mut found = Found::default();
    let Some(text) = plain(payload, &mut found) else { return found };
    let (plugin, instance) = split(levels.get("plugin").unwrap_or_default());
    let (kind, type_instance) = split(levels.get("type").unwrap_or_default());
    let mut parts = text.split(':');
    let time = parts.next().filter(|epoch| *epoch != "N");
    let time = time.map(|epoch| (epoch, read_time(epoch, Some(TimeFormat::UnixS))));
    if let Some((epoch, None)) = time {
        let epoch: String = epoch.chars().take(40).collect();
        found.wrong(|| format!("'{epoch}' is no epoch: collectd writes epoch:value[:value…]"));
        return found;
    }
    let values: Vec<_> = parts.collect();
    if values.is_empty() {
        found.wrong(|| "has no value: collectd writes epoch:value[:value…]".to_owned());
    }
    let names = VALUE_NAMES.iter().find(|(known, names)| *known == kind && names.len() == values.len());
    let tags: Vec<_> = [("instance", instance), ("type", kind), ("type_instance", type_instance)]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    for (index, value) in values.iter().enumerate() {
        // a rate needs two samples: before the second collectd says nan, and nothing is wrong
        if matches!(*value, "nan" | "-nan" | "U") {
            continue;
        }
        let Some(value) = CellType::Float.read(value) else {
            let value: String = value.chars().take(40).collect();
            found.wrong(|| format!("value {} is '{value}', not a number", index + 1));
            continue;
        };
        let name = match names {
            Some((_, names)) => names.get(index).map_or("value", |name| name).to_owned(),
            None if values.len() == 1 => "value".to_owned(),
            None => format!("value_{}", index + 1),
        };
        found.rows.push(Row {
            measurement: Some(format!("{plugin}_{name}")),
            tags: tags.clone(),
            fields: vec![("value".to_owned(), value)],
            time: time.and_then(|(_, time)| time),
        });
    }
    found
}

/// A name and its instance.
fn split(level: &str) -> (&str, &str) {
    level.split_once('-').unwrap_or((level, ""))
}
