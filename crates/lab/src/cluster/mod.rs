//! `heartwatch demo cluster`: etcd, Kafka, a server, two agents and the analysis as real programs, and a story with
//! them that is told as it happens.

mod heard;
pub mod parts;

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::heard::Heard;
use self::parts::{Needed, Parts};
use crate::args::ClusterArgs;
use heartwatch_adapters::monitor::Monitor;
use heartwatch_console::drawing;
use heartwatch_console::print_line;
use heartwatch_console::{paint, tables};
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::time::{Timestamp, describe_duration};
use heartwatch_domain::verdict::Verdict;
use heartwatch_fleet::etcd::Etcd;
use heartwatch_formats::api::ExplanationView;
use heartwatch_formats::monitoring_command::MonitoringResult;
use heartwatch_ports::servers::EtcdConfig;
use heartwatch_ports::{ConfigSource as _, Keys};
use heartwatch_servers::directory::Directory;
use heartwatch_system::clock::Clock;
use heartwatch_system::signals::Request;

/// The agents.
const WORKERS: [&str; 2] = ["worker-1", "worker-2"];
/// How often what is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long anything may take that depends on how fast the machine is alone.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long an agent's lease in etcd lasts.
const LEASE: Duration = Duration::from_secs(5);
/// How long an agent may be silent before the server asks after it.
const DEADLINE: Duration = Duration::from_secs(5);
/// How often an agent measures by itself.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);
/// What the first agent is told.
const FIRST_INTERVAL: Duration = Duration::from_secs(2);
/// What the second one is.
const SECOND_INTERVAL: Duration = Duration::from_millis(500);
/// How many gaps in a row have to be like a new interval.
const GAPS: usize = 3;

/// A signal ended the story.
#[derive(Debug, thiserror::Error)]
#[error("stopped by a signal before the end")]
struct Stopped;

/// One thing that was waited for, and how long it took.
#[derive(Debug, Clone, serde::Serialize)]
struct Step {
    step: &'static str,
    seconds: f64,
    seen: String,
}

