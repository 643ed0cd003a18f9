//! The monitor's sessions at its broker. A broker knows one by its client id and keeps its subscriptions, so the data
//! directory remembers both: `mqtt-client-id` and `mqtt-filters`.

use std::path::Path;

use anyhow::Context as _;

use crate::adapters::agents::{Agents, over_broker};
use crate::adapters::mqtt;
use crate::config::Settings;
use crate::roles::connection::Wanted;
use crate::roles::consequences::Identity;
use crate::roles::{assemble, consequences};
use crate::runtime::clock::Clock;

/// Most filters that are remembered, the latest ones.
const FILTERS_REMEMBERED_MAX: usize = 200;

/// The monitor's connection as the settings want it.
///
/// # Errors
/// When the client id or the filters of its session cannot be kept.
pub(super) fn wanted(settings: &Settings, mqtt_url: &str, identity: &Identity) -> anyhow::Result<Wanted> {
    let client_id = client_id(settings)?;
    let filters = settings.mqtt_filters();
    let mut config = assemble::mqtt(&settings.mqtt, mqtt_url, &client_id);
    config.filters_over = filters_over(&settings.data_dir, &filters)?;
    Ok(Wanted { config, filters, will: consequences::last_will(settings, identity) })
}

/// Asks agents over the broker that the settings name, by a connection of its own: what they answer is no
/// reading, and nothing of it is kept.
///
/// # Errors
/// When the connection could work with no broker.
pub(super) fn ask_agents(agents: &Agents, settings: &Settings, mqtt_url: &str, clock: Clock) -> anyhow::Result<()> {
    let prefix = settings.mqtt.prefix.clone();
    let client_id = client_id(settings)?;
    let mut config = assemble::mqtt(&settings.mqtt, mqtt_url, &format!("heartwatch-asks-{client_id}"));
    config.clean_session = true;
    let (transport, events) = mqtt::connect(config, vec![prefix.answers()], None, clock)?;
    let (way, answers) = over_broker(transport, events, prefix);
    agents.ask_over(way, answers);
    Ok(())
}

/// What this data directory's session was ever subscribed to and is not any more: the broker goes on sending
/// it until it is told, also when the change was made while the monitor did not run.
fn filters_over(data_dir: &Path, filters: &[String]) -> anyhow::Result<Vec<String>> {
    let path = data_dir.join("mqtt-filters");
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    let over: Vec<String> =
        known.lines().filter(|known| filters.iter().all(|filter| filter != known)).map(Into::into).collect();
    let over = over[over.len().saturating_sub(FILTERS_REMEMBERED_MAX)..].to_vec();
    let all: String = over.iter().chain(filters).map(|filter| format!("{filter}\n")).collect();
    if all != known {
        std::fs::write(&path, &all).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(over)
}

fn client_id(settings: &Settings) -> anyhow::Result<String> {
    match &settings.mqtt.client_id {
        Some(client_id) => Ok(client_id.clone()),
        None => kept_client_id(&settings.data_dir),
    }
}

/// The client id of this data directory's persistent session: made once, then kept.
fn kept_client_id(data_dir: &Path) -> anyhow::Result<String> {
    let path = data_dir.join("mqtt-client-id");
    if let Ok(kept) = std::fs::read_to_string(&path) {
        let kept = kept.trim();
        if kept.starts_with("heartwatch-") && kept.len() <= 64 {
            return Ok(kept.to_owned());
        }
    }
    let made = format!("heartwatch-monitor-{:012x}", fastrand::u64(..) >> 16);
    std::fs::write(&path, &made).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(made)
}
