//! The programs of a cluster: what they need of the machine, how each is started, and stopped.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;
use url::Url;

use crate::prove::program::{Launch, Program, find, free_port};

/// Where Kafka's jars are, unless they are where `make kafka` puts them.
const LIBS_VARIABLE: &str = "HEARTWATCH_KAFKA_LIBS";
/// Where `make kafka` puts them, seen from the repository.
const LIBS: &str = "target/kafka/libs";
/// How long Kafka may take to make its directory.
const FORMAT_TIMEOUT: Duration = Duration::from_secs(120);
/// The id of Kafka's cluster; it means nothing to us.
const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qg";
/// How long a part may take to end in order.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// What of the machine is needed beside ourselves.
#[derive(Debug)]
pub(crate) struct Needed {
    etcd: PathBuf,
    java: PathBuf,
    kafka_libs: PathBuf,
    heartwatch: PathBuf,
}

impl Needed {
    /// Looks for it.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let named = std::env::var_os(LIBS_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        let kafka_libs = std::path::absolute(named.unwrap_or_else(|| LIBS.into()))?;
        let has_jars = std::fs::read_dir(&kafka_libs)
            .is_ok_and(|files| files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("kafka_")));
        let (etcd, java) = (find("etcd"), find("java"));
        let mut missing = Vec::new();
        if etcd.is_none() {
            missing.push("etcd is not installed (Debian: apt-get install etcd-server)".to_owned());
        }
        if java.is_none() {
            missing.push(
                "Java, which Kafka needs, is not installed (Debian: apt-get install openjdk-17-jre-headless)"
                    .to_owned(),
            );
        }
        if !has_jars {
            let libs = kafka_libs.display();
            missing.push(format!(
                "Kafka's jars are not in {libs}: `make kafka` in the repository fetches them from Maven Central to {LIBS}; \
                 {LIBS_VARIABLE} names another folder, such as the libs of a Kafka that you have"
            ));
        }
        match (etcd, java) {
            (Some(etcd), Some(java)) if has_jars => {
                let heartwatch = std::env::current_exe().context("cannot find this program")?;
                Ok(Self { etcd, java, kafka_libs, heartwatch })
            }
            _ => anyhow::bail!("a cluster needs etcd and Kafka:\n  {}", missing.join("\n  ")),
        }
    }
}

/// A part that runs.
struct Part {
    name: String,
    program: Program,
}

/// The programs that run, in the order in which they were started. Dropped, they are killed.
pub(crate) struct Parts {
    needed: Needed,
    folder: PathBuf,
    running: Vec<Part>,
    /// Where etcd answers.
    pub etcd_url: Url,
    /// Where Kafka does.
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
    /// When there are no free ports.
    pub(crate) fn new(needed: Needed, folder: PathBuf) -> anyhow::Result<Self> {
        Ok(Self {
            needed,
            folder,
            running: Vec::new(),
            etcd_url: format!("http://127.0.0.1:{}", free_port()?).parse()?,
            brokers: format!("127.0.0.1:{}", free_port()?),
            server: format!("127.0.0.1:{}", free_port()?),
            page: format!("http://127.0.0.1:{}", free_port()?).parse()?,
        })
    }

