//! `heartwatch prove`: a monitor of its own, real publishers, faults in an order that follows from a
//! seed, and the confusion matrix of what was true and what the monitor said.

mod finding;
#[cfg(all(feature = "hosts", feature = "kafka"))]
mod kafka;
#[cfg(not(all(feature = "hosts", feature = "kafka")))]
#[path = "without_kafka.rs"]
mod kafka;
mod plan;
mod record;
mod report;
mod shared_faults;
mod subject;
mod testbed;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use futures_util::future::try_join_all;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::mpsc;

use self::finding::Finding;
use self::kafka::{Kafka, KafkaFiles};
use self::plan::{Plan, Reach};
use self::report::Report;
use self::subject::{Make, Subject, TRACER, containers_can_be_made};
use self::testbed::{Beside, Testbed};
use crate::args::{FaultKind, ProveArgs};
use crate::prove::directory;
use heartwatch_adapters::process::HostProcesses;
use heartwatch_console::drawing;
use heartwatch_domain::process::ProcessIdentity;
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::simulation::simulate;
use heartwatch_ports::ProcessTable as _;
use heartwatch_servers::{find, mosquitto};
use heartwatch_system::clock::Clock;
use heartwatch_system::signals::{Request, told_to_end};

/// Publishers of the broker that is killed.
const BROKER_PUBLISHERS: u16 = 6;
/// Agents that are heard over Kafka.
const KAFKA_AGENTS: u16 = 3;
/// Publishers beside them, which are not.
const PUBLISHERS_BESIDE_KAFKA: u16 = 3;

/// Injects the faults and prints what was detected; the answer is the exit code.
///
/// # Errors
/// When a part cannot be started, or a signal ended it.
pub(super) async fn prove(args: &ProveArgs, mut requests: mpsc::Receiver<Request>) -> anyhow::Result<u8> {
    let folder = directory(args.data_dir.as_deref(), args.keep)?;
    let clock = Clock::start();
    let bystander = HostProcesses::new(clock).own_identity();
    let parts =
        Found { identities: bystander.is_some(), mosquitto: find(mosquitto::PROGRAM), kafka: KafkaFiles::find() };
    let (kinds, skipped) = possible(&args.only, &parts);
    anyhow::ensure!(!kinds.is_empty(), "nothing can be injected here: {}", report::said_skipped(&skipped));
    let mut random = fastrand::Rng::with_seed(args.seed);
    let plan = Plan::new(args.faults, &kinds, &mut random);
    let progress = progress(args, plan.rounds())?;
    let proof = Proof { args, folder: folder.path(), clock, bystander, progress: &progress };
    let findings = tokio::select! {
        findings = proof.run(&plan, parts, &mut random) => findings?,
        () = told_to_end(&mut requests) => anyhow::bail!("ended by a signal before all faults were injected"),
    };
    let took = clock.monotonic();
    let simulation = match args.simulated_hours {
        0 => None,
        hours => {
            progress.set_message(format!("{hours} simulated publisher-hours"));
            let (sent, simulated) = tokio::sync::oneshot::channel();
            let seed = args.seed;
            // A thread of its own: a signal ends the program without waiting for it.
            let name = "simulation".to_owned();
            std::thread::Builder::new().name(name).spawn(move || {
                // Nobody waits for it any more when a signal came.
                let _ = sent.send(simulate(seed, hours));
            })?;
            tokio::select! {
                simulated = simulated => Some(simulated.context("the simulation ended before its time")?),
                () = told_to_end(&mut requests) => anyhow::bail!("ended by a signal during the simulation"),
            }
        }
    };
    progress.finish_and_clear();
    let report = Report::new(args, &findings, skipped, simulation, took);
    if args.json {
        anstream::println!("{}", serde_json::to_string(&report)?);
    } else {
        anstream::println!("{}", report.text(drawing()).trim_end());
    }
    Ok(u8::from(!report.passed))
}

fn progress(args: &ProveArgs, rounds: u64) -> anyhow::Result<ProgressBar> {
    let shown = std::io::stderr().is_terminal() && !args.json;
    let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let progress = ProgressBar::with_draw_target(Some(rounds), target);
    progress.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} rounds, {eta} left  {msg}")?);
    Ok(progress)
}

/// What this machine has for a proof.
struct Found {
    /// Whether this system tells processes with the same PID apart.
    identities: bool,
    mosquitto: Option<PathBuf>,
    /// What a Kafka is started with, or why none can be.
    kafka: anyhow::Result<KafkaFiles>,
}

