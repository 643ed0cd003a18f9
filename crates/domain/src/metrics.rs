//! What an agent can measure of its host: the metrics' names, and a rate from a counter.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::time::Monotonic;

/// Bytes in a MiB.
const MIB: f64 = 1_048_576.0;

/// One metric of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// CPU time used since the sample before, per cent of all cores.
    Cpu,
    /// Memory that is not available, per cent.
    Memory,
    /// The root file system, per cent used.
    Disk,
    /// MiB a second read from disks.
    DiskRead,
    /// MiB a second written to disks.
    DiskWrite,
    /// MiB a second received.
    NetIn,
    /// MiB a second sent.
    NetOut,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Cpu, Self::Memory, Self::Disk, Self::DiskRead, Self::DiskWrite, Self::NetIn, Self::NetOut];

    /// Its name on the data path: a measurement's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::DiskRead => "disk_read",
            Self::DiskWrite => "disk_write",
            Self::NetIn => "net_in",
            Self::NetOut => "net_out",
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text names no metric.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no metric: use cpu, memory, disk, 'disk read', 'disk write', 'net in', 'net out', or network for the last two"
)]
pub struct NoMetric(String);

/// What to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricSet(BTreeSet<Metric>);

impl Default for MetricSet {
    /// All of them.
    fn default() -> Self {
        Self(Metric::ALL.into())
    }
}

impl MetricSet {
    /// From names as they are written in a configuration: `disk read` and `disk_read` are one metric,
    /// `network` is `net in` and `net out`.
    ///
    /// # Errors
    /// [`NoMetric`], which quotes the first name that is none.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, NoMetric> {
        let mut set = BTreeSet::new();
        for name in names {
            let clean = name.trim().to_ascii_lowercase().replace([' ', '-'], "_");
            if clean == "network" {
                set.extend([Metric::NetIn, Metric::NetOut]);
                continue;
            }
            let metric = Metric::ALL.into_iter().find(|metric| metric.as_str() == clean);
            set.insert(metric.ok_or_else(|| NoMetric(name.chars().take(60).collect()))?);
        }
        Ok(Self(set))
    }

    /// Whether this metric is in it.
    #[must_use]
    pub fn has(&self, metric: Metric) -> bool {
        self.0.contains(&metric)
    }

    /// The metrics, in their usual order.
    pub fn iter(&self) -> impl Iterator<Item = Metric> + '_ {
        self.0.iter().copied()
    }

    /// Their names as a configuration spells them: with a space.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.iter().map(|metric| metric.as_str().replace('_', " ")).collect()
    }
}

/// A rate from a counter that only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rate {
    before: Option<(u64, Monotonic)>,
}

impl Rate {
    /// MiB a second since the sample before. None at the first sample, after a reset of the counter (it
    /// became smaller), and when no time has passed: a rate that nobody measured is not 0.
    pub fn next(&mut self, bytes_total: u64, now: Monotonic) -> Option<f64> {
        let (bytes_before, at) = self.before.replace((bytes_total, now))?;
        let elapsed = now.since(at);
        if elapsed == Duration::ZERO {
            return None;
        }
        let bytes = bytes_total.checked_sub(bytes_before)? as f64;
        Some(bytes / MIB / elapsed.as_secs_f64())
    }

    /// Forgets the sample before: the next one is a first one.
    pub fn forget(&mut self) {
        self.before = None;
    }
}

/// Shortest time between two looks.
pub const LOOK_EVERY_MIN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Monotonic {
        Monotonic::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn metrics_are_known_by_every_spelling_in_use() {
        let set = MetricSet::parse(["cpu", "Disk Read", "disk_write", "network"]).unwrap();
        let names: Vec<_> = set.iter().map(Metric::as_str).collect();
        assert_eq!(names, ["cpu", "disk_read", "disk_write", "net_in", "net_out"]);
        assert_eq!(MetricSet::parse(set.names().iter().map(String::as_str)).unwrap(), set);
        assert!(MetricSet::parse(["cpu", "gpu"]).unwrap_err().to_string().contains("'gpu'"));
        assert_eq!(MetricSet::parse([]).unwrap().iter().count(), 0, "nothing is a choice, too");
    }

    #[test]
    fn a_rate_is_never_made_up() {
        let mut rate = Rate::default();
        assert_eq!(rate.next(10 << 20, at(1)), None, "the first sample");
        assert_eq!(rate.next(30 << 20, at(11)), Some(2.0));
        assert_eq!(rate.next(30 << 20, at(11)), None, "no time has passed");
        assert_eq!(rate.next(1 << 20, at(12)), None, "the counter began anew");
        assert_eq!(rate.next(2 << 20, at(13)), Some(1.0));
        assert_eq!(rate.next(2 << 20, at(14)), Some(0.0), "a zero that was measured");
        rate.forget();
        assert_eq!(rate.next(9 << 20, at(15)), None);
    }
}
