use std::sync::Arc;
use std::time::Duration;

use super::*;
use heartwatch_domain::intake::IntakeEntry;
use heartwatch_store::journal::{Journal, JournalConfig};

fn args(out: PathBuf) -> ExportArgs {
    ExportArgs {
        out,
        from: None,
        to: None,
        measurement: None,
        influx_url: None,
        influx_db: None,
        data_dir: None,
        long: false,
    }
}

async fn journal_with(directory: &Path, lines: &[String]) -> Journal {
    let config = JournalConfig {
        path: directory.join("journal.sqlite"),
        bytes_max: 1 << 30,
        history: Duration::from_secs(3600),
        has_sink: false,
        queue_entries_max: 100,
    };
    let (journal, _) = Journal::open(config).unwrap();
    for lines in lines.chunks(7_000) {
        let rows = lines.len() as u64;
        let lines = lines.join("\n").into_bytes();
        journal.append(Arc::new(vec![IntakeEntry::Unnumbered { lines, rows }])).await.unwrap();
    }
    journal
}

fn records(out: &Path) -> Vec<csv::StringRecord> {
    csv::Reader::from_path(out).unwrap().records().map(Result::unwrap).collect()
}

#[tokio::test]
async fn the_journal_is_exported_while_its_monitor_runs() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.sqlite");
    let row = |number: u64| match number {
        0 => "heartwatch_heartbeat,publisher=p seq=1i 1".to_owned(),
        number if number % 2 == 0 => format!("light,host=h,publisher=p value={number}i {number}"),
        number => format!("temp,host=h,publisher=q celsius={number}.5 {number}"),
    };
    let journal = journal_with(directory.path(), &(0..20_001).map(row).collect::<Vec<_>>()).await;
    let out = directory.path().join("all.csv");
    let exported = from_journal(&args(out.clone()), &path).unwrap();
    assert_eq!(exported, Exported { rows: 20_000, ..Exported::default() });
    let all = records(&out);
    assert_eq!(all.len(), 20_000);
    assert_eq!(all[0], ["1970-01-01T00:00:00.000000001Z", "temp", "q", "h", "1.5", ""][..]);
    assert_eq!(all[1], ["1970-01-01T00:00:00.000000002Z", "light", "p", "h", "", "2"][..]);

    let time = |nanos| Some(heartwatch_domain::time::Timestamp::from_nanos(nanos));
    let some = ExportArgs { measurement: Some("light".into()), from: time(100), to: time(200), ..args(out.clone()) };
    assert_eq!(from_journal(&some, &path).unwrap().rows, 50);
    assert_eq!(records(&out).iter().map(|row| row[4].to_owned()).collect::<Vec<_>>()[..2], ["100", "102"]);
    let own = ExportArgs { measurement: Some("heartwatch_heartbeat".into()), long: true, ..args(out.clone()) };
    assert_eq!(from_journal(&own, &path).unwrap().rows, 1);
    assert_eq!(records(&out)[0].iter().skip(5).collect::<Vec<_>>(), ["seq", "integer", "1"]);

    journal.close().await;
    assert_eq!(from_journal(&args(out.clone()), &path).unwrap().rows, 20_000, "and when it does not");
    assert!(!directory.path().join("all.csv.part").exists());
}

#[test]
fn what_is_missing_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let journal = directory.path().join("journal.sqlite");
    let error = format!("{:#}", from_journal(&args("x.csv".into()), &journal).unwrap_err());
    assert!(error.contains("journal.sqlite") && error.contains("heartwatch run"), "{error}");
}
