//! What has changed since the last look, small enough to be sent every second.

use serde::Serialize;

use super::snapshot::Snapshot;
use heartwatch_domain::ledger::Account;
use heartwatch_domain::ledger::SinkStatus;
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::roster::ObserverStatus;
use heartwatch_domain::time::Timestamp;
use heartwatch_formats::api::PublisherView;

/// One `pulse` event of `/api/stream`.
#[derive(Debug, Serialize)]
pub(super) struct Pulse<'a> {
    /// The monitor's clock, in milliseconds since 1970.
    at: i64,
    /// When the monitor started: another one means that it was restarted.
    started_at: i64,
    /// When the next pulse comes, in milliseconds.
    next_ms: u64,
    /// Whether `publishers` holds everybody.
    full: bool,
    observer: &'a ObserverStatus,
    sinks: &'a [SinkStatus],
    messages: u64,
    malformed: u64,
    oversized: u64,
    /// How many rules there are, and how many alarms of them are raised.
    rules: usize,
    alarms: usize,
    totals: Account,
    /// Publishers of which more has changed than what `seen` says.
    publishers: Vec<&'a PublisherView>,
    /// Id, last seen in milliseconds since 1970, and the account of each publisher of which only these changed.
    seen: Vec<(&'a PublisherId, Option<i64>, Numbers)>,
    /// Publishers that are no longer watched.
    gone: Vec<&'a PublisherId>,
}

/// An account as a list: produced, received, stored, buffered, duplicates, missing, lost, expired, conflicts.
type Numbers = [u64; 9];

const fn numbers(account: &Account) -> Numbers {
    let Account { produced, received, stored, buffered, duplicates, missing, lost, expired, conflicts } = *account;
    [produced, received, stored, buffered, duplicates, missing, lost, expired, conflicts]
}

const fn millis(time: Timestamp) -> i64 {
    time.as_nanos().div_euclid(1_000_000)
}

/// Whether anything but the last sign of life and the account differs.
fn facts_differ(before: &PublisherView, now: &PublisherView) -> bool {
    if before.verdict != now.verdict || before.since != now.since || before.ledger.lost != now.ledger.lost {
        return true;
    }
    let moved = PublisherView { last_seen: now.last_seen, ledger: now.ledger, ..before.clone() };
    moved != *now
}

impl<'a> Pulse<'a> {
    /// Everything, or what differs from `before`. Both are ordered by id.
    pub(super) fn new(before: Option<&'a Snapshot>, now: &'a Snapshot, started_at: Timestamp, next_ms: u64) -> Self {
        let status = &now.status;
        let mut pulse = Self {
            at: millis(now.at),
            started_at: millis(started_at),
            next_ms,
            full: before.is_none(),
            observer: &status.observer,
            sinks: &status.sinks,
            messages: status.subscriber.messages,
            malformed: status.subscriber.malformed,
            oversized: status.subscriber.oversized,
            rules: status.alarms.rules.len(),
            alarms: status.alarms.rules.iter().map(|rule| rule.raised).sum(),
            totals: status.publishers.iter().fold(Account::default(), |sum, publisher| sum.plus(publisher.ledger)),
            publishers: Vec::new(),
            seen: Vec::new(),
            gone: Vec::new(),
        };
        let mut old = before.map_or(&[][..], |before| &before.status.publishers).iter().peekable();
        for publisher in &status.publishers {
            while let Some(gone) = old.next_if(|old| old.id < publisher.id) {
                pulse.gone.push(&gone.id);
            }
            match old.next_if(|old| old.id == publisher.id) {
                Some(before) if facts_differ(before, publisher) => pulse.publishers.push(publisher),
                Some(before) if before.last_seen != publisher.last_seen || before.ledger != publisher.ledger => {
                    pulse.seen.push((&publisher.id, publisher.last_seen.map(millis), numbers(&publisher.ledger)));
                }
                Some(_) => {}
                None => pulse.publishers.push(publisher),
            }
        }
        pulse.gone.extend(old.map(|gone| &gone.id));
        pulse
    }
}
