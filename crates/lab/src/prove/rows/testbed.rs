//! A stage: a monitor, its broker, its InfluxDB and its publishers, all of them real programs on free ports
//! of 127.0.0.1, with a line between each two that can fail.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::influx_line::{Answer, InfluxLine};
use super::publisher::Publisher;
use super::truth::Truth;
use crate::prove::proxy::{LinkMode, Proxy};
use heartwatch_adapters::influx::{InfluxConfig, InfluxReader};
use heartwatch_adapters::monitor::Monitor;
use heartwatch_servers::free_address;
use heartwatch_servers::influxd::{self, InfluxdOptions};
use heartwatch_servers::mosquitto::{self, MosquittoOptions};
use heartwatch_servers::server::Server;

/// Publishers of a stage, unless more or fewer are asked for.
pub(super) const PUBLISHERS: u16 = 3;
/// How long a program may take to be ready, on a machine that has other things to do.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// How long the monitor may take to end in order.
const END_TIMEOUT: Duration = Duration::from_secs(6);
/// How often one that is not ready is asked.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// The database.
pub(super) const DATABASE: &str = "rows";
/// The device: it sends JSON without a time and without numbers.
pub(super) const DEVICE: &str = "device-1";
/// The publisher of a program's lines.
pub(super) const PROGRAM: &str = "program-1";
/// The monitor's data directory.
pub(super) const DATA: &str = "data";
/// Another one.
pub(super) const DATA_ELSEWHERE: &str = "data-elsewhere";
/// How the monitor reads the device.
const DEVICE_CONFIG: &str = r#"[[foreign]]
topic = "devices/{publisher}/row"
format = "json"
[[foreign.field]]
name = "life"
path = "life"
type = "integer"
[[foreign.field]]
name = "row"
path = "row"
type = "integer"
"#;
/// A journal that is soon full.
pub(super) const JOURNAL_BYTES_SMALL: &str = "1MiB";

/// The programs that a stage may use.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    /// This very program.
    pub heartwatch: PathBuf,
    /// InfluxDB 1.x; none: the embedded store.
    pub influxd: Option<PathBuf>,
    /// The broker; none: the monitor's own.
    pub mosquitto: Option<PathBuf>,
    /// The library that steps the clock of one program.
    pub faketime: Option<PathBuf>,
}

/// A running stage.
pub(super) struct Testbed {
    /// `embedded` or `mosquitto`, after its broker.
    pub name: &'static str,
    pub publishers: Vec<Publisher>,
    /// What its device has sent.
    pub device: Mutex<Truth>,
    /// A publisher that prints what cannot be sent.
    pub program: Publisher,
    /// What a fault found wrong with a program.
    pub complaints: Mutex<Vec<String>>,
    /// Accounts and outboxes that have not come to rest in an earlier round.
    pub never_settled: Mutex<BTreeSet<String>>,
    /// Whether the monitor has been in another data directory, and may have left something there.
    pub was_elsewhere: Mutex<bool>,
    /// The journal of the monitor while it is there.
    pub journal_elsewhere: PathBuf,
    /// The broker, where it is a program of its own.
    pub broker: Option<Mutex<Server>>,
    /// InfluxDB, where there is one.
    pub influxd: Option<Mutex<Server>>,
    /// The line to InfluxDB.
    pub influx_line: Option<InfluxLine>,
    pub monitor: Mutex<Server>,
    /// The monitor's line to a broker of its own.
    pub monitor_line: Option<(Proxy, Mutex<()>)>,
    /// Where the monitor answers.
    pub api: Monitor,
    /// The monitor's journal.
    pub journal: PathBuf,
    /// Reads InfluxDB itself, past the line.
    pub reader: Option<InfluxReader>,
    /// Where everything of it is.
    pub folder: PathBuf,
    /// The library that steps the clock of one program.
    pub faketime: Option<PathBuf>,
    /// The broker itself, past every line.
    pub broker_address: SocketAddr,
}

