//! A verdict as a row of `heartwatch_verdict`.

use heartwatch_domain::publisher::{HostName, PublisherId};
use heartwatch_domain::reading::FieldValue;
use heartwatch_domain::roster::Standing;
use heartwatch_domain::time::Timestamp;
use heartwatch_domain::verdict::{Change, Verdict};
use heartwatch_formats::line_protocol::{EncodeError, encode};

/// The measurement that alarms read.
pub(super) const MEASUREMENT: &str = "heartwatch_verdict";

/// Rows of one publisher that are closer than this are moved apart; beyond it the clock was set back,
/// and its new time is believed.
const STEP_BACK_NANOS: i64 = 1_000_000_000;

/// What is kept in memory of a publisher's last verdict, for its repetition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct LastVerdict {
    epoch: u64,
    trigger: &'static str,
    summary: String,
    /// Time of its last row.
    time: i64,
}

impl LastVerdict {
    pub(super) fn of(change: &Change) -> Self {
        Self {
            epoch: change.epoch,
            trigger: change.trigger.as_str(),
            summary: change.summary.clone(),
            time: change.decided_at.as_nanos(),
        }
    }

    /// A time at or just after this one that no row of the publisher has: the same series and time
    /// again would overwrite it.
    fn next_time(&mut self, at: Timestamp) -> Timestamp {
        let at = at.as_nanos();
        let close = at <= self.time && self.time.saturating_sub(at) < STEP_BACK_NANOS;
        self.time = if close { self.time.saturating_add(1) } else { at };
        Timestamp::from_nanos(self.time)
    }

    /// The row of a change. Its time is that of the decision, so that a series never goes back;
    /// `decide_ms` leads to the instant at which it became true.
    pub(super) fn change_row(&mut self, change: &Change) -> Result<Vec<u8>, EncodeError> {
        let before = self.time;
        *self = Self { time: before, ..Self::of(change) };
        let time = self.next_time(change.decided_at);
        let decide_ms = change.decided_at.as_nanos().saturating_sub(change.at.as_nanos()) / 1_000_000;
        self.row(&change.publisher, &change.host, change.to, change.epoch, Some(decide_ms), time)
    }

    /// The row of a standing verdict: as the change's, without `decide_ms`, which would be counted again.
    pub(super) fn standing_row(&mut self, standing: &Standing) -> Result<Vec<u8>, EncodeError> {
        let time = self.next_time(standing.at);
        self.row(&standing.publisher, &standing.host, standing.verdict, standing.epoch, None, time)
    }

    fn row(
        &self,
        publisher: &PublisherId,
        host: &HostName,
        verdict: Verdict,
        epoch: u64,
        decide_ms: Option<i64>,
        time: Timestamp,
    ) -> Result<Vec<u8>, EncodeError> {
        let mut fields = vec![
            ("level", FieldValue::Integer(verdict.level())),
            ("code", FieldValue::Integer(verdict.code())),
            ("verdict", FieldValue::Text(verdict.as_str().to_owned())),
            ("epoch", FieldValue::Integer(i64::try_from(epoch).unwrap_or(i64::MAX))),
        ];
        if self.epoch == epoch && !self.trigger.is_empty() {
            fields.push(("trigger", FieldValue::Text(self.trigger.to_owned())));
            fields.push(("summary", FieldValue::Text(self.summary.clone())));
        }
        fields.extend(decide_ms.map(|millis| ("decide_ms", FieldValue::Integer(millis))));
        let tags = [("host", host.as_str()), ("publisher", publisher.as_str())];
        let mut row = Vec::new();
        encode(&mut row, MEASUREMENT, tags.into_iter(), fields.iter().map(|(name, value)| (*name, value)), time)?;
        row.push(b'\n');
        Ok(row)
    }
}
