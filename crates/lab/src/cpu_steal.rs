//! CPU time that this machine wanted and another one on its host got: what is measured meanwhile says less about
//! heartwatch than about them.

/// What is worth a word, of the time that all cores had.
const SHARE_LEAST: f64 = 0.01;

/// The time that all cores had since boot, and how much of it others got, in clock ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CpuSteal {
    all: u64,
    by_others: u64,
}

impl CpuSteal {
    /// Up to now; none where the system does not say it.
    pub(super) fn now() -> Option<Self> {
        Self::read(&std::fs::read_to_string("/proc/stat").ok()?)
    }

    /// The first line of `/proc/stat` (proc(5)): user, nice, system, idle, iowait, irq, softirq and steal. What
    /// guests of this machine used comes behind them and is in them.
    fn read(stat: &str) -> Option<Self> {
        let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
        let ticks: Vec<u64> = fields.map(str::parse).collect::<Result<_, _>>().ok()?;
        let &[.., by_others] = &ticks[..] else { return None };
        (ticks.len() == 8).then(|| Self { all: ticks.iter().sum(), by_others })
    }

    /// Tells a person how much was stolen since, where it matters.
    pub(super) fn tell_since(before: Option<Self>) {
        if let (Some(before), Some(now)) = (before, Self::now())
            && let Some(words) = now.words(before)
        {
            anstream::eprintln!("{words}");
        }
    }

    fn words(self, before: Self) -> Option<String> {
        let ticks = |ticks: u64| u32::try_from(ticks).map_or(f64::INFINITY, f64::from);
        let all = ticks(self.all.saturating_sub(before.all));
        let share = ticks(self.by_others.saturating_sub(before.by_others)) / all;
        (share >= SHARE_LEAST).then(|| {
            format!(
                "meanwhile {:.0} % of this machine's CPU time went to others on its host (steal): figures of another run may be better",
                share * 100.0
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_got_is_told_where_it_matters() {
        let before = CpuSteal::read("cpu  100 1 50 800 9 0 0 40 7 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n").unwrap();
        assert_eq!(before, CpuSteal { all: 1_000, by_others: 40 });
        let later = |by_others| CpuSteal { all: 2_000, by_others };
        assert_eq!(later(49).words(before), None);
        assert!(later(290).words(before).unwrap().starts_with("meanwhile 25 % of this machine's CPU time"));
        assert_eq!(before.words(before), None, "no time has passed");
        assert_eq!(CpuSteal::read("cpu  100 1 50 800 9 0 0\n"), None, "a system that does not count it");
    }
}
