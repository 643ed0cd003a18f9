//! The edges of an agent's graph: registration → collector, and whoever executes commands → both.

use std::sync::Arc;

use actix::Message;
use heartwatch_domain::agent_settings::{AgentSettings, PluginState};
use serde::Serialize;

use heartwatch_domain::command::{Command, CommandResult};

/// collector: measure like this from now on.
#[derive(Debug, Clone, Message)]
#[rtype(result = "CollectorStatus")]
pub struct Apply(pub Arc<AgentSettings>);

/// collector: read the plugins' folder now.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "CollectorStatus")]
pub struct ReloadPlugins;

/// collector: what it does.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "CollectorStatus")]
pub struct AskCollector;

/// What the collector does.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CollectorStatus {
    /// What is in force.
    pub settings: Arc<AgentSettings>,
    /// Looks at the host since the program started.
    pub samples: u64,
    /// Readings that went on to the publisher.
    pub readings: u64,
    /// Events of plugins.
    pub events: u64,
    /// Looks that were due while the one before was not done yet.
    pub skipped: u64,
    /// Readings for which the publisher had no room.
    pub dropped: u64,
    /// The chain, plugin by plugin.
    pub plugins: Vec<PluginState>,
}

/// registration: read the configuration again now.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct LookAgain;

/// registration: how it stands with etcd.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "RegistrationStatus")]
pub struct AskRegistration;

/// How it stands with etcd.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct RegistrationStatus {
    /// Whether the last request was answered.
    pub connected: bool,
    /// Why not; empty when it was.
    pub error: String,
    /// Leases granted since the program started: more than one means that one had expired.
    pub leases: u64,
    /// The revision of the configuration that was looked at last.
    pub config_revision: i64,
    /// What is wrong with that configuration; empty when it is in force.
    pub config_error: String,
}

/// executor: do this, whichever way it came.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "CommandResult")]
pub struct Execute(pub Command);
