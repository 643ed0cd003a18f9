//! `heartwatch prove`: a monitor of its own, real publishers, faults in an order that follows from a
//! seed, and the confusion matrix of what was true and what the monitor said.

mod everybody;
mod finding;
mod plan;
mod record;
mod report;
mod stage;
mod subject;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::Path;

use anyhow::Context as _;
use futures_util::future::try_join_all;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::mpsc;

use self::finding::Finding;
use self::plan::{Plan, Reach};
use self::report::Report;
use self::stage::Stage;
use self::subject::{Make, Subject};
use crate::adapters::process::HostProcesses;
use crate::domain::process::ProcessIdentity;
use crate::domain::publisher::PublisherId;
use crate::domain::simulation::simulate;
use crate::ports::ProcessTable as _;
use crate::roles::ask::drawing;
use crate::roles::cli::{FaultKind, ProveArgs};
use crate::roles::prove::folder::Folder;
use crate::runtime::clock::Clock;
use crate::runtime::signals::{Request, told_to_end};

/// Publishers of the broker that is killed.
const BROKER_PUBLISHERS: u16 = 6;

/// Injects the faults and prints what was detected; the answer is the exit code.
///
/// # Errors
/// When a part cannot be started, or a signal ended it.
pub(super) async fn prove(args: &ProveArgs, mut requests: mpsc::Receiver<Request>) -> anyhow::Result<u8> {
    let folder = Folder::new(args.data_dir.as_deref(), args.keep)?;
    let clock = Clock::start();
    let bystander = HostProcesses::new(clock).own_identity();
    let mosquitto = stage::mosquitto();
    let (kinds, skipped) = possible(&args.only, bystander.is_some(), mosquitto.is_some());
    anyhow::ensure!(!kinds.is_empty(), "nothing can be injected here: {}", report::said_skipped(&skipped));
    let mut random = fastrand::Rng::with_seed(args.seed);
    let plan = Plan::new(args.faults, &kinds, &mut random);
    let progress = progress(args, plan.rounds())?;
    let proof = Proof { args, folder: &folder.path, clock, bystander, progress: &progress };
    let findings = tokio::select! {
        findings = proof.run(&plan, mosquitto.as_deref(), &mut random) => findings?,
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

/// What can be injected here, and why the rest can't.
fn possible(
    only: &[FaultKind],
    identities: bool,
    mosquitto: bool,
) -> (Vec<FaultKind>, BTreeMap<FaultKind, &'static str>) {
    let mut skipped = BTreeMap::new();
    let wanted = FaultKind::ALL.into_iter().filter(|kind| only.is_empty() || only.contains(kind));
    let kinds = wanted.filter(|kind| {
        let reason = match kind {
            FaultKind::ClockStep => {
                "it would set the clock of the whole machine; what decides is the monotonic clock, by type"
            }
            FaultKind::BrokerKill if !mosquitto => {
                "mosquitto is not installed, and the embedded broker is the monitor itself"
            }
            FaultKind::PidReuse if !identities => "this system does not tell processes with the same PID apart",
            _ => return true,
        };
        skipped.insert(*kind, reason);
        false
    });
    (kinds.collect(), skipped)
}

struct Proof<'a> {
    args: &'a ProveArgs,
    folder: &'a Path,
    clock: Clock,
    bystander: Option<ProcessIdentity>,
    progress: &'a ProgressBar,
}

impl Proof<'_> {
    async fn run(
        &self,
        plan: &Plan,
        mosquitto: Option<&Path>,
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<Vec<Finding>> {
        let mut findings = Vec::new();
        if plan.rounds() > u64::from(plan.broker_kills) {
            let stage = self.stage("embedded", None).await?;
            findings = tokio::select! {
                findings = self.play(&stage, plan, random) => findings?,
                gone = stage.record.listen(&stage.api) => match gone? {},
            };
        }
        if let (Some(file), true) = (mosquitto, plan.broker_kills > 0) {
            let stage = self.stage("mosquitto", Some(file)).await?;
            let kills = self.kill_brokers(&stage, plan.broker_kills, file, random);
            findings.extend(tokio::select! {
                findings = kills => findings?,
                gone = stage.record.listen(&stage.api) => match gone? {},
            });
        }
        Ok(findings)
    }

    async fn stage(&self, name: &str, mosquitto: Option<&Path>) -> anyhow::Result<Stage> {
        self.progress.set_message(format!("starting a monitor ({name})"));
        let nobody = ProcessIdentity { pid: 0, start_ticks: 0, boot_id: "".into() };
        let bystander = self.bystander.clone().unwrap_or(nobody);
        Stage::start(self.args, &self.folder.join(name), self.clock, bystander, mosquitto).await
    }

    async fn subjects<'s>(
        &self,
        stage: &'s Stage,
        make: Make,
        count: u16,
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<Vec<Subject<'s>>> {
        let name = match make {
            Make::Real => "real",
            Make::Faulty => "faulty",
        };
        let mut subjects = Vec::new();
        for number in 1..=count {
            let id = PublisherId::parse(&format!("{name}-{number:02}"))?;
            subjects.push(Subject::new(stage, make, id, random.fork()).await?);
        }
        Ok(subjects)
    }

    async fn play(&self, stage: &Stage, plan: &Plan, random: &mut fastrand::Rng) -> anyhow::Result<Vec<Finding>> {
        let needs = |of: fn(&plan::Act) -> &Vec<FaultKind>| plan.acts.iter().any(|act| !of(act).is_empty());
        let shared = plan.acts.iter().any(|act| act.everybody.is_some());
        let (faulty, real) = match (needs(|act| &act.faulty), needs(|act| &act.publisher) || shared) {
            (true, true) => {
                // As large a share of the publishers as of the kinds that have to do with single ones.
                let share = |reach| FaultKind::ALL.into_iter().filter(|kind| kind.reach() == reach).count();
                let (faulty, real) = (share(Reach::Faulty), share(Reach::Publisher));
                let faulty = usize::from(self.args.publishers()) * faulty / (faulty + real);
                let faulty = u16::try_from(faulty).unwrap_or(u16::MAX).max(1);
                (faulty, self.args.publishers().saturating_sub(faulty).max(1))
            }
            (true, false) => (self.args.publishers(), 0),
            (false, _) => (0, self.args.publishers()),
        };
        let mut everybody = self.subjects(stage, Make::Real, real, random).await?;
        everybody.extend(self.subjects(stage, Make::Faulty, faulty, random).await?);
        self.progress.set_message("starting publishers");
        try_join_all(everybody.iter_mut().map(Subject::be_alive)).await?;
        let mut findings = Vec::new();
        for (number, act) in plan.acts.iter().enumerate() {
            self.progress.set_message("faults of single publishers");
            let (reals, faulties) = everybody.split_at_mut(usize::from(real));
            let (of_real, of_faulty) =
                tokio::try_join!(self.work(reals, &act.publisher), self.work(faulties, &act.faulty))?;
            findings.extend(of_real.into_iter().chain(of_faulty));
            if let Some(fault) = act.everybody {
                self.progress.set_message(fault.words());
                let before = plan.acts.iter().take(number).filter(|act| act.everybody == Some(fault)).count();
                findings.extend(everybody::go_through(stage, &mut everybody, fault, before, random).await?);
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

    async fn kill_brokers(
        &self,
        stage: &Stage,
        times: u32,
        file: &Path,
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<Vec<Finding>> {
        let mut subjects = self.subjects(stage, Make::Real, BROKER_PUBLISHERS, random).await?;
        let mut findings = Vec::new();
        self.progress.set_message(FaultKind::BrokerKill.words());
        for _ in 0..times {
            findings.extend(everybody::broker_killed(stage, &mut subjects, file, random).await?);
            self.progress.inc(1);
        }
        Ok(findings)
    }
}
