//! One publisher of a small fleet, and what is true of it.

use std::collections::VecDeque;

use fastrand::Rng;

use super::{HOSTS, INTERVAL, KNOWN_AFTER, wall};
use crate::beat::{Beat, BeatKind, Heartbeat, Way};
use crate::process::ProcessIdentity;
use crate::publisher::{HostName, Incarnation, PublisherId};
use crate::simulation::name;
use crate::time::Monotonic;
use crate::verdict::Verdict;

/// One publisher.
pub(super) struct Member {
    pub id: PublisherId,
    pub host: usize,
    pub way: Way,
    pub life: u32,
    pub lives: bool,
    pub cursor: u64,
    pub sends_at: Monotonic,
    /// Nothing of it arrives until then.
    pub muted_until: Option<Monotonic>,
    /// It falls silent and comes back, until then.
    pub flaps_until: Option<Monotonic>,
    /// Somebody else speaks in its name until then.
    pub rival_until: Option<Monotonic>,
    pub last_read: Monotonic,
    /// How often it was heard in this life.
    pub signs: u64,
    /// Since when it is dead or out of reach, or well, as far as it alone goes.
    pub changed_at: Monotonic,
    /// The last verdict that was told of it.
    pub told: Option<Verdict>,
    /// When something was told of it within the last period of flapping.
    pub told_at: VecDeque<Monotonic>,
    /// Said once for each trouble of its.
    pub blamed: bool,
}

impl Member {
    pub(super) fn new(number: usize, rng: &mut Rng) -> Self {
        let (host, way) = match rng.u32(0..10) {
            0..6 => (0, Way::Mqtt),
            6 | 7 => (1, Way::Mqtt),
            8 => (2, Way::Mqtt),
            _ => (2, Way::Kafka),
        };
        Self {
            id: name(&format!("p{number}"), PublisherId::parse),
            host,
            way,
            life: 1,
            lives: true,
            cursor: 0,
            sends_at: Monotonic::START + INTERVAL.mul_f64(rng.f64()),
            muted_until: None,
            flaps_until: None,
            rival_until: None,
            last_read: Monotonic::START,
            signs: 0,
            changed_at: Monotonic::START,
            told: None,
            told_at: VecDeque::new(),
            blamed: false,
        }
    }

    pub(super) const fn is_untroubled(&self) -> bool {
        self.lives && self.muted_until.is_none() && self.flaps_until.is_none() && self.rival_until.is_none()
    }

    /// Whether it fell silent with the others, and for no reason of its own.
    pub(super) fn is_crowded(&self, since: Monotonic) -> bool {
        self.is_untroubled() && self.way == Way::Mqtt && self.changed_at + KNOWN_AFTER < since
    }

    pub(super) const fn is_changed(&mut self, now: Monotonic) {
        (self.changed_at, self.blamed) = (now, false);
    }

    pub(super) fn host(&self) -> HostName {
        name(HOSTS.get(self.host).copied().unwrap_or_default(), HostName::parse)
    }

    pub(super) fn beat(&self, life: u32, now: Monotonic) -> Beat {
        let boot = HOSTS.get(self.host).copied().unwrap_or_default();
        let process = ProcessIdentity { pid: 812, start_ticks: u64::from(life), boot_id: boot.into() };
        let heartbeat = Heartbeat {
            process: Some(process),
            sequence: self.cursor,
            cursor: self.cursor,
            idle: false,
            ..Heartbeat::idle(Incarnation(u64::from(life)), INTERVAL)
        };
        let kind = BeatKind::Heartbeat(Box::new(heartbeat));
        Beat { publisher: self.id.clone(), host: self.host(), at: now, wall: wall(now), way: self.way, kind }
    }

    /// What somebody else says in its name, as a later life.
    pub(super) fn rival_beat(&self, now: Monotonic) -> Option<Beat> {
        self.rival_until.map(|_| self.beat(1_000_000, now))
    }
}
