//! Floor 4: the configuration. Layers: default < file (`heartwatch.toml`) < environment (`HEARTWATCH_…`) < flag.
//!
//! [`load`] gives [`Settings`], parsed into domain types and checked together, or every mistake at
//! once with file, line and key. A wrong value in a layer that a higher one covers is a mistake, too:
//! it would come to light on the day on which the higher one is taken away.
//!
//! The variable of a key is the key with its tables: `watch.deadline` is `HEARTWATCH_WATCH_DEADLINE`.
//! Where a flag has a shorter name, that works as well: `HEARTWATCH_DEADLINE`. Secrets come from a
//! file or from the environment (`HEARTWATCH_MQTT_PASSWORD`, `HEARTWATCH_INFLUX_PASSWORD`,
//! `HEARTWATCH_INFLUX_TOKEN`, `HEARTWATCH_MAIL_PASSWORD`), never from the TOML or a flag.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use heartwatch_formats::envelope::Prefix;
use heartwatch_formats::values;

mod changes;
mod deadlines;
mod diagnostics;
mod document;
mod environment;
mod exec;
mod files;
mod foreign;
mod kinds;
mod maintenance;
mod mqtt;
mod notify;
mod publishers;
mod reader;
mod resolve;
mod rules;
mod servers;
mod settings;
#[cfg(test)]
mod tests;
mod web;

pub use changes::{Changed, changes};
pub use diagnostics::{Diagnostic, Diagnostics};
pub use environment::Environment;
pub use settings::{
    Broker, ForeignEntry, Managed, Monitor, Mqtt, NotifyEntry, PublisherEntry, RunAs, Settings, Way, heartbeat_within,
};

use document::SourceFile;
use reader::Reader;

/// The file that is read when none is named and it is there.
pub const FILE_DEFAULT: &str = "heartwatch.toml";

/// What the command line sets, the highest layer. Its values are checked where they are parsed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overrides {
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
    /// `--mqtt-listen`.
    pub mqtt_listen: Option<SocketAddr>,
    /// `--mqtt`.
    pub mqtt: Option<Url>,
    /// `--mqtt-prefix` of `publish`.
    pub mqtt_prefix: Option<Prefix>,
    /// `--mqtt-user` of `publish`.
    pub mqtt_user: Option<String>,
    /// `--mqtt-password-file` of `publish`.
    pub mqtt_password_file: Option<PathBuf>,
    /// `--mqtt-ca-file` of `publish`.
    pub mqtt_ca_file: Option<PathBuf>,
    /// `--mqtt-client-certificate-file` of `publish`.
    pub mqtt_client_certificate_file: Option<PathBuf>,
    /// `--mqtt-client-key-file` of `publish`.
    pub mqtt_client_key_file: Option<PathBuf>,
    /// `--kafka`.
    pub kafka: Option<String>,
    /// `--etcd`.
    pub etcd: Option<values::EtcdEndpoints>,
    /// `--influx-url`.
    pub influx_url: Option<Url>,
    /// `--influx-db`.
    pub influx_db: Option<String>,
    /// `--influx-org`.
    pub influx_org: Option<String>,
    /// `--influx-bucket`.
    pub influx_bucket: Option<String>,
    /// `--influx-token-file`.
    pub influx_token_file: Option<PathBuf>,
    /// `--web`.
    pub web: Option<values::WebListen>,
    /// `--deadline`.
    pub deadline: Option<Duration>,
}

/// The layers above the defaults. Kept for as long as the program runs, so that a reload reads the same ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layers {
    /// The file; none leaves this layer out.
    pub file: Option<PathBuf>,
    /// Variables that start with `HEARTWATCH_`, and those that others set.
    pub environment: Environment,
    /// The command line.
    pub flags: Overrides,
}

impl Layers {
    /// The layers of this process: the file that is named, else the one in `HEARTWATCH_CONFIG`, else
    /// `heartwatch.toml` where it is there.
    #[must_use]
    pub fn of_this_process(file: Option<PathBuf>, flags: Overrides) -> Self {
        let environment = Environment::of_this_process();
        let file = file
            .or_else(|| environment.get("HEARTWATCH_CONFIG").map(PathBuf::from))
            .or_else(|| Some(PathBuf::from(FILE_DEFAULT)).filter(|file| file.exists()));
        Self { file, environment, flags }
    }

    /// The environment and the command line alone, for a command that has nothing to do with the monitor's file.
    #[must_use]
    pub fn without_file(flags: Overrides) -> Self {
        Self { file: None, environment: Environment::of_this_process(), flags }
    }
}

/// A configuration that can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// All of it, checked together.
    pub settings: Settings,
    /// What is odd but not wrong, in words: to be logged once.
    pub notes: Vec<String>,
}

/// Reads all layers. Also what a reload calls. It reads files, so it blocks.
///
/// # Errors
/// Every mistake of all layers.
pub fn load(layers: &Layers) -> Result<Loaded, Diagnostics> {
    let file = match layers.file.as_deref().map(SourceFile::read) {
        None => SourceFile::default(),
        Some(Ok(file)) => file,
        Some(Err(mistake)) => {
            // the other layers may be wrong as well, and all of it is said at once
            let mut mistakes = vec![mistake];
            mistakes.extend(resolve_all(&SourceFile::default(), layers).err().unwrap_or_default().0);
            return Err(Diagnostics(mistakes));
        }
    };
    resolve_all(&file, layers)
}

/// Like [`load`], with the file's text given.
///
/// # Errors
/// Every mistake of all layers.
pub fn load_text(path: &Path, text: &str, environment: &Environment, flags: &Overrides) -> Result<Loaded, Diagnostics> {
    let file = SourceFile { path: Some(path.to_owned()), text: text.to_owned() };
    resolve_all(&file, &Layers { file: None, environment: environment.clone(), flags: flags.clone() })
}

fn resolve_all(file: &SourceFile, layers: &Layers) -> Result<Loaded, Diagnostics> {
    let (root, syntax_mistakes) = file.parse();
    let mut reader = Reader::new(file, &root, syntax_mistakes, &layers.environment);
    let mut notes = Vec::new();
    let settings = resolve::settings(&mut reader, &layers.flags, &mut notes);
    let (mistakes, unknown) = reader.finish();
    notes.extend(unknown);
    if mistakes.0.is_empty() { Ok(Loaded { settings, notes }) } else { Err(mistakes) }
}