    /// Starts etcd, a cluster of one member.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start_etcd(&mut self) -> anyhow::Result<()> {
        let url = self.etcd_url.as_str().trim_end_matches('/').to_owned();
        let peer = format!("http://127.0.0.1:{}", free_port()?);
        let (member, data) = (format!("n1={peer}"), self.folder.join("etcd").display().to_string());
        let arguments = [
            ["--name", "n1"],
            ["--data-dir", &data],
            ["--listen-client-urls", &url],
            ["--advertise-client-urls", &url],
            ["--listen-peer-urls", &peer],
            ["--initial-advertise-peer-urls", &peer],
            ["--initial-cluster", &member],
            ["--logger", "zap"],
        ];
        let program = self.needed.etcd.clone();
        self.start("etcd", &program, arguments.as_flattened())
    }

    /// Starts Kafka, a broker that is its own controller, over what is in its directory; the first time it is made.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) async fn start_kafka(&mut self) -> anyhow::Result<()> {
        let controller = free_port()?;
        let Self { folder, brokers, .. } = &*self;
        let data = folder.join("kafka");
        let made = data.exists();
        let data = data.display().to_string();
        let properties = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://{brokers},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://{brokers}\ncontroller.listener.names=CONTROLLER\nlog.dirs={data}\n\
             num.partitions=2\noffsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             group.initial.rebalance.delay.ms=0\nauto.create.topics.enable=true\n"
        );
        let file = folder.join("kafka.properties");
        std::fs::write(&file, properties).with_context(|| format!("cannot write {}", file.display()))?;
        let file = file.display().to_string();
        let class_path = format!("{}/*", self.needed.kafka_libs.display());
        let java = ["-Xmx256m", "-Xms64m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", &class_path];
        let program = self.needed.java.clone();
        if !made {
            let format = [&java[..], &["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", &file]].concat();
            let mut format = self.launch("kafka", &program, &format)?;
            let status = format.collect(FORMAT_TIMEOUT).await?;
            anyhow::ensure!(status.success(), "Kafka could not make its directory: {}", self.last_words("kafka"));
        }
        self.start("kafka", &program, &[&java[..], &["kafka.Kafka", &file]].concat())
    }

    /// Starts this program with these arguments as the part `name`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start_heartwatch(&mut self, name: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let program = self.needed.heartwatch.clone();
        self.start(name, &program, arguments)
    }

    /// This program with these arguments, to be waited for. It is no part.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn run_heartwatch(&self, name: &str, arguments: &[&str]) -> anyhow::Result<Program> {
        self.launch(name, &self.needed.heartwatch, arguments)
    }

    fn start(&mut self, name: &str, program: &Path, arguments: &[&str]) -> anyhow::Result<()> {
        let program = self.launch(name, program, arguments)?;
        self.running.push(Part { name: name.to_owned(), program });
        Ok(())
    }

    fn launch(&self, name: &str, program: &Path, arguments: &[&str]) -> anyhow::Result<Program> {
        Program::start(Launch {
            program,
            arguments: arguments.iter().map(OsString::from).collect(),
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
        self.running.iter().map(|part| part.name.as_str())
    }

    /// The PID of a part.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn pid(&self, name: &str) -> anyhow::Result<u32> {
        Ok(self.part(name)?.program.pid())
    }

    /// Sends a signal to a part.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn signal(&self, name: &str, signal: Signal) -> anyhow::Result<()> {
        self.part(name)?.program.signal(signal)
    }

    fn part(&self, name: &str) -> anyhow::Result<&Part> {
        self.running.iter().find(|part| part.name == name).with_context(|| format!("{name} does not run"))
    }

    /// Whether all that should run do.
    ///
    /// # Errors
    /// Which has ended, with its last words.
    pub(crate) fn all_run(&mut self) -> anyhow::Result<()> {
        let ended = self.running.iter_mut().find_map(|part| (!part.program.runs()).then(|| part.name.clone()));
        match ended {
            None => Ok(()),
            Some(name) => anyhow::bail!("{name} has ended, it said last: {}", self.last_words(&name)),
        }
    }

    /// Ends a part with SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) async fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        let mut part = self.take(name)?;
        part.program.signal(Signal::KILL)?;
        part.program.collect(STOP_TIMEOUT).await?;
        Ok(())
    }

    /// Ends a part in order.
    ///
    /// # Errors
    /// When it did not end, or one of ours did not end with exit code 0.
    pub(crate) async fn stop(&mut self, name: &str) -> anyhow::Result<()> {
        let mut part = self.take(name)?;
        part.program.signal(Signal::TERM)?;
        let status = part.program.collect(STOP_TIMEOUT).await.with_context(|| format!("{name} was told to end"))?;
        // etcd and Java end themselves by the signal that they were sent.
        let others = ["etcd", "kafka"].contains(&name);
        anyhow::ensure!(others || status.success(), "{name} ended with {status}: {}", self.last_words(name));
        Ok(())
    }

    fn take(&mut self, name: &str) -> anyhow::Result<Part> {
        let index = self.running.iter().position(|part| part.name == name);
        Ok(self.running.remove(index.with_context(|| format!("{name} does not run"))?))
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        // Whoever needs another goes first.
        while self.running.pop().is_some() {}
    }
}
