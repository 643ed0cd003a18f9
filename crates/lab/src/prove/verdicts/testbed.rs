//! A monitor under test and all that it hears: programs of their own, on free ports of 127.0.0.1.

use std::cell::RefCell;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::record::Record;
use crate::args::ProveArgs;
use heartwatch_adapters::monitor::Monitor;
use heartwatch_domain::process::ProcessIdentity;
use heartwatch_domain::roster::ObserverState;
use heartwatch_servers::free_address;
use heartwatch_servers::mosquitto::{self, MosquittoOptions};
use heartwatch_servers::program::{Launch, Program};
use heartwatch_servers::server::Server;
use heartwatch_system::clock::Clock;

/// How long a program may take to be ready, on a machine that has other things to do.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a program that is not ready yet is asked.
pub(super) const ASK_EVERY: Duration = Duration::from_millis(20);
/// How often a question for the status is repeated.
const STATUS_ATTEMPTS_MAX: u32 = 5;
/// The row source of the real publishers.
const SERIES: &str = include_str!("../../../../../fixtures/light-1.csv");

/// What all parts of a proof share.
pub(super) struct Testbed {
    /// What was asked for.
    pub args: ProveArgs,
    pub program: PathBuf,
    /// Where everything is written.
    pub folder: PathBuf,
    /// The clock that faults are timed with; it is the monitor's own, the host's.
    pub clock: Clock,
    /// This process, which is certainly not a publisher: a PID to claim wrongly.
    pub bystander: ProcessIdentity,
    /// The monitor's process.
    pub monitor: RefCell<Program>,
    /// Where the monitor answers.
    pub api: Monitor,
    /// What it has said.
    pub record: Record,
    /// Where the broker listens.
    pub broker: SocketAddr,
    /// The broker's own process, where it is not the monitor's.
    pub mosquitto: Option<Mutex<Server>>,
    /// Where agents are served, whose words come over Kafka.
    pub server: Option<SocketAddr>,
}

/// What a monitor under test hears beside, or instead of, its embedded broker.
#[derive(Debug, Clone, Copy)]
pub(super) enum Beside<'a> {
    /// Nothing.
    Nothing,
    /// A mosquitto instead of it, with this file.
    Mosquitto(&'a Path),
    /// A Kafka beside it, and the server that hands agents' words to it.
    Kafka {
        /// Where Kafka answers.
        brokers: &'a str,
        /// Where agents are served.
        server: SocketAddr,
    },
}

impl Testbed {
    /// Starts a monitor with what it hears.
    ///
    /// # Errors
    /// When something cannot be started.
    pub(super) async fn start(
        args: &ProveArgs,
        folder: &Path,
        clock: Clock,
        bystander: ProcessIdentity,
        beside: Beside<'_>,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        std::fs::write(folder.join("series.csv"), SERIES)?;
        std::fs::write(folder.join("heartwatch.toml"), "")?;
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut mosquitto = None;
        if let Beside::Mosquitto(file) = beside {
            let mut server = mosquitto::mosquitto(file, folder, &MosquittoOptions::default())?;
            server.start().await?;
            mosquitto = Some(server);
        }
        let broker = mosquitto.as_ref().map_or_else(free_address, |mosquitto| Ok(mosquitto.address()))?;
        let web = free_address()?;
        let deadline = format!("{}ms", args.deadline.as_millis());
        let mut arguments: Vec<OsString> =
            ["run", "--config", "heartwatch.toml", "--data-dir", "data"].map(Into::into).into();
        arguments.extend(["--deadline".into(), deadline.into(), "--web".into(), web.to_string().into()]);
        arguments.extend(match &mosquitto {
            Some(_) => ["--mqtt".into(), format!("mqtt://{broker}").into()],
            None => ["--mqtt-listen".into(), broker.to_string().into()],
        });
        let server = match beside {
            Beside::Kafka { brokers, server } => {
                arguments.extend(["--kafka".into(), brokers.into()]);
                Some(server)
            }
            Beside::Nothing | Beside::Mosquitto(_) => None,
        };
        let monitor = Program::start(Launch {
            program: &program,
            arguments,
            environment: vec![("HEARTWATCH_MQTT_BACKOFF_MAX".into(), "500ms".into())],
            folder,
            log: &folder.join("monitor.log"),
            takes_commands: false,
        })?;
        let api = Monitor::at(format!("http://{web}").parse()?)?;
        let stage = Self {
            args: args.clone(),
            program,
            folder: folder.to_owned(),
            clock,
            bystander,
            monitor: RefCell::new(monitor),
            api,
            record: Record::new(),
            broker,
            mosquitto: mosquitto.map(Mutex::new),
            server,
        };
        stage.wait_until_ready().await?;
        Ok(stage)
    }

    async fn wait_until_ready(&self) -> anyhow::Result<()> {
        let end = Instant::now() + START_TIMEOUT;
        loop {
            match self.api.status().await {
                Ok(status) if status.observer.state == ObserverState::Ok => return Ok(()),
                other => {
                    let log = self.folder.join("monitor.log");
                    anyhow::ensure!(
                        self.monitor.borrow_mut().runs(),
                        "the monitor under test has ended: {}",
                        std::fs::read_to_string(log).unwrap_or_default().trim_end()
                    );
                    anyhow::ensure!(Instant::now() < end, "the monitor under test is not ready: {other:?}");
                }
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// Whether the monitor says that it doubts itself.
    ///
    /// # Errors
    /// When it does not answer, also after a few attempts: a connection may have ended while it was stopped.
    pub(super) async fn is_suspect(&self) -> anyhow::Result<bool> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.api.status().await {
                Ok(status) => return Ok(status.observer.state == ObserverState::Suspect),
                Err(error) if attempts >= STATUS_ATTEMPTS_MAX => return Err(error.into()),
                Err(_) => tokio::time::sleep(ASK_EVERY).await,
            }
        }
    }

    /// How long a verdict may take before it counts as missed: a doubt lasts two deadlines, and the
    /// machine may be slow.
    #[must_use]
    pub(super) fn patience(&self) -> Duration {
        self.args.deadline * 4 + Duration::from_secs(10)
    }

    /// Starts the broker again after it was killed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) async fn restart_mosquitto(&self) -> anyhow::Result<()> {
        match &self.mosquitto {
            Some(mosquitto) => mosquitto.lock().await.start().await,
            None => Ok(()),
        }
    }
}
