//! What differs between two configurations, by the part that it touches, for a reload.

use std::fmt;

use super::settings::Settings;
use heartwatch_domain::publisher::PublisherId;

/// One part whose settings changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// `data_dir`: the journal is elsewhere.
    DataDir,
    /// `grace`.
    Grace,
    /// `[log]`.
    Log,
    /// `[mqtt]`, what the broker or the connection to it is made of.
    Mqtt,
    /// `[influx]`.
    Influx,
    /// `[kafka]`.
    Kafka,
    /// `[etcd]`.
    Etcd,
    /// `[buffer]`.
    Buffer,
    /// `[watch]`: deadlines in general.
    Watch,
    /// `[web]`.
    Web,
    /// `[monitor]`.
    Monitor,
    /// `[[foreign]]`: which devices are listened to, and how they are read and watched.
    Foreign,
    /// `[[rule]]`: alarms on readings.
    Rules,
    /// `[mail]` and `[[notify]]`: who is told, and how.
    Notify,
    /// A new `[[publisher]]`.
    PublisherAdded(PublisherId),
    /// A `[[publisher]]` that is no longer there.
    PublisherRemoved(PublisherId),
    /// A `[[publisher]]` whose start, source or pace changed: it must be started again.
    PublisherChanged(PublisherId),
    /// Only how a `[[publisher]]` is watched changed (`deadline`, `expected`): it goes on running.
    PublisherWatchChanged(PublisherId),
}

impl fmt::Display for Changed {
    /// For a log line: `[watch]`, `publisher light-1 (added)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataDir => f.write_str("data_dir"),
            Self::Grace => f.write_str("grace"),
            Self::Log => f.write_str("[log]"),
            Self::Mqtt => f.write_str("[mqtt]"),
            Self::Influx => f.write_str("[influx]"),
            Self::Kafka => f.write_str("[kafka]"),
            Self::Etcd => f.write_str("[etcd]"),
            Self::Buffer => f.write_str("[buffer]"),
            Self::Watch => f.write_str("[watch]"),
            Self::Web => f.write_str("[web]"),
            Self::Monitor => f.write_str("[monitor]"),
            Self::Foreign => f.write_str("[[foreign]]"),
            Self::Rules => f.write_str("[[rule]]"),
            Self::Notify => f.write_str("[[notify]]"),
            Self::PublisherAdded(id) => write!(f, "publisher {id} (added)"),
            Self::PublisherRemoved(id) => write!(f, "publisher {id} (removed)"),
            Self::PublisherChanged(id) => write!(f, "publisher {id}"),
            Self::PublisherWatchChanged(id) => write!(f, "publisher {id} (how it is watched)"),
        }
    }
}

/// What changed from `old` to `new`; empty when they are equal.
#[must_use]
pub fn changes(old: &Settings, new: &Settings) -> Vec<Changed> {
    let mut changed = Vec::new();
    let mut part = |differs: bool, what: Changed| {
        if differs {
            changed.push(what);
        }
    };
    // taken apart so that a new part cannot be forgotten here
    let Settings {
        data_dir,
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
        maintenance,
        web,
        publishers,
        foreign,
        rules,
        monitor,
        mail: _,
        notify: _,
    } = new;
    part(old.data_dir != *data_dir, Changed::DataDir);
    part(old.grace != *grace, Changed::Grace);
    part(old.log_level != *log_level, Changed::Log);
    part(old.mqtt != *mqtt, Changed::Mqtt);
    part(old.influx != *influx || old.writer != *writer, Changed::Influx);
    part(old.kafka != *kafka, Changed::Kafka);
    part(old.etcd != *etcd, Changed::Etcd);
    part(old.buffer != *buffer, Changed::Buffer);
    let watched_as_before = old.deadlines == *deadlines && old.flapping == *flapping;
    part(!watched_as_before || old.maintenance != *maintenance, Changed::Watch);
    part(old.web != *web, Changed::Web);
    part(old.monitor != *monitor, Changed::Monitor);
    part(old.foreign != *foreign, Changed::Foreign);
    part(old.rules != *rules, Changed::Rules);
    part(!old.notifies_as(new), Changed::Notify);

    for before in &old.publishers {
        let Some(after) = publishers.iter().find(|publisher| publisher.id == before.id) else {
            part(true, Changed::PublisherRemoved(before.id.clone()));
            continue;
        };
        // a shorter deadline asks for heartbeats that a running publisher does not send
        let too_slow = after.managed.is_some() && new.heartbeat_of(after) < old.heartbeat_of(before);
        if before.managed != after.managed || too_slow {
            part(true, Changed::PublisherChanged(before.id.clone()));
        } else {
            part(before != after, Changed::PublisherWatchChanged(before.id.clone()));
        }
    }
    for after in publishers {
        let is_new = old.publishers.iter().all(|publisher| publisher.id != after.id);
        part(is_new, Changed::PublisherAdded(after.id.clone()));
    }
    changed
}
