//! The monitor's sessions at its broker. A broker knows one by its client id and keeps its subscriptions, so the data
//! directory remembers both: `mqtt-client-id` and `mqtt-filters`, and in `mqtt-sessions-over` the ids whose sessions are
//! to be ended.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;

use crate::config::Settings;
use crate::roles::connection::Wanted;
use crate::roles::notification_wiring;
use crate::roles::notification_wiring::Identity;
use heartwatch_adapters::mqtt;
use heartwatch_fleet::agents::{Agents, over_broker};
use heartwatch_store::text_file;
use heartwatch_system::clock::Clock;
use heartwatch_system::damage_log::DamageLog;

/// Most filters that are remembered, the latest ones.
const FILTERS_REMEMBERED_MAX: usize = 200;
/// Most ids whose sessions are to be ended, the latest ones.
const SESSIONS_OVER_MAX: usize = 10;

/// Largest of these files that is read, in bytes: a filter may have 65,535.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

const FILTERS_FILE: &str = "mqtt-filters";
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
    let mut config = settings.mqtt.client(mqtt_url, &client_id);
    config.filters_over = filters_over(&settings.data_dir, &filters)?;
    Ok(Wanted { config, filters, will: notification_wiring::last_will(settings, identity) })
}

/// Asks agents over the broker that the settings name, by a connection of its own: what they answer is no
/// reading, and nothing of it is kept.
///
/// # Errors
/// When the connection could work with no broker.
pub(super) fn ask_agents(agents: &Agents, settings: &Settings, mqtt_url: &str, clock: Clock) -> anyhow::Result<()> {
    let prefix = settings.mqtt.prefix.clone();
    let client_id = client_id(settings)?;
    let mut config = settings.mqtt.client(mqtt_url, &format!("heartwatch-asks-{client_id}"));
    config.clean_session = true;
    let (transport, events) = mqtt::connect(config, vec![prefix.answers()], None, clock)?;
    let (way, answers) = over_broker(transport, events, prefix);
    agents.ask_over(way, answers);
    Ok(())
}

/// What this data directory's session was ever subscribed to and is not any more: the broker goes on sending
/// it until it is told, also when the change was made while the monitor did not run.
fn filters_over(data_dir: &Path, filters: &[String]) -> anyhow::Result<Vec<String>> {
    let path = data_dir.join(FILTERS_FILE);
    let known = read(&path);
    let over: Vec<String> =
        known.lines().filter(|known| filters.iter().all(|filter| filter != known)).map(Into::into).collect();
    let over = over[over.len().saturating_sub(FILTERS_REMEMBERED_MAX)..].to_vec();
    let all: String = over.iter().chain(filters).map(|filter| format!("{filter}\n")).collect();
    if all != known {
        // as on a full disk: only the next start does not know of them
        if let Err(error) = text_file::write(&path, all.as_bytes()) {
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
    let kept = read(&path);
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
    write(&data_dir.join(CLIENT_ID_FILE), &made)?;
    Ok(made)
}

/// The client ids whose sessions have not been ended at the broker.
#[must_use]
pub(super) fn sessions_over(data_dir: &Path) -> Vec<String> {
    let known = read(&data_dir.join(SESSIONS_OVER_FILE));
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
    write(&path, &ids.iter().map(|id| format!("{id}\n")).collect::<String>())
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

/// Says which of these files are not what was written, and puts them aside: what they name is not known any more.
pub(super) fn look_for_damage(data_dir: &Path, damage: &DamageLog) {
    for (name, consequence) in [
        (
            CLIENT_ID_FILE,
            "the monitor takes a new session; what its broker keeps for the old one, messages of devices that nobody sends again among them, stays there",
        ),
        (SESSIONS_OVER_FILE, "sessions that were to be ended stay at the broker until it ends them itself"),
        (FILTERS_FILE, "the broker goes on sending what this session was once subscribed to"),
    ] {
        let path = data_dir.join(name);
        let Err(reason) = text_file::read(&path, FILE_BYTES_MAX) else { continue };
        let aside = path.with_extension("damaged");
        let kept = match std::fs::rename(&path, &aside) {
            Ok(()) => format!("it is kept as {}", aside.display()),
            Err(error) => format!("it cannot be put aside: {error}"),
        };
        damage.report(&path, &format!("{reason}; {consequence}; {kept}"));
    }
}

/// What is in one of these files; nothing where there is none, or it is not what was written.
fn read(path: &Path) -> String {
    let text = text_file::read(path, FILE_BYTES_MAX).ok().flatten().unwrap_or_default();
    String::from_utf8(text).unwrap_or_default()
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    text_file::write(path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
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

    #[test]
    fn a_changed_byte_in_any_of_the_files_is_said_and_never_taken_for_another_id() {
        for name in [CLIENT_ID_FILE, SESSIONS_OVER_FILE, FILTERS_FILE] {
            let directory = tempfile::tempdir().unwrap();
            let first = kept_client_id(directory.path()).unwrap();
            let id = new_client_id(directory.path(), Some(&first)).unwrap();
            filters_over(directory.path(), &["厨房/#".to_owned()]).unwrap();
            let path = directory.path().join(name);
            let whole = std::fs::read(&path).unwrap();
            let text = whole.len() - "checksum 01234567\n".len();
            for at in 0..text {
                let mut bytes = whole.clone();
                bytes[at] ^= 1;
                std::fs::write(&path, bytes).unwrap();
                let damage = DamageLog::default();
                look_for_damage(directory.path(), &damage);
                let found = damage.found();
                assert_eq!(found.total, 1, "{name}, byte {at}");
                assert!(found.newest[0].file.ends_with(name), "{found:?}");
                assert!(path.with_extension("damaged").exists() && !path.exists());
            }
            let next = kept_client_id(directory.path()).unwrap();
            assert_eq!(next == id, name != CLIENT_ID_FILE, "{name}");
            std::fs::write(&path, whole).unwrap();
            let damage = DamageLog::default();
            look_for_damage(directory.path(), &damage);
            assert_eq!((damage.found().total, kept_client_id(directory.path()).unwrap()), (0, id), "{name}");
            assert_eq!(sessions_over(directory.path()), [first], "{name}");
        }
    }
}
