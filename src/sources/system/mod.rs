//! What the host is doing: CPU, memory, disk and network, by sysinfo and, on Linux, the kernel's own
//! counters of its disks.
//!
//! - `cpu`, `memory`, `disk` are per cent. `disk` is the root file system as `df` counts it: used of what
//!   an ordinary user could have.
//! - The rates are MiB a second since the sample before: there is none at the first sample, and none
//!   after a counter began anew.
//! - Disks are counted once, however often they are mounted: whole devices with hardware behind them.
//!   Interfaces likewise where there is any; in a container all but loopback.
//! - CPU usage needs at least [`sysinfo::MINIMUM_CPU_UPDATE_INTERVAL`] between two looks: a sample that
//!   comes sooner has no `cpu`.
//!
//! A look reads files and may block for milliseconds.

use std::path::Path;

use sysinfo::{CpuRefreshKind, MINIMUM_CPU_UPDATE_INTERVAL, MemoryRefreshKind, Networks, RefreshKind, System};

use heartwatch_domain::metrics::{Metric, MetricSet, Rate};
use heartwatch_domain::time::Monotonic;

mod source;

pub(crate) use source::{SystemConfig, SystemSource};

/// Bytes in a sector of `/proc/diskstats`, whatever the device's own are (kernel, Documentation/block/stat.rst).
const SECTOR_BYTES: u64 = 512;

/// Why the host cannot be measured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this host cannot be measured: {0}")]
pub struct SystemError(String);

/// The host, with what the last look saw.
pub(crate) struct HostMetrics {
    system: System,
    networks: Networks,
    cpu_looked: Option<Monotonic>,
    disk_read: Rate,
    disk_write: Rate,
    net_in: Rate,
    net_out: Rate,
    wanted_before: Option<MetricSet>,
}

impl HostMetrics {
    /// The host, not looked at yet.
    ///
    /// # Errors
    /// When the system does not tell.
    pub(crate) fn new() -> Result<Self, SystemError> {
        let failed = |error: &dyn std::fmt::Debug| SystemError(format!("{error:?}"));
        let kinds = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        Ok(Self {
            system: System::new_with_specifics(kinds).map_err(|error| failed(&error))?,
            networks: Networks::new().map_err(|error| failed(&error))?,
            cpu_looked: None,
            disk_read: Rate::default(),
            disk_write: Rate::default(),
            net_in: Rate::default(),
            net_out: Rate::default(),
            wanted_before: None,
        })
    }

    /// Looks at what is wanted. What cannot be told is left out. A metric that was not wanted at the look
    /// before begins with its first sample.
    pub(crate) fn sample(&mut self, wanted: &MetricSet, now: Monotonic) -> Vec<(Metric, f64)> {
        self.forget_unwanted(wanted);
        let mut found = Vec::new();
        let mut add = |metric, value: Option<f64>| {
            found.extend(value.filter(|value| value.is_finite()).map(|value| (metric, value)));
        };
        if wanted.has(Metric::Cpu) {
            add(Metric::Cpu, self.cpu(now));
        }
        if wanted.has(Metric::Memory) {
            self.system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
            let total = self.system.total_memory();
            add(Metric::Memory, percent(total.saturating_sub(self.system.available_memory()), total));
        }
        if wanted.has(Metric::Disk) {
            add(Metric::Disk, root_used());
        }
        if (wanted.has(Metric::DiskRead) || wanted.has(Metric::DiskWrite))
            && let Some((read, written)) = disk_totals(Path::new("/"))
        {
            let (read, written) = (self.disk_read.next(read, now), self.disk_write.next(written, now));
            add(Metric::DiskRead, read.filter(|_| wanted.has(Metric::DiskRead)));
            add(Metric::DiskWrite, written.filter(|_| wanted.has(Metric::DiskWrite)));
        }
        if wanted.has(Metric::NetIn) || wanted.has(Metric::NetOut) {
            self.networks.refresh(true);
            let (received, sent) = self.network_totals();
            let (received, sent) = (self.net_in.next(received, now), self.net_out.next(sent, now));
            add(Metric::NetIn, received.filter(|_| wanted.has(Metric::NetIn)));
            add(Metric::NetOut, sent.filter(|_| wanted.has(Metric::NetOut)));
        }
        found
    }

    /// A rate over a time in which nobody wanted it would be right, and surprising.
    fn forget_unwanted(&mut self, wanted: &MetricSet) {
        let before = self.wanted_before.replace(wanted.clone());
        let is_new = |metric| before.as_ref().is_some_and(|before| wanted.has(metric) && !before.has(metric));
        if is_new(Metric::Cpu) {
            self.cpu_looked = None;
        }
        if is_new(Metric::DiskRead) || is_new(Metric::DiskWrite) {
            self.disk_read.forget();
            self.disk_write.forget();
        }
        if is_new(Metric::NetIn) || is_new(Metric::NetOut) {
            self.net_in.forget();
            self.net_out.forget();
        }
    }