/// What can be injected here, and why the rest can't.
fn possible(only: &[FaultKind], found: &Found) -> (Vec<FaultKind>, BTreeMap<FaultKind, String>) {
    let mut skipped = BTreeMap::new();
    let wanted = FaultKind::ALL.into_iter().filter(|kind| only.is_empty() || only.contains(kind));
    let kinds = wanted.filter(|kind| {
        let reason = match (kind, &found.kafka) {
            (FaultKind::ClockStep, _) => {
                "it would set the clock of the whole machine; what decides is the monotonic clock, by type".to_owned()
            }
            (FaultKind::BrokerKill, _) if found.mosquitto.is_none() => {
                "mosquitto is not installed, and the embedded broker is the monitor itself".to_owned()
            }
            (FaultKind::KafkaAway, Err(reason)) => format!("{reason:#}"),
            (FaultKind::PidReuse, _) if !found.identities => {
                "this system does not tell processes with the same PID apart".to_owned()
            }
            (FaultKind::OutboxStall, _) if find(TRACER).is_none() => {
                "strace, which holds up a program's writes, is not installed".to_owned()
            }
            (FaultKind::ContainerKill, _) if !containers_can_be_made() => {
                "a PID namespace cannot be made here: it needs root, and `unshare` of util-linux".to_owned()
            }
            _ => return true,
        };
        skipped.insert(*kind, reason);
        false
    });
    (kinds.collect(), skipped)
}

/// How many publishers of each make: as large a share of them as of the kinds of faults that single ones go through.
fn makes(plan: &Plan, publishers: u16) -> Vec<(Make, u16)> {
    let mut kinds: BTreeMap<Make, usize> = BTreeMap::new();
    for make in plan.acts.iter().flat_map(|act| act.single.keys()) {
        kinds.insert(*make, FaultKind::ALL.into_iter().filter(|kind| kind.reach() == Reach::One(*make)).count());
    }
    if plan.acts.iter().any(|act| act.everybody.is_some()) {
        kinds.entry(Make::Real).or_insert(1);
    }
    let all = kinds.values().sum::<usize>().max(1);
    let share = |of: usize| u16::try_from(usize::from(publishers) * of / all).unwrap_or(u16::MAX).max(1);
    let others = kinds.iter().skip(1).map(|(make, of)| (*make, share(*of))).collect::<Vec<_>>();
    let taken = others.iter().map(|(_, count)| count).sum();
    let first = kinds.keys().next().map(|make| (*make, publishers.saturating_sub(taken).max(1)));
    first.into_iter().chain(others).collect()
}

struct Proof<'a> {
    args: &'a ProveArgs,
    folder: &'a Path,
    clock: Clock,
    bystander: Option<ProcessIdentity>,
    progress: &'a ProgressBar,
}

