//! The two publishers of the demo, and what they replay.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use crate::actors::publisher::Feed;
use crate::config::{Managed, PublisherEntry};
use crate::sources::SourceConfig;
use crate::sources::csv::CsvConfig;
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::restart::RestartPolicy;
use heartwatch_formats::source_time::TimeFormat;

/// The series that the two publishers replay; the program carries them, so it runs from anywhere.
pub(super) const FIXTURES: [(&str, &str); 2] = [
    ("light-1", include_str!("../../../fixtures/light-1.csv")),
    ("light-2", include_str!("../../../fixtures/light-2.csv")),
];

/// Time between two readings.
const INTERVAL: Duration = Duration::from_millis(500);

/// Both of them, their series written to this directory.
pub(super) fn publishers(data_dir: &Path) -> anyhow::Result<Vec<PublisherEntry>> {
    let folder = data_dir.join("fixtures");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut publishers = Vec::new();
    for (name, series) in FIXTURES {
        let csv = folder.join(format!("{name}.csv"));
        std::fs::write(&csv, series).with_context(|| format!("cannot write {}", csv.display()))?;
        let csv = CsvConfig { time_format: Some(TimeFormat::MonthFirst), ..CsvConfig::new(csv) };
        let feed =
            Feed { interval: INTERVAL, measurement: Some("light".to_owned()), ..Feed::new(SourceConfig::Csv(csv)) };
        publishers.push(PublisherEntry {
            id: PublisherId::parse(name)?,
            expected: true,
            deadline: None,
            grace: None,
            // What is killed stays killed.
            managed: Some(Managed { restart: RestartPolicy::Never, ..Managed::new(feed) }),
        });
    }
    Ok(publishers)
}
