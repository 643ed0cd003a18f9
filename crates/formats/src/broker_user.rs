//! Who may say what at the embedded broker, where it has users: topics by identity. The name of a user is the name in its topics.
//!
//! | role | says | hears |
//! |---|---|---|
//! | `monitor` | everything | everything |
//! | `publisher` | `readings`, `heartbeat`, `goodbye`, `last-will`, `given-up` of its own name | `confirm` of its own name |
//! | `agent` | the same, and `answer` | the same, and `ask` |
//! | `device` | topics outside the prefix whose first level that names a user names it | the same |

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use super::envelope::{Prefix, TopicKind};
use super::users::{User, UserRole};

/// What a user of the broker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The monitor, and what it starts itself.
    Monitor,
    /// One publisher, under its own id.
    Publisher,
    /// A host's agent.
    Agent,
    /// A device that knows nothing of heartwatch.
    Device,
}

impl Role {
    const ALL: [Self; 4] = [Self::Monitor, Self::Publisher, Self::Agent, Self::Device];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Monitor => "monitor",
            Self::Publisher => "publisher",
            Self::Agent => "agent",
            Self::Device => "device",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|role| role.as_str() == text);
        known.ok_or_else(|| format!("'{text}' is no role: monitor, publisher, agent or device"))
    }
}

impl UserRole for Role {
    const COMMAND: &'static str = "mqtt-user";
}

/// A user of the broker.
pub type BrokerUser = User<Role>;

/// All users of a broker, and what each may say and hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    prefix: Prefix,
    users: HashMap<String, BrokerUser>,
}

impl Authority {
    /// Of these users, on topics with this prefix.
    #[must_use]
    pub fn new(prefix: Prefix, users: impl IntoIterator<Item = BrokerUser>) -> Self {
        Self { prefix, users: users.into_iter().map(|user| (user.name.clone(), user)).collect() }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// The user of this name.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&BrokerUser> {
        self.users.get(name)
    }

    /// Whether the user of this name may publish to this topic.
    #[must_use]
    pub fn may_say(&self, name: &str, topic: &str) -> bool {
        let Some(user) = self.users.get(name) else { return false };
        let own = self.own(name, topic);
        let says = |kind: &str| TopicKind::FROM_PUBLISHERS.iter().any(|known| known.as_str() == kind);
        match user.role {
            Role::Monitor => true,
            Role::Publisher => own.is_some_and(says),
            Role::Agent => own.is_some_and(|kind| says(kind) || kind == "answer"),
            Role::Device => self.is_its_device(name, topic),
        }
    }

    /// Whether the user of this name may subscribe to this filter.
    #[must_use]
    pub fn may_hear(&self, name: &str, filter: &str) -> bool {
        let Some(user) = self.users.get(name) else { return false };
        let own = self.own(name, filter);
        let is_confirm = own == Some(TopicKind::Confirm.as_str());
        match user.role {
            Role::Monitor => true,
            Role::Publisher => is_confirm,
            Role::Agent => is_confirm || own == Some("ask"),
            // what stands before its name is not for a wildcard: that would hear others, too
            Role::Device => self.is_its_device(name, filter) && !before(filter, name).contains(['+', '#']),
        }
    }

    /// What stands behind the name in a topic of this publisher.
    fn own<'t>(&self, name: &str, topic: &'t str) -> Option<&'t str> {
        self.under_prefix(topic)?.strip_prefix("v1/")?.strip_prefix(name)?.strip_prefix('/')
    }

    fn under_prefix<'t>(&self, topic: &'t str) -> Option<&'t str> {
        topic.strip_prefix(self.prefix.as_str())?.strip_prefix('/')
    }

    fn is_its_device(&self, name: &str, topic: &str) -> bool {
        let named = topic.split('/').find(|level| self.users.contains_key(*level));
        self.under_prefix(topic).is_none() && topic != self.prefix.as_str() && named == Some(name)
    }
}

/// The levels before the one that is this name.
fn before<'t>(filter: &'t str, name: &str) -> &'t str {
    let mut bytes = 0;
    for level in filter.split('/') {
        if level == name {
            break;
        }
        bytes += level.len() + 1;
    }
    filter.get(..bytes).unwrap_or(filter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::users::{parse_users, user_line};

    fn authority() -> Authority {
        let roles = [
            ("monitor", Role::Monitor),
            ("light-1", Role::Publisher),
            ("light-2", Role::Publisher),
            ("web-1", Role::Agent),
            ("boiler", Role::Device),
            ("pump", Role::Device),
        ];
        let lines: Vec<String> =
            roles.iter().map(|(name, role)| user_line(name, *role, "a long password").unwrap()).collect();
        Authority::new(Prefix::default(), parse_users::<Role>(&lines.join("\n")).unwrap())
    }

    #[test]
    fn everybody_says_and_hears_what_is_its_own_and_nothing_else() {
        let authority = authority();
        let kinds = ["readings", "heartbeat", "goodbye", "last-will", "given-up", "confirm", "ask", "answer", "x", ""];
        for (name, says, hears) in [
            ("light-1", &kinds[..5], &["confirm"][..]),
            ("web-1", &["readings", "heartbeat", "goodbye", "last-will", "given-up", "answer"], &["confirm", "ask"]),
            ("boiler", &[], &[]),
            ("nobody", &[], &[]),
        ] {
            for of in ["light-1", "light-2", "web-1", "boiler", "light-10", "light-1/x", "+", "#"] {
                for kind in kinds {
                    let topic = format!("heartwatch/v1/{of}/{kind}");
                    let is_own = of == name;
                    assert_eq!(authority.may_say(name, &topic), is_own && says.contains(&kind), "{name} {topic}");
                    assert_eq!(authority.may_hear(name, &topic), is_own && hears.contains(&kind), "{name} {topic}");
                    assert!(authority.may_say("monitor", &topic) && authority.may_hear("monitor", &topic));
                }
            }
            for all in ["#", "+/#", "heartwatch/#", "heartwatch/v1/+/confirm", "heartwatch", "/", ""] {
                assert!(!authority.may_hear(name, all) && !authority.may_say(name, all), "{name} {all}");
            }
        }
    }

    #[test]
    fn a_device_has_the_topics_that_name_it_before_anybody_else() {
        let authority = authority();
        for (topic, says) in [
            ("tele/boiler/SENSOR", true),
            ("boiler", true),
            ("boiler/pump", true),
            ("pump/boiler", false),
            ("tele/pump/boiler", false),
            ("tele/other/SENSOR", false),
            ("heartwatch/boiler/x", false),
            ("heartwatch/v1/boiler/readings", false),
        ] {
            assert_eq!(authority.may_say("boiler", topic), says, "{topic}");
        }
        for (filter, hears) in
            [("tele/boiler/#", true), ("+/boiler/#", false), ("tele/+/boiler", false), ("tele/#", false)]
        {
            assert_eq!(authority.may_hear("boiler", filter), hears, "{filter}");
        }
    }
}
