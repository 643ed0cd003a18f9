//! The process probe: one look at one process of this host, off the actors' threads and within a timeout.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context, Handler, ResponseFuture};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::messages::probe::{AwaitExit, Probe};
use heartwatch_domain::process::{ProbeAnswer, ProcessIdentity, ProcessState};
use heartwatch_domain::publisher::PublisherId;
use heartwatch_ports::{ProcessTable, RemoteProbe};
use heartwatch_system::clock::Clock;

/// What is left of an agent's time for the words why it did not answer.
const LAST_WORD: Duration = Duration::from_millis(50);

/// The probe's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessProbeConfig {
    /// Most looks at the same time; each one occupies a thread of the blocking pool.
    pub probes_in_flight_max: usize,
    /// Longest time from question to answer, with the wait for a free place.
    pub probe_timeout: Duration,
    /// Most questions to agents at the same time; one more is answered as if its agent were not there.
    pub agents_asked_max: usize,
    /// Longest time for an agent's answer.
    pub agent_timeout: Duration,
    /// Most processes whose end is waited for; each takes a file descriptor.
    pub exits_awaited_max: usize,
}

impl Default for ProcessProbeConfig {
    /// Four at a time, two seconds each; 256 questions to agents, two seconds each; the ends of 10,000 processes.
    fn default() -> Self {
        Self {
            probes_in_flight_max: 4,
            probe_timeout: Duration::from_secs(2),
            agents_asked_max: 256,
            agent_timeout: Duration::from_secs(2),
            exits_awaited_max: 10_000,
        }
    }
}

/// The actor. It holds nothing between two questions, so a new life of it starts from nothing.
pub(crate) struct ProcessProbe {
    table: Arc<dyn ProcessTable>,
    clock: Clock,
    config: ProcessProbeConfig,
    places: Arc<Semaphore>,
    exits: Arc<Semaphore>,
    remote: Option<Arc<dyn RemoteProbe>>,
    agents: Arc<Semaphore>,
}

impl ProcessProbe {
    /// A probe that looks into this table.
    #[must_use]
    pub(crate) fn new(table: Arc<dyn ProcessTable>, clock: Clock, config: ProcessProbeConfig) -> Self {
        Self {
            table,
            clock,
            config,
            places: Arc::new(Semaphore::new(config.probes_in_flight_max)),
            exits: Arc::new(Semaphore::new(config.exits_awaited_max)),
            remote: None,
            agents: Arc::new(Semaphore::new(config.agents_asked_max)),
        }
    }

    /// With a way to ask agents on other hosts.
    #[must_use]
    pub(crate) fn with_agents(mut self, remote: Arc<dyn RemoteProbe>) -> Self {
        self.remote = Some(remote);
        self
    }

    /// Asks the agent on a process's host. One that does not answer is evidence of its own: unreachable.
    fn ask_agent(&self, agent: PublisherId, process: ProcessIdentity) -> ResponseFuture<ProbeAnswer> {
        let (remote, places, clock, config) = (self.remote.clone(), self.agents.clone(), self.clock, self.config);
        Box::pin(async move {
            let until = Instant::now() + config.agent_timeout;
            let ask = async {
                let Some(remote) = remote else { return Err("this monitor asks no agents".to_owned()) };
                let Ok(_place) = places.acquire().await else { return Err("the probe has stopped".to_owned()) };
                // It can say more of who did not answer than that the time is over, and needs a moment for it.
                let left = until.saturating_duration_since(Instant::now());
                remote.probe(&agent, &process, left.saturating_sub(LAST_WORD)).await
            };
            let answer = tokio::time::timeout_at(until, ask).await;
            match answer.unwrap_or_else(|_| Err(format!("did not answer within {:?}", config.agent_timeout))) {
                Ok(answer) => answer,
                Err(reason) => {
                    let reason = format!("the agent {agent} there cannot be asked: {reason}");
                    tracing::warn!(pid = process.pid, reason, "process could not be probed");
                    let state = ProcessState::Unreachable { reason };
                    ProbeAnswer { state, cpu_time: None, looked_at: clock.wall(), host_pid: None, user: None }
                }
            }
        })
    }
}

impl Actor for ProcessProbe {
    type Context = Context<Self>;
}

crate::messages::progress::answers_progress!(ProcessProbe);

impl Handler<AwaitExit> for ProcessProbe {
    type Result = ResponseFuture<Result<ProbeAnswer, String>>;

    fn handle(&mut self, AwaitExit(identity): AwaitExit, _: &mut Context<Self>) -> Self::Result {
        let (table, exits, exits_max) = (self.table.clone(), self.exits.clone(), self.config.exits_awaited_max);
        Box::pin(async move {
            let Ok(_place) = exits.try_acquire_owned() else {
                return Err(format!("the ends of {exits_max} processes are waited for already"));
            };
            table.await_exit(identity.clone()).await?;
            let pid = identity.pid;
            let look = tokio::task::spawn_blocking(move || table.look(&identity)).await;
            look.map_err(|error| format!("the look at process {pid} failed: {error}"))
        })
    }
}

impl Handler<Probe> for ProcessProbe {
    type Result = ResponseFuture<ProbeAnswer>;