impl Testbed {
    /// Starts everything but the publishers.
    ///
    /// # Errors
    /// When something cannot be started.
    pub(super) async fn start(
        name: &'static str,
        folder: &Path,
        programs: &Programs,
        publisher_count: u16,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder.join("publishers"))
            .with_context(|| format!("cannot make {}", folder.display()))?;
        std::fs::write(folder.join("heartwatch.toml"), DEVICE_CONFIG)?;
        let mut broker = None;
        let mut monitor_line = None;
        if let Some(program) = &programs.mosquitto {
            let server = mosquitto::mosquitto(program, folder, &MosquittoOptions::default())?;
            monitor_line = Some((Proxy::start(server.address()).await?, Mutex::new(())));
            broker = Some(server);
        }
        let broker_address = broker.as_ref().map_or_else(free_address, |broker| Ok(broker.address()))?;
        let mut influxd = None;
        let mut influx_line = None;
        let mut influx_address = None;
        if let Some(program) = &programs.influxd {
            let server = influxd::influxd(program, folder, &InfluxdOptions::default())?;
            influx_line = Some(InfluxLine::start(server.address()).await?);
            influx_address = Some(server.address());
            influxd = Some(Mutex::new(server));
        }
        let web = free_address()?;
        let mut arguments: Vec<String> =
            ["run", "--config", "heartwatch.toml", "--deadline", "5s", "--data-dir", DATA].map(str::to_owned).into();
        arguments.extend(["--web".to_owned(), web.to_string()]);
        match &monitor_line {
            Some((line, _)) => arguments.extend(["--mqtt".to_owned(), format!("mqtt://{}", line.address())]),
            None => arguments.extend(["--mqtt-listen".to_owned(), broker_address.to_string()]),
        }
        if let Some(line) = &influx_line {
            arguments.extend(["--influx-url".to_owned(), format!("http://{}", line.address())]);
            arguments.extend(["--influx-db".to_owned(), DATABASE.to_owned()]);
        }
        let mut monitor = Server::new("monitor", &programs.heartwatch, folder);
        monitor.arguments = arguments.into_iter().map(OsString::from).collect();
        let quick = [
            ("HEARTWATCH_INFLUX_GZIP", "false"),
            ("HEARTWATCH_INFLUX_TIMEOUT", "1s"),
            ("HEARTWATCH_INFLUX_BACKOFF_MAX", "500ms"),
            ("HEARTWATCH_INFLUX_FLUSH_INTERVAL", "200ms"),
            ("HEARTWATCH_MQTT_BACKOFF_MAX", "400ms"),
            ("HEARTWATCH_MQTT_KEEP_ALIVE", "2s"),
            ("HEARTWATCH_GRACE", "3s"),
        ];
        // the embedded broker's settings and those of InfluxDB are not used where there is none
        let used = quick.into_iter().filter(|(name, _)| influxd.is_some() || !name.contains("INFLUX"));
        monitor.environment = used.map(|(name, value)| (name.into(), value.into())).collect();
        let mut publishers = Vec::new();
        for number in 1..=publisher_count {
            let line = Proxy::start(broker_address).await?;
            publishers.push(Publisher::new(&format!("rows-{number}"), &programs.heartwatch, folder, line));
        }
        let reader = match influx_address {
            Some(address) => {
                let mut config = InfluxConfig::at(format!("http://{address}").parse()?);
                DATABASE.clone_into(&mut config.database);
                config.request_timeout = Duration::from_secs(60);
                Some(InfluxReader::new(config)?)
            }
            None => None,
        };
        let stage = Self {
            name,
            publishers,
            device: Mutex::default(),
            program: Publisher::new(PROGRAM, &programs.heartwatch, folder, Proxy::start(broker_address).await?),
            complaints: Mutex::default(),
            never_settled: Mutex::default(),
            was_elsewhere: Mutex::new(false),
            journal_elsewhere: folder.join(DATA_ELSEWHERE).join("journal.sqlite"),
            broker: broker.map(Mutex::new),
            influxd,
            influx_line,
            monitor: Mutex::new(monitor),
            monitor_line,
            api: Monitor::at(format!("http://{web}").parse()?)?,
            journal: folder.join(DATA).join("journal.sqlite"),
            reader,
            folder: folder.to_owned(),
            faketime: programs.faketime.clone(),
            broker_address,
        };
        for server in stage.broker.iter().chain(&stage.influxd) {
            server.lock().await.spawn()?;
        }
        stage.wait_until_servers_listen().await?;
        stage.monitor.lock().await.spawn()?;
        stage.wait_until_monitor_answers().await?;
        Ok(stage)
    }

    /// Puts everything right: lines open, servers running, the monitor with its full journal. A monitor that had ended
    /// by itself or does not come back is a complaint, a server that had is the laboratory's trouble.
    ///
    /// # Errors
    /// When something cannot be started again.
    pub(super) async fn heal(
        &self,
        monitor_is_small: bool,
        complaints: &mut Vec<String>,
        laboratory: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        for publisher in &self.publishers {
            publisher.line.set(LinkMode::Open);
        }
        if let Some((line, _)) = &self.monitor_line {
            line.set(LinkMode::Open);
        }
        if let Some(line) = &self.influx_line {
            line.set(Answer::Own);
        }
        for server in self.broker.iter().chain(&self.influxd) {
            let mut server = server.lock().await;
            if server.ended_by_itself() {
                laboratory.push(format!("{} ended by itself: {}", server.name, server.last_words()));
                server.running = None;
            }
            if server.running.is_none() {
                server.spawn()?;
            }
            server.signal(Signal::CONT)?;
        }
        self.wait_until_servers_listen().await?;
        let mut monitor = self.monitor.lock().await;
        if monitor.ended_by_itself() {
            complaints.push(format!("the monitor ended by itself: {}", monitor.last_words()));
            monitor.running = None;
        }
        monitor.signal(Signal::CONT)?;
        if monitor_is_small {
            monitor.end(END_TIMEOUT).await?;
        }
        if monitor.running.is_none() {
            monitor.spawn()?;
        }
        drop(monitor);
        let answers = self.wait_until_monitor_answers().await;
        complaints.extend(answers.as_ref().err().map(|error| format!("{error:#}")));
        answers?;
        if std::mem::take(&mut *self.was_elsewhere.lock().await) {
            self.clear_elsewhere().await?;
        }
        Ok(())
    }

    /// The monitor delivers what it still holds elsewhere, and comes back.
    async fn clear_elsewhere(&self) -> anyhow::Result<()> {
        let mut monitor = self.monitor.lock().await;
        monitor.end(END_TIMEOUT).await?;
        monitor.start_in(DATA, DATA_ELSEWHERE)?;
        drop(monitor);
        self.wait_until_monitor_answers().await?;
        let end = Instant::now() + READY_TIMEOUT;
        while self.api.ledger().await.is_ok_and(|ledger| ledger.total.buffered > 0) && Instant::now() < end {
            tokio::time::sleep(ASK_EVERY).await;
        }
        let mut monitor = self.monitor.lock().await;
        monitor.end(END_TIMEOUT).await?;
        monitor.spawn()?;
        drop(monitor);
        self.wait_until_monitor_answers().await
    }

    async fn wait_until_servers_listen(&self) -> anyhow::Result<()> {
        for server in self.broker.iter().chain(&self.influxd) {
            server.lock().await.until_it_listens().await.with_context(|| format!("stage {}", self.name))?;
        }
        Ok(())
    }

    async fn wait_until_monitor_answers(&self) -> anyhow::Result<()> {
        self.wait_until_it_answers(&mut *self.monitor.lock().await).await
    }

    /// Waits until the monitor, which nobody else starts or ends meanwhile, answers.
    ///
    /// # Errors
    /// When it has ended by itself, or does not answer in time.
    pub(super) async fn wait_until_it_answers(&self, monitor: &mut Server) -> anyhow::Result<()> {
        let end = Instant::now() + READY_TIMEOUT;
        while self.api.ledger().await.is_err() {
            let ended = monitor.ended_by_itself();
            anyhow::ensure!(
                !ended && Instant::now() < end,
                "the monitor does not answer (stage {}): {}",
                self.name,
                monitor.last_words()
            );
            tokio::time::sleep(ASK_EVERY).await;
        }
        Ok(())
    }
}
