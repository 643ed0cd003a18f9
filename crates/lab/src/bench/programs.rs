//! The programs that a measurement starts, each in a directory of its own, gone when it is over.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::cores::Cores;
use heartwatch_adapters::monitor::Monitor;
use heartwatch_servers::directory::Directory;
use heartwatch_servers::influxd::{self, InfluxdOptions};
use heartwatch_servers::mosquitto::{self, MosquittoOptions};
use heartwatch_servers::server::Server;
use heartwatch_servers::{find, free_port};

/// How long a program may take to answer for the first time.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A directory below `parent` that goes away with the measurement, once all that was written before is on the disk: it
/// would be in the figures.
///
/// # Errors
/// When it cannot be made.
pub(super) fn directory(parent: &Path) -> anyhow::Result<Directory> {
    rustix::fs::sync();
    Directory::below(parent, "bench")
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
pub(super) async fn mosquitto(directory: &Path, settings: &str) -> anyhow::Result<Option<(Server, String)>> {
    let Some(program) = find(mosquitto::PROGRAM) else { return Ok(None) };
    let options = MosquittoOptions { lines: settings.to_owned(), ..MosquittoOptions::default() };
    let mut server = mosquitto::mosquitto(&program, directory, &options)?;
    server.start().await?;
    let url = format!("mqtt://{}", server.address());
    Ok(Some((server, url)))
}

/// An InfluxDB 1.x of a measurement.
pub(super) struct Influxd {
    /// Its process; killed when it is dropped.
    pub program: Server,
    /// Where it answers.
    pub url: url::Url,
}

/// An InfluxDB 1.x with its defaults; none where it is not installed.
///
/// # Errors
/// When it is installed and does not answer.
pub(super) async fn influxd(directory: &Path) -> anyhow::Result<Option<Influxd>> {
    let Some(program) = find(influxd::PROGRAM) else { return Ok(None) };
    let mut program = influxd::influxd(&program, directory, &InfluxdOptions::default())?;
    program.start().await?;
    let url = format!("http://{}", program.address()).parse()?;
    Ok(Some(Influxd { program, url }))
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
