//! Which agent can be asked after the processes of which boot.
//!
//! An agent is known by the boot that its own process belongs to, not by the name of its host: two machines may
//! have one name, and asking the wrong one would find a living process gone. A boot id with a PID namespace
//! is a container, which has an agent only when one runs inside it.

use std::collections::HashMap;

use crate::beat::{Beat, BeatKind};
use crate::boot::BootId;
use crate::publisher::PublisherId;

/// Most agents that are remembered; further ones are not asked.
const AGENTS_MAX: usize = 100_000;

/// The agents that have been heard and have not said goodbye.
#[derive(Debug, Clone, Default)]
pub struct Agents {
    /// The agents of a boot, the one that was heard last at the end.
    by_boot: HashMap<BootId, Vec<PublisherId>>,
    boots: HashMap<PublisherId, BootId>,
}

impl Agents {
    /// A sign of life: an agent's heartbeat says where it is, its goodbye that it is there no more.
    /// Another agent that speaks for the same boot, when this one is new there: one of them may not be what it says.
    pub fn hear(&mut self, beat: &Beat) -> Option<&PublisherId> {
        match &beat.kind {
            BeatKind::Heartbeat(heartbeat) if heartbeat.is_agent => {
                let process = heartbeat.process.as_ref()?;
                let is_new = self.boots.get(&beat.publisher) != Some(&process.boot_id);
                if is_new {
                    self.forget(&beat.publisher);
                    if self.boots.len() >= AGENTS_MAX {
                        return None;
                    }
                    self.boots.insert(beat.publisher.clone(), process.boot_id.clone());
                }
                let there = match self.by_boot.get_mut(&process.boot_id) {
                    Some(there) => there,
                    None => self.by_boot.entry(process.boot_id.clone()).or_default(),
                };
                // Of several the one that was heard last is asked first: another one may be gone.
                if there.last() != Some(&beat.publisher) {
                    there.retain(|agent| *agent != beat.publisher);
                    there.push(beat.publisher.clone());
                }
                if is_new {
                    return self.beside(&beat.publisher);
                }
            }
            BeatKind::Heartbeat(_) | BeatKind::Goodbye { .. } => self.forget(&beat.publisher),
            BeatKind::Readings { .. } | BeatKind::LastWill { .. } => {}
        }
        None
    }

    /// Another agent than this one that speaks for the same boot.
    #[must_use]
    pub fn beside(&self, agent: &PublisherId) -> Option<&PublisherId> {
        let there = self.by_boot.get(self.boots.get(agent)?)?;
        there.iter().rev().find(|other| *other != agent)
    }

    /// The agent to ask after the process of `publisher`, which is of this boot. One that is itself an agent is asked
    /// after only when there is no other: who is gone does not answer for itself.
    #[must_use]
    pub fn of(&self, boot_id: &BootId, publisher: &PublisherId) -> Option<&PublisherId> {
        let there = self.by_boot.get(boot_id)?;
        there.iter().rev().find(|agent| *agent != publisher).or_else(|| there.last())
    }

    fn forget(&mut self, agent: &PublisherId) {
        if self.boots.is_empty() {
            return;
        }
        let Some(boot) = self.boots.remove(agent) else { return };
        if let Some(there) = self.by_boot.get_mut(&boot) {
            there.retain(|other| other != agent);
            if there.is_empty() {
                self.by_boot.remove(&boot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::beat::{Heartbeat, Way};
    use crate::process::ProcessIdentity;
    use crate::publisher::{HostName, Incarnation};
    use crate::time::{Monotonic, Timestamp};

    fn beat(id: &str, boot: &str, is_agent: bool) -> Beat {
        let process = Some(ProcessIdentity { pid: 1, start_ticks: 1, boot_id: boot.into() });
        let incarnation = Incarnation(1);
        let interval = Duration::from_secs(1);
        let heartbeat = Heartbeat {
            incarnation,
            process,
            sequence: 0,
            cursor: 0,
            idle: true,
            interval,
            is_agent,
            outbox_stalled: None,
        };
        said(id, BeatKind::Heartbeat(Box::new(heartbeat)))
    }

    fn said(id: &str, kind: BeatKind) -> Beat {
        let publisher = PublisherId::parse(id).unwrap();
        let host = HostName::parse("h").unwrap();
        Beat { publisher, host, at: Monotonic::START, wall: Timestamp::from_nanos(0), way: Way::Mqtt, kind }
    }

    #[test]
    fn of_several_agents_the_one_heard_last_is_asked_and_nobody_after_himself_while_another_is_there() {
        let mut agents = Agents::default();
        let [light, a1, a2] = ["light", "a1", "a2"].map(|id| PublisherId::parse(id).unwrap());
        for (id, beside) in [("a1", None), ("a2", Some(&a1)), ("a1", None)] {
            assert_eq!(agents.hear(&beat(id, "b1", true)), beside, "said once, when it comes");
        }
        assert_eq!((agents.beside(&a1), agents.beside(&a2), agents.beside(&light)), (Some(&a2), Some(&a1), None));
        assert_eq!((agents.of(&"b1".into(), &light), agents.of(&"b1".into(), &a1)), (Some(&a1), Some(&a2)));
        agents.hear(&beat("a2", "b1", true));
        assert_eq!(
            (agents.of(&"b1".into(), &light), agents.of(&"b1".into(), &a2)),
            (Some(&a2), Some(&a1)),
            "a1 may be gone by now"
        );
        agents.hear(&said("a1", BeatKind::Goodbye { incarnation: Incarnation(1) }));
        assert_eq!(agents.of(&"b1".into(), &a2), Some(&a2), "there is no other");
    }

    #[test]
    fn an_agent_is_asked_after_its_own_boot_until_it_leaves_or_moves() {
        let mut agents = Agents::default();
        let light = PublisherId::parse("light").unwrap();
        let of = |agents: &Agents, boot: &str| agents.of(&boot.into(), &light).map(|agent| agent.as_str().to_owned());
        agents.hear(&beat("light", "b1", false));
        assert_eq!(of(&agents, "b1"), None, "a publisher is no agent");
        agents.hear(&beat("a1", "b1", true));
        agents.hear(&beat("a2", "b1", true));
        assert_eq!(of(&agents, "b1").as_deref(), Some("a2"));
        agents.hear(&said("a2", BeatKind::Goodbye { incarnation: Incarnation(1) }));
        assert_eq!(of(&agents, "b1").as_deref(), Some("a1"), "the other one is still there");
        agents.hear(&beat("a1", "b2", true));
        assert_eq!((of(&agents, "b1"), of(&agents, "b2").as_deref()), (None, Some("a1")), "its host was restarted");
        agents.hear(&said("a1", BeatKind::LastWill { incarnation: Incarnation(1) }));
        assert!(of(&agents, "b2").is_some(), "a last will is no goodbye: it is asked, and does not answer");
    }
}
