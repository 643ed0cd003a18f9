//! The latest values of each publisher, for the page: a small window in memory, sampled so that a
//! flood of readings costs a look-up and no decoding.

use std::collections::VecDeque;
use std::time::Duration;

use hashbrown::HashMap;

use crate::messages::page::{RecentField, RecentValues};
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::reading::FieldValue;
use heartwatch_domain::time::Monotonic;
use heartwatch_formats::line_protocol::decode;

/// Publishers whose values are kept.
const PUBLISHERS_MAX: usize = 20_000;
/// Points of a line.
const POINTS_MAX: usize = 60;
/// Fields of a reading that are kept.
const FIELDS_MAX: usize = 6;
/// Characters of a text that are kept.
const TEXT_CHARS_MAX: usize = 40;
/// Readings that come sooner after the last one that was kept are passed over.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);

/// The windows of all publishers.
#[derive(Debug, Default)]
pub(super) struct Recent {
    windows: HashMap<PublisherId, Window>,
    left_out: u64,
}

#[derive(Debug, Default)]
struct Window {
    sampled_at: Option<Monotonic>,
    fields: Vec<(String, FieldValue)>,
    line: VecDeque<(i64, f64)>,
}

impl Recent {
    /// Notes a reading, encoded as a row.
    pub(super) fn note(&mut self, publisher: &PublisherId, row: &[u8], at: Monotonic) {
        if self.windows.len() >= PUBLISHERS_MAX && !self.windows.contains_key(publisher) {
            self.left_out += 1;
            if self.left_out.is_power_of_two() {
                let count = self.left_out;
                tracing::warn!(%publisher, PUBLISHERS_MAX, count, "too many publishers: the page shows no values of it");
            }
            return;
        }
        let window = self.windows.entry(publisher.clone()).or_default();
        if window.sampled_at.is_some_and(|sampled| at.since(sampled) < SAMPLE_EVERY) {
            return;
        }
        let Ok(row) = decode(row) else { return };
        window.sampled_at = Some(at);
        let number = row.fields.iter().find_map(|(_, value)| match value {
            FieldValue::Float(value) => Some(*value),
            FieldValue::Integer(value) => Some(*value as f64),
            FieldValue::Boolean(_) | FieldValue::Text(_) => None,
        });
        if let (Some(number), Some(time)) = (number, row.time) {
            if window.line.len() >= POINTS_MAX {
                window.line.pop_front();
            }
            window.line.push_back((time.as_nanos().div_euclid(1_000_000), number));
        }
        window.fields = row.fields;
        window.fields.truncate(FIELDS_MAX);
    }

    /// The latest values of a publisher; none when none have come.
    pub(super) fn of(&self, publisher: &PublisherId) -> Option<RecentValues> {
        let window = self.windows.get(publisher)?;
        let fields = window.fields.iter().map(|(name, value)| RecentField {
            name: name.clone(),
            value: match value {
                FieldValue::Float(value) => (*value).into(),
                FieldValue::Integer(value) => (*value).into(),
                FieldValue::Boolean(value) => (*value).into(),
                FieldValue::Text(text) => text.chars().take(TEXT_CHARS_MAX).collect::<String>().into(),
            },
        });
        let line = window.line.iter().copied().collect();
        Some(RecentValues { publisher: publisher.clone(), fields: fields.collect(), line })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_sampled_and_the_window_is_bounded() {
        let id = PublisherId::parse("a").unwrap();
        let mut recent = Recent::default();
        assert_eq!(recent.of(&id), None);
        for millis in 0..30_000_u64 {
            let at = Monotonic::from_nanos(millis * 1_000_000);
            recent.note(&id, format!("m,publisher=a s=\"x\",lux={millis}i {}", millis * 1_000_000).as_bytes(), at);
        }
        let values = recent.of(&id).unwrap();
        assert_eq!(values.line.len(), POINTS_MAX);
        assert_eq!(values.line.last(), Some(&(29_750, 29_750.0)));
        let names: Vec<_> = values.fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["s", "lux"]);
        assert_eq!(values.fields[1].value, 29_750);
    }
}
