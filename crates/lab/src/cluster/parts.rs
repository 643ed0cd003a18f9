//! The programs of a cluster: what they need of the machine, how each is started, and stopped.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;
use url::Url;

use heartwatch_servers::kafka::{KafkaFiles, kafka};
use heartwatch_servers::program::{Launch, Program};
use heartwatch_servers::server::Server;
use heartwatch_servers::{etcd, find, free_address};

/// How long a part may take to end in order.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// What Kafka is called.
const KAFKA: &str = "kafka";

/// What of the machine is needed beside ourselves.
#[derive(Debug)]
pub(crate) struct Needed {
    etcd: PathBuf,
    kafka: KafkaFiles,
    heartwatch: PathBuf,
}

impl Needed {
    /// Looks for it.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let (etcd, kafka) = (find(etcd::PROGRAM), KafkaFiles::find(Path::new("")));
        match (etcd, kafka) {
            (Some(etcd), Ok(kafka)) => {
                let heartwatch = std::env::current_exe().context("cannot find this program")?;
                Ok(Self { etcd, kafka, heartwatch })
            }
            (etcd, kafka) => {
                let no_etcd = "etcd is not installed (Debian: apt-get install etcd-server)".to_owned();
                let missing = etcd.is_none().then_some(no_etcd).into_iter().chain(kafka.err().unwrap_or_default());
                anyhow::bail!("a cluster needs etcd and Kafka:\n  {}", missing.collect::<Vec<_>>().join("\n  "))
            }
        }
    }
}

/// The programs, in the order in which they were started. Dropped, they are killed.
pub(crate) struct Parts {
    needed: Needed,
    folder: PathBuf,
    started: Vec<Server>,
    /// Where etcd answers.
    pub etcd_url: Url,
    /// Where Kafka does, once it was started.
    pub brokers: String,
    /// Where agents connect.
    pub server: String,
    /// The server's page.
    pub page: Url,
}

impl Parts {
    /// Chooses ports; starts nothing.
    ///
    /// # Errors
    /// When there are no free ports, or etcd's files cannot be made.
    pub(crate) fn new(needed: Needed, folder: PathBuf) -> anyhow::Result<Self> {
        let etcd = etcd::etcd(&needed.etcd, &folder, 1, false)?;
        let etcd_url = format!("http://{}", etcd.first().context("no member of etcd")?.address()).parse()?;
        let started = etcd.into_iter().map(|member| Server { name: "etcd".to_owned(), ..member }).collect();
        let (server, page) = (free_address()?.to_string(), format!("http://{}", free_address()?).parse()?);
        Ok(Self { needed, folder, started, etcd_url, brokers: String::new(), server, page })
    }

    /// Starts etcd, a cluster of one member.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start_etcd(&mut self) -> anyhow::Result<()> {
        self.part("etcd")?.spawn()
    }

    /// Starts Kafka, over what is in its directory; the first time it is made.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) async fn start_kafka(&mut self) -> anyhow::Result<()> {
        if self.part(KAFKA).is_err() {
            let server = kafka(&self.needed.kafka, &self.folder).await?;
            self.brokers = server.address().to_string();
            self.started.push(server);
        }
        self.part(KAFKA)?.spawn()
    }

    /// Starts this program with these arguments as the part `name`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start_heartwatch(&mut self, name: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let arguments = arguments.iter().map(Into::into).collect();
        let mut server = Server { arguments, ..Server::new(name, &self.needed.heartwatch, &self.folder) };
        server.spawn()?;
        self.started.push(server);
        Ok(())
    }

    /// This program with these arguments, to be waited for. It is no part.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn run_heartwatch(&self, name: &str, arguments: &[&str]) -> anyhow::Result<Program> {
        Program::start(Launch {
            program: &self.needed.heartwatch,
            arguments: arguments.iter().map(Into::into).collect(),
            environment: Vec::new(),
            folder: &self.folder,
            log: &self.log(name),
            takes_commands: false,
        })
    }

    /// The file with all that a part has said.
    #[must_use]
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// The end of what a part has said.
    #[must_use]
    pub(crate) fn last_words(&self, name: &str) -> String {
        let said = std::fs::read(self.log(name)).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(5)).copied().collect::<Vec<_>>().join("\n")
    }

    /// The names of those that run.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.started.iter().filter(|part| part.running.is_some()).map(|part| part.name.as_str())
    }

    /// The PID of a part.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn pid(&self, name: &str) -> anyhow::Result<u32> {
        let part = self.started.iter().find(|part| part.name == name);
        part.and_then(Server::pid).with_context(|| format!("{name} does not run"))
    }

    /// Sends a signal to a part.
    ///
    /// # Errors
    /// When it was never started.
    pub(crate) fn signal(&mut self, name: &str, signal: Signal) -> anyhow::Result<()> {
        self.part(name)?.signal(signal)
    }

    fn part(&mut self, name: &str) -> anyhow::Result<&mut Server> {
        // one of ours that was started again stands there twice, the last one runs
        let part = self.started.iter_mut().rev().find(|part| part.name == name);
        part.with_context(|| format!("{name} was never started"))
    }

    /// Whether all that should run do.
    ///
    /// # Errors
    /// Which has ended, with its last words.
    pub(crate) fn all_run(&mut self) -> anyhow::Result<()> {
        let ended = self.started.iter_mut().find_map(|part| part.ended_by_itself().then(|| part.name.clone()));
        match ended {
            None => Ok(()),
            Some(name) => anyhow::bail!("{name} has ended, it said last: {}", self.last_words(&name)),
        }
    }

    /// Ends a part with SIGKILL.
    ///
    /// # Errors
    /// When it was never started.
    pub(crate) fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        self.part(name)?.kill();
        Ok(())
    }

    /// Ends a part in order.
    ///
    /// # Errors
    /// When it did not end, or one of ours did not end with exit code 0.
    pub(crate) async fn stop(&mut self, name: &str) -> anyhow::Result<()> {
        let part = self.part(name)?;
        part.signal(Signal::TERM)?;
        let status = part.collect(STOP_TIMEOUT).await.with_context(|| format!("{name} was told to end"))?;
        // etcd and Java end themselves by the signal that they were sent.
        let others = ["etcd", KAFKA].contains(&name);
        anyhow::ensure!(others || status.success(), "{name} ended with {status}: {}", self.last_words(name));
        Ok(())
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        // Whoever needs another goes first.
        while self.started.pop().is_some() {}
    }
}
