//! Faults that hit everybody at once: what the monitor says of the others while it is itself the one
//! that cannot hear.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::try_join_all;
use rustix::process::Signal;

use super::finding::{Finding, Truth};
use super::kafka::Kafka;
use super::subject::{Subject, Watched};
use super::testbed::Testbed;
use crate::args::FaultKind;
use crate::prove::proxy::LinkMode;
use heartwatch_domain::verdict::Verdict;

/// Pauses of the monitor, in deadlines, one after the other: around every edge that it could fall over.
const MONITOR_PAUSES: [f64; 6] = [3.0, 0.95, 1.05, 0.4, 1.5, 0.8];
/// A stall of the monitor that is shorter than this may pass without a word.
const PAUSE_SAID_FROM: f64 = 1.2;
/// How long a commit of the monitor is waited for.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// Busy threads for each core of the machine.
const BUSY_THREADS_A_CORE: usize = 4;

/// Everybody is alive and at rest.
async fn settle(subjects: &mut [&mut Subject<'_>]) -> anyhow::Result<()> {
    try_join_all(subjects.iter_mut().map(|subject| subject.be_alive())).await?;
    Ok(())
}

fn watched(subjects: &[&mut Subject<'_>]) -> Vec<Watched> {
    subjects.iter().map(|subject| subject.watched()).collect()
}

fn judge(subjects: &[&mut Subject<'_>], since: &[Watched], fault: FaultKind, truth: Truth) -> Vec<Finding> {
    let pairs = subjects.iter().zip(since);
    pairs.map(|(subject, since)| subject.judge_since(fault, truth, since)).collect()
}

/// The monitor had to say that it doubts itself, and did not.
fn object(findings: &mut [Finding], what: &str) {
    for finding in findings {
        finding.objection.get_or_insert_with(|| what.to_owned());
    }
}

/// Carries one out on everybody; `before` says how many of its kind were before it.
///
/// # Errors
/// When it could not be injected.
pub(super) async fn go_through(
    stage: &Testbed,
    subjects: &mut [&mut Subject<'_>],
    fault: FaultKind,
    before: usize,
    random: &mut fastrand::Rng,
) -> anyhow::Result<Vec<Finding>> {
    settle(subjects).await?;
    tokio::time::sleep(Duration::from_millis(random.u64(0..500))).await;
    match fault {
        FaultKind::MonitorStop => {
            let pause = MONITOR_PAUSES.into_iter().cycle().nth(before).unwrap_or(3.0);
            monitor_stopped(stage, subjects, pause).await
        }
        FaultKind::JournalStall => journal_stalled(stage, subjects).await,
        FaultKind::CpuLoad => cpu_loaded(stage, subjects).await,
        _ => everyone_silent(stage, subjects, random).await,
    }
}

/// The monitor stands still and goes on: whatever it missed, everybody is alive.
async fn monitor_stopped(stage: &Testbed, subjects: &[&mut Subject<'_>], pause: f64) -> anyhow::Result<Vec<Finding>> {
    let since = watched(subjects);
    stage.monitor.borrow().signal(Signal::STOP)?;
    tokio::time::sleep(stage.args.deadline.mul_f64(pause)).await;
    stage.monitor.borrow().signal(Signal::CONT)?;
    let doubted = stage.is_suspect().await?;
    tokio::time::sleep(stage.args.deadline.mul_f64(1.5)).await;
    let fault = FaultKind::MonitorStop;
    let mut findings = judge(subjects, &since, fault, Truth::Disturbed);
    if pause >= PAUSE_SAID_FROM && !doubted {
        object(&mut findings, &format!("it stood still for {pause} deadlines and did not say so"));
    }
    Ok(findings)
}

/// The journal is locked, so that no row gets to the disk: everybody is alive all the same.
async fn journal_stalled(stage: &Testbed, subjects: &[&mut Subject<'_>]) -> anyhow::Result<Vec<Finding>> {
    let journal = stage.folder.join("data").join("journal.sqlite");
    let since = watched(subjects);
    let locked = tokio::task::spawn_blocking(move || {
        let connection = rusqlite::Connection::open(journal)?;
        connection.busy_timeout(LOCK_TIMEOUT)?;
        connection.execute_batch("BEGIN IMMEDIATE")?;
        Ok::<_, rusqlite::Error>(connection)
    });
    let locked = locked.await?.context("the journal could not be locked")?;
    tokio::time::sleep(stage.args.deadline.mul_f64(1.6)).await;
    // Dropped, it lets go.
    drop(locked);
    tokio::time::sleep(stage.args.deadline).await;
    Ok(judge(subjects, &since, FaultKind::JournalStall, Truth::Disturbed))
}

/// Stops its busy threads when it goes.
struct Load(Arc<AtomicBool>);

impl Load {
    fn start(threads: usize) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let load = Self(stop.clone());
        for _ in 0..threads {
            let stop = stop.clone();
            std::thread::Builder::new().name("load".to_owned()).spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })?;
        }
        Ok(load)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn cpu_loaded(stage: &Testbed, subjects: &[&mut Subject<'_>]) -> anyhow::Result<Vec<Finding>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let since = watched(subjects);
    let load = Load::start(cores * BUSY_THREADS_A_CORE)?;
    tokio::time::sleep(stage.args.deadline * 2).await;
    drop(load);
    tokio::time::sleep(stage.args.deadline).await;
    Ok(judge(subjects, &since, FaultKind::CpuLoad, Truth::Disturbed))
}

/// Every line freezes in one moment. One of the publishers is killed as well: doubt about ears is no
/// doubt about a process that is gone.
async fn everyone_silent(
    stage: &Testbed,
    subjects: &mut [&mut Subject<'_>],
    random: &mut fastrand::Rng,
) -> anyhow::Result<Vec<Finding>> {
    let fault = FaultKind::EveryoneSilent;
    let since = watched(subjects);
    for subject in subjects.iter() {
        subject.line(LinkMode::Frozen);
    }
    tokio::time::sleep(stage.args.deadline.mul_f64(1.4)).await;
    let doubted = stage.is_suspect().await?;
    let mut findings = judge(subjects, &since, fault, Truth::NotToBeKnown);
    if !doubted {
        object(&mut findings, "everyone was silent, and it did not say that it doubts itself");
    }
    let one = random.usize(..subjects.len());
    let killed = subjects.get_mut(one).context("there is nobody")?;
    let killed_since = killed.watched();
    killed.kill().await?;
    killed.wait_standing(Verdict::Dead).await;
    findings.push(killed.judge_since(fault, Truth::Dead, &killed_since));
    // It recovers with the others, and is not judged with them: it is started again.
    let since = watched(subjects);
    for subject in subjects.iter() {
        subject.line(LinkMode::Open);
    }
    settle(subjects).await?;
    let mut recovered = judge(subjects, &since, fault, Truth::Alive);
    recovered.iter_mut().for_each(|finding| finding.latency = None);
    findings.extend(recovered);
    Ok(findings)
}

/// The broker dies, is away for longer than a deadline, and comes back.
///
/// # Errors
/// When it could not be injected.
pub(super) async fn broker_killed(
    stage: &Testbed,
    subjects: &mut [&mut Subject<'_>],
    random: &mut fastrand::Rng,
) -> anyhow::Result<Vec<Finding>> {
    let fault = FaultKind::BrokerKill;
    settle(subjects).await?;
    tokio::time::sleep(Duration::from_millis(random.u64(0..500))).await;
    let since = watched(subjects);
    {
        let mosquitto = stage.mosquitto.as_ref().context("there is no broker to kill")?;
        mosquitto.lock().await.kill();
    }
    tokio::time::sleep(stage.args.deadline.mul_f64(1.4 + random.f64())).await;
    let doubted = stage.is_suspect().await?;
    let mut findings = judge(subjects, &since, fault, Truth::NotToBeKnown);
    if !doubted {
        object(&mut findings, "its broker was gone, and it did not say that it doubts itself");
    }
    let since = watched(subjects);
    stage.restart_mosquitto().await?;
    settle(subjects).await?;
    let mut recovered = judge(subjects, &since, fault, Truth::Alive);
    recovered.iter_mut().for_each(|finding| finding.latency = None);
    findings.extend(recovered);
    Ok(findings)
}

/// Kafka dies or stands still, for longer than a deadline, and comes back: nothing can be known of who is heard over it, and that says
/// nothing of who is not. One of those dies meanwhile.
///
/// # Errors
/// When it could not be injected.
pub(super) async fn kafka_away(
    stage: &Testbed,
    agents: &mut [Subject<'_>],
    others: &mut [Subject<'_>],
    kafka: &mut Kafka,
    random: &mut fastrand::Rng,
) -> anyhow::Result<Vec<Finding>> {
    let fault = FaultKind::KafkaAway;
    let (mut agents, mut others) = (agents.iter_mut().collect::<Vec<_>>(), others.iter_mut().collect::<Vec<_>>());
    tokio::try_join!(settle(&mut agents), settle(&mut others))?;
    tokio::time::sleep(Duration::from_millis(random.u64(0..500))).await;
    let since = (watched(&agents), watched(&others));
    let is_killed = random.bool();
    if is_killed {
        kafka.kill().await?;
    } else {
        kafka.signal(Signal::STOP)?;
    }
    for agent in &agents {
        agent.wait_standing(Verdict::Unknown).await;
    }
    tokio::time::sleep(stage.args.deadline.mul_f64(random.f64())).await;
    let mut findings = judge(&agents, &since.0, fault, Truth::NotToBeKnown);
    findings.extend(judge(&others, &since.1, fault, Truth::Alive));
    let one = random.usize(..others.len());
    let killed = others.get_mut(one).context("there is nobody")?;
    let killed_since = killed.watched();
    killed.kill().await?;
    killed.wait_standing(Verdict::Dead).await;
    findings.push(killed.judge_since(fault, Truth::Dead, &killed_since));
    let since = watched(&agents);
    if is_killed {
        kafka.restart().await?;
    } else {
        kafka.signal(Signal::CONT)?;
    }
    settle(&mut agents).await?;
    let mut recovered = judge(&agents, &since, fault, Truth::Alive);
    recovered.iter_mut().for_each(|finding| finding.latency = None);
    findings.extend(recovered);
    Ok(findings)
}
