//! What follows from a verdict, and who watches the monitor: the notifier with its targets, and the
//! watchman, wired from the settings.

use std::sync::Arc;

use anyhow::Context as _;

use crate::actors::notifier::NotifierParts;
use crate::actors::self_monitor::{SelfMonitorConfig, SetSelfMonitor};
use crate::config::{NotifyEntry, Settings, Way};
use crate::messages::notice::Target;
use heartwatch_adapters::command::CommandNotifier;
use heartwatch_adapters::mail::Mail;
use heartwatch_adapters::mqtt::Will;
use heartwatch_adapters::webhook::{PingUrl, Webhook};
use heartwatch_domain::publisher::{HostName, Incarnation, NAME_BYTES_MAX, PublisherId};
use heartwatch_formats::envelope::{LastWill, TopicKind, encode_last_will};
use heartwatch_ports::{History, Notify, Ping, ProcessTable};
use heartwatch_store::notifications::Notifications;
use heartwatch_system::clock::Clock;
use heartwatch_system::damage_log::DamageLog;

/// How long the ping URL may take to answer.
const PING_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// Who the monitor is to the world outside.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub id: PublisherId,
    pub host: HostName,
    /// Which of its lives this is.
    pub incarnation: Incarnation,
}

/// The monitor's id from the settings, or `monitor-` and the host's name.
///
/// # Errors
/// When this host has no usable name.
pub(super) fn identity(settings: &Settings, clock: Clock) -> anyhow::Result<Identity> {
    let host = heartwatch_system::host::host_name()?;
    let id = match &settings.monitor.id {
        Some(id) => id.clone(),
        None => {
            let made: String = format!("monitor-{host}").chars().take(NAME_BYTES_MAX).collect();
            PublisherId::parse(&made)?
        }
    };
    let micros = clock.wall().as_nanos().max(0).cast_unsigned() / 1_000;
    Ok(Identity { id, host, incarnation: Incarnation(micros) })
}

/// What the broker says of the monitor when its connection is lost.
#[must_use]
pub(super) fn last_will(settings: &Settings, identity: &Identity) -> Will {
    let will = LastWill { host: identity.host.clone(), incarnation: identity.incarnation };
    let topic = settings.mqtt.prefix.topic(&identity.id, TopicKind::LastWill);
    Will { topic, payload: encode_last_will(&will) }
}

/// Everyone who is told, as the settings name them.
///
/// # Errors
/// When a client cannot be made, with the target's name.
pub(super) fn targets(settings: &Settings) -> anyhow::Result<Arc<Vec<Target>>> {
    let target = |notify: &NotifyEntry| -> anyhow::Result<Target> {
        let way = way(&notify.way).with_context(|| format!("[[notify]] '{}'", notify.target.name))?;
        Ok(Target { config: notify.target.clone(), way })
    };
    settings.notify.iter().map(target).collect::<anyhow::Result<Vec<_>>>().map(Arc::new)
}

fn way(way: &Way) -> anyhow::Result<Arc<dyn Notify>> {
    Ok(match way {
        Way::Webhook(config) => Arc::new(Webhook::new(config.clone())?),
        Way::Command(config) => Arc::new(CommandNotifier::new(config.clone())),
        Way::Email(config) => Arc::new(Mail::new(config.as_ref().clone())?),
    })
}

/// What the notifier is built from. `last_epoch` is the last change in the journal, `history` reads it.
///
/// # Errors
/// When its file or a client cannot be opened.
pub(super) fn notifier(
    settings: &Settings,
    identity: &Identity,
    last_epoch: u64,
    history: Arc<dyn History>,
    damage: &DamageLog,
    clock: Clock,
) -> anyhow::Result<NotifierParts> {
    let path = settings.data_dir.join("notifications.sqlite");
    let store = Notifications::open_with(&path, last_epoch, damage.clone())?;
    Ok(NotifierParts::new(store, identity.id.clone(), clock, history, targets(settings)?))
}

/// What the watchman goes by.
///
/// # Errors
/// When the HTTP client of the ping URL cannot be made.
pub(super) fn set_watchman(
    settings: &Settings,
    identity: &Identity,
    processes: &dyn ProcessTable,
) -> anyhow::Result<SetSelfMonitor> {
    let Identity { id, host, incarnation } = identity.clone();
    let mut config = SelfMonitorConfig::new(id, host, incarnation);
    config.process = processes.own_identity();
    config.prefix = settings.mqtt.prefix.clone();
    config.pace = settings.monitor.pace;
    let ping: Option<Arc<dyn Ping>> = match &settings.monitor.ping_url {
        Some(url) => Some(Arc::new(PingUrl::new(url.clone(), PING_TIMEOUT)?)),
        None => None,
    };
    Ok(SetSelfMonitor { config, ping })
}