    fn cpu(&mut self, now: Monotonic) -> Option<f64> {
        let looked = self.cpu_looked;
        if looked.is_some_and(|looked| now.since(looked) < MINIMUM_CPU_UPDATE_INTERVAL) {
            return None;
        }
        self.system.refresh_cpu_usage();
        self.cpu_looked = Some(now);
        looked.map(|_| f64::from(self.system.global_cpu_usage()))
    }

    fn network_totals(&self) -> (u64, u64) {
        let is_hardware = |name: &str| Path::new("/sys/class/net").join(name).join("device").exists();
        let interfaces: Vec<_> = self
            .networks
            .iter()
            .map(|(name, data)| (name.to_string_lossy().into_owned(), data))
            .filter(|(name, _)| name != "lo")
            .collect();
        let any_hardware = interfaces.iter().any(|(name, _)| is_hardware(name));
        let counted = interfaces.iter().filter(|(name, _)| !any_hardware || is_hardware(name));
        counted.fold((0, 0), |(received, sent), (_, data)| {
            (received + data.total_received(), sent + data.total_transmitted())
        })
    }
}

fn percent(part: u64, whole: u64) -> Option<f64> {
    let (part, whole_float) = (part as f64, whole as f64);
    (whole > 0).then(|| 100.0 * part / whole_float)
}

/// How full the root file system is, as `df` counts it.
fn root_used() -> Option<f64> {
    let root = rustix::fs::statvfs("/").ok()?;
    let used = root.f_blocks.saturating_sub(root.f_bfree);
    percent(used, used.saturating_add(root.f_bavail))
}

/// Bytes read from and written to all disks since boot, with another place for `/` in tests.
fn disk_totals(root: &Path) -> Option<(u64, u64)> {
    let text = std::fs::read_to_string(root.join("proc/diskstats")).ok()?;
    let is_hardware = |name: &str| root.join("sys/block").join(name).join("device").exists();
    let mut disks = text.lines().filter_map(disk_line).filter(|(name, ..)| is_hardware(name)).peekable();
    disks.peek()?;
    Some(disks.fold((0, 0), |(read, written), (_, more_read, more_written)| {
        (read + more_read * SECTOR_BYTES, written + more_written * SECTOR_BYTES)
    }))
}

/// Name, sectors read, sectors written: columns 3, 6 and 10 (kernel, Documentation/admin-guide/iostats.rst).
fn disk_line(line: &str) -> Option<(&str, u64, u64)> {
    let mut columns = line.split_whitespace().skip(2);
    let name = columns.next()?;
    let read = columns.nth(2)?.parse().ok()?;
    let written = columns.nth(3)?.parse().ok()?;
    Some((name, read, written))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Monotonic {
        Monotonic::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn rates_and_cpu_come_from_the_second_sample_on() {
        let mut host = HostMetrics::new().unwrap();
        let first = host.sample(&MetricSet::default(), at(0));
        let names: Vec<_> = first.iter().map(|(metric, _)| metric.as_str()).collect();
        assert_eq!(names, ["memory", "disk"]);
        assert!(first.iter().all(|(_, value)| (0.0..=100.0).contains(value)), "{first:?}");
        let second = host.sample(&MetricSet::default(), at(1_000));
        for metric in [Metric::Cpu, Metric::NetIn, Metric::NetOut] {
            assert!(second.iter().any(|(found, _)| *found == metric), "{metric}: {second:?}");
        }
        let soon = host.sample(&MetricSet::default(), at(1_100));
        assert!(soon.iter().all(|(metric, _)| *metric != Metric::Cpu), "nothing new was measured: {soon:?}");
    }

    #[test]
    fn a_metric_that_was_not_wanted_begins_with_its_first_sample() {
        let mut host = HostMetrics::new().unwrap();
        let only_memory = MetricSet::parse(["memory"]).unwrap();
        host.sample(&MetricSet::default(), at(0));
        host.sample(&only_memory, at(1_000));
        let again = host.sample(&MetricSet::default(), at(9_000));
        assert!(again.iter().all(|(metric, _)| matches!(metric, Metric::Memory | Metric::Disk)), "{again:?}");
    }

    #[test]
    fn each_disk_is_counted_once_and_only_hardware() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc")).unwrap();
        std::fs::create_dir_all(root.path().join("sys/block/vda/device")).unwrap();
        std::fs::create_dir_all(root.path().join("sys/block/loop0")).unwrap();
        let stats = " 254 0 vda 1 0 2048 5 2 0 4096 7 0 0 0\n 254 1 vda1 1 0 2048 5 2 0 4096 7 0 0 0\n   \
                     7 0 loop0 9 0 99 0 9 0 99 0 0 0 0\ngarbage\n";
        std::fs::write(root.path().join("proc/diskstats"), stats).unwrap();
        assert_eq!(disk_totals(root.path()), Some((2048 * 512, 4096 * 512)));
        assert_eq!(disk_totals(Path::new("/nowhere")), None, "a host that does not tell has no rate, not 0");
    }
}
