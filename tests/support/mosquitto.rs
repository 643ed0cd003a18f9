//! A real mosquitto for a test: own port, own directory, gone when the test ends in any way.

use std::fs;
use std::path::{Path, PathBuf};

pub use heartwatch_servers::mosquitto::MosquittoOptions;
use heartwatch_servers::mosquitto::{self, PASSWORD_PROGRAM, PROGRAM};
use heartwatch_servers::server::Server;
use tempfile::TempDir;

use super::{found, installed};

/// A running broker.
#[derive(Debug)]
pub struct Mosquitto {
    server: Server,
    dir: TempDir,
    scheme: &'static str,
}

impl Mosquitto {
    /// Starts a plain one; `None` (already said) where mosquitto isn't installed.
    pub async fn start() -> Option<Self> {
        Self::start_with(MosquittoOptions::default()).await
    }

    /// Starts one with options; returns when it listens.
    pub async fn start_with(mut options: MosquittoOptions) -> Option<Self> {
        let program = found(PROGRAM)?;
        if (options.tls && !installed("openssl")) || (options.user.is_some() && !installed(PASSWORD_PROGRAM)) {
            return None;
        }
        options.lines += "log_type all\n";
        let dir = tempfile::tempdir().unwrap();
        let mut server = mosquitto::mosquitto(&program, dir.path(), &options).unwrap();
        server.start().await.unwrap();
        Some(Self { server, dir, scheme: if options.tls { "mqtts" } else { "mqtt" } })
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.address().port()
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.server.address())
    }

    /// A file in its directory: with TLS `ca.pem`, `client.pem` and `client.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.server.log).unwrap_or_default()
    }

    /// Ends it with SIGKILL, as a crash does.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// SIGSTOP: connections stay, nothing answers.
    pub fn pause(&self) {
        self.server.stop().unwrap();
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.server.resume().unwrap();
    }

    /// Starts it again on the same port and directory after [`Mosquitto::kill`].
    pub async fn restart(&mut self) {
        self.server.start().await.unwrap();
    }
}

/// Makes an authority in a directory, and certificates by it for 127.0.0.1 and for a client.
pub fn authority(directory: &Path) {
    mosquitto::authority(directory).unwrap();
}