/// One line of the story for a program (`--json`).
#[derive(serde::Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum ClusterLine<'a> {
    Part { name: &'a str, pid: u32, address: &'a str },
    Act { act: &'a str },
    Step(&'a Step),
    Result { passed: bool, reasons: &'a [String] },
}

struct Stage<'a> {
    args: &'a ClusterArgs,
    clock: Clock,
    requests: mpsc::Receiver<Request>,
    steps: Vec<Step>,
    heard: Heard,
    etcd: Etcd,
    monitor: Monitor,
    /// Last: what is asked goes before who asks.
    parts: Parts,
}

/// Plays the story; the answer is the exit code: 0 only when everything was as the story says.
///
/// # Errors
/// When a part is not installed, with how to get it.
pub async fn cluster(args: &ClusterArgs, requests: mpsc::Receiver<Request>) -> anyhow::Result<u8> {
    let needed = Needed::find()?;
    let directory = match &args.data_dir {
        Some(folder) => {
            let directory = Directory::of_user(folder)?;
            let empty = std::fs::read_dir(folder)?.next().is_none();
            anyhow::ensure!(empty, "{} is not empty; a cluster begins with nothing", folder.display());
            directory
        }
        None => Directory::temporary("demo")?,
    };
    let parts = Parts::new(needed, directory.path().to_owned())?;
    let mut stage = Stage {
        args,
        clock: Clock::start(),
        requests,
        steps: Vec::new(),
        heard: Heard::of(parts.log("analysis")),
        etcd: Etcd::new(EtcdConfig::new(vec![parts.etcd_url.clone()]))?,
        monitor: Monitor::at(parts.page.clone())?,
        parts,
    };
    let played = stage.play().await;
    let reasons: Vec<String> = played.as_ref().err().map(|error| format!("{error:#}")).into_iter().collect();
    stage.conclude(played.err().is_some_and(|error| error.is::<Stopped>()), &reasons);
    // The programs first, then what they wrote.
    drop(stage);
    drop(directory);
    Ok(u8::from(!reasons.is_empty()))
}

impl Stage<'_> {
    async fn play(&mut self) -> anyhow::Result<()> {
        self.say(&paint::bold("A cluster: etcd, Kafka, a server, two agents, and the analysis behind Kafka."));
        self.start_all().await?;
        self.both_are_heard().await?;
        self.change_interval(WORKERS[0], FIRST_INTERVAL, "worker-1-interval").await?;
        self.change_interval(WORKERS[1], SECOND_INTERVAL, "worker-2-interval").await?;
        self.send_a_command().await?;
        self.kill_a_worker().await?;
        self.stop_all().await
    }

    async fn start_all(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        self.parts.start_etcd()?;
        self.introduce("etcd", self.parts.etcd_url.as_str().trim_end_matches('/'))?;
        self.parts.start_kafka().await?;
        self.introduce("kafka", &self.parts.brokers)?;
        self.until("etcd and Kafka answer", PATIENCE, async |stage| {
            let kafka = tokio::net::TcpStream::connect(&stage.parts.brokers).await.is_ok();
            Ok((kafka && stage.etcd.read(key("config", WORKERS[0])).await.is_ok()).then_some(()))
        })
        .await?;
        let Parts { brokers, server, page, etcd_url, .. } = &self.parts;
        let (brokers, server, etcd_url) = (brokers.clone(), server.clone(), etcd_url.to_string());
        let page_address = page.authority().to_owned();
        let deadline = format!("{}s", DEADLINE.as_secs());
        let arguments =
            ["server", "--listen", &server, "--kafka", &brokers, "--web", &page_address, "--deadline", &deadline];
        self.parts.start_heartwatch("server", &[&arguments[..], &["--data-dir", "server"]].concat())?;
        self.introduce("server", &format!("{server}, page {}", self.parts.page))?;
        self.parts.start_heartwatch("analysis", &["analysis", "--kafka", &brokers, "--from-beginning", "--json"])?;
        self.introduce("analysis", "reads Kafka")?;
        self.until("the server answers", PATIENCE, async |stage| {
            let listens = tokio::net::TcpStream::connect(&stage.parts.server).await.is_ok();
            Ok((listens && stage.monitor.status().await.is_ok()).then_some(()))
        })
        .await?;
        let lease = format!("{}s", LEASE.as_secs());
        for worker in WORKERS {
            let arguments = ["agent", "--id", worker, "--name", worker, "--server", &server, "--etcd", &etcd_url];
            let more = ["--heartbeat", "1s", "--lease", &lease, "--data-dir", worker];
            self.parts.start_heartwatch(worker, &[&arguments[..], &more].concat())?;
            self.introduce(worker, "an agent")?;
        }
        self.say("");
        self.tell("parts-up", began, "etcd, Kafka, server, analysis and two agents run".to_owned());
        Ok(())
    }

    async fn both_are_heard(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        self.until("both agents are alive for the server, with a heartbeat in etcd", PATIENCE, async |stage| {
            for worker in WORKERS {
                let beats = stage.value("heartbeat", worker).await?.is_some();
                if !beats || stage.verdict(worker).await != Some(Verdict::Alive) {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
        .await?;
        self.tell("agents-heard", began, "the server says alive of both, etcd has both heartbeats".to_owned());
        for worker in WORKERS {
            let config = self.value("config", worker).await?.context("it wrote no configuration")?;
            let config: Value = serde_json::from_slice(&config)?;
            let asked = config["interval"].as_f64();
            anyhow::ensure!(
                asked == Some(DEFAULT_INTERVAL.as_secs_f64()),
                "{worker} wrote itself the interval {asked:?}"
            );
        }
        let seen = self.until_interval(&WORKERS, Timestamp::default(), DEFAULT_INTERVAL, 1).await?;
        let said = format!("the analysis has readings of both, every {} by default", precise(seen));
        self.tell("default-interval", began, said);
        Ok(())
    }

    async fn change_interval(
        &mut self,
        worker: &'static str,
        interval: Duration,
        step: &'static str,
    ) -> anyhow::Result<()> {
        let document = json!({ "interval": interval.as_secs_f64() }).to_string();
        let (since, began) = (self.clock.wall(), Instant::now());
        self.act(&format!("etcdctl put /monitor/config/{worker} '{document}'"));
        self.etcd.put(path("config", worker), document.into_bytes(), None).await?;
        let seen = self.until_interval(&[worker], since, interval, GAPS).await?;
        let said = format!("{worker} measures every {}, as the analysis sees in {GAPS} gaps", precise(seen));
        self.tell(step, began, said);
        Ok(())
    }

    /// Waits until the analysis has readings of these agents that are so far apart; the distance of the last one's.
    async fn until_interval(
        &mut self,
        workers: &[&str],
        since: Timestamp,
        interval: Duration,
        gaps: usize,
    ) -> anyhow::Result<Duration> {
        let what = format!("readings of {} every {}", workers.join(" and "), describe_duration(interval));
        self.until(&what, PATIENCE, async |stage| {
            stage.heard.look()?;
            let seen = workers.iter().map(|worker| stage.heard.interval_seen(worker, since, interval, gaps));
            Ok(seen.collect::<Option<Vec<_>>>().and_then(|seen| seen.last().copied()))
        })
        .await
    }

    async fn send_a_command(&mut self) -> anyhow::Result<()> {
        let worker = WORKERS[0];
        let began = Instant::now();
        self.act(&format!("heartwatch analysis send {worker} status"));
        let brokers = self.parts.brokers.clone();
        let arguments = ["analysis", "send", worker, "status", "--json", "--kafka", &brokers];
        let mut sender = self.parts.run_heartwatch("send", &arguments)?;
        self.until("the command is answered", PATIENCE, async |_| Ok((!sender.runs()).then_some(()))).await?;
        let said = std::fs::read_to_string(self.parts.log("send"))?;
        let result = said.lines().find_map(|line| serde_json::from_str::<MonitoringResult>(line).ok());
        let result = result.with_context(|| format!("no answer to the command, but: {said}"))?;
        anyhow::ensure!(result.success && result.client_id == worker, "the command failed: {}", result.output);
        let status: Value = serde_json::from_str(&result.output).context("the answer to 'status' is no JSON")?;
        let interval = status["config"]["interval"].as_f64();
        anyhow::ensure!(
            interval == Some(FIRST_INTERVAL.as_secs_f64()),
            "{worker} says that its interval is {interval:?}"
        );
        let said = format!("{worker} answers: interval {} s", FIRST_INTERVAL.as_secs());
        self.tell("command-answered", began, said);
        Ok(())
    }

    async fn kill_a_worker(&mut self) -> anyhow::Result<()> {
        let worker = WORKERS[1];
        let pid = self.parts.pid(worker)?;
        let began = Instant::now();
        self.parts.kill(worker)?;
        self.act(&format!("kill -9 {pid}  ({worker})"));
        let dead = self
            .until("the server says that it is dead", PATIENCE, async |stage| {
                let view = stage.explain(worker).await;
                Ok(view.filter(|view| view.publisher.verdict == Verdict::Dead))
            })
            .await?;
        let evidence = dead.change.map(|change| change.evidence).unwrap_or_default();
        anyhow::ensure!(!evidence.is_empty(), "the server says that {worker} is dead, without evidence");
        let said = format!("the server: {worker} is {}", dead.publisher.summary);
        self.tell("worker-dead", began, said);
        self.until("its heartbeat is gone from etcd", LEASE + PATIENCE, async |stage| {
            Ok(stage.value("heartbeat", worker).await?.is_none().then_some(()))
        })
        .await?;
        let lease = describe_duration(LEASE);
        self.tell(
            "lease-expired",
            began,
            format!("etcd: the heartbeat of {worker} is gone, its lease of {lease} expired"),
        );
        anyhow::ensure!(self.verdict(WORKERS[0]).await == Some(Verdict::Alive), "{} is not alive any more", WORKERS[0]);
        Ok(())
    }

    async fn stop_all(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        let worker = WORKERS[0];
        self.parts.stop(worker).await?;
        anyhow::ensure!(self.value("heartbeat", worker).await?.is_none(), "{worker} has left its heartbeat in etcd");
        self.until("the server says that it has ended", PATIENCE, async |stage| {
            Ok((stage.verdict(worker).await == Some(Verdict::Ended)).then_some(()))
        })
        .await?;
        // What the agents had confirmed is in Kafka, and comes out of it once.
        let stored = self
            .until("all readings are in Kafka", PATIENCE, async |stage| {
                let total = stage.monitor.ledger().await?.total;
                Ok((total.buffered == 0).then_some(total))
            })
            .await?;
        anyhow::ensure!(stored.lost == 0, "{} readings are lost", stored.lost);
        let readings = self
            .until("the analysis has all of them", PATIENCE, async |stage| {
                stage.heard.look()?;
                let readings = WORKERS.iter().map(|worker| stage.heard.readings(worker)).sum::<u64>();
                Ok((readings >= stored.stored).then_some(readings))
            })
            .await?;
        anyhow::ensure!(
            readings == stored.stored,
            "the server handed on {} readings, and the analysis has {readings}",
            stored.stored
        );
        for part in ["server", "analysis", "kafka", "etcd"] {
            self.parts.stop(part).await?;
        }
        self.heard.look()?;
        let counted = self.heard.counted_in_all();
        anyhow::ensure!(counted == readings, "the analysis printed {readings} readings and counted {counted}");
        let left: Vec<&str> = self.parts.names().collect();
        anyhow::ensure!(left.is_empty(), "still there: {}", left.join(", "));
        self.tell(
            "all-stopped",
            began,
            format!("every part has ended in order; {readings} readings came through, each once"),
        );
        Ok(())
    }

    /// Looks until there is an answer, while all parts run.
    async fn until<T>(
        &mut self,
        what: &str,
        timeout: Duration,
        mut look: impl AsyncFnMut(&mut Self) -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let end = Instant::now() + timeout;
        loop {
            if let Some(found) = look(self).await? {
                return Ok(found);
            }
            anyhow::ensure!(Instant::now() < end, "not within {}: {what}", describe_duration(timeout));
            self.parts.all_run()?;
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                request = self.requests.recv() => anyhow::ensure!(request == Some(Request::Reload), Stopped),
            }
        }
    }

    /// What etcd has about a worker.
    async fn value(&self, kind: &str, worker: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let found = self.etcd.read(key(kind, worker)).await?;
        Ok(found.values.into_iter().next().map(|stored| stored.value))
    }

    /// What the server says of a worker; none while it does not know it.
    async fn explain(&self, worker: &str) -> Option<ExplanationView> {
        self.monitor.explain(&PublisherId::parse(worker).ok()?).await.ok()
    }

    async fn verdict(&self, worker: &str) -> Option<Verdict> {
        Some(self.explain(worker).await?.publisher.verdict)
    }

    fn say(&self, text: &str) {
        if !self.args.json {
            print_line(text);
        }
    }

    fn say_json(&self, line: &ClusterLine<'_>) {
        if self.args.json
            && let Ok(json) = serde_json::to_string(line)
        {
            print_line(&json);
        }
    }

    fn introduce(&self, name: &str, address: &str) -> anyhow::Result<()> {
        let pid = self.parts.pid(name)?;
        self.say(&format!("  {name:<9} {address} (PID {pid})"));
        self.say_json(&ClusterLine::Part { name, pid, address });
        Ok(())
    }

    fn act(&self, act: &str) {
        self.say(&format!("{}  {}", paint::faint(&self.clock.wall().time_of_day()), paint::bold(act)));
        self.say_json(&ClusterLine::Act { act });
    }

    fn tell(&mut self, step: &'static str, began: Instant, seen: String) {
        let took = began.elapsed();
        let step = Step { step, seconds: took.as_secs_f64(), seen };
        let now = paint::faint(&self.clock.wall().time_of_day());
        self.say(&format!("{now}  {}  {}", step.seen, paint::faint(&format!("(after {})", describe_duration(took)))));
        self.say_json(&ClusterLine::Step(&step));
        self.steps.push(step);
    }

    fn conclude(&self, stopped: bool, reasons: &[String]) {
        self.say_json(&ClusterLine::Result { passed: reasons.is_empty(), reasons });
        if stopped {
            return self.say("\nStopped by a signal before the end.");
        }
        let rows = self
            .steps
            .iter()
            .map(|Step { step, seconds, seen }| vec![(*step).to_owned(), format!("{seconds:.1} s"), seen.clone()]);
        self.say(&format!("\n{}", tables::plain(&["STEP", "TOOK", "SEEN"], rows, drawing()).trim_end()));
        if reasons.is_empty() {
            return self.say("\nThe cluster did what the story says.");
        }
        for reason in reasons {
            self.say(&format!("\nNot as the story says: {reason}"));
        }
        match &self.args.data_dir {
            Some(folder) => self.say(&format!("What every part said is in {}/*.log", folder.display())),
            None => self.say("With --data-dir DIR what every part said stays there"),
        }
    }
}

/// A key of the documents about an agent (`formats::agent`).
fn path(kind: &str, worker: &str) -> String {
    format!("/monitor/{kind}/{worker}")
}

fn key(kind: &str, worker: &str) -> Keys {
    Keys::One(path(kind, worker))
}

/// With milliseconds: how near an interval is to the one that was wanted.
fn precise(duration: Duration) -> String {
    format!("{:.3} s", duration.as_secs_f64())
}
