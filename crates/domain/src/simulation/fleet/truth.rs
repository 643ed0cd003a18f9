//! What is true of a small fleet, and whether what its monitor says is.

use std::time::Duration;

use super::member::Member;
use super::{DEADLINE, FLAPPING, Fleet, HOSTS, INTERVAL, KNOWN_AFTER, NOTIFICATIONS_MAX, Trouble, wall};
use crate::beat::Way;
use crate::publisher::PublisherId;
use crate::time::{Monotonic, describe_duration};
use crate::verdict::{Change, Flaps, Trigger, Verdict};
use crate::watch::Watch;

impl Fleet {
    /// For how long a member has been silent, as far as the monitor could hear.
    fn silence(&self, member: &Member) -> Duration {
        let heard_on = self.roster.watch_of(&member.id).and_then(Watch::heard_on);
        self.now.since(self.ears.of(heard_on).counts_from(member.last_read))
    }

    fn is_covered(&self, member: &Member) -> bool {
        let (now, host) = (wall(self.now), HOSTS.get(member.host).copied().unwrap_or_default());
        let host = PublisherId::parse(&format!("host:{host}")).ok();
        self.windows.iter().any(|window| {
            window.to > now
                && (window.publisher.matches(&member.id)
                    || host.as_ref().is_some_and(|host| window.publisher.matches(host)))
        })
    }

    /// Whether everybody was told that its whole host is silent, now or until a moment ago.
    fn host_speaks_for(&self, member: &Member) -> bool {
        let host = HOSTS.get(member.host).and_then(|host| PublisherId::parse(&format!("host:{host}")).ok());
        let change = host.and_then(|host| self.journal.get(&host));
        change.is_some_and(|change| change.to.is_bad() || wall(self.now) < change.decided_at + DEADLINE * 2)
    }

    pub(super) fn would_be_a_crowd(&self) -> bool {
        let is_well = |member: &&Member| {
            let verdict = self.roster.watch_of(&member.id).map(Watch::verdict);
            member.lives && member.is_untroubled() && matches!(verdict, Some(Verdict::Alive | Verdict::Late))
        };
        let well: Vec<_> = self.members.iter().filter(is_well).collect();
        let silent: Vec<_> = well.iter().filter(|member| member.way == Way::Mqtt).collect();
        let here = silent.iter().filter(|member| member.host == 0).count();
        // Some may die or be muted before it is counted.
        silent.len() >= 6 && here >= 2 && silent.len() * 2 > self.members.len() + 2
    }

