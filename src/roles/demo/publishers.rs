//! The two publishers of the demo, and what they replay.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use crate::config::{FeedSettings, FeedSource, OUTBOX_BYTES_MAX, PublisherSettings, RestartSettings, RunAs};
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::restart::RestartPolicy;
use heartwatch_formats::source_time::TimeColumn;
use heartwatch_formats::source_time::TimeFormat;
use heartwatch_store::outbox::FullPolicy;

/// The series that the two publishers replay; the program carries them, so it runs from anywhere.
pub(super) const FIXTURES: [(&str, &str); 2] = [
    ("light-1", include_str!("../../../fixtures/light-1.csv")),
    ("light-2", include_str!("../../../fixtures/light-2.csv")),
];

/// Time between two readings.
const INTERVAL: Duration = Duration::from_millis(500);

/// Both of them, their series written to this directory.
pub(super) fn publishers(data_dir: &Path) -> anyhow::Result<Vec<PublisherSettings>> {
    let folder = data_dir.join("fixtures");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut publishers = Vec::new();
    for (name, series) in FIXTURES {
        let csv = folder.join(format!("{name}.csv"));
        std::fs::write(&csv, series).with_context(|| format!("cannot write {}", csv.display()))?;
        let feed = FeedSettings {
            source: FeedSource::Csv(csv),
            interval: INTERVAL,
            heartbeat: None,
            run: RunAs::Child,
            looping: true,
            limit: None,
            time_column: TimeColumn::Auto,
            time_format: Some(TimeFormat::MonthFirst),
            measurement: Some("light".to_owned()),
            outbox_bytes_max: OUTBOX_BYTES_MAX,
            // What is killed stays killed.
            restart: RestartSettings { policy: RestartPolicy::Never, ..RestartSettings::default() },
            outbox_full: FullPolicy::default(),
        };
        publishers.push(PublisherSettings {
            id: PublisherId::parse(name)?,
            expected: true,
            deadline: None,
            grace: None,
            feed: Some(feed),
        });
    }
    Ok(publishers)
}
