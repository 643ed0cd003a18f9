//! The monitor's sessions at its broker. A broker knows one by its client id and keeps its subscriptions, so the data
//! directory remembers both: `mqtt-client-id` and `mqtt-filters`, and in `mqtt-sessions-over` the ids whose sessions are
//! to be ended.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
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
/// Most ids whose sessions are to be ended, the latest ones.
const SESSIONS_OVER_MAX: usize = 10;

const CLIENT_ID_FILE: &str = "mqtt-client-id";
const SESSIONS_OVER_FILE: &str = "mqtt-sessions-over";
const CLIENT_ID_PREFIX: &str = "heartwatch-monitor-";

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
        // as on a full disk: only the next start does not know of them
        if let Err(error) = std::fs::write(&path, &all) {
            tracing::warn!(path = %path.display(), %error, "the filters of the session cannot be remembered");
        }
    }
    Ok(over)
}

fn client_id(settings: &Settings) -> anyhow::Result<String> {
    match &settings.mqtt.client_id {
        Some(client_id) => Ok(client_id.clone()),
        None => kept_client_id(&settings.data_dir),
    }
}

/// The client id of this data directory's persistent session: made once, then kept. Whoever knows it can take the session
/// over, so it can't be guessed, and nobody else may read it. One that could be is over, with its session.
fn kept_client_id(data_dir: &Path) -> anyhow::Result<String> {
    let path = data_dir.join(CLIENT_ID_FILE);
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let kept = kept.trim();
    if is_secret(kept) && std::fs::metadata(&path).is_ok_and(|file| file.permissions().mode() & 0o077 == 0) {
        return Ok(kept.to_owned());
    }
    let is_an_old_one = kept.starts_with("heartwatch-") && kept.len() <= 64;
    new_client_id(data_dir, is_an_old_one.then_some(kept)).or_else(|error| {
        // as on a full disk: the session works, and only the next start does not know of it
        tracing::warn!(error = format!("{error:#}"), "the session at the broker cannot be remembered");
        Ok(format!("{CLIENT_ID_PREFIX}{}", random_hex()?))
    })
}

/// Makes another client id and keeps it; the old one's session is to be ended, also if that takes until the next start.
///
/// # Errors
/// When the data directory takes no file.
pub(super) fn new_client_id(data_dir: &Path, old: Option<&str>) -> anyhow::Result<String> {
    if let Some(old) = old {
        let mut over = sessions_over(data_dir);
        over.push(old.to_owned());
        let from = over.len().saturating_sub(SESSIONS_OVER_MAX);
        keep_sessions_over(data_dir, &over[from..])?;
    }
    let made = format!("{CLIENT_ID_PREFIX}{}", random_hex()?);
    write_secret(&data_dir.join(CLIENT_ID_FILE), &made)?;
    Ok(made)
}

/// The client ids whose sessions have not been ended at the broker.
#[must_use]
pub(super) fn sessions_over(data_dir: &Path) -> Vec<String> {
    let known = std::fs::read_to_string(data_dir.join(SESSIONS_OVER_FILE)).unwrap_or_default();
    known.lines().filter(|line| !line.is_empty()).map(Into::into).collect()
}

/// Keeps the client ids whose sessions have not been ended.
///
/// # Errors
/// When the data directory takes no file.
pub(super) fn keep_sessions_over(data_dir: &Path, ids: &[String]) -> anyhow::Result<()> {
    let path = data_dir.join(SESSIONS_OVER_FILE);
    if ids.is_empty() {
        let _ = std::fs::remove_file(path);
        return Ok(());
    }
    write_secret(&path, &ids.iter().map(|id| format!("{id}\n")).collect::<String>())
}

/// 128 random bits.
///
/// # Errors
/// When the system gives none.
pub(super) fn random_hex() -> anyhow::Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).context("the system gives no random numbers")?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn is_secret(id: &str) -> bool {
    let random = id.strip_prefix(CLIENT_ID_PREFIX).unwrap_or_default();
    random.len() == 32 && random.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Writes a file that only its owner can read, whole or not at all.
fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || {
        let new = path.with_extension("new");
        let _ = std::fs::remove_file(&new);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_id_cannot_be_guessed_or_read_and_lasts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(CLIENT_ID_FILE);
        let id = kept_client_id(directory.path()).unwrap();
        assert!(is_secret(&id), "{id}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(kept_client_id(directory.path()).unwrap(), id);
        assert!(sessions_over(directory.path()).is_empty());

        // others could read it: it is over
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let next = kept_client_id(directory.path()).unwrap();
        assert_ne!(next, id);
        assert_eq!(sessions_over(directory.path()), [id]);
    }

    #[test]
    fn an_id_of_an_earlier_version_is_replaced_and_its_session_ended() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(CLIENT_ID_FILE), "heartwatch-monitor-0123456789ab").unwrap();
        let id = kept_client_id(directory.path()).unwrap();
        assert!(is_secret(&id));
        assert_eq!(sessions_over(directory.path()), ["heartwatch-monitor-0123456789ab"]);
        keep_sessions_over(directory.path(), &[]).unwrap();
        assert_eq!((kept_client_id(directory.path()).unwrap(), sessions_over(directory.path()).len()), (id, 0));
    }
}