    fn handle(&mut self, Probe { process: identity, agent }: Probe, _: &mut Context<Self>) -> Self::Result {
        if let Some(agent) = agent {
            return self.ask_agent(agent, identity);
        }
        let (table, places, clock, config) = (self.table.clone(), self.places.clone(), self.clock, self.config);
        Box::pin(async move {
            fail::fail_point!("probe::look");
            let pid = identity.pid;
            let look = async {
                // A look that hangs keeps its place after the timeout, because its thread hangs too.
                let Ok(place) = places.clone().acquire_owned().await else {
                    return Err("the probe has stopped".to_owned());
                };
                let look = tokio::task::spawn_blocking(move || {
                    let answer = table.look(&identity);
                    drop(place);
                    answer
                });
                look.await.map_err(|error| format!("the look at process {pid} failed: {error}"))
            };
            let reason = match tokio::time::timeout(config.probe_timeout, look).await {
                Ok(Ok(answer)) => return answer,
                Ok(Err(reason)) => reason,
                Err(_) if places.available_permits() == 0 => {
                    let ProcessProbeConfig { probes_in_flight_max, probe_timeout, .. } = config;
                    format!("no answer within {probe_timeout:?}: all {probes_in_flight_max} places are taken")
                }
                Err(_) => format!("no answer within {:?}", config.probe_timeout),
            };
            tracing::warn!(pid, reason, "process could not be probed");
            ProbeAnswer {
                state: ProcessState::ProbeFailed { reason },
                cpu_time: None,
                looked_at: clock.wall(),
                host_pid: None,
                user: None,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// Faults that the real table can't be made to show: it hangs at PID 1 until told, panics at PID 2.
    struct Faulty {
        released: Mutex<Receiver<()>>,
        at_once: AtomicUsize,
        at_once_most: AtomicUsize,
    }

    impl Faulty {
        fn new() -> (Arc<Self>, SyncSender<()>) {
            let (release, released) = sync_channel(100);
            let counters = (AtomicUsize::new(0), AtomicUsize::new(0));
            let (at_once, at_once_most) = counters;
            (Arc::new(Self { released: Mutex::new(released), at_once, at_once_most }), release)
        }
    }

    impl ProcessTable for Faulty {
        fn look(&self, identity: &ProcessIdentity) -> ProbeAnswer {
            let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.at_once_most.fetch_max(now, Ordering::SeqCst);
            assert!(identity.pid != 2, "on purpose");
            if identity.pid == 1 {
                self.released.lock().unwrap().recv().unwrap();
            }
            std::thread::yield_now();
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            ProbeAnswer {
                state: ProcessState::Running,
                cpu_time: None,
                looked_at: Default::default(),
                host_pid: None,
                user: None,
            }
        }
        fn own_identity(&self) -> Option<ProcessIdentity> {
            None
        }
        fn identity(&self, _: u32) -> Option<ProcessIdentity> {
            None
        }
    }

    /// Longer than any look takes on a machine that does something else as well.
    const LONG: Duration = Duration::from_secs(30);

    fn question(pid: u32) -> Probe {
        Probe { process: ProcessIdentity { pid, start_ticks: 0, boot_id: "".into() }, agent: None }
    }

    fn probe(table: Arc<Faulty>, places: usize, probe_timeout: Duration) -> actix::Addr<ProcessProbe> {
        let config =
            ProcessProbeConfig { probes_in_flight_max: places, probe_timeout, ..ProcessProbeConfig::default() };
        ProcessProbe::new(table, Clock::start(), config).start()
    }

    fn reason(answer: ProbeAnswer) -> String {
        match answer.state {
            ProcessState::ProbeFailed { reason } => reason,
            other => panic!("{other:?}"),
        }
    }

    #[actix::test]
    async fn a_look_that_hangs_is_a_failure_of_the_probe_and_keeps_its_place() {
        let (table, release) = Faulty::new();
        let probe = probe(table, 2, Duration::from_secs(1));
        let hangs = probe.send(question(1)).await.unwrap();
        assert_eq!(reason(hangs), "no answer within 1s");
        assert_eq!(probe.send(question(9)).await.unwrap().state, ProcessState::Running, "the other place is free");
        let _ = probe.send(question(1)).await.unwrap();
        let waits = probe.send(question(9)).await.unwrap();
        assert_eq!(reason(waits), "no answer within 1s: all 2 places are taken");
        release.send(()).unwrap();
        release.send(()).unwrap();
        let deadline = Instant::now() + LONG;
        while probe.send(question(9)).await.unwrap().state != ProcessState::Running {
            assert!(Instant::now() < deadline, "the places did not become free");
        }
    }

    #[actix::test]
    async fn a_look_that_panics_is_a_failure_of_the_probe() {
        let (table, _release) = Faulty::new();
        let probe = probe(table, 1, LONG);
        assert!(reason(probe.send(question(2)).await.unwrap()).contains("process 2 failed"));
        assert_eq!(probe.send(question(9)).await.unwrap().state, ProcessState::Running, "its place is free again");
    }

    #[actix::test]
    async fn no_more_looks_at_once_than_places() {
        let (table, _release) = Faulty::new();
        let probe = probe(table.clone(), 3, LONG);
        let answers = futures_util::future::join_all((0..200).map(|_| probe.send(question(9)))).await;
        assert!(answers.into_iter().all(|answer| answer.unwrap().state == ProcessState::Running));
        assert!(table.at_once_most.load(Ordering::SeqCst) <= 3);
    }
}