    /// Why a verdict is wrong; none when it is not.
    fn objection(&self, change: &Change) -> Option<&'static str> {
        let member = self.members.iter().find(|member| member.id == change.publisher)?;
        let of_this_life = change.process.as_ref().is_none_or(|process| process.start_ticks == u64::from(member.life));
        // What stands since before is said again at the end of what had suppressed it: it may be that nothing can be heard just now.
        let is_again = self.journal.get(&change.publisher).is_some_and(|last| last.to == change.to);
        let silence = if is_again { self.now.since(member.last_read) } else { self.silence(member) };
        // The first sign of a new life is not believed: only its second one is.
        let is_new = member.signs < 2;
        let in_time = member.lives && !is_new && silence < DEADLINE;
        // That it has ceased is seen after a deadline, with the next sign of the publisher itself.
        let rival_is_over = member.rival_until.is_none() && member.last_read > member.changed_at + DEADLINE + INTERVAL;
        match change.to {
            Verdict::Alive | Verdict::Late | Verdict::Unknown | Verdict::Ended => None,
            Verdict::Dead => (member.lives && of_this_life).then_some("it lives"),
            Verdict::Conflict => rival_is_over.then_some("nobody else speaks"),
            _ if member.rival_until.is_some() => None,
            _ if in_time => Some("it was heard in time"),
            _ => match self.trouble {
                Some((Trouble::SwitchGone, since, _))
                    if self.is_crowd && member.is_crowded(since) && self.now.since(since) < DEADLINE * 2 =>
                {
                    Some("everybody fell silent at once")
                }
                _ => None,
            },
        }
    }

    // ---- what is said

    pub(super) fn told(&mut self, change: &Change) {
        if change.is_of_host() {
            let is_gone = |host: usize| HOSTS.get(host).is_some_and(|host| change.host.as_str() == *host);
            if matches!(self.trouble, Some((Trouble::HostGone(host), ..)) if is_gone(host)) {
                self.host_told += u32::from(change.to.is_bad());
            }
            return;
        }
        let objection = self.objection(change);
        if let Some(why) = objection {
            self.result.false_verdicts += 1;
            self.result.first_false.get_or_insert_with(|| at_time(self.now, change, why));
        }
        let Some(who) = self.members.iter().position(|member| member.id == change.publisher) else { return };
        if !change.is_told() {
            return;
        }
        let is_covered = self.members.get(who).is_some_and(|member| self.is_covered(member));
        let host_is_gone = self.is_whole_host
            && matches!((self.trouble, self.members.get(who)), (Some((Trouble::HostGone(host), ..)), Some(member)) if member.host == host);
        let before_it = self.journal.get(&change.publisher).map(|last| last.to);
        let now = self.now;
        let Some(member) = self.members.get_mut(who) else { return };
        let before = member.told.replace(change.to);
        let counts = change.to.is_bad() || before.is_some_and(Verdict::is_bad);
        if !counts {
            return;
        }
        self.result.notifications += 1;
        let wrong = match change.to {
            _ if is_covered => Some("it is in maintenance"),
            Verdict::Unreachable if host_is_gone && member.is_untroubled() => Some("its whole host is gone"),
            _ => objection,
        };
        member.told_at.push_back(now);
        member.told_at.retain(|at| now.since(*at) < FLAPPING.period);
        // The end of a flap says once more what it was before; and what has come again may be told again.
        let is_again =
            matches!(change.trigger, Trigger::Steady | Trigger::MaintenanceEnd) || before_it == Some(change.to);
        let doubled =
            change.to.is_bad() && before == Some(change.to) && is_again && change.flapping != Some(Flaps::Ends);
        let floods = member.told_at.len() > NOTIFICATIONS_MAX;
        if let Some(why) = wrong {
            self.result.false_notifications += 1;
            self.result.first_false.get_or_insert_with(|| at_time(now, change, why));
        } else if doubled || floods {
            self.result.doubled_notifications += 1;
            self.result.first_false.get_or_insert_with(|| at_time(now, change, "it was told before"));
        }
    }

    /// Everybody who has been dead, out of reach or well for long enough has to be known and told as that.
    pub(super) fn audit(&mut self) {
        if self.trouble.is_some() || self.now.since(self.untroubled_since) < KNOWN_AFTER {
            return;
        }
        for who in 0..self.members.len() {
            let Some(member) = self.members.get(who) else { continue };
            let lasts = self.now.since(member.changed_at);
            let is_simple = member.flaps_until.is_none() && member.rival_until.is_none();
            if !is_simple || lasts < KNOWN_AFTER || member.blamed || self.host_speaks_for(member) {
                continue;
            }
            let Some(verdict) = self.roster.watch_of(&member.id).map(Watch::verdict) else {
                continue;
            };
            let is_bad = !member.lives || member.muted_until.is_some();
            let window_over = self.windows.iter().all(|window| window.to <= wall(self.now) || !self.is_covered(member));
            let is_told = member.told.is_some_and(Verdict::is_bad) == is_bad;
            // Until a flap has ended its last word is held back.
            let may_be_held = lasts < KNOWN_AFTER + FLAPPING.period + FLAPPING.steady;
            let words = |what: &str| {
                let hour = describe_duration(Duration::from_nanos(self.now.as_nanos()));
                format!("{} after {hour}: {verdict} for {}, {what}", member.id, describe_duration(lasts))
            };
            let missed = if verdict.is_bad() != is_bad {
                self.result.missed_deaths += 1;
                words(if is_bad { "and nobody heard it" } else { "and it was heard" })
            } else if !is_told && window_over && !self.is_covered(member) && !may_be_held {
                self.result.missed_notifications += 1;
                words("and people were told something else")
            } else {
                continue;
            };
            self.result.first_missed.get_or_insert(missed);
            if let Some(member) = self.members.get_mut(who) {
                member.blamed = true;
            }
        }
    }

    /// A host that was gone for long enough is told once, where there were two that could be missed.
    pub(super) fn audit_host(&mut self, host: usize, since: Monotonic) {
        if self.now.since(since) < DEADLINE * 2 {
            return;
        }
        let there = self.members.iter().filter(|member| member.host == host);
        let missed = there.clone().filter(|member| member.is_untroubled() && member.changed_at < since && member.lives);
        let is_clear = there.clone().all(|member| member.is_untroubled() && member.changed_at < since);
        match self.host_told {
            0 if missed.count() >= 2 && is_clear => {
                self.result.missed_notifications += 1;
                let host = HOSTS.get(host).copied().unwrap_or_default();
                self.result.first_missed.get_or_insert_with(|| format!("nobody was told that {host} is gone"));
            }
            0 | 1 => {}
            _ => self.result.doubled_notifications += 1,
        }
    }
}

fn at_time(now: Monotonic, change: &Change, why: &str) -> String {
    let hour = describe_duration(Duration::from_nanos(now.as_nanos()));
    format!("{} after {hour}: {}, but {why}", change.publisher, change.summary)
}
