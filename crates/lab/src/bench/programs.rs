//! The programs that a measurement starts, each in a directory of its own, gone when it is over.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::cores::Cores;
use crate::prove::program::{find, free_port};
use heartwatch_adapters::monitor::Monitor;

/// How long a program may take to answer for the first time.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How often, and how long apart, it is tried to remove a directory.
const REMOVAL_ATTEMPTS_MAX: u32 = 50;
const REMOVAL_EVERY: Duration = Duration::from_millis(20);

/// A directory that goes away with the measurement.
pub(super) struct Directory(PathBuf);

impl Directory {
    /// A new one below `parent`, once all that was written before is on the disk: it would be in the figures.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn below(parent: &Path) -> anyhow::Result<Self> {
        rustix::fs::sync();
        let path = parent.join(format!("heartwatch-bench-{}-{:08x}", std::process::id(), fastrand::u32(..)));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    #[expect(
        clippy::disallowed_methods,
        reason = "it waits for a condition, at most a second, where nothing can be awaited"
    )]
    fn drop(&mut self) {
        // Where a signal ended the measurement, a program that was just killed may still be writing its last file.
        for _ in 0..REMOVAL_ATTEMPTS_MAX {
            if std::fs::remove_dir_all(&self.0).is_ok() || !self.0.exists() {
                return;
            }
            std::thread::sleep(REMOVAL_EVERY);
        }
        eprintln!("{} could not be removed: it may be deleted", self.0.display());
    }
}

/// This program with arguments, silent unless something goes wrong, and killed when it is dropped.
///
/// # Errors
/// When this program cannot be found.
pub(super) fn heartwatch(directory: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HEARTWATCH_") {
            command.env_remove(name);
        }
    }
    command
        .current_dir(directory)
        .env_remove("RUST_LOG")
        .env("HEARTWATCH_LOG_LEVEL", "error")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    Ok(command)
}

/// As a float for a ratio; exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "a figure for a person has a few digits")]
#[must_use]
pub(super) const fn whole(number: u64) -> f64 {
    number as f64
}

/// A monitor and where to ask it.
pub(super) struct RunningMonitor {
    /// To ask it.
    pub monitor: Monitor,
    /// Its broker, or the one that it uses.
    pub mqtt_url: String,
    program: Child,
}

impl RunningMonitor {
    /// Starts one; without `mqtt_url` with its own broker, without `influx_url` with its journal alone.
    ///
    /// # Errors
    /// When it does not become ready.
    pub(super) async fn start(
        directory: &Path,
        mqtt_url: Option<&str>,
        influx_url: Option<&str>,
    ) -> anyhow::Result<Self> {
        let (mqtt_port, web_port) = (free_port()?, free_port()?);
        let mut command = heartwatch(directory)?;
        command.args(["run", "--data-dir", "data", "--web", &format!("127.0.0.1:{web_port}")]);
        // A disk that stands still meanwhile is in the figures: whoever reads them is told.
        command.env("RUST_LOG", "heartwatch::actors::subscriber=warn");
        match mqtt_url {
            Some(url) => command.args(["--mqtt", url]),
            None => command.args(["--mqtt-listen", &format!("127.0.0.1:{mqtt_port}")]),
        };
        if let Some(url) = influx_url {
            command.args(["--influx-url", url]);
        }
        let program = command.spawn()?;
        let monitor = Monitor::at(format!("http://127.0.0.1:{web_port}").parse()?)?;
        let own = format!("mqtt://127.0.0.1:{mqtt_port}");
        let mqtt_url = mqtt_url.map_or(own, str::to_owned);
        let deadline = Instant::now() + START_TIMEOUT;
        while monitor.status().await.map_or(true, |status| !status.observer.reason.is_empty()) {
            anyhow::ensure!(Instant::now() < deadline, "the monitor was not ready within {START_TIMEOUT:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Self { monitor, mqtt_url, program })
    }

    /// Its PID while it runs.
    #[must_use]
    pub(super) fn pid(&self) -> Option<u32> {
        self.program.id()
    }

    /// Ends it in order.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(pid) = self.program.id().and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        self.program.wait().await?;
        Ok(())
    }
}

/// A mosquitto with its default limits but for these settings; none where it is not installed.
///
/// # Errors
/// When it is installed and does not answer.
pub(super) async fn mosquitto(directory: &Path, settings: &str) -> anyhow::Result<Option<(Child, String)>> {
    let Some(program) = find("mosquitto") else { return Ok(None) };
    let port = free_port()?;
    let config = directory.join("mosquitto.conf");
    std::fs::write(&config, format!("listener {port} 127.0.0.1\nallow_anonymous true\n{settings}"))?;
    let start = Start { name: "mosquitto", program, arguments: vec!["-c".into(), config.into()], port };
    Ok(Some((start.now().await?, format!("mqtt://127.0.0.1:{port}"))))
}

/// An InfluxDB 1.x of a measurement.
pub(super) struct Influxd {
    /// Its process; killed when it is dropped.
    pub program: Child,
    /// Where it answers.
    pub url: url::Url,
    start: Start,
}

/// How a server is started.
struct Start {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<OsString>,
    port: u16,
}

impl Influxd {
    /// SIGKILL: what it has confirmed stays.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.program.kill().await?)
    }

    /// Starts it again with its data.
    ///
    /// # Errors
    /// When it does not answer.
    pub(super) async fn start(&mut self) -> anyhow::Result<()> {
        self.program = self.start.now().await?;
        Ok(())
    }
}

impl Start {
    async fn now(&self) -> anyhow::Result<Child> {
        let Self { name, program, arguments, port } = self;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let program = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let deadline = Instant::now() + START_TIMEOUT;
        while tokio::net::TcpStream::connect(("127.0.0.1", *port)).await.is_err() {
            anyhow::ensure!(Instant::now() < deadline, "{name} did not answer within {START_TIMEOUT:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(program)
    }
}

/// An InfluxDB 1.x with its defaults; none where it is not installed.
///
/// # Errors
/// When it is installed and does not answer.
pub(super) async fn influxd(directory: &Path) -> anyhow::Result<Option<Influxd>> {
    let Some(program) = find("influxd") else { return Ok(None) };
    let (port, rpc_port) = (free_port()?, free_port()?);
    let data = directory.join("influxdb");
    let below = |name: &str| data.join(name).display().to_string();
    let config = directory.join("influxdb.conf");
    let text = format!(
        "reporting-disabled = true\nbind-address = \"127.0.0.1:{rpc_port}\"\n[meta]\ndir = {:?}\n[data]\ndir = {:?}\n\
         wal-dir = {:?}\n[http]\nbind-address = \"127.0.0.1:{port}\"\nlog-enabled = false\n[monitor]\nstore-enabled = false\n",
        below("meta"),
        below("data"),
        below("wal"),
    );
    std::fs::write(&config, text)?;
    let arguments = vec!["run".into(), "-config".into(), config.into()];
    let start = Start { name: "influxd", program, arguments, port };
    let url = format!("http://127.0.0.1:{port}").parse()?;
    Ok(Some(Influxd { program: start.now().await?, url, start }))
}

/// The same on its core, where it has one; what is started afterwards has the others.
///
/// # Errors
/// When it is installed and does not answer, or the system refuses the core.
pub(super) async fn influxd_on(cores: Option<&Cores>, directory: &Path) -> anyhow::Result<Option<Influxd>> {
    let Some(cores) = cores else { return influxd(directory).await };
    cores.take_last()?;
    let database = influxd(directory).await;
    cores.take_others()?;
    database
}