impl Proof<'_> {
    async fn run(&self, plan: &Plan, found: Found, random: &mut fastrand::Rng) -> anyhow::Result<Vec<Finding>> {
        let mut findings = Vec::new();
        if plan.rounds_on_the_embedded_broker() > 0 {
            let stage = self.stage("embedded", Beside::Nothing).await?;
            findings = tokio::select! {
                findings = self.play(&stage, plan, random) => findings?,
                gone = stage.record.listen(&stage.api) => match gone? {},
            };
        }
        if let (Some(file), true) = (found.mosquitto, plan.broker_kills > 0) {
            let stage = self.stage("mosquitto", Beside::Mosquitto(&file)).await?;
            let kills = self.kill_brokers(&stage, plan.broker_kills, random);
            findings.extend(tokio::select! {
                findings = kills => findings?,
                gone = stage.record.listen(&stage.api) => match gone? {},
            });
        }
        if let (Ok(files), true) = (found.kafka, plan.kafka_outages > 0) {
            self.progress.set_message("starting a Kafka");
            let mut kafka = Kafka::start(files, &self.folder.join("kafka")).await?;
            let brokers = kafka.brokers().to_owned();
            let stage = self.stage("kafka", Beside::Kafka { brokers: &brokers, server: kafka.server()? }).await?;
            let kills = self.take_kafka_away(&stage, plan.kafka_outages, &mut kafka, random);
            findings.extend(tokio::select! {
                findings = kills => findings?,
                gone = stage.record.listen(&stage.api) => match gone? {},
            });
        }
        Ok(findings)
    }

    async fn stage(&self, name: &str, beside: Beside<'_>) -> anyhow::Result<Testbed> {
        self.progress.set_message(format!("starting a monitor ({name})"));
        let nobody = ProcessIdentity { pid: 0, start_ticks: 0, boot_id: "".into() };
        let bystander = self.bystander.clone().unwrap_or(nobody);
        Testbed::start(self.args, &self.folder.join(name), self.clock, bystander, beside).await
    }

    async fn subjects<'s>(
        &self,
        stage: &'s Testbed,
        make: Make,
        count: u16,
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<Vec<Subject<'s>>> {
        let mut subjects = Vec::new();
        for number in 1..=count {
            let id = PublisherId::parse(&format!("{}-{number:02}", make.name()))?;
            subjects.push(Subject::new(stage, make, id, random.fork()).await?);
        }
        Ok(subjects)
    }

    async fn play(&self, stage: &Testbed, plan: &Plan, random: &mut fastrand::Rng) -> anyhow::Result<Vec<Finding>> {
        let mut groups = Vec::new();
        for (make, count) in makes(plan, self.args.publishers()) {
            groups.push((make, self.subjects(stage, make, count, random).await?));
        }
        self.progress.set_message("starting publishers");
        let all = groups.iter_mut().flat_map(|(_, subjects)| subjects);
        try_join_all(all.map(Subject::be_alive)).await?;
        let mut findings = Vec::new();
        for (number, act) in plan.acts.iter().enumerate() {
            self.progress.set_message("faults of single publishers");
            let each = groups.iter_mut().filter_map(|(make, subjects)| Some((subjects, act.single.get(make)?)));
            let came = try_join_all(each.map(|(subjects, faults)| self.work(subjects, faults))).await?;
            findings.extend(came.into_iter().flatten());
            if let Some(fault) = act.everybody {
                self.progress.set_message(fault.words());
                let before = plan.acts.iter().take(number).filter(|act| act.everybody == Some(fault)).count();
                let everybody = &mut groups.iter_mut().flat_map(|(_, subjects)| subjects).collect::<Vec<_>>();
                findings.extend(shared_faults::go_through(stage, everybody, fault, before, random).await?);
                self.progress.inc(1);
            }
        }
        Ok(findings)
    }

    /// Has the subjects go through these faults side by side, each taking the next one that is left.
    async fn work(&self, subjects: &mut [Subject<'_>], faults: &[FaultKind]) -> anyhow::Result<Vec<Finding>> {
        let left = std::cell::RefCell::new(faults.iter().copied());
        let each = subjects.iter_mut().map(async |subject| {
            let mut findings = Vec::new();
            loop {
                let next = left.borrow_mut().next();
                let Some(fault) = next else { return anyhow::Ok(findings) };
                let came = subject.go_through(fault).await;
                findings.extend(came.with_context(|| format!("{} on {}", fault.words(), subject.id))?);
                self.progress.inc(1);
            }
        });
        Ok(try_join_all(each).await?.into_iter().flatten().collect())
    }

    async fn take_kafka_away(
        &self,
        stage: &Testbed,
        times: u32,
        kafka: &mut Kafka,
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<Vec<Finding>> {
        let mut agents = self.subjects(stage, Make::Agent, KAFKA_AGENTS, random).await?;
        let mut others = self.subjects(stage, Make::Real, PUBLISHERS_BESIDE_KAFKA, random).await?;
        let mut findings = Vec::new();
        self.progress.set_message(FaultKind::KafkaAway.words());
        for _ in 0..times {
            findings.extend(shared_faults::kafka_away(stage, &mut agents, &mut others, kafka, random).await?);
            self.progress.inc(1);
        }
        Ok(findings)
    }

    async fn kill_brokers(
        &self,
        stage: &Testbed,
        times: u32,
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<Vec<Finding>> {
        let mut subjects = self.subjects(stage, Make::Real, BROKER_PUBLISHERS, random).await?;
        let mut findings = Vec::new();
        let mut everybody = subjects.iter_mut().collect::<Vec<_>>();
        self.progress.set_message(FaultKind::BrokerKill.words());
        for _ in 0..times {
            findings.extend(shared_faults::broker_killed(stage, &mut everybody, random).await?);
            self.progress.inc(1);
        }
        Ok(findings)
    }
}
