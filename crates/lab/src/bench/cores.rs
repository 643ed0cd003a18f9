//! Which cores the programs of a measurement run on (sched_setaffinity(2)): what a thread starts runs where the thread
//! itself may run.

use anyhow::Context as _;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The last core, and all others: for a database that has a machine of its own in production.
pub(super) struct Cores {
    /// The number of the last one.
    pub last_core: usize,
    last: CpuSet,
    others: CpuSet,
}

impl Cores {
    /// Of those that this program may use.
    ///
    /// # Errors
    /// When there is only one.
    pub(super) fn apart() -> anyhow::Result<Self> {
        let mut others = sched_getaffinity(None).context("cannot read which cores there are")?;
        let last_core = (0..CpuSet::MAX_CPU).rev().find(|&core| others.is_set(core)).context("no core at all")?;
        others.unset(last_core);
        anyhow::ensure!(others.count() > 0, "--apart needs two cores, and this program may use one");
        let mut last = CpuSet::new();
        last.set(last_core);
        Ok(Self { last_core, last, others })
    }

    /// What this thread starts from now on runs on the last core.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn take_last(&self) -> anyhow::Result<()> {
        sched_setaffinity(None, &self.last).context("cannot choose the last core")
    }

    /// This thread, and what it starts from now on, runs on the others.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn take_others(&self) -> anyhow::Result<()> {
        sched_setaffinity(None, &self.others).context("cannot choose the other cores")
    }
}
