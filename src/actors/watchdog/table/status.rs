//! What the table answers: how everybody stands, which process there is to look at, whether the monitor trusts its ears.

use std::borrow::Cow;

use super::*;
use crate::domain::judge::standing_words;

impl Table {
    /// Whether the monitor trusts its own ears.
    #[must_use]
    pub fn observer_status(&self) -> ObserverStatus {
        if let Some((_, deaf)) = self.observers.deaf() {
            return ObserverStatus { state: ObserverState::Suspect, reason: deaf.reason().to_owned() };
        }
        if let Some(doubt) = self.crowd.doubt() {
            return ObserverStatus { state: ObserverState::Suspect, reason: doubt.to_owned() };
        }
        match self.paused_for {
            Some((gap, at)) if self.clock.monotonic().since(at) < self.config.rules.default => ObserverStatus {
                state: ObserverState::Suspect,
                reason: format!("the monitor stood still for {}", describe_duration(gap)),
            },
            _ => ObserverStatus::default(),
        }
    }

    /// Everybody, ordered by id.
    #[must_use]
    pub fn status(&self) -> Vec<PublisherStatus> {
        let mut status: Vec<_> = self.entries.iter().map(|entry| self.status_of_entry(entry)).collect();
        status.sort_by(|a, b| a.id.cmp(&b.id));
        status
    }

    /// One publisher.
    #[must_use]
    pub fn status_of(&self, id: &PublisherId) -> Option<PublisherStatus> {
        let index = self.by_id.find(id, &self.entries)?;
        self.entries.get(index as usize).map(|entry| self.status_of_entry(entry))
    }

    /// The process of a publisher that the probe can look at; in words why there is none; none at all
    /// when the publisher is not known.
    #[must_use]
    pub fn process_to_probe(&self, id: &PublisherId) -> Option<Result<(ProcessIdentity, Option<PublisherId>), String>> {
        let entry = self.entries.get(self.by_id.find(id, &self.entries)? as usize)?;
        if let Some(process) = entry.watch.process_here(&self.config.home) {
            return Some(Ok((process.clone(), None)));
        }
        let process = entry.watch.process();
        if let (Some(process), Some(what)) = (process, entry.watch.not_its_own(&self.config.home)) {
            return Some(Err(format!("PID {} is {what}, which is no evidence about it", process.pid)));
        }
        let agent = process.and_then(|process| self.agents.of(&process.boot_id, id));
        if let (Some(process), Some(agent)) = (process, agent) {
            return Some(Ok((process.clone(), Some(agent.clone()))));
        }
        Some(Err(match process {
            None => "it has not told which process it is: there is nothing to look at".to_owned(),
            Some(process) => {
                format!("PID {} is on {}, which can't be asked from here", process.pid, entry.watch.host())
            }
        }))
    }

    fn status_of_entry(&self, entry: &Entry) -> PublisherStatus {
        let wall = self.clock.wall();
        let maintenance = self.calm.maintenance.covers(&entry.id, entry.watch.host(), wall);
        let status = status_of(entry, wall);
        let last_seen = status.last_seen.or_else(|| self.restarts.heard_before(&entry.id));
        PublisherStatus { maintenance, last_seen, ..status }
    }
}

fn status_of(entry: &Entry, now: Timestamp) -> PublisherStatus {
    let change = entry.change();
    PublisherStatus {
        id: entry.id.clone(),
        host: entry.watch.host().clone(),
        pid: entry.watch.process().map(|process| process.pid),
        verdict: entry.watch.verdict(),
        since: entry.since,
        last_seen: entry.watch.last_heard().map(|(_, wall)| wall),
        deadline: entry.watch.deadline(),
        deadline_kind: entry.watch.deadline_kind().as_str(),
        deadline_basis: entry.watch.deadline_basis(),
        interval: entry.watch.interval(),
        summary: change.as_deref().map(|change| standing_words(change, now)).unwrap_or_default(),
        change: change.map(Cow::into_owned),
        maintenance: None,
        flapping: entry.flaps(),
        because: entry.because().cloned(),
    }
}
