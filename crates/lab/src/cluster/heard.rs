//! What the analysis has printed: when each agent measured, and how much came of it.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use heartwatch_domain::time::Timestamp;
use heartwatch_formats::monitoring_data::{self, MonitoringData};

/// The metric by which an agent's samples are told apart: each has it once.
const METRIC: &str = "memory";

/// The readings in the analysis's output, read as it grows.
#[derive(Debug, Default)]
pub(super) struct Heard {
    path: PathBuf,
    read_bytes: u64,
    /// The start of a line that has not ended yet.
    rest: Vec<u8>,
    samples: BTreeMap<String, Vec<Timestamp>>,
    readings: BTreeMap<String, u64>,
    /// What the analysis counted itself, once it has ended.
    pub counted: Option<Value>,
}

impl Heard {
    /// What will be in this file.
    #[must_use]
    pub(super) fn of(path: PathBuf) -> Self {
        Self { path, ..Self::default() }
    }

    /// Reads what is new.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn look(&mut self) -> anyhow::Result<()> {
        let mut file =
            std::fs::File::open(&self.path).with_context(|| format!("cannot read {}", self.path.display()))?;
        file.seek(SeekFrom::Start(self.read_bytes))?;
        let more = file.read_to_end(&mut self.rest)?;
        self.read_bytes += more as u64;
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            self.line(&line);
        }
        Ok(())
    }

    /// One line; what is no JSON is the program's log.
    fn line(&mut self, line: &[u8]) {
        if let Ok(data) = monitoring_data::decode(line) {
            self.note(data);
        } else if let Ok(value) = serde_json::from_slice::<Value>(line)
            && value["stats"].is_array()
        {
            self.counted = Some(value);
        }
    }

    fn note(&mut self, data: MonitoringData) {
        let nanos = data.time_ns.unwrap_or_else(|| data.timestamp.saturating_mul(1_000_000_000));
        if data.metric == METRIC {
            self.samples.entry(data.client_id.clone()).or_default().push(Timestamp::from_nanos(nanos));
        }
        *self.readings.entry(data.client_id).or_default() += 1;
    }

    /// How many readings of an agent came.
    #[must_use]
    pub(super) fn readings(&self, agent: &str) -> u64 {
        self.readings.get(agent).copied().unwrap_or(0)
    }

    /// How many the analysis says that it counted, all agents and metrics together.
    #[must_use]
    pub(super) fn counted_in_all(&self) -> u64 {
        let stats = self.counted.as_ref().and_then(|counted| counted["stats"].as_array());
        stats.into_iter().flatten().filter_map(|row| row["count"].as_u64()).sum()
    }

    /// The mean of an agent's last `gaps` gaps between samples that it took after `since`, if there are so many and each
    /// of them is nearer to `interval` than half of it.
    #[must_use]
    pub(super) fn interval_seen(
        &self,
        agent: &str,
        since: Timestamp,
        interval: Duration,
        gaps: usize,
    ) -> Option<Duration> {
        let samples = self.samples.get(agent)?;
        let after: Vec<Timestamp> = samples.iter().copied().filter(|sample| *sample > since).collect();
        let last = after.get(after.len().checked_sub(gaps + 1)?..)?;
        let seen = last.windows(2).map(|pair| match pair {
            [before, then] => u64::try_from(then.as_nanos() - before.as_nanos()).map(Duration::from_nanos).ok(),
            _ => None,
        });
        let seen: Vec<Duration> = seen.collect::<Option<_>>()?;
        let fits = |gap: &Duration| gap.abs_diff(interval) < interval / 2;
        let count = u32::try_from(gaps).ok().filter(|gaps| *gaps > 0)?;
        seen.iter().all(fits).then(|| seen.iter().sum::<Duration>() / count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(millis: &[i64]) -> Heard {
        let mut heard = Heard::default();
        for millis in millis {
            let time_ns = millis * 1_000_000;
            let line = format!(
                r#"{{"timestamp":{},"client_id":"w","hostname":"h","metric":"memory","value":1.0,"time_ns":{time_ns}}}"#,
                millis / 1_000
            );
            heard.line(line.as_bytes());
        }
        heard
    }

    #[test]
    fn an_interval_is_seen_by_the_last_gaps_after_the_change() {
        let two = Duration::from_secs(2);
        let seen = |millis: &[i64]| heard(millis).interval_seen("w", Timestamp::from_nanos(11_000_000_000), two, 2);
        assert_eq!(seen(&[1_000, 11_000, 12_000, 14_000, 16_100]), Some(Duration::from_millis(2_050)));
        assert_eq!(seen(&[1_000, 11_000, 12_000, 14_000]), None, "the first of the gaps was before");
        assert_eq!(seen(&[12_000, 22_000, 32_000]), None, "still the old interval");
        assert_eq!(seen(&[12_000, 12_500, 13_000]), None);
        assert_eq!(seen(&[]), None);
    }

    #[test]
    fn the_log_between_the_readings_is_no_reading() {
        let mut heard = heard(&[1_000, 2_000]);
        heard.line(b"2026-11-21T09:00:00Z  WARN Kafka is away\n");
        heard.line(br#"{"stats":[{"client_id":"w","metric":"memory","count":2},{"count":3}],"unreadable":0}"#);
        assert_eq!((heard.readings("w"), heard.readings("x"), heard.counted_in_all()), (2, 0, 5));
    }
}
