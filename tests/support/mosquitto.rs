//! A real mosquitto for a test: own port, own directory, gone when the test ends in any way.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{eventually, free_port, installed};

const PROGRAM: &str = "/usr/sbin/mosquitto";
const PASSWORD_PROGRAM: &str = "/usr/bin/mosquitto_passwd";
const OPENSSL: &str = "/usr/bin/openssl";

/// What a test wants different from the plain broker.
#[derive(Debug, Clone, Default)]
pub struct MosquittoOptions {
    /// Asks for this user and password.
    pub user: Option<(String, String)>,
    /// TLS with an authority of its own, and a certificate asked of every client.
    pub tls: bool,
    /// Keeps sessions and messages over a crash.
    pub persistence: bool,
    /// More lines for its configuration.
    pub lines: String,
}

/// A running broker.
#[derive(Debug)]
pub struct Mosquitto {
    child: Option<Child>,
    dir: TempDir,
    port: u16,
    options: MosquittoOptions,
}

impl Mosquitto {
    /// Starts a plain one; `None` (already said) where mosquitto isn't installed.
    pub async fn start() -> Option<Self> {
        Self::start_with(MosquittoOptions::default()).await
    }

    /// Starts one with options; returns when it listens.
    pub async fn start_with(options: MosquittoOptions) -> Option<Self> {
        if !installed(PROGRAM)
            || (options.tls && !installed(OPENSSL))
            || (options.user.is_some() && !installed(PASSWORD_PROGRAM))
        {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut broker = Self { child: None, dir, port: free_port(), options };
        if broker.options.tls {
            authority(broker.dir.path());
        }
        broker.write_config();
        broker.spawn().await;
        Some(broker)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        let scheme = if self.options.tls { "mqtts" } else { "mqtt" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// A file in its directory: with TLS `ca.pem`, `client.pem` and `client.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    /// Ends it with SIGKILL, as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGSTOP: connections stay, nothing answers.
    pub fn pause(&self) {
        super::stop(self.child.as_ref().expect("mosquitto runs"));
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Starts it again on the same port and directory after [`Mosquitto::kill`].
    pub async fn restart(&mut self) {
        self.kill();
        self.spawn().await;
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("mosquitto runs");
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    async fn spawn(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.file("log")).unwrap();
        let child = Command::new(PROGRAM)
            .arg("-c")
            .arg(self.file("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let port = self.port;
        eventually("mosquitto listens", Duration::from_secs(20), async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
    }

    fn write_config(&self) {
        let dir = self.dir.path().display();
        let mut config = format!("listener {} 127.0.0.1\nuser root\nlog_type all\n", self.port);
        match &self.options.user {
            Some((user, password)) => {
                let made = Command::new(PASSWORD_PROGRAM)
                    .arg("-b")
                    .arg("-c")
                    .arg(self.file("passwords"))
                    .args([user, password])
                    .status()
                    .unwrap();
                assert!(made.success());
                config += &format!("password_file {dir}/passwords\nallow_anonymous false\n");
            }
            None => config += "allow_anonymous true\n",
        }
        if self.options.tls {
            config += &format!(
                "cafile {dir}/ca.pem\ncertfile {dir}/server.pem\nkeyfile {dir}/server.key\nrequire_certificate true\n"
            );
        }
        if self.options.persistence {
            config += &format!(
                "persistence true\npersistence_location {dir}/\nautosave_interval 1\nautosave_on_changes true\n"
            );
        }
        fs::write(self.file("mosquitto.conf"), config + self.options.lines.as_str()).unwrap();
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Makes an authority in a directory, and certificates by it for 127.0.0.1 and for a client.
pub fn authority(dir: &Path) {
    let openssl = |arguments: &[&str]| {
        let output = Command::new(OPENSSL).current_dir(dir).args(arguments).output().unwrap();
        assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let mut authority =
        vec!["req", "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test CA"];
    authority.extend(new_key);
    openssl(&authority);
    for (name, extension) in [
        ("server", "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\n"),
        ("client", "extendedKeyUsage=clientAuth\n"),
    ] {
        let (key, request, certificate) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
        let extensions = format!("{name}.ext");
        let subject = format!("/CN={name}");
        fs::write(dir.join(&extensions), format!("basicConstraints=CA:FALSE\n{extension}")).unwrap();
        let mut asked = vec!["req", "-keyout", &key, "-out", &request, "-subj", &subject];
        asked.extend(new_key);
        openssl(&asked);
        openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            &extensions,
            "-out",
            &certificate,
        ]);
    }
}
